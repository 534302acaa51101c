"""`haihe new DIR`: a user's project that passes its own tests."""

import argparse
from typing import Any


def add(verbs: Any) -> None:
    """Add the verb to the parser."""
    new = verbs.add_parser("new", help="start a project: graph, node, unit, tests with replay")
    new.add_argument("folder")
    new.set_defaults(run=_new)


def _new(arguments: argparse.Namespace) -> int:
    import importlib.resources
    from pathlib import Path

    from haihe.runtime.errors import HaiheError

    folder = Path(arguments.folder)
    if folder.is_file():
        raise HaiheError(f"{folder} is a file. Name a new folder.")
    if folder.exists() and any(folder.iterdir()):
        raise HaiheError(f"{folder} is not empty. Name a new folder.")
    template = importlib.resources.files("haihe") / "scaffold"
    unit = importlib.resources.files("haihe.boards.units") / "pan-tilt.yaml"
    texts = {
        "app.py": template / "app.py.txt",
        "tests/test_app.py": template / "test_app.py.txt",
        "README.md": template / "README.md.txt",
        "pyproject.toml": template / "pyproject.toml.txt",
        "unit.yaml": unit,
    }
    for name, source in texts.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(source.read_text(encoding="utf-8"), encoding="utf-8")
    print(f"{folder}: app.py (graph and node), unit.yaml (devices), tests/. Now:")
    print(f"  cd {folder}")
    print("  python app.py          # simulated, in real time")
    print("  python -m pytest       # in virtual time, with replay")
    return 0
