"""From a graph to a plan: triggers, domains, order; every refusal with its line and cure."""

import re
from pathlib import Path

import pytest
from tests.typing.user_file import in_graph, load, said

from haihe.runtime.errors import PlanError
from haihe.runtime.plan.build import DeviceTiming, make_plan, plain
from haihe.runtime.plan.model import Plan
from haihe.runtime.traced import Ref

MS = 1_000_000

DEFINITIONS = """
@node(every="20ms")
def slow(light: Annotated[Reading, fresh("1s")]) -> Reading:
    return light


@node(every="10ms")
def fast(light: Annotated[Reading, fresh("1s")]) -> Reading:
    return light


@node
def aged(value: Annotated[Reading, fresh("1s")]) -> Reading:
    return value


@node
def two(a: Reading, b: Reading) -> Reading:
    return a


@node(on="b")
def on_b(a: Reading, b: Reading | None = None) -> Reading:
    return a


@node(on="b")
def mixed(a: Image, b: Image) -> Image:
    return a


@node
def line_up(value: Annotated[Reading, fifo(3)]) -> Reading:
    return value


@node
def nod(state: JointState) -> JointCommand:
    return state.hold()


"""


def plan_of(folder: Path, code: str, **cycles: int) -> Plan:
    module = load(folder, DEFINITIONS + in_graph(code))
    return make_plan(module.g, {role: DeviceTiming(ns) for role, ns in cycles.items()})


# name, code, message
REFUSED = [
    (
        "missing trigger",
        "aged(light(cam.image))  # here",
        "HERE: node aged: what triggers it? Inputs without fresh(): none; exactly one would be "
        'the trigger. Say @node(every="20ms") or @node(on="input").',
    ),
    (
        "two triggers",
        "two(light(cam.image), light(cam.image))  # here",
        "HERE: node two: what triggers it? Inputs without fresh(): 2 (a, b); exactly one would be "
        'the trigger. Say @node(every="20ms") or @node(on="input").',
    ),
    (
        "only a feedback",
        "previous, feed = feedback(Reading(0.0))\nfeed(hold(previous))  # here",
        "HERE: node hold: what triggers it? Inputs without fresh(): none; exactly one would be "
        'the trigger. Say @node(every="20ms") or @node(on="input").',
    ),
    (
        "a queue from a feedback",
        "previous, feed = feedback(Reading(0.0))\nfeed(line_up(previous))  # here",
        "HERE: node line_up: what triggers it? Inputs without fresh(): none; exactly one would be "
        'the trigger. Say @node(every="20ms") or @node(on="input").',
    ),
    (
        "trigger that is not connected",
        "on_b(light(cam.image))  # here",
        "HERE: node on_b: its trigger b is not connected. Connect it.",
    ),
    (
        "trigger that is a feedback",
        "previous, feed = feedback(Reading(0.0))\nfeed(on_b(light(cam.image), previous))  # here",
        "HERE: node on_b: its trigger b is a feedback, which only remembers. Let another input "
        "trigger it, or give it a period.",
    ),
    (
        "feedback between rates",
        "previous, feed = feedback(Reading(0.0))  # here\n"
        "two(light(cam.image), previous)\nfeed(slow(light(cam.image)))",
        "HERE: feedback_1 is fed by slow of another rate. A feedback stays inside one tick: "
        "feed it from a node of the same rate, or keep what it remembers inside one node.",
    ),
    (
        "feedback from a device",
        "previous, feed = feedback(Image(np.zeros(1)))  # here\n"
        "mixed(previous, cam.image)\nfeed(cam.image)",
        "HERE: feedback_1 is fed by front.image of another rate. A feedback stays inside one tick: "
        "feed it from a node of the same rate, or keep what it remembers inside one node.",
    ),
    (
        "bus without a cycle",
        "neck.command(nod(neck.state))",
        "HERE: device neck: no periodic node commands it, so its own cycle must be known. Give "
        "`cycle: 20ms` in the unit profile.",
    ),
    ("empty graph", "pass", "FILE: graph app has no nodes. Wire one."),
]


@pytest.mark.parametrize(
    ("code", "message"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED]
)
def test_graph_that_cannot_be_planned(tmp_path, code, message):
    source = DEFINITIONS + in_graph(code)
    if "# here" not in source:
        source = source.replace('servos("neck")', 'servos("neck")  # here', 1)
    graph = load(tmp_path, source).g
    cycle = {} if "no periodic node" in message else {"neck": DeviceTiming(20 * MS)}
    with pytest.raises(PlanError) as caught:
        make_plan(graph, cycle)
    assert str(caught.value) == said(tmp_path, message)


def cyclic(folder, first: str, second: str):
    """Two nodes whose inputs are each other: no user can wire it, a file can say it."""
    code = f"one = {first}(light(cam.image))  # here\n{second}(one)  # there"
    graph = load(folder, DEFINITIONS + in_graph(code)).g
    one, other = list(graph.nodes)[1:]
    port = next(iter(graph.nodes[one].inputs))
    graph.nodes[one].inputs[port] = Ref(other, "out", "node")
    return graph


def test_nodes_that_trigger_each_other(tmp_path):
    graph = cyclic(tmp_path, "hold", "hold")
    with pytest.raises(PlanError) as caught:
        make_plan(graph, {"neck": DeviceTiming(20 * MS)})
    assert str(caught.value) == said(
        tmp_path,
        "HERE and THERE: the nodes hold -> hold_2 -> hold trigger each other. Give one of them a "
        "period, or close the loop with feedback().",
    )


