"""What `check` finds besides timing: each kind once, with its whole text."""

import dataclasses
from pathlib import Path
from typing import Annotated

import pytest
from tests.runtime.exec.fakes import following, holding

from haihe.boards.compute_profile import ComputeProfile, find_profile
from haihe.boards.unit import UnitFile, find_unit, unit_from_text
from haihe.drivers.roles import camera, servos
from haihe.models.detector import detector
from haihe.pipelines.check.findings import Finding, findings
from haihe.pipelines.check.resources import core_findings, port_of
from haihe.pipelines.check.wiring import warden_finding
from haihe.pipelines.launch import prepare
from haihe.pipelines.nodes.pursue import Pursue
from haihe.pipelines.worlds.ideal import ideal_detector
from haihe.runtime.contracts import fresh
from haihe.runtime.errors import BoardError
from haihe.runtime.graph import Graph
from haihe.runtime.node import node
from haihe.runtime.types import Detections, Image, JointCommand, JointState, Reading

SHIPPED = find_unit("pan-tilt", None).read_text("utf-8")
LINES = Path(__file__).read_text("utf-8").splitlines()
DEATH = Finding(
    "note",
    "unit.yaml:27:7",
    "neck: when the runtime dies, or its lane gives no sign for 100 ms, a warden kills it and "
    "sends the safe actions. Not covered: power loss, a hung kernel, a runtime that is PID 1 of a "
    "container.",
)


def unit(old: str = "", new: str = "") -> UnitFile:
    assert old in SHIPPED
    return unit_from_text(SHIPPED.replace(old, new) if old else SHIPPED, "unit.yaml")


def found(
    graph: Graph, profile: UnitFile, board: str | ComputeProfile | None = None
) -> list[Finding]:
    if isinstance(board, str):
        board = find_profile(board)
    return findings(prepare(graph, profile), board)


def line(text: str) -> str:
    return f"{__file__}:{next(i for i, row in enumerate(LINES, 1) if text in row)}"


@node
def look(image: Image) -> Reading:
    return Reading(0.0)


@node(every="20ms")
def blind(parts: Detections, neck: Annotated[JointState, fresh("45ms")]) -> JointCommand:
    return neck.hold()


@node(on="parts")
def seen(parts: Detections, neck: Annotated[JointState, fresh("45ms")]) -> JointCommand:
    return neck.hold()


def test_a_good_graph_says_only_what_somebody_accepted() -> None:
    assert found(following(), unit(), "rpi5") == [DEATH]
    assert str(DEATH).startswith("note   unit.yaml:27:7: neck: when the runtime dies, or its")


def test_a_warden_under_pid_1_and_an_accepted_death_are_told() -> None:
    (first,) = found(following(), unit("warden\n", "warden\n      warden: 1s\n"))
    assert "no sign for 1 s," in first.text
    prepared = prepare(following(), unit())
    guard = prepared.binding.devices["neck"].profile.guard
    assert guard is not None
    assert str(warden_finding(prepared, "neck", guard, is_init=True)) == (
        "warns  unit.yaml:27:7: this process is PID 1: its death kills the warden of neck too, and "
        "neck keeps its last goal. Run it under an init that is PID 1 instead: docker run --init."
    )
    accepted = "none\n      accept_uncontrolled: it is light\n"
    assert found(following(), unit("on_host_death: warden\n", f"on_host_death: {accepted}")) == [
        Finding(
            "note",
            "unit.yaml:27:7",
            "neck keeps its last goal when the host dies; accepted because: it is light",
        )
    ]


@pytest.mark.parametrize(
    ("baud", "text", "cure"),
    [
        (
            9600,
            "neck is cycled every 20 ms, but its exchanges (24 bytes out, 42 back) take 68.75 ms "
            "at 9600 baud (14 Hz at most), and the driver's time-out ends before its answers have "
            "come.",
            "Give `baud: 115200` or more, and set the device to it.",
        ),
        (
            1200,
            "neck is cycled every 20 ms, but at 1200 baud it cannot be set up: servo.sts: no "
            "answer from id 1, 2 in 50 ms (nobody answered). Check the servo supply, the baud "
            "rate and the port.",
            "Give `baud: 115200` or more, and set the device to it.",
        ),
    ],
)  # fmt: skip
def test_a_link_too_slow_for_its_answers(baud: int, text: str, cure: str) -> None:
    slow = unit("baud: 1000000", f"baud: {baud}")
    assert found(following(), slow) == [
        Finding("fails", "unit.yaml:16:5", text, cure), DEATH,
    ]  # fmt: skip


