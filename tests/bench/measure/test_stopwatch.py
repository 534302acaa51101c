"""The stopwatch on a clock of the test's own: no time passes here."""

import threading
import time
from collections.abc import Callable

import numpy as np
import pytest

from haihe.bench.measure import stopwatch
from haihe.bench.measure.stopwatch import Until, closed, merge, paced, streams, warm_up
from haihe.runtime.clock import MILLISECOND as MS
from haihe.runtime.clock import SECOND
from haihe.runtime.errors import ModelError


class Clock:
    """Time that passes only when somebody works or sleeps."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1_000 * SECOND
        monkeypatch.setattr(stopwatch, "now_ns", lambda: self.now)
        monkeypatch.setattr(stopwatch, "sleep_until", self.sleep_until)

    def sleep_until(self, deadline: int) -> None:
        self.now = max(self.now, deadline)

    def work(self, *times_ns: int) -> Callable[[], None]:
        """Work that takes these times, and then the last one for ever."""
        left = list(times_ns)

        def call() -> None:
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return call


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_stages_and_their_total(clock: Clock) -> None:
    stages = [
        ("pre", clock.work(1 * MS)),
        ("infer", clock.work(5 * MS)),
        ("post", clock.work(2 * MS)),
    ]
    timed = closed(stages, Until(80 * MS, SECOND))
    assert timed.runs == 10
    found = {s.stage: set(s.samples_ns) for s in timed.series()}
    assert found == {"pre": {1 * MS}, "infer": {5 * MS}, "post": {2 * MS}, "total": {8 * MS}}
    assert timed.series()[0].at_ns[:3] == [0, 8 * MS, 16 * MS]
    assert timed.seconds == pytest.approx(0.08)


def test_a_single_stage_has_no_total(clock: Clock) -> None:
    (series,) = closed([("infer", clock.work(2 * MS))], Until(10 * MS, SECOND)).series()
    assert (series.stage, set(series.samples_ns)) == ("infer", {2 * MS})


def test_paced_times_count_from_when_a_run_was_due(clock: Clock) -> None:
    """Period 10 ms; the third run takes 35 ms: due at 30, it ends at 65. Slots 40 and 50 are
    dropped, slot 60 runs 5 ms late and is charged for it."""
    work = clock.work(4 * MS, 4 * MS, 35 * MS, 4 * MS)
    timed = paced([("infer", work)], 10 * MS, Until(94 * MS, SECOND))
    found = {s.stage: s.samples_ns for s in timed.series()}
    assert found["wait"] == [0, 0, 0, 5 * MS, 0, 0, 0]
    assert found["infer"] == [4 * MS, 4 * MS, 35 * MS, 4 * MS, 4 * MS, 4 * MS, 4 * MS]
    assert found["total"][:5] == [4 * MS, 4 * MS, 35 * MS, 9 * MS, 4 * MS]
    assert timed.dropped == 2
    assert timed.series()[0].at_ns[:5] == [0, 10 * MS, 20 * MS, 50 * MS, 60 * MS]


def test_overload_drops_and_never_bursts(clock: Clock) -> None:
    timed = paced([("infer", clock.work(25 * MS))], 10 * MS, Until(SECOND, 2 * SECOND))
    slots = (timed.stamps[:, 0] - timed.stamps[0, 0]) // (10 * MS) + 1
    assert (np.diff(slots) >= 1).all()
    assert timed.runs + timed.dropped == slots[-1]
    totals = timed.stamps[:, -1] - timed.stamps[:, 0]
    assert totals.max() < 36 * MS  # latest wins: the queue does not grow


def test_it_stops_when_the_median_is_known(clock: Clock) -> None:
    until = Until(60 * SECOND, SECOND)
    timed = closed([("infer", clock.work(3 * MS))], until)
    assert until.reason == "precise"
    assert 459 <= timed.runs < 700
    quick = Until(60 * SECOND, SECOND)
    assert closed([("infer", clock.work(10_000))], quick).seconds >= 1.0  # at least that long
    bounded = Until(60 * SECOND, 60 * SECOND, most=500)
    assert 500 <= closed([("infer", clock.work(10_000))], bounded).runs < 600


def test_it_stops_when_time_is_up(clock: Clock) -> None:
    until = Until(2 * SECOND, SECOND)
    timed = closed([("infer", clock.work(200 * MS))], until)
    assert (timed.runs, until.reason) == (10, "time limit")


def test_warm_up_waits_until_it_is_flat(clock: Clock) -> None:
    falling = [MS * (10 - n) for n in range(8)]
    runs, is_warm = warm_up([("infer", clock.work(*falling, 2 * MS))])
    assert is_warm
    assert runs > 10
    endless = [MS * 2 ** (n // 4) for n in range(60)]
    runs, is_warm = warm_up([("infer", clock.work(*endless))], 5 * SECOND)
    assert not is_warm


def test_a_long_series_is_thinned_evenly(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    until = Until(60 * SECOND, 60 * SECOND, most=45_000)
    timed = closed([("infer", clock.work(10, 20, 30, 40))], until)
    (series,) = timed.series()
    assert series.stride == -(-timed.runs // stopwatch.KEPT)
    assert len(series.samples_ns) == -(-timed.runs // series.stride)


def test_streams_run_at_the_same_time_and_are_merged_in_order() -> None:
    meet = threading.Barrier(3, timeout=60)

    def work() -> Callable[[], None]:
        firsts: list[Callable[[], object]] = [
            meet.wait
        ]  # the first runs of all three can only pass together

        def call() -> None:
            if firsts:
                firsts.pop()()

        return call

    works = [[("infer", work())] for _ in range(3)]
    timed = streams(works, Until(50 * MS, 50 * MS, most=2000))
    assert (np.diff(timed.stamps[:, 0]) >= 0).all()
    assert timed.runs >= 3


def test_a_stream_that_fails_ends_all() -> None:
    def fail() -> None:
        raise ModelError("broken")

    with pytest.raises(ModelError, match="broken"):
        streams([[("infer", lambda: None)], [("infer", fail)]], Until(60 * SECOND, SECOND))


def test_merge_keeps_losses() -> None:
    parts = [paced([("infer", lambda: None)], 1, ended=_set()) for _ in range(2)]
    assert merge(parts).dropped == sum(part.dropped for part in parts)


def _set() -> threading.Event:
    event = threading.Event()
    event.set()
    return event


def test_cpu_time_of_a_busy_loop_is_what_the_thread_clock_says() -> None:
    """[G] Within 2 % of CLOCK_THREAD_CPUTIME over the same runs: two CPU clocks compared, so other
    work on the machine does not matter."""
    spent = [0]

    def busy() -> None:
        begun = time.thread_time_ns()
        while time.thread_time_ns() - begun < 2 * MS:
            pass
        spent[0] += time.thread_time_ns() - begun

    timed = closed([("busy", busy)], Until(SECOND, SECOND, most=100))
    assert timed.thread_cpu_ns == pytest.approx(spent[0], rel=0.02)
    assert timed.thread_cpu_ns / timed.runs >= 2 * MS
