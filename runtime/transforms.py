"""Transforms between frames of reference (`transform_tree.py`: the tree that joins frames).

A `Transform` named `base_from_camera` takes points given in the camera's frame to the base's:
`base_from_camera.apply(points)`, and `base_from_head @ head_from_camera` is `base_from_camera`.
Frames are right-handed, in m; x forward, y left, z up (REP-103) where nothing else is said.

Only sums, products, square roots and the C library's trigonometry in a written order: the same bits
again on the same machine, whatever linear algebra numpy was built with.
"""

import math

import numpy as np

from haihe.runtime.types import F64, Message

Quaternion = tuple[float, float, float, float]
Vector = tuple[float, float, float]
Rows = tuple[Vector, Vector, Vector]
NORM_TOLERANCE = 1e-6  # of a quaternion's norm and of a matrix's rows, when one is given
LIMIT_ANGLE = 1e-6  # rad in four dimensions: below it the sines are as good as their arguments


class Transform(Message, frozen=True, eq=True):  # type: ignore[misc]  # Message is open to change
    """A rotation, then a translation. Immutable; a message, so it travels on ports.

    rotation: unit quaternion (w, x, y, z); translation: (x, y, z) in m. Raises ValueError for a
    quaternion whose norm is not 1 within 1e-6, and for what is not finite.
    """

    rotation: Quaternion = (1.0, 0.0, 0.0, 0.0)
    translation: Vector = (0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        norm = _norm(self.rotation)
        if not abs(norm - 1.0) <= NORM_TOLERANCE:
            raise ValueError(
                f"Transform: the quaternion {self.rotation} (w, x, y, z) has the norm {norm:.9g}, "
                "expected 1. Divide it by its norm."
            )
        if not all(math.isfinite(value) for value in self.translation):
            raise ValueError(f"Transform: the translation {self.translation} is not finite.")

    @classmethod
    def from_rpy(
        cls, roll: float, pitch: float, yaw: float, translation: Vector = (0.0, 0.0, 0.0)
    ) -> "Transform":
        """From angles in rad about fixed axes: first roll (x), then pitch (y), then yaw (z)."""
        cr, sr = math.cos(0.5 * roll), math.sin(0.5 * roll)
        cp, sp = math.cos(0.5 * pitch), math.sin(0.5 * pitch)
        cy, sy = math.cos(0.5 * yaw), math.sin(0.5 * yaw)
        rotation = (
            cr * cp * cy + sr * sp * sy,
            sr * cp * cy - cr * sp * sy,
            cr * sp * cy + sr * cp * sy,
            cr * cp * sy - sr * sp * cy,
        )
        return cls(_unit(rotation), translation)

    @classmethod
    def from_matrix(cls, matrix: F64) -> "Transform":
        """From a homogeneous 4x4 matrix. Raises ValueError when it is no rigid motion."""
        m = np.asarray(matrix, np.float64)
        if m.shape != (4, 4):
            raise ValueError(f"Transform.from_matrix: shape {m.shape}, expected (4, 4).")
        rows = [[float(value) for value in row] for row in m]
        (a, b, c, x), (d, e, f, y), (g, h, i, z), last = rows
        if last != [0.0, 0.0, 0.0, 1.0]:
            raise ValueError(f"Transform.from_matrix: last row {last}, expected [0, 0, 0, 1].")
        off = max(
            abs(a * a + d * d + g * g - 1.0),
            abs(b * b + e * e + h * h - 1.0),
            abs(c * c + f * f + i * i - 1.0),
            abs(a * b + d * e + g * h),
            abs(a * c + d * f + g * i),
            abs(b * c + e * f + h * i),
        )
        turn = a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)
        if not (off <= NORM_TOLERANCE and turn > 0.0):
            raise ValueError(
                f"Transform.from_matrix: the 3x3 part is no rotation: its columns are off by "
                f"{off:.3g}, determinant {turn:.6g}, expected 0 and 1."
            )
        # Shepperd 1978: begin with the largest component, it divides the others
        traces = (a + e + i, a - e - i, e - a - i, i - a - e)
        largest = max(range(4), key=traces.__getitem__)
        root = 0.5 * math.sqrt(1.0 + traces[largest])
        s = 0.25 / root
        rotation = (
            (root, (h - f) * s, (c - g) * s, (d - b) * s),
            ((h - f) * s, root, (b + d) * s, (c + g) * s),
            ((c - g) * s, (b + d) * s, root, (f + h) * s),
            ((d - b) * s, (c + g) * s, (f + h) * s, root),
        )[largest]
        return cls(_unit(rotation if rotation[0] >= 0.0 else _negative(rotation)), (x, y, z))

    @property
    def matrix(self) -> F64:
        """As homogeneous 4x4 matrix."""
        (a, b, c), (d, e, f), (g, h, i) = self._rows()
        x, y, z = self.translation
        return np.array([[a, b, c, x], [d, e, f, y], [g, h, i, z], [0.0, 0.0, 0.0, 1.0]])

    @property
    def rpy(self) -> Vector:
        """Roll, pitch and yaw in rad; straight up or down, where they are not unique, roll is 0."""
        (a, b, _), (d, e, _), (g, h, i) = self._rows()
        level = math.hypot(a, d)
        if level < 1e-9:
            return 0.0, math.atan2(-g, level), math.atan2(-b, e)
        return math.atan2(h, i), math.atan2(-g, level), math.atan2(d, a)

    @property
    def angle(self) -> float:
        """By how much it turns, 0 to pi rad."""
        w, x, y, z = self.rotation
        return 2.0 * math.atan2(math.sqrt(x * x + y * y + z * z), abs(w))

    def __matmul__(self, other: "Transform") -> "Transform":
        """First the other, then this one."""
        aw, ax, ay, az = self.rotation
        bw, bx, by, bz = other.rotation
        rotation = (
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        )
        x, y, z = self._turned(other.translation)
        tx, ty, tz = self.translation
        return Transform(_unit(rotation), (x + tx, y + ty, z + tz))

    @property
    def inverse(self) -> "Transform":
        """The way back."""
        w, x, y, z = self.rotation
        back = Transform((w, -x, -y, -z))
        tx, ty, tz = back._turned(self.translation)
        return Transform(back.rotation, (-tx, -ty, -tz))

    def apply(self, points: F64) -> F64:
        """Points (3,) or (n, 3) in m, turned and moved."""
        return self._apply(points, self.translation)

    def rotate(self, vectors: F64) -> F64:
        """Directions (3,) or (n, 3): turned, not moved."""
        return self._apply(vectors, (0.0, 0.0, 0.0))

    def _apply(self, points: F64, offset: Vector) -> F64:
        p = np.asarray(points, np.float64)
        if p.ndim not in (1, 2) or p.shape[-1] != 3:
            raise ValueError(f"Transform: points of shape {p.shape}, expected (3,) or (n, 3).")
        x, y, z = p[..., 0], p[..., 1], p[..., 2]
        out = np.empty(p.shape)
        for column, ((a, b, c), t) in enumerate(zip(self._rows(), offset, strict=True)):
            out[..., column] = a * x + b * y + c * z + t  # not `@`: BLAS chooses its own order
        return out

    def _turned(self, vector: Vector) -> Vector:
        x, y, z = vector
        (a, b, c), (d, e, f), (g, h, i) = self._rows()
        return a * x + b * y + c * z, d * x + e * y + f * z, g * x + h * y + i * z

    def _rows(self) -> Rows:
        w, x, y, z = self.rotation
        return (
            (1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y - w * z), 2.0 * (x * z + w * y)),
            (2.0 * (x * y + w * z), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z - w * x)),
            (2.0 * (x * z - w * y), 2.0 * (y * z + w * x), 1.0 - 2.0 * (x * x + y * y)),
        )


