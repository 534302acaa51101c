"""The picture of the README: a camera frame with its detections, the error, the latency.

    python -m haihe.bench.report.picture REC OUT.png

Drawn with OpenCV alone, four times as large and then reduced, so that lines and letters are soft.
"""

import sys
from typing import Any

import cv2
import numpy as np

from haihe.bench.measure.analysis import F64, SETTLING_S, Analysis, analyse
from haihe.bench.measure.figures import quantile_ms
from haihe.bench.measure.percentile import percentile
from haihe.bench.report.frames import Shot, shots
from haihe.bench.report.plot import ticks
from haihe.runtime.errors import RecordError
from haihe.runtime.record.recording import Recording
from haihe.runtime.types import U8

WIDTH, HEIGHT, FINE = 1000, 420, 4
PAPER, INK, SOFT, LINE = (255, 255, 255), (38, 32, 26), (112, 102, 92), (226, 229, 226)  # BGR
RIVER, WASH, WARM, YELLOW = (143, 110, 11), (238, 231, 219), (31, 72, 201), (63, 210, 255)
Colour = tuple[int, int, int]


class _Canvas:
    """Coordinates in pixels of the finished picture."""

    def __init__(self) -> None:
        self.data: U8 = np.full((HEIGHT * FINE, WIDTH * FINE, 3), PAPER, np.uint8)

    def text(
        self, words: str, x: float, y: float, size: float, colour: Colour, align: float = 0.0
    ) -> None:
        """Words on the line y; align: share of their width left of x. ° becomes a drawn ring."""
        scale = size * FINE / 30
        thick = max(1, round(size * FINE / 16))
        font = cv2.FONT_HERSHEY_DUPLEX
        parts = words.split("°")
        ring = size * 0.28
        widths = [cv2.getTextSize(p, font, scale, thick)[0][0] / FINE for p in parts]
        x -= align * (sum(widths) + ring * (len(parts) - 1))
        for index, (part, width) in enumerate(zip(parts, widths, strict=True)):
            if index:
                centre = _point(x + ring / 2, y - size * 0.6)
                cv2.circle(self.data, centre, round(ring * FINE / 2.6), colour, thick, cv2.LINE_AA)
                x += ring
            cv2.putText(self.data, part, _point(x, y), font, scale, colour, thick, cv2.LINE_AA)
            x += width

    @staticmethod
    def width(words: str, size: float) -> float:
        """Of words without a degree sign."""
        font, thick = cv2.FONT_HERSHEY_DUPLEX, max(1, round(size * FINE / 16))
        wide: int = cv2.getTextSize(words, font, size * FINE / 30, thick)[0][0]
        return wide / FINE

    def line(
        self, points: list[tuple[float, float]], colour: Colour, width: float = 1.0
    ) -> None:  # fmt: skip
        """An open line."""
        where = np.array([_point(x, y) for x, y in points], np.int32)
        cv2.polylines(self.data, [where], False, colour, round(width * FINE), cv2.LINE_AA)

    def fill(self, points: list[tuple[float, float]], colour: Colour) -> None:
        """A filled shape."""
        cv2.fillPoly(self.data, [np.array([_point(x, y) for x, y in points], np.int32)], colour)

    def finished(self) -> Any:
        """The picture in its own size."""
        return cv2.resize(self.data, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)


def _point(x: float, y: float) -> tuple[int, int]:
    return round(x * FINE), round(y * FINE)


class _Axes:
    """A plot's field on the canvas."""

    def __init__(
        self, canvas: _Canvas, y: tuple[float, float], xs: tuple[float, float], top: float
    ) -> None:
        self.canvas, self.x0, self.x1 = canvas, 560.0, 980.0
        self.y0, self.y1, self.xs, self.top = y[0], y[1], xs, top

    def at(self, x: float, y: float) -> tuple[float, float]:
        low, high = self.xs
        share = (min(max(x, low), high) - low) / (high - low)
        height = min(y, self.top) / self.top
        return self.x0 + share * (self.x1 - self.x0), self.y1 - height * (self.y1 - self.y0)

    def grid(self, title: str, x_unit: str, figures: str) -> None:
        for value, text in ticks(0.0, self.top, 3):
            _, y = self.at(self.xs[0], value)
            self.canvas.line([(self.x0, y), (self.x1, y)], LINE)
            self.canvas.text(text, self.x0 - 7, y + 4, 11, SOFT, 1.0)
        for value, text in ticks(*self.xs, most=5):
            x, _ = self.at(value, 0)
            self.canvas.text(text, x, self.y1 + 15, 11, SOFT, 0.5)
        self.canvas.text(x_unit, self.x1, self.y1 + 28, 11, SOFT, 1.0)
        self.canvas.text(title, self.x0 - 28, self.y0 - 12, 14, INK)
        self.canvas.text(figures, self.x1, self.y0 - 12, 12, SOFT, 1.0)


