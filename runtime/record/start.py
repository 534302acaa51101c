"""Where a replay begins: at keyframes from which every lane makes what the others will read."""

import pickle
from collections.abc import Sequence
from typing import Any

from haihe.runtime.errors import RecordError
from haihe.runtime.exec.lane import Lane
from haihe.runtime.graph import Graph
from haihe.runtime.record.format import FIRING, LaneRecord
from haihe.runtime.record.recording import Recording
from haihe.runtime.record.state import load_state

Lanes = Sequence[tuple[Lane, list[LaneRecord]]]


def begin_at_keyframes(
    recording: Recording, graph: Graph, lanes: Lanes, start_s: float
) -> list[int]:
    """Restore every lane to where the replay begins, `start_s` after the first firing or before
    it; give the index of each lane's next record.

    A recording that was kept in a ring has no beginning: there it is at the earliest keyframes
    (after `start_s`, where the lanes need it). Raises RecordError when there are none.
    """
    starts = _Starts(recording, graph, lanes)
    initial = [pickle.dumps(lane.snapshot(), 5) for lane, _ in lanes]
    chosen = starts.in_ring(start_s) if "ring" in recording.header else starts.before(start_s)
    for i, (lane, _) in enumerate(lanes):
        state = starts.states[i][chosen[i]] if chosen[i] else initial[i]
        lane.restore(load_state(state, graph))
    return [starts.index_after(i, firing) for i, firing in enumerate(chosen)]


class _Starts:
    """A start is, by lane, the firing of a keyframe, or 0 for the lane's beginning."""

    def __init__(self, recording: Recording, graph: Graph, lanes: Lanes) -> None:
        self.recording, self.graph, self.lanes = recording, graph, lanes
        self.states = [dict(recording.keyframes.get(lane.name, [])) for lane, _ in lanes]
        self.times = [
            {r.fixed[0]: int(r.fixed[2]) for r in records if r.kind == FIRING}
            for _, records in lanes
        ]
        if not any(self.times):
            raise RecordError(f"{recording.path}: no firings in it.")
        self._made: dict[tuple[int, int], dict[str, int]] = {}

    # --- a whole recording --------------------------------------------------------------------

    def before(self, start_s: float) -> list[int]:
        """Begin no later than `start_s`, each lane early enough to make all that the others
        will consume."""
        t = self._time(start_s)
        chosen = [self._keyframe_before(i, t) for i in range(len(self.lanes))]
        changed = True
        while changed:
            changed = False
            for i, (lane, records) in enumerate(self.lanes):
                at = self.index_after(i, chosen[i])
                for position, source in enumerate(lane.task.reads):
                    maker = self._maker(source)
                    if maker is None:
                        continue
                    needed = [
                        r.fixed[4 + position]
                        for r in records[at:]
                        if r.kind == FIRING and r.fixed[4 + position]
                    ]
                    first = min(needed, default=0)
                    while first and self._made_by(maker, chosen[maker], source) >= first:
                        chosen[maker] = self._earlier(maker, chosen[maker])
                        changed = True
        return chosen

    def _time(self, start_s: float) -> int:
        return min(min(times.values()) for times in self.times if times) + round(start_s * 1e9)

    def _keyframe_before(self, lane: int, t: int) -> int:
        times = self.times[lane]
        return max((n for n in self.states[lane] if n in times and times[n] <= t), default=0)

    def _earlier(self, lane: int, firing: int) -> int:
        return max((n for n in self.states[lane] if n < firing), default=0)

    def index_after(self, lane: int, firing: int) -> int:
        """Of a lane's records, the one that follows a firing."""
        records = self.lanes[lane][1]
        if not firing:
            return 0
        places = (i + 1 for i, r in enumerate(records) if r.kind == FIRING and r.fixed[0] == firing)
        return next(places, len(records))

    def _maker(self, source: str) -> int | None:
        return next(
            (i for i, (lane, _) in enumerate(self.lanes) if source in lane.task.publishes), None
        )

    def _made_by(self, lane: int, firing: int, source: str) -> int:
        """The sequence number that a source has reached at a lane's keyframe."""
        if not firing:
            return 0
        numbers = self._made.get((lane, firing))
        if numbers is None:
            maker = self.lanes[lane][0]
            maker.restore(load_state(self.states[lane][firing], self.graph))
            numbers = self._made[lane, firing] = maker.numbers()
        return numbers[source]

    # --- a part of a run, as a ring kept it ---------------------------------------------------

    def in_ring(self, start_s: float) -> list[int]:
        """Begin as early as what is there allows: a lane that read what is not there any more
        begins later; or at `start_s`, as in a whole recording, where that is later still."""
        first = self._first_in_ring()
        chosen = self.before(start_s) if start_s else first
        return chosen if all(n >= least for n, least in zip(chosen, first, strict=True)) else first

    def _first_in_ring(self) -> list[int]:
        starts = [self._candidates(i) for i in range(len(self.lanes))]
        chosen = []
        for i, found in enumerate(starts):
            if not found:
                raise self._no_start(i, "no keyframe of it is there")
            chosen.append(found[0])
        changed = True
        while changed:
            changed = False
            for i, found in enumerate(starts):
                missing = self._last_missing(i, chosen)
                if missing is None:
                    continue
                at, what = missing
                later = [n for n in found if self.index_after(i, n) > at]
                if not later:
                    raise self._no_start(i, what)
                chosen[i], changed = later[0], True
        return chosen

    def _candidates(self, lane: int) -> list[int]:
        """Firings after which this lane can begin, in order."""
        times = self.times[lane]
        found = sorted(n for n in self.states[lane] if n in times or n + 1 in times)
        return [0, *found] if not times or 1 in times else found

    def _last_missing(self, lane: int, chosen: list[int]) -> tuple[int, str] | None:
        """The last record of a lane that read what is neither there nor will be made."""
        task, records = self.lanes[lane][0].task, self.lanes[lane][1]
        at = self.index_after(lane, chosen[lane])
        last: tuple[int, str] | None = None
        for position, source in enumerate(task.reads):
            maker = self._maker(source)
            there: set[int] = set(self.recording.orphans.get(source, {}))
            made = 0
            if maker is None:
                there |= {r.sequence for r in self.recording.streams.get(source, [])}
            else:
                made = self._made_by(maker, chosen[maker], source)
            for i in range(len(records) - 1, at - 1, -1):
                if records[i].kind != FIRING or (last is not None and i <= last[0]):
                    continue
                number = records[i].fixed[4 + position]
                if number and number not in there and (maker is None or number <= made):
                    last = i, f"its firing {records[i].fixed[0]} read {source} #{number}"
                    break
        return last

    def _no_start(self, lane: int, why: str) -> RecordError:
        return RecordError(
            f"{self.recording.path}: lane {self.lanes[lane][0].name} has no keyframe from which it "
            f"could begin: {why}. Keep a longer time (--keep), or record the whole run."
        )


def state_kinds(graph: Graph) -> dict[str, Any]:
    """The message types of what the devices of a graph give, by source."""
    return {
        f"{role}.{port}": kind
        for role, device in graph.devices.items()
        for port, kind in device.kind.states.items()
    }
