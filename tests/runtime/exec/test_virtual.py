"""The virtual executor: the order of ties, the grid, loss, faults, events, determinism."""

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from tests.runtime.exec.fakes import (
    MS,
    PERIOD,
    TORQUE,
    Fault,
    GridCamera,
    Kept,
    following,
    watching,
    writes,
)

from haihe.pipelines.launch import Simulation, simulate
from haihe.runtime.errors import NodeError, PlanError
from haihe.runtime.exec.faults import Faults
from haihe.runtime.exec.virtual import VirtualExecutor
from haihe.runtime.graph import Graph
from haihe.runtime.guard import GuardState
from haihe.runtime.plan.build import make_plan
from haihe.runtime.plan.codegen import ABSENT, CALLED, STALE, outcome_of
from haihe.runtime.record.format import FIRING, STOP
from haihe.runtime.record.reader import McapReader
from haihe.runtime.record.recording import Recording

FRONT, CONTROL = "front", "every-20ms"


def run(
    graph: Graph, camera: GridCamera, duration_ns: int = 200 * MS, **budgets: int
) -> tuple[VirtualExecutor, Kept]:
    sink = Kept()
    plan = make_plan(graph, {})
    executor = VirtualExecutor(graph, plan, {}, {"front": camera}, sink=sink, budgets=budgets)
    executor.run(duration_ns)
    return executor, sink


# --- ties -----------------------------------------------------------------------------------------


def test_what_completes_at_a_release_is_seen_by_it() -> None:
    executor, sink = run(watching(), GridCamera(PERIOD, 5 * MS), number=15 * MS)
    begin = executor.begin_ns
    firings = sink.firings(executor.plan, CONTROL)
    assert [(f[0], f[1] - begin, f[2] - begin) for f in firings] == [
        (i + 1, i * PERIOD, i * PERIOD) for i in range(10)
    ]
    # frame n is delivered at 20 (n-1) + 5 ms and done at 20 n ms, the release of firing n + 1
    assert [f[4] for f in firings] == list(range(10))


def test_what_is_delivered_at_a_completion_starts_at_once() -> None:
    executor, sink = run(watching(), GridCamera(PERIOD, PERIOD), number=PERIOD)
    begin = executor.begin_ns
    firings = sink.firings(executor.plan, FRONT)
    assert [(f[1] - begin, f[3], f[4]) for f in firings] == [
        (n * PERIOD, PERIOD, n) for n in range(1, len(firings) + 1)
    ]
    assert len(firings) == 9
    assert executor.assembly.edges[0].overwritten == 0
    # at 20 (n+1) ms frame n is done: firing n + 2 of the other lane consumes it
    assert [f[4] for f in sink.firings(executor.plan, CONTROL)] == [0, 0, *range(1, 9)]


def test_of_two_lanes_that_are_ready_at_once_the_periodic_one_goes_first() -> None:
    executor, sink = run(watching(), GridCamera(PERIOD), duration_ns=100 * MS)
    seen = [f[4] for f in sink.firings(executor.plan, CONTROL)]
    released = [f[1] - executor.begin_ns for f in sink.firings(executor.plan, FRONT)]
    assert released == [0, PERIOD, 2 * PERIOD, 3 * PERIOD, 4 * PERIOD]
    # dispatch is last and goes by lanes, the fastest first: the frame is seen a tick later
    assert seen == [0, 1, 2, 3, 4]


def test_a_first_frame_before_anything_is_absent_and_counted() -> None:
    executor, sink = run(watching(), GridCamera(PERIOD, 50 * MS))
    outcomes = [outcome_of(f[5]) for f in sink.firings(executor.plan, CONTROL)]
    assert outcomes[:3] == [ABSENT] * 3
    assert set(outcomes[4:]) == {CALLED}
    assert executor.assembly.nodes["watch"].absent == outcomes.count(ABSENT)


# --- the grid -------------------------------------------------------------------------------------


def test_an_overrun_skips_to_the_next_place_of_the_grid() -> None:
    executor, sink = run(watching(), GridCamera(PERIOD), watch=45 * MS, number=0)
    firings = sink.firings(executor.plan, CONTROL)
    first = next(i for i, f in enumerate(firings) if outcome_of(f[5]) == CALLED)
    releases = [f[1] - executor.begin_ns for f in firings[first:]]
    assert releases == [releases[0] + i * 3 * PERIOD for i in range(len(releases))]
    assert len(firings) + executor.runs[0].skipped == 10


