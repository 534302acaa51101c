"""The timer loop on a clock of the test's own; what SCHED_FIFO says when it is refused."""

import os

import pytest

from haihe.bench.measure import loop
from haihe.runtime.clock import MILLISECOND as MS
from haihe.runtime.clock import SECOND
from haihe.runtime.errors import HaiheError


def test_a_late_wake_up_is_a_miss_and_no_burst(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [SECOND]
    late = iter([1000, 2000, 25 * MS, 3000])

    def sleep_until(deadline: int) -> None:
        clock[0] = max(clock[0], deadline) + next(late, 500)

    monkeypatch.setattr(loop, "sleep_until", sleep_until)
    monkeypatch.setattr(loop, "now_ns", lambda: clock[0])
    result = loop.measure_loop(100.0, 100 * MS)
    (series,) = result.series
    assert series.samples_ns[:4] == [1000, 2000, 25 * MS, 3000]
    assert series.at_ns[:4] == [0, 10 * MS, 20 * MS, 50 * MS]
    assert result.counts["misses"] == 1
    assert result.counts["dropped"] == 2
    assert result.counts["due"] == 10
    assert result.command == "haihe bench loop --rate 100 --duration 0.1s"


def test_what_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(HaiheError, match=r"--rate 1e\+06: expected 0.1 to 100000 Hz"):
        loop.measure_loop(1e6)

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    with pytest.raises(HaiheError, match=r"SCHED_FIFO is refused .* Give CAP_SYS_NICE"):
        loop.measure_loop(100.0, 20 * MS, realtime=True)
