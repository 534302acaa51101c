"""Placing of part sprites, and the rendered world of the closed loop.

`TableView` is what a panning and tilting head sees: a table with resting parts and one moving part.
Training scenes are drawn by the same functions. The geometry is that of pinhole.py: plane
millimetres (a right, b down, h towards the camera), angles counter-clockwise as seen, radians.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from haihe.models.training.parts import (
    CLASSES,
    F32,
    F64,
    U8,
    PartShape,
    Sprite,
    bake,
    draw_finish,
    make_shape,
)
from haihe.models.training.pinhole import (
    HEAD_CAMERA,
    Pinhole,
    clip_box,
    light_in_shape,
    outline_box,
    plane_projection,
    project,
    turn,
)
from haihe.models.training.surfaces import fast_noise, table_top, vignette

__all__ = ["HEAD_CAMERA", "PartTruth", "Pinhole", "TableView", "draw_part", "patch_deviation"]


def draw_part(
    image: U8,
    sprite: Sprite,
    projection: F64,
    a_mm: float,
    b_mm: float,
    angle: float,
    light: F64,
    shadow: float = 0.5,
) -> None:
    """Draw one part into a picture, in place: shadow, side walls, top face.

    `light` points to the lamp in plane axes (a, b, h); `shadow` is how dark the shadow is, 0..1.
    """
    shape = sprite.shape
    n = sprite.bgra.shape[0]
    top = shape.height_mm
    drift = -light[:2] / max(float(light[2]), 0.2) * top
    reach = 1.06 * shape.radius_mm
    square = np.array([[-reach, -reach], [reach, -reach], [reach, reach], [-reach, reach]])
    foot = square + np.array([a_mm, b_mm])
    spots = np.vstack(
        [
            project(projection, turn(square, a_mm, b_mm, angle), 0.0),
            project(projection, foot, top),
            project(projection, foot + drift, 0.0),
        ]
    )
    if not np.isfinite(spots).all():
        return
    x0, y0 = np.maximum(np.floor(spots.min(axis=0)).astype(int) - 2, 0)
    x1, y1 = np.minimum(np.ceil(spots.max(axis=0)).astype(int) + 3, image.shape[1::-1])
    if x1 - x0 < 2 or y1 - y0 < 2:
        return
    size = (int(x1 - x0), int(y1 - y0))
    c, s = math.cos(angle), math.sin(angle)
    k = sprite.mm_per_px
    middle = (n - 1) / 2 * k
    to_plane = np.array(
        [
            [c * k, s * k, a_mm - (c + s) * middle],
            [-s * k, c * k, b_mm - (c - s) * middle],
            [0.0, 0.0, 1.0],
        ]
    )
    window = np.array([[1.0, 0.0, -x0], [0.0, 1.0, -y0], [0.0, 0.0, 1.0]])
    flat = window @ projection[:, [0, 1, 3]]
    lift = window @ projection[:, 2]

    def placed(height_mm: float, shift: F64 | None = None) -> F64:
        plane = flat.copy()
        plane[:, 2] += height_mm * lift
        if shift is not None:
            plane[:, 2] += plane[:, 0] * shift[0] + plane[:, 1] * shift[1]
        return np.asarray(plane @ to_plane, np.float64)

    alpha = np.ascontiguousarray(sprite.bgra[..., 3])
    roi = image[y0:y1, x0:x1].astype(np.float32)
    px_per_mm = float(np.hypot(*(spots[1] - spots[0]))) / (2 * reach)
    if shadow > 0:
        dark = np.maximum(
            cv2.warpPerspective(alpha, placed(0.0, drift * 0.5), size),
            cv2.warpPerspective(alpha, placed(0.0, drift), size),
        )
        sigma = 0.7 + 0.12 * top * px_per_mm
        soft = cv2.GaussianBlur(dark, (0, 0), sigma).astype(np.float32)
        roi *= 1.0 - soft[..., None] * np.float32(shadow / 255.0)
    walls = max(1, min(5, math.ceil(top * px_per_mm / 2.5)))
    side = cv2.warpPerspective(alpha, placed(0.0), size)
    for i in range(1, walls):
        side = np.maximum(side, cv2.warpPerspective(alpha, placed(top * i / walls), size))
    cover = side.astype(np.float32)[..., None] * np.float32(1 / 255.0)
    roi += cover * (sprite.wall - roi)
    face = cv2.warpPerspective(sprite.bgra, placed(top), size).astype(np.float32)
    roi *= 1.0 - face[..., 3:] * np.float32(1 / 255.0)
    roi += face[..., :3]
    np.clip(roi, 0, 255, out=roi)
    image[y0:y1, x0:x1] = roi.astype(np.uint8)


@dataclass(frozen=True, slots=True)
class PartTruth:
    """Where a part really is, in the picture and from the head."""

    label: str
    box: F64
    """x1, y1, x2, y2 in px, not clipped; NaN when the part is behind the camera."""
    center: F64
    """Pixel (u, v) of the truth point: the middle of the part at half its height."""
    bearing_pan: float
    """Azimuth of the truth point in the head frame, rad, positive left."""
    bearing_tilt: float
    """Elevation of the truth point in the head frame, rad, positive up."""
    inside: bool
    """The whole box lies inside the picture."""


@dataclass(frozen=True, slots=True)
class _Placed:
    shape: PartShape
    a_mm: float
    b_mm: float
    angle: float


class TableView:
    """A table with resting parts and one moving part, seen by a head that pans and tilts.

    Everything is drawn from `seed` once; `render` is then a pure function of its arguments. As the
    camera only turns, the resting parts are baked into the table picture without any error.
    The truth point equals the box centre for washer and nut; the boxes of turned bolts and
    brackets are not centred on it.
    """

    PX_PER_MM = 0.8
    HALF_MM = (900.0, 680.0)
    LIGHTS = 24
    NOISES = 12

    def __init__(
        self,
        seed: int = 0,
        *,
        part: str = "washer",
        size_mm: float = 56.0,
        resting: Sequence[str] | int = 3,
        background: str | None = None,
        camera: Pinhole = HEAD_CAMERA,
        distance: float = 0.5,
        keep_free_mm: tuple[float, float] = (0.0, 250.0),
        noise: float = 2.5,
    ) -> None:
        """Bake the world.

        `resting` gives the classes of the resting parts, or their number; none of them lies in the
        ring `keep_free_mm` around the middle, where the moving part travels. `distance` in metres,
        `noise` is the sensor noise in levels.
        """
        rng = np.random.default_rng([0x7AB1E, seed])
        self.camera, self.distance = camera, distance
        self._light = np.array([rng.uniform(-0.8, 0.8), rng.uniform(-0.9, 0.1), 1.0])
        self._shadow = float(rng.uniform(0.35, 0.6))
        width, height = (round(2 * half * self.PX_PER_MM) for half in self.HALF_MM)
        focal = self.PX_PER_MM * distance * 1000.0
        wide = Pinhole(width, height, focal, focal, (width - 1) / 2, (height - 1) / 2)
        self._wide = plane_projection(wide, 0.0, 0.0, distance)
        self._table = table_top(rng, height, width, self.PX_PER_MM, background, litter=12)
        self._shape = make_shape(part, size_mm, rng)
        self._sprites = self._moving_sprites(rng)
        self.resting = self._place_resting(rng, resting, keep_free_mm)
        self._from_table = np.linalg.inv(self._wide[:, [0, 1, 3]])
        self._shade = self._lens(rng)
        shape = (self.NOISES, camera.height, camera.width, 3)
        grain = np.round(noise * fast_noise(rng, shape))
        self._brighter = np.clip(grain, 0, 255).astype(np.uint8)
        self._darker = np.clip(-grain, 0, 255).astype(np.uint8)

    @property
    def label(self) -> str:
        """Class of the moving part."""
        return self._shape.name

    def render(
        self, pan: float, tilt: float, y_mm: float, z_mm: float, angle: float, frame: int = 0
    ) -> U8:
        """Draw what the camera sees, BGR (H, W, 3), the moving part at (y, z) on the surface.

        Equal arguments give equal bytes; `frame` only chooses other sensor noise.
        """
        size = (self.camera.width, self.camera.height)
        projection = plane_projection(self.camera, pan, tilt, self.distance)
        warp = projection[:, [0, 1, 3]] @ self._from_table
        image = np.asarray(
            cv2.warpPerspective(self._table, warp, size, borderMode=cv2.BORDER_REFLECT_101),
            np.uint8,
        )
        step = 2 * math.pi / self.LIGHTS
        sprite = self._sprites[round(angle / step) % self.LIGHTS]
        draw_part(image, sprite, projection, -y_mm, -z_mm, angle, self._light, self._shadow)
        image = np.asarray(cv2.multiply(image, self._shade, scale=1 / 255.0), np.uint8)
        key = struct.pack("<5dq", pan, tilt, y_mm, z_mm, angle, frame)
        pick = zlib.crc32(key) % self.NOISES
        cv2.add(image, self._brighter[pick], dst=image)
        cv2.subtract(image, self._darker[pick], dst=image)
        return image

    def truth(self, pan: float, tilt: float, y_mm: float, z_mm: float, angle: float) -> PartTruth:
        """Give box and bearing of the moving part for the same arguments as `render`."""
        return self._truth(pan, tilt, _Placed(self._shape, -y_mm, -z_mm, angle))

    def resting_truth(self, pan: float, tilt: float) -> list[PartTruth]:
        """Give box and bearing of each resting part."""
        return [self._truth(pan, tilt, part) for part in self.resting]

    def aim(self, y_mm: float, z_mm: float) -> tuple[float, float]:
        """Give the (pan, tilt) that centres the moving part's truth point, rad."""
        x = self.distance * 1000.0 - self._shape.height_mm / 2
        return math.atan2(y_mm, x), math.atan2(z_mm, math.hypot(x, y_mm))

    def _truth(self, pan: float, tilt: float, part: _Placed) -> PartTruth:
        projection = plane_projection(self.camera, pan, tilt, self.distance)
        box = outline_box(projection, part.shape, part.a_mm, part.b_mm, part.angle)
        spot = np.array([[part.a_mm, part.b_mm]])
        center = project(projection, spot, part.shape.height_mm / 2)[0]
        x = self.distance * 1000.0 - part.shape.height_mm / 2
        inside = bool(np.isfinite(box).all() and np.array_equal(box, clip_box(box, self.camera)))
        return PartTruth(
            part.shape.name,
            box,
            center,
            math.atan2(-part.a_mm, x),
            math.atan2(-part.b_mm, math.hypot(x, part.a_mm)),
            inside,
        )

    def _moving_sprites(self, rng: np.random.Generator) -> list[Sprite]:
        """Bake the moving part for many light directions, in a finish that can be seen here."""
        near = self.camera.fx / (self.distance * 1000.0)
        px = max(24, round(1.3 * 2.12 * self._shape.radius_mm * near))
        for _ in range(12):
            finish = draw_finish(rng)
            probe = self._table.copy()
            sprite = bake(self._shape, finish, self._light, px, rng)
            draw_part(probe, sprite, self._wide, 0.0, 0.0, 0.0, self._light, self._shadow)
            box = outline_box(self._wide, self._shape, 0.0, 0.0, 0.0)
            # Darkest usual lens shade: what passes here passes in the picture.
            if patch_deviation(probe, box) * 0.8 >= 20.0:
                break
        grain_seed = int(rng.integers(1 << 32))
        return [
            bake(
                self._shape,
                finish,
                light_in_shape(self._light, i * 2 * math.pi / self.LIGHTS),
                px,
                np.random.default_rng(grain_seed),
            )
            for i in range(self.LIGHTS)
        ]

    def _place_resting(
        self,
        rng: np.random.Generator,
        resting: Sequence[str] | int,
        keep_free_mm: tuple[float, float],
    ) -> list[_Placed]:
        names = (
            [CLASSES[int(i)] for i in rng.integers(0, len(CLASSES), resting)]
            if isinstance(resting, int)
            else list(resting)
        )
        placed: list[_Placed] = []
        for name in names:
            size = rng.uniform(1.3, 1.9) * (40.0 if name in ("washer", "nut") else 52.0)
            shape = make_shape(name, size, rng)
            for _ in range(200):
                a, b = rng.uniform(-430, 430), rng.uniform(-330, 330)
                clear = [math.hypot(a - p.a_mm, b - p.b_mm) for p in placed]
                free = not keep_free_mm[0] <= math.hypot(a, b) <= keep_free_mm[1]
                if free and (not clear or min(clear) > 130.0):
                    break
            angle = float(rng.uniform(0, 2 * math.pi))
            light = light_in_shape(self._light, angle)
            px = max(24, round(1.3 * 2.12 * shape.radius_mm * self.PX_PER_MM))
            sprite = bake(shape, draw_finish(rng), light, px, rng)
            draw_part(self._table, sprite, self._wide, a, b, angle, self._light, self._shadow)
            placed.append(_Placed(shape, a, b, angle))
        return placed

    def _lens(self, rng: np.random.Generator) -> U8:
        shade = vignette(self.camera.height, self.camera.width, float(rng.uniform(0.1, 0.35)))
        cast = np.asarray(rng.uniform(0.92, 1.0, 3), np.float32)
        return np.asarray(np.round(shade[..., None] * cast * 255.0), np.uint8)


def patch_deviation(image: U8, box: F64) -> float:
    """Give the standard deviation of the grey levels inside a box: the contrast measure."""
    x1, y1 = (math.floor(v) for v in box[:2])
    x2, y2 = (math.ceil(v) + 1 for v in box[2:])
    patch = image[max(y1, 0) : y2, max(x1, 0) : x2]
    if patch.size == 0:
        return 0.0
    gray: F32 = patch.astype(np.float32) @ np.array([0.114, 0.587, 0.299], np.float32)
    return float(gray.std())