def test_latest_wins_and_every_message_is_accounted_for() -> None:
    executor, sink = run(watching(), GridCamera(5 * MS, 1 * MS), duration_ns=400 * MS)
    edge = next(i for i, e in enumerate(executor.plan.edges) if e.target == "watch.reading")
    stats = executor.assembly.edges[edge]
    sent = executor.assembly.nodes["number"].called
    assert sent == 80
    assert stats.overwritten > 50
    assert sent == stats.received + stats.overwritten + executor.assembly.in_flight(edge)
    consumed = [f[4] for f in sink.firings(executor.plan, CONTROL) if f[4]]
    assert consumed == sorted(set(consumed))


def test_a_slow_lane_takes_the_newest_frame_when_it_is_free() -> None:
    executor, sink = run(watching(), GridCamera(5 * MS), number=12 * MS, duration_ns=100 * MS)
    # busy for 12 ms: of the frames that came meanwhile the newest is next
    assert [f[4] for f in sink.firings(executor.plan, FRONT)][:5] == [1, 3, 5, 8, 10]
    edge = next(i for i, e in enumerate(executor.plan.edges) if e.target == "number.image")
    stats = executor.assembly.edges[edge]
    assert stats.last == stats.received + stats.overwritten == 20
    assert stats.overwritten == 11
    assert executor.assembly.in_flight(edge) == 0


def test_the_end_of_a_stream_ends_the_run_with_its_reason() -> None:
    executor, sink = run(watching(), GridCamera(PERIOD, count=4), duration_ns=10_000 * MS)
    assert executor.outcome.reason == "front: end of stream"
    assert [f[4] for f in sink.firings(executor.plan, FRONT)] == [1, 2, 3, 4]
    assert executor.now_ns < executor.begin_ns + 1_000 * MS


# --- parameters -----------------------------------------------------------------------------------


def test_an_unknown_node_or_parameter_is_refused_with_what_there_is() -> None:
    graph = watching()
    executor = VirtualExecutor(graph, make_plan(graph, {}), {}, {"front": GridCamera(PERIOD)})
    with pytest.raises(PlanError) as caught:
        executor.set("wach", "raise_at", 1)
    assert str(caught.value) == (
        "set('wach', 'raise_at'): graph watching has no node 'wach'. It has: number, watch."
    )
    with pytest.raises(PlanError) as caught:
        executor.set("watch", "raise", 1)
    assert str(caught.value) == (
        f"set('watch', 'raise'): node watch ({graph.nodes['watch'].line}) has no parameter "
        "'raise'. It has: raise_at."
    )
    with pytest.raises(PlanError) as caught:
        executor.set("number", "x", 1)
    assert str(caught.value) == (
        f"set('number', 'x'): node number ({graph.nodes['number'].line}) has no parameter 'x'. "
        "It has: none."
    )


# --- faults and events, judged at the emulator ----------------------------------------------------


def follow(
    path: Path | None = None,
    duration: str = "2s",
    fault: Fault | None = None,
    seed: int = 3,
    prepare: Any = None,
    wardens: bool = False,
    **world: Any,
) -> Simulation:
    return simulate(
        following(fault),
        duration,
        unit="pan-tilt",
        seed=seed,
        world={"ideal": True, **world},
        record=path,
        prepare_run=prepare,
        budgets={"ideal_detector": "8ms", "pursue": "300us"},
        wardens=wardens,
    )


def bus_of(executor: VirtualExecutor) -> Any:
    return next(bus for lane in executor.assembly.lanes for bus in lane.buses)


def test_a_node_that_raises_trips_the_guard_and_ends_the_run(tmp_path: Path) -> None:
    made = follow(tmp_path / "a.mcap", fault=Fault(raise_at=40), duration="60s")
    outcome = made.outcome
    assert outcome.reason == "node fault raised"
    ((lane, name, error),) = outcome.failures
    line = made.executor.assembly.graph.nodes["fault"].line
    assert (lane, name) == (CONTROL, "fault")
    assert isinstance(error, NodeError)
    assert str(error) == (
        f"{line}: node fault: it raised ValueError: made to raise. The actuators were made safe; "
        "mend the node."
    )
    assert isinstance(error.__cause__, ValueError)
    guard = bus_of(made.executor).guard
    assert (guard.state, guard.reason) == (GuardState.SAFE, "node fault raised")
    recording = Recording(tmp_path / "a.mcap")
    records = recording.lanes[CONTROL]
    assert [e for r in records for e in r.events] == [("arm",), ("trip", "node fault raised"),
                                                      ("trip", "node fault raised")]  # fmt: skip
    assert records[-1].kind == STOP
    trip = next(r for r in records if ("trip", "node fault raised") in r.events)
    after = {w.goal for w in writes(made.world.bus.received) if w.t_ns > trip.fixed[2] and w.goal}
    assert len(after) <= 2  # one goal for each joint: they hold