PATIENT = "      joints:\n        - {name: pan, id: 1}"


@pytest.mark.parametrize(
    ("baud", "severity", "text", "cure"),
    [
        (
            19200, "fails",
            "neck is cycled every 20 ms, but its exchanges (24 bytes out, 42 back) take 34.37 ms "
            "at 19200 baud (29 Hz at most).",
            "Give `baud: 57600` or more, and set the device to it. Or cycle it more slowly.",
        ),
        (
            38400, "warns",
            "neck is cycled every 20 ms; its exchanges (24 bytes out, 42 back) take 17.19 ms at "
            "38400 baud, but 22.92 ms after every change of action (armed, stale, safe): its lane "
            "then misses ticks.",
            "Give `baud: 57600` or more, and set the device to it.",
        ),
        (
            57600, "warns",
            "neck is cycled every 20 ms and its exchanges (24 bytes out, 42 back) take 11.46 ms "
            "at 57600 baud: 57% of the period, in which its lane only waits (load of the link "
            "57%).",
            "A faster link leaves the nodes of its lane more time.",
        ),
    ],
)  # fmt: skip
def test_a_link_too_slow_for_its_rate(baud: int, severity: str, text: str, cure: str) -> None:
    patient = SHIPPED.replace(PATIENT, "      timeout_ms: 100\n" + PATIENT)
    assert patient != SHIPPED
    slow = unit_from_text(patient.replace("baud: 1000000", f"baud: {baud}"), "unit.yaml")
    (first, *_) = found(following(), slow)
    assert first == Finding(severity, "unit.yaml:16:5", text, cure)  # type: ignore[arg-type]


def test_a_board_that_does_not_run_haihe() -> None:
    (first, second) = found(following(), unit(), "milkv-duo")
    place = find_profile("milkv-duo").where.file
    assert first == Finding(
        "fails",
        f"{place}:5:1",
        "milkv-duo (Milk-V Duo) does not run haihe: it is a peer on a wire (buildroot with musl, "
        "no wheels).",
        "Choose a board that is a host (haihe boards list), and reach this one by its driver.",
    )
    assert second == DEATH


def seeing(model: str) -> Graph:
    with Graph("seeing") as graph:
        front, neck = camera("front"), servos("neck")
        neck.command(Pursue()(detector(model)(front.image), neck.state))  # seeing
    return graph


def manifest(folder: Path, backend: str, size: int) -> str:
    """A model's manifest with a file of that many bytes beside it."""
    shipped = find_unit("pan-tilt", None).parents[2] / "models" / "zoo" / "part.yaml"
    text = shipped.read_text("utf-8").replace("file: part.onnx", "file: net.bin")
    (folder / "net.bin").write_bytes(bytes(size))
    path = folder / "net.yaml"
    path.write_text(f"backend: {backend}\n{text}")
    return str(path)


def test_a_model_whose_backend_the_board_lacks(tmp_path: Path) -> None:
    path = manifest(tmp_path, "rknn", 100)
    (first, *_) = found(seeing(path), unit(), "rpi5")
    assert first == Finding(
        "fails",
        line("# seeing"),
        f"node net: model part runs on rknnlite ({path}:1:1), which rpi5 does not have (it has: "
        "onnxruntime CPUExecutionProvider, ncnn).",
        "Choose a model for one of these, or a board with rknnlite: rk3568, rk3588.",
    )
    (first, *_) = found(seeing("part"), unit(), "loongson-2k")
    assert first.cure == (
        "Choose a model for one of these, or a board with onnxruntime: atlas-200i-dk-a2, "
        "beaglebone-ai64, bm1684x, generic-aarch64, generic-x86_64 and 13 more."
    )


