"""What a series of times allows to be said: intervals, lengths, shifts, and when to stop.

Neighbouring times resemble each other (frequency, cache, other work), so n samples say less than n
independent ones would. The autocorrelation length is how many samples count for one. Bounds are
one-sided with 99 % confidence each, as in percentile.py; a pair of them holds in 98 of 100 cases.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from haihe.bench.measure.percentile import CHANCE, Samples

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
LEAST_BLOCKS, MOST_BLOCKS = 10, 50
LEAST_LENGTHS = 15  # of autocorrelation in a run
PER_LENGTH = 3  # autocorrelation lengths in a block: shorter ones make the spread too small
RESAMPLES = 1000
Z = 2.3263478740408408  # of CHANCE, one-sided
SMALL = (31.821, 6.965, 4.541, 3.747, 3.365, 3.143, 2.998)  # Student's points for 1 to 7
LEAST_WARM = 10  # runs, before anything can be called flat
FLAT = 0.02
HODGES = 1000  # order statistics of each side that stand for it


@dataclass(frozen=True)
class Interval:
    """Bounds of a quantile; None where the sample does not carry one."""

    low: float | None
    high: float | None


@dataclass(frozen=True)
class Shift:
    """How a quantile of B differs from that of A, relative to A's: 0.1 is 10 % slower."""

    q: float
    ratio: float
    low: float
    high: float
    blocks: int