def test_trip_reset_and_arm_act_where_they_are_recorded(tmp_path: Path) -> None:
    def prepare(executor: VirtualExecutor, world: Any) -> None:
        executor.after(700 * MS, lambda: executor.post(("trip", "e-stop")))
        executor.after(1000 * MS, lambda: executor.post(("reset",)))
        executor.after(1300 * MS, lambda: executor.post(("arm",)))
        executor.after(1500 * MS, lambda: executor.set("pursue", "lag_s", 0.01))
        executor.after(1700 * MS, lambda: executor.post(("disarm",)))

    made = follow(tmp_path / "a.mcap", prepare=prepare)
    begin = made.executor.begin_ns
    records = [r for r in Recording(tmp_path / "a.mcap").lanes[CONTROL] if r.kind == FIRING]
    events = [(round((r.fixed[1] - begin) / MS), e) for r in records for e in r.events]
    assert events == [
        (0, ("arm",)), (700, ("trip", "e-stop")), (1000, ("reset",)), (1300, ("arm",)),
        (1500, ("param", "pursue", "lag_s", 0.01)), (1700, ("disarm",)),
    ]  # fmt: skip
    goals = [((w.t_ns - begin) / MS, w.servo, w.goal) for w in writes(made.world.bus.received)
             if w.goal is not None and w.t_ns > begin]  # fmt: skip

    def distinct(start: float, end: float) -> int:
        return len({g for t, servo, g in goals if start <= t < end and servo == 1})

    assert distinct(400, 700) > 10  # it follows
    assert distinct(701, 1000) == 1  # it holds the last goal
    assert not [t for t, *_ in goals if 1005 <= t < 1300]  # disarmed: nothing is sent
    assert distinct(1305, 1700) > 10
    assert not [t for t, *_ in goals if 1705 <= t < 2000]


SLEW_TICKS = 5.236 / (2 * math.pi) * 4096  # per second


def goals_of(made: Simulation, servo: int, after_ns: int) -> list[int]:
    return [
        w.goal
        for w in writes(made.world.bus.received)
        if w.t_ns >= after_ns and w.servo == servo and w.goal is not None
    ]


def test_an_unplugged_bus_is_absent_and_comes_back_without_a_jump(tmp_path: Path) -> None:
    states: list[GuardState] = []

    def prepare(executor: VirtualExecutor, world: Any) -> None:
        def unplug() -> None:
            bus_of(executor).port.unplug()
            for servo in world.bus.servos.values():
                servo.power_cycle()

        executor.after(800 * MS, unplug)
        executor.after(1400 * MS, lambda: states.append(bus_of(executor).guard.state))
        executor.after(1500 * MS, bus_of(executor).port.plug)

    made = follow(tmp_path / "a.mcap", duration="5s", prepare=prepare)
    begin = made.executor.begin_ns
    bus = bus_of(made.executor)
    assert (bus.losses, bus.online) == (1, True)
    assert states == [GuardState.STALE]
    recording = Recording(tmp_path / "a.mcap")
    task = next(lane.task for lane in recording.plan.lanes if lane.name == CONTROL)
    pursue = 4 + len(task.reads) + [step.name for step in task.steps].index("pursue")
    gone = [
        r
        for r in recording.lanes[CONTROL]
        if r.kind == FIRING and 860 <= (r.fixed[1] - begin) / MS < 1500
    ]
    assert {r.fixed[-1] for r in gone} == {0}  # no state was read
    assert {outcome_of(r.fixed[pursue]) for r in gone} == {STALE}
    on_wire = [w for w in writes(made.world.bus.received) if w.t_ns >= begin + 801 * MS]
    first = on_wire[0]
    assert first.t_ns >= begin + 1500 * MS
    assert (first.address, first.data) == (TORQUE, b"\x00")  # set up anew
    for servo in (1, 2):
        own = [w for w in on_wire if w.servo == servo]
        torque = next(i for i, w in enumerate(own) if (w.address, w.data) == (TORQUE, b"\x01"))
        assert own[torque - 1].goal is not None  # the goal stands before torque comes on
        goals = goals_of(made, servo, first.t_ns)
        assert max(abs(b - a) for a, b in pairwise(goals)) <= 0.04 * SLEW_TICKS + 1
    late = [e for t, e in zip(made.times, made.truth["error"], strict=True) if t > 4.5]
    assert max(late) < 0.1  # it follows again


