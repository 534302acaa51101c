"""Ages of a source's data along the chains of a plan, from the responses of its lanes.

One pass in the order of the data, per lane and source. It carries `latency`: a capture's time plus
it is the time by which something at least as new is published. From it follow all ages, because
the next capture is no more than a period away.

Sources: Davare et al., "Period optimization for hard real-time distributed automotive systems",
2007 (sampling adds a period and a response); Duerr et al., "End-to-end timing analysis of sporadic
cause-effect chains in distributed systems", 2019 (a reader that is released later does not overtake
its writer on one thread); Guenzel et al., "On the equivalence of maximum reaction time and maximum
data age for cause-effect chains", 2023 (the oldest data acted on = the slowest reaction).
"""

from collections.abc import Iterator
from typing import NamedTuple

from haihe.runtime.plan.busy import UNBOUNDED
from haihe.runtime.plan.timing import ChainBound, LaneTiming, SourceTiming, Term, Timing


class Reach(NamedTuple):
    """What the ages need of a lane: see `bounds.py`. problem: why its messages have no bound."""

    lane: LaneTiming
    response: int
    nominal: int
    elapsed: int
    latest: int  # from the root's nominal arrival to the finish
    earliest: int  # ... to the publication
    distance: int  # of the messages that trigger it, at least
    problem: str


def certain_after(lane: LaneTiming) -> int:
    """What of a job follows its publication for certain; one tick at least comes before."""
    return max(0, min(lane.after_best_ns, lane.best_ns - 1))


class _Age(NamedTuple):
    """A source's data at a lane, or at the source itself. arrival: as `latency`, to the arrival of
    the job that publishes. back: the lane or source that the worst way comes from."""

    latency: int
    arrival: int
    fresh: int
    sent: int
    back: str = ""
    gap: int | None = None  # None: it triggers
    is_behind: bool = False  # the job that read it could not overtake its writer
    problem: str = ""


def ages(
    timing: Timing, reaches: dict[str, Reach]
) -> tuple[dict[tuple[str, str], ChainBound], dict[tuple[str, str], int | None]]:
    """The chains and the ages of what is published, for every lane and source that reaches it."""
    graph = _Graph(timing, reaches)
    chains: dict[tuple[str, str], ChainBound] = {}
    published: dict[tuple[str, str], int | None] = {}
    for source in timing.sources:
        age = graph.ages[source.name, source.name]
        published[source.name, source.name] = source.period_max_ns + age.latency
    for lane in timing.lanes:
        for source in timing.sources:
            if (lane.name, source.name) in graph.ages:
                chain = graph.chain(lane.name, source)
                chains[lane.name, source.name] = chain
                published[lane.name, source.name] = chain.oldest_ns
    return chains, published


