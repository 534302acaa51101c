"""Lanes that share a thread, queues, aligned inputs: in virtual time, in real time, in replay."""

import threading
from pathlib import Path
from typing import Annotated, Any

import pytest
from tests.runtime.exec.fakes import MS, Frames, GridCamera, Kept, number

from haihe.drivers.roles import camera, servos
from haihe.pipelines.launch import simulate
from haihe.runtime.contracts import aligned, fifo, fresh
from haihe.runtime.errors import PlanError
from haihe.runtime.exec.lane import Overrun
from haihe.runtime.exec.processors import Contention
from haihe.runtime.exec.realtime import RealtimeExecutor
from haihe.runtime.exec.virtual import VirtualExecutor
from haihe.runtime.graph import Graph, named
from haihe.runtime.node import node
from haihe.runtime.plan.build import DeviceTiming, Placement, make_plan
from haihe.runtime.types import Image, JointCommand, JointState, Reading
from haihe.testing import replay

BEGIN = 1000 * MS  # of virtual time


@node(every="20ms", budget="3ms")
def fast() -> Reading:
    return Reading(1.0)


@node(every="50ms", budget="12ms")
def slow() -> Reading:
    return Reading(2.0)


@node(budget="15ms")
def look(image: Image) -> Reading:
    return Reading(float(image.data[0, 0, 0]))


@node(budget="4ms")
def keep(reading: Annotated[Reading, fifo(3)]) -> Reading:
    return reading


@node(budget="1ms")
def newest(reading: Reading) -> Reading:
    return reading


@node
def pair(a: Image, b: Annotated[Image, aligned("4ms", keep=4)]) -> Reading:
    return Reading(float(a.data[0, 0, 0]) * 1000 + float(b.data[0, 0, 0]))


def virtual(
    graph: Graph, cameras: dict[str, Any] | None = None, ms: int = 200, **options: Any
) -> Any:
    """Run it; gives the executor and, per lane, (release, start, end) of each firing in ms."""
    placements = options.pop("placements", None)
    plan = make_plan(graph, {}, placements)
    kept = Kept()
    executor = VirtualExecutor(graph, plan, {}, cameras or {}, sink=kept, **options)
    executor.run(ms * MS)
    jobs = {}
    for lane in plan.lanes:
        rows = kept.firings(plan, lane.name) if lane.name in kept.blocks else []
        jobs[lane.name] = [
            tuple((t - BEGIN) / MS for t in (row[1], row[2], row[2] + row[3])) for row in rows
        ]
    return executor, jobs, kept


def two_rates(policy: Any, *, fast_first: bool = True) -> Graph:
    with Graph("rates") as g:
        order = (fast(), slow()) if fast_first else (slow(), fast())
        g.thread("work", *order, policy=policy)
    return g


def test_priority_runs_the_first_named_first_and_never_preempts() -> None:
    _, jobs, _ = virtual(two_rates("priority"))
    assert jobs["fast"][:4] == [(0, 0, 3), (20, 20, 23), (40, 40, 43), (60, 62, 65)]
    # at 50 the slow one starts; the release at 60 waits for its end at 62
    assert jobs["slow"][:2] == [(0, 3, 15), (50, 50, 62)]


def test_priority_follows_the_order_that_was_named() -> None:
    _, jobs, _ = virtual(two_rates("priority", fast_first=False))
    assert jobs["slow"][0] == (0, 0, 12)
    assert jobs["fast"][0] == (0, 12, 15)


def test_fifo_runs_in_order_of_arrival() -> None:
    with Graph("order") as g:
        g.thread("work", fast(), slow(), named("other", fast)(), policy="fifo")
    offsets = {"fast": 2 * MS, "slow": 0, "other": 1 * MS}
    _, jobs, _ = virtual(g, ms=18, offsets=offsets)
    assert jobs == {"slow": [(0, 0, 12)], "other": [(1, 12, 15)], "fast": [(2, 15, 18)]}


