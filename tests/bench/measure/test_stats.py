"""Intervals, lengths, shifts, and when to stop."""

import math

import numpy as np
import pytest

from haihe.bench.measure.percentile import samples_needed
from haihe.bench.measure.stats import (
    autocorrelation_length,
    half_width,
    hodges_lehmann,
    is_flat,
    paired_shift,
    quantile_interval,
    shift,
    student,
)  # fmt: skip


def correlated(count: int, rho: float, seed: int = 3) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal(count)
    for step in range(1, count):
        noise[step] = rho * noise[step - 1] + math.sqrt(1 - rho * rho) * noise[step]
    return noise


@pytest.mark.parametrize("q", [0.5, 0.9, 0.95, 0.99])
def test_an_upper_bound_exists_from_the_least_sample_on(q: float) -> None:
    """The same rule as the refusal of percentiles."""
    needed = samples_needed(q)
    assert quantile_interval(np.arange(needed - 1), q).high is None
    assert quantile_interval(np.arange(needed), q).high == needed - 1


@pytest.mark.parametrize(("q", "count"), [(0.5, 60), (0.9, 200), (0.99, 700)])
def test_bounds_hold_as_often_as_they_say(q: float, count: int) -> None:
    rng = np.random.default_rng(5)
    found = [quantile_interval(rng.random(count), q) for _ in range(3000)]
    low = np.mean([i.low is None or i.low <= q for i in found])
    high = np.mean([i.high is None or i.high >= q for i in found])
    assert low >= 0.984
    assert high >= 0.984  # 0.99, less three deviations


def test_a_known_table() -> None:
    """Binomial n 10, q 0.5: P(at most 0) 0.00098, P(at most 1) 0.0107: ranks 1 and 10 at 99 %."""
    found = quantile_interval(np.arange(1, 11), 0.5)
    assert (found.low, found.high) == (1.0, 10.0)


def test_neighbours_that_resemble_each_other_widen_the_bounds() -> None:
    samples = np.arange(1000)
    alone, alike = quantile_interval(samples, 0.5), quantile_interval(samples, 0.5, 10.0)
    assert alone.low is not None
    assert alike.low is not None
    assert alike.low < alone.low
    assert quantile_interval(samples, 0.99, 10.0).high is None  # 100 effective samples
    assert quantile_interval(np.zeros(0), 0.5).low is None


@pytest.mark.parametrize(("rho", "expected"), [(0.0, 1.0), (0.5, 3.0), (0.8, 9.0)])
def test_the_length_of_ar1_noise(rho: float, expected: float) -> None:
    found = [autocorrelation_length(correlated(4000, rho, seed)) for seed in range(20)]
    assert np.mean(found) == pytest.approx(expected, rel=0.2)


def test_a_spike_does_not_hide_the_length() -> None:
    noise = correlated(2000, 0.8)
    noise[700] = 1e6
    assert autocorrelation_length(noise) > 5
    assert autocorrelation_length(np.arange(4)) == 1.0
    assert autocorrelation_length(np.ones(100)) == 1.0
    coarse = np.random.default_rng(1).integers(3, 5, 5000)  # a clock with large ticks
    assert autocorrelation_length(coarse) == pytest.approx(1.0, abs=0.3)


def test_hodges_lehmann_finds_the_shift() -> None:
    rng = np.random.default_rng(0)
    a = rng.standard_normal(3000)
    b = rng.standard_normal(2000) + 0.7
    b[:50] = 1e6  # outliers do not move it far
    assert hodges_lehmann(a, b) == pytest.approx(0.7, abs=0.12)
    assert hodges_lehmann(np.array([1, 2, 3]), np.array([11, 12, 13])) == 10.0


def test_a_shift_is_relative_and_seeded() -> None:
    a = 100.0 + correlated(800, 0.5, 1)
    found = shift(a, 1.2 * a, 0.5)
    assert found is not None
    assert found.ratio == pytest.approx(0.2, abs=1e-9)
    assert found.low < 0.2 < found.high
    assert found == shift(a, 1.2 * a, 0.5)
    assert found != shift(a, 1.2 * a, 0.5, seed=1)
    assert shift(a[:19], a, 0.5) is None
    assert shift(a[:20], a, 0.5) is not None


def test_runs_that_drift_differ_only_when_they_do_not_overlap() -> None:
    a = np.linspace(100, 200, 400)  # hardly two samples
    near, far = shift(a, 1.5 * a, 0.5), shift(a, 4.0 * a, 0.5)
    assert near is not None
    assert far is not None
    assert near.low < 0 < near.high
    assert near.ratio == pytest.approx(0.5)
    assert far.low > 0.9


def test_resampled_quantiles_are_those_of_real_resamples() -> None:
    """Against the plain way: draw blocks, lay them together, sort."""
    from haihe.bench.measure import stats

    samples, blocks = correlated(300, 0.3, 2), 12
    labels = np.minimum(np.arange(300) // 25, blocks - 1)
    weights = stats._weights(blocks, 100, 7)
    for q in (0.5, 0.9, 0.99):
        fast = stats._quantiles(samples, labels, weights, q)
        for row, value in zip(weights, fast, strict=True):
            drawn = np.concatenate(
                [np.tile(samples[labels == b], int(times)) for b, times in enumerate(row)]
            )
            assert value == np.quantile(drawn, q, method="inverted_cdf")


def test_taking_turns_cancels_what_slows_both() -> None:
    rng = np.random.default_rng(4)
    drift = 1.0 + 0.5 * rng.random(30)  # from burst to burst, for both
    a = [100 * d * (1 + 0.01 * rng.standard_normal(40)) for d in drift]
    b = [104 * d * (1 + 0.01 * rng.standard_normal(40)) for d in drift]
    together = paired_shift(a, b, 0.5)
    apart = shift(np.concatenate(a), np.concatenate(b), 0.5)
    assert together is not None
    assert together.low > 0.02
    assert apart is None or together.high - together.low < apart.high - apart.low
    assert paired_shift(a[:9], b[:9], 0.5) is None


@pytest.mark.parametrize(
    ("freedom", "point"), [(9, 2.821), (20, 2.528), (60, 2.390), (9999, 2.326)]
)
def test_students_points(freedom: int, point: float) -> None:
    assert student(freedom) == pytest.approx(point, rel=3e-3)


def test_warm_is_flat_over_two_windows_and_ten_runs() -> None:
    assert not is_flat(np.full(9, 100.0))
    assert is_flat(np.full(10, 100.0))
    cooling = 100.0 * (1 + np.exp(-np.arange(10) / 3.0))
    assert not is_flat(cooling)
    assert is_flat(np.concatenate((cooling, np.full(20, 100.0))))


def test_the_half_width_shrinks_with_the_sample() -> None:
    samples = 100 + correlated(4000, 0.0)
    assert half_width(samples[:6]) == math.inf
    assert half_width(samples) < half_width(samples[:200]) < 0.01
