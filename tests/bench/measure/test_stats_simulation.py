"""The gate of the statistics: how often a verdict is false, and how often it is found.

1,000 pairs of synthetic runs per cell: normal times of a stated spread (CV), with AR(1) noise of a
stated correlation rho. Design: 2 % false verdicts (1 % on either side), 3.5 % at most here; a
slow-down of 10 % is called slower, at a margin of 3 %, in 95 % of pairs or more.
"""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from haihe.bench.compare.verdict import judge
from haihe.bench.measure.stats import Shift, paired_shift, shift

PAIRS, RESAMPLES = 1000, 200
DESIGN, ALLOWED, POWER = 0.02, 0.035, 0.95
# CV, samples in a run: what a run of `bench model` has when its median is known to 3 %
CELLS = [(cv, n, rho) for cv, n in ((0.05, 500), (0.10, 1000)) for rho in (0.0, 0.5, 0.8)]


def runs(cv: float, count: int, rho: float, seed: int) -> NDArray[np.float64]:
    """A row of times per run."""
    noise = np.random.default_rng(seed).standard_normal((count + 100, PAIRS))
    for step in range(1, len(noise)):
        noise[step] = rho * noise[step - 1] + math.sqrt(1 - rho * rho) * noise[step]
    found: NDArray[np.float64] = 5e6 * (1.0 + cv * noise[100:].T)
    return found


@pytest.mark.parametrize(("cv", "count", "rho"), CELLS)
def test_false_verdicts_and_power(cv: float, count: int, rho: float) -> None:
    a, b = runs(cv, count, rho, 11), runs(cv, count, rho, 12)
    found = [shift(x, y, 0.5, RESAMPLES) for x, y in zip(a, b, strict=True)]
    false = sum(judge(one, 0.0) in ("slower", "faster") for one in found) / PAIRS
    slowed = [slow(one) for one in found]
    for pair in range(0, PAIRS, 100):  # the same as measuring b slowed down
        assert close(slowed[pair], shift(a[pair], 1.1 * b[pair], 0.5, RESAMPLES))
    words = [judge(one, 0.03) for one in slowed]
    power = words.count("slower") / PAIRS
    print(f"CV {cv:.0%}, n {count}, rho {rho}: false {false:.1%} (design 2 %), power {power:.1%}")
    assert false <= ALLOWED
    assert power >= POWER
    assert "faster" not in words


@pytest.mark.parametrize("rho", [0.95, 0.98, 0.99])
def test_slow_drifts_cost_power_and_make_no_false_verdicts(rho: float) -> None:
    """500 samples of which 40, 100, 200 count for one: only large differences are found."""
    a, b = runs(0.10, 500, rho, 18), runs(0.10, 500, rho, 19)
    found = [shift(x, y, 0.5, RESAMPLES) for x, y in zip(a, b, strict=True)]
    false = sum(judge(one, 0.0) in ("slower", "faster") for one in found) / PAIRS
    words = [judge(shift(x, 2.0 * y, 0.5, RESAMPLES), 0.03) for x, y in zip(a, b, strict=True)]
    power = words.count("slower") / PAIRS
    print(f"rho {rho}: false {false:.1%} (design 2 %), power for twice the time {power:.1%}")
    assert false <= ALLOWED
    assert power >= POWER


def test_skewed_times_and_tails() -> None:
    """Lognormal times (skew 0.95), median and p99."""
    a, b = (np.exp(3.0 * (runs(0.1, 1000, 0.5, seed) / 5e6 - 1.0)) for seed in (13, 14))
    for q in (0.5, 0.99):
        words = [judge(shift(x, y, q, RESAMPLES), 0.0) for x, y in zip(a, b, strict=True)]
        false = sum(word in ("slower", "faster") for word in words) / PAIRS
        print(f"lognormal, rho 0.5, p{100 * q:g}: false {false:.1%}")
        assert false <= ALLOWED


def test_taking_turns_on_a_machine_that_drifts() -> None:
    """40 bursts of 25 runs; each pair of bursts up to 30 % slower than the quickest."""
    drift = 1.0 + 0.3 * np.random.default_rng(15).random((PAIRS, 40, 1))
    a, b = (runs(0.1, 1000, 0.5, seed).reshape(PAIRS, 40, 25) * drift for seed in (16, 17))
    found = [paired_shift(list(x), list(y), 0.5, RESAMPLES) for x, y in zip(a, b, strict=True)]
    false = sum(judge(one, 0.0) in ("slower", "faster") for one in found) / PAIRS
    power = sum(judge(slow(one), 0.03) == "slower" for one in found) / PAIRS
    print(f"taking turns: false {false:.1%} (design 2 %), power {power:.1%}")
    assert false <= ALLOWED
    assert power >= POWER


def slow(found: Shift | None) -> Shift | None:
    """The shift if B took 10 % longer: a quantile scales with its samples, and so do resamples."""
    if found is None:
        return None
    ratio, low, high = (1.1 * (1.0 + x) - 1.0 for x in (found.ratio, found.low, found.high))
    return Shift(found.q, ratio, low, high, found.blocks)


def close(one: Shift | None, other: Shift | None) -> bool:
    if one is None or other is None:
        return one is other
    pairs = ((one.ratio, other.ratio), (one.low, other.low), (one.high, other.high))
    return all(math.isclose(x, y, abs_tol=1e-9) for x, y in pairs)
