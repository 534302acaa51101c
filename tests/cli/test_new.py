"""`haihe new`: a project that passes its own tests, and never over something that is there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from haihe.cli import main


def test_a_new_project_passes_its_own_tests(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "my robot"
    assert main(["new", str(folder)]) == 0
    assert f"cd {folder}" in capsys.readouterr().out
    files = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    assert files == {"app.py", "unit.yaml", "README.md", "pyproject.toml", "tests/test_app.py"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider"],
        cwd=folder, capture_output=True, text=True, timeout=200, check=False,
        env=os.environ | {"HAIHE_UNIT": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
    for tool in (["ruff", "check"], ["ruff", "format", "--check"], ["mypy", "--strict", "app.py"]):
        checked = subprocess.run(
            [sys.executable, "-m", *tool], cwd=folder, capture_output=True, text=True, timeout=200,
            check=False,
        )  # fmt: skip
        assert checked.returncode == 0, checked.stdout + checked.stderr


def test_a_folder_with_something_in_it_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    assert main(["new", str(tmp_path)]) == 1
    assert capsys.readouterr().err == (f"HaiheError: {tmp_path} is not empty. Name a new folder.\n")
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_a_file_of_that_name_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "robot"
    path.write_text("mine")
    assert main(["new", str(path)]) == 1
    assert capsys.readouterr().err == f"HaiheError: {path} is a file. Name a new folder.\n"
    assert path.read_text() == "mine"


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    assert main(["new", str(tmp_path)]) == 0
    assert (tmp_path / "app.py").is_file()
