"""Graphs that are wrong in the ways in which people get them wrong, as files, through `haihe`.

Each is told once, with its line and its cure; the whole text is asserted. `#!` in an application
marks the line that must be named.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from haihe.boards.measured import Cost, Costs, Machine, costs_path
from haihe.boards.unit import find_unit
from haihe.cli import main
from haihe.models.manifest import find_manifest
from haihe.pipelines.check.report import Report

HEAD = """\
from typing import Annotated
from haihe import Graph, camera, detector, fresh, node, servos, unit
from haihe.types import Detections, Image, JointCommand, JointState, Reading
from haihe.pipelines.nodes.pursue import Pursue

@node(budget="2ms")
def look(image: Image) -> Detections: ...

@node(every="20ms", deadline="5ms", budget="1ms")
def aim(
    parts: Annotated[Detections, fresh("150ms")], neck: Annotated[JointState, fresh("45ms")]
) -> JointCommand: ...

"""
GOOD = """\
with Graph("app") as g:
    front, neck = camera("front"), servos("neck")
    neck.command(aim(look(front.image), neck.state))
"""
SHIPPED = find_unit("pan-tilt", None).read_text("utf-8")
GUARD = SHIPPED[SHIPPED.index("    guard:") : SHIPPED.index("sim:")]


class Project:
    """A folder with an application and its unit profile, as a person has it."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.capsys = folder, capsys
        self.app = ""
        self.unit = SHIPPED

    def write(self, body: str, head: str = HEAD) -> None:
        """The application; `#!` marks a line."""
        self.app = head + body

    def edit(self, old: str, new: str) -> None:
        """A change in the unit profile."""
        assert old in self.unit
        self.unit = self.unit.replace(old, new)

    def measured(self, milliseconds: float) -> None:
        """The costs of the detector on the board, as `haihe bench` leaves them: it holds the
        interpreter for a fiftieth of its time."""
        ns = milliseconds * 1e6
        cost = Cost(
            find_manifest("part").sha256, ns, None, ns, 4000, ns, 1, [0], False,
            "CPUExecutionProvider", 2_400_000, 0, 1.7e9, 0.02,
        )  # fmt: skip
        path = costs_path("rpi5")
        path.parent.mkdir(parents=True)
        path.write_bytes(msgspec.json.encode(Costs("rpi5", Machine("rpi5"), {"part": [cost]})))

    @property
    def line(self) -> str:
        """`file:line` of the marked line."""
        lines = self.app.splitlines()
        return f"{self.file}:{next(i for i, row in enumerate(lines, 1) if '#!' in row)}"

    @property
    def file(self) -> Path:
        """The application's file: a module is loaded once, so each project has its own name."""
        return self.folder / f"app_of_{self.folder.name}.py"

    def check(self, *options: str) -> tuple[int, str, str]:
        """What `haihe check` gives: exit code, output, errors."""
        self.file.write_text(self.app)
        (self.folder / "unit.yaml").write_text(self.unit)
        code = main(["check", str(self.file), "--board", "rpi5", *options])
        said = self.capsys.readouterr()
        return code, said.out, said.err

    def refused(self) -> str:
        """The one error."""
        code, out, err = self.check()
        assert (code, out) == (1, "")
        assert err.count("\n") == 1
        return err.rstrip("\n")

    def report(self, *options: str) -> Report:
        """What is found of a graph that can be planned; its exit code is looked at."""
        code, out, err = self.check("--json", *options)
        assert err == ""
        found = Report.from_json(out.encode())
        assert code == found.exit_code
        return found

    def found(self, *options: str) -> list[str]:
        """Its findings that are no notes."""
        findings = self.report(*options).findings
        return [str(finding) for finding in findings if finding.severity != "note"]


def failing(report: Report) -> list[str]:
    """The contracts that do not hold: where they stand, and why."""
    promises = [*report.promises, *(p for chain in report.chains for p in chain.promises)]
    return [f"{p.line}: {p.kind} of {p.subject}: {p.verdict}" for p in promises
            if not p.verdict.is_well]  # fmt: skip


def cures(report: Report) -> list[str]:
    """What was analysed again and helps."""
    return [f"{cure.change}: {cure.effect}" for cure in report.cures if cure.helps]


