"""Table tops and camera effects for rendered scenes.

Six kinds of table top, flat clutter lying on it, and what lens, light and sensor do to the picture.
Every function takes its own generator: same generator state, same bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import cv2
import numpy as np

from haihe.models.training.parts import F32, U8, smooth_noise

# Gaussian noise from random bytes through this table: ten times cheaper than drawing normals.
_QUANTILES = np.array([NormalDist().inv_cdf((i + 0.5) / 256) for i in range(256)], np.float32)


def fast_noise(rng: np.random.Generator, shape: tuple[int, ...]) -> F32:
    """Give unit Gaussian noise, cut at 2.9 sigma."""
    return _QUANTILES[rng.integers(0, 256, shape, dtype=np.uint8)]


def _tint(gray: F32, color: tuple[float, float, float]) -> F32:
    return np.asarray(gray[..., None] * np.asarray(color, np.float32), np.float32)


def _rubber(rng: np.random.Generator, h: int, w: int, px_mm: float) -> F32:
    period = rng.uniform(5.0, 12.0) * px_mm
    wave = np.sin(np.arange(w, dtype=np.float32) * (2 * np.pi / period))
    gray = rng.uniform(35, 80) + rng.uniform(6, 16) * wave[None, :] + 4 * fast_noise(rng, (h, w))
    return _tint(gray, (rng.uniform(0.9, 1.2), 1.0, rng.uniform(0.85, 1.1)))


def _wood(rng: np.random.Generator, h: int, w: int, px_mm: float) -> F32:
    bend = smooth_noise(rng, h, w, 4) * rng.uniform(4, 14)
    rows = np.arange(h, dtype=np.float32)[:, None] + bend
    rings = np.sin(rows * (2 * np.pi / (rng.uniform(8, 26) * px_mm)))
    fibre = cv2.blur(fast_noise(rng, (h, w)), (25, 1)) * 26
    gray = rng.uniform(95, 180) + rng.uniform(5, 15) * rings + fibre
    return _tint(gray, (rng.uniform(0.45, 0.7), rng.uniform(0.7, 0.85), 1.05))


def _steel(rng: np.random.Generator, h: int, w: int, px_mm: float) -> F32:
    brush = cv2.blur(fast_noise(rng, (h, w)), (41, 1)) * rng.uniform(15, 40)
    gray = rng.uniform(105, 190) + brush + 12 * smooth_noise(rng, h, w, 3)
    return _tint(gray, (rng.uniform(0.97, 1.06), 1.0, rng.uniform(0.94, 1.02)))


def _mat(rng: np.random.Generator, h: int, w: int, px_mm: float) -> F32:
    palette = ((0.55, 0.75, 0.35), (0.85, 0.5, 0.3), (0.5, 0.5, 0.5), (0.35, 0.35, 0.8))
    color = palette[int(rng.integers(len(palette)))]
    image = _tint(rng.uniform(90, 190) + 3 * fast_noise(rng, (h, w)), color)
    ink = float(rng.uniform(20, 70)) * float(rng.choice([-1.0, 1.0]))
    step = max(4.0, 10.0 * px_mm)
    for i in range(int(max(h, w) / step) + 1):
        at = int(i * step)
        gain = ink if i % 5 == 0 else ink * 0.5
        image[:, at : at + 1] += gain
        image[at : at + 1] += gain
    return image


def _concrete(rng: np.random.Generator, h: int, w: int, px_mm: float) -> F32:
    gray = rng.uniform(95, 185) + 9 * smooth_noise(rng, h, w, 5) + 6 * smooth_noise(rng, h, w, 30)
    gray = gray + rng.uniform(3, 9) * fast_noise(rng, (h, w))
    image = _tint(np.asarray(gray, np.float32), (rng.uniform(0.92, 1.0), 1.0, 1.02))
    for _ in range(int(rng.integers(0, 30))):
        at = (int(rng.integers(w)), int(rng.integers(h)))
        cv2.circle(image, at, int(rng.integers(1, 3)), [float(rng.uniform(50, 90))] * 3, -1)
    return image


def _paper(rng: np.random.Generator, h: int, w: int, px_mm: float) -> F32:
    kraft = rng.random() < 0.4
    color = (0.62, 0.78, 0.93) if kraft else (rng.uniform(0.94, 1.02), 1.0, 1.0)
    gray = rng.uniform(150, 215) + 3 * smooth_noise(rng, h, w, 8) + 2 * fast_noise(rng, (h, w))
    image = _tint(np.asarray(gray, np.float32), color)
    if rng.random() < 0.4:
        step = rng.uniform(6, 12) * px_mm
        for i in range(int(h / step)):
            image[int(i * step)] -= 45
    return image


BACKGROUNDS: dict[str, Callable[[np.random.Generator, int, int, float], F32]] = {
    "rubber": _rubber,
    "wood": _wood,
    "steel": _steel,
    "mat": _mat,
    "concrete": _concrete,
    "paper": _paper,
}


def _wear(image: F32, rng: np.random.Generator, px_mm: float) -> None:
    """Stains, scratches and the rings that cups leave, drawn in place."""
    h, w = image.shape[:2]
    for _ in range(int(rng.integers(0, 3))):
        spot = np.zeros((h // 4, w // 4), np.float32)
        at = (int(rng.integers(w // 4)), int(rng.integers(h // 4)))
        axes = (int(rng.integers(3, 18)), int(rng.integers(3, 18)))
        cv2.ellipse(spot, at, axes, float(rng.uniform(0, 180)), 0, 360, [1.0], -1)
        spot = np.asarray(cv2.GaussianBlur(spot, (0, 0), float(rng.uniform(1, 3))), np.float32)
        grown = np.asarray(cv2.resize(spot, (w, h)), np.float32)
        image *= (1.0 - float(rng.uniform(-0.15, 0.4)) * grown)[..., None]
    for _ in range(int(rng.integers(0, 7))):
        x, y = rng.uniform(0, w), rng.uniform(0, h)
        turn, length = rng.uniform(0, np.pi), rng.uniform(10, 120)
        end = (int(x + length * np.cos(turn)), int(y + length * np.sin(turn)))
        tone = float(rng.uniform(20, 235))
        cv2.line(image, (int(x), int(y)), end, [tone] * 3, 1, cv2.LINE_AA)
    if rng.random() < 0.2:
        at = (int(rng.integers(w)), int(rng.integers(h)))
        radius = int(rng.uniform(30, 45) * px_mm) + 1
        cv2.circle(image, at, radius, [float(rng.uniform(60, 120))] * 3, 1, cv2.LINE_AA)


def _litter(image: U8, rng: np.random.Generator, most: int) -> None:
    """Flat things that are no parts: tape, cards, dots, print, cables; drawn in place."""
    h, w = image.shape[:2]
    for _ in range(int(rng.integers(0, most + 1))):
        color = [float(v) for v in rng.uniform(15, 235, 3)]
        x, y = int(rng.integers(w)), int(rng.integers(h))
        kind = int(rng.integers(5))
        turn = rng.uniform(0, np.pi)
        across = np.array([np.cos(turn), np.sin(turn)])
        if kind == 0:
            end = np.array([x, y]) + across * rng.uniform(40, 250)
            cv2.line(
                image,
                (x, y),
                (int(end[0]), int(end[1])),
                color,
                int(rng.integers(2, 14)),
                cv2.LINE_AA,
            )
        elif kind == 1:
            size = (float(rng.uniform(10, 90)), float(rng.uniform(10, 60)))
            corners = cv2.boxPoints(((float(x), float(y)), size, float(np.degrees(turn))))
            cv2.fillPoly(image, [np.asarray(corners, np.int32)], color, cv2.LINE_AA)
        elif kind == 2:
            cv2.circle(image, (x, y), int(rng.integers(2, 22)), color, -1, cv2.LINE_AA)
        elif kind == 3:
            text = "".join(chr(int(c)) for c in rng.integers(48, 91, int(rng.integers(2, 9))))
            cv2.putText(
                image,
                text,
                (x, y),
                cv2.FONT_HERSHEY_SIMPLEX,
                float(rng.uniform(0.3, 1.2)),
                color,
                int(rng.integers(1, 3)),
                cv2.LINE_AA,
            )
        else:
            cable(image, rng)


def cable(image: U8, rng: np.random.Generator) -> None:
    """Lay one curved cable over the picture, in place, 2-6 px thick."""
    h, w = image.shape[:2]
    points = rng.uniform((-0.1 * w, -0.1 * h), (1.1 * w, 1.1 * h), (3, 2))
    t = np.linspace(0, 1, 24)[:, None]
    curve = (1 - t) ** 2 * points[0] + 2 * t * (1 - t) * points[1] + t**2 * points[2]
    tone = rng.uniform(10, 70, 3) if rng.random() < 0.7 else rng.uniform(40, 220, 3)
    line = [np.asarray(np.round(curve), np.int32)]
    width = int(rng.integers(2, 6))
    cv2.polylines(image, line, False, [float(v) for v in tone], width, cv2.LINE_AA)
    light = [float(v) for v in np.minimum(tone * 1.6 + 12, 255)]
    cv2.polylines(image, line, False, light, 1, cv2.LINE_AA)


def table_top(
    rng: np.random.Generator,
    height: int,
    width: int,
    px_per_mm: float,
    kind: str | None = None,
    litter: int = 5,
) -> U8:
    """Draw one table top in the plane of the table, BGR, with wear and flat clutter."""
    names = tuple(BACKGROUNDS)
    name = kind or names[int(rng.integers(len(names)))]
    image = np.ascontiguousarray(BACKGROUNDS[name](rng, height, width, px_per_mm), np.float32)
    _wear(image, rng, px_per_mm)
    flat = np.clip(image, 0, 255).astype(np.uint8)  # OpenCV 5 writes text on bytes only
    _litter(flat, rng, litter)
    return flat


@dataclass(frozen=True, slots=True)
class Effects:
    """Ranges of what light, lens and sensor do; lengths and sigmas in pixels, noise in levels."""

    gain: tuple[float, float] = (0.75, 1.2)
    contrast: tuple[float, float] = (0.85, 1.1)
    cast: float = 0.10
    vignette: tuple[float, float] = (0.0, 0.35)
    blur: tuple[float, float] = (0.0, 0.8)
    motion: tuple[float, float] = (0.0, 5.0)
    motion_share: float = 0.3
    noise: tuple[float, float] = (1.0, 6.0)
    hard_shadow_share: float = 0.25
    jpeg_share: float = 0.25


def vignette(height: int, width: int, strength: float) -> F32:
    """Give the brightness of each pixel, 1 in the middle and `1 - strength` in the corners."""
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    return np.asarray(1.0 - strength * 0.5 * (x * x + y * y), np.float32)


def motion_blur(image: U8, length: float, direction: float) -> U8:
    """Smear by `length` pixels along `direction` (rad); the picture does not shift."""
    if length < 1.0:
        return image
    n = 2 * int(np.ceil(length / 2)) + 1
    kernel = np.zeros((n, n), np.float32)
    c = (n - 1) / 2
    dx, dy = np.cos(direction) * length / 2, np.sin(direction) * length / 2
    ends = [(round((c + s * dx) * 16), round((c + s * dy) * 16)) for s in (-1, 1)]
    cv2.line(kernel, ends[0], ends[1], [1.0], 1, cv2.LINE_8, 4)
    total = float(kernel.sum())
    return np.asarray(cv2.filter2D(image, -1, kernel / total), np.uint8)


def camera_effects(image: U8, rng: np.random.Generator, effects: Effects) -> U8:
    """Pass a clean picture through light, lens, motion, sensor and (sometimes) JPEG."""
    h, w = image.shape[:2]
    shade = vignette(h, w, float(rng.uniform(*effects.vignette))) * rng.uniform(*effects.gain)
    if rng.random() < effects.hard_shadow_share:
        turn = rng.uniform(0, 2 * np.pi)
        at = np.array([rng.uniform(0, w), rng.uniform(0, h)])
        y, x = np.mgrid[0:h, 0:w].astype(np.float32)
        side = (x - at[0]) * np.cos(turn) + (y - at[1]) * np.sin(turn)
        shade = shade * (1.0 - rng.uniform(0.2, 0.5) * np.clip(side / rng.uniform(2, 12), 0, 1))
    contrast = rng.uniform(*effects.contrast)
    casts = 1.0 + rng.uniform(-effects.cast, effects.cast, 3)
    gains = (shade * contrast)[..., None] * casts.astype(np.float32)
    blur = float(rng.uniform(*effects.blur))
    smear = float(rng.uniform(*effects.motion)) if rng.random() < effects.motion_share else 0.0
    direction = float(rng.uniform(0, np.pi))
    noise = float(rng.uniform(*effects.noise))
    out = image.astype(np.float32) * gains + np.float32(110.0 * (1 - contrast))
    clean = np.clip(out, 0, 255).astype(np.uint8)
    if blur > 0.3:
        clean = np.asarray(cv2.GaussianBlur(clean, (5, 5), blur), np.uint8)
    clean = motion_blur(clean, smear, direction)
    noisy = clean.astype(np.float32) + noise * fast_noise(rng, clean.shape)
    final = np.clip(noisy, 0, 255).astype(np.uint8)
    if rng.random() < effects.jpeg_share:
        quality = int(rng.integers(45, 95))
        _, packed = cv2.imencode(".jpg", final, [cv2.IMWRITE_JPEG_QUALITY, quality])
        final = np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR), np.uint8)
    return final