def test_a_model_for_which_haihe_has_no_backend(tmp_path: Path) -> None:
    path = manifest(tmp_path, "tpu9", 100)
    (first, *_) = found(seeing(path), unit())
    assert first == Finding(
        "fails",
        line("# seeing"),
        f"node net: model part is made for tpu9 ({path}:1:1), for which haihe has no backend here "
        "(it has: ort).",
        "Choose a model for one of them, or install the package that adds it.",
    )


def test_a_model_that_is_not_there(tmp_path: Path) -> None:
    path = Path(manifest(tmp_path, "ort", 100))
    (tmp_path / "net.bin").unlink()
    (first, *_) = found(seeing(str(path)), unit(), "rpi5")
    assert first == Finding(
        "fails",
        line("# seeing"),
        f"node net: {path}:4:1: file: no file {tmp_path / 'net.bin'}. Check the path.",
    )


@pytest.mark.parametrize(("gigabytes", "severity", "share"), [(0.25, "fails", "122%"),
                                                              (0.4, "warns", "76%")])  # fmt: skip
def test_memory(tmp_path: Path, gigabytes: float, severity: str, share: str) -> None:
    board = dataclasses.replace(find_profile("rpi5"), memory_gb=(8.0, gigabytes))
    (first, *_) = found(seeing(manifest(tmp_path, "ort", 500_000)), unit(), board)
    assert first == Finding(
        severity,  # type: ignore[arg-type]
        f"{board.where.file}:11:1",
        f"about 305 MB are needed, {share} of the {gigabytes * 1000:.0f} MB that rpi5 has in its "
        "smallest form: system 200 (assumed), runtime 80, net 24 (20 + 8 x 0.5 of file), front 1 "
        "(6 frames of 320x240). Estimated, not measured.",
        "Choose a smaller model or picture, or a board with more memory.",
    )


def two_heads() -> Graph:
    with Graph("heads") as graph:
        front, neck, tail = camera("front"), servos("neck"), servos("tail")
        parts = ideal_detector(front.image)
        neck.command(Pursue()(parts, neck.state))
        tail.command(Pursue()(parts, tail.state))
    return graph


def test_two_roles_on_one_port() -> None:
    head = SHIPPED[SHIPPED.index("  neck:") : SHIPPED.index("sim:")]
    text = SHIPPED.replace(
        head, head + head.replace("  neck:", "  tail:").replace("/dev/tty", "serial:/dev/tty")
    )
    (first, *_) = found(two_heads(), unit_from_text(text, "unit.yaml"))
    assert first == Finding(
        "fails",
        "unit.yaml:33:5",
        "tail and neck (unit.yaml:15:5) are both on /dev/ttyUSB0: a port has one owner.",
        "Give one of them the port that it is really on.",
    )


def test_a_camera_takes_its_device_file() -> None:
    prepared = prepare(following(), unit())
    assert port_of(prepared.binding.devices["front"]) == "/dev/video0"


@pytest.mark.parametrize(
    ("port", "board", "expected"),
    [
        ("/dev/ttyACM3", "rk3588", None),
        ("/dev/serial/by-id/usb-1a86", "rk3588", None),
        (
            "/dev/ttyS2", "beaglebone-ai64",
            Finding(
                "warns", "unit.yaml:15:5",
                "neck is on /dev/ttyS2 of beaglebone-ai64: console (main_uart0). The system's "
                "console writes to it too.",
                "Use another port, or take the console off it.",
            ),
        ),
        (
            "/dev/ttyS7", "beaglebone-ai64",
            Finding(
                "warns", "unit.yaml:15:5",
                "neck is on /dev/ttyS7, which the profile of beaglebone-ai64 does not name; it "
                "names: /dev/ttyS2 (console (main_uart0)).",
                "Use one of these or a USB adapter, or switch the port on.",
            ),
        ),
        (
            "/dev/ttyAMA0", "rpi5",
            Finding(
                "note", "unit.yaml:15:5",
                "neck is on /dev/ttyAMA0 of rpi5: on the header after dtparam=uart0 or its "
                "overlay.",
            ),
        ),
    ],
)  # fmt: skip
def test_ports_of_the_board(port: str, board: str, expected: Finding | None) -> None:
    said = found(following(), unit("/dev/ttyUSB0", port), board)
    assert said == ([expected, DEATH] if expected else [DEATH])


