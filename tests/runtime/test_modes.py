"""Modes, goals and ladders as they are wired and planned: what is refused, with line and cure."""

import inspect
import re
from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
import pytest

from haihe.drivers.roles import camera, servos
from haihe.runtime.contracts import fresh
from haihe.runtime.errors import HaiheError
from haihe.runtime.graph import Graph, named
from haihe.runtime.node import node
from haihe.runtime.plan.build import DeviceTiming, make_plan
from haihe.runtime.plan.model import Plan
from haihe.runtime.types import (
    Condition,
    GoalStatus,
    Image,
    JointCommand,
    JointState,
    Message,
    Reading,
)

NECK = {"neck": DeviceTiming(20_000_000)}


class Ask(Message):
    """A request."""

    at: float


@node(every="20ms")
def still(neck: Annotated[JointState, fresh("1s")], at: float = 0.1) -> JointCommand:
    return JointCommand(np.full(2, at))


@node(every="20ms")
def ok(neck: Annotated[JointState, fresh("1s")]) -> Condition:
    return Condition(True)


@node(every="50ms")
def slow_ok(neck: Annotated[JointState, fresh("1s")]) -> Condition:
    return Condition(True)


@node(every="20ms")
def go(request: Ask, neck: Annotated[JointState, fresh("1s")]) -> GoalStatus:
    return GoalStatus("running")


@node(every="50ms")
def slow_go(request: Ask) -> GoalStatus:
    return GoalStatus("running")


@node(on="request")
def on_request(request: Ask, image: Annotated[Image, fresh("1s")]) -> GoalStatus:
    return GoalStatus("running")


@node
def bright(image: Image) -> Reading:
    return Reading(float(image.data.mean()))


@node(every="20ms")
def level(neck: Annotated[JointState, fresh("1s")]) -> Reading:
    return Reading(0.0)


def said_of(wire: Callable[[Graph, Any, Any], None]) -> str:
    """The message of a graph that is wired so, or of its plan."""

    def build() -> None:
        with Graph("g") as g:
            wire(g, servos("neck"), camera("front").image)
        make_plan(g, NECK)

    with pytest.raises(HaiheError) as error:
        build()
    return str(error.value)


def double_mode(g: Graph, neck: Any, image: Any) -> None:
    drive = g.modes("drive", initial="idle")
    drive.mode("walk")
    drive.mode("walk", leave=ok(neck.state))


def initial_with_condition(g: Graph, neck: Any, image: Any) -> None:
    g.modes("drive", initial="idle").mode("idle", enter=ok(neck.state))


def condition_is_something_else(g: Graph, neck: Any, image: Any) -> None:
    g.modes("drive", initial="idle").mode("walk", enter=level(neck.state))  # type: ignore[arg-type]


def condition_of_a_device(g: Graph, neck: Any, image: Any) -> None:
    g.modes("drive", initial="idle").mode("walk", enter=neck.state)


def unknown_then(g: Graph, neck: Any, image: Any) -> None:
    drive = g.modes("drive", initial="idle")
    with drive.mode("walk", leave=ok(neck.state), then="run"):
        neck.command(still(neck.state))


def then_a_goal(g: Graph, neck: Any, image: Any) -> None:
    drive, fetch = g.modes("drive", initial="idle"), g.goal("fetch", Ask, "1s")
    with drive.mode("fetch", goal=fetch):
        fetch.report(go(fetch.request, neck.state))
    with drive.mode("walk", then="fetch"):
        neck.command(still(neck.state))


def follows_itself(g: Graph, neck: Any, image: Any) -> None:
    drive = g.modes("drive", initial="idle")
    with drive.mode("walk", leave=ok(neck.state), then="walk"):
        neck.command(still(neck.state))


def two_leaves(g: Graph, neck: Any, image: Any) -> None:
    with g.modes("drive", initial="idle").mode("walk", leave=ok(neck.state)) as walk:
        walk.leave(named("other", ok)(neck.state))


def goal_with_two_modes(g: Graph, neck: Any, image: Any) -> None:
    drive, fetch = g.modes("drive", initial="idle"), g.goal("fetch", Ask, "1s")
    with drive.mode("fetch", goal=fetch):
        fetch.report(go(fetch.request, neck.state))
    with drive.mode("again", goal=fetch):
        neck.command(still(neck.state))


def goal_without_report(g: Graph, neck: Any, image: Any) -> None:
    g.goal("fetch", Ask, "1s")
    neck.command(still(neck.state))


