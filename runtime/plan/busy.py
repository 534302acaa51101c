"""Busy windows: how long a job takes from its arrival on a thread that others share.

All in integer ns, where one tick is 1 ns. A window starts when the thread (or its lanes of at
least the job's urgency) was idle before; the longest response of a job is found among the jobs of
the longest window.

Sources: Tindell & Clark, "Holistic schedulability analysis for distributed hard real-time
systems", 1994 (latency from the root's grid); George, Rivierre, Spuri, "Preemptive and
non-preemptive real-time uniprocessor scheduling", INRIA RR-2966, 1996 (FIFO, the -1 of blocking);
Richter, "Compositional scheduling analysis using standard event models", 2005 (arrival curves);
Davis, Burns, Bril, Lukkien, "Controller Area Network schedulability analysis: refuted, revisited
and revised", 2007 (every job of the window, not the first alone).
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

LIMIT_NS = 5_000_000_000  # a longer window counts as unbounded,
LIMIT_STEPS = 1_000  # and one of more steps, or of more jobs of a lane
UNBOUNDED = 1 << 62  # stands for "no bound"; sums with it stay above it


class Load(NamedTuple):
    """A lane as its neighbours see it. cost: worst execution. The arrivals are `period` apart,
    up to `jitter` late and never closer than `distance` (0: nothing known). places: jobs that can
    wait. is_periodic: a release is skipped while its own job waits or runs."""

    cost: int
    period: int
    jitter: int
    distance: int
    places: int = 1
    is_periodic: bool = False

    @property
    def rate(self) -> float:
        """Share of time that it takes in the long run."""
        return self.cost / max(self.period, self.distance)


class Window(NamedTuple):
    """What a busy window tells of a lane. response: from arrival to finish. nominal: the same from
    the nominal arrival, on the root's grid. backlog: messages that wait at most."""

    response: int
    nominal: int
    backlog: int


NOTHING = Window(UNBOUNDED, UNBOUNDED, UNBOUNDED)


class Delay(NamedTuple):
    """Time that others take from a thread: in a window of w, and their share in the long run."""

    within: Callable[[int], int]
    rate: float


NO_DELAY = Delay(lambda w: 0, 0.0)


