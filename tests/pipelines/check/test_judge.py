"""Bounds to verdicts: the design's example, what fails or is unknown, loops that are none."""

from typing import Annotated

import msgspec
import pytest
from tests.pipelines.check.graphs import (
    FRONT,
    MS,
    NECK,
    assert_within,
    measured,
    prepared,
    reported,
)

from haihe.boards.unit import unit_from_text
from haihe.drivers.roles import camera, servos
from haihe.pipelines.check import check
from haihe.pipelines.check.cures import Changes, cures, headroom
from haihe.pipelines.check.flow import Flow
from haihe.pipelines.check.judge import Case, chains, promises
from haihe.pipelines.check.report import Budget, Verdict, weakest
from haihe.pipelines.check.timing_of import Source, bound, timing_of
from haihe.pipelines.check.words import words
from haihe.pipelines.launch import prepare, simulate
from haihe.runtime.contracts import fresh, sometimes
from haihe.runtime.graph import Graph
from haihe.runtime.node import node
from haihe.runtime.plan.model import Plan, ThreadPlan
from haihe.runtime.types import Image, JointCommand, JointState, Reading

BUDGETS = {"face": measured("face", 27, 0.7), "aim": measured("aim", 1, 1)}


def apart(budgets: dict[str, Budget] = BUDGETS, word: str = "holds (estimated)") -> Case:
    """The example with an interpreter for each thread, as the design's figures have it."""
    made = prepared()
    flow = Flow(made.plan)
    timing = timing_of(made.plan, budgets, {"neck": NECK}, {"front": Source("front", FRONT)})
    threads = tuple(msgspec.structs.replace(t, process="") for t in timing.threads)
    timing = msgspec.structs.replace(timing, threads=threads)
    verdict = Verdict(word)  # type: ignore[arg-type]
    words = {lane.name: verdict for lane in made.plan.lanes}
    return Case(made.graph, made.plan, flow, budgets, words, timing, bound(timing, flow))


def test_the_design_s_example_has_the_design_s_ages() -> None:
    case = apart()
    given = promises(case)
    chain = chains(case, given)[0]
    assert chain.path == ["front", "face", "aim", "neck"]
    assert (chain.reading_ns, chain.sent_ns, chain.oldest_ns) == (
        86_333_333, 88_233_333, 108_233_333,
    )  # fmt: skip
    assert [(part.label, part.ns) for part in chain.parts] == [
        ("next frame", 33_333_333), ("capture→host", 26 * MS), ("face", 27 * MS),
        ("next tick", 20 * MS), ("tick+bus", 1_900_000),
    ]  # fmt: skip
    assert [(p.kind, p.subject, p.bound, p.limit, str(p.verdict)) for p in given] == [
        ("deadline", "aim", 1_540_000, 5 * MS, "holds (estimated)"),
        ("fresh", "aim.faces", 86_333_333, 120 * MS, "holds (estimated)"),
        ("fresh", "aim.neck", 540_000, 25 * MS, "holds (estimated)"),
    ]


def test_twice_the_frame_rate_looks_like_a_cure_and_is_none() -> None:
    case = apart()
    given = promises(case)
    chain = chains(case, given)[0]
    changes = Changes(case)
    found = cures(changes, chain, given)
    assert [(cure.change, cure.effect, cure.helps) for cure in found] == [
        ("front at 60 Hz", "age at reading rises from 86.3 to 96.7 ms", False),
    ]
    room = headroom(changes, chain, given)
    assert room is not None
    assert (room.node, room.budget_ns, room.jump) == ("face", 27 * MS, "messages are dropped")
    below = dict(BUDGETS, face=measured("face", room.most_ns / MS, 0.7))
    above = dict(BUDGETS, face=measured("face", room.most_ns / MS + 0.1, 0.7))
    assert all(promise.verdict.is_well for promise in promises(apart(below)))
    assert not all(promise.verdict.is_well for promise in promises(apart(above)))


