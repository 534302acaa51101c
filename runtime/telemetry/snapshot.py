"""The state of a run at one moment, as plain data: status lines, metrics and views show it.

Every process makes one of its own lanes (`snapshot`), sends it as MessagePack (`encode`), and the
launcher joins them (`merge`). Nothing here is on the hot path: counters are read while lanes write
them, so two numbers of one snapshot may be a firing apart. Times are ns of the run's clock.

On every edge: sent = received + overwritten + refused + in flight.
"""

import os
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol
from weakref import WeakKeyDictionary

import msgspec

from haihe.runtime.clock import now_ns, wall_time_s
from haihe.runtime.exec.bus import BusRunner
from haihe.runtime.links.channel import Outlet
from haihe.runtime.plan.model import Plan
from haihe.runtime.telemetry.stats import NodeStats

if TYPE_CHECKING:
    from haihe.runtime.exec.assembly import Assembly
    from haihe.runtime.exec.realtime import RealtimeExecutor


class ProcessState(msgspec.Struct):
    """A process of the run; name "" is the launcher's."""

    name: str
    pid: int
    state: str
    restarts: int = 0
    problem: str = ""


class LaneState(msgspec.Struct):
    """A lane. skipped: releases whose place on the grid passed while its last job still ran."""

    name: str
    process: str
    thread: str
    firings: int
    skipped: int = 0
    problem: str = ""


class EdgeState(msgspec.Struct):
    """An edge. sent is None where only its reader is known (its writer is another process), ends
    is False where only its writer is. Ages in ns: of `count` readings, the sum and the worst."""

    source: str
    target: str
    kind: str
    sent: int | None = None
    ends: bool = True
    received: int = 0
    overwritten: int = 0
    refused: int = 0
    stale: int = 0
    absent: int = 0
    count: int = 0
    total_ns: int = 0
    worst_ns: int = 0
    in_flight: int | None = None  # None: not known in this part

    def settle(self) -> None:
        """Work `in_flight` out: what was sent and is not accounted for. Below zero means that a
        counter is wrong; it is not hidden."""
        self.in_flight = None
        if self.sent is not None and self.ends:
            self.in_flight = self.sent - (self.received + self.overwritten + self.refused)


class NodeState(msgspec.Struct):
    """A node. How its firings ended, its execution times in ns (`calls` of them), its budget (0:
    none is known)."""

    name: str
    lane: str
    called: int = 0
    silent: int = 0
    stale: int = 0
    absent: int = 0
    unaligned: int = 0
    off: int = 0
    raised: int = 0
    misses: int = 0
    overruns: int = 0
    total_ns: int = 0
    worst_ns: int = 0
    budget_ns: int = 0

    @property
    def calls(self) -> int:
        """How often it ran."""
        return self.called + self.silent + self.raised


class BusState(msgspec.Struct):
    """A bus device and its guard ("" when it has none). first_bytes: commands whose data were new
    at the wire; the age of these data at the first byte, sum and worst, in ns."""

    role: str
    lane: str
    online: bool
    problem: str
    losses: int
    guard: str
    guard_reason: str
    guard_counts: dict[str, int]
    first_bytes: int = 0
    reaction_total_ns: int = 0
    reaction_worst_ns: int = 0


class StreamState(msgspec.Struct):
    """A port of a stream device."""

    source: str
    delivered: int
    ended: bool = False
    problem: str = ""


class RecorderState(msgspec.Struct):
    """The recording. bytes: written, or in memory where it is kept in a ring."""

    path: str
    lost: int
    bytes: int
    saved: list[str] = []


class Snapshot(msgspec.Struct):
    """A run, or one process' part of it."""

    graph: str
    state: str
    t_ns: int
    started_ns: int
    wall_s: float
    processes: list[ProcessState]
    lanes: list[LaneState]
    edges: list[EdgeState]
    nodes: list[NodeState]
    buses: list[BusState]
    streams: list[StreamState]
    recorder: RecorderState | None = None

    @property
    def elapsed_s(self) -> float:
        """Since the first release, 0 before it."""
        return max(0.0, (self.t_ns - self.started_ns) * 1e-9) if self.started_ns else 0.0


class RecorderCounts(Protocol):
    """What is asked of a recorder."""

    @property
    def lost(self) -> int:
        """Messages that could not be recorded."""
        ...

    @property
    def size(self) -> int:
        """Bytes."""
        ...


