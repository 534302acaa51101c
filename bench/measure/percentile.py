"""Percentiles that the sample can carry, and none that it cannot.

The largest of n samples lies above the q-quantile with 99 % confidence when q**n <= 1 %: a p99
asks for 459 samples, a p99.9 for 4603. Below that, what is called a p99 is the luck of the worst
sample, so it is refused. Samples are taken as independent; a time series that is not carries less.
"""

import math

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.int64] | NDArray[np.float64]
CHANCE = 0.01  # of a bound that does not hold, one-sided


def samples_needed(q: float) -> int:
    """How many samples a quantile q (0 < q < 1) asks for."""
    if not 0.0 < q < 1.0:
        raise ValueError(f"quantile {q}: expected a number between 0 and 1, as 0.99.")
    return math.ceil(math.log(CHANCE) / math.log(q) - 1e-9)


def percentile(samples: Samples, q: float) -> float | None:
    """The q-quantile (0 < q < 1) as a sample that occurred (nearest rank), None when there are
    too few for it."""
    needed = samples_needed(q)
    if len(samples) < needed:
        return None
    return float(np.quantile(samples, q, method="inverted_cdf"))
