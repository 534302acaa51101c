"""Modes, goals and ladders of a YAML graph: what it wires, what it writes, what it refuses."""

import json

import jsonschema
import pytest
from tests.pipelines.graph_file.files import refusal, write

from haihe.pipelines.graph_file import dump_graph, load_graph_file
from haihe.pipelines.graph_file import schema as graph_schema
from haihe.pipelines.launch import prepare, simulate
from haihe.pipelines.robot import goals
from haihe.runtime import yaml_config
from haihe.runtime.graph import Graph

NODES = "haihe.pipelines.robot.goals"
HEAD = f"""\
graph: head
devices: {{front: camera, neck: servos}}
params: {{load: 0.9}}
goals:
  home: {{request: {NODES}:HomeRequest, timeout: 6s, report: go.status}}
modes:
  drive:
    initial: idle
    modes:
      follow: {{enter: watch.seen, leave: watch.lost}}
      home: {{goal: home}}
"""
VISION = """\
  vision:
    initial: full
    modes: {small: {}}
    ladder: {order: [full, small], misses: 3 in 1s, heat: 80degc, load: $load, battery: 0.2}
"""
BODY = f"""\
nodes:
  command: {{select: [pursue, go.command]}}
  full: {{model: part, in: front.image, mode: {{vision: full}}}}
  small: {{model: part, in: front.image, params: {{threshold: 0.4}}, mode: {{vision: small}}}}
  parts: {{select: [full, small]}}
  watch: {{node: {NODES}:Watch, in: parts}}
  pursue: {{node: pursue, in: {{parts: parts, neck: neck.state}}, mode: {{drive: follow}}}}
  go:
    node: {NODES}:GoTo
    in: {{request: home.request, neck: neck.state}}
    mode: {{drive: home}}
commands: {{neck: command}}
"""
WHOLE = HEAD + VISION + BODY


def plan_hash(graph: Graph) -> str:
    return prepare(graph, "pan-tilt").plan.hash


def test_a_file_wires_modes_goals_and_a_ladder() -> None:
    graph = load_graph_file(write(WHOLE), {"load": 0.8})
    plan = prepare(graph, "pan-tilt").plan
    drive, vision = plan.groups
    assert [(m.name, m.enter, m.leave, m.then, m.goal) for m in drive.modes] == [
        ("idle", "", "", "idle", ""),
        ("follow", "watch.seen", "watch.lost", "idle", ""),
        ("home", "", "", "idle", "home"),
    ]
    assert (drive.home, vision.home) == ("every-20ms", "")
    assert vision.ladder is not None
    assert vision.ladder.order == ("full", "small")
    assert (vision.ladder.misses, vision.ladder.window_ns) == (3, 1_000_000_000)
    assert (vision.ladder.heat_degc, vision.ladder.load, vision.ladder.battery) == (80.0, 0.8, 0.2)
    (goal,) = plan.goals
    assert (goal.request, goal.status, goal.timeout_ns) == ("home.request", "go.status", 6 * 10**9)
    steps = {s.name: s for lane in plan.lanes for s in lane.task.steps}
    assert steps["command"].select
    assert steps["go"].modes == (("drive", "home"),)


def test_what_is_written_wires_the_same_plan() -> None:
    for graph in (load_graph_file(write(WHOLE)), goals.build()):
        text = dump_graph(graph)
        again = load_graph_file(write(text, "again.yaml"))
        assert plan_hash(again) == plan_hash(graph)
        assert dump_graph(again) == text
        assert again.warnings == []


def test_the_schema_takes_such_files() -> None:
    validator = jsonschema.Draft202012Validator(json.loads(graph_schema.schema()))
    for text in (WHOLE, dump_graph(goals.build())):
        assert list(validator.iter_errors(yaml_config.loads(text, dict))) == []


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ("{goal: home}", "{gaol: home}", "modes/drive/modes/home"),
        ("    initial: full\n", "", "modes/vision"),
        ("timeout: 6s, ", "", "goals/home"),
        ("select: [full, small]}", "select: [full], model: part}", "nodes/parts"),
        ("battery: 0.2", "battery: 20", "modes/vision/ladder/battery"),
    ],
)
def test_the_schema_refuses_what_is_wrong(old: str, new: str, place: str) -> None:
    validator = jsonschema.Draft202012Validator(json.loads(graph_schema.schema()))
    assert old in WHOLE
    errors = validator.iter_errors(yaml_config.loads(WHOLE.replace(old, new), dict))
    assert place in {"/".join(map(str, error.absolute_path)) for error in errors}


