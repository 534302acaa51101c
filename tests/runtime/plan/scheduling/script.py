"""A run by names, for tests by hand and for stored witnesses."""

import msgspec
from tests.runtime.plan.scheduling.model import (
    FINISH,
    Ints,
    Outcome,
    Run,
    arrays,
    row,
    simulate,
    table,
)

from haihe.runtime.plan.timing import Timing

COLUMNS = 64


class Script(msgspec.Struct, frozen=True):
    """What an adversary chose. Lists are per job or capture, the last one holds on; what is not
    listed takes the most: worst_ns, after_ns, period_max_ns, latency_max_ns; late: 0.

    holders: the thread that comes first at its interpreter, per `slice_ns`, round and round;
    keeps: also while a more urgent thread of its core computes.
    """

    horizon_ns: int
    phases: dict[str, int] = {}
    execution: dict[str, list[int]] = {}
    after: dict[str, list[int]] = {}
    interval: dict[str, list[int]] = {}
    latency: dict[str, list[int]] = {}
    late: dict[str, list[int]] = {}
    holders: list[str] = []
    slice_ns: int = 1
    keeps: bool = False

    def run(self, timing: Timing) -> Run:
        """The run in arrays."""
        lanes, sources = timing.lanes, timing.sources
        threads = [thread.name for thread in timing.threads]
        return Run(
            source_phase=row(self.phases.get(source.name, 0) for source in sources),
            lane_phase=row(self.phases.get(lane.name, 0) for lane in lanes),
            execution=_rows(self.execution, {lane.name: lane.worst_ns for lane in lanes}),
            after=_rows(self.after, {lane.name: lane.after_ns for lane in lanes}),
            interval=_rows(self.interval, {s.name: s.period_max_ns for s in sources}),
            latency=_rows(self.latency, {s.name: s.latency_max_ns for s in sources}),
            late=_rows(self.late, {lane.name: 0 for lane in lanes}),
            holders=row(threads.index(name) for name in self.holders or threads[:1]),
            slice=self.slice_ns,
            keeps=int(self.keeps),
        )

    def play(self, timing: Timing) -> Outcome:
        """Simulate it."""
        return simulate(arrays(timing), self.run(timing), self.horizon_ns, logged=COLUMNS)


def _rows(given: dict[str, list[int]], most: dict[str, int]) -> Ints:
    rows = [given.get(name, [value]) for name, value in most.items()]
    filled = [each + each[-1:] * (COLUMNS - len(each)) for each in rows]
    return table(filled, COLUMNS)


def finishes(timing: Timing, outcome: Outcome) -> dict[str, list[int]]:
    """The finish times of each lane's jobs."""
    return {
        lane.name: outcome.log[at, : outcome.jobs[at], FINISH].tolist()
        for at, lane in enumerate(timing.lanes)
    }