def test_nodes_that_depend_on_each_other_in_one_tick(tmp_path):
    graph = cyclic(tmp_path, "slow", "hold")
    with pytest.raises(PlanError) as caught:
        make_plan(graph, {"neck": DeviceTiming(20 * MS)})
    assert str(caught.value) == said(
        tmp_path,
        "HERE and THERE: slow and hold depend on each other in one tick. Close the loop with "
        "feedback().",
    )


# --- what is planned ------------------------------------------------------------------------------


def shape(plan: Plan) -> dict[str, list[str]]:
    return {lane.name: [step.name for step in lane.task.steps] for lane in plan.lanes}


def kinds(plan: Plan) -> dict[str, str]:
    return {
        f"{edge.source} -> {edge.target}": "trigger" if edge.trigger else edge.kind
        for edge in plan.edges
    }


def test_the_example(tmp_path):
    code = 'neck.command(aim(detector("part")(cam.image), neck.state))'
    plan = plan_of(tmp_path, code, neck=20 * MS)
    assert shape(plan) == {"every-20ms": ["aim"], "front": ["part"]}
    assert kinds(plan) == {
        "part -> aim.parts": "slot",
        "neck.state -> aim.neck": "local",
        "aim -> neck.command": "local",
        "front.image -> part.image": "trigger",
    }
    control, vision = (lane.task for lane in plan.lanes)
    assert [bus.role for bus in control.buses] == ["neck"]
    assert (control.reads, control.publishes) == (("part",), ())
    assert (vision.reads, vision.publishes) == (("front.image",), ("part",))
    assert plan.edges[0].fresh_ns == 120 * MS
    assert plan.streams == ("front",)


def test_a_chain_is_in_the_lane_of_its_root_in_order(tmp_path):
    code = "dim = light(cam.image)\nhold(slow(dim))\nMean()(hold(dim))\nfast(dim)"
    plan = plan_of(tmp_path, code, neck=50 * MS)
    assert shape(plan) == {
        "every-10ms": ["fast"],
        "every-20ms": ["slow", "hold"],
        "every-50ms": [],  # the bus, by its own cycle
        "front": ["light", "hold_2", "Mean"],
    }


def test_a_bus_belongs_to_the_lane_that_commands_it(tmp_path):
    source = "@node(every='10ms')\ndef beat(s: Annotated[JointState, fresh('1s')]) -> JointState:\n"
    source += "    return s\n\n\n"
    module = load(
        tmp_path, DEFINITIONS + source + in_graph("neck.command(nod(hold(beat(neck.state))))")
    )
    plan = make_plan(module.g, {"neck": DeviceTiming(20 * MS)})
    assert shape(plan) == {"every-10ms": ["beat", "hold", "nod"]}
    assert plan.lanes[0].task.buses[0].command_edge >= 0


def test_two_rates_that_round_to_one_name_are_two_lanes(tmp_path):
    source = "".join(
        f"@node(every={every!r})\ndef n{number}() -> Reading:\n    return Reading(0.0)\n\n\n"
        for number, every in enumerate(["60Hz", "16.67ms", "16.67ms"])
    )
    module = load(tmp_path, source + 'with Graph("app") as g:\n    n0()\n    n1()\n    n2()\n')
    plan = make_plan(module.g, {})
    assert shape(plan) == {"every-16.67ms": ["n0"], "every-16.67ms_2": ["n1", "n2"]}
    assert [lane.task.name for lane in plan.lanes] == [lane.name for lane in plan.lanes]


def test_a_lane_that_is_called_like_a_numbered_one_keeps_its_name(tmp_path):
    source = "@node(every='20ms')\ndef beat() -> Reading:\n    return Reading(0.0)\n\n\n"
    wired = 'with Graph("app") as g:\n    one = named("every-20ms", beat)()\n'
    wired += '    g.thread("work", one, named("every-20ms_2", beat)())\n    beat()\n'
    module = load(tmp_path, source + wired)
    assert shape(make_plan(module.g, {})) == {
        "every-20ms": ["every-20ms"],
        "every-20ms_2": ["every-20ms_2"],
        "every-20ms_3": ["beat"],
    }


def test_a_feedback_is_a_loop_edge(tmp_path):
    code = "before, feed = feedback(Reading(0.0))\nfeed(on_b(before, light(cam.image)))"
    plan = plan_of(tmp_path, code, neck=20 * MS)
    loop = next(edge for edge in plan.edges if edge.kind == "loop")
    assert (loop.source, loop.target, loop.fed_by) == ("feedback_1", "on_b.a", "on_b")


def test_a_plan_says_the_same_each_time(tmp_path):
    code = 'aim(detector("part")(cam.image), neck.state, gain=0.25)'
    one, other = (plan_of(tmp_path, code, neck=20 * MS) for _ in range(2))
    assert one.to_json() == other.to_json()
    assert re.fullmatch("[0-9a-f]{64}", one.hash)
    changed = plan_of(tmp_path, code.replace("0.25", "0.5"), neck=20 * MS)
    assert changed.hash != one.hash
    text = one.describe()
    assert text.startswith(f"plan of app  {one.hash[:12]}\n  lane every-20ms")
    assert "part -> aim.parts            slot  fresh 120 ms" in text


def test_constants_become_plain_data_without_addresses(tmp_path):
    module = load(tmp_path, "class Thing: ...\n\n\ndef rule(x: int) -> int:\n    return x\n")
    import numpy as np

    assert plain(np.arange(3)) == [0, 1, 2]
    assert plain((1, "a", None, 2.5)) == (1, "a", None, 2.5)
    assert plain(module.Precise(1.0)) == {"value": 1.0, "quality": "good", "sigma": 0.0}
    assert plain(module.rule) == "app:rule"
    assert plain(module.Thing()) == "<app.Thing object>"
    assert plain([module.rule]) == plain([module.rule])
