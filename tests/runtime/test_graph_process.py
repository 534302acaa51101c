"""`Graph.process`: what a name covers, and what is refused there or by the planner."""

import inspect
from typing import Annotated, Any

import pytest

from haihe.drivers.roles import camera
from haihe.runtime.contracts import fresh
from haihe.runtime.errors import PlanError, WiringError
from haihe.runtime.graph import Graph
from haihe.runtime.node import node
from haihe.runtime.plan.build import Placement, make_plan
from haihe.runtime.types import Image, Reading


@node
def see(image: Image) -> Reading:
    return Reading(0.0)


@node
def refine(seen: Reading) -> Reading:
    return seen


@node(every="20ms")
def act(seen: Annotated[Reading, fresh("1s")]) -> Reading:
    return seen


@node(every="20ms")
def beat() -> Reading:
    return Reading(0.0)


def wired(**processes: tuple[Any, ...]) -> Graph:
    with Graph("g") as g:
        act(refine(see(camera("front").image)))
        beat()
        for name, nodes in processes.items():
            g.process(name, *nodes)
    return g


def threads(graph: Graph, places: dict[str, Placement] | None = None) -> dict[str, str]:
    return {t.name: t.process for t in make_plan(graph, {}, places).threads}


def line_of(offset: int = 0) -> str:
    caller = inspect.stack()[1]
    return f"{caller.filename}:{caller.lineno + offset}"


def test_one_node_names_all_of_its_thread_by_its_output_or_its_name() -> None:
    with Graph("g") as g:
        seen = see(camera("front").image)
        act(refine(seen))
        line = line_of(1)
        g.process("vision", seen)
    assert threads(g) == {"front": "vision", "every-20ms": ""}
    use = g.processes["vision"]
    assert (use.name, use.nodes, use.line) == ("vision", ("see",), line)
    assert threads(wired(vision=("refine",))) == {"front": "vision", "every-20ms": ""}
    assert threads(wired(vision=("refine", "see"))) == {"front": "vision", "every-20ms": ""}


def test_two_processes_and_what_nobody_names() -> None:
    assert threads(wired(a=("see",), b=("beat",))) == {"front": "a", "every-20ms": "b"}
    assert threads(wired(all=("see", "act"))) == {"front": "all", "every-20ms": "all"}
    assert threads(wired()) == {"front": "", "every-20ms": ""}


def test_lanes_that_share_a_thread_share_its_process() -> None:
    with Graph("g") as g:
        seen = see(camera("front").image)
        done = act(seen)
        g.thread("both", seen, done)
        g.process("away", done)
    plan = make_plan(g, {})
    assert [(t.name, t.lanes, t.process) for t in plan.threads] == [
        ("both", ("see", "act"), "away")
    ]
    assert {plan.process_of(lane.name) for lane in plan.lanes} == {"away"}
    assert "  thread both         see, act (priority), process away" in plan.describe()


def test_the_unit_has_the_last_word() -> None:
    places = {"front": Placement(process="eyes")}
    assert threads(wired(vision=("see",)), places) == {"front": "eyes", "every-20ms": ""}


def test_the_process_is_a_part_of_the_plan_and_of_its_hash() -> None:
    hashes = {make_plan(wired(**names), {}).hash for names in ({}, {"a": ("see",)})}
    hashes |= {make_plan(wired(b=("see",)), {}).hash, make_plan(wired(a=("act",)), {}).hash}
    assert len(hashes) == 4


@pytest.mark.parametrize(
    ("name", "nodes", "message"),
    [
        ("vision", (), "process vision: name the nodes that run in it."),
        ("main", ("see",), "process main exists already. Choose another name."),
        ("old", ("see",), "process old exists already. Choose another name."),
        (
            "a b",
            ("see",),
            "'a b' is not a name: it is the key of files and recordings. Use letters, digits, '_' "
            "and '-'.",
        ),
        (
            "vision",
            ("sea",),
            "process vision: 'sea' is no node of this graph. Give it what node calls gave; nodes: "
            "see, beat.",
        ),
        (
            "vision",
            (3,),
            "process vision: 3 is no node of this graph. Give it what node calls gave; nodes: see, "
            "beat.",
        ),
    ],
)
def test_what_is_refused_where_it_is_said(name: str, nodes: tuple[Any, ...], message: str) -> None:
    with Graph("g") as g:
        see(camera("front").image)
        g.process("old", beat())
        with pytest.raises(WiringError) as error:
            g.process(name, *nodes)
        line = line_of(-1)
    assert str(error.value) == f"{line}: {message}"
    assert list(g.processes) == ["old"]


def test_a_device_runs_in_no_process_by_itself() -> None:
    with Graph("g") as g:
        front = camera("front").image
        see(front)
        with pytest.raises(WiringError) as error:
            g.process("vision", front)
        line = line_of(-1)
    assert str(error.value) == (
        f"{line}: process vision: 'front.image' is no node of this graph. Give it what node calls "
        "gave; nodes: see."
    )


def test_two_processes_for_one_thread_are_refused() -> None:
    with Graph("g") as g:
        seen = see(camera("front").image)
        act(refine(seen))
        g.process("a", seen)
        g.process("b", "refine")
        line = line_of(-1)
    with pytest.raises(PlanError) as error:
        make_plan(g, {})
    first = g.processes["a"].line
    assert str(error.value) == (
        f"{first} and {line}: the processes a and b both name nodes of thread front. A thread runs "
        "in one process: name it in one of them."
    )
    # the unit may decide it
    assert threads(g, {"front": Placement(process="b")}) == {"front": "b", "every-20ms": ""}