def test_a_release_is_skipped_while_its_own_job_waits() -> None:
    with Graph("busy") as g:
        g.thread("work", slow(), fast())
    executor, jobs, _ = virtual(g, ms=100, budgets={"slow": 45 * MS})
    assert jobs["fast"] == [(0, 45, 48), (50 + 10, 95, 98)]
    skipped = {run.lane.name: run.skipped for run in executor.runs}
    assert skipped == {"fast": 3, "slow": 0}  # 20 and 40 while it waits, 80 too


def chain(*, own: bool) -> Graph:
    with Graph("chain") as g:
        reading = look(camera("front").image)
        last = named("newest", newest)(reading)
        if own:
            g.thread("after", last)
    return g


def test_a_triggered_node_starts_a_lane_of_its_own() -> None:
    cameras = {"front": GridCamera(33 * MS, 5 * MS)}
    plan = make_plan(chain(own=True), {})
    assert [(lane.name, lane.task.trigger) for lane in plan.lanes] == [
        ("front", "front.image"),
        ("newest", "look"),
    ]
    assert [(thread.name, thread.lanes) for thread in plan.threads] == [
        ("after", ("newest",)),
        ("front", ("front",)),
    ]
    _, jobs, _ = virtual(chain(own=True), cameras, ms=70)
    assert jobs["front"][:2] == [(5, 5, 20), (38, 38, 53)]
    assert jobs["newest"][:2] == [(20, 20, 21), (53, 53, 54)]
    _, fused, _ = virtual(chain(own=False), cameras, ms=70)
    assert fused == {"front": [(5, 5, 21), (38, 38, 54)]}


def queued(places: str = "keep") -> Graph:
    with Graph("queued") as g:
        reading = number(camera("front").image)
        g.thread("after", keep(reading))
    return g


def test_a_queue_gives_a_call_for_each_message_in_order() -> None:
    # frames of 3 ms, 4 ms each: the queue grows until it is full, then the entrance refuses
    executor, jobs, kept = virtual(queued(), {"front": GridCamera(3 * MS, 0, 12)}, ms=100)
    consumed = [row[4] for row in kept.firings(executor.plan, "keep")]
    assert consumed == sorted(set(consumed))
    edge = next(i for i, e in enumerate(executor.plan.edges) if e.kind == "fifo")
    stats = executor.assembly.edges[edge]
    assert stats.received + stats.refused + executor.assembly.in_flight(edge) == 12
    assert (stats.received, stats.refused, stats.overwritten) == (len(consumed), 0, 0)
    slower, _, kept = virtual(
        queued(), {"front": GridCamera(3 * MS, 0, 12)}, ms=100, budgets={"keep": 9 * MS}
    )
    stats = slower.assembly.edges[edge]
    consumed = [row[4] for row in kept.firings(slower.plan, "keep")]
    # 1 runs; 2, 3, 4 wait; at 9 one is taken and 4 comes in the same instant, before the dispatch
    assert consumed[:3] == [1, 2, 3]
    assert stats.refused == 12 - len(consumed) > 0
    assert len(jobs["keep"]) == 12


def test_backpressure_refuses_at_the_entrance_and_loses_nothing_in_mid_graph() -> None:
    @node(budget="1ms")
    def early(image: Annotated[Image, fifo(2)]) -> Reading:
        return Reading(float(image.data[0, 0, 0]))

    with Graph("pressure") as g:
        first = early(camera("front").image)
        g.thread("first", first)
        g.thread("second", keep(first))
    executor, _, kept = virtual(
        g, {"front": GridCamera(2 * MS, 0, 40)}, ms=300, budgets={"keep": 10 * MS}
    )
    kinds = {e.target: i for i, e in enumerate(executor.plan.edges) if e.kind == "fifo"}
    entrance = executor.assembly.edges[kinds["early.image"]]
    inner = executor.assembly.edges[kinds["keep.reading"]]
    assert entrance.refused > 20
    assert entrance.received + entrance.refused == 40
    assert (inner.refused, inner.received) == (0, entrance.received)
    made = [row[4] for row in kept.firings(executor.plan, "keep")]
    assert made == list(range(1, len(made) + 1))


def pairs() -> Graph:
    with Graph("pairs") as g:
        pair(camera("left").image, camera("right").image)
    return g


