"""Everything a report says about a run, from its recording alone."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from haihe.bench.measure.firings import I64, BusColumns, LaneColumns
from haihe.bench.measure.lineage import EdgeFigures, Lineage
from haihe.bench.measure.route import Route, command_age_ns, routes
from haihe.runtime.plan.codegen import ABSENT, CALLED, OUTCOMES, STALE
from haihe.runtime.record.recording import Recording

F64 = NDArray[np.float64]
SETTLING_S = 2.0  # of the tracking error, left out of its statistics
WITHIN_DEG = 2.0


@dataclass
class NodeFigures:
    """How the firings of a node ended."""

    name: str
    lane: str
    outcomes: dict[str, int]  # by OUTCOMES, those that occurred
    misses: int  # published later than its deadline
    deadline_ns: int | None = None


@dataclass
class StreamFigures:
    """What a stream device delivered, and what of it was never looked at."""

    source: str
    delivered: int
    unread: int  # overwritten or refused before any lane looked
    rate_hz: float
    latency: I64  # capture to delivery, ns
    missing: int  # places of the frame grid without a frame: lost before delivery


@dataclass
class Happening:
    """An event, in s since the first release."""

    t_s: float
    lane: str
    kind: str
    text: str


@dataclass
class Interval:
    """A span of the run, in s since the first release. kind: stale (the guard holds for want of a
    fresh command), safe (latched), blind (a node was not called: an input too old or absent)."""

    kind: str
    what: str
    start_s: float
    end_s: float


@dataclass
class Tracking:
    """The tracking error by the world's truth, in degrees."""

    t_s: F64
    error_deg: F64
    judged: F64  # the errors that count: without the first SETTLING_S

    @property
    def rms(self) -> float:
        """In degrees."""
        return float(np.sqrt(np.mean(self.judged**2)))

    @property
    def within(self) -> float:
        """Share within WITHIN_DEG."""
        return float(np.mean(self.judged <= WITHIN_DEG))


@dataclass
class Analysis:
    """The run in numbers; times in ns, monotonic, unless they say otherwise."""

    recording: Recording
    lineage: Lineage
    start_ns: int
    end_ns: int
    routes: list[Route]
    edges: list[EdgeFigures]
    nodes: list[NodeFigures]
    streams: list[StreamFigures]
    happenings: list[Happening]
    intervals: list[Interval]
    tracking: Tracking | None
    missing: list[str] = field(default_factory=list)  # what the recording does not hold

    @property
    def lanes(self) -> list[LaneColumns]:
        """In the plan's order."""
        return list(self.lineage.lanes.values())

    @property
    def buses(self) -> list[BusColumns]:
        """Of all lanes."""
        return [bus for lane in self.lanes for bus in lane.buses.values()]

    @property
    def duration_s(self) -> float:
        """From the first release to the last firing's end."""
        return (self.end_ns - self.start_ns) * 1e-9

    @property
    def is_simulated(self) -> bool:
        """Whether it ran in a simulated world."""
        return bool(self.recording.header.get("sim", False))

    @property
    def mode(self) -> str:
        """`virtual time` or `real time`."""
        return str(self.recording.header.get("mode", "unknown"))

    @property
    def unit(self) -> str:
        """The unit's name."""
        return str(self.recording.header.get("unit", {}).get("name", "unknown unit"))


def analyse(recording: Recording) -> Analysis:
    """All figures of a recording; works on truncated ones and on any graph."""
    lineage = Lineage(recording)
    lanes = [lane for lane in lineage.lanes.values() if len(lane)]
    start = min((int(lane.release[0]) for lane in lanes), default=0)
    end = max((int(lane.end[-1]) for lane in lanes), default=start)
    tracking = _tracking(recording.notes.get("truth"), start, end)
    edges = lineage.edges()
    found = Analysis(
        recording,
        lineage,
        start,
        end,
        routes(recording, lineage),
        edges,
        [node for lane in lineage.lanes.values() for node in _nodes(lane)],
        [_stream(source, table, edges) for source, table in lineage.streams.items()],
        _happenings(lineage, start),
        [],
        tracking,
    )
    for lane in lanes:
        found.intervals += _intervals(found, lane)
    found.missing = _missing(found)
    return found


