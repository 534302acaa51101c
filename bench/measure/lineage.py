"""Where every message came from: sequence numbers, origin stamps and ages, by edge.

A recording holds what each firing sampled and how each node ended; from that, the origin of every
message is worked out again by the rule of the stepping code: a node's output is as old as the
oldest of its inputs that trigger it or are declared fresh.
"""

from dataclasses import dataclass

import numpy as np

from haihe.bench.measure.firings import I64, Bools, LaneColumns, lane_columns, lane_of
from haihe.runtime.plan.codegen import NOT_TRIGGERED, OFF
from haihe.runtime.plan.model import EdgePlan, Plan, StepPlan
from haihe.runtime.record.recording import Recording


@dataclass
class Samples:
    """A source as the firings of one lane see it, a row per firing; 0 is none or unknown."""

    sequence: I64
    origin: I64
    made: I64  # clock of the firing that made it, delivery of a stream's message


@dataclass
class EdgeFigures:
    """One edge of the plan, counted from the recording."""

    edge: EdgePlan
    lane: str  # of the target
    received: int  # distinct messages read
    overwritten: int  # never read: a newer one took the place
    refused: int  # never read: the queue was full; those before the last that was read
    absent: int  # readings before the first message
    stale: int  # readings older than fresh()
    ages: I64  # at reading, ns, where the origin is known; the command's: see route.py


