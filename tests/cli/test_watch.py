"""What `--watch` looks at and when it speaks, on a fake file tree (real: tests/process)."""

import importlib.util
from pathlib import Path

import pytest

from haihe.cli import main
from haihe.cli.watch import Changes, Stamp, reason, source


class Tree(dict[str, Stamp]):
    """A file tree: stamps by path."""

    def look(self, path: str) -> Stamp:
        return self.get(path)


def watching(quiet: int = 2, **files: Stamp) -> tuple[Tree, Changes]:
    tree = Tree(files)
    changes = Changes(tree.look, quiet)
    for path, at in files.items():
        changes.add(path, at)
    return tree, changes


def test_nothing_has_changed() -> None:
    _, changes = watching(app=(1, 10), unit=None)
    assert [changes.poll() for _ in range(4)] == [[], [], [], []]


@pytest.mark.parametrize("now", [(2, 10), (1, 11), None])
def test_a_change_of_time_or_size_or_a_loss_is_told_once_it_is_quiet(now: Stamp) -> None:
    tree, changes = watching(app=(1, 10), helper=(1, 5))
    tree["app"] = now
    assert [changes.poll() for _ in range(3)] == [[], [], ["app"]]


def test_a_file_that_is_still_written_and_its_neighbour_are_one_change() -> None:
    tree, changes = watching(app=(1, 10), helper=(1, 5))
    said = []
    for size in (0, 4, 12):
        tree["app"] = (2, size)
        said.append(changes.poll())
    tree["helper"] = (3, 6)
    said += [changes.poll(), changes.poll(), changes.poll()]
    assert said == [[], [], [], [], [], ["app", "helper"]]


def test_a_change_that_is_taken_back_is_none() -> None:
    tree, changes = watching(app=(1, 10))
    tree["app"] = (2, 10)
    assert changes.poll() == []
    tree["app"] = (1, 10)
    assert [changes.poll() for _ in range(4)] == [[], [], [], []]


def test_an_awaited_file_appears() -> None:
    tree, changes = watching(unit=None, quiet=1)
    tree["unit"] = (5, 5)
    assert [changes.poll() for _ in range(2)] == [[], ["unit"]]


def test_a_file_that_changed_after_it_was_read_and_before_it_was_told() -> None:
    tree, changes = watching(quiet=1)
    tree["app"] = (2, 10)
    changes.add("app", (1, 10))
    assert [changes.poll() for _ in range(2)] == [[], ["app"]]


def test_after_settling_the_present_is_what_counts() -> None:
    tree, changes = watching(quiet=1, app=(1, 10))
    tree["app"] = (2, 10)
    assert [changes.poll() for _ in range(2)] == [[], ["app"]]
    changes.settle()
    assert [changes.poll() for _ in range(3)] == [[], [], []]
    tree["app"] = (3, 10)
    assert [changes.poll() for _ in range(2)] == [[], ["app"]]


def test_the_reason_of_a_run(tmp_path: Path) -> None:
    (tmp_path / "app.py").touch()
    (tmp_path / "unit.yaml").touch()
    paths = [str(tmp_path / name) for name in ("unit.yaml", "app.py", "gone.py")]
    assert reason(paths[1:2], 3) == "app.py changed: run 3"
    assert reason(paths, 2) == "app.py changed, gone.py is gone, unit.yaml changed: run 2"


def test_which_files_are_looked_at(tmp_path: Path) -> None:
    user = tmp_path / "robot"
    inside = user / "parts" / "arm.py"
    folder = str(user)
    assert source(str(inside), folder) == str(inside)
    assert source(importlib.util.cache_from_source(str(inside)), folder) == str(inside)
    assert source(f"{user}/model.onnx", folder) == f"{user}/model.onnx"
    assert source(f"{tmp_path}/units/pan-tilt.yaml", folder) == f"{tmp_path}/units/pan-tilt.yaml"
    for other in (
        f"{tmp_path}/other/arm.py", f"{user}/run.mcap", f"{user}/.venv/lib/x.py",
        f"{user}/env/site-packages/x.py", f"{user}/odd.pyc",
    ):  # fmt: skip
        assert source(other, folder) == ""


def test_without_a_simulation_it_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "robot.follow", "--watch"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == (
        "PlanError: --watch starts the graph again by itself, which must not move real devices: "
        "it is for simulation only. Add --sim, or leave --watch out.\n"
    )
