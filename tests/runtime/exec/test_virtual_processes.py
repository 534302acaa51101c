"""Processes in virtual time: what a death, a stop, a hang and a restart do, one fault at a time."""

import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.scenarios.fault_runs import (
    Injected,
    RelaySpec,
    Run,
    Setting,
    graph_of,
    guard_of,
    replay,
    run,
)
from tests.scenarios.fault_world import WRITE_SIZE, Rig, RigEmulator, Source

from haihe.drivers.ports.virtual import VirtualPort
from haihe.runtime.errors import DeviceError, HaiheError, PlanError
from haihe.runtime.exec.faults import Faults
from haihe.runtime.exec.processors import Contention, Processors
from haihe.runtime.exec.supervision import RestartPolicy
from haihe.runtime.exec.virtual import SimBus, VirtualExecutor
from haihe.runtime.exec.virtual_links import CREDITS
from haihe.runtime.exec.wardens import WardenSpec
from haihe.runtime.guard import GuardState, SafeAction
from haihe.runtime.io import Exchange
from haihe.runtime.plan.build import make_plan
from haihe.runtime.plan.model import ThreadPlan
from haihe.runtime.record.format import FIRING, RESTART
from haihe.runtime.record.recording import Recording

MS = 1_000_000
POLICY = RestartPolicy(limit=2, backoff_ns=100 * MS, hang_ns=200 * MS)


def source(period_ms: int = 10) -> Source:
    made = Source(np.random.default_rng(1))
    made.period_ns, made.first_ns, made.latency_ns = period_ms * MS, 0, 2 * MS
    made._drops = set()
    return made