@pytest.fixture
def project(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Project]:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delenv("HAIHE_UNIT", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    made = Project(tmp_path, capsys)
    yield made
    sys.modules.pop(made.file.stem, None)


def test_the_graph_that_is_not_wrong(project: Project) -> None:
    """All the others are this one with one thing wrong."""
    project.write(GOOD)
    report = project.report()
    assert project.found() == []
    assert report.exit_code == 0
    assert failing(report) == []
    assert str(report.verdict) == "expected (not pinned, no SCHED_FIFO)"


# --- wiring -----------------------------------------------------------------------------------


def test_oxygen_where_a_temperature_belongs(project: Project) -> None:
    project.write("""
@node
def oxygen(image: Image) -> Annotated[Reading, unit("mg/L")]: ...

@node
def heat(water: Annotated[Reading, unit("degC")]) -> Reading: ...

with Graph("pond") as g:
    heat(oxygen(camera("front").image))  #!
""")
    assert project.refused() == (
        f"WiringError: {project.line}: edge oxygen -> heat.water: oxygen is in mg/L, water wants "
        "degC: another dimension. Ports speak SI: convert in the node that makes it."
    )


def test_a_picture_where_detections_belong(project: Project) -> None:
    project.write("""
with Graph("app") as g:
    front, neck = camera("front"), servos("neck")
    neck.command(aim(front.image, neck.state))  #!
""")
    assert project.refused() == (
        f"WiringError: {project.line}: edge front.image -> aim.parts: front.image gives Image, "
        "parts wants Detections. Put a node between that converts."
    )


def test_two_inputs_and_no_trigger(project: Project) -> None:
    project.write("""
@node
def join(parts: Detections, neck: JointState) -> JointCommand: ...

with Graph("app") as g:
    front, neck = camera("front"), servos("neck")
    neck.command(join(look(front.image), neck.state))  #!
""")
    assert project.refused() == (
        f"PlanError: {project.line}: node join: what triggers it? Inputs without fresh(): 2 "
        '(parts, neck); exactly one would be the trigger. Say @node(every="20ms") or '
        '@node(on="input").'
    )


def test_two_writers_of_one_actuator(project: Project) -> None:
    project.write("""
with Graph("app") as g:
    front, neck = camera("front"), servos("neck")
    parts = look(front.image)
    neck.command(aim(parts, neck.state))
    neck.command(aim(parts, neck.state))  #!
""")
    number = int(project.line.rpartition(":")[2])
    assert project.refused() == (
        f"WiringError: {project.line}: neck.command has a writer already (aim, "
        f"{project.file}:{number - 1}). One actuator obeys one node."
    )


def test_an_input_that_grows_old_in_silence(project: Project) -> None:
    project.write("""
@node(every="20ms", budget="1ms")
def blind(parts: Detections, neck: Annotated[JointState, fresh("45ms")]) -> JointCommand: ...

with Graph("app") as g:
    front, neck = camera("front"), servos("neck")
    neck.command(blind(look(front.image), neck.state))  #!
""")
    assert project.found() == [
        f"warns  {project.line}: blind.parts samples look without fresh(): if look dies, nothing "
        "notices and its last Detections is used for ever. Annotate the input: parts: "
        'Annotated[Detections, fresh("...")].'
    ]


CHAIN = """
@node(on="parts", budget="1ms")
def seen(parts: Detections, neck: Annotated[JointState, fresh("45ms")]) -> JointCommand: ...

with Graph("app") as g:
    front = camera("front")
    neck = servos("neck")  #?
    neck.command(seen(look(front.image), neck.state))  #!
"""


def test_a_camera_in_a_control_chain(project: Project) -> None:
    project.write(CHAIN)
    assert project.found() == [
        f"warns  {project.line}: neck gets a new command only when front.image comes: between two "
        "of them, and when they stop, its lane (every 20 ms) repeats the last command until the "
        "guard finds it too old after 250 ms. Let a periodic node command neck, and let it sample "
        'seen\'s lane: @node(every="20ms") with fresh("...").'
    ]


def test_a_camera_in_a_control_chain_of_a_bus_without_a_cycle(project: Project) -> None:
    project.write(CHAIN)
    project.edit("    cycle: 20ms\n", "")
    number = int(project.line.rpartition(":")[2]) - 1
    assert project.refused() == (
        f"PlanError: {project.file}:{number}: device neck: no periodic node commands it, so its "
        "own cycle must be known. Give `cycle: 20ms` in the unit profile."
    )


# --- unit and board ---------------------------------------------------------------------------


def test_an_actuator_without_a_guard(project: Project) -> None:
    project.write(GOOD)
    project.edit(GUARD, "")
    assert project.refused() == (
        f"BoardError: {project.folder}/unit.yaml:14:5: devices.neck: neck is commanded but has no "
        "guard. An actuator states its limits, safe action, command age and what happens when the "
        "host dies: add `guard:` (see docs/units.md)."
    )


def test_a_joint_without_a_safe_action(project: Project) -> None:
    project.write(GOOD)
    project.edit("pan: {position: [-90deg, 90deg], slew: 300deg/s, safe: hold}",
                 "pan: {position: [-90deg, 90deg], slew: 300deg/s}")  # fmt: skip
    number = project.unit[: project.unit.index("pan: {pos")].count("\n") + 1
    assert project.refused() == (
        f"BoardError: {project.folder}/unit.yaml:{number}:14: devices.neck.guard.joints.pan: the "
        "key 'safe' is missing ('hold' or 'free' or 'go')."
    )


def test_a_link_too_slow_for_its_rate(project: Project) -> None:
    project.write(GOOD)
    project.edit("baud: 1000000", "baud: 9600")
    assert project.found()[0] == (
        f"fails  {project.folder}/unit.yaml:16:5: neck is cycled every 20 ms, but its exchanges "
        "(24 bytes out, 42 back) take 68.75 ms at 9600 baud (14 Hz at most), and the driver's "
        "time-out ends before its answers have come. Give `baud: 115200` or more, and set the "
        "device to it."
    )


def test_a_port_used_twice(project: Project) -> None:
    project.write("""
with Graph("app") as g:
    front, neck, tail = camera("front"), servos("neck"), servos("tail")
    parts = look(front.image)
    neck.command(aim(parts, neck.state))
    tail.command(aim(parts, tail.state))
""")
    neck = SHIPPED[SHIPPED.index("  neck:") : SHIPPED.index("sim:")]
    project.edit(neck, neck + neck.replace("  neck:", "  tail:"))
    assert project.found() == [
        f"fails  {project.folder}/unit.yaml:33:5: tail and neck ({project.folder}/unit.yaml:15:5) "
        "are both on /dev/ttyUSB0: a port has one owner. Give one of them the port that it is "
        "really on."
    ]


def test_a_model_for_another_board(project: Project) -> None:
    project.write("""
with Graph("app") as g:
    front, neck = camera("front"), servos("neck")
    neck.command(aim(detector("part.yaml")(front.image), neck.state))  #!
""")
    zoo = find_unit("pan-tilt", None).parents[2] / "models" / "zoo" / "part.yaml"
    text = zoo.read_text("utf-8").replace("file: part.onnx", "file: part.rknn")
    manifest = project.folder / "part.yaml"
    manifest.write_text(f"backend: rknn\n{text}")
    (project.folder / "part.rknn").write_bytes(bytes(1000))
    project.app = project.app.replace("part.yaml", str(manifest))
    assert project.found("--budget", "part=5ms") == [
        f"fails  {project.line}: node part: model part runs on rknnlite ({manifest}:1:1), which "
        "rpi5 does not have (it has: onnxruntime CPUExecutionProvider, ncnn). Choose a model for "
        "one of these, or a board with rknnlite: rk3568, rk3588."
    ]


def test_a_board_that_is_no_host(project: Project) -> None:
    project.write(GOOD)
    where = find_unit("pan-tilt", None).parents[1] / "compute" / "milkv-duo.yaml"
    assert project.found("--board", "milkv-duo") == [
        f"fails  {where}:5:1: milkv-duo (Milk-V Duo) does not run haihe: it is a peer on a wire "
        "(buildroot with musl, no wheels). Choose a board that is a host (haihe boards list), and "
        "reach this one by its driver."
    ]


# --- timing -----------------------------------------------------------------------------------

DETECT = """
with Graph("app") as g:
    front, neck = camera("front"), servos("neck")
    parts = detector("part")(front.image)
    command = aim(parts, neck.state)  #!
    neck.command(command)
"""


def test_stale_by_design(project: Project) -> None:
    """The camera, the detector and the next tick make more than the contract allows."""
    project.measured(27.0)
    project.write(DETECT, HEAD.replace("150ms", "70ms"))
    report = project.report()
    assert failing(report) == [f"{project.line}: fresh of aim.parts: fails: next frame +6.4 ms"]
    assert cures(report) == [
        'fresh("77ms") on aim.parts: all hold', "part in 20.6 ms or less: all hold",
    ]  # fmt: skip


def test_a_deadline_shorter_than_the_response(project: Project) -> None:
    project.measured(27.0)
    project.write(DETECT, HEAD.replace('deadline="5ms"', 'deadline="1ms"'))
    report = project.report()
    assert failing(report) == [f"{project.line}: deadline of aim: fails: aim +1.1 ms"]
    assert cures(report) == ['deadline="3ms" on aim: all hold']


def test_a_detector_above_its_controller_in_one_thread(project: Project) -> None:
    project.measured(27.0)
    project.write(DETECT + '    g.thread("main", parts, command)\n')
    report = project.report()
    assert failing(report) == [f"{project.line}: deadline of aim: fails: thread main +23.6 ms"]
    assert cures(report) == [
        "a thread of its own for part: all hold, oldest 117.3 → 98.8 ms",
        'deadline="29ms" on aim: all hold',
        "part in 3.4 ms or less: all hold",
    ]


def test_no_budget(project: Project) -> None:
    project.write(GOOD, HEAD.replace('@node(budget="2ms")', "@node"))
    report = project.report()
    assert str(report.verdict) == "unbounded: no budget for look"
    assert report.exit_code == 1
    assert report.todo == [
        'look: add --measure 5s to measure it here, or declare it: @node(budget="2ms"), or '
        "--budget NODE=2ms"
    ]


LOOP = """
@node(every="20ms", budget="1ms")
def left(other: {other}, neck: Annotated[JointState, fresh("45ms")]) -> JointCommand: ...

@node(every="30ms", budget="1ms")
def right(command: Annotated[JointCommand, fresh("100ms")]) -> Reading: ...

"""


def test_two_lanes_that_sample_each_other(project: Project) -> None:
    """In Python one of them would have to be wired before it exists; a YAML file can write it."""
    project.write(LOOP.format(other='Annotated[Reading, fresh("100ms")]'))
    project.file.write_text(project.app)
    graph = project.folder / "loop.yaml"
    module = project.file.stem
    graph.write_text(f"""\
graph: loop
devices: {{neck: servos}}
nodes:
  left: {{node: {module}:left, in: {{other: right, neck: neck.state}}}}
  right: {{node: {module}:right, in: {{command: left}}}}
commands: {{neck: left}}
""")
    assert main(["check", str(graph), "--unit", "pan-tilt", "--board", "rpi5"]) == 1
    assert project.capsys.readouterr().err == (
        f"PlanError: {graph}:4:3 and {graph}:5:3: left and right take each other's outputs. Close "
        "the loop under `feedback`, which gives the previous firing's value: its nodes need one "
        "rate.\n"
    )


def test_people_are_shown_the_line_and_the_cure(project: Project) -> None:
    project.measured(27.0)
    project.write(DETECT, HEAD.replace('deadline="5ms"', 'deadline="1ms"'))
    code, out, _ = project.check()
    said = out.splitlines()
    row = next(i for i, line in enumerate(said) if line.endswith("fails: aim +1.1 ms"))
    where = [i for i, line in enumerate(said) if line == f"    {project.line}"]
    assert code == 1
    assert len(where) == 1
    assert where[0] > row
    assert '  deadline="3ms" on aim  all hold' in said


def test_a_feedback_between_two_rates(project: Project) -> None:
    project.write(LOOP.format(other="Reading") + """
with Graph("app") as g:
    neck = servos("neck")
    last, feed = feedback(Reading(0.0))  #!
    command = left(last, neck.state)
    feed(right(command))
    neck.command(command)
""", HEAD.replace("detector,", "detector, feedback,"))  # fmt: skip
    assert project.refused() == (
        f"PlanError: {project.line}: feedback_1 is fed by right of another rate. A feedback stays "
        "inside one tick: feed it from a node of the same rate, or keep what it remembers inside "
        "one node."
    )
