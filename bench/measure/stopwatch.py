"""Running a piece of work again and again, and keeping every time.

    closed      the next run begins when the last has ended
    paced       runs are due on a grid; a time counts from when the run was due, so a slow run
                also charges those that waited behind it. Latest wins, as on an edge of a graph:
                grid slots that passed while a run was under way are dropped and counted

A stamp is taken before the first stage and after each, into a list: some 0.2 µs a run. CPU time
is read once around all runs, since reading it costs more than that.
"""

import math
import threading
import time
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from haihe.bench.measure.percentile import samples_needed
from haihe.bench.measure.protocol import Series
from haihe.bench.measure.stats import half_width, is_flat
from haihe.runtime.clock import SECOND, now_ns, sleep_until
from haihe.runtime.errors import HaiheError

I64 = NDArray[np.int64]
Stage = tuple[str, Callable[[], object]]
KEPT = 10_000  # samples of a series in the document
MOST = 20_000_000  # runs: they must fit into memory
WARM_LIMIT_NS = 30 * SECOND
BURST, LOOK_NS = 64, 10_000_000  # runs, and time, between two looks at the clock, at most


@dataclass
class Until:
    """When enough was measured: the median is known to `precision` (half the width of its
    interval) from enough samples for a p99 and over some time, or the time is up."""

    limit_ns: int
    least_ns: int = SECOND
    precision: float = 0.03
    least: int = field(default_factory=lambda: samples_needed(0.99))
    most: int = MOST
    reason: str = ""

    def __post_init__(self) -> None:
        self._next = self.least

    def is_over(self, elapsed_ns: int, stamps: "array[int]", width: int) -> bool:
        """Whether to stop; stamps: `width` per run."""
        count = len(stamps) // width
        if elapsed_ns >= self.limit_ns:
            self.reason = "time limit"
        elif count >= self.most:
            self.reason = f"{count} runs"
        elif elapsed_ns >= self.least_ns and count >= self._next:
            # Looked at ever more rarely, so that it does not stop at the first lucky moment.
            self._next = math.ceil(1.25 * count)
            rows = np.array(stamps, np.int64)[: count * width].reshape(-1, width)
            if half_width((rows[:, -1] - rows[:, 0])[-KEPT:]) <= self.precision:
                self.reason = "precise"
        return bool(self.reason)


@dataclass(frozen=True)
class Timed:
    """What a stopwatch saw. stamps: a row per run; its columns: (due,) begin, end of each stage."""

    stages: tuple[str, ...]
    stamps: I64
    seconds: float
    thread_cpu_ns: int  # of the thread that ran the stages
    process_cpu_ns: int
    dropped: int = 0
    kept: int = KEPT  # samples of a series, at most

    @property
    def runs(self) -> int:
        """How many runs."""
        return len(self.stamps)

    def series(self) -> list[Series]:
        """A series per stage, and `total` where there are several."""
        stride = max(1, math.ceil(self.runs / self.kept))
        rows = self.stamps[::stride]
        at = (rows[:, 0] - rows[0, 0]).tolist() if len(rows) else []
        steps = np.diff(rows, axis=1).T
        named = list(zip(self.stages, steps, strict=True))
        if len(named) > 1:
            named.append(("total", rows[:, -1] - rows[:, 0]))
        return [Series(name, ns.tolist(), at_ns=at, stride=stride) for name, ns in named]


def merge(parts: Sequence[Timed]) -> Timed:
    """Streams that ran at the same time, as one, in the order in which runs began."""
    rows = np.concatenate([part.stamps for part in parts])
    return Timed(
        parts[0].stages,
        rows[np.argsort(rows[:, 0], kind="stable")],
        max(part.seconds for part in parts),
        sum(part.thread_cpu_ns for part in parts),
        parts[0].process_cpu_ns,
        sum(part.dropped for part in parts),
    )


def warm_up(stages: Sequence[Stage], limit_ns: int = WARM_LIMIT_NS) -> tuple[int, bool]:
    """Run until the time of a run is flat; (runs made, whether it was flat at the end)."""
    calls = [call for _, call in stages]
    times: list[int] = []
    begun, check = now_ns(), 10
    while True:
        before = now_ns()
        for call in calls:
            call()
        after = now_ns()
        times.append(after - before)
        if len(times) >= check:
            if is_flat(np.asarray(times)):
                return len(times), True
            check = math.ceil(1.2 * check)
        if after - begun > limit_ns and len(times) >= 3:
            return len(times), False


