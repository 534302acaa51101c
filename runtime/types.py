"""The messages that travel on ports.

A message is an immutable value by convention (a `msgspec.Struct`): a node makes a new one. Where
it has many parts it is a structure of arrays. Units are SI: rad, rad/s, V, A; temperatures say
`degc`. Users make their own by subclassing `Message`.
"""

import math
from collections.abc import Iterator
from typing import Any, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]
I64 = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
M = TypeVar("M", bound="Message")


class Message(msgspec.Struct, gc=False, eq=False):
    """Base of everything on a port.

    Not `frozen=True`: type checkers would then ask every subclass to repeat it.
    """


class Intrinsics(msgspec.Struct, frozen=True, gc=False):
    """A pinhole camera: size, focal lengths and principal point in px, from a calibration.

    Distortion by Brown's radial terms k1, k2 (0: none).
    """

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    k1: float = 0.0
    k2: float = 0.0

    def ray(self, u: float, v: float) -> tuple[float, float]:
        """The pixel as (left, up) on the plane one unit ahead (REP-103: x forward, y left)."""
        xd, yd = (self.cx - u) / self.fx, (self.cy - v) / self.fy
        distorted = math.hypot(xd, yd)
        if not (self.k1 or self.k2) or distorted == 0.0:
            return xd, yd
        radius = distorted
        for _ in range(20):  # Newton on r (1 + k1 r^2 + k2 r^4) = distorted; 6 do, near the fold 15
            r2 = radius * radius
            slope = 1.0 + r2 * (3.0 * self.k1 + r2 * 5.0 * self.k2)
            if slope < 1e-3:  # beyond the fold of the model no ray has this pixel
                break
            step = (radius * (1.0 + r2 * (self.k1 + r2 * self.k2)) - distorted) / slope
            radius -= step
            if abs(step) < 1e-12:
                break
        return xd * radius / distorted, yd * radius / distorted

    def bearing(self, u: float, v: float) -> tuple[float, float]:
        """Azimuth (left +) and elevation (up +) of the pixel's ray in rad, camera frame."""
        left, up = self.ray(u, v)
        return math.atan2(left, 1.0), math.atan2(up, math.hypot(1.0, left))


class Image(Message):
    """A picture: (height, width, channels) uint8, BGR for three channels."""

    data: U8
    camera: Intrinsics | None = None

    @property
    def width(self) -> int:
        """In px."""
        return int(self.data.shape[1])

    @property
    def height(self) -> int:
        """In px."""
        return int(self.data.shape[0])


class Detection(Message):
    """One detected object: box (x1, y1, x2, y2) in px, score 0..1, label, camera if calibrated."""

    box: tuple[float, float, float, float]
    score: float
    label: str
    camera: Intrinsics | None = None

    @property
    def centre(self) -> tuple[float, float]:
        """The box's centre in px."""
        x1, y1, x2, y2 = self.box
        return 0.5 * (x1 + x2), 0.5 * (y1 + y2)

    @property
    def bearing(self) -> tuple[float, float]:
        """Azimuth (left +) and elevation (up +) of the centre in rad, in the camera's frame."""
        if self.camera is None:
            raise ValueError(
                f"bearing of {self.label!r}: the image has no camera intrinsics. Give the camera "
                "a calibration in the unit profile (intrinsics: fx, fy, cx, cy)."
            )
        return self.camera.bearing(*self.centre)


class Detections(Message):
    """Detected objects, best score first.

    boxes: (n, 4) float32, x1 y1 x2 y2 in px of the source image; scores: (n,) float32 0..1;
    classes: (n,) int64 index into labels.
    """

    boxes: F32
    scores: F32
    classes: I64
    labels: tuple[str, ...] = ()
    camera: Intrinsics | None = None

    @classmethod
    def none(cls) -> "Detections":
        """Nothing was found."""
        return cls(np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty(0, np.int64))

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, index: int) -> Detection:
        x1, y1, x2, y2 = self.boxes[index].tolist()
        kind = int(self.classes[index])
        label = self.labels[kind] if kind < len(self.labels) else str(kind)
        return Detection((x1, y1, x2, y2), float(self.scores[index]), label, self.camera)

    def __iter__(self) -> Iterator[Detection]:
        return (self[i] for i in range(len(self)))

    def best(self, label: str = "") -> Detection:
        """The detection with the highest score, of one label if given. Raises on none."""
        for found in self:
            if not label or found.label == label:
                return found
        raise ValueError(f"best({label!r}) of {len(self)} detections: none. Test len() first.")


class JointCommand(Message):
    """Where the joints shall be: positions in rad, in the order of the device's joints."""

    position: F64


class JointState(Message):
    """Measured joints, in the order of the device's joints.

    position rad; velocity rad/s; load -1..1 of stall; voltage V; temperature_degc; ok: False where
    a joint did not answer this cycle (its other values are then the last known).
    """

    names: tuple[str, ...]
    position: F64
    velocity: F64
    load: F64
    voltage: F64
    temperature_degc: F64
    ok: BoolArray

    def hold(self) -> JointCommand:
        """The command to stay where the joints are."""
        return JointCommand(self.position.copy())

    def towards(self, target: Detection, gain: float) -> JointCommand:
        """For a pan-tilt head with the camera on it: turn by `gain` of the target's bearing."""
        azimuth, elevation = target.bearing
        wanted = self.position.copy()
        wanted[self.names.index("pan")] += gain * azimuth
        wanted[self.names.index("tilt")] += gain * elevation
        return JointCommand(wanted)


class Reading(Message):
    """One measured value in the SI unit of its port; quality: `good`, `uncertain` or `bad`."""

    value: float
    quality: str = "good"


class Condition(Message):
    """Whether something is so: what a mode's entry and exit are decided by.

    reason: why, or why not; for people, as in `refused: the neck is not at rest`.
    """

    holds: bool
    reason: str = ""


class GoalStatus(Message):
    """How far a goal has got: `running`, `succeeded` or `failed`; progress 0..1; text for people.

    Raises ValueError for another state or progress.
    """

    state: str
    progress: float = 0.0
    text: str = ""

    def __post_init__(self) -> None:
        if self.state not in ("running", "succeeded", "failed"):
            raise ValueError(f"GoalStatus({self.state!r}): say running, succeeded or failed.")
        if not 0.0 <= self.progress <= 1.0:
            raise ValueError(f"GoalStatus: progress {self.progress!r} is not within 0..1.")


def encode_array(value: Any) -> Any:
    """An array as (dtype, shape, bytes), a numpy scalar as a number. Raises TypeError."""
    if isinstance(value, np.ndarray):
        if value.dtype.hasobject or value.dtype.names:
            raise TypeError(f"a message holds an array of {value.dtype}: arrays hold plain numbers")
        return (value.dtype.str, value.shape, value.tobytes())
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"a message holds a {type(value).__name__}: messages hold scalars and arrays")


def _decode_array(kind: Any, value: Any) -> Any:
    dtype, shape, data = value
    return np.frombuffer(data, dtype=np.dtype(dtype)).reshape(shape)


_encoder = msgspec.msgpack.Encoder(enc_hook=encode_array)
_decoders: dict[type, msgspec.msgpack.Decoder[Any]] = {}


def encode(message: Message) -> bytes:
    """A message as MessagePack; arrays as (dtype, shape, bytes)."""
    return _encoder.encode(message)


def decode(kind: type[M], data: bytes) -> M:
    """The message of that type back from its bytes; arrays come back read-only."""
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.msgpack.Decoder(kind, dec_hook=_decode_array)
    message: M = decoder.decode(data)
    return message