class _Graph:
    """The pass: `ages` by (lane or source, source)."""

    def __init__(self, timing: Timing, reaches: dict[str, Reach]) -> None:
        self.reaches = reaches
        self.sources = {source.name: source for source in timing.sources}
        self.place = {
            name: (thread.name, at, thread.policy)
            for thread in timing.threads
            for at, name in enumerate(thread.lanes)
        }
        self.writers = {
            lane.name: ((lane.trigger,) if lane.trigger else ()) + lane.reads
            for lane in timing.lanes
        }
        self.ages: dict[tuple[str, str], _Age] = {}
        for source in timing.sources:
            late = source.latency_max_ns
            self.ages[source.name, source.name] = _Age(late, late, late, late)
        self.gaps = {lane.name: self._gap(lane) for lane in timing.lanes}
        upstream = self._upstream()
        for name in self.writers:
            if name in upstream[name]:
                self._give_up(name, upstream)
        for name in sorted(self.writers, key=lambda name: len(upstream[name])):
            if name not in upstream[name]:
                self._follow(name)

    def _upstream(self) -> dict[str, set[str]]:
        """For each lane all lanes and sources that its data comes from."""
        upstream = {name: set(writers) for name, writers in self.writers.items()}
        is_growing = True
        while is_growing:
            is_growing = False
            for name, found in upstream.items():
                more = found.union(*(upstream.get(writer, ()) for writer in self.writers[name]))
                is_growing = is_growing or len(more) > len(found)
                upstream[name] = more
        return upstream

    def _give_up(self, name: str, upstream: dict[str, set[str]]) -> None:
        """A lane of a loop: what goes round in it can be of any age."""
        way = self._way_round(name, upstream)
        for source in self.sources.keys() & upstream[name]:
            self.ages[name, source] = _Age(*(UNBOUNDED,) * 4, problem=f"loop: {way}")

    def _way_round(self, name: str, upstream: dict[str, set[str]]) -> str:
        """A shortest way from a lane back to itself, in the direction of the data."""
        loop = [each for each in self.writers if name in upstream[each] and each in upstream[name]]
        start = loop[0]
        ways = [[start]]
        for way in ways:
            writers = self.writers[way[0]]
            if start in writers:
                return " -> ".join([start, *way])
            ways += [[each, *way] for each in loop if each in writers and each not in way]
        raise AssertionError(name)

    def _gap(self, lane: LaneTiming) -> int:
        """From any time to the arrival of the lane's next job that starts after it, at most.

        A periodic lane: its period, or as many as a job can take, because releases are skipped
        meanwhile. A triggered one: its root's gap and how unevenly that comes to the lane.
        """
        own = self.reaches[lane.name]
        if lane.period_ns:
            from_grid = lane.late_ns + own.nominal
            if from_grid >= UNBOUNDED:
                return UNBOUNDED
            skips = max(1, -(-from_grid // lane.period_ns))
            return skips * lane.period_ns + lane.late_ns
        root_gap, jitter = self._root_gap(lane)
        return min(UNBOUNDED, root_gap + jitter)

    def _root_gap(self, lane: LaneTiming) -> tuple[int, int]:
        """The longest distance of the root's events, and the jitter of what triggers the lane."""
        if lane.trigger in self.sources:
            source = self.sources[lane.trigger]
            return source.period_max_ns, source.latency_max_ns - source.latency_min_ns
        before = self.reaches[lane.trigger]
        if before.problem or before.latest >= UNBOUNDED:
            return UNBOUNDED, 0
        if before.lane.period_ns:
            skips = max(1, -(-before.latest // before.lane.period_ns))
            return skips * before.lane.period_ns, before.latest - before.earliest
        return self._root_gap(before.lane)[0], before.latest - before.earliest

    def _follow(self, name: str) -> None:
        """The ages at a lane from those at its writers: the worst way for each."""
        for source in self.sources:
            ways = [
                self._step(name, writer, source)
                for writer in self.writers[name]
                if (writer, source) in self.ages
            ]
            if ways:
                worst = max(ways, key=lambda age: age.latency)
                fresh = max(age.fresh for age in ways)
                sent = max(age.sent for age in ways)
                self.ages[name, source] = worst._replace(fresh=fresh, sent=sent)

    def _step(self, name: str, writer: str, source: str) -> _Age:
        """One edge."""
        own = self.reaches[name]
        lane = own.lane
        before = self.ages[writer, source]
        newest = self.sources[source].period_max_ns + before.latency
        gap, is_behind = None, False
        if writer == lane.trigger:
            arrival = before.latency
            waited = _less(before.sent + own.response, lane.best_ns)
            fresh = waited if lane.fifo else min(newest, waited)
            answered = before.sent + own.response
            sent = answered if lane.fifo else min(answered, newest + own.elapsed)
        else:
            gap = self.gaps[name]
            is_behind = self._is_behind(name, writer)
            arrival = (before.arrival if is_behind else before.latency) + gap
            fresh = newest
            sent = newest + own.elapsed
        arrival = min(UNBOUNDED, arrival)
        latency = min(UNBOUNDED, arrival + own.nominal)
        if own.problem:
            arrival = latency = UNBOUNDED
        sent = _less(sent, certain_after(lane))
        problem = ""
        if latency >= UNBOUNDED:
            problem = before.problem or own.problem or self._trigger_problem(lane)
        return _Age(latency, arrival, fresh, sent, writer, gap, is_behind, problem)

    def _is_behind(self, name: str, writer: str) -> bool:
        """Whether a job of the lane that arrives after one of the writer starts after its finish.

        So on one thread, if the writer is the more urgent, or the order is that of arrival: and
        then the arrival must be the job's first, which no later message has taken up.
        """
        if writer not in self.place or self.place[name][0] != self.place[writer][0]:
            return False
        if self.place[name][2] == "priority":
            return self.place[writer][1] < self.place[name][1]
        lane, own = self.reaches[name].lane, self.reaches[name]
        if lane.period_ns or lane.fifo:
            return True
        return own.response - lane.best_ns < own.distance

    def _trigger_problem(self, lane: LaneTiming) -> str:
        """Why a lane's own messages have no bound: the first problem of what triggers it."""
        while lane.trigger in self.reaches:
            before = self.reaches[lane.trigger]
            if before.problem:
                return before.problem
            lane = before.lane
        return ""

    def chain(self, name: str, source: SourceTiming) -> ChainBound:
        """The bound of a lane and a source, with the worst way traced back."""
        age = self.ages[name, source.name]
        path, terms = [name], list[Term]()
        if age.latency < UNBOUNDED:
            for lane, parts in self._back(name, source.name):
                terms = parts + terms
                if lane != name:
                    path.insert(0, lane)
            path.insert(0, source.name)
            terms.insert(0, Term("delivery", source.name, source.latency_max_ns))
            terms.insert(0, Term("frame", source.name, source.period_max_ns))
        else:
            path.insert(0, source.name)
        oldest = source.period_max_ns + age.latency
        return ChainBound(
            source.name,
            name,
            tuple(path),
            _known(age.fresh),
            _known(age.sent),
            _known(oldest),
            tuple(terms),
            age.problem,
        )

    def _back(self, name: str, source: str) -> Iterator[tuple[str, list[Term]]]:
        """From a lane to the source: each lane of the worst way with its terms."""
        is_behind = False
        while name != source:
            age = self.ages[name, source]
            parts = []
            if age.gap is not None:
                parts.append(Term("gap", name, age.gap))
            if not is_behind:
                parts.append(Term("response", name, self.reaches[name].nominal))
            yield name, parts
            name, is_behind = age.back, age.is_behind


def _less(ns: int, part: int) -> int:
    """The difference; what has no bound stays so."""
    return ns if ns >= UNBOUNDED else ns - part


def _known(ns: int) -> int | None:
    """None for what has no bound."""
    return None if ns >= UNBOUNDED else ns
