"""The house as it stands: links, layers, sizes, docstrings, the version."""

import ast
import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest

import haihe

ROOT = Path(__file__).parents[1]
LINKS = ("bench", "boards", "drivers", "firmware_bridge", "models", "pipelines", "runtime")
LONGEST = 500


def sources() -> list[Path]:
    folders = [ROOT / "src" / "haihe", *(ROOT / name for name in LINKS)]
    files = [path for folder in folders for path in folder.rglob("*.py")]
    return sorted(
        path for path in files if not any(part in LINKS for part in path.parts[-4:-1])
        or path.relative_to(ROOT).parts[0] != "src"
    )  # fmt: skip


@pytest.mark.parametrize("name", LINKS)
def test_each_folder_is_linked_under_its_name_by_a_relative_link(name: str) -> None:
    link = ROOT / "src" / "haihe" / name
    assert link.is_symlink()
    assert link.readlink() == Path("..") / ".." / name
    assert link.resolve() == ROOT / name
    assert (ROOT / name / "__init__.py").is_file()


def test_there_are_seven_links_and_no_other() -> None:
    links = [path.name for path in (ROOT / "src" / "haihe").iterdir() if path.is_symlink()]
    assert sorted(links) == sorted(LINKS)


def test_the_package_has_one_place() -> None:
    assert [str(Path(path).resolve()) for path in haihe.__path__] == [str(ROOT / "src" / "haihe")]


def test_the_version_is_that_of_the_installed_distribution() -> None:
    assert importlib.metadata.version("haihe") == haihe.__version__
    assert f"## {haihe.__version__}" in (ROOT / "CHANGELOG.md").read_text("utf-8")


def test_public_names_load_and_are_listed() -> None:
    for name in haihe.__all__:
        assert getattr(haihe, name) is not None
        assert name in dir(haihe)
    with pytest.raises(AttributeError, match=r"^module 'haihe' has no attribute 'grap'$"):
        haihe.grap  # noqa: B018


def test_every_module_says_what_it_is() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for path in sources()
        if not ast.get_docstring(ast.parse(path.read_text("utf-8")))
    ]
    assert silent == []


def test_no_file_is_longer_than_it_should_be() -> None:
    every = [*sources(), *sorted((ROOT / "tests").rglob("*.py"))]
    lengths = {path: len(path.read_text("utf-8").splitlines()) for path in every}
    long = [f"{p.relative_to(ROOT)}: {n} lines" for p, n in lengths.items() if n > LONGEST]
    assert long == [], f"longer than {LONGEST} lines: split them, or move tables to YAML"


def test_drivers_have_emulators_beside_them_and_each_link_has_a_source() -> None:
    from haihe.runtime import registry

    for name in registry.names("driver"):
        spec = registry.load("driver", name).SPEC
        if spec.link == "serial":
            module, _, attribute = spec.emulator.partition(":")
            assert hasattr(importlib.import_module(module), attribute), name


def test_a_lower_floor_never_imports_an_upper_one() -> None:
    done = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache"],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def test_the_layers_name_every_part_of_the_package() -> None:
    import tomllib

    rules = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]
    layers = next(c for c in rules["contracts"] if c["type"] == "layers")["layers"]
    named = {name.strip() for layer in layers for name in layer.split("|")}
    assert {f"haihe.{name}" for name in LINKS} <= named