def setting(
    *faults: Injected, control: str = "", vision: str = "near", places: int = 0, **changes: object
) -> Setting:
    """Source -> r0 in `vision` -> r1 -> control in `control`, 1 s."""
    relays = (
        RelaySpec("r0", "source", 0, "stop", vision, 1 * MS, "on-r0"),
        RelaySpec("r1", "r0", places, "stop", "", 1 * MS, "on-r1"),
    )
    names = {name: POLICY for name in (vision, control) if name}
    made = Setting(
        1, relays, "r1", 10, 100, 100, control, SafeAction.HOLD, names, 50 * MS, faults, 1_000 * MS
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def at(ms: float, kind: str, target: str = "near", amount_ms: float = 0) -> Injected:
    return Injected(round(ms * MS), kind, target, round(amount_ms * MS))


def since(done: Run, t_ns: int) -> float:
    return (t_ns - done.executor.begin_ns) / MS


def calls(done: Run, name: str) -> list[float]:
    return [since(done, t) for t in done.ledger.calls[name]]


# --- death and restart ----------------------------------------------------------------------------


def test_a_killed_process_lives_again_with_new_state_and_numbers_that_go_on(tmp_path: Path) -> None:
    done = run(setting(at(302.5, "kill")), source(), tmp_path / "a.mcap")
    again = 302.5 + 100 + 50
    before = [t for t in calls(done, "r0") if t < again]
    after = [t for t in calls(done, "r0") if t >= again]
    assert (before[-1], after[0]) == (302.0, 462.0)  # killed while it ran; the next delivery
    recording = Recording(tmp_path / "a.mcap")
    records = recording.lanes["r0"]
    kinds = [record.kind for record in records]
    at_restart = kinds.index(RESTART)
    assert kinds.count(RESTART) == 1
    numbers = [r.fixed[0] for r in records if r.kind == FIRING]
    assert numbers == [*range(1, 31), *range(32, 32 + len(after))]  # the 31st died on the way
    assert records[at_restart].fixed == (31, done.executor.begin_ns + round(again * MS))
    assert records[at_restart].events == [("restart", {"r0": 31})]
    report = replay(done)
    assert (report.ok, report.skipped) == (True, 0)


def test_a_lane_that_was_not_running_loses_nothing_but_time() -> None:
    done = run(setting(at(305, "kill")), source())
    stats = done.executor.assembly.edges
    edge = next(i for i, e in enumerate(done.plan.edges) if e.target == "r1.mark")
    assert done.ledger.seen["r1"] == list(range(1, done.ledger.made["r0"] + 1))
    assert (stats[edge].received, stats[edge].overwritten) == (done.ledger.made["r0"], 0)
    # 452 - 305 ms without a reader: 15 deliveries that nobody took
    assert done.executor.processes.undelivered == {"source": 15}


def test_the_owner_of_the_bus_is_set_up_anew_and_stays_disarmed() -> None:
    done = run(setting(at(402, "kill"), control="near"), source())
    assert [since(done, t) for t in done.emulator.setups[1:]] == pytest.approx([552.02], abs=0.01)
    assert not [f for f in done.emulator.frames if since(done, f.t_ns) > 405]
    guard = done.executor.assembly.guards()[0]
    assert (guard.state, guard.reason) == (GuardState.SAFE, "end of the simulation")


def test_a_policy_may_arm_it_again() -> None:
    rearm = replace(POLICY, rearm=True)
    done = run(setting(at(402, "kill"), control="near", policies={"near": rearm}), source())
    later = [f for f in done.emulator.frames if since(done, f.t_ns) > 560 and any(f.actions)]
    assert len(later) > 30
    assert later[0].positions[1] == later[0].before[1]  # from where it is


def test_a_trip_outlives_its_process() -> None:
    made = setting(at(402, "kill"), control="near", policies={"near": replace(POLICY, rearm=True)})
    executor, faults = bare(made)
    executor.after(300 * MS, lambda: executor.post(("trip", "e-stop")))
    states: list[tuple[GuardState, str]] = []
    guard = executor.assembly.guards()[0]
    executor.after(402 * MS, lambda: faults.kill("near"))
    executor.after(900 * MS, lambda: states.append((guard.state, guard.reason)))
    executor.run(1_000 * MS)
    assert states == [(GuardState.SAFE, "e-stop")]


def bare(made: Setting) -> tuple[VirtualExecutor, Faults]:
    graph = graph_of(made)
    executor = VirtualExecutor(
        graph,
        make_plan(graph, {}),
        {"rig": SimBus(Rig(), guard_of(made), VirtualPort(RigEmulator()))},
        {"source": source()},
        policies=made.policies,
        budgets={"r0": 500_000},
        start=lambda name, number: made.start_ns,
    )
    return executor, Faults(executor)


def test_a_process_that_keeps_dying_ends_the_run_with_its_story() -> None:
    done = run(setting(*(at(t, "kill") for t in (100, 300, 600))), source())
    assert done.outcome.reason == "process near given up"
    ((process, what, error),) = done.outcome.failures
    assert (process, what, type(error)) == ("near", "process", HaiheError)
    assert str(error) == (
        "process near: it was killed by SIGKILL; 2 restarts within 60 s are used up (before: it "
        "was killed by SIGKILL, it was killed by SIGKILL). The actuators were made safe; mend the "
        "cause, or allow more: `restart` of near under `processes:` in the unit profile."
    )
    last = done.emulator.frames[-1]
    assert last.actions == (2, 1)  # stamp free, swing holds
    assert last.positions[1] == last.before[1]
    assert since(done, last.t_ns) < 650


def test_a_start_that_takes_too_long_is_a_death() -> None:
    short = replace(POLICY, start_ns=40 * MS)
    done = run(setting(at(100, "kill"), policies={"near": short}), source())
    causes = [cause for _, _, cause in done.deaths]
    late = "it was not ready within 40 ms of its start"
    assert causes == ["it was killed by SIGKILL", late, late]
    assert done.outcome.reason == "process near given up"


def test_a_bus_that_is_gone_at_the_restart_is_a_death_too() -> None:
    made = setting(at(100, "kill"), at(120, "unplug", amount_ms=800), control="near")
    done = run(made, source())
    assert [cause for _, _, cause in done.deaths][1:] == [
        "it could not start: rig: no answer to the set-up (nothing).",
        "it could not start: rig: no answer to the set-up (nothing).",
    ]


# --- the wire -------------------------------------------------------------------------------------


def test_a_write_that_is_cut_leaves_the_bytes_so_far_and_the_wardens_frames_are_whole() -> None:
    quiet = run(setting(control="near"), source())
    frame = next(f for f in quiet.emulator.frames if since(quiet, f.t_ns) > 400)
    in_the_middle = since(quiet, frame.t_ns) - 0.06  # 6 bytes before its end
    done = run(setting(at(in_the_middle, "kill"), control="near"), source())
    assert next(f.t_ns for f in done.emulator.frames if f.is_wardens) - frame.t_ns < MS
    whole = [f for f in done.emulator.frames if not f.is_wardens]
    assert whole[-1].t_ns < frame.t_ns
    assert done.emulator.skipped == 2 * WRITE_SIZE - 6  # the part of the frame, and the padding
    assert len([f for f in done.emulator.frames if f.is_wardens]) == 2


def test_a_main_process_without_a_warden_leaves_the_joints_as_they_are() -> None:
    done = run(setting(at(402, "kill", "")), source(), wardens={})
    assert done.outcome.reason == "the main process died: it was killed by SIGKILL"
    assert done.emulator.frames[-1].actions == (1, 1)


def test_a_hang_of_the_actuators_lane_ends_with_the_wardens_frames() -> None:
    done = run(setting(at(400, "hang", "control", 700)), source(), wardens={"rig": WardenSpec()})
    first = next(f for f in done.emulator.frames if f.is_wardens)
    before = [f for f in done.emulator.frames if f.t_ns < first.t_ns]
    assert 100 <= (first.t_ns - before[-1].t_ns) / MS < 101
    assert done.deaths[0][2] == "its warden killed it: no heartbeat of rig for 100 ms"


# --- stops, hangs, lateness, memory ---------------------------------------------------------------


def test_a_stopped_reader_finds_a_few_old_messages_and_holds_nobody_up() -> None:
    made = setting(at(300, "stop", "far", 150), vision="", places=0)
    far = replace(made.relays[1], process="far")
    made = replace(made, relays=(made.relays[0], far), policies={"far": POLICY})
    done = run(made, source())
    seen = done.ledger.seen["r1"]
    at_once = [n for n, t in zip(seen, calls(done, "r1"), strict=True) if 449 < t < 452]
    assert calls(done, "r0") == [10.0 * i + 2 for i in range(100)]  # the writer never waited
    # what had credits when it was stopped: 30 ms' worth; the newest of them is called with
    assert at_once == [30 + CREDITS]
    edge = next(i for i, e in enumerate(done.plan.edges) if e.target == "r1.mark")
    stats = done.executor.assembly.edges[edge]
    assert stats.received + stats.overwritten + done.executor.assembly.in_flight(edge) == 100
    assert stats.overwritten == 15 - 1


def test_a_stop_longer_than_the_limit_is_a_hang() -> None:
    done = run(setting(at(300, "stop", "near", 400)), source())
    ((t, process, cause),) = done.deaths
    assert (process, cause) == ("near", "it gave no sign of life for 200 ms")
    assert 500 <= since(done, t) <= 300 + 200 + 2 * 50


def test_a_node_that_hangs_is_found_by_its_progress() -> None:
    done = run(setting(at(300, "hang", "r0", 5000)), source())
    ((t, _, cause),) = done.deaths
    assert cause == "its lane r0 made no progress for 200 ms while work waited"
    assert 500 <= since(done, t) <= 302 + 200 + 2 * 50


def test_a_thread_that_wakes_up_late_starts_nothing_meanwhile() -> None:
    done = run(setting(at(300, "late", "r0", 55), vision=""), source())
    assert [t for t in calls(done, "r0") if 290 < t < 380] == [292.0, 355.0, 362.0, 372.0]


def test_a_slow_node_is_slow_for_a_while() -> None:
    executor, faults = bare(setting(vision=""))
    took: list[int] = []
    lane = executor.assembly.lane_of("r0")
    lane.on_log = lambda fixed: took.append(struct.unpack_from("<BIqqq", fixed)[4])
    executor.after(295 * MS, lambda: faults.slow("r0", 4.0, 40 * MS))
    executor.run(500 * MS)
    assert took == [500_000] * 30 + [2_000_000] * 4 + [500_000] * 16


def test_messages_without_room_in_memory_are_dropped_and_counted() -> None:
    done = run(setting(at(300, "exhaust", "r0", 100), places=2), source())
    edge = next(i for i, e in enumerate(done.plan.edges) if e.target == "r1.mark")
    stats = done.executor.assembly.edges[edge]
    assert stats.refused == 10
    assert len(done.ledger.seen["r1"]) == done.ledger.made["r0"] - 10


def test_a_process_that_is_not_there_is_refused() -> None:
    _, faults = bare(setting())
    with pytest.raises(PlanError) as caught:
        faults.kill("vision")
    assert str(caught.value) == ("no process 'vision' in the plan of faults. It has: '', 'near'.")


def test_a_device_without_safe_frames_has_no_warden() -> None:
    class Plain:
        setup, read, write = Rig.setup, Rig.read, Rig.write
        snapshot, restore, _held = Rig.snapshot, Rig.restore, (0, 0)

    made = setting()
    graph = graph_of(made)
    bus = SimBus(Plain(), guard_of(made), VirtualPort(RigEmulator()))
    with pytest.raises(DeviceError) as caught:
        VirtualExecutor(
            graph, make_plan(graph, {}), {"rig": bus}, {"source": source()},
            wardens={"rig": WardenSpec()},
        )  # fmt: skip
    assert str(caught.value) == (
        "rig: Plain has no safe_frames and longest_frame: a warden cannot make it safe. Write "
        "them, or say what else happens on_host_death."
    )


# --- pieces ---------------------------------------------------------------------------------------


def test_work_that_is_taken_away_gives_what_is_left() -> None:
    now, due = [0], dict[int, object]()
    processors = Processors(
        [ThreadPlan("a", ("a",))], Contention(), lambda: now[0], lambda t, do: due.update({t: do})
    )
    done: list[str] = []
    processors.compute(0, 10, 4, lambda: done.append("a"))
    now[0] = 3
    assert processors.remove(0) == (7, 1)
    assert processors.remove(0) is None
    for act in list(due.values()):
        act()  # type: ignore[operator]
    assert done == []


@pytest.mark.parametrize(("after_us", "count"), [(0, 0), (9, 0), (25, 2), (10_000, 5)])
def test_a_port_cuts_what_has_not_left_yet(after_us: int, count: int) -> None:
    received: list[bytes] = []

    class Ear:
        def receive(self, data: bytes, t_ns: int) -> list[tuple[int, bytes]]:
            received.append(data)
            return [(t_ns, b"ok")]

    port = VirtualPort(Ear())
    port.cut(Exchange(b"12345", 2), 0, after_us * 1000)
    assert b"".join(received) == b"12345"[:count]
    reply = port.exchange_at(Exchange(b"", 2, 1), 20 * MS)
    assert reply.rx == b""  # nobody reads an answer to what was cut
