"""What a soak showed: whether the time of a run settles, and when.

The run is cut into tenths by time. It is steady from the first tenth on from which every median
stays within 5 % of the last one; the last one is what a robot gets that runs all day.
"""

import itertools
from dataclasses import dataclass

import numpy as np

from haihe.bench.measure.figures import ms
from haihe.bench.measure.protocol import MachineState, Series

PARTS = 10
WITHIN = 0.05


@dataclass(frozen=True)
class Soak:
    """Medians by tenth, ns. steady_s: since when, None if it never settled before the last."""

    medians: tuple[float, ...]
    steady_s: float | None
    throttled: float  # share of samples
    hottest_degc: float | None

    @property
    def text(self) -> str:
        """A line for a terminal."""
        change = 100 * (self.medians[-1] / self.medians[0] - 1)
        steady = f"steady from {self.steady_s:.0f} s" if self.steady_s is not None else "not steady"
        heat = f", up to {self.hottest_degc:.0f} °C" if self.hottest_degc is not None else ""
        return (
            f"soak: p50 {ms(self.medians[0])} in the first tenth, {ms(self.medians[-1])} in the "
            f"last ({change:+.1f} %), {steady}, {100 * self.throttled:.0f} % throttled{heat}"
        )


def soak_of(series: Series, states: list[MachineState]) -> Soak | None:
    """What a series that knows its times tells; None for less than two samples in a tenth."""
    at, values = np.asarray(series.at_ns), np.asarray(series.samples_ns, np.float64)
    if len(at) < 2 * PARTS:
        return None
    edges = np.linspace(0, at[-1] + 1, PARTS + 1)
    parts = [values[(at >= a) & (at < b)] for a, b in itertools.pairwise(edges)]
    if min(map(len, parts)) < 2:
        return None
    medians = [float(np.median(part)) for part in parts]
    first = PARTS - 1
    while first > 0 and abs(medians[first - 1] / medians[-1] - 1) <= WITHIN:
        first -= 1
    heats = [max(state.temperature_degc.values()) for state in states if state.temperature_degc]
    return Soak(
        tuple(medians),
        float(edges[first]) * 1e-9 if first < PARTS - 1 else None,
        len(series.throttled) / len(values),
        max(heats, default=None),
    )
