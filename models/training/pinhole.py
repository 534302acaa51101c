"""Pinhole camera that looks at a plane: projections, boxes and bearings.

Geometry. Head frame: x forward, y left, z up, the camera at its origin. The work surface is the
plane x = distance: a wall in front of the head, or a table under a head that looks straight down.
Camera attitude is Rz(pan) @ Ry(-tilt): pan is positive to the left, tilt is positive up, and a
point (x, y, z) is centred at pan = atan2(y, x), tilt = atan2(z, hypot(x, y)).

Plane coordinates are millimetres: a = -y (right), b = -z (down), h = height above the surface,
towards the camera. Pixels: u to the right, v down, whole numbers are pixel middles.
`angle` turns a part counter-clockwise as the camera sees it, in radians.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from haihe.models.training.parts import F64, PartShape

NEAREST_MM = 40.0
"""Parts with a corner closer to the image plane than this are not drawn."""


@dataclass(frozen=True, slots=True)
class Pinhole:
    """An ideal camera; focal lengths and principal point in pixels."""

    width: int = 320
    height: int = 240
    fx: float = 280.0
    fy: float = 280.0
    cx: float = 159.5
    cy: float = 119.5

    def matrix(self) -> F64:
        """Give the 3x3 camera matrix."""
        return np.array([[self.fx, 0.0, self.cx], [0.0, self.fy, self.cy], [0.0, 0.0, 1.0]])

    def bearing(self, u: float, v: float) -> tuple[float, float]:
        """Give (left, up) of the ray through a pixel as tangents in the camera frame."""
        return (self.cx - u) / self.fx, (self.cy - v) / self.fy


HEAD_CAMERA = Pinhole()


def camera_axes(pan: float, tilt: float) -> F64:
    """Give Rz(pan) @ Ry(-tilt): columns are the forward, left and up axes of the camera."""
    cp, sp, ct, st = math.cos(pan), math.sin(pan), math.cos(tilt), math.sin(tilt)
    return np.array([[cp * ct, -sp, -cp * st], [sp * ct, cp, -sp * st], [st, 0.0, ct]])


def plane_projection(camera: Pinhole, pan: float, tilt: float, distance: float) -> F64:
    """Give the 3x4 matrix from plane millimetres (a, b, h, 1) to homogeneous pixels.

    `distance` is in metres. The third homogeneous part is the depth along the optical axis in mm.
    """
    forward, left, up = camera_axes(pan, tilt).T
    to_camera = np.stack([-left, -up, forward])
    world = np.array(
        [[0.0, 0.0, -1.0, distance * 1000.0], [-1.0, 0.0, 0.0, 0.0], [0.0, -1.0, 0.0, 0.0]]
    )
    return np.asarray(camera.matrix() @ to_camera @ world, np.float64)


def project(projection: F64, points: F64, height_mm: float) -> F64:
    """Project plane points (N, 2) at one height to pixels (N, 2); NaN where behind the camera."""
    n = len(points)
    full = np.column_stack([points, np.full(n, height_mm), np.ones(n)]) @ projection.T
    depth = np.where(full[:, 2:] > NEAREST_MM, full[:, 2:], np.nan)
    return np.asarray(full[:, :2] / depth, np.float64)


def turn(points: F64, a_mm: float, b_mm: float, angle: float) -> F64:
    """Turn shape points counter-clockwise (as seen) and move them to their place on the plane."""
    c, s = math.cos(angle), math.sin(angle)
    return np.asarray(points @ np.array([[c, -s], [s, c]]) + (a_mm, b_mm), np.float64)


def outline_box(projection: F64, shape: PartShape, a_mm: float, b_mm: float, angle: float) -> F64:
    """Give the exact box (x1, y1, x2, y2) px of the outline at foot and top; NaN if behind."""
    placed = turn(shape.outline, a_mm, b_mm, angle)
    points = np.vstack(
        [project(projection, placed, 0.0), project(projection, placed, shape.height_mm)]
    )
    return np.concatenate([points.min(axis=0), points.max(axis=0)])


def clip_box(box: F64, camera: Pinhole) -> F64:
    """Clip a box to the picture, 0..width-1 and 0..height-1."""
    low, high = np.zeros(2), np.array([camera.width - 1.0, camera.height - 1.0])
    return np.concatenate([np.clip(box[:2], low, high), np.clip(box[2:], low, high)])


def light_in_shape(light: F64, angle: float) -> F64:
    """Turn a light direction from plane axes (a, b, h) into the axes of a turned part."""
    c, s = math.cos(angle), math.sin(angle)
    return np.array([c * light[0] - s * light[1], s * light[0] + c * light[1], light[2]])
