"""Shapes and shaded sprites of small machine parts, drawn from polygons.

A part is an outline with holes in millimetres (a right, b down, origin at the middle of its
bounds), a height above the table and an edge radius. Baking turns it into a picture from above:

    polygon mask -> distance transform -> edge profile -> normals -> Lambert + specular + dirt

Side walls, shadow and perspective are added when the sprite is placed (see render.py).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

U8 = NDArray[np.uint8]
F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

CLASSES: tuple[str, ...] = ("washer", "nut", "bolt", "bracket")
"""What the detector knows; the index is the class number."""
LOOKALIKES: tuple[str, ...] = ("gear", "coin", "plate")
"""Parts that are never labelled: the detector has to leave them alone."""

# Base colours (B, G, R), 0..1, and shininess of common finishes.
FINISHES: tuple[tuple[tuple[float, float, float], float], ...] = (
    ((0.78, 0.78, 0.76), 40.0),  # zinc
    ((0.62, 0.62, 0.62), 25.0),  # steel
    ((0.90, 0.90, 0.90), 60.0),  # nickel
    ((0.38, 0.66, 0.82), 35.0),  # brass
    ((0.34, 0.50, 0.76), 30.0),  # copper
    ((0.17, 0.16, 0.16), 18.0),  # black oxide
    ((0.45, 0.72, 0.78), 22.0),  # yellow chromate
)
RUST = np.array([0.16, 0.28, 0.45], np.float32)


@dataclass(frozen=True, slots=True)
class PartShape:
    """Outline, holes and heights of one part, all in millimetres."""

    name: str
    outline: F64
    holes: tuple[F64, ...]
    height_mm: float
    edge_mm: float
    radius_mm: float
    marks: F64
    """Three numbers: bolt (thread start, thread end, pitch), nut (chamfer radius, 0, 0), else 0."""


@dataclass(frozen=True, slots=True)
class Sprite:
    """A baked part: premultiplied BGRA, square, its middle pixel at the origin of the shape."""

    shape: PartShape
    bgra: U8
    mm_per_px: float
    wall: F32
    """Colour of the side walls, BGR 0..255."""


@dataclass(frozen=True, slots=True)
class Finish:
    """Surface of one part: colour (BGR 0..1), gloss, rust share 0..1, grain 0..1."""

    color: tuple[float, float, float]
    shininess: float
    gloss: float
    rust: float
    grain: float


def draw_finish(rng: np.random.Generator) -> Finish:
    """Draw one surface; about a quarter of all parts carry rust."""
    (b, g, r), shininess = FINISHES[int(rng.integers(len(FINISHES)))]
    k = rng.uniform(0.82, 1.12)
    rust = rng.uniform(0.1, 0.6) if rng.random() < 0.25 else 0.0
    return Finish(
        (b * k, g * k, r * k),
        shininess * rng.uniform(0.6, 1.5),
        rng.uniform(0.25, 0.75),
        rust,
        rng.uniform(0.02, 0.08),
    )


def _circle(radius: float, n: int = 48) -> F64:
    t = np.linspace(0.0, 2 * np.pi, n, endpoint=False)
    return np.stack([radius * np.cos(t), radius * np.sin(t)], axis=1)


def _washer(size: float, rng: np.random.Generator) -> tuple[F64, list[F64], float, float]:
    hole = size / 2 * rng.uniform(0.44, 0.60)
    return _circle(size / 2), [_circle(hole)], size * rng.uniform(0.05, 0.08), size * 0.03


def _nut(size: float, rng: np.random.Generator) -> tuple[F64, list[F64], float, float]:
    corners = _circle(size / np.sqrt(3.0), 6)
    hole = size / 2 * rng.uniform(0.50, 0.62)
    return corners, [_circle(hole)], size * rng.uniform(0.36, 0.52), size * 0.05


def _bolt(size: float, rng: np.random.Generator) -> tuple[F64, list[F64], float, float]:
    shaft = size * rng.uniform(0.20, 0.28)
    head = shaft * rng.uniform(1.6, 1.85)
    thick = shaft * rng.uniform(0.65, 0.85)
    x0, x1, x2, tip = -size / 2, -size / 2 + thick, size / 2, shaft * 0.12
    h, s = head / 2, shaft / 2
    outline = np.array(
        [
            [x0, -h * 0.9],
            [x0 + thick * 0.2, -h],
            [x1, -h],
            [x1, -s],
            [x2 - tip, -s],
            [x2, -s + tip],
            [x2, s - tip],
            [x2 - tip, s],
            [x1, s],
            [x1, h],
            [x0 + thick * 0.2, h],
            [x0, h * 0.9],
        ]
    )
    return outline, [], shaft * 0.75, s * 0.95


def _bracket(size: float, rng: np.random.Generator) -> tuple[F64, list[F64], float, float]:
    width = size * rng.uniform(0.28, 0.38)
    other = size * rng.uniform(0.70, 1.0)
    x0, y0 = -size / 2, -other / 2
    outline = np.array(
        [
            [x0, y0],
            [x0 + width, y0],
            [x0 + width, y0 + other - width],
            [x0 + size, y0 + other - width],
            [x0 + size, y0 + other],
            [x0, y0 + other],
        ]
    )
    bore = width * rng.uniform(0.18, 0.27)
    low, left = y0 + other - width / 2, x0 + width / 2
    spots = [(left, y0 + width / 2), (x0 + size - width / 2, low)]
    if rng.random() < 0.5:
        spots.append((left, low))
    holes = [_circle(bore, 24) + np.array(spot) for spot in spots]
    return outline, holes, size * rng.uniform(0.05, 0.09), size * 0.02


def _gear(size: float, rng: np.random.Generator) -> tuple[F64, list[F64], float, float]:
    teeth = int(rng.integers(9, 17))
    t = np.linspace(0.0, 2 * np.pi, teeth * 8, endpoint=False)
    wave = np.clip(np.sin(teeth * t) * 2.2, -1, 1)
    radius = size / 2 * (0.90 + 0.10 * wave)
    outline = np.stack([radius * np.cos(t), radius * np.sin(t)], axis=1)
    hole = size / 2 * rng.uniform(0.15, 0.45)
    return outline, [_circle(hole)], size * rng.uniform(0.10, 0.25), size * 0.03


def _coin(size: float, rng: np.random.Generator) -> tuple[F64, list[F64], float, float]:
    return _circle(size / 2), [], size * rng.uniform(0.05, 0.10), size * 0.04


def _plate(size: float, rng: np.random.Generator) -> tuple[F64, list[F64], float, float]:
    h = size * rng.uniform(0.18, 0.35) / 2
    x = size / 2
    outline = np.array([[-x, -h], [x, -h], [x, h], [-x, h]])
    bore = h * rng.uniform(0.3, 0.5)
    holes = [_circle(bore, 24) + np.array([s * (x - h), 0.0]) for s in (-1.0, 1.0)]
    return outline, holes, size * rng.uniform(0.04, 0.08), size * 0.02


_MAKERS = {
    "washer": _washer,
    "nut": _nut,
    "bolt": _bolt,
    "bracket": _bracket,
    "gear": _gear,
    "coin": _coin,
    "plate": _plate,
}


def make_shape(name: str, size_mm: float, rng: np.random.Generator) -> PartShape:
    """Draw a shape; `size_mm` is diameter, across-flats (nut), length (bolt) or longer arm."""
    outline, holes, height, edge = _MAKERS[name](size_mm, rng)
    marks = np.zeros(3)
    if name == "bolt":
        marks = np.array([outline[2, 0] + size_mm * 0.15, outline[4, 0], size_mm * 0.045])
    elif name == "nut":
        marks = np.array([size_mm * 0.49, 0.0, 0.0])
    radius = float(np.hypot(outline[:, 0], outline[:, 1]).max())
    return PartShape(name, outline, tuple(holes), height, edge, radius, marks)


def smooth_noise(rng: np.random.Generator, height: int, width: int, cells: int) -> F32:
    """Give cloudy noise of zero mean and unit deviation: `cells` blobs across the longer side."""
    rows = max(2, round(cells * height / max(height, width)))
    columns = max(2, round(cells * width / max(height, width)))
    small = rng.standard_normal((rows, columns), dtype=np.float32)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC), np.float32)


def _mask(shape: PartShape, px: int, mm_per_px: float) -> U8:
    middle = (px - 1) / 2
    mask = np.zeros((px, px), np.uint8)

    def fixed(points: F64) -> NDArray[np.int32]:
        return np.round((points / mm_per_px + middle) * 16).astype(np.int32)

    cv2.fillPoly(mask, [fixed(shape.outline)], 255, cv2.LINE_AA, 4)
    for hole in shape.holes:
        cv2.fillPoly(mask, [fixed(hole)], 0, cv2.LINE_AA, 4)
    return mask


def bake(shape: PartShape, finish: Finish, light: F64, px: int, rng: np.random.Generator) -> Sprite:
    """Shade a part seen from above under a directional light into a sprite of `px` pixels a side.

    `light` points from the part to the lamp in the axes of the shape (a right, b down, h up).
    Work happens at twice the size, so edges and fine marks are averaged and not sampled.
    """
    n = max(64, 2 * px)
    mm_per_px = 2.12 * shape.radius_mm / n
    mask = _mask(shape, n, mm_per_px)
    inside = cv2.distanceTransform((mask > 127).astype(np.uint8), cv2.DIST_L2, 3)
    t = np.clip(np.asarray(inside, np.float32) * (mm_per_px / shape.edge_mm), 0.0, 1.0)
    height = (shape.edge_mm / mm_per_px) * np.sqrt(np.clip(1.0 - (1.0 - t) ** 2, 0.0, 1.0))
    axis = (np.arange(n, dtype=np.float32) - (n - 1) / 2) * mm_per_px
    albedo = 1.0 + finish.grain * rng.standard_normal((n, n), dtype=np.float32)
    if shape.name == "bolt":
        start, end, pitch = shape.marks
        on = ((axis > start) & (axis < end)).astype(np.float32)
        wave = np.sin(axis * (2 * np.pi / pitch)) * on
        albedo *= (1.0 + 0.30 * wave - 0.08 * on)[None, :]
    elif shape.name == "nut":
        radius = np.hypot(axis[None, :], axis[:, None])
        albedo *= np.where(radius > shape.marks[0], 0.72, 1.0).astype(np.float32)
    height = cv2.GaussianBlur(height, (3, 3), 0.8)
    da = cv2.Sobel(height, cv2.CV_32F, 1, 0, ksize=3) / 8
    db = cv2.Sobel(height, cv2.CV_32F, 0, 1, ksize=3) / 8
    length = np.sqrt(da * da + db * db + 1.0)
    la, lb, lh = (float(v) for v in light / np.linalg.norm(light))
    lambert = np.clip((lh - da * la - db * lb) / length, 0.0, 1.0)
    half = np.array([la, lb, lh + 1.0])
    ha, hb, hh = (float(v) for v in half / np.linalg.norm(half))
    facing = np.clip((hh - da * ha - db * hb) / length, 0.0, 1.0)
    specular = finish.gloss * facing**finish.shininess
    # A flat face mirrors the soft ceiling: a slow gradient over the whole part.
    sheen = 1.0 + 0.12 * (axis[None, :] * la + axis[:, None] * lb) / shape.radius_mm
    shade = (0.34 + 0.66 * lambert) * albedo * sheen
    color = np.empty((n, n, 3), np.float32)
    rusty = np.zeros((n, n), np.float32)
    if finish.rust > 0:
        rusty = np.clip((smooth_noise(rng, n, n, 7) + 2.2 * finish.rust - 1.0) * 1.5, 0.0, 0.85)
    keep = 1.0 - rusty
    for c in range(3):
        base = finish.color[c] * keep + RUST[c] * rusty
        color[..., c] = base * shade + 0.55 * specular * keep
    alpha = mask.astype(np.float32) / 255.0
    premultiplied = np.dstack([np.clip(color, 0.0, 1.0) * alpha[..., None], alpha]) * 255.0
    small = cv2.resize(premultiplied.astype(np.float32), (px, px), interpolation=cv2.INTER_AREA)
    solid = np.asarray(finish.color, np.float32) * (1 - finish.rust) + RUST * finish.rust
    wall = np.clip(solid * 0.42, 0.0, 1.0) * 255.0
    bgra = np.clip(np.round(small), 0, 255).astype(np.uint8)
    return Sprite(shape, bgra, mm_per_px * n / px, wall.astype(np.float32))
