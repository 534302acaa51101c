"""How figures are written for people: milliseconds, degrees, and refused percentiles."""

import numpy as np

from haihe.bench.measure.percentile import Samples, percentile, samples_needed


def ms(value_ns: float | None) -> str:
    """`12.3 ms`, `0.52 ms`, `31 µs`; a dash for none."""
    if value_ns is None:
        return "–"
    size = abs(value_ns)
    if size >= 1e9:
        return f"{value_ns * 1e-9:.2f} s"
    if size >= 1e7:
        return f"{value_ns * 1e-6:.1f} ms"
    if size >= 1e5:
        return f"{value_ns * 1e-6:.2f} ms"
    return f"{value_ns * 1e-3:.0f} µs" if size else "0 ms"


def quantile_ms(samples: Samples, q: float) -> str:
    """The quantile in milliseconds, or why there is none: `too few (180 of 459)`."""
    value = percentile(samples, q)
    return ms(value) if value is not None else too_few(len(samples), q)


def too_few(count: int, q: float) -> str:
    """How a refused percentile is written."""
    return f"too few ({count} of {samples_needed(q)})"


def middle(samples: Samples) -> float:
    """The median of any number of samples, 0 for none: for bars, not for claims."""
    return float(np.median(samples)) if len(samples) else 0.0


def count(number: int, noun: str, plural: str = "") -> str:
    """`1 frame`, `3 frames`."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"