class Watch:
    """Stamps of runs, and the clocks around them. has_due: a stamp of when a run was due leads."""

    def __init__(self, stages: Sequence[Stage], *, has_due: bool = False) -> None:
        self.names = (("wait",) if has_due else ()) + tuple(name for name, _ in stages)
        self.width = len(self.names) + 1
        self.calls = [call for _, call in stages]
        self.stamps = array("q")
        self._process, self._thread = time.process_time_ns(), time.thread_time_ns()
        self.begun = now_ns()

    def run(self) -> None:
        """One run, stamped."""
        keep = self.stamps.append
        keep(now_ns())
        for call in self.calls:
            call()
            keep(now_ns())

    def end(self, dropped: int = 0) -> Timed:
        """What it saw. To be called by the thread that made it."""
        seconds = (now_ns() - self.begun) * 1e-9
        thread_cpu, process_cpu = time.thread_time_ns(), time.process_time_ns()
        return Timed(
            self.names,
            np.array(self.stamps, np.int64).reshape(-1, self.width),
            seconds,
            thread_cpu - self._thread,
            process_cpu - self._process,
            dropped,
        )


def closed(
    stages: Sequence[Stage], until: Until | None = None, ended: threading.Event | None = None
) -> Timed:
    """Run after run. Stops when `until` says so, or with `ended` when another thread does."""
    watch = Watch(stages)
    stamps, keep = watch.stamps, watch.stamps.append
    single = watch.calls[0] if len(watch.calls) == 1 else None
    burst = 1
    while True:
        if single is not None:
            for _ in range(burst):
                keep(now_ns())
                single()
                keep(now_ns())
        else:
            for _ in range(burst):
                watch.run()
        elapsed = stamps[-1] - watch.begun
        mean = elapsed * watch.width // len(stamps)
        burst = max(1, min(BURST, LOOK_NS // max(1, mean)))
        if ended is not None and ended.is_set():
            break
        if until is not None and until.is_over(elapsed, stamps, watch.width):
            break
    return watch.end()


def paced(
    stages: Sequence[Stage],
    period_ns: int,
    until: Until | None = None,
    ended: threading.Event | None = None,
    phase_ns: int = 0,
) -> Timed:
    """Runs that are due every period. The first stage of the result is the `wait` from there."""
    watch = Watch(stages, has_due=True)
    stamps, grid = watch.stamps, watch.begun + phase_ns
    slot, dropped = 1, 0
    while True:
        due = grid + slot * period_ns
        sleep_until(due)
        stamps.append(due)
        watch.run()
        if ended is not None and ended.is_set():
            break
        if until is not None and until.is_over(stamps[-1] - watch.begun, stamps, watch.width):
            break
        newest = (stamps[-1] - grid) // period_ns  # the last slot that is due by now
        following = max(slot + 1, newest)
        dropped += following - slot - 1
        slot = following
    return watch.end(dropped)


def streams(works: Sequence[Sequence[Stage]], until: Until, period_ns: int = 0) -> Timed:
    """Several pieces of work at the same time, each in a thread of its own; the first decides
    when it is over. period_ns: paced, in even phases; 0: closed."""
    ended = threading.Event()
    found: list[Timed | None] = [None] * len(works)
    raised: list[HaiheError] = []

    def run(index: int) -> None:
        mine = until if index == 0 else None
        try:
            if period_ns:
                phase = index * period_ns // len(works)
                found[index] = paced(works[index], period_ns, mine, ended, phase)
            else:
                found[index] = closed(works[index], mine, ended)
        except HaiheError as exc:  # raised again by the caller's thread
            raised.append(exc)
        finally:
            ended.set()

    threads = [
        threading.Thread(target=run, args=(i,), name=f"haihe-bench-{i}")
        for i in range(1, len(works))
    ]
    for thread in threads:
        thread.start()
    run(0)
    for thread in threads:
        thread.join()
    if raised:
        raise raised[0]
    return merge([part for part in found if part is not None])
