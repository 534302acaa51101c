"""Follow a part with a pan-tilt head that carries the camera: rays, alpha-beta, look-ahead.

The bearing of a detection is taken along its full ray at the joint positions of the moment of
capture (not of arrival); an alpha-beta filter (Benedict and Bordner 1962) keeps the part's
direction and its rate; the command is where the part will be when the servo gets there: known
latency is compensated latency, so the horizon is the measured age plus the servo's own lag.
"""

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np

from haihe.runtime.contracts import TICK, Age, Tick, age_of, fresh
from haihe.runtime.node import node
from haihe.runtime.types import Detections, JointCommand, JointState

Direction = tuple[float, float]  # azimuth left +, elevation up +, in rad, head frame
HISTORY_S = 0.6


@node(every="20ms", deadline="8ms")
@dataclass
class Pursue:
    """Commands of a pan-tilt head that keep the camera on a part.

    label: which part ("" for any). alpha, beta: gains of the filter per detection. lag_s: the
    servo's own. predict: False commands the last bearing as measured (to see what prediction is
    worth). gate_rad: a detection further than this from the prediction is not the part; a score
    below `confident` narrows the gate to a third of it and begins no track (weak detections where
    the part should be are kept, as in ByteTrack, Zhang et al. 2022). After `patience_s` without
    one, the gate opens. coast_s: the prediction is followed so long without
    a detection, then the head holds.
    """

    label: str = ""
    alpha: float = 0.8
    beta: float = 0.4
    lag_s: float = 0.030
    predict: bool = True
    gate_rad: float = math.radians(12.0)
    confident: float = 0.42
    patience_s: float = 0.5
    coast_s: float = 0.35
    _now: float = 0.0
    _joints: deque[tuple[float, float, float]] = field(default_factory=deque)
    _where: Direction | None = None
    _rate: Direction = (0.0, 0.0)
    _at: float = 0.0  # time of the estimate: the capture of its last detection
    _seen: float = -1.0  # capture time of the last detections looked at

    def __call__(
        self,
        parts: Annotated[Detections, fresh("250ms")],
        neck: Annotated[JointState, fresh("45ms")],
        dt: Tick = TICK,
        parts_age: Age = age_of("parts"),
        neck_age: Age = age_of("neck"),
    ) -> JointCommand:
        """The command for this tick; without a part the head holds."""
        self._now += dt
        pan, tilt = float(neck.position[0]), float(neck.position[1])
        self._joints.append((self._now - neck_age, pan, tilt))
        while self._joints[0][0] < self._now - HISTORY_S:
            self._joints.popleft()
        captured = self._now - parts_age
        if captured > self._seen + 1e-4:  # new, not the same detections again
            self._seen = captured
            self._update(parts, captured)
        if self._where is None or self._now - self._at > self.coast_s:
            return neck.hold()
        horizon = (self._now - self._at) + self.lag_s if self.predict else 0.0
        return JointCommand(
            np.array([x + v * horizon for x, v in zip(self._where, self._rate, strict=True)])
        )

    def _update(self, parts: Detections, captured: float) -> None:
        head = self._head_at(captured)
        elapsed = captured - self._at
        predicted = self._where
        if predicted is not None and elapsed > self.patience_s:
            predicted = None
        if predicted is not None:
            predicted = (
                predicted[0] + self._rate[0] * elapsed,
                predicted[1] + self._rate[1] * elapsed,
            )
        found = self._choose(parts, head, predicted)
        if found is None:
            return
        if predicted is None:
            self._where, self._rate = found, (0.0, 0.0)
        else:
            residual = (found[0] - predicted[0], found[1] - predicted[1])
            self._where = (
                predicted[0] + self.alpha * residual[0],
                predicted[1] + self.alpha * residual[1],
            )
            self._rate = (
                self._rate[0] + self.beta * residual[0] / elapsed,
                self._rate[1] + self.beta * residual[1] / elapsed,
            )
        self._at = captured

    def _choose(
        self, parts: Detections, head: Direction, predicted: Direction | None
    ) -> Direction | None:
        """The detection nearest to the prediction inside the gate; without one, the best."""
        best, nearest = None, self.gate_rad
        for part in parts:
            if self.label and part.label != self.label:
                continue
            is_weak = part.score < self.confident
            if predicted is None and is_weak:
                continue
            direction = along_ray(head, part.bearing)
            if predicted is None:
                return direction
            off = math.hypot(direction[0] - predicted[0], direction[1] - predicted[1])
            if off < nearest and not (is_weak and off > self.gate_rad / 3):
                best, nearest = direction, off
        return best

    def _head_at(self, t: float) -> Direction:
        """Joint positions at a moment, interpolated between readings."""
        later = self._joints[-1]
        for earlier in reversed(self._joints):
            if earlier[0] <= t:
                span = later[0] - earlier[0]
                share = min(max((t - earlier[0]) / span, 0.0), 1.0) if span > 0 else 0.0
                return (
                    earlier[1] + share * (later[1] - earlier[1]),
                    earlier[2] + share * (later[2] - earlier[2]),
                )
            later = earlier
        return later[1], later[2]


def along_ray(head: Direction, bearing: Direction) -> Direction:
    """The direction in the head's frame of a bearing seen by a camera at (pan, tilt)."""
    (pan, tilt), (azimuth, elevation) = head, bearing
    ce = math.cos(elevation)
    x, y, z = ce * math.cos(azimuth), ce * math.sin(azimuth), math.sin(elevation)
    ct, st = math.cos(tilt), math.sin(tilt)
    x, z = x * ct - z * st, x * st + z * ct  # Ry(-tilt)
    cp, sp = math.cos(pan), math.sin(pan)
    x, y = x * cp - y * sp, x * sp + y * cp  # Rz(pan)
    return math.atan2(y, x), math.atan2(z, math.hypot(x, y))


NODE = Pursue
