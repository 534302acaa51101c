"""Names to things: drivers, worlds, pipelines, models, units; found by path, loaded on first use.

`servo.sts` of kind `driver` is `haihe/drivers/servo/sts.py`, attribute `SPEC`. Packages of others
add theirs through entry points in the groups below; nothing is listed by hand.
"""

import difflib
import importlib
import importlib.util
import pkgutil
from typing import Any

from haihe.runtime.errors import HaiheError, PlanError

# kind: (package, attribute, entry point group)
KINDS = {
    "driver": ("haihe.drivers", "SPEC", "haihe.drivers"),
    "world": ("haihe.pipelines.worlds", "SPEC", "haihe.worlds"),
    "pipeline": ("haihe.pipelines", "build", "haihe.pipelines"),
    "backend": ("haihe.models.backends", "SPEC", "haihe.backends"),
}


def load(kind: str, name: str, error: type[HaiheError] = PlanError) -> Any:
    """The thing of that kind and name. Raises `error` with the nearest names."""
    package, attribute, group = KINDS[kind]
    module_name = f"{package}.{name}"
    if all(part.isidentifier() for part in name.split(".")) and _exists(module_name):
        found = getattr(importlib.import_module(module_name), attribute, None)
        if found is not None:
            return found
    for entry in _entry_points(group):
        if entry.name == name:
            return entry.load()
    known = names(kind)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(known) or 'none'}."
    raise error(f"{kind} {name!r} is not known. {hint}")


def _exists(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _entry_points(group: str) -> Any:
    from importlib.metadata import entry_points

    return entry_points(group=group)


def names(kind: str) -> list[str]:
    """All names of a kind, without importing more than the packages."""
    package, attribute, group = KINDS[kind]
    found = [entry.name for entry in _entry_points(group)]
    root = importlib.import_module(package)
    for info in pkgutil.walk_packages(root.__path__, package + "."):
        if info.ispkg:
            continue
        spec = importlib.util.find_spec(info.name)
        source = spec.loader.get_source(info.name) if spec and spec.loader else ""  # type: ignore[attr-defined]
        if source and (f"\n{attribute} = " in source or f"\ndef {attribute}(" in source):
            found.append(info.name.removeprefix(package + "."))
    return sorted(found)