def test_a_smaller_budget_is_a_cure_only_as_far_as_it_mends() -> None:
    slow = dict(BUDGETS, face=measured("face", 45, 0.7))
    case = apart(slow)
    given = promises(case)
    fresh_one = next(promise for promise in given if promise.subject == "aim.faces")
    assert str(fresh_one.verdict).startswith("fails: ")
    found = {
        cure.change: cure.effect for cure in cures(Changes(case), chains(case, given)[0], given)
    }
    assert fresh_one.bound is not None
    assert found[f'fresh("{-(-fresh_one.bound // MS)}ms") on aim.faces'] == "all hold"
    [smaller] = [change for change in found if change.startswith("face in ")]
    most = float(smaller.removeprefix("face in ").removesuffix(" ms or less"))
    for ms, holds in ((most, True), (most + 0.1, False)):
        other = promises(apart(dict(BUDGETS, face=measured("face", ms, 0.7))))
        assert all(promise.verdict.is_well for promise in other) is holds


def test_one_interpreter_makes_both_threads_wait() -> None:
    found = reported(list(BUDGETS.values()))
    chain = found.chains[0]
    assert chain.oldest_ns is not None
    assert chain.oldest_ns > 108_233_333
    assert "interpreter" in [part.label for part in chain.parts]
    assert sum(part.ns for part in chain.parts) == chain.oldest_ns


@pytest.mark.parametrize(
    ("cores", "ranks", "samples", "word"),
    [
        ((-1, -1), (0, 0), 4000, "expected (not pinned, no SCHED_FIFO)"),
        ((1, 2), (50, 0), 4000, "expected (no SCHED_FIFO)"),
        ((1, 2), (50, 40), 4000, "expected (interpreter work of the reader of front is not known)"),
    ],
)
def test_what_keeps_a_verdict_from_holding(
    cores: tuple[int, int], ranks: tuple[int, int], samples: int, word: str
) -> None:
    plan = _placed(prepared().plan, cores, ranks)
    assert str(weakest_of(plan, BUDGETS, 8)) == word


def test_holds_is_measured_only_when_every_budget_is() -> None:
    plan = msgspec.structs.replace(_placed(prepared().plan, (1, 2), (50, 40)), streams=())
    assert str(weakest_of(plan, BUDGETS, 8)) == "holds (measured)"
    assert str(weakest_of(plan, BUDGETS, 1)) == "expected (2 threads share 1 cores)"
    guess = msgspec.structs.replace(BUDGETS["face"], origin="declared")
    assert str(weakest_of(plan, BUDGETS | {"face": guess}, 8)) == "holds (estimated)"
    few = msgspec.structs.replace(BUDGETS["face"], weakness="90 runs of face are few")
    assert str(weakest_of(plan, BUDGETS | {"face": few}, 8)) == (
        "expected (90 runs of face are few)"
    )


def weakest_of(plan: Plan, budgets: dict[str, Budget], cores: int) -> Verdict:
    return weakest([*words(plan, budgets, cores).values()])


def _placed(plan: Plan, cores: tuple[int, int], ranks: tuple[int, int]) -> Plan:
    threads = tuple(
        ThreadPlan(lane.name, (lane.name,), core=core, rank=rank)
        for lane, core, rank in zip(plan.lanes, cores, ranks, strict=True)
    )
    return msgspec.structs.replace(plan, threads=threads)


def test_the_weakest_word_wins() -> None:
    words = [
        Verdict("holds (measured)"), Verdict("fails", "face +1.0 ms"), Verdict("expected", "x"),
    ]  # fmt: skip
    assert str(weakest(words)) == "fails: face +1.0 ms"
    assert str(weakest([*words, Verdict("unbounded", "a starved by b")])) == (
        "unbounded: a starved by b"
    )


def test_a_node_without_a_budget_leaves_no_bound() -> None:
    missing = Budget("aim", None, "missing", "no budget", cure="add --measure 5s")
    found = reported([BUDGETS["face"], missing])
    assert str(found.verdict) == "unbounded: no budget for aim"
    assert {str(promise.verdict) for promise in found.promises} == {"unbounded: no budget for aim"}
    assert found.todo == ["aim: add --measure 5s"]
    assert found.exit_code == 1