def autocorrelation_length(samples: Samples) -> float:
    """How many samples count for one: 1 for independent ones.

    Of ranks, so that single spikes do not hide it; the sum of autocorrelations up to where their
    pairs stop being positive and falling (Geyer 1992).
    """
    count = len(samples)
    if count < 8:
        return 1.0
    _, which, ties = np.unique(samples, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(ties) - 0.5 * ties)[which]  # equal times share a rank
    ranks -= ranks.mean()
    if not ranks.any():
        return 1.0
    size = 1 << (2 * count - 1).bit_length()
    spectrum = np.fft.rfft(ranks, size)
    products = np.fft.irfft(spectrum * spectrum.conj(), size)[: count // 6 * 2]
    pairs = (products / products[0]).reshape(-1, 2).sum(axis=1)
    negative = np.flatnonzero(pairs <= 0.0)
    end = int(negative[0]) if len(negative) else len(pairs)
    return max(1.0, float(2.0 * np.minimum.accumulate(pairs[:end]).sum() - 1.0))


def quantile_interval(samples: Samples, q: float, length: float = 1.0) -> Interval:
    """Bounds of the q-quantile by order statistics; length: how many samples count for one."""
    count = len(samples)
    if not count:
        return Interval(None, None)
    effective = max(1, int(count / length))
    low, high = _ranks(effective, q)
    ordered = np.sort(samples)
    scale = count / effective
    return Interval(
        float(ordered[math.floor((low - 1) * scale)]) if low else None,
        float(ordered[min(count, math.ceil(high * scale)) - 1]) if high <= effective else None,
    )


@lru_cache(maxsize=256)
def _ranks(n: int, q: float) -> tuple[int, int]:
    """(rank below the quantile, 0 if none; rank above it, n + 1 if none), counted from 1."""
    k = np.arange(n + 1)
    logs = np.concatenate(([0.0], np.cumsum(np.log(np.arange(1, n + 1)))))
    terms = logs[n] - logs - logs[::-1] + k * math.log(q) + (n - k) * math.log1p(-q)
    below = np.cumsum(np.exp(terms))  # P(at most k of n samples lie below the quantile)
    low = int(np.searchsorted(below, CHANCE, side="right"))
    high = int(np.searchsorted(below, 1.0 - CHANCE - 1e-12)) + 1
    return low, high


def hodges_lehmann(a: Samples, b: Samples) -> float:
    """The median of all differences b - a: the shift that best lays one over the other."""
    sides = [np.sort(np.asarray(s, np.float64)) for s in (a, b)]
    thin = [s[np.linspace(0, len(s) - 1, min(len(s), HODGES)).round().astype(int)] for s in sides]
    return float(np.median(thin[1][:, None] - thin[0][None, :]))


def shift(
    a: Samples, b: Samples, q: float, resamples: int = RESAMPLES, seed: int = 0
) -> Shift | None:
    """The shift between two runs one after the other, by a blocked bootstrap. None for less than
    twenty samples. Where neighbours resemble each other so much that a run is hardly several
    samples, the bounds are the far ends of both: only runs that do not overlap differ."""
    drawn: list[F64] = []
    widen, freedom = 1.0, 0
    for index, samples in enumerate((a, b)):
        if len(samples) < 2 * LEAST_BLOCKS:
            return None
        cut = _cut(samples)
        if cut is None:
            return _far_ends(a, b, q)
        weights = _weights(cut.count, resamples, seed * 2 + index)
        drawn.append(_quantiles(samples, cut.labels, weights, q))
        widen, freedom = max(widen, cut.widen), freedom + cut.freedom
    return _shift(a, b, q, drawn[1] / drawn[0], widen, freedom)


def _far_ends(a: Samples, b: Samples, q: float) -> Shift:
    first, second = (np.quantile(side, (0.01, q, 0.99), method="inverted_cdf") for side in (a, b))
    low, ratio, high = (float(value) - 1.0 for value in second / first[::-1])
    return Shift(q, ratio, low, high, 1)


def paired_shift(
    a: list[Samples], b: list[Samples], q: float, resamples: int = RESAMPLES, seed: int = 0
) -> Shift | None:
    """The shift between runs that took turns; bursts of the same number are drawn together, so
    what slowed both cancels. None with fewer than ten pairs."""
    count = min(len(a), len(b))
    if count < LEAST_BLOCKS:
        return None
    weights = _weights(count, resamples, seed)
    drawn: list[F64] = []
    wholes: list[F64] = []
    for bursts in (a[:count], b[:count]):
        labels = np.repeat(np.arange(count), [len(burst) for burst in bursts])
        wholes.append(np.concatenate(bursts).astype(np.float64))
        drawn.append(_quantiles(wholes[-1], labels, weights, q))
    return _shift(wholes[0], wholes[1], q, drawn[1] / drawn[0], 1.0, count - 1)


def _shift(a: Samples, b: Samples, q: float, drawn: F64, widen: float, freedom: int) -> Shift:
    middles = [float(np.quantile(s, q, method="inverted_cdf")) for s in (a, b)]
    ratio = middles[1] / middles[0] - 1.0
    half = student(freedom) * widen * float(drawn.std())
    return Shift(q, ratio, ratio - half, ratio + half, freedom + 1)


@dataclass(frozen=True)
class _Cut:
    labels: I64
    count: int
    widen: float  # what blocks of that length miss of the spread
    freedom: int


def _cut(samples: Samples) -> _Cut | None:
    """Blocks of three lengths, or shorter ones where there would be fewer than ten: what these
    miss is made up for by what AR(1) noise of that length has, and by fewer degrees of freedom."""
    total = len(samples)
    length = autocorrelation_length(samples)
    if total < LEAST_LENGTHS * length:
        return None
    size = max(math.ceil(PER_LENGTH * length), math.ceil(total / MOST_BLOCKS))
    count = max(LEAST_BLOCKS, total // size)
    size = total // count
    rho = (length - 1.0) / (length + 1.0)
    seen = 1.0 - 2.0 * rho * (1.0 - rho**size) / (size * (1.0 - rho * rho))
    labels = np.minimum(np.arange(total) // size, count - 1)
    freedom = max(1, min(count, int(total / length)) - 1)
    return _Cut(labels, count, 1.0 / math.sqrt(seen), freedom)


@lru_cache(maxsize=64)
def _weights(blocks: int, resamples: int, seed: int) -> I64:
    """How often each block is drawn, a row per resample."""
    rng = np.random.default_rng([seed, blocks])
    return rng.multinomial(blocks, np.full(blocks, 1 / blocks), size=resamples).astype(np.int64)


def _quantiles(samples: Samples, labels: I64, weights: I64, q: float) -> F64:
    """The q-quantile of every resample, without making one: how much drawn weight lies up to a
    sample is a sum over blocks, and the sample where it reaches q is found by bisection."""
    count, blocks = len(samples), weights.shape[1]
    order = np.argsort(samples, kind="stable")
    needed = np.ceil(q * (weights @ np.bincount(labels, minlength=blocks)) - 1e-9)
    # Ranks that a resample can reach: eight deviations of the blocks' counts about the middle.
    inside = np.bincount(labels[order[: math.ceil(q * count)]], minlength=blocks)
    reach = 8.0 * float(np.std(inside)) * math.sqrt(blocks) + count / 50 + 2
    first, last = max(0, int(q * count - reach)), min(count, int(q * count + reach) + 1)
    steps = np.zeros((last - first, blocks), np.int64)
    steps[np.arange(last - first), labels[order[first:last]]] = 1
    np.cumsum(steps, axis=0, out=steps)
    steps += np.bincount(labels[order[:first]], minlength=blocks)
    low = np.zeros(len(weights), np.int64)
    high = np.full(len(weights), last - first - 1)
    for _ in range((last - first).bit_length()):
        middle = (low + high) // 2
        reached = np.einsum("rb,rb->r", weights, steps[middle]) >= needed
        high = np.where(reached, middle, high)
        low = np.where(reached, low, np.minimum(middle + 1, high))
    found: F64 = np.asarray(samples, np.float64)[order[first + high]]
    return found


def student(freedom: int) -> float:
    """The one-sided 99 % point of Student's distribution (from 8 on Cornish-Fisher, to 0.3 %)."""
    if freedom <= len(SMALL):
        return SMALL[max(1, freedom) - 1]
    z = Z
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return sum((term / freedom**power for power, term in enumerate(terms)), 0.0)


def is_flat(samples: Samples) -> bool:
    """Warm: the medians of the last two windows (a third of the runs each, five at least) differ
    by less than 2 %."""
    count = len(samples)
    if count < LEAST_WARM:
        return False
    window = max(LEAST_WARM // 2, count // 3)
    before = float(np.median(samples[count - 2 * window : count - window]))
    after = float(np.median(samples[count - window :]))
    return abs(after - before) < FLAT * before


def half_width(samples: Samples, q: float = 0.5) -> float:
    """Half the width of a quantile's interval relative to it; infinite where it has no bound."""
    found = quantile_interval(samples, q, autocorrelation_length(samples))
    middle = float(np.quantile(samples, q, method="inverted_cdf")) if len(samples) else 0.0
    if found.low is None or found.high is None or middle <= 0:
        return math.inf
    return (found.high - found.low) / (2.0 * middle)