def snapshot(
    executor: "RealtimeExecutor",
    *,
    budgets: Mapping[str, int] | None = None,
    recorder: RecorderCounts | None = None,
) -> Snapshot:
    """The state of a process' part of a run. Safe from any thread, at any time.

    budgets: of nodes in ns, where they are not the declared ones.
    """
    outcome = executor.outcome
    problems: dict[str, str] = {}
    for lane, _, exc in outcome.failures:
        problems.setdefault(lane, str(exc))
    for thread in executor.plan.threads:
        if thread.name in outcome.hung:
            for lane in thread.lanes:
                problems.setdefault(lane, "it hangs")
    found = snapshot_of(
        executor.assembly,
        process=executor.process if executor.plan.processes else None,
        state=executor.state,
        t_ns=now_ns(),
        started_ns=executor.started_ns,
        skipped=executor.skipped,
        problems=problems,
        streams=[
            StreamState(source, count.delivered, count.ended, count.problem)
            for source, count in executor.counts.items()
        ],
        budgets=budgets,
    )
    if recorder is not None:
        path = str(getattr(recorder, "path", ""))
        saved = [str(one) for one in getattr(recorder, "saved", [])]
        found.recorder = RecorderState(path, recorder.lost, recorder.size, saved)
    return found


def snapshot_of(
    assembly: "Assembly",
    *,
    process: str | None = None,
    state: str = "",
    t_ns: int = 0,
    started_ns: int = 0,
    skipped: Mapping[str, int] | None = None,
    problems: Mapping[str, str] | None = None,
    streams: Sequence[StreamState] = (),
    budgets: Mapping[str, int] | None = None,
) -> Snapshot:
    """The same of an assembly: what an executor adds is given. process: whose part it is, None
    for all of the plan."""
    plan, skipped, problems, budgets = assembly.plan, skipped or {}, problems or {}, budgets or {}
    threads = {lane: thread for thread in plan.threads for lane in thread.lanes}
    lanes, nodes, buses = [], [], []
    for lane in assembly.lanes:
        thread = threads[lane.name].name if lane.name in threads else lane.name
        lanes.append(
            LaneState(
                lane.name, process or "", thread, lane.firing, skipped.get(lane.name, 0),
                problems.get(lane.name, ""),
            )
        )  # fmt: skip
        for step in lane.task.steps:
            budget = budgets.get(step.name, step.budget_ns)
            nodes.append(_node(step.name, lane.name, assembly.nodes[step.name], budget))
        buses += [_bus(bus, lane.name) for bus in lane.buses]
    return Snapshot(
        graph=plan.graph,
        state=state,
        t_ns=t_ns,
        started_ns=started_ns,
        wall_s=wall_time_s(),
        processes=[ProcessState(process or "", os.getpid(), state)],
        lanes=lanes,
        edges=_edges(assembly, process, {one.source: one.delivered for one in streams}),
        nodes=nodes,
        buses=buses,
        streams=list(streams),
    )


def _node(name: str, lane: str, s: NodeStats, budget_ns: int) -> NodeState:
    return NodeState(
        name, lane, s.called, s.silent, s.stale, s.absent, s.unaligned, s.off, s.raised, s.misses,
        s.overruns, s.total_ns, s.worst_ns, budget_ns,
    )  # fmt: skip


def _bus(bus: BusRunner, lane: str) -> BusState:
    guard = bus.guard
    return BusState(
        bus.role,
        lane,
        bus.online,
        bus.problem,
        bus.losses,
        guard.state.name if guard is not None else "",
        guard.reason if guard is not None else "",
        bus.guard_counts(),
        bus.first_bytes,
        bus.reaction_total_ns,
        bus.reaction_worst_ns,
    )


def _edges(
    assembly: "Assembly", process: str | None, delivered: Mapping[str, int]
) -> list[EdgeState]:
    """Those that begin or end here. The counters are read before what was sent: a message that
    goes by meanwhile counts as in flight, not as received and never sent."""
    known = _places_of(assembly)
    counts = [
        (s.received, s.overwritten, s.refused, s.stale, s.absent, s.count, s.total_ns, s.worst_ns)
        for s in assembly.edges
    ]
    made = _made(assembly, process, known) | dict(delivered)
    found = []
    for number, edge in enumerate(assembly.plan.edges):
        if edge.kind == "loop":
            continue  # a value of the firing before: nothing travels
        reader = known.readers[number]
        sent = made.get(edge.source)
        if process is None or reader == process:
            state = EdgeState(edge.source, edge.target, edge.kind, sent, True, *counts[number])
        elif sent is None:
            continue
        else:
            state = EdgeState(edge.source, edge.target, edge.kind, sent, ends=False)
            if edge.kind == "fifo":
                state.refused = _refused(assembly, edge.source, reader)
        state.settle()
        found.append(state)
    return found


