"""A simulation as series over time, for notebooks: what was measured, published, commanded, true.

    r = g.simulate("10s")
    r["neck.state.position"].values      # (n, 2) in rad
    r.plot("neck.state.position", "truth.error")

Names: `neck.state.position` (a device's state, at its capture), `aim.position` (a node's output, at
the clock reading of its firing), `neck.command.position` (what the guard let through, at its
step; nan where a joint was not driven), `neck.guard.state` (0 disarmed, 1 armed, 2 stale, 3 safe),
`age.aim.parts` (of an input with fresh(), at each reading), `truth.error` (the simulated world's
own numbers). Detections give `count` and `score` (the best, nan for none). Texts, pictures and
long arrays are left out (tap.py).
"""

import html
import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from typing import Any

import numpy as np

from haihe.pipelines.tap import Tap, Trace
from haihe.runtime.errors import HaiheError
from haihe.runtime.exec.realtime import Outcome
from haihe.runtime.types import F64

SPARK = (160, 28)  # px
SPARK_POINTS = 120


class UnknownSeries(HaiheError, KeyError):
    """There is no series of that name."""

    __str__ = Exception.__str__  # KeyError would show the repr


@dataclass(frozen=True, repr=False)
class Series:
    """Values over time. t: s since the first release, (n,); values: (n,), or (n, k) with a name for
    each of the k columns; unit: as ports write it, empty where nothing says it."""

    t: F64
    values: F64
    unit: str
    label: str
    columns: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.t)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> F64:
        """The values, so that numpy takes a series as it is."""
        if copy:
            return np.array(self.values, dtype)
        return np.asarray(self.values, dtype)

    def __repr__(self) -> str:
        when = f", {self.t[0]:.3f} s to {self.t[-1]:.3f} s" if len(self) else ""
        columns = f", columns {', '.join(self.columns)}" if self.columns else ""
        return f"<series {self.title}: {len(self)} values{when}{columns}>"

    @property
    def title(self) -> str:
        """The label with its unit, as on an axis."""
        return f"{self.label} [{self.unit}]" if self.unit else self.label


def _series(trace: Trace, label: str, begin_ns: int) -> Series:
    t: F64 = np.array([t_ns - begin_ns for t_ns in trace.t_ns], np.float64) * 1e-9
    if all(np.ndim(value) == 0 for value in trace.values):
        return Series(t, np.array(trace.values, np.float64), trace.unit, label)
    sizes = [np.size(value) for value in trace.values]
    values = np.full((len(t), max(sizes)), np.nan)  # shorter rows end in nan
    for row, value, size in zip(values, trace.values, sizes, strict=True):
        row[:size] = value
    columns = trace.columns
    if len(columns) != max(sizes):
        columns = tuple(map(str, range(max(sizes))))
    return Series(t, values, trace.unit, label, columns)


