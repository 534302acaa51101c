"""A discrete-event model of the semantics of `haihe.runtime.plan.timing`, in integer ticks.

It shares the records of that page with the analysis, and no code: it judges the analysis.
`arrays` makes a `System` of a `Timing`; a `Run` is what the adversary chooses; `simulate` plays
it and keeps the worst of every quantity. Nodes are numbered: sources first, then lanes.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, TypeVar

import numba
import numpy as np
from numpy.typing import NDArray

from haihe.runtime.plan.timing import Timing

Ints = NDArray[np.int64]
F = TypeVar("F", bound=Callable[..., Any])
compiled: Callable[[F], F] = numba.njit(cache=True)

# What is kept: per lane (at source 0) the first three, per node and source the others.
RESPONSE, ELAPSED, BACKLOG, FRESH, SENT, OLDEST, PUBLISHED = range(7)
KINDS = ("response", "elapsed", "backlog", "fresh", "sent", "oldest", "published")
ARRIVAL, START, FINISH = range(3)  # columns of the log
NEVER = 1 << 60


class System(NamedTuple):
    """A `Timing` in arrays. trigger, reads: nodes; reach: node x source; -1 fills up."""

    best: Ints
    worst: Ints
    period: Ints
    trigger: Ints
    fifo: Ints
    held: Ints
    reads: Ints
    reach: Ints
    thread_lanes: Ints
    thread_fifo: Ints
    core: Ints
    rank: Ints
    process: Ints


class Run(NamedTuple):
    """One adversary's choice. Columns are jobs, captures or releases, taken round and round.

    holders: the thread that comes first in a process's interpreter, per slice of time.
    keeps: 1: also while a more urgent thread keeps it from computing.
    """

    source_phase: Ints
    lane_phase: Ints
    execution: Ints
    after: Ints
    interval: Ints
    latency: Ints
    late: Ints
    holders: Ints
    slice: int
    keeps: int


class Outcome(NamedTuple):
    """value, when: kind x node x source (-1: never seen). log: lane x job x column, jobs: how
    many of it are set."""

    value: Ints
    when: Ints
    log: Ints
    jobs: Ints


def names(timing: Timing) -> list[str]:
    """The nodes, in order."""
    return [source.name for source in timing.sources] + [lane.name for lane in timing.lanes]


def arrays(timing: Timing) -> System:
    """The arrays of a timing."""
    node = {name: at for at, name in enumerate(names(timing))}
    sources, lanes = len(timing.sources), timing.lanes
    width = max(1, *(len(lane.reads) for lane in lanes))
    reads = np.full((len(lanes), width), -1)
    for at, lane in enumerate(lanes):
        reads[at, : len(lane.reads)] = [node[name] for name in lane.reads]
    trigger = np.array([node[lane.trigger] if lane.trigger else -1 for lane in lanes])
    reach = np.zeros((sources + len(lanes), sources), np.int64)
    reach[:sources] = np.eye(sources)
    for _ in lanes:
        for at, heard in enumerate(zip(trigger, *reads.T, strict=True)):
            for other in heard:
                if other >= 0:
                    reach[sources + at] |= reach[other]
    threads = timing.threads
    thread_lanes = np.full((len(threads), max(len(thread.lanes) for thread in threads)), -1)
    for at, thread in enumerate(threads):
        thread_lanes[at, : len(thread.lanes)] = [node[name] - sources for name in thread.lanes]
    return System(
        best=np.array([lane.best_ns for lane in lanes]),
        worst=np.array([lane.worst_ns for lane in lanes]),
        period=np.array([lane.period_ns for lane in lanes]),
        trigger=trigger,
        fifo=np.array([lane.fifo for lane in lanes]),
        held=np.array([lane.held_ns for lane in lanes]),
        reads=reads,
        reach=reach,
        thread_lanes=thread_lanes,
        thread_fifo=np.array([int(thread.policy == "fifo") for thread in threads]),
        core=_shared([thread.core for thread in threads]),
        rank=np.array([thread.rank for thread in threads]),
        process=_shared([thread.process for thread in threads]),
    )


def row(values: Iterable[int]) -> Ints:
    """A row of a run, empty or not."""
    return np.array(list(values), np.int64)


def table(rows: Iterable[Sequence[int] | Ints], columns: int) -> Ints:
    """A table of a run, of no rows or more."""
    return np.array(list(rows), np.int64).reshape(-1, columns)


def _shared(given: list[str]) -> Ints:
    """A number per name; one of its own, below zero, for ''."""
    known = sorted(set(given) - {""})
    return np.array([known.index(n) if n else -1 - at for at, n in enumerate(given)])


def simulate(system: System, run: Run, horizon: int, logged: int = 0) -> Outcome:
    """Play a run up to `horizon`; log the first `logged` jobs of each lane."""
    lanes, (nodes, sources) = len(system.best), system.reach.shape
    shape = (len(KINDS), nodes, max(1, sources))
    outcome = Outcome(
        np.full(shape, -1), np.full(shape, -1), np.zeros((lanes, logged, 3), np.int64),
        np.zeros(lanes, np.int64),
    )  # fmt: skip
    _play(system, run, horizon, outcome)
    return outcome


@compiled
def _keep(outcome: Outcome, kind: int, node: int, source: int, value: int, now: int) -> None:
    if value > outcome.value[kind, node, source]:
        outcome.value[kind, node, source] = value
        outcome.when[kind, node, source] = now


@compiled
def _supersede(outcome: Outcome, kind: int, node: int, stamps: Ints, now: int) -> None:
    """Just before `now`, what carries these stamps was still the newest."""
    for source in range(len(stamps)):
        if stamps[source] >= 0:
            _keep(outcome, kind, node, source, now - stamps[source], now)


@compiled
def _advance(system: System, run: Run, now: int, job: Ints, held: Ints, moves: Ints) -> bool:
    """Which threads' jobs advance from now on; whether an interpreter is wanted by two.

    A thread that waits for its interpreter does not compute, so it leaves its core to others.
    """
    threads = len(job)
    stalled = np.zeros(threads, np.int64)
    holder = np.full(threads, -1)  # of the process, at each of its threads
    contended = False
    first = run.holders[(now // run.slice) % len(run.holders)]
    changed = True
    while changed:
        changed = False
        for step in range(threads):
            wants = (first + step) % threads
            if job[wants] < 0 or held[wants] == 0 or holder[wants] >= 0:
                continue
            blocked = False
            for other in range(threads):
                if (
                    system.core[other] == system.core[wants]
                    and system.rank[other] > system.rank[wants]
                    and job[other] >= 0
                    and not stalled[other]
                    and not (system.process[other] == system.process[wants] and held[other] > 0)
                ):
                    blocked = True
            if blocked and not run.keeps:
                continue
            changed = True
            for other in range(threads):
                if system.process[other] == system.process[wants]:
                    holder[other] = wants
                    if other != wants and job[other] >= 0 and held[other] > 0:
                        stalled[other] = 1
                        contended = True
    for thread in range(threads):
        moves[thread] = int(job[thread] >= 0 and not stalled[thread])
        for other in range(threads):
            if (
                system.core[other] == system.core[thread]
                and system.rank[other] > system.rank[thread]
                and job[other] >= 0
                and not stalled[other]
            ):
                moves[thread] = 0
    return contended


@compiled
def _chosen(system: System, thread: int, pending: Ints, arrival: Ints, queued: Ints) -> int:
    """The lane that an idle thread dispatches, -1: none."""
    lanes = len(pending)
    sources = system.reach.shape[0] - lanes
    chosen = -1
    for k in system.thread_lanes[thread]:
        if k < 0 or not pending[k]:
            continue
        if chosen >= 0 and not (system.thread_fifo[thread] and arrival[k] < arrival[chosen]):
            continue
        held_back = False  # a lane with a queue, while a queue that it feeds is full
        for other in range(lanes):
            if system.trigger[other] == sources + k and 0 < system.fifo[other] <= queued[other]:
                held_back = held_back or system.fifo[k] > 0
        if not held_back:
            chosen = k
    return chosen


@compiled
def _play(system: System, run: Run, horizon: int, outcome: Outcome) -> None:
    threads, lanes = len(system.thread_fifo), len(system.best)
    nodes, sources = system.reach.shape
    places = max(1, system.fifo.max())
    choices = run.execution.shape[1]

    stamps = np.full((nodes, sources), -1)  # of each node's newest message
    acted = np.full((lanes, sources), -1)  # of what each lane read for its last finished job
    pending = np.zeros(lanes, np.int64)
    arrival = np.zeros(lanes, np.int64)  # of the pending job
    queue_stamps = np.full((lanes, places, sources), -1)
    queue_arrival = np.zeros((lanes, places), np.int64)
    queued = np.zeros(lanes, np.int64)
    started = np.zeros(lanes, np.int64)  # jobs so far

    job = np.full(threads, -1)  # the lane that the thread runs
    left = np.zeros(threads, np.int64)
    held = np.zeros(threads, np.int64)
    after = np.full(threads, -1)  # of the job's time, when it publishes; -1: it has
    since = np.zeros(threads, np.int64)  # start
    came = np.zeros(threads, np.int64)  # arrival
    read = np.full((threads, sources), -1)
    moves = np.zeros(threads, np.int64)

    captured = run.source_phase.copy()
    captures = np.zeros(sources, np.int64)
    delivery = np.zeros(sources, np.int64)
    for s in range(sources):
        delivery[s] = captured[s] + run.latency[s, 0]
    releases = np.zeros(lanes, np.int64)
    release = np.full(lanes, NEVER)
    for k in range(lanes):
        if system.period[k] > 0:
            release[k] = run.lane_phase[k] + run.late[k, 0]
    arrived = np.zeros(nodes, np.int64)  # messages of this instant, per node
    queue_from = np.zeros((nodes, 16, sources), np.int64)

    now = 0
    while True:
        contended = _advance(system, run, now, job, held, moves)
        at = NEVER
        for t in range(threads):
            if moves[t]:
                step = left[t]
                if after[t] > 0:
                    step = min(step, left[t] - after[t])
                if held[t] > 0:
                    step = min(step, held[t])
                at = min(at, now + step)
        for s in range(sources):
            at = min(at, delivery[s])
        for k in range(lanes):
            at = min(at, release[k])
        if contended:
            at = min(at, (now // run.slice + 1) * run.slice)
        if at > horizon:
            break
        for t in range(threads):
            if moves[t]:
                left[t] -= at - now
                held[t] = max(0, held[t] - (at - now))
        now = at

        # completions: each publishes its lane's outputs
        for t in range(threads):
            k = job[t]
            if k < 0:
                continue
            node = sources + k
            if after[t] >= 0 and left[t] <= after[t]:
                after[t] = -1
                _supersede(outcome, PUBLISHED, node, stamps[node], now)
                stamps[node] = read[t]
                queue_from[node, arrived[node]] = read[t]
                arrived[node] += 1
                _supersede(outcome, SENT, node, read[t], now)
            if left[t] == 0:
                job[t] = -1
                _keep(outcome, RESPONSE, node, 0, now - came[t], now)
                _keep(outcome, ELAPSED, node, 0, now - since[t], now)
                _supersede(outcome, OLDEST, node, acted[k], now)
                acted[k] = read[t]
                if outcome.jobs[k] < outcome.log.shape[1]:
                    outcome.log[k, outcome.jobs[k], ARRIVAL] = came[t]
                    outcome.log[k, outcome.jobs[k], START] = since[t]
                    outcome.log[k, outcome.jobs[k], FINISH] = now
                    outcome.jobs[k] += 1
        # deliveries, in order of capture
        for s in range(sources):
            while delivery[s] == now:
                _supersede(outcome, PUBLISHED, s, stamps[s], now)
                stamps[s, s] = captured[s]
                if arrived[s] < queue_from.shape[1]:
                    queue_from[s, arrived[s]] = stamps[s]
                    arrived[s] += 1
                n = captures[s]
                captured[s] += run.interval[s, n % run.interval.shape[1]]
                n += 1
                captures[s] = n
                delivery[s] = max(now, captured[s] + run.latency[s, n % run.latency.shape[1]])
        # what they trigger
        for k in range(lanes):
            node = system.trigger[k]
            if node < 0 or arrived[node] == 0:
                continue
            if system.fifo[k] == 0:
                if not pending[k]:
                    pending[k], arrival[k] = 1, now
                continue
            for m in range(arrived[node]):
                _keep(outcome, BACKLOG, sources + k, 0, queued[k] + 1, now)  # also of a refused one
                if queued[k] < system.fifo[k]:
                    queue_stamps[k, queued[k]] = queue_from[node, m]
                    queue_arrival[k, queued[k]] = now
                    queued[k] += 1
            pending[k], arrival[k] = 1, queue_arrival[k, 0]
        arrived[:] = 0
        # releases
        for k in range(lanes):
            if release[k] != now:
                continue
            running = False
            for t in range(threads):
                running = running or job[t] == k
            if not pending[k] and not running:
                pending[k], arrival[k] = 1, now
            releases[k] += 1
            n = releases[k]
            grid = run.lane_phase[k] + n * system.period[k]
            release[k] = max(now + 1, grid + run.late[k, n % run.late.shape[1]])
        # dispatch; one may free the queue for which another is held back
        dispatched = True
        while dispatched:
            dispatched = False
            for t in range(threads):
                if job[t] >= 0:
                    continue
                k = _chosen(system, t, pending, arrival, queued)
                if k < 0:
                    continue
                dispatched = True
                n = started[k] % choices
                started[k] += 1
                job[t], since[t], came[t] = k, now, arrival[k]
                left[t] = run.execution[k, n]
                held[t] = min(system.held[k], left[t])
                after[t] = run.after[k, n]
                for s in range(sources):  # the oldest of what it reads; -1: not complete yet
                    stamp = NEVER
                    if system.trigger[k] >= 0 and system.reach[system.trigger[k], s]:
                        if system.fifo[k] > 0:
                            stamp = queue_stamps[k, 0, s]
                        else:
                            stamp = stamps[system.trigger[k], s]
                    for m in range(system.reads.shape[1]):
                        node = system.reads[k, m]
                        if node >= 0 and system.reach[node, s]:
                            stamp = min(stamp, stamps[node, s])
                    read[t, s] = -1 if stamp == NEVER else stamp
                _supersede(outcome, FRESH, sources + k, read[t], now)
                pending[k] = 0
                if system.fifo[k] > 0:
                    queued[k] -= 1
                    for m in range(queued[k]):
                        queue_stamps[k, m] = queue_stamps[k, m + 1]
                        queue_arrival[k, m] = queue_arrival[k, m + 1]
                    if queued[k] > 0:
                        pending[k], arrival[k] = 1, queue_arrival[k, 0]

    # what is under way at the end has waited at least so long
    for k in range(lanes):
        _supersede(outcome, OLDEST, sources + k, acted[k], horizon)
        if pending[k]:
            _keep(outcome, RESPONSE, sources + k, 0, horizon - arrival[k], horizon)
    for node in range(nodes):
        _supersede(outcome, PUBLISHED, node, stamps[node], horizon)
    for t in range(threads):
        if job[t] >= 0:
            _keep(outcome, RESPONSE, sources + job[t], 0, horizon - came[t], horizon)
            _keep(outcome, ELAPSED, sources + job[t], 0, horizon - since[t], horizon)
