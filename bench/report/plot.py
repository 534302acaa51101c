"""Plots as inline SVG that stays sharp and readable at any width.

Only the drawing stretches with the page (strokes keep their width); ticks and labels are HTML
beside it, placed in percent. What a pointer reads (page.py) stands in `data-` attributes.
"""

import json
import math
from collections.abc import Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
W, H = 1000, 300  # of the drawing's own coordinates
MOST = 1200  # points of a line; more are thinned to the extremes


class Plot:
    """One plot: ranges first, then what is drawn in it, then `html()`."""

    def __init__(
        self, x: tuple[float, float], y: tuple[float, float], x_label: str, y_label: str
    ) -> None:
        self.x, self.y = x, y
        self.x_label, self.y_label = x_label, y_label
        self._drawn: list[str] = []
        self._over: list[str] = []
        self._data = ""
        self.tall = ""

    def _px(self, value: float) -> float:
        low, high = self.x
        return W * (value - low) / ((high - low) or 1.0)

    def _py(self, value: float) -> float:
        low, high = self.y
        return H * (1 - (min(value, high) - low) / ((high - low) or 1.0))

    def line(self, xs: F64, ys: F64, names: tuple[str, str]) -> None:
        """A curve with its area; names: of x and y with their units, for the pointer."""
        xs, ys = thin(xs, ys)
        points = [f"{self._px(x):.1f} {self._py(y):.1f}" for x, y in zip(xs, ys, strict=True)]
        if not points:
            return
        path = "L".join(points)
        left, right = self._px(xs[0]), self._px(xs[-1])
        self._drawn.append(f'<path class="area" d="M{left:.1f} {H}L{path}L{right:.1f} {H}Z"/>')
        self._drawn.append(f'<path class="curve" d="M{path}"/>')
        data = {"x": [round(float(x), 3) for x in xs], "y": [round(float(y), 3) for y in ys]}
        self._data = (
            f" data-plot='{json.dumps(data | {'n': names, 'r': self.x}, separators=(',', ':'))}'"
        )

    def dots(self, xs: F64, ys: F64) -> None:
        """A dot per sample; values above the range stand at its top edge, in another colour."""
        for kind, where in (("dots", ys <= self.y[1]), ("dots out", ys > self.y[1])):
            path = "".join(
                f"M{self._px(x):.1f} {self._py(y):.1f}h0"
                for x, y in zip(xs[where], ys[where], strict=True)
            )
            if path:
                self._drawn.append(f'<path class="{kind}" d="{path}"/>')

    def bars(self, edges: F64, heights: NDArray[np.int64], unit: str) -> None:
        """A histogram."""
        for low, high, height in zip(edges[:-1], edges[1:], heights, strict=True):
            if not height:
                continue
            x0, x1, y = self._px(low), self._px(high), self._py(float(height))
            title = f"{low:.1f} to {high:.1f} {unit}: {height}"
            self._drawn.append(
                f'<rect class="bar" x="{x0:.1f}" y="{y:.1f}" width="{max(1.0, x1 - x0 - 1.5):.1f}" '
                f'height="{H - y:.1f}"><title>{title}</title></rect>'
            )

    def band(self, start: float, end: float, kind: str, title: str) -> None:
        """A shaded span of x."""
        x0, x1 = (min(max(self._px(v), 0.0), float(W)) for v in (start, end))
        self._drawn.append(
            f'<rect class="band {kind}" x="{x0:.1f}" y="0" width="{max(2.0, x1 - x0):.1f}" '
            f'height="{H}"><title>{escape(title)}</title></rect>'
        )

    def mark(self, x: float, label: str, kind: str = "", level: int = 0) -> None:
        """A vertical line with a label; level: lines of text further down."""
        px = min(max(self._px(x), 0.0), float(W))
        self._drawn.append(f'<path class="mark {kind}" d="M{px:.1f} 0V{H}"/>')
        side = "right" if px > 0.7 * W else "left"
        place = f"{side}:{(W - px if side == 'right' else px) / 10:.2f}%;top:{1.25 * level:.2f}em"
        self._over.append(f'<span class="label {kind}" style="{place}">{escape(label)}</span>')

    def level(self, y: float, label: str) -> None:
        """A horizontal line with a label."""
        py = self._py(y)
        self._drawn.append(f'<path class="mark level" d="M0 {py:.1f}H{W}"/>')
        self._over.append(
            f'<span class="label" style="right:0;top:calc({100 * py / H:.1f}% - 1.3em)">'
            f"{escape(label)}</span>"
        )

    def html(self) -> str:
        """The plot."""
        y_ticks = [(100 * self._py(t) / H, text) for t, text in ticks(*self.y, most=4)]
        x_ticks = [(self._px(t) / 10, text) for t, text in ticks(*self.x, most=6)]
        grid = "".join(f'<path class="grid" d="M0 {3 * p:.1f}H{W}"/>' for p, _ in y_ticks)
        ys = "".join(f'<span style="top:{p:.1f}%">{t}</span>' for p, t in y_ticks)
        xs = "".join(f'<span style="left:{p:.1f}%">{t}</span>' for p, t in x_ticks)
        return (
            f'<figure class="plot {self.tall}"><figcaption>{escape(self.y_label)}</figcaption>'
            f'<div class="ys">{ys}</div><div class="field"{self._data}>'
            f'<svg viewBox="0 0 {W} {H}" preserveAspectRatio="none" role="img" '
            f'aria-label="{escape(self.y_label)} over {escape(self.x_label)}">'
            f"{grid}{''.join(self._drawn)}</svg>{''.join(self._over)}</div>"
            f'<div class="xs">{xs}</div><div class="xl">{escape(self.x_label)}</div></figure>'
        )


def ticks(low: float, high: float, most: int) -> list[tuple[float, str]]:
    """Round values inside a range, with their text."""
    span = high - low
    if span <= 0:
        return [(low, f"{low:g}")]
    rough = span / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(s * power for s in (1, 2, 2.5, 5, 10) if s * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [(n * step, f"{n * step:.10g}") for n in range(first, last + 1)]


def thin(xs: F64, ys: F64, most: int = MOST) -> tuple[F64, F64]:
    """At most so many points: of every part its lowest and its highest, in order."""
    if len(xs) <= most:
        return xs, ys
    keep: list[int] = []
    for part in np.array_split(np.arange(len(xs)), most // 2):
        low, high = part[np.argmin(ys[part])], part[np.argmax(ys[part])]
        keep += sorted({int(low), int(high)})
    return xs[keep], ys[keep]


def table(head: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """A table; the first `left` columns are text, the others figures."""

    def cells(tag: str, row: Sequence[str]) -> str:
        return "".join(
            f"<{tag}{'' if index < left else ' class=n'}>{escape(str(cell))}</{tag}>"
            for index, cell in enumerate(row)
        )

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return (
        f'<div class="wide"><table><thead><tr>{cells("th", head)}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )
