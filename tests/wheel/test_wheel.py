"""From the wheel, in an empty environment: what the README says works."""

import os
import re
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")


def run(*command: str, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        command, cwd=cwd, env=os.environ | environment, capture_output=True, text=True,
        timeout=900, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A source archive, and the wheel built from it."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--outdir", str(folder), str(ROOT), cwd=folder)
    return folder


@pytest.fixture(scope="module")
def python(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An empty environment with the wheel in it."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, with_pip=True)
    python = str(folder / "bin" / "python")
    wheel = next(dist.glob("*.whl"))
    run(python, "-m", "pip", "install", "-q", str(wheel), "pytest", cwd=dist)
    return python


@pytest.mark.wheel
def test_the_wheel_holds_code_and_data(dist: Path) -> None:
    names = zipfile.ZipFile(next(dist.glob("*.whl"))).namelist()
    for wanted in (
        "haihe/runtime/graph.py",
        "haihe/boards/units/pan-tilt.yaml",
        "haihe/models/zoo/part.onnx",
        "haihe/models/zoo/part.yaml",
        "haihe/scaffold/app.py.txt",
        "haihe/py.typed",
    ):
        assert wanted in names
    assert not [name for name in names if name.startswith(("tests/", "runtime/", "models/"))]


@pytest.mark.wheel
def test_the_shell_lines_of_the_readme_run(python: str, tmp_path: Path) -> None:
    """Every `sh` block, line by line, in one folder; setting up is what the fixture did."""
    example = re.search(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    assert example is not None
    (tmp_path / "app.py").write_text(example[1], "utf-8")
    path = f"{Path(python).parent}:{os.environ['PATH']}"
    ran = []
    for block in re.findall(r"^```sh\n(.*?)^```", README, re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            command = line.split("#")[0].strip()
            if not command or "venv" in command or command.startswith("pip install"):
                continue
            run("bash", "-c", command, cwd=tmp_path, PATH=path, HOME=str(tmp_path / "home"))
            ran.append(command)
    assert len(ran) >= 5
    assert list((tmp_path / "demo").glob("*.html"))
    assert (tmp_path / "run.html").is_file()
    # offline and without telemetry: nothing was left in the home folder
    assert not (tmp_path / "home").exists() or not list((tmp_path / "home").rglob("*"))


@pytest.mark.wheel
def test_a_new_project_passes_its_own_tests(python: str, tmp_path: Path) -> None:
    run(python, "-m", "haihe", "new", "robot", cwd=tmp_path)
    run(python, "-m", "pytest", "-q", cwd=tmp_path / "robot")