def between(a: Transform, b: Transform, share: float) -> Transform:
    """From `a` (share 0) to `b` (share 1) at constant speed: the rotation on the shorter way round
    (Shoemake 1985), the translation on a straight line. Raises ValueError outside 0..1."""
    if not 0.0 <= share <= 1.0:
        raise ValueError(f"between: share {share}, expected 0 to 1: nothing is extrapolated.")
    if share in (0.0, 1.0):
        return b if share else a
    p, q = a.rotation, b.rotation
    if p[0] * q[0] + p[1] * q[1] + p[2] * q[2] + p[3] * q[3] < 0.0:
        q = _negative(q)  # q and -q are one rotation; this one is nearer
    apart = _norm((p[0] - q[0], p[1] - q[1], p[2] - q[2], p[3] - q[3]))
    along = _norm((p[0] + q[0], p[1] + q[1], p[2] + q[2], p[3] + q[3]))
    angle = 2.0 * math.atan2(apart, along)  # acos of their product is blunt near 0
    if angle < LIMIT_ANGLE:
        u, v = 1.0 - share, share
    else:
        u, v = math.sin((1.0 - share) * angle), math.sin(share * angle)
    rotation = (
        u * p[0] + v * q[0],
        u * p[1] + v * q[1],
        u * p[2] + v * q[2],
        u * p[3] + v * q[3],
    )
    (ax, ay, az), (bx, by, bz) = a.translation, b.translation
    moved = (ax + share * (bx - ax), ay + share * (by - ay), az + share * (bz - az))
    return Transform(_unit(rotation), moved)


def _norm(q: Quaternion) -> float:
    w, x, y, z = q
    return math.sqrt(w * w + x * x + y * y + z * z)


def _unit(q: Quaternion) -> Quaternion:
    w, x, y, z = q
    norm = _norm(q)
    return w / norm, x / norm, y / norm, z / norm


def _negative(q: Quaternion) -> Quaternion:
    w, x, y, z = q
    return -w, -x, -y, -z