class Lineage:
    """Sequence numbers and origins of every source in every lane of a recording."""

    def __init__(self, recording: Recording) -> None:
        self.plan: Plan = recording.plan
        self.lanes: dict[str, LaneColumns] = lane_columns(recording)
        self.streams: dict[str, I64] = {  # rows: sequence, capture, delivered
            source: np.array(
                [(r.sequence, r.capture_ns, r.delivered_ns) for r in records], np.int64
            ).reshape(-1, 3)
            for source, records in recording.streams.items()
        }
        self._made: dict[tuple[str, str], Samples] = {}
        self._under_way: set[tuple[str, str]] = set()

    def home(self, source: str) -> str:
        """The lane that makes a source; empty for a stream."""
        owner = source.split(".")[0]
        if owner in self.plan.streams:
            return ""
        for lane in self.plan.lanes:
            if any(bus.role == owner for bus in lane.task.buses):
                return lane.name
        return lane_of(self.plan, owner)

    def samples(self, lane: str, source: str) -> Samples:
        """A source as the nodes of a lane read it."""
        key = (lane, source)
        if key not in self._made:
            is_goal = any(goal.request == source for goal in self.plan.goals)
            # two lanes that feed each other: not followed further; a request is from outside
            if is_goal or key in self._under_way:
                zeros = np.zeros(len(self.lanes[lane]), np.int64)
                return Samples(zeros, zeros, zeros)
            self._under_way.add(key)
            columns = self.lanes[lane]
            is_read = source in columns.reads
            self._made[key] = self._read(lane, source) if is_read else self._own(lane, source)
            self._under_way.discard(key)
        return self._made[key]

    def _read(self, lane: str, source: str) -> Samples:
        sequence = self.lanes[lane].reads[source]
        home = self.home(source)
        if not home:
            table = self.streams.get(source, np.zeros((0, 3), np.int64))
            capture, delivered = look_up(table, sequence).T
            return Samples(sequence, capture, delivered)
        own = self.samples(home, source)
        whole = self.lanes[home].gap
        fired = self.lanes[home].fired(source)[:whole]
        rows = np.column_stack((own.sequence, own.origin, own.made))[:whole][fired]
        origin, made = look_up(rows, sequence).T
        return Samples(sequence, origin, made)

    def _own(self, lane: str, source: str) -> Samples:
        columns = self.lanes[lane]
        fired = columns.fired(source)
        owner = source.split(".")[0]
        if owner in columns.buses:
            bus = columns.buses[owner]
            return hold(fired, bus.state_at, columns.clock)
        step = next(s for s in columns.task.steps if s.name == owner)
        return hold(fired, self._origin(lane, step), columns.clock)

    def _origin(self, lane: str, step: StepPlan) -> I64:
        """The oldest counted input of a step in each firing; the clock if none is counted."""
        clock = self.lanes[lane].clock
        if step.select:
            return self._selected(lane, step)
        oldest, unknown = np.full(len(clock), np.iinfo(np.int64).max), np.zeros(len(clock), bool)
        counted = 0
        for _, number in step.inputs:
            edge = self.plan.edges[number]
            if edge.kind == "loop" or not edge.ages:
                continue
            counted += 1
            origin = self.samples(lane, edge.source).origin
            if edge.on_stale == "call":  # an optional input that is not given counts as new
                given = origin > 0
                if edge.fresh_ns is not None:
                    given &= clock - origin <= edge.fresh_ns
                origin = np.where(given, origin, clock)
            unknown |= origin == 0
            oldest = np.minimum(oldest, origin)
        if not counted:
            return clock
        oldest[unknown] = 0
        return oldest

    def _selected(self, lane: str, step: StepPlan) -> I64:
        """The origin of what a select takes over: of the first input published in the firing."""
        found = np.zeros(len(self.lanes[lane].clock), np.int64)
        for _, number in reversed(step.inputs):
            source = self.plan.edges[number].source
            fired = self.lanes[lane].fired(source)
            found[fired] = self.samples(lane, source).origin[fired]
        return found

    def edges(self) -> list[EdgeFigures]:
        """All edges in the plan's order; a loop has no counters."""
        figures = []
        for number, edge in enumerate(self.plan.edges):
            lane, node = self._target(number)
            columns = self.lanes[lane]
            run = np.ones(len(columns), bool)
            if node:
                run = ~np.isin(columns.outcomes[node], (NOT_TRIGGERED, OFF))
                step = next(s for s in columns.task.steps if s.name == node)
                if step.select:
                    run = columns.fired(edge.source)
            if edge.kind in ("loop", "goal"):  # a request comes from outside
                figures.append(EdgeFigures(edge, lane, 0, 0, 0, 0, 0, np.zeros(0, np.int64)))
                continue
            seen = self.samples(lane, edge.source)
            sequence, origin = seen.sequence[run], seen.origin[run]
            there = sequence > 0
            distinct = len(np.unique(sequence[there]))
            lost = int(sequence.max(initial=0)) - distinct
            refused = lost if edge.kind == "fifo" else 0
            ages = (columns.clock[run] - origin)[there & (origin > 0)]
            stale = int(np.sum(ages > edge.fresh_ns)) if edge.fresh_ns is not None else 0
            figures.append(
                EdgeFigures(
                    edge, lane, distinct, lost - refused, refused, int(np.sum(~there)), stale, ages
                )
            )
        return figures

    def _target(self, number: int) -> tuple[str, str]:
        """Lane and node that an edge feeds; no node for a command."""
        for lane in self.plan.lanes:
            for step in lane.task.steps:
                if any(edge == number for _, edge in step.inputs):
                    return lane.name, step.name
            if any(bus.command_edge == number for bus in lane.task.buses):
                return lane.name, ""
        raise LookupError(f"edge {number} of plan {self.plan.graph} feeds nothing")


def look_up(table: I64, sequence: I64) -> I64:
    """Rows of a table (its first column: ascending numbers) by number, without that column;
    zeros where a number is not there."""
    found = np.zeros((len(sequence), table.shape[1] - 1), np.int64)
    if len(table):
        place = np.searchsorted(table[:, 0], sequence)
        place = np.minimum(place, len(table) - 1)
        hit = (table[place, 0] == sequence) & (sequence > 0)
        found[hit] = table[place[hit], 1:]
    return found


def hold(fired: Bools, origin: I64, made: I64) -> Samples:
    """What was made where it fired, and the last of it until the next."""
    last = np.maximum.accumulate(np.where(fired, np.arange(len(fired)), -1))
    there = last >= 0
    return Samples(
        np.cumsum(fired).astype(np.int64),
        np.where(there, origin[last], 0),
        np.where(there, made[last], 0),
    )