def test_an_actuator_that_nothing_commands() -> None:
    with Graph("reader") as graph:
        neck = servos("neck")  # only read
        blind(ideal_detector(camera("front").image), neck.state)
    said = found(graph, unit())
    assert said[0] == Finding(
        "warns",
        line("blind(ideal_detector(camera"),
        "output blind is not used by anything.",
        "Use it, or leave it out.",
    )
    assert said[2] == Finding(
        "warns",
        line("# only read"),
        "nothing commands neck (joints pan, tilt): it is read, and its torque stays off, though it "
        "has a guard at unit.yaml:23:7.",
        "Connect a command: neck.command(...), or take the guard out of the profile.",
    )
    guard = SHIPPED[SHIPPED.index("    guard:") : SHIPPED.index("sim:")]
    (*_, last) = found(graph, unit(guard, ""))
    assert last == Finding(
        "note",
        line("# only read"),
        "nothing commands neck (joints pan, tilt): it is read, and its torque stays off.",
    )


def test_an_actuator_of_the_unit_that_the_graph_does_not_use() -> None:
    with Graph("watching") as graph:
        look(camera("front").image)
    (*_, last) = found(graph, unit())
    assert last == Finding(
        "note",
        "unit.yaml:14:5",
        "neck (servo.sts) can move, and graph watching does not use it: nothing of this run reads "
        "or stops it.",
    )


def test_an_actuator_without_a_guard_is_refused() -> None:
    guard = SHIPPED[SHIPPED.index("    guard:") : SHIPPED.index("sim:")]
    with pytest.raises(BoardError) as caught:
        found(holding(), unit(guard, ""))
    assert str(caught.value) == (
        "unit.yaml:14:5: devices.neck: neck is commanded but has no guard. An actuator states its "
        "limits, safe action, command age and what happens when the host dies: add `guard:` (see "
        "docs/units.md)."
    )


def test_an_input_that_grows_old_in_silence() -> None:
    with Graph("blind") as graph:
        neck = servos("neck")
        neck.command(blind(ideal_detector(camera("front").image), neck.state))  # unaged
    assert found(graph, unit()) == [
        Finding(
            "warns",
            line("# unaged"),
            "blind.parts samples ideal_detector without fresh(): if ideal_detector dies, nothing "
            "notices and its last Detections is used for ever.",
            'Annotate the input: parts: Annotated[Detections, fresh("...")].',
        ),
        DEATH,
    ]


def test_a_picture_in_a_control_chain() -> None:
    with Graph("seen") as graph:
        neck = servos("neck")
        neck.command(seen(ideal_detector(camera("front").image), neck.state))  # by pictures
    assert found(graph, unit()) == [
        Finding(
            "warns",
            line("# by pictures"),
            "neck gets a new command only when front.image comes: between two of them, and when "
            "they stop, its lane (every 20 ms) repeats the last command until the guard finds it "
            "too old after 250 ms.",
            "Let a periodic node command neck, and let it sample seen's lane: "
            '@node(every="20ms") with fresh("...").',
        ),
        DEATH,
    ]


def test_a_core_that_is_not_there_fails() -> None:
    profile = unit("sim:\n", "threads:\n  every-20ms: {core: 9, priority: 5}\nsim:\n")
    row = profile.text.splitlines().index("  every-20ms: {core: 9, priority: 5}") + 1
    there = prepare(following(), profile)
    (finding,) = core_findings(there, 4)
    assert finding == Finding(
        "fails",
        f"unit.yaml:{row}:16",
        "thread every-20ms is placed on core 9; there are 0 to 3.",
        "Choose one of them.",
    )
    assert list(core_findings(there, 0)) == list(core_findings(there, 10)) == []
