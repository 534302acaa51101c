"""A class node with state, sometimes silent, with its time, the age of an input and randomness."""

from dataclasses import dataclass, field
from typing import Annotated, NamedTuple

import numpy as np
from numpy.typing import NDArray

from haihe import (
    RNG,
    TICK,
    Age,
    Graph,
    Rng,
    Tick,
    age_of,
    camera,
    detector,
    fresh,
    node,
    servos,
    silent,
    sometimes,
)
from haihe.types import Detections, JointCommand, JointState, Message


class Track(Message):
    """Where the target is, in rad, and how fast it moves, in rad/s."""

    azimuth: float
    rate: float = 0.0
    history: NDArray[np.float64] | None = None


class Split(NamedTuple):
    """The ports of `split`."""

    left: Detections
    right: Annotated[Detections, sometimes]


@node(every="10ms", deadline="2ms", budget="200us")
@dataclass
class Follow:
    """Filters bearings into a track."""

    gain: float = 0.5
    label: str = ""
    _track: Track | None = None
    _seen: list[float] = field(default_factory=list[float])

    def __call__(
        self,
        parts: Annotated[Detections, fresh("120ms")],
        dt: Tick = TICK,
        parts_age: Age = age_of("parts"),
        rng: Rng = RNG,
    ) -> Annotated[Track, sometimes]:
        if not len(parts):
            return silent()
        azimuth, _ = parts.best(self.label).bearing
        before = self._track.azimuth if self._track is not None else azimuth
        azimuth = before + self.gain * (azimuth - before) + 1e-6 * float(rng.standard_normal())
        rate = (azimuth - before) / dt if dt else 0.0
        self._track = Track(azimuth + rate * parts_age, rate)
        self._seen.append(azimuth)
        return self._track


@node
def split(parts: Detections, at: float = 320.0) -> Split:
    """Two halves of the picture."""
    is_left = parts.boxes[:, 0] < at
    left = Detections(parts.boxes[is_left], parts.scores[is_left], parts.classes[is_left])
    if is_left.all():
        return Split(left, silent())
    return Split(left, parts)


@node(every="20ms")
def aim(
    track: Annotated[Track, fresh("50ms")], neck: Annotated[JointState, fresh("25ms")]
) -> JointCommand:
    """Turn to the track."""
    return JointCommand(neck.position + np.array([track.azimuth, 0.0]))


with Graph("state") as g:
    cam, neck = camera("front"), servos("neck")
    left, right = split(detector("part", threads=2)(cam.image))
    both = split(right, at=400.0)
    track = Follow(gain=0.3, label="part")(left)
    neck.command(aim(track, neck.state))