def _nodes(lane: LaneColumns) -> list[NodeFigures]:
    figures = []
    for step in lane.task.steps:
        outcome = lane.outcomes[step.name]
        counts = {
            name: int(np.sum(outcome == code))
            for code, name in enumerate(OUTCOMES)
            if np.any(outcome == code)
        }
        misses = 0
        if step.deadline_ns is not None:
            late = lane.end - lane.release > step.deadline_ns
            misses = int(np.sum(late & (outcome == CALLED)))
        figures.append(NodeFigures(step.name, lane.name, counts, misses, step.deadline_ns))
    return figures


def _stream(source: str, table: I64, edges: list[EdgeFigures]) -> StreamFigures:
    capture = table[:, 1]
    period = float(np.median(np.diff(capture))) if len(table) > 2 else 0.0
    rate = 1e9 / period if period > 0 else 0.0
    missing = 0
    if period > 0:
        missing = int(np.sum(np.maximum(np.rint(np.diff(capture) / period) - 1, 0)))
    unread = min((e.overwritten + e.refused for e in edges if e.edge.source == source), default=0)
    return StreamFigures(source, len(table), unread, rate, table[:, 2] - capture, missing)


def _happenings(lineage: Lineage, start: int) -> list[Happening]:
    found = []
    for lane in lineage.lanes.values():
        for t, (kind, *about) in lane.events:
            text = " ".join(str(part) for part in about)
            found.append(Happening((t - start) * 1e-9, lane.name, str(kind), text))
    return sorted(found, key=lambda happening: happening.t_s)


def _intervals(run: Analysis, lane: LaneColumns) -> list[Interval]:
    found = []
    for step in lane.task.steps:
        outcome = lane.outcomes[step.name]
        blind = (outcome == STALE) | (outcome == ABSENT)
        found += _spans(run, lane, blind, "blind", f"{step.name} not called")
    for bus in lane.task.buses:
        if bus.command_edge < 0:
            continue
        limit = command_age_ns(run.recording, bus.role)
        source = run.recording.plan.edges[bus.command_edge].source
        made = run.lineage.samples(lane.name, source).made
        if limit is not None:
            stale = lane.is_armed & ((made == 0) | (lane.clock - made > limit))
            found += _spans(run, lane, stale, "stale", f"{bus.role} held: no fresh command")
        latched = ~lane.is_armed & np.maximum.accumulate(lane.is_armed)
        found += _spans(run, lane, latched, "safe", f"{bus.role} not armed")
    return found


def _spans(
    run: Analysis, lane: LaneColumns, where: NDArray[np.bool_], kind: str, what: str
) -> list[Interval]:
    change = np.flatnonzero(np.diff(np.concatenate(([False], where, [False])).astype(np.int8)))
    times = (np.append(lane.clock, lane.end[-1:]) - run.start_ns) * 1e-9
    return [
        Interval(kind, what, float(times[first]), float(times[after]))
        for first, after in zip(change[::2], change[1::2], strict=True)
    ]


def _tracking(truth: dict[str, Any] | None, start: int, end: int) -> Tracking | None:
    if not truth or "error" not in truth["names"] or not truth["rows"]:
        return None
    rows = np.array(truth["rows"], np.float64)
    stamps = np.array([row[0] for row in truth["rows"]], np.int64)
    inside = (stamps >= start) & (stamps <= end)
    t_s: F64 = ((stamps[inside] - start) * 1e-9).astype(np.float64)
    error = np.degrees(np.abs(rows[inside, truth["names"].index("error")]))
    judged = error[t_s >= SETTLING_S]
    return Tracking(t_s, error, judged) if len(judged) else None


def _missing(run: Analysis) -> list[str]:
    recording, missing = run.recording, []
    if not recording.complete:
        missing.append("the recorder did not close the file: its end is cut off")
    if recording.dropped_bytes:
        missing.append(f"{recording.dropped_bytes} bytes are damaged and were left out")
    for lane in run.lanes:
        if not len(lane):
            missing.append(f"no firing of lane {lane.name}")
        elif lane.gap < len(lane):
            missing.append(f"lane {lane.name} has a gap after firing {int(lane.number[lane.gap])}")
    for source in {e.edge.source for e in run.edges if e.edge.source.split(".")[0] in
                   recording.plan.streams} - set(run.lineage.streams):  # fmt: skip
        missing.append(f"no message of {source}")
    if run.tracking is None:
        missing.append("no truth of a simulated world: no tracking error")
    if any(records and all(not r.data for r in records) for records in recording.streams.values()):
        missing.append("frames were not kept")
    return missing
