"""The head follows a flat part: real detector on rendered frames, virtual time, 20 seeds."""

from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

import pytest

from haihe.bench.cases.follow import Result, follow, seeds, table

LIMITS_DEG = {60.0: 0.8, 100.0: 1.2}


@pytest.mark.scenario
@pytest.mark.parametrize("latency_ms", LIMITS_DEG)
def test_tracking_error_at_a_known_latency(latency_ms: float) -> None:
    runs: dict[bool, list[Result]] = {}
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        for predict in (True, False):
            one = partial(follow, latency_ms=latency_ms, predict=predict)
            runs[predict] = list(pool.map(one, seeds(20, "tuning")))
    for predict, results in runs.items():
        print(f"\n{latency_ms:.0f} ms, predict={predict}: {table(results)}")
        for result in results:
            assert abs(result.latency_ms - latency_ms) < 2.0
            assert result.peak_deg_s >= 27.0
    assert max(result.rms_deg for result in runs[True]) <= LIMITS_DEG[latency_ms]
    without = sorted(result.rms_deg for result in runs[False])
    assert without[0] > max(result.rms_deg for result in runs[True])