def two_reports(g: Graph, neck: Any, image: Any) -> None:
    fetch = g.goal("fetch", Ask, "1s")
    fetch.report(go(fetch.request, neck.state))
    fetch.report(named("other", go)(fetch.request, neck.state))


def taken_name(g: Graph, neck: Any, image: Any) -> None:
    g.goal("neck", Ask, "1s")


def taken_group(g: Graph, neck: Any, image: Any) -> None:
    g.modes("drive", initial="idle")
    named("drive", still)(neck.state)
    g.goal("drive", Ask, "1s")


def select_of_two_types(g: Graph, neck: Any, image: Any) -> None:
    drive = g.modes("drive", initial="idle")
    drive.select(still(neck.state), level(neck.state))


def select_of_nothing(g: Graph, neck: Any, image: Any) -> None:
    g.modes("drive", initial="idle").select()


def select_of_two_rates(g: Graph, neck: Any, image: Any) -> None:
    g.modes("drive", initial="idle").select(level(neck.state), bright(image))


def two_homes(g: Graph, neck: Any, image: Any) -> None:
    drive = g.modes("drive", initial="idle")
    with drive.mode("walk", enter=ok(neck.state), leave=slow_ok(neck.state)):
        neck.command(still(neck.state))


def empty_group(g: Graph, neck: Any, image: Any) -> None:
    g.modes("drive", initial="idle")
    neck.command(still(neck.state))


def request_elsewhere(g: Graph, neck: Any, image: Any) -> None:
    fetch = g.goal("fetch", Ask, "1s")
    fetch.report(go(fetch.request, neck.state))
    slow_go(fetch.request)


def request_as_trigger(g: Graph, neck: Any, image: Any) -> None:
    fetch = g.goal("fetch", Ask, "1s")
    fetch.report(on_request(fetch.request, image))


def request_as_command(g: Graph, neck: Any, image: Any) -> None:
    fetch = g.goal("fetch", JointCommand, "1s")
    neck.command(fetch.request)


def ladder_leaves_one_out(g: Graph, neck: Any, image: Any) -> None:
    vision = g.modes("vision", initial="full")
    vision.mode("small")
    vision.ladder(("full",), heat="80degc")


def ladder_begins_elsewhere(g: Graph, neck: Any, image: Any) -> None:
    vision = g.modes("vision", initial="full")
    vision.mode("small")
    vision.ladder(("small", "full"), heat="80degc")


def ladder_with_condition(g: Graph, neck: Any, image: Any) -> None:
    vision = g.modes("vision", initial="full")
    vision.mode("small", enter=ok(neck.state))
    vision.ladder(("full", "small"), heat="80degc")


def ladder_of_nothing(g: Graph, neck: Any, image: Any) -> None:
    vision = g.modes("vision", initial="full")
    vision.mode("small")
    vision.ladder(("full", "small"))


def ladder_of_words(g: Graph, neck: Any, image: Any) -> None:
    vision = g.modes("vision", initial="full")
    with vision.mode("small"):
        bright(image)
    vision.ladder(("full", "small"), misses="many")


def ladder_too_hot(g: Graph, neck: Any, image: Any) -> None:
    vision = g.modes("vision", initial="full")
    with vision.mode("small"):
        bright(image)
    vision.ladder(("full", "small"), heat="hot")


def ladder_too_busy(g: Graph, neck: Any, image: Any) -> None:
    vision = g.modes("vision", initial="full")
    with vision.mode("small"):
        bright(image)
    vision.ladder(("full", "small"), load=90)