REFUSED = {
    "an unknown group": (
        "mode: {drive: home}", "mode: {drives: home}",
        "follow.yaml:26:20: nodes.go.mode.drives: no modes 'drives'. Did you mean 'drive'?",
    ),
    "an unknown mode": (
        "mode: {drive: home}", "mode: {drive: house}",
        "follow.yaml:26:19: nodes.go.mode.drive: drive has no mode 'house'. Did you mean 'home'?",
    ),
    "an unknown goal": (
        "{goal: home}", "{goal: hom}",
        "follow.yaml:11:20: modes.drive.modes.home.goal: no goal 'hom'. Did you mean 'home'?",
    ),
    "a request that is no message": (
        "goals:HomeRequest", "goals:GoToo",
        "follow.yaml:5:19: goals.home.request: haihe.pipelines.robot.goals has no 'GoToo'. Did you "
        "mean 'GoTo'?",
    ),
    "a condition that is none": (
        "leave: watch.lost", "leave: pursue",
        "follow.yaml:10:7: mode follow of drive: leave: pursue gives JointCommand, expected "
        "Condition. Put a node between that converts.",
    ),
    "a report that is none": (
        "report: go.status", "report: go.command",
        "follow.yaml:5:81: goal home: go.command gives JointCommand, expected GoalStatus. Put a "
        "node between that converts.",
    ),
    "a select of two types": (
        "[full, small]}\n  watch", "[full, go.command]}\n  watch",
        "follow.yaml:20:3: select parts: Detections, JointCommand are several types. Give it "
        "outputs of one.",
    ),
    "a select with inputs": (
        "{select: [full, small]}", "{select: [full, small], in: front.image}",
        "follow.yaml:20:3: nodes.parts: a select has no 'in'. Name its sources in the list.",
    ),
    "nothing to call": (
        "{select: [full, small]}", "{mode: {drive: follow}}",
        "follow.yaml:20:3: nodes.parts: write node, model, graph or select.",
    ),
    "a ladder in words": (
        "load: $load", "load: high",
        "follow.yaml:15:73: modes.vision.ladder.load: found 'high', expected a number.",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name: str) -> None:
    old, new, message = REFUSED[name]
    assert WHOLE.count(old) == 1
    assert refusal(WHOLE.replace(old, new)) == message


def test_a_sub_graph_may_be_in_a_mode_and_have_modes_of_its_own() -> None:
    write(
        "inputs: {image: Image}\n"
        "outputs: {parts: best}\n"
        "modes: {eye: {initial: full, modes: {small: {}}, "
        "ladder: {order: [full, small], load: 0.9}}}\n"
        "nodes:\n"
        "  full: {model: part, in: image, mode: {eye: full}}\n"
        "  small: {model: part, in: image, mode: {eye: small}}\n"
        "  best: {select: [full, small]}\n",
        "eye.yaml",
    )
    graph = load_graph_file(
        write(
            "graph: head\n"
            "devices: {front: camera}\n"
            "modes: {look: {initial: idle, modes: {on: {}}}}\n"
            "nodes:\n"
            "  left: {graph: eye.yaml, in: front.image, mode: {look: 'on'}}\n"
            f"  watch: {{node: {NODES}:Watch, in: left.parts}}\n"
        )
    )
    assert list(graph.groups) == ["look", "left/eye"]
    assert graph.nodes["left/full"].modes == (("look", "on"), ("left/eye", "full"))
    assert graph.nodes["left/best"].modes == (("look", "on"),)
    assert graph.nodes["watch"].modes == ()
    done = simulate(graph, "500ms", unit="pan-tilt", world={"ideal": True})
    nodes = done.executor.assembly.nodes
    assert (nodes["left/full"].called, nodes["left/full"].off) == (0, 15)
