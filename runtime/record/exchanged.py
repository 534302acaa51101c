"""What lanes that read each other have exchanged, kept beside a ring of their records.

Lanes take their keyframes at different moments. Where one reads the other and not the other way
round, the maker's keyframe is chosen first; where they read each other no choice suits both, and
what went between them from one keyframe to the next has to be there itself.
"""

import threading
from collections import deque

from haihe.runtime.exec.assembly import Assembly
from haihe.runtime.links.slot import Sample, Slot
from haihe.runtime.plan.model import Plan


class Exchanged:
    """References to the samples of every source between two lanes of this process that read each
    other, directly or through others. bytes: about what they hold."""

    def __init__(self, assembly: Assembly) -> None:
        """Listen at the links: a sample is noted when it is published, by its maker's thread."""
        self.bytes = 0
        self.lanes: set[str] = set()
        self._samples: dict[str, deque[tuple[Sample, int]]] = {}
        self._lock = threading.Lock()
        behind = _behind(assembly.plan)
        makers = {s: lane.name for lane in assembly.lanes for s in lane.task.publishes}
        for lane in assembly.lanes:
            for source in lane.task.reads:
                maker = makers.get(source)
                if maker is None or lane.name not in behind[maker] or maker == lane.name:
                    continue
                self.lanes |= {maker, lane.name}
                if source not in self._samples:
                    self._samples[source] = deque()
                    self._listen(source, assembly.readers[lane.index, source])

    def _listen(self, source: str, link: Slot) -> None:
        wake = link.wake

        def noted() -> None:
            if link.value is not None:
                self._note(source, link.value)
            if wake is not None:
                wake()

        link.wake = noted

    def _note(self, source: str, sample: Sample) -> None:
        fields = (getattr(sample[1], name, None) for name in sample[1].__struct_fields__)
        size = 256 + sum(int(getattr(value, "nbytes", 0)) for value in fields)
        with self._lock:
            self._samples[source].append((sample, size))
            self.bytes += size

    def drop_before(self, t_ns: int) -> None:
        """Forget what was made before that."""
        with self._lock:
            for samples in self._samples.values():
                while samples and samples[0][0][3] < t_ns:
                    self.bytes -= samples.popleft()[1]

    def until(self, t_ns: int) -> list[tuple[str, Sample]]:
        """What was made up to then, by source."""
        with self._lock:
            return [
                (source, sample)
                for source, samples in self._samples.items()
                for sample, _ in samples
                if sample[3] <= t_ns
            ]


def _behind(plan: Plan) -> dict[str, set[str]]:
    """By lane: the lanes from whose outputs its own follow, directly or through others."""
    makers = {source: lane.name for lane in plan.lanes for source in lane.task.publishes}
    reads = {lane.name: {makers[s] for s in lane.task.reads if s in makers} for lane in plan.lanes}
    found: dict[str, set[str]] = {}
    for name in reads:
        seen: set[str] = set()
        waiting = list(reads[name])
        while waiting:
            one = waiting.pop()
            if one not in seen:
                seen.add(one)
                waiting += reads[one]
        found[name] = seen
    return found
