"""Unit profiles: every mistake is told with file, line, key and cure."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from tests.boards.reader import reader, watch_line

from haihe.boards.binding import bind, replace_driver
from haihe.boards.unit import find_unit, load_unit, unit_from_text
from haihe.drivers.camera.file import FileOptions
from haihe.drivers.roles import camera, servos
from haihe.pipelines.launch import Prepared, prepare
from haihe.pipelines.nodes.pursue import Pursue
from haihe.pipelines.worlds.ideal import ideal_detector
from haihe.pipelines.worlds.serve import make_world
from haihe.runtime import registry
from haihe.runtime.errors import BoardError, PlanError
from haihe.runtime.graph import Graph
from haihe.runtime.guard import SafeAction
from haihe.runtime.guard.guard import Guard

GOOD = """\
unit: head
devices:
  front:
    driver: camera.file
    options: {path: road.avi}
  neck:
    driver: servo.sts
    port: /dev/ttyUSB0
    baud: 500000
    cycle: 20ms
    options:
      joints: [{name: pan, id: 1}, {name: tilt, id: 2}]
    guard:
      command_age: 250ms
      on_host_death: none
      accept_uncontrolled: it is light
      joints:
        pan: {position: [-90deg, 90deg], slew: 300deg/s, safe: hold}
        tilt: {position: [-30deg, 60deg], slew: 2rad/s, rate: 9rad/s^2, safe: go, safe_position: 1deg}
sim:
  world: pan_tilt
  options: {path: circle, ideal: true}
