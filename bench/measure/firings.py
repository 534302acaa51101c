"""The firings of a lane as columns, and what its buses exchanged.

An exchange of a firing belongs to the reading of its bus when it was sent before the firing's
clock reading, and to the writing when it was sent at it or later: the stepping code reads every
bus, takes the clock, calls the nodes and only then writes. No codec needs to be known for that.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from haihe.runtime.plan.codegen import CODE_BITS
from haihe.runtime.plan.model import LanePlan, Plan, TaskPlan
from haihe.runtime.record.format import FIRING, STOP, Event, LaneRecord, Logged
from haihe.runtime.record.recording import Recording

I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass
class BusColumns:
    """One bus of a lane, a row per firing; stamps in ns, 0 where there is none."""

    role: str
    was_read: Bools  # the state was there
    first_sent: I64  # first exchange of the reading
    state_at: I64  # capture stamp of the state: middle of the last exchange of the reading
    state_done: I64
    first_byte: I64  # first exchange of the writing
    last_byte: I64
    trips: I64  # round trips of complete answers, not a row per firing
    reads: int = 0  # exchanges that want an answer
    writes: int = 0
    timeouts: int = 0  # the answer was missing or too short
    errors: int = 0  # the port failed


@dataclass
class LaneColumns:
    """A lane, a row per firing; stamps in ns."""

    name: str
    task: TaskPlan
    number: I64
    release: I64
    clock: I64
    run: I64  # from the clock reading to the end of the nodes
    reads: dict[str, I64]  # sampled source -> sequence number, 0: none
    outcomes: dict[str, I64]  # node -> index in OUTCOMES
    published: dict[str, Bools]  # output -> whether a message was made
    buses: dict[str, BusColumns]
    is_armed: Bools  # by the events: after `arm`, before `trip` or `disarm`
    events: list[tuple[int, Event]] = field(default_factory=list)  # (clock, event), stop included
    stops: int = 0

    def __len__(self) -> int:
        return len(self.number)

    @property
    def end(self) -> I64:
        """When the nodes of each firing had run and their outputs were published."""
        return self.clock + self.run

    @property
    def gap(self) -> int:
        """The row of the first firing that does not follow the one before; else their count.
        Counting messages from the beginning is right up to there."""
        wrong = np.flatnonzero(self.number != np.arange(1, len(self) + 1))
        return int(wrong[0]) if len(wrong) else len(self)

    @property
    def lateness(self) -> I64:
        """Clock reading minus release; in a lane with buses their reading lies between."""
        return self.clock - self.release

    @property
    def wake(self) -> I64:
        """First act minus release: the scheduling of the machine alone."""
        first = self.clock.copy()
        for bus in self.buses.values():
            first = np.where(bus.first_sent > 0, np.minimum(first, bus.first_sent), first)
        return first - self.release

    @property
    def skipped(self) -> int:
        """Places of the grid without a firing; 0 for a triggered lane."""
        every = self.task.every_ns
        if not every or len(self) < 2:
            return 0
        return int(np.sum(np.rint(np.diff(self.release) / every).astype(np.int64) - 1))

    def fired(self, source: str) -> Bools:
        """Where a message of a source of this lane was made."""
        for bus in self.buses.values():
            if source == f"{bus.role}.state":
                return bus.was_read
        return self.published[source]


def lane_columns(recording: Recording) -> dict[str, LaneColumns]:
    """All lanes of a recording by name."""
    return {lane.name: _columns(lane, recording.lanes[lane.name]) for lane in recording.plan.lanes}


def lane_of(plan: Plan, node: str) -> str:
    """The lane in which a node runs."""
    return next(ln.name for ln in plan.lanes if any(s.name == node for s in ln.task.steps))


def _columns(lane: LanePlan, records: list[LaneRecord]) -> LaneColumns:
    task = lane.task
    firings = [record for record in records if record.kind == FIRING]
    width = 4 + len(task.reads) + len(task.steps) + len(task.buses)
    table = np.array([record.fixed for record in firings], np.int64).reshape(-1, width)
    number, release, clock, run = table.T[:4]
    at = 4 + len(task.reads)
    after = at + len(task.steps)
    buses = {
        bus.role: _bus(bus.role, index, firings, table[:, after + index] > 0)
        for index, bus in enumerate(task.buses)
    }
    columns = LaneColumns(
        lane.name,
        task,
        number,
        release,
        clock,
        run,
        {source: table[:, 4 + i] for i, source in enumerate(task.reads)},
        {step.name: table[:, at + i] & ((1 << CODE_BITS) - 1) for i, step in enumerate(task.steps)},
        {
            step.source(port): table[:, at + i] >> (CODE_BITS + place) & 1 > 0
            for i, step in enumerate(task.steps)
            for place, port in enumerate(step.outputs)
        },
        buses,
        _armed(firings),
    )
    for record in records:
        if record.events:
            t = record.fixed[1] if record.kind == STOP else record.fixed[2]
            columns.events += [(t, event) for event in record.events]
        columns.stops += record.kind == STOP
    return columns


def _armed(firings: list[LaneRecord]) -> Bools:
    armed, latched, states = False, False, []
    for record in firings:
        for event in record.events:
            if event[0] in ("trip", "reset"):
                latched, armed = event[0] == "trip", False
            elif event[0] in ("arm", "disarm"):
                armed = event[0] == "arm" and not latched
        states.append(armed)
    return np.array(states, bool)


def _bus(role: str, index: int, firings: list[LaneRecord], was_read: Bools) -> BusColumns:
    rows = np.zeros((5, len(firings)), np.int64)
    asked: list[Logged] = []
    writes = errors = 0
    for row, record in enumerate(firings):
        clock = record.fixed[2]
        for bus, exchange, reply in record.exchanges:
            if bus != index:
                continue
            if reply.error:
                errors += 1
                continue
            if reply.t_sent_ns < clock:
                asked.append((bus, exchange, reply))
                rows[0, row] = rows[0, row] or reply.t_sent_ns
                rows[1, row] = (reply.t_sent_ns + reply.t_done_ns) // 2
                rows[2, row] = reply.t_done_ns
            else:
                writes += 1
                rows[3, row] = rows[3, row] or reply.t_sent_ns
                rows[4, row] = reply.t_done_ns
    first_sent, state_at, state_done, first_byte, last_byte = rows
    trips = _round_trips(asked)
    return BusColumns(
        role,
        was_read,
        first_sent,
        state_at,
        state_done,
        first_byte,
        last_byte,
        trips,
        reads=len(asked),
        writes=writes,
        timeouts=len(asked) - len(trips),
        errors=errors,
    )


def _round_trips(asked: Iterable[Logged]) -> I64:
    """Of complete answers. How long an answer should be is not recorded: the same request always
    wants as much, so it is the longest that ever came."""
    longest: dict[bytes, int] = {}
    for _, exchange, reply in asked:
        longest[exchange.tx] = max(len(reply.rx), longest.get(exchange.tx, 1))
    return np.array(
        [r.t_done_ns - r.t_sent_ns for _, x, r in asked if len(r.rx) == longest[x.tx]], np.int64
    )