class _Places(NamedTuple):
    """What of a plan no snapshot has to work out again."""

    readers: list[str]  # by edge: the process at its end
    makers: dict[str, str]  # by source: the process that makes it


_places: "WeakKeyDictionary[Assembly, _Places]" = WeakKeyDictionary()


def _places_of(assembly: "Assembly") -> _Places:
    found = _places.get(assembly)
    if found is None:
        plan, readers = assembly.plan, _readers(assembly.plan)
        found = _places[assembly] = _Places(
            [plan.process_of(readers.get(number, "")) for number in range(len(plan.edges))],
            {source: plan.maker_process(source) for source in assembly.slots},
        )
    return found


def _readers(plan: Plan) -> dict[int, str]:
    """By edge: the lane at its end."""
    return {edge: lane.name for lane in plan.lanes for edge in lane.task.ends}


def _made(assembly: "Assembly", process: str | None, known: _Places) -> dict[str, int]:
    """The number of the last message of every source that is made in this process."""
    made = {}
    for source, slots in assembly.slots.items():
        if process is None or known.makers[source] == process:
            made[source] = max((slot.value[0] for slot in slots if slot.value), default=0)
    for lane in assembly.lanes:
        made |= {s: n for s, n in lane.numbers().items() if s not in lane.task.reads}
        made |= {goal.plan.request: goal.number for goal in lane.goals.values()}
    return made


def _refused(assembly: "Assembly", source: str, process: str) -> int:
    """What a full queue in another process refused: counted where it was not sent."""
    outlets = (slot for slot in assembly.slots.get(source, ()) if isinstance(slot, Outlet))
    return sum(
        reader.dropped + reader.refused
        for outlet in outlets
        for reader in outlet.readers
        if reader.fifo and reader.name == (process or "main")
    )


# --- several processes ----------------------------------------------------------------------------


def encode(found: Snapshot) -> bytes:
    """As MessagePack, compressed: the names of its fields repeat a lot."""
    return zlib.compress(msgspec.msgpack.encode(found), 1)


def decode(data: bytes) -> Snapshot:
    """What `encode` gave. Raises zlib.error, msgspec.DecodeError."""
    return msgspec.msgpack.decode(zlib.decompress(data), type=Snapshot)


def to_json(found: Snapshot) -> bytes:
    """For programs that do not know MessagePack."""
    return msgspec.json.encode(found)


def merge(parts: Sequence[Snapshot], processes: Iterable[ProcessState] = ()) -> Snapshot:
    """One snapshot of a run from those of its processes, the launcher's first.

    processes: what the launcher knows of them, in place of what they said of themselves (a dead one
    says nothing). A part that is missing leaves its lanes out, and edges to it without `in_flight`.
    """
    main = parts[0]
    edges: dict[tuple[str, str, str], EdgeState] = {}
    for part in parts:
        for edge in part.edges:
            key = edge.source, edge.target, edge.kind
            edges[key] = (
                _joined(edges[key], edge) if key in edges else msgspec.structs.replace(edge)
            )
    known = {one.name: one for part in parts for one in part.processes}
    known |= {one.name: one for one in processes}
    return msgspec.structs.replace(
        main,
        processes=list(known.values()),
        lanes=[one for part in parts for one in part.lanes],
        edges=list(edges.values()),
        nodes=[one for part in parts for one in part.nodes],
        buses=[one for part in parts for one in part.buses],
        streams=[one for part in parts for one in part.streams],
    )


def _joined(one: EdgeState, other: EdgeState) -> EdgeState:
    """The two sides of an edge."""
    reader, writer = (one, other) if one.ends else (other, one)
    sent = writer.sent if reader.sent is None else reader.sent
    joined = msgspec.structs.replace(reader, sent=sent, refused=reader.refused + writer.refused)
    if sent is not None:  # the writer was asked earlier: what has arrived was sent meanwhile
        joined.sent = max(sent, joined.received + joined.overwritten + joined.refused)
    joined.settle()
    return joined
