"""Names to things: drivers, worlds, pipelines, backends, decoders, units, boards, models.

Found by path, loaded on first use: the driver `servo.sts` is `haihe/drivers/servo/sts.py`. A module
declares what it is by an attribute (`SPEC` of a driver). Packages of others add theirs through
entry points: a module for code (`haihe.drivers`: `acme.arm = "acme_haihe.arm"`), a package that
holds YAML files for data (`haihe.units`: `acme = "acme_haihe.units"`). Nothing is listed by hand.
"""

import difflib
import importlib
import importlib.resources
import importlib.util
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from haihe.runtime.errors import HaiheError, PlanError

# kind of code: (package, what a module of it must have, entry point group)
KINDS = {
    "driver": ("haihe.drivers", "SPEC", "haihe.drivers"),
    "world": ("haihe.pipelines.worlds", "SPEC", "haihe.worlds"),
    "pipeline": ("haihe.pipelines", "build", "haihe.pipelines"),
    "node": ("haihe.pipelines.nodes", "NODE", "haihe.nodes"),
    "backend": ("haihe.models.backends", "open_session", "haihe.backends"),
    "decoder": ("haihe.models.post", "decode", "haihe.decoders"),
}
# kind of data: (package, entry point group)
DATA = {
    "unit": ("haihe.boards.units", "haihe.units"),
    "model": ("haihe.models.zoo", "haihe.models"),
    "board": ("haihe.boards.compute", "haihe.boards"),
}


def load(kind: str, name: str, error: type[HaiheError] = PlanError) -> Any:
    """The module of that kind and name. Raises `error` with the nearest names."""
    package, attribute, group = KINDS[kind]
    path = f"{package}.{name}"
    if all(part.isidentifier() for part in name.split(".")) and _exists(path):
        module = importlib.import_module(path)
        if hasattr(module, attribute):
            return module
    for entry in _entry_points(group):
        if entry.name == name:
            return entry.load()
    raise error(f"{kind} {name!r} is not known. {_nearest(name, names(kind))}")


def find_data(kind: str, name: str, error: type[HaiheError] = PlanError) -> Path:
    """The YAML file of that kind and name. Raises `error` with the nearest names."""
    known = data_names(kind)
    if name in known:
        return known[name]
    raise error(f"{kind} {name!r} is not known. {_nearest(name, sorted(known))}")


def data_names(kind: str) -> dict[str, Path]:
    """Every YAML file of a kind of data by its name."""
    package, group = DATA[kind]
    packages = [package, *(entry.value for entry in _entry_points(group))]
    folders = [Path(str(importlib.resources.files(name))) for name in packages]
    return {path.stem: path for folder in reversed(folders) for path in folder.glob("*.yaml")}


def names(kind: str) -> list[str]:
    """All names of a kind of code; modules are looked at, not imported."""
    package, attribute, group = KINDS[kind]
    found = [entry.name for entry in _entry_points(group)]
    root = importlib.import_module(package)
    for info in pkgutil.walk_packages(root.__path__, package + "."):
        if not info.ispkg and _declares(info.name, attribute):
            found.append(info.name.removeprefix(package + "."))
    return sorted(found)


def _nearest(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(known) or 'none'}."


def _exists(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _declares(module: str, attribute: str) -> bool:
    spec = importlib.util.find_spec(module)
    source = Path(spec.origin) if spec is not None and spec.origin else None
    if source is None or source.suffix != ".py":
        return False
    text = source.read_text(encoding="utf-8")
    return any(f"\n{start}" in text for start in (f"{attribute} = ", f"def {attribute}("))


def _entry_points(group: str) -> Iterator[Any]:
    from importlib.metadata import entry_points

    yield from entry_points(group=group)