class Plottable:
    """What a finished simulation gives to a notebook."""

    outcome: Outcome
    times: list[float]
    truth: dict[str, list[float]]
    tap: Tap | None

    @cached_property
    def series(self) -> dict[str, Series]:
        """Every series by name; of a run with `capture=False` only the world's truth."""
        t = np.array(self.times)
        made = {
            f"truth.{name}": Series(t, np.array(values, np.float64), "", f"truth.{name}")
            for name, values in self.truth.items()
        }
        if self.tap is not None:
            begin = self.tap.executor.begin_ns
            for name, trace in self.tap.traces.items():
                label = name
                while label in made:  # a node named `truth` or `age`
                    label += "_"
                made[label] = _series(trace, label, begin)
        return made

    def __getitem__(self, name: str) -> Series:
        found = self.series.get(name)
        if found is not None:
            return found
        near = get_close_matches(name, self.series, n=3, cutoff=0.4)
        cure = f"Did you mean {' or '.join(map(repr, near))}?" if near else "It has: "
        if not near:
            cure += f"{', '.join(self.series) or 'none'}."
        if self.tap is None:
            cure += " It was simulated with capture=False, so it kept the truth only."
        raise UnknownSeries(f"series {name!r}: this simulation has none of that name. {cure}")

    def __iter__(self) -> Iterator[str]:
        return iter(self.series)

    def __contains__(self, name: object) -> bool:
        return name in self.series

    def _ipython_key_completions_(self) -> list[str]:
        return list(self.series)

    def plot(self, *names: str) -> Any:
        """Draw series below each other on one time axis with matplotlib; gives its axes."""
        chosen = [self[name] for name in names]
        if not chosen:
            raise UnknownSeries(f"plot(): name one series or more: {', '.join(self.series)}.")
        try:
            pyplot: Any = importlib.import_module("matplotlib.pyplot")
        except ImportError as exc:
            raise HaiheError(
                "plot() draws with matplotlib, which is not installed. Install it (pip install "
                "matplotlib), or use the arrays: r[name].t, r[name].values."
            ) from exc
        size = (8.0, 1.0 + 1.8 * len(chosen))
        _, axes = pyplot.subplots(
            len(chosen), 1, sharex=True, squeeze=False, figsize=size, layout="constrained"
        )
        for ax, series in zip(axes[:, 0], chosen, strict=True):
            lines = ax.plot(series.t, series.values)
            ax.set_ylabel(series.title)
            ax.grid(alpha=0.3)
            if series.columns:
                ax.legend(lines, series.columns, loc="upper right")
        axes[-1, 0].set_xlabel("time [s]")
        return axes[:, 0]

    def _repr_html_(self) -> str:
        rows = "".join(_row(series) for series in self.series.values())
        failures = "".join(f"<p>{html.escape(str(e))}</p>" for _, _, e in self.outcome.failures)
        how = html.escape(self.outcome.reason or "whole")
        return (
            f"<div><p><b>simulation</b>: {how}</p>{failures}<table><thead><tr><th>series</th>"
            "<th>unit</th><th>n</th><th>least</th><th>greatest</th><th>last</th><th></th></tr>"
            f"</thead><tbody>{rows}</tbody></table></div>"
        )


def _row(series: Series) -> str:
    finite = series.values[np.isfinite(series.values)]
    least, greatest = (f"{finite.min():.4g}", f"{finite.max():.4g}") if finite.size else ("", "")
    last = ", ".join(f"{v:.4g}" for v in np.atleast_1d(series.values[-1])[:4])
    cells = (series.label, series.unit, str(len(series)), least, greatest, last)
    texts = "".join(f"<td>{html.escape(cell)}</td>" for cell in cells)
    return f"<tr>{texts}<td>{_spark(series)}</td></tr>"


def _spark(series: Series) -> str:
    """A small picture: each column as a line; between two points the extremes are kept."""
    width, height = SPARK
    table = series.values.reshape(len(series), -1)
    finite = table[np.isfinite(table)]
    if not finite.size:
        return ""
    low, span = finite.min(), finite.max() - finite.min() or 1.0
    begin, length = series.t[0], series.t[-1] - series.t[0] or 1.0
    step = max(1, 2 * len(series) // SPARK_POINTS)
    lines = []
    for shade, column in enumerate(table.T):
        drawn: list[str] = []
        for at in range(0, len(column), step):
            part = column[at : at + step]
            known = np.flatnonzero(np.isfinite(part))
            ends = (
                {known[np.argmin(part[known])], known[np.argmax(part[known])]} if len(known) else ()
            )
            for i in sorted(int(end) for end in ends):
                x = 1 + (width - 2) * (series.t[at + i] - begin) / length
                y = height - 1 - (height - 2) * (part[i] - low) / span
                drawn.append(f"{x:.1f},{y:.1f}")
        lines.append(
            f'<polyline points="{" ".join(drawn)}" fill="none" '
            f'stroke="hsl({210 + 150 * shade % 360},70%,45%)"/>'
        )
    name = html.escape(series.label)
    return (
        f'<svg width="{width}" height="{height}" role="img" aria-label="{name}">'
        f"{''.join(lines)}</svg>"
    )