def arrivals(load: Load, w: int) -> int:
    """How many arrive in any half-open window of w."""
    if w <= 0:
        return 0
    count = -(-(w + load.jitter) // load.period)
    if load.distance:
        return min(count, -(-w // load.distance))
    return count


def demand(loads: Sequence[Load], w: int) -> int:
    """The work that arrives in any half-open window of w (Richter 2005)."""
    return sum(arrivals(load, w) * load.cost for load in loads)


def earliest(load: Load, q: int) -> int:
    """How long after the first arrival the q-th one comes at the earliest."""
    return max(0, (q - 1) * load.period - load.jitter, (q - 1) * load.distance)


def settle(step: Callable[[int], int], first: int) -> int:
    """The least fixed point of a growing function, from below; UNBOUNDED above the limits."""
    value = first
    for _ in range(LIMIT_STEPS):
        if value > LIMIT_NS:
            break
        following = step(value)
        if following <= value:
            return value
        value = following
    return UNBOUNDED


def is_full(loads: Sequence[Load], delay: Delay) -> bool:
    """Whether a window of these would never end. Within rounding of 1 counts as full."""
    return sum(load.rate for load in loads) + delay.rate >= 1.0 - 1e-9


def start_and_finish(
    ahead: int, own: Load, higher: Sequence[Load], delay: Delay, early: int, begun: int = 0
) -> tuple[int, int]:
    """When a job starts and finishes at the latest, with work `ahead` of it in its window.

    More urgent work that arrives at the very tick of the start goes first. The delay counts from
    up to `early` before the window: one that runs then may have been kept from running.
    begun: a time before which it does not start in that case.
    """

    def start(w: int) -> int:
        return ahead + demand(higher, w + 1) + delay.within(w + early)

    begun = settle(start, max(ahead, begun))
    if begun >= UNBOUNDED:
        return UNBOUNDED, UNBOUNDED
    work = begun - delay.within(begun + early) + own.cost
    return begun, settle(lambda w: work + delay.within(w + early), begun + own.cost)


def priority_window(
    own: Load, higher: Sequence[Load], lower: Sequence[Load], delay: Delay = NO_DELAY
) -> Window:
    """A lane on a thread that dispatches by priority and runs jobs to the end (Davis et al.)."""
    level = [*higher, own]
    if is_full(level, delay):
        return NOTHING
    blocking = max((load.cost - 1 for load in lower), default=0)
    early = 1 if lower else 0
    length = settle(
        lambda w: blocking + demand(level, w) + delay.within(w + early),
        max(1, blocking + own.cost),
    )
    if length >= UNBOUNDED or arrivals(own, length) > LIMIT_STEPS:
        return NOTHING
    response = nominal = backlog = finish = 0
    for q in range(1, arrivals(own, length) + 1):
        ahead = blocking + (q - 1) * own.cost
        start, finish = start_and_finish(ahead, own, higher, delay, early, finish)
        if finish >= UNBOUNDED:
            return NOTHING
        response = max(response, finish - earliest(own, q))
        nominal = max(nominal, finish - (q - 1) * own.period)
        backlog = max(backlog, arrivals(own, start + 1) - (q - 1))
    return Window(response, nominal, backlog)


def priority_slots(
    own: Load, higher: Sequence[Load], lower: Sequence[Load], delay: Delay = NO_DELAY
) -> int:
    """Response when no more than `places` of the lane's own jobs can wait: finite in overload.

    The window starts when nothing more urgent was waiting; the lane's previous job may run then.
    A periodic lane is released only after that job, so its remainder is not part of the response.
    """
    if is_full(higher, delay):
        return UNBOUNDED
    blocking = max((load.cost - 1 for load in lower), default=0)
    running = own.cost - 1
    queued = (own.places - 1) * own.cost

    def finish(remainder: int) -> int:
        return start_and_finish(remainder + queued, own, higher, delay, 1)[1]

    if own.is_periodic:
        after = finish(running)
        return max(finish(blocking), after if after >= UNBOUNDED else after - running)
    return finish(max(blocking, running))


def fifo_windows(loads: Sequence[Load], delay: Delay = NO_DELAY) -> list[Window]:
    """The lanes of a thread that dispatches in order of arrival: one window for all of them.

    response is the same for every lane: a job that arrives A after the window's start waits for
    all that arrived until then. Of the q-th of its lane, the nominal arrival is (q - 1) periods
    after the first one's; fewer of its own before it are less work.
    """
    if is_full(loads, delay):
        return [NOTHING] * len(loads)
    whole = sum(load.cost for load in loads)
    length = settle(lambda w: demand(loads, w) + delay.within(w), max(1, whole))
    if length >= UNBOUNDED or any(arrivals(load, length) > LIMIT_STEPS for load in loads):
        return [NOTHING] * len(loads)
    steps: set[int] = set()
    for load in loads:
        steps.update(earliest(load, q) for q in range(1, arrivals(load, length) + 1))
    response = finish = 0
    finishes = []
    for offset in sorted(steps):
        work = demand(loads, offset + 1)
        finish = settle(lambda w, work=work: work + delay.within(w), max(finish, work))  # type: ignore[misc]
        if finish >= UNBOUNDED:
            return [NOTHING] * len(loads)
        finishes.append((offset, finish))
        response = max(response, finish - offset)
    return [
        Window(
            response,
            response if not load.jitter else min(response, _fifo_nominal(load, finishes)),
            arrivals(load, response - load.cost + 1),
        )
        for load in loads
    ]


def _fifo_nominal(own: Load, finishes: Sequence[tuple[int, int]]) -> int:
    """The latest finish after the nominal arrival, over all offsets and all q at an offset."""
    nominal = 0
    for offset, finish in finishes:
        most = arrivals(own, offset + 1)
        others = finish - most * own.cost
        q = min(most, offset // own.period + 1)  # up to it, nominally not after the offset
        nominal = max(nominal, others + q * own.cost - offset)
        if q < most:  # linear in q: one of the ends
            nominal = max(nominal, others + (q + 1) * own.cost - q * own.period)
            nominal = max(nominal, others + most * own.cost - (most - 1) * own.period)
    return nominal


def fifo_slots(loads: Sequence[Load], delay: Delay = NO_DELAY) -> int:
    """Response on a FIFO thread when each lane has `places` waiting at most: finite in overload.

    Before a job are those that wait and the one that runs. A periodic lane's cannot do both.
    """
    if is_full((), delay):
        return UNBOUNDED
    waiting = sum(load.places * load.cost for load in loads)
    running = max((load.cost - 1 for load in loads if not load.is_periodic), default=0)
    return settle(lambda w: waiting + running + delay.within(w + 1), waiting + running)