def test_aligned_takes_the_nearest_stamp_and_counts_what_has_none() -> None:
    left, right = GridCamera(40 * MS, 30 * MS, 5), GridCamera(7 * MS, 1 * MS, 60)
    values: list[tuple[int, int]] = []

    executor, _, kept = virtual(pairs(), {"left": left, "right": right}, ms=300)
    for row in kept.firings(executor.plan, "left"):
        values.append((row[4], row[5]))
    # left frames at 40 k arrive at 40 k + 30, right frames at 7 j at 7 j + 1: the choice is among
    # the newest four that are there
    for k, (a, b) in enumerate(values):
        stamps = [7 * j for j in range(60) if 7 * j + 1 <= 40 * k + 30][-4:]
        best = min(stamps, key=lambda s: (abs(s - 40 * k), s))
        assert (a, b) == (k + 1, best // 7 + 1)
    stats = executor.assembly.nodes["pair"]
    assert stats.unaligned + stats.called == len(values) == 5
    far = sum(
        abs(min(s, key=lambda x: abs(x - 40 * k)) - 40 * k) > 4
        for k in range(5)
        if (s := [7 * j for j in range(60) if 7 * j + 1 <= 40 * k + 30][-4:])
    )
    assert stats.unaligned == far > 0


def test_lanes_that_share_a_core_preempt_by_rank() -> None:
    with Graph("core") as g:
        g.thread("low", slow())
        g.thread("high", fast())
    places = {"low": Placement(2, 10), "high": Placement(2, 20)}
    _, jobs, _ = virtual(g, placements=places, ms=60, offsets={"fast": 4 * MS})
    # 0 to 4 slow, 4 to 7 fast, 7 to 15 the rest of slow
    assert jobs["slow"][0] == (0, 0, 15)
    assert jobs["fast"][:2] == [(4, 4, 7), (24, 24, 27)]


def test_threads_of_one_interpreter_wait_for_it() -> None:
    with Graph("gil") as g:
        g.thread("a", slow())
        g.thread("b", fast())
    shared = Contention({"a": "main", "b": "main"}, {"slow": 5 * MS, "fast": 2 * MS}, ("b",))
    _, jobs, _ = virtual(g, ms=50, contention=shared, offsets={"fast": 4 * MS})
    # slow holds it from 0 to 4, fast from 4 to 6, slow again to 7, and computes without it to 14
    assert jobs["slow"] == [(0, 0, 14)]
    assert jobs["fast"][0] == (4, 4, 7)


@node(every="10ms", budget="1ms")
def log_it(reading: Annotated[Reading, fresh("200ms")]) -> Reading:
    return reading


@node(every="20ms", budget="2ms")
def steer(
    reading: Annotated[Reading, fresh("200ms")], neck: Annotated[JointState, fresh("1s")]
) -> JointCommand:
    return JointCommand(neck.position * 0 + 0.001 * (reading.value % 50))


def busy() -> Graph:
    """Every kind of edge and thread at once."""
    with Graph("busy") as g:
        front, neck = camera("front"), servos("neck")
        kept = keep(look(front.image))
        near = named("near", stamped)(kept, front.image)
        command = steer(near, neck.state)
        neck.command(command)
        g.thread("work", command, log_it(near), policy="fifo")
        g.thread("after", kept)
        g.thread("last", near)
    return g


@node(budget="1ms")
def stamped(reading: Reading, image: Annotated[Image, aligned("1ms")]) -> Reading:
    return Reading(reading.value + float(image.data.mean()))


def test_a_run_of_all_of_it_replays_to_the_same_bytes(tmp_path: Path) -> None:
    run = simulate(
        busy(), "3s", unit="pan-tilt", record=tmp_path / "run.mcap", seed=3,
        budgets={"keep": "40ms"},
    )  # fmt: skip
    stats = run.executor.assembly.nodes["near"]
    assert stats.called > 20
    queue = next(i for i, e in enumerate(run.executor.plan.edges) if e.kind == "fifo")
    assert run.executor.assembly.edges[queue].refused > 5
    assert run.recording is not None
    report = replay(run.recording, graph=busy(), perception=True)
    assert report.ok, report
    assert report.skipped == 0
    assert report.sent["neck"] == b"".join(data for _, data in run.world.bus.received)


def test_the_same_in_real_time_counts_every_message() -> None:
    """Two rates on one thread, a lane at another lane's output, and a queue."""
    with Graph("live") as g:
        reading = number(camera("front").image)
        g.thread("work", quick(), named("second", quick)(), policy="fifo")
        g.thread("after", instant(reading))
    plan = make_plan(g, {})
    done = threading.Event()
    executor = RealtimeExecutor(g, plan, {}, {"front": Frames([], 50)})
    executor.start(arm=False)
    try:
        assert executor.wait(30.0)  # the end of the stream
    finally:
        done.set()
        outcome = executor.stop("over")
    assert (outcome.reason, outcome.hung, outcome.failures) == ("front: end of stream", [], [])
    edge = next(i for i, e in enumerate(plan.edges) if e.kind == "fifo")
    stats = executor.assembly.edges[edge]
    made = executor.assembly.nodes["number"].called
    assert stats.received + stats.refused + executor.assembly.in_flight(edge) == made > 0
    firings = {lane.name: lane.firing for lane in executor.assembly.lanes}
    assert firings["quick"] > 0
    assert firings["second"] > 0


@node(every="2ms")
def quick() -> Reading:
    return Reading(0.0)


@node
def instant(reading: Annotated[Reading, fifo(4)]) -> Reading:
    return reading


def test_an_overrun_says_which_node_and_by_how_much() -> None:
    @node(every="5ms", budget="1us")
    def hasty() -> Reading:
        return Reading(float(sum(range(2000))))

    with Graph("late") as g:
        hasty()
    found: list[Overrun] = []
    executor = RealtimeExecutor(g, make_plan(g, {}), {}, {}, on_overrun=found.append)
    executor.start(arm=False)
    executor.wait(0.2)
    executor.stop("over")
    assert found
    assert {(o.lane, o.node, o.budget_ns) for o in found} == {("every-5ms", "hasty", 1000)}
    assert all(o.took_ns > 1000 for o in found)
    assert len(found) == executor.assembly.nodes["hasty"].overruns


def whole(error: pytest.ExceptionInfo[PlanError]) -> str:
    return str(error.value).replace(__file__, "FILE")


def planned(wire: Any) -> str:
    with Graph("wrong") as g:
        wire(g)
    with pytest.raises(PlanError) as error:
        make_plan(g, {"neck": DeviceTiming(20 * MS)})
    text = whole(error)
    return text[text.index(" ") + 1 :]


def test_what_the_planner_refuses() -> None:
    @node(every="20ms")
    def periodic(reading: Annotated[Reading, fifo(3), fresh("1s")]) -> Reading:
        return reading

    assert planned(lambda g: periodic(look(camera("front").image))) == (
        "periodic.reading is fifo(), but it does not trigger periodic: a queue is emptied by one "
        'call for each message. Say @node(on="reading"), or drop fifo().'
    )

    @node(every="20ms")
    def sampled(image: Annotated[Image, aligned("1ms")]) -> Reading:
        return Reading(0.0)

    assert planned(lambda g: sampled(camera("front").image)) == (
        "sampled.image is aligned() with the stamp of the node's triggering input, but nothing "
        'triggers it. Say @node(on="...") with another input.'
    )
    assert planned(lambda g: stamped(look(camera("front").image), camera("front").image)) == (
        "stamped.image: its lane reads front.image twice, aligned() and in another way. Give one "
        "of the readers a lane of its own: g.thread(...)."
    )

    @node
    def both(reading: Reading, other: Annotated[Reading, aligned("1ms")]) -> Reading:
        return reading

    def same_tick(g: Graph) -> None:
        image = camera("front").image
        both(look(image), named("again", look)(image))

    assert planned(same_tick) == (
        "both.other is aligned(), but again is made in the same tick. Drop aligned(), or give its "
        "maker a lane of its own: g.thread(...)."
    )

    def taken(g: Graph) -> None:
        look(camera("front").image)
        g.thread("front", fast())

    assert planned(taken) == (
        "thread front: a lane that has its own thread is called so already. Choose another name."
    )