# the wiring, the lines of it (from its def) that HERE and THERE stand for, and the message
REFUSED: list[tuple[Callable[[Graph, Any, Any], None], tuple[int, ...], str]] = [
    (double_mode, (3, 2),
     "HERE: mode walk of drive is there already (THERE). Say its conditions once; more nodes may "
     "be wired in another `with` block."),
    (initial_with_condition, (1,),
     "HERE: mode idle of drive is the initial one: it has no condition to enter and no goal. Let "
     "another mode be the initial one."),
    (condition_is_something_else, (1,),
     "HERE: mode walk of drive: enter: level gives Reading, expected Condition. Put a node between "
     "that converts."),
    (condition_of_a_device, (1,),
     "HERE: mode walk of drive: enter: neck.state is no output of a node of this graph. Give it "
     "one."),
    (unknown_then, (2,), "HERE: mode walk of drive: no mode 'run' follows it. Modes: idle, walk."),
    (then_a_goal, (4,),
     "HERE: mode walk of drive: fetch is the mode of a goal: nothing but a request of it leads "
     "there. Name another one."),
    (follows_itself, (2,), "HERE: mode walk of drive: it follows itself. Say then= another mode."),
    (two_leaves, (2,),
     "HERE: mode walk of drive has a condition to leave already (ok). Join the two in one node."),
    (goal_with_two_modes, (4,),
     "HERE: mode again of drive: goal fetch is that of fetch of drive already. A goal has one "
     "mode."),
    (goal_without_report, (1,),
     "HERE: goal fetch: nothing reports on it. Call its report() with the GoalStatus that a node "
     "gives."),
    (two_reports, (3,), "HERE: goal fetch: go reports on it already. One node does."),
    (taken_name, (1,),
     "HERE: the name 'neck' is taken. Names are the keys of files and recordings: choose another "
     "one."),
    (taken_group, (3,),
     "HERE: the name 'drive' is taken. Names are the keys of files and recordings: choose another "
     "one."),
    (select_of_two_types, (2,),
     "HERE: drive.select(): JointCommand, Reading are several types. Give it outputs of one."),
    (select_of_nothing, (1,), "HERE: drive.select(): give it outputs of nodes."),
    (select_of_two_rates, (1,),
     "HERE: drive_select: level and bright are of different rates. What is selected is made in one "
     "tick: give their nodes one period, or one trigger."),
    (two_homes, (1,),
     "HERE: modes drive are decided from condition ok of mode walk in lane every-20ms, condition "
     "slow_ok of mode walk in lane every-50ms. All of it belongs into one lane: let a node of it "
     "take the others' outputs, with fresh()."),
    (empty_group, (1,),
     "HERE: modes drive: no node is wired in any of them. Wire some inside `with NAME.mode(...):`, "
     "or leave the group out."),
    (request_elsewhere, (3,),
     "HERE: node slow_go of lane every-50ms takes the request of goal fetch, which is reported in "
     "lane every-20ms. Pass on what it needs as an output of a node of that lane."),
    (request_as_trigger, (2,),
     "HERE: node on_request: its trigger request is a goal's request, which is there or not. Let "
     "another input trigger it, or give it a period."),
    (request_as_command, (2,),
     "HERE: neck.command: fetch.request is a goal's request. Connect a node's output."),
    (ladder_leaves_one_out, (3,),
     "HERE: ladder of vision: order names full, the modes are full, small. Name each once."),
    (ladder_begins_elsewhere, (3,),
     "HERE: ladder of vision: it begins at small, the group at full. Let the first be the initial "
     "mode."),
    (ladder_with_condition, (3, 2),
     "HERE: ladder of vision: mode small has a condition or a goal (THERE). A ladder decides "
     "alone: use another group for the rest."),
    (ladder_of_nothing, (3,),
     "HERE: ladder of vision: it looks at nothing. Say misses, heat, load or battery."),
    (ladder_of_words, (4,),
     "HERE: ladder of vision: misses='many': say how many in which time: \"3 in 1s\"."),
    (ladder_too_hot, (4,),
     "HERE: ladder of vision: heat='hot': say a temperature: \"80degc\"."),
    (ladder_too_busy, (4,), "HERE: ladder of vision: load=90 is not within 0..1."),
]  # fmt: skip


@pytest.mark.parametrize(
    ("wire", "places", "message"), REFUSED, ids=[wire.__name__ for wire, _, _ in REFUSED]
)
def test_what_is_refused(
    wire: Callable[[Graph, Any, Any], None], places: tuple[int, ...], message: str
) -> None:
    line = inspect.getsourcelines(wire)[1]
    for name, place in zip(("HERE", "THERE"), places, strict=False):
        message = re.sub(rf"\b{name}\b", f"{__file__}:{line + place}", message)
    assert said_of(wire) == message


def plan_of(wire: Callable[[Graph, Any, Any], None]) -> Plan:
    with Graph("g") as g:
        wire(g, servos("neck"), camera("front").image)
    assert g.warnings == []
    return make_plan(g, NECK)