def draw(run: Analysis) -> Any:
    """The picture as BGR array. Raises RecordError when the recording has no frames."""
    found = shots(run, 24)
    if not found:
        raise RecordError(
            f"{run.recording.path}: no camera frames in it. Record with frames='jpeg'."
        )
    canvas = _Canvas()
    _frame(canvas, max(found, key=lambda shot: len(shot.detections or ())), run)
    if run.tracking is not None:
        _error(canvas, run)
    if run.routes and len(run.routes[0].reaction):
        _latency(canvas, run)
    return canvas.finished()


def _frame(canvas: _Canvas, shot: Shot, run: Analysis) -> None:
    height, width = shot.picture.shape[:2]
    scale = min(488 / width, 366 / height)
    x0, y0 = 16.0, 16.0
    size = (round(width * scale * FINE), round(height * scale * FINE))
    left, top = _point(x0, y0)
    large = cv2.resize(shot.picture, size, interpolation=cv2.INTER_CUBIC)
    if large.ndim == 2:
        large = cv2.cvtColor(large, cv2.COLOR_GRAY2BGR)
    canvas.data[top : top + size[1], left : left + size[0]] = large

    def at(x: float, y: float) -> tuple[float, float]:
        return x0 + x * scale, y0 + y * scale

    cx, cy = shot.axis
    arm = 0.06 * width
    for colour, wide in ((INK, 3.0), (PAPER, 1.4)):
        canvas.line([at(cx - arm, cy), at(cx + arm, cy)], colour, wide)
        canvas.line([at(cx, cy - arm), at(cx, cy + arm)], colour, wide)
    for detection in shot.detections or ():
        x1, y1, x2, y2 = detection.box
        corners = [at(x1, y1), at(x2, y1), at(x2, y2), at(x1, y2), at(x1, y1)]
        canvas.line(corners, YELLOW, 1.8)
        words = f"{detection.label} {detection.score:.2f}"
        tx, ty = at(x1, y1)
        wide = canvas.width(words, 12) + 8
        tx = min(tx, x0 + width * scale - wide)
        if ty < y0 + 18:
            ty = at(x2, y2)[1] + 17
        canvas.fill([(tx, ty - 16), (tx + wide, ty - 16), (tx + wide, ty), (tx, ty)], YELLOW)
        canvas.text(words, tx + 4, ty - 4, 12, INK)
    words = "simulated world" if run.is_simulated else "real camera"
    canvas.text(
        f"{run.recording.plan.graph} on {run.unit}, {words}, {shot.t_s:.1f} s",
        x0, y0 + height * scale + 22, 13, SOFT,
    )  # fmt: skip


def _error(canvas: _Canvas, run: Analysis) -> None:
    tracking = run.tracking
    assert tracking is not None
    top = max(1.0, 1.4 * float(tracking.judged.max()))
    axes = _Axes(canvas, (44.0, 178.0), (0.0, run.duration_s), top)
    axes.grid(
        "Tracking error, °",
        "s",
        f"rms {tracking.rms:.2f}°, max {tracking.judged.max():.2f}° after {SETTLING_S:g} s",
    )
    curve = [axes.at(x, y) for x, y in zip(tracking.t_s, tracking.error_deg, strict=True)]
    canvas.fill([(curve[0][0], axes.y1), *curve, (curve[-1][0], axes.y1)], WASH)
    canvas.line(curve, RIVER, 1.4)


def _latency(canvas: _Canvas, run: Analysis) -> None:
    route = run.routes[0]
    values: F64 = (route.reaction * 1e-6).astype(np.float64)
    high = 1.25 * float(np.quantile(values, 0.98))
    edges = np.linspace(0.0, high, 56)
    heights, _ = np.histogram(values, edges)
    axes = _Axes(canvas, (258.0, 378.0), (0.0, high), 1.2 * float(heights.max()))
    figures = f"p50 {quantile_ms(route.reaction, 0.5)}, n {len(values)}"
    if percentile(values, 0.99) is not None:
        figures = f"p99 {quantile_ms(route.reaction, 0.99)}, {figures}"
    if high < values.max():
        figures += f", {int(np.sum(values > high))} beyond"
    axes.grid("Glass to servo, pictures", "ms", figures)
    for low, up, height in zip(edges[:-1], edges[1:], heights, strict=True):
        if height:
            (xa, ya), (xb, _) = axes.at(low, float(height)), axes.at(up, 0.0)
            canvas.fill([(xa, axes.y1), (xa, ya), (xb - 1, ya), (xb - 1, axes.y1)], RIVER)
    median = percentile(values, 0.5)
    if median is not None:
        canvas.line([axes.at(median, 0.0), axes.at(median, axes.top)], WARM, 1.2)


def main(arguments: list[str]) -> int:
    """Draw the picture of a recording into a file."""
    if len(arguments) != 2:
        print("usage: python -m haihe.bench.report.picture REC OUT.png", file=sys.stderr)
        return 2
    recording, out = arguments
    picture = draw(analyse(Recording(recording)))
    if not cv2.imwrite(out, picture):
        print(f"{out}: cannot be written", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
