"""The parts of an age: what a message waited for on its way, and how long that usually is."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from haihe.bench.measure.evidence import Evidence, Made
from haihe.bench.measure.firings import I64

FEW = 10  # firings
Part = Literal["delivery", "queue", "run", "wait", "reading"]


@dataclass(frozen=True)
class Hop:
    """A part of an age: `delivery` (from capture), `queue` (until the lane that it triggers began),
    `run` (of the nodes that made it), `wait` (until a lane looked),
    `reading` (of a state by the same firing).
    usual_ns: see `usual`."""

    part: Part
    source: str
    lane: str  # where it is read; of a run: where it is made
    row: int
    ns: int
    usual_ns: int


def hops(evidence: Evidence, lane: str, row: int, source: str) -> list[Hop]:
    """The parts of the age of a source as a firing reads it, from the reading back to the capture;
    empty where it is not known."""
    columns = evidence.lanes[lane]
    seen = evidence.lineage.samples(lane, source)
    sequence = int(seen.sequence[row])
    if not sequence or not seen.origin[row]:
        return []
    if not evidence.lineage.home(source):
        part: Part = "queue" if columns.task.trigger == source else "wait"
        return [
            _hop(part, source, lane, row, columns.clock - seen.made),
            _hop("delivery", source, lane, row, seen.made - seen.origin),
        ]
    made = evidence.maker(source, sequence)
    if made is None:
        return []
    home = evidence.lanes[made.lane]
    if source.split(".")[0] in home.buses:
        part = "reading" if made == Made(lane, row) else "wait"
        return [_hop(part, source, lane, row, columns.clock - seen.origin)]
    is_own = made.lane == lane
    published = seen.made if is_own else _published(evidence, lane, source)
    part = "queue" if columns.task.trigger == source else "wait"
    found = [_hop(part, source, lane, row, columns.clock - published)]
    if not is_own:
        found.append(_hop("run", source, made.lane, made.row, home.run))
    older = [
        (int(evidence.lineage.samples(made.lane, edge.source).origin[made.row]), edge.source)
        for _, edge in evidence.inputs(evidence.step(source.split(".")[0]))
        if edge.kind != "loop" and edge.ages
    ]
    if older and min(older)[0] == seen.origin[row]:
        found += hops(evidence, made.lane, made.row, min(older)[1])
    return found


def _published(evidence: Evidence, lane: str, source: str) -> I64:
    """When the message that each firing reads was published."""
    sequence = evidence.lineage.samples(lane, source).sequence
    home = evidence.lanes[evidence.lineage.home(source)]
    ends = home.end[np.flatnonzero(home.fired(source)[: home.gap])]
    known = (sequence > 0) & (sequence <= len(ends))
    published = evidence.lanes[lane].clock.copy()
    published[known] = ends[sequence[known] - 1]
    return published


def _hop(part: Part, source: str, lane: str, row: int, all_ns: I64) -> Hop:
    return Hop(part, source, lane, row, int(all_ns[row]), usual(all_ns, row))


def usual(all_ns: I64, row: int) -> int:
    """What is usual: the median of the firings up to a row, of all where these are few."""
    return int(np.median(all_ns[: row + 1] if row >= FEW else all_ns))
