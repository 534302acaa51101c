"""`haihe run` when it cannot: exit code 1 and one line that says why."""

import sys
from pathlib import Path

import pytest

from haihe.boards.unit import find_unit
from haihe.cli import main
from haihe.pipelines.load import load_graph

APP = """\
from haihe import Graph, camera, servos
from haihe.pipelines.nodes.pursue import Pursue
from haihe.pipelines.worlds.ideal import ideal_detector
with Graph("follow") as g:
    front, neck = camera("front"), servos("neck")
    neck.command(Pursue()(ideal_detector(front.image), neck.state))
g.run(unit="no such unit, and it does not run when it is imported")
"""


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line of a run that failed."""
    assert main(["run", *arguments]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1, captured.err
    return captured.err.rstrip("\n")


FOLLOW = load_graph("robot.follow").nodes["Pursue"].line


def test_what_cannot_be_found_or_read(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert refusal(capsys, "nothing.py") == "PlanError: nothing.py: no such file."
    assert refusal(capsys, "robot.folow") == (
        "PlanError: pipeline 'robot.folow' is not known. Did you mean 'robot.follow'?"
    )
    assert refusal(capsys, "robot.follow", "-p", "label") == (
        "PlanError: -p label: write NAME=VALUE."
    )
    assert refusal(capsys, "robot.follow", "-p", "lable=nut") == (
        "PlanError: pipeline robot.follow: it has no parameter 'lable'. Did you mean 'label'? "
        "It has: model='part', label='washer', predict=True, lag_s=0.03, threshold=0.2."
    )
    assert refusal(capsys, "nothing.yaml") == "PlanError: nothing.yaml: no such file."
    assert refusal(capsys, "robot.follow", "-p", "Pursue.bta=1") == (
        f"PlanError: -p Pursue.bta: node Pursue ({FOLLOW}) has no constant 'bta'. Did you mean "
        "'beta'?"
    )
    assert refusal(capsys, "robot.follow", "--unit", "pan-tlit") == (
        "BoardError: unit 'pan-tlit' is not known. Did you mean 'pan-tilt'?"
    )
    path = tmp_path / "none.yaml"
    assert refusal(capsys, "robot.follow", "--unit", str(path)) == (
        f"BoardError: {path}: cannot be read: No such file or directory. Check the path."
    )


def test_a_duration_that_is_none(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = refusal(capsys, "robot.follow", "--unit", "pan-tilt", "--duration", "soon", "--record")
    assert said == "ContractError: 'soon' is not a quantity. Write a number and a unit, as in '5s'."
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", ["x: [", "'"])
def test_a_parameter_that_is_no_yaml(capsys: pytest.CaptureFixture[str], value: str) -> None:
    said = refusal(capsys, "robot.follow", "-p", f"label={value}")
    assert said == f"PlanError: -p label={value}: the value is not YAML. Quote it."


def test_a_port_that_is_not_there(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An app of a user, up to its first device; nothing of it runs at the import."""
    (tmp_path / "run_of_test.py").write_text(APP)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr("haihe.pipelines.launch.log.disabled", True)
    text = find_unit("pan-tilt", None).read_text("utf-8")
    (tmp_path / "unit.yaml").write_text(text.replace("/dev/ttyUSB0", "/dev/ttyNONE"))
    monkeypatch.delenv("HAIHE_UNIT", raising=False)
    assert refusal(capsys, "run_of_test.py", "--duration", "1s") == (
        "LinkError: /dev/ttyNONE: cannot be opened: [Errno 2] No such file or directory: "
        "'/dev/ttyNONE'. Check the plug and the name: ls -l /dev/serial/by-id"
    )
    sys.modules.pop("run_of_test", None)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ("--keep", "60s", "--report", "a.html"),
            "RecordError: --report: it tells of a whole run, and --keep records a part of it. "
            "Leave one out.",
        ),
        (
            ("--keep", "soon"),
            "ContractError: 'soon' is not a quantity. Write a number and a unit, as in '5s'.",
        ),
        (
            ("--record", "a.mcap", "--quota", "much"),
            "ContractError: quota 'much' is not a size. Write a number and a unit, as in 2GB.",
        ),
        (
            ("--sim", "--metrics", "0.0.0.0:9464"),
            "ContractError: metrics '0.0.0.0:9464': 0.0.0.0 is not an address of the loopback "
            "device. Whoever reaches that port could read: use 127.0.0.1:9464, and from another "
            "machine ssh -L 9464:127.0.0.1:9464.",
        ),
        (
            ("--log", "nowhere/a.jsonl"),
            "RecordError: log @/nowhere/a.jsonl: it cannot be opened: No such file or directory. "
            "Choose another file.",
        ),
    ],
)
def test_options_of_recording_and_telemetry(
    arguments: tuple[str, ...],
    said: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    given = ["robot.follow", "--unit", "pan-tilt", "--duration", "1s", *arguments]
    assert refusal(capsys, *given) == said.replace("@", str(tmp_path))
    assert list(tmp_path.iterdir()) == []
