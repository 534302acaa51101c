"""Snapshots: whole, merged from parts, over the wire, and equal to what went over the edges."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest
from tests.runtime.exec.fakes import Fault, following

from haihe.boards.unit import find_unit, load_unit
from haihe.drivers.roles import camera
from haihe.pipelines.launch import run, simulate
from haihe.pipelines.live import Live
from haihe.pipelines.status import StatusLine
from haihe.runtime.contracts import fifo, fresh
from haihe.runtime.graph import Graph, named
from haihe.runtime.node import node
from haihe.runtime.plan.model import Plan
from haihe.runtime.telemetry.snapshot import (
    EdgeState,
    ProcessState,
    Snapshot,
    StreamState,
    decode,
    encode,
    merge,
    snapshot_of,
    to_json,
)
from haihe.runtime.types import Image, Reading

IDEAL = {"ideal": True}


@node
@dataclass
class Count:
    """Numbers the frames that it is called for."""

    _n: int = 0

    def __call__(self, image: Image) -> Reading:
        self._n += 1
        return Reading(float(self._n))


@node(every="110ms")
@dataclass
class Sampler:
    """Notes each number that it reads, in the order of reading."""

    _read: tuple[float, ...] = ()

    def __call__(self, count: Annotated[Reading, fresh("1s")]) -> Reading:
        self._read = (*self._read, count.value)
        return count


@node(budget="50ms")
@dataclass
class Queued:
    """Notes each number that comes through its queue; slower than they come."""

    _read: tuple[float, ...] = ()

    def __call__(self, count: Annotated[Reading, fifo(3)]) -> Reading:
        self._read = (*self._read, count.value)
        return count


def counting() -> Graph:
    with Graph("counting") as graph:
        count = named("count", Count())(camera("front").image)
        named("sampler", Sampler())(count)
        named("queued", Queued())(count)
        graph.thread("slow", "queued")
    return graph


def read_by(executor: Any, name: str) -> tuple[float, ...]:
    lane = executor.assembly.lane_of(name)
    place = next(i for i, step in enumerate(lane.task.steps) if step.name == name)
    read: tuple[float, ...] = lane.instances[place]._read
    return read


def edge(found: Snapshot, source: str, target: str) -> EdgeState:
    return next(e for e in found.edges if e.source == source and e.target.startswith(target))


def test_every_edge_balances_against_the_payload_of_a_source_and_its_sinks() -> None:
    made = simulate(counting(), "3s", unit="pan-tilt", world=IDEAL)
    executor = made.executor
    found = snapshot_of(executor.assembly)
    assert found.edges
    for state in found.edges:
        assert state.in_flight == executor.assembly.in_flight(_number(executor, state))
    sampled, queued = read_by(executor, "sampler"), read_by(executor, "queued")
    counted = next(node for node in found.nodes if node.name == "count").called
    slot = edge(found, "count", "sampler")
    assert slot.sent == counted > 80
    assert slot.received == len(set(sampled))
    assert slot.overwritten == max(sampled) - len(set(sampled)) > 0
    assert slot.in_flight == counted - max(sampled)
    queue = edge(found, "count", "queued")
    assert queue.kind == "fifo"
    assert queue.sent == counted
    assert queue.received == len(queued)
    assert queue.in_flight == executor.assembly.in_flight(_number(executor, queue))
    assert list(queued) == sorted(queued)
    assert queue.refused == counted - len(queued) - queue.in_flight > 0


def _number(executor: Any, wanted: EdgeState) -> int:
    return next(
        n
        for n, e in enumerate(executor.plan.edges)
        if (e.source, e.target, e.kind) == (wanted.source, wanted.target, wanted.kind)
    )


def test_a_snapshot_says_what_the_lanes_nodes_and_guards_did() -> None:
    made = simulate(
        following(), "2s", unit="pan-tilt", world=IDEAL, budgets={"ideal_detector": "4ms"},
        prepare_run=lambda ex, w: ex.after(10**9, lambda: ex.post(("trip", "e-stop"))),
    )  # fmt: skip
    found = snapshot_of(made.executor.assembly, budgets={"ideal_detector": 4_000_000})
    assert [(lane.name, lane.firings) for lane in found.lanes] == [
        (lane.name, lane.firing) for lane in made.executor.assembly.lanes
    ]
    assert [lane.thread for lane in found.lanes] == [
        thread.name for thread in made.executor.plan.threads
    ]
    detector = next(node for node in found.nodes if node.name == "ideal_detector")
    assert (detector.called, detector.budget_ns) == (detector.calls, 4_000_000)
    (bus,) = found.buses
    assert (bus.role, bus.guard, bus.online, bus.losses) == ("neck", "SAFE", True, 0)
    assert 45 <= bus.guard_counts["latched"] <= 52
    assert bus.first_bytes > 20
    assert bus.reaction_worst_ns * bus.first_bytes >= bus.reaction_total_ns > 0


# --- several processes ----------------------------------------------------------------------------


def parted(executor: Any, plan: Plan, monkeypatch: pytest.MonkeyPatch) -> list[Snapshot]:
    """The parts of a run of one process, as if its lanes had been in two."""
    whole = executor.assembly
    parts = []
    for process in ("", "vision"):
        lanes = [lane for lane in whole.lanes if plan.process_of(lane.name) == process]
        monkeypatch.setattr(whole, "plan", plan)
        monkeypatch.setattr(whole, "lanes", lanes)
        monkeypatch.setattr("haihe.runtime.telemetry.snapshot._places", {})  # of the other plan
        parts.append(snapshot_of(whole, process=process))
        monkeypatch.undo()
    return parts


def test_parts_merge_to_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    made = simulate(counting(), "3s", unit="pan-tilt", world=IDEAL)
    whole = snapshot_of(made.executor.assembly)
    threads = tuple(
        msgspec.structs.replace(t, process="vision" if "front" in t.lanes else "")
        for t in made.executor.plan.threads
    )
    plan = msgspec.structs.replace(made.executor.plan, threads=threads)
    main, vision = parted(made.executor, plan, monkeypatch)
    assert {lane.name for lane in vision.lanes} == {"front"}
    halves = [edge(part, "count", "sampler") for part in (main, vision)]
    assert [(e.sent, e.ends, e.in_flight) for e in halves] == [
        (None, True, None), (edge(whole, "count", "sampler").sent, False, None)
    ]  # fmt: skip
    merged = merge([main, decode(encode(vision))], [ProcessState("vision", 7, "running", 2)])

    def by_name(found: Snapshot) -> list[Any]:
        return sorted(msgspec.to_builtins(found.edges), key=str)

    assert by_name(merged) == by_name(whole)
    assert sorted(n.name for n in merged.nodes) == sorted(n.name for n in whole.nodes)
    assert [(p.name, p.state, p.restarts) for p in merged.processes] == [
        ("", "", 0), ("vision", "running", 2)
    ]  # fmt: skip


def test_a_reader_that_was_asked_later_than_the_writer_leaves_nothing_below_zero() -> None:
    one = EdgeState("a", "b.x", "slot", received=5, overwritten=2)
    other = EdgeState("a", "b.x", "slot", sent=6, ends=False)
    part = Snapshot("g", "", 0, 0, 0.0, [], [], [], [], [], [])
    found = merge([
        msgspec.structs.replace(part, edges=[one]), msgspec.structs.replace(part, edges=[other])
    ])  # fmt: skip
    assert [(e.sent, e.in_flight) for e in found.edges] == [(7, 0)]
    assert (one.sent, other.sent) == (None, 6)  # the parts are as they were


def test_a_counter_that_is_wrong_shows_below_zero() -> None:
    state = EdgeState("a", "b.x", "slot", sent=5, received=6)
    state.settle()
    assert (state.sent, state.in_flight) == (5, -1)


def test_what_a_writer_refused_counts_on_the_edge() -> None:
    part = Snapshot("g", "", 0, 0, 0.0, [], [], [], [], [], [])
    sides = [
        EdgeState("a", "b.x", "fifo", received=5, refused=1),
        EdgeState("a", "b.x", "fifo", sent=10, ends=False, refused=3),
    ]
    for order in (sides, sides[::-1]):
        (found,) = merge([msgspec.structs.replace(part, edges=[e]) for e in order]).edges
        assert (found.refused, found.sent, found.in_flight) == (4, 10, 1)


def test_a_snapshot_is_json_with_every_field() -> None:
    made = simulate(following(), "500ms", unit="pan-tilt", world=IDEAL)
    found = snapshot_of(made.executor.assembly, streams=[StreamState("front.image", 15)])
    data = msgspec.json.decode(to_json(found))
    assert set(data) == set(Snapshot.__struct_fields__)
    assert data == msgspec.to_builtins(found)
    assert decode(encode(found)) == found


# --- of a live run, and the status line -----------------------------------------------------------


def test_a_live_run_gives_snapshots_and_the_status_line_shows_them(tmp_path: Path) -> None:
    seen: list[Snapshot] = []
    lines: list[str] = []
    line = StatusLine()

    def look(live: Live) -> None:
        seen.append(live.snapshot())
        lines.append(line.line(seen[-1], 0.1))

    unit = load_unit(find_unit("pan-tilt", None))
    live = run(
        counting(), unit=unit, sim=True, world=IDEAL, duration="700ms", tick=look, tick_s=0.1,
        record=tmp_path / "a.mcap", frames="none",
    )  # fmt: skip
    last = live.snapshot()
    assert (seen[0].graph, seen[0].state, last.state) == ("counting", "armed", "safe")
    assert seen[-1].elapsed_s > seen[0].elapsed_s > 0
    for found in (*seen, last):  # counted by the reader, and by the maker: neither from the other
        assert all(state.in_flight is not None and state.in_flight >= 0 for state in found.edges)
    sampled, queued = read_by(live.executor, "sampler"), read_by(live.executor, "queued")
    counted = next(node for node in last.nodes if node.name == "count").called
    slot, queue = edge(last, "count", "sampler"), edge(last, "count", "queued")
    assert slot.sent == queue.sent == counted > 5
    assert (slot.received, slot.received + slot.overwritten) == (len(set(sampled)), max(sampled))
    assert queue.received == len(queued)
    assert queue.in_flight == live.executor.assembly.in_flight(_number(live.executor, queue))
    assert last.streams[0].source == "front.image"
    assert last.streams[0].delivered == edge(last, "front.image", "count").sent
    assert last.recorder is not None
    assert (last.recorder.lost, last.recorder.path) == (0, str(tmp_path / "a.mcap"))
    assert "error  5.73°  dropped " in lines[-1]
    assert lines[-1].startswith("armed    0.")
    assert "front " in lines[-1]


def test_the_status_line_of_processes_and_losses() -> None:
    made = simulate(following(Fault()), "1s", unit="pan-tilt", world=IDEAL)
    found = snapshot_of(made.executor.assembly, state="armed", t_ns=3_500_000_000, started_ns=10**9)
    found.processes.append(ProcessState("vision", 7, "backing off", 2))
    line = StatusLine()
    (bus,) = found.buses
    idle = msgspec.structs.replace(bus, first_bytes=0, reaction_total_ns=0)
    lanes = [msgspec.structs.replace(lane, firings=0) for lane in found.lanes]
    line.line(msgspec.structs.replace(found, t_ns=2_500_000_000, lanes=lanes, buses=[idle]))
    assert line.line(found) == (
        "armed    2.5 s  every-20ms   50 Hz  front   30 Hz  neck: age at first byte "
        f"{made_age(found):5.1f} ms  dropped {dropped(found)}  stale 0  vision: 2 restarts, "
        "backing off"
    )


def made_age(found: Snapshot) -> float:
    (bus,) = found.buses
    return bus.reaction_total_ns / bus.first_bytes * 1e-6


def dropped(found: Snapshot) -> int:
    return sum(e.overwritten for e in found.edges)