def test_after_a_replug_the_first_goal_is_where_the_joints_are() -> None:
    def prepare(executor: VirtualExecutor, world: Any) -> None:
        def turned_by_hand() -> None:
            bus_of(executor).port.unplug()
            for servo in world.bus.servos.values():
                servo.power_cycle()
                servo.plant._x = servo.plant._input = 0.7

        executor.after(500 * MS, turned_by_hand)
        executor.after(600 * MS, bus_of(executor).port.plug)

    made = follow(duration="2500ms", prepare=prepare)
    there = 2048 + round(0.7 / (2 * math.pi) * 4096)
    for servo in (1, 2):
        first = goals_of(made, servo, made.executor.begin_ns + 600 * MS)[0]
        assert abs(first - there) <= 0.04 * SLEW_TICKS + 1  # two periods at most


def test_when_the_owner_dies_the_warden_sends_the_servos_their_safe_actions() -> None:
    """In the middle of a frame, with the real driver, its emulator and the unit's own word."""
    quiet = follow(duration="1s")
    wait, frame = next(
        (t - quiet.executor.begin_ns - 50_000, data)
        for t, data in quiet.world.bus.received
        if t > quiet.executor.begin_ns + 800 * MS and len(data) == 14
    )

    def prepare(executor: VirtualExecutor, world: Any) -> None:
        faults = Faults(executor)
        executor.after(wait, lambda: faults.kill(""))  # 5 bytes before its end

    made = follow(prepare=prepare, wardens=True)
    assert made.outcome.reason == "the main process died: it was killed by SIGKILL"
    died = made.executor.begin_ns + wait
    received = made.world.bus.received
    cut = [data for t, data in received if died - 100_000 < t <= died]
    after = [data for t, data in received if t > died]
    assert cut == [frame[:9]]
    assert [set(after[0]), len(after[0]) >= 14] == [{0}, True]  # ends the frame that was cut
    safe = list(writes([(0, data) for data in after[1:]]))
    sent = [w for w in writes([r for r in received if r[0] < died - 100_000]) if w.goal is not None]
    last = {w.servo: w.goal for w in sent}
    assert [(w.servo, w.goal) for w in safe if w.goal is not None] == 2 * sorted(last.items())


# --- determinism ----------------------------------------------------------------------------------


def content(path: Path) -> dict[str, list[bytes]]:
    """Every message of a recording by channel, but the header, which holds the time of day."""
    found: dict[str, list[bytes]] = {}
    with McapReader(path) as reader:
        for message in reader.messages():
            topic = reader.channels[message.channel].topic
            if topic != "haihe/run":
                found.setdefault(topic, []).append(bytes(message.data))
    return found


def test_two_runs_give_the_same_bytes_on_the_wire_and_in_the_file(tmp_path: Path) -> None:
    runs = [
        follow(tmp_path / f"{i}.mcap", fault=Fault(noise=0.002), drops=0.1, noise_px=1.0)
        for i in range(2)
    ]
    assert runs[0].world.bus.received == runs[1].world.bus.received
    assert len(runs[0].world.bus.received) > 200
    one, other = (content(tmp_path / f"{i}.mcap") for i in range(2))
    assert one == other
    assert {"haihe/lane/front", f"haihe/lane/{CONTROL}", "haihe/stream/front.image",
            f"haihe/keyframe/{CONTROL}"} <= set(one)  # fmt: skip
    assert runs[0].truth == runs[1].truth


def test_another_seed_is_another_run(tmp_path: Path) -> None:
    runs = [follow(seed=seed, duration="500ms") for seed in (1, 2)]
    assert runs[0].world.bus.received != runs[1].world.bus.received


def test_goals_keep_their_limits_on_the_wire() -> None:
    made = follow(radius_deg=30.0, period_s=1.5, duration="3s")
    fastest = 0
    for servo in (1, 2):
        goals = goals_of(made, servo, made.executor.begin_ns)
        assert len(goals) > 100
        fastest = max(fastest, *(abs(b - a) for a, b in pairwise(goals)))
    assert 0.01 * SLEW_TICKS < fastest <= 0.02 * SLEW_TICKS + 1.5  # a tick is late by microseconds
