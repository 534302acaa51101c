"""Modes in `check`: of a group one is active in a firing, so the longest counts."""

from typing import Annotated

from tests.pipelines.check.graphs import MS, NECK, measured, reported

from haihe.drivers.roles import servos
from haihe.pipelines.check.budgets import Board, node_budgets
from haihe.pipelines.check.cures import _budget
from haihe.pipelines.check.flow import Flow
from haihe.pipelines.check.judge import Case
from haihe.pipelines.check.timing_of import timing_of, work
from haihe.pipelines.launch import Prepared, prepare
from haihe.runtime.contracts import fresh
from haihe.runtime.graph import Graph, named
from haihe.runtime.node import node
from haihe.runtime.types import JointCommand, JointState


@node(every="20ms", deadline="15ms")
def watch(neck: Annotated[JointState, fresh("45ms")]) -> JointState:
    return neck


@node
def move(neck: JointState) -> JointCommand:
    return neck.hold()


def moded() -> Prepared:
    """watch, then one of two modes; the second has two nodes."""
    with Graph("moded") as graph:
        neck = servos("neck")
        seen = watch(neck.state)
        drive = graph.modes("drive", initial="still")
        with drive.mode("still"):
            still = named("still", move)(seen)
        with drive.mode("home"):
            where = named("look", move)(seen)
            home = named("home", turn)(where)
        neck.command(drive.select(still, home))
    return prepare(graph, "pan-tilt")


@node
def turn(command: JointCommand) -> JointCommand:
    return command


BUDGETS = [
    measured("watch", 1, 1),
    measured("still", 5, 1),
    measured("look", 2, 2),
    measured("home", 4, 2),
]


def test_the_longest_mode_counts_for_time_and_for_the_interpreter() -> None:
    made = moded()
    known = node_budgets(made, Board("x"), {b.name: b.ns or 0 for b in BUDGETS})
    selects = {name: budget for name, budget in known.items() if budget.said == "calls nothing"}
    assert [budget.ns for budget in selects.values()] == [0]
    budgets = {b.name: b for b in BUDGETS} | selects
    [lane] = made.plan.lanes
    assert work(lane, budgets) == (7 * MS, 5 * MS)  # of `home`, not 12
    found = reported([*budgets.values()], made=made)
    assert found.lanes[0].worst_ns == 7 * MS + 900_000
    assert (
        "of drive one mode is active at a time, of which the longest counts; with a change of mode "
        "the ages of its nodes begin anew"
    ) in found.assumptions


def test_a_faster_node_of_a_shorter_mode_is_no_cure() -> None:
    made = moded()
    budgets = {b.name: b for b in BUDGETS}
    budgets |= {n: b for n, b in node_budgets(made, Board("x"), {}).items() if b.ns == 0}
    timing = timing_of(made.plan, budgets, {"neck": NECK}, {})
    case = Case(made.graph, made.plan, Flow(made.plan), budgets, {}, timing, None)
    [lane] = made.plan.lanes
    assert _budget(case, "still", 1 * MS).lane(lane.name) == timing.lane(lane.name)
    longer = _budget(case, "still", 8 * MS).lane(lane.name)
    assert longer.worst_ns == timing.lane(lane.name).worst_ns + 2 * MS
    shorter = _budget(case, "home", 1 * MS).lane(lane.name)
    assert shorter.worst_ns == timing.lane(lane.name).worst_ns - 1 * MS  # then `still` is longest
