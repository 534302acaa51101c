"""A percentile that the sample cannot carry is refused."""

import numpy as np
import pytest

from haihe.bench.measure.percentile import percentile, samples_needed


@pytest.mark.parametrize(
    ("q", "needed"), [(0.5, 7), (0.9, 44), (0.95, 90), (0.99, 459), (0.999, 4603)]
)
def test_it_asks_for_enough_samples(q: float, needed: int) -> None:
    assert samples_needed(q) == needed
    assert q**needed <= 0.01 < q ** (needed - 1)
    assert percentile(np.arange(needed - 1), q) is None
    assert percentile(np.arange(needed), q) is not None


def test_it_gives_a_sample_that_occurred() -> None:
    samples = np.arange(1, 1001, dtype=np.int64)[::-1]
    assert percentile(samples, 0.5) == 500.0
    assert percentile(samples, 0.99) == 990.0
    assert percentile(samples.astype(np.float64) / 2, 0.99) == 495.0


def test_no_samples_carry_nothing() -> None:
    assert percentile(np.zeros(0), 0.5) is None


@pytest.mark.parametrize("q", [0.0, 1.0, 99.0])
def test_a_quantile_is_a_share(q: float) -> None:
    with pytest.raises(ValueError, match="expected a number between 0 and 1"):
        percentile(np.arange(10), q)


def test_the_refusal_keeps_its_promise() -> None:
    """With the least sample, the largest value lies above the true quantile 99 times in 100."""
    rng = np.random.default_rng(1)
    largest = rng.random((4000, samples_needed(0.99))).max(axis=1)
    assert 0.985 < np.mean(largest > 0.99) < 0.995