@node
def sense(image: Image) -> Reading:
    return Reading(1.0)


@node(every="20ms")
def smooth(reading: Annotated[Reading, fresh("200ms")]) -> Reading:
    return reading


@node(every="100ms")
def plan_way(reading: Annotated[Reading, fresh("300ms")]) -> Reading:
    return reading


@node(every="20ms")
def steer(
    way: Annotated[Reading, fresh("450ms")], neck: Annotated[JointState, fresh("45ms")]
) -> JointCommand:
    return neck.hold()


TOUR = {name: measured(name, 2, 0) for name in ("sense", "smooth", "plan_way", "steer")}


def tour() -> Graph:
    """There and back: a fast lane feeds a slow one, which feeds the fast one again."""
    with Graph("tour") as graph:
        cam, neck = camera("front"), servos("neck")
        neck.command(steer(plan_way(smooth(sense(cam.image))), neck.state))
    return graph


def test_a_lane_that_stands_twice_on_a_way_is_no_loop() -> None:
    made = prepare(tour(), "pan-tilt")
    assert [len(lane.task.steps) for lane in made.plan.lanes] == [2, 1, 1]
    found = reported(list(TOUR.values()), made=made)
    [chain] = found.chains
    assert chain.path == ["front", "sense", "smooth", "plan_way", "steer", "neck"]
    waits = (33_333_333 + 26 * MS + 2 * MS, 20 * MS + 4_900_000, 100 * MS + 2 * MS, 20 * MS)
    assert chain.oldest_ns == sum(waits) + 4_900_000
    assert [promise.bound for promise in chain.promises] == [
        waits[0], sum(waits[:2]), sum(waits[:3]),
    ]  # fmt: skip


def test_a_run_in_virtual_time_stays_within_the_bounds() -> None:
    made = prepared()
    latest = msgspec.structs.replace(FRONT, latency_min_ns=15 * MS, latency_max_ns=15 * MS)
    budgets = [measured("face", 27, 0), measured("aim", 1, 0)]
    chain = reported(budgets, made=made, front=latest).chains[0]
    assert_within(made, chain)


@pytest.mark.parametrize("latency_ms", [1, 7, 15, 26])
def test_a_run_there_and_back_stays_within_the_bounds(latency_ms: int) -> None:
    made = prepare(tour(), "pan-tilt")
    late = latency_ms * MS
    front = msgspec.structs.replace(FRONT, latency_min_ns=late, latency_max_ns=late)
    [chain] = reported(list(TOUR.values()), made=made, front=front).chains
    run = simulate(
        made.graph, "6s", unit="pan-tilt", world={"ideal": True, "latency_ms": float(latency_ms)},
        budgets=dict.fromkeys(TOUR, "2ms"),
    )  # fmt: skip
    edges = zip(made.plan.edges, run.executor.assembly.edges, strict=True)
    worst = {edge.target: stats.worst_ns for edge, stats in edges}
    bounds = {promise.subject: promise.bound for promise in chain.promises}
    bounds["neck.command"] = chain.sent_ns
    assert set(bounds) == {
        "smooth.reading", "plan_way.reading", "steer.way", "neck.command",
    }  # fmt: skip
    for target, limit in bounds.items():
        assert limit is not None
        assert 0 < worst[target] <= limit, target
    assert chain.sent_ns is not None
    assert worst["neck.command"] > 0.5 * chain.sent_ns


def test_a_node_that_may_stay_silent_is_an_assumption() -> None:
    @node
    def seldom(reading: Reading) -> Annotated[Reading, sometimes]:
        return reading

    @node(every="100ms")
    def made() -> Reading:
        return Reading(0.0)

    with Graph("quiet") as graph:
        seldom(made())
    report = check(graph, "rpi5", unit=unit_from_text("unit: bare\ndevices: {}\n", "u.yaml"))
    assert (
        "seldom may stay silent: until the next message what was said before ages on, and of a "
        "command only the guard's command_age limits that"
    ) in report.assumptions
