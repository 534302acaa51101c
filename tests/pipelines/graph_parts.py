"""Nodes of the tests of YAML graphs: one of each contract that wiring knows."""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from haihe.runtime.contracts import RNG, TICK, Rng, Tick, aligned, fifo, fresh, sometimes, unit
from haihe.runtime.node import node
from haihe.runtime.types import Detections, Image, JointCommand, JointState, Message, Reading
from haihe.runtime.units import Unit


class Pose(Message):
    """Where it is, in m."""

    x: float
    y: float = 0.0


class Track(Message):
    """A message whose field has the name of the mark of typed values."""

    type: str
    where: Pose
    path: NDArray[np.float64]


class Mode(Enum):
    """How it moves."""

    SLOW = "slow"
    FAST = "fast"


class Gains(NamedTuple):
    """Of a controller."""

    p: float
    i: float = 0.0


@dataclass(frozen=True)
class Box:
    """A part of the picture, in px."""

    corner: tuple[int, int]
    size: tuple[int, int] = (10, 10)


class Both(NamedTuple):
    """Two outputs."""

    parts: Detections
    level: Annotated[Reading, sometimes]


def linear(value: float) -> float:
    """A curve."""
    return value


@node
def look(image: Image, floor: float = 0.5) -> Detections:
    """Triggered by a picture."""
    return Detections.none()


@node
def split(image: Image) -> Both:
    """Two outputs of one input."""
    return Both(Detections.none(), Reading(1.0))


@node(on="parts", deadline="30ms", budget="2ms")
def measure(
    parts: Annotated[Detections, fifo(4)],
    image: Annotated[Image, aligned("10ms")],
    rng: Rng = RNG,
) -> Annotated[Reading, unit("m")]:
    """An ordered and an aligned input."""
    return Reading(1.0)


@node(every="20ms", deadline="8ms")
def aim(
    parts: Annotated[Detections, fresh("250ms")],
    neck: Annotated[JointState, fresh("45ms")],
    gain: float = 0.8,
    label: str = "",
) -> JointCommand:
    """The node of the README."""
    return neck.hold()


@node(every="50ms")
@dataclass
class Estimate:
    """A node with state, and a constant of every kind."""

    start: Pose
    mode: Mode = Mode.SLOW
    gains: tuple[float, ...] = (1.0, 0.5)
    box: Box = Box((0, 0))
    pid: Gains = Gains(1.0)  # noqa: RUF009 - a tuple
    names: dict[str, int] = field(default_factory=dict)
    matrix: NDArray[np.float64] = field(default_factory=lambda: np.eye(2))
    curve: Callable[[float], float] = linear
    scale: Unit | None = None
    file: Path | None = None
    how: Literal["near", "far"] = "near"
    more: Any = None
    _seen: int = 0

    def __post_init__(self) -> None:
        if self.start.x < 0:
            raise ValueError(f"start.x is {self.start.x}, expected 0 or more.")

    def __call__(
        self,
        before: Pose,
        level: Annotated[Reading, fresh("1s")] | None = None,
        factor: int = 1,
        dt: Tick = TICK,
    ) -> Pose:
        """The next."""
        self._seen += 1
        return before


@node(on="level")
def alarm(level: Reading) -> Reading:
    """Triggered by another node."""
    return level


def helper(image: Image) -> Image:
    """No node."""
    return image
