"""The README is true: its Python is typed and runs, its unit profile binds, its links exist."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from haihe.boards.unit import unit_from_text

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page: Path, language: str) -> list[str]:
    return [text for kind, text in BLOCK.findall(page.read_text("utf-8")) if kind == language]


def python_blocks() -> list[str]:
    return [text for page in PAGES for text in blocks(page, "python")]


def test_the_example_is_short() -> None:
    example = blocks(ROOT / "README.md", "python")[0]
    lines = [line for line in example.splitlines() if line.strip()]
    assert lines[-1].startswith("g.run(")
    assert len(lines) <= 12


def test_python_blocks_are_typed_and_import(tmp_path: Path) -> None:
    files = []
    for number, text in enumerate(python_blocks()):
        file = tmp_path / f"block_{number}.py"
        file.write_text(text, "utf-8")
        files.append(str(file))
        done = subprocess.run(
            [sys.executable, "-c", f"import block_{number}"],
            cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", *files],
        cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stdout


def test_unit_blocks_are_unit_profiles() -> None:
    texts = [text for page in PAGES for text in blocks(page, "yaml") if text.startswith("unit:")]
    assert texts
    for text in texts:
        unit = unit_from_text(text, "README.md")
        assert unit.unit.devices["neck"].guard is not None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text("utf-8")
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_named_in_code_exist(page: Path) -> None:
    pattern = r"`((?:runtime|drivers|models|boards|pipelines|bench|src|tests)/[\w./-]+)`"
    for target in re.findall(pattern, page.read_text("utf-8")):
        if not any(word in target for word in ("NAME", "FAMILY", "FIELD", "BOARD")):
            assert (ROOT / target).exists(), f"{page.name}: {target}"