def test_a_plan_says_modes_goals_and_what_holds() -> None:
    def wire(g: Graph, neck: Any, image: Any) -> None:
        drive, fetch = g.modes("drive", initial="idle"), g.goal("fetch", Ask, "1500ms")
        with drive.mode("walk", enter=ok(neck.state), auto=False) as walk:
            one = still(neck.state)
            walk.leave(named("tired", ok)(neck.state), then="rest")
        with drive.mode("rest"):
            other = named("rest", still)(neck.state)
        with drive.mode("fetch", goal=fetch):
            fetch.report(go(fetch.request, neck.state))
        with drive.mode("walk"):  # more of it
            last = named("more", still)(neck.state)
        neck.command(drive.select(one, other, last))

    plan = plan_of(wire)
    (group,) = plan.groups
    assert (group.initial, group.home, group.lanes) == ("idle", "every-20ms", ("every-20ms",))
    assert [(m.name, m.enter, m.auto, m.leave, m.then, m.goal) for m in group.modes] == [
        ("idle", "", True, "", "idle", ""),
        ("walk", "ok", False, "tired", "rest", ""),
        ("rest", "", True, "", "idle", ""),
        ("fetch", "", True, "", "idle", "fetch"),
    ]
    (goal,) = plan.goals
    assert (goal.lane, goal.request, goal.status) == ("every-20ms", "fetch.request", "go")
    assert goal.timeout_ns == 1_500_000_000
    (task,) = (lane.task for lane in plan.lanes if lane.task.buses)
    assert task.buses[0].held_by == ("drive",)
    assert task.buses[0].idle == (("drive", "idle"), ("drive", "fetch"))
    modes = {step.name: step.modes for step in task.steps if step.modes}
    assert modes == {
        "still": (("drive", "walk"),),
        "tired": (("drive", "walk"),),
        "rest": (("drive", "rest"),),
        "go": (("drive", "fetch"),),
        "more": (("drive", "walk"),),
    }


def test_a_periodic_node_behind_a_ladder_does_not_hold_at_its_steps() -> None:
    """Its command grows old by itself: a hold would hide that nothing is seen any more."""

    @node(every="20ms")
    def follow(seen: Annotated[Reading, fresh("200ms")]) -> JointCommand:
        return JointCommand(np.zeros(2))

    def wire(g: Graph, neck: Any, image: Any) -> None:
        vision = g.modes("vision", initial="full")
        with vision.mode("full"):
            one = bright(image)
        with vision.mode("small"):
            other = named("small", bright)(image)
        vision.ladder(("full", "small"), load=0.9, settle="2s")
        neck.command(follow(vision.select(one, other)))

    plan = plan_of(wire)
    assert [b.held_by for lane in plan.lanes for b in lane.task.buses] == [()]
    (group,) = plan.groups
    assert (group.home, group.lanes) == ("", ("front",))
    assert group.ladder is not None
    assert (group.ladder.load, group.ladder.settle_ns) == (0.9, 2_000_000_000)


@node(blocking=True)
def upload(value: Reading) -> Reading:
    return value


@node
def after(value: Reading) -> Reading:
    return value


@node(every="1s", blocking=True)
def ask_server(neck: Annotated[JointState, fresh("1s")]) -> JointCommand:
    return neck.hold()


def test_a_blocking_node_gets_a_lane_and_a_thread_of_its_own() -> None:
    with Graph("g") as g:
        after(upload(bright(camera("front").image)))
    plan = make_plan(g, {})
    assert [[step.name for step in lane.task.steps] for lane in plan.lanes] == [
        ["bright"],
        ["upload", "after"],
    ]
    assert [(t.name, t.lanes) for t in plan.threads] == [
        ("upload", ("upload",)),
        ("front", ("front",)),
    ]
    assert plan.lanes[1].task.steps[0].recorded  # what it waited for comes from the recording
    named_so = Graph("h")
    with named_so:
        both = upload(bright(camera("front").image))
        named_so.thread("slow", both)
    assert ("slow", ("upload",)) in [(t.name, t.lanes) for t in make_plan(named_so, {}).threads]


def test_a_blocking_node_commands_nothing() -> None:
    with Graph("g") as g:
        neck = servos("neck")
        neck.command(ask_server(neck.state))
    line = inspect.getsourcelines(test_a_blocking_node_commands_nothing)[1] + 3
    with pytest.raises(HaiheError) as error:
        make_plan(g, NECK)
    assert str(error.value) == (
        f"{__file__}:{line}: node ask_server is blocking, and its lane would cycle neck: while it "
        "waits, nothing would guard neck. Let another periodic node command it, which samples what "
        "ask_server gives with fresh()."
    )