"""
GUARD = GOOD[GOOD.index("    guard:") : GOOD.index("sim:")]
SIM = GOOD[GOOD.index("sim:") :]
GO = "safe: go, safe_position: 1deg"
CORRECT = "Correct the joint's limits."


def follow() -> Graph:
    with Graph("follow") as graph:
        front, neck = camera("front"), servos("neck")
        neck.command(Pursue()(ideal_detector(front.image), neck.state))
    return graph


def only_bus(prepared: Prepared) -> tuple[Any, Guard | None]:
    ((device, guard),) = prepared.binding.buses(prepared.plan).values()
    return device, guard


def refusal(text: str, file: str = "unit.yaml") -> str:
    """What a user is told, from reading the profile to making its devices, guards and world."""
    with pytest.raises(BoardError) as caught:
        use(text, file)
    return str(caught.value)


def use(text: str, file: str) -> None:
    unit = unit_from_text(text, file)
    prepared = prepare(follow(), unit)
    prepared.binding.buses(prepared.plan)
    make_world(unit, 0)


def test_a_good_profile_says_what_it_says() -> None:
    unit = unit_from_text(GOOD, "unit.yaml")
    front, neck = unit.unit.devices["front"], unit.unit.devices["neck"]
    assert unit.options(FileOptions, "devices", "front", "options") == FileOptions(Path("road.avi"))
    assert (front.baud, neck.port, neck.baud, neck.cycle) == (0, "/dev/ttyUSB0", 500_000, 0.02)
    assert neck.guard is not None
    assert (neck.guard.command_age, neck.guard.on_stale) == (0.25, "recover")
    pan = neck.guard.joints["pan"].rule("pan")
    assert (pan.low, pan.high, pan.slew, pan.rate) == (-1_570_796, 1_570_796, 5_235_988, 0)
    assert pan.safe is SafeAction.HOLD
    tilt = neck.guard.joints["tilt"].rule("tilt")
    assert (tilt.low, tilt.high, tilt.slew, tilt.rate) == (
        -523_599, 1_047_198, 2_000_000, 9_000_000,
    )  # fmt: skip
    assert (tilt.safe, tilt.safe_position) == (SafeAction.GO, 17_453)
    assert unit.unit.sim is not None
    assert str(neck.where) == "unit.yaml:7:5: devices.neck"


def test_it_binds_devices_and_guards() -> None:
    prepared = prepare(follow(), unit_from_text(GOOD, "unit.yaml"))
    bound = prepared.binding.devices["neck"]
    assert bound.baud == 500_000
    device, guard = only_bus(prepared)
    assert device.joints == ("pan", "tilt")
    assert guard is not None
    assert [rule.name for rule in guard.rules] == ["pan", "tilt"]
    assert bound.make() is not bound.make()
    assert list(prepared.binding.streams(prepared.plan)) == ["front"]


def test_guards_come_in_the_drivers_order_of_joints() -> None:
    text = GOOD.replace("{name: pan, id: 1}, {name: tilt, id: 2}", "{name: tilt, id: 2}, "
                        "{name: pan, id: 1}")  # fmt: skip
    prepared = prepare(follow(), unit_from_text(text, "unit.yaml"))
    device, guard = only_bus(prepared)
    assert guard is not None
    assert device.joints == tuple(rule.name for rule in guard.rules) == ("tilt", "pan")


MISTAKES = {
    "unknown key": (
        "command_age: 250ms", "comand_age: 250ms",
        "unit.yaml:14:7: devices.neck.guard: unknown key 'comand_age'. Did you mean "
        "'command_age'?",
    ),
    "no command age": (
        "      command_age: 250ms\n", "",
        "unit.yaml:14:7: devices.neck.guard: the key 'command_age' is missing (a quantity like "
        "'1 s').",
    ),
    "command age 0": (
        "command_age: 250ms", "command_age: 0",
        "unit.yaml:14:7: devices.neck.guard: command_age: found 0 s, expected more than 0. Write "
        "how old a command may be and still be obeyed, such as 250ms.",
    ),
    "command age below 0": (
        "command_age: 250ms", "command_age: -1ms",
        "unit.yaml:14:7: devices.neck.guard: command_age: found -0.001 s, expected more than 0. "
        "Write how old a command may be and still be obeyed, such as 250ms.",
    ),
    "command age in metres": (
        "command_age: 250ms", "command_age: 250m",
        "unit.yaml:14:20: devices.neck.guard.command_age: '250m' has the wrong dimension: found "
        "m, expected something like s.",
    ),
    "host death without a reason": (
        "      accept_uncontrolled: it is light\n", "",
        "unit.yaml:14:7: devices.neck.guard: on_host_death: none leaves the actuator as it is "
        "when the host dies. Say why that is acceptable: accept_uncontrolled: <reason>.",
    ),
    "a limit without a warden": (
        "on_host_death: none", "on_host_death: none\n      warden: 150ms",
        "unit.yaml:14:7: devices.neck.guard: warden: 0.15 s is the limit of a warden, and "
        "on_host_death is none. Write on_host_death: warden, or leave it out.",
    ),
    "a warden that is too quick": (
        "on_host_death: none", "on_host_death: warden\n      warden: 5ms",
        "unit.yaml:14:7: devices.neck.guard: warden: found 0.005 s, expected 0.02 to 10 s. Write "
        "how long the actuator's lane may give no sign before its process is killed.",
    ),
    "a warden quicker than the lane": (
        "on_host_death: none", "on_host_death: warden\n      warden: 30ms",
        "unit.yaml:16:7: devices.neck.guard.warden: the limit is 30 ms and the period of the lane "
        "20 ms; expected two periods or more. Give it more time.",
    ),
    "bridge": (
        "on_host_death: none", "on_host_death: bridge",
        "unit.yaml:14:7: devices.neck.guard: on_host_death: bridge is not in this version. Use "
        "`warden`, `device` if the device has a watchdog of its own, or `none` with accept_uncontrolled.",
    ),
    "unknown answer to host death": (
        "on_host_death: none", "on_host_death: nothing",
        "unit.yaml:15:22: devices.neck.guard.on_host_death: found 'nothing', expected 'device' or "
        "'bridge' or 'warden' or 'none'.",
    ),
    "no guard": (
        GUARD, "",
        "unit.yaml:7:5: devices.neck: neck is commanded but has no guard. An actuator states its "
        "limits, safe action, command age and what happens when the host dies: add `guard:` (see "
        "docs/units.md).",
    ),
    "a joint that the driver does not have": (
        "        tilt: {position", "        roll: {position",
        "unit.yaml:14:7: devices.neck.guard: guard.joints names pan, roll; the driver has pan, "
        "tilt. Give every joint its limits.",
    ),
    "a joint without limits": (
        ", {name: tilt, id: 2}]", ", {name: tilt, id: 2}, {name: roll, id: 3}]",
        "unit.yaml:14:7: devices.neck.guard: guard.joints names pan, tilt; the driver has pan, "
        "roll, tilt. Give every joint its limits.",
    ),
    "range reversed": (
        "[-30deg, 60deg]", "[60deg, -30deg]",
        "unit.yaml:19:15: devices.neck.guard.joints.tilt: position: found 1.0472 to -0.523599 "
        f"rad, expected the lower end first. {CORRECT}",
    ),
    "range empty": (
        "[-30deg, 60deg]", "[0.5rad, 0.5rad]",
        "unit.yaml:19:15: devices.neck.guard.joints.tilt: position: found 0.5 to 0.5 rad, "
        f"expected the lower end first. {CORRECT}",
    ),
    "half a range": (
        "[-30deg, 60deg]", "[60deg]",
        "unit.yaml:19:26: devices.neck.guard.joints.tilt.position: found 1 values, expected 2. "
        "Write a list of 2.",
    ),
    "an angle for a slew": (
        "slew: 300deg/s", "slew: 300deg",
        "unit.yaml:18:48: devices.neck.guard.joints.pan.slew: '300deg' has the wrong dimension: "
        "found deg, expected something like rad/s.",
    ),
    "a limit without a unit": (
        "[-30deg, 60deg]",
        "[-30, 60]",
        "unit.yaml:19:27: devices.neck.guard.joints.tilt.position[0]: -30 has no unit. Write it, "
        "as in '-30rad'",
    ),
    "go to nowhere": (
        "safe: go, safe_position: 1deg", "safe: go",
        "unit.yaml:19:15: devices.neck.guard.joints.tilt: safe: go, but no safe_position. Correct "
        "the joint's limits.",
    ),
    "slew 0": (
        "slew: 300deg/s", "slew: 0",
        "unit.yaml:18:14: devices.neck.guard.joints.pan: slew: found 0 rad/s, expected more than "
        f"0. {CORRECT}",
    ),
    "a slew too slow for its period": (
        "slew: 300deg/s", "slew: 0.00001rad/s",
        "unit.yaml:14:7: devices.neck.guard: guard of joint pan: slew 10 never moves one "
        f"micro-unit in a period of 20000000 ns. {CORRECT}",
    ),
    "rate below 0": (
        "rate: 9rad", "rate: -9rad",
        "unit.yaml:19:15: devices.neck.guard.joints.tilt: rate: found -9 rad/s^2, expected 0 (no "
        f"limit) or more. {CORRECT}",
    ),
    "a safe position out of range": (
        "safe_position: 1deg", "safe_position: 90deg",
        "unit.yaml:19:15: devices.neck.guard.joints.tilt: safe_position: found 1.5708 rad, "
        f"expected it in the range of position, -0.523599 to 1.0472 rad. {CORRECT}",
    ),
    "no safe action": (
        ", safe: hold", "",
        "unit.yaml:18:14: devices.neck.guard.joints.pan: the key 'safe' is missing ('hold' or "
        "'free' or 'go').",
    ),
    "unknown safe action": (
        "safe: hold", "safe: halt",
        "unit.yaml:18:64: devices.neck.guard.joints.pan.safe: found 'halt', expected 'hold' or "
        "'free' or 'go'.",
    ),
    "unknown driver": (
        "driver: servo.sts", "driver: servo.stx",
        "unit.yaml:7:5: devices.neck.driver: driver 'servo.stx' is not known. Did you mean "
        "'servo.sts'?",
    ),
    "no driver": (
        "    driver: servo.sts\n", "",
        "unit.yaml:7:5: devices.neck: the key 'driver' is missing (text).",
    ),
    "unknown option of a driver": (
        "{name: pan, id: 1}", "{name: pan, idd: 1}",
        "unit.yaml:12:28: devices.neck.options.joints[0]: unknown key 'idd'. Did you mean 'id'?",
    ),
    "what only the driver refuses": (
        "{name: pan, id: 1}", "{name: pan, id: 2}",
        "unit.yaml:12:7: devices.neck.options: servo.sts: joints: id 2 twice. Give each its own.",
    ),
    "no options where the driver needs some": (
        "    options:\n      joints: [{name: pan, id: 1}, {name: tilt, id: 2}]\n", "",
        "unit.yaml:7:5: devices.neck.options: the key 'joints' is missing (a list).",
    ),
    "baud below 0": (
        "baud: 500000", "baud: -1",
        "unit.yaml:7:5: devices.neck: baud -1, cycle 0.02 s: expected more than 0. Leave out what "
        "the driver or the graph decides.",
    ),
    "cycle below 0": (
        "cycle: 20ms", "cycle: -20ms",
        "unit.yaml:7:5: devices.neck: baud 500000, cycle -0.02 s: expected more than 0. Leave out "
        "what the driver or the graph decides.",
    ),
    "unknown world": (
        "world: pan_tilt", "world: pan_tlit",
        "unit.yaml:21:3: sim.world: world 'pan_tlit' is not known. Did you mean 'pan_tilt'?",
    ),
    "unknown option of a world": (
        "path: circle", "paht: circle",
        "unit.yaml:22:13: sim.options: unknown key 'paht'. Did you mean 'path'?",
    ),
    "no world": (
        SIM, "",
        "unit.yaml: unit head has no `sim:`. Name a world there, one of: "
        f"{', '.join(registry.names('world'))}.",
    ),
    "not YAML": (
        "unit: head", "unit: [head",
        "unit.yaml:2:8: not valid YAML: while parsing a flow sequence, did not find expected ',' "
        "or ']'. Check indentation and quotes.",
    ),
    "a list": (GOOD, "- unit: head\n", "unit.yaml:1:1: found a list, expected a mapping."),
    "empty": (GOOD, "# nothing\n", "unit.yaml: the file is empty. Write its keys."),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_told_with_its_place(name: str) -> None:
    good, bad, said = MISTAKES[name]
    assert good in GOOD
    assert refusal(GOOD.replace(good, bad, 1)) == said


def graph_line(word: str) -> str:
    """file:line of the first line of `follow` that holds the word."""
    lines = Path(__file__).read_text(encoding="utf-8").splitlines()
    return f"{__file__}:{next(i for i, line in enumerate(lines, 1) if word in line)}"


def test_a_driver_of_another_kind_is_refused_with_both_places() -> None:
    text = GOOD.replace("driver: servo.sts", "driver: camera.file")
    assert refusal(text) == (
        "unit.yaml:7:5: devices.neck.driver: camera.file is a driver of camera; "
        f"{graph_line('front, neck = camera')} wants servos in the role 'neck'."
    )


def test_a_role_that_the_unit_lacks_is_named_with_those_it_has() -> None:
    assert refusal(GOOD.replace("  neck:", "  arm:")) == (
        "unit.yaml: unit head has no device in the role 'neck' (wanted at "
        f"{graph_line('front, neck = camera')}). It has: front, arm."
    )


def test_a_bus_that_nobody_commands_needs_no_guard_but_a_cycle() -> None:
    text = GOOD.replace(GUARD, "").replace("    cycle: 20ms\n", "")
    with pytest.raises(PlanError) as caught:
        prepare(reader(), unit_from_text(text, "unit.yaml"))
    assert str(caught.value) == (
        f"{watch_line()}: device neck: no periodic node commands it, so its own cycle must be "
        "known. Give `cycle: 20ms` in the unit profile."
    )
    prepared = prepare(reader(), unit_from_text(GOOD.replace(GUARD, ""), "unit.yaml"))
    ((_, guard),) = prepared.binding.buses(prepared.plan).values()
    assert guard is None


def test_devices_that_no_graph_wants_are_not_looked_at() -> None:
    text = GOOD.replace("driver: camera.file", "driver: camera.none")
    assert set(bind(reader(), unit_from_text(text, "unit.yaml")).devices) == {"neck"}


def test_an_unknown_option_of_a_world_given_in_code_is_refused() -> None:
    unit = unit_from_text(GOOD, "unit.yaml")
    with pytest.raises(BoardError) as caught:
        make_world(unit, 0, {"pth": "eight"})
    assert str(caught.value) == (
        "world pan_tilt: it has no option 'pth'. Known: background, camera, distance_m, drops, "
        "fps, ideal, latency_ms, noise_px, part, path, period_s, radius_deg, resting, servos, "
        "size_mm."
    )


# --- finding one --------------------------------------------------------------------------------


def test_the_order_is_argument_environment_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "unit.yaml").write_text(GOOD)
    monkeypatch.delenv("HAIHE_UNIT", raising=False)
    assert find_unit(None, tmp_path) == tmp_path / "unit.yaml"
    monkeypatch.setenv("HAIHE_UNIT", "some/other.yaml")
    assert find_unit(None, tmp_path) == Path("some/other.yaml")
    assert find_unit("pan-tilt", tmp_path).name == "pan-tilt.yaml"
    assert find_unit("mine.yml", tmp_path) == Path("mine.yml")
    assert find_unit("./folder/mine", tmp_path) == Path("folder/mine")
    monkeypatch.setenv("HAIHE_UNIT", "pan-tilt")
    assert load_unit(find_unit(None, tmp_path)).unit.unit == "pan-tilt"


def test_prepare_finds_the_profile_beside_the_graph(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HAIHE_UNIT", raising=False)
    graph = follow()
    graph.file = str(tmp_path / "app.py")
    (tmp_path / "unit.yaml").write_text(GOOD)
    assert prepare(graph).binding.unit.file == str(tmp_path / "unit.yaml")
    monkeypatch.setenv("HAIHE_UNIT", "pan-tilt")
    assert prepare(graph).binding.unit.unit.unit == "pan-tilt"
    assert prepare(graph, tmp_path / "unit.yaml").binding.unit.unit.unit == "head"


def test_without_any_it_is_said_where_was_looked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HAIHE_UNIT", raising=False)
    for beside, place in ((tmp_path, str(tmp_path / "unit.yaml")), (None, "unit.yaml")):
        with pytest.raises(BoardError) as caught:
            find_unit(None, beside)
        assert str(caught.value) == (
            f"no unit: no argument, no HAIHE_UNIT, and no {place}. A unit profile binds roles to "
            f"devices: write one, or name one of: {', '.join(sorted(registry.data_names('unit')))}."
        )


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(BoardError) as caught:
        find_unit("pan-tlit", None)
    assert str(caught.value) == "unit 'pan-tlit' is not known. Did you mean 'pan-tilt'?"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "none.yaml"
    with pytest.raises(BoardError) as caught:
        load_unit(find_unit(str(path), None))
    assert (
        str(caught.value) == f"{path}: cannot be read: No such file or directory. Check the path."
    )


def test_the_unit_that_comes_with_haihe_is_good() -> None:
    prepared = prepare(follow(), "pan-tilt")
    assert prepared.binding.buses(prepared.plan)


class Deaf:
    """A servo driver that cannot prepare its safe actions."""

    joints = ("pan", "tilt")


def test_a_driver_without_safe_frames_cannot_have_a_warden() -> None:
    unit = unit_from_text(GOOD.replace("on_host_death: none", "on_host_death: warden"), "unit.yaml")
    prepared = prepare(follow(), unit)
    prepared.binding.buses(prepared.plan)
    bound = prepared.binding.devices["neck"]
    spec = dataclasses.replace(bound.spec, make=lambda options: Deaf())
    deaf = replace_driver(prepared.binding, "neck", spec, bound.options)
    with pytest.raises(BoardError) as caught:
        deaf.buses(prepared.plan)
    assert str(caught.value) == (
        "unit.yaml:15:7: devices.neck.guard.on_host_death: a warden cannot make servo.sts safe: the "
        "driver has no safe_frames. Use `device` if the device has a watchdog of its own, or `none` "
        "with accept_uncontrolled."
    )
