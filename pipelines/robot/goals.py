"""A pan-tilt head with modes: it follows a part it sees, and can be sent home or on a round.

    head.goal("home", HomeRequest())              the head looks straight ahead
    head.goal("inspect", InspectRequest(((0.5, 0.0), (-0.5, 0.1))))

Whoever asks gets a handle with state, progress and result, and may cancel. A goal that is
cancelled, fails or takes too long leaves its mode; the head then holds where it is.
"""

from dataclasses import dataclass
from typing import Annotated, NamedTuple

import numpy as np

from haihe.drivers.roles import camera, servos
from haihe.models.detector import detector
from haihe.pipelines.nodes.pursue import Pursue
from haihe.runtime.contracts import TICK, Tick, fresh, tunable
from haihe.runtime.graph import Graph
from haihe.runtime.node import node
from haihe.runtime.types import (
    F64,
    Condition,
    Detections,
    GoalStatus,
    JointCommand,
    JointState,
    Message,
)


class HomeRequest(Message):
    """Look in one direction: pan and tilt in rad."""

    pan: float = 0.0
    tilt: float = 0.0


class InspectRequest(Message):
    """Look in these directions (pan, tilt in rad), one after the other, `dwell_s` at each."""

    directions: tuple[tuple[float, float], ...]
    dwell_s: float = 0.5


class Sight(NamedTuple):
    """Whether a part is seen for long enough, and whether it is lost for too long."""

    seen: Condition
    lost: Condition


class Going(NamedTuple):
    """On the way to a goal."""

    command: JointCommand
    status: GoalStatus


@node(every="20ms")
@dataclass
class Watch:
    """Decides when to follow: a part was there for `begin_s`, or none for `end_s`."""

    label: str = ""
    begin_s: float = 0.1
    end_s: float = 1.0
    _there_s: float = 0.0
    _gone_s: float = 0.0

    def __call__(
        self,
        parts: Annotated[Detections | None, fresh("250ms", on_stale="call")],
        dt: Tick = TICK,
    ) -> Sight:
        """Parts that are too old count as none."""
        is_there = parts is not None and any(
            not self.label or part.label == self.label for part in parts
        )
        self._there_s = self._there_s + dt if is_there else 0.0
        self._gone_s = 0.0 if is_there else self._gone_s + dt
        what = self.label or "part"
        return Sight(
            Condition(self._there_s >= self.begin_s, f"{what} seen for {self._there_s:.1f} s"),
            Condition(self._gone_s >= self.end_s, f"{what} gone for {self._gone_s:.1f} s"),
        )


def approach(at: F64, target: F64, step: float) -> F64:
    """`at`, moved by at most `step` (rad) towards the target."""
    way = target - at
    distance = float(np.hypot(*way))
    return target.copy() if distance <= step else at + way * (step / distance)


@node(every="20ms")
@dataclass
class GoTo:
    """Turns the head to where it is asked to look, and says when it is there.

    speed: in rad/s. tolerance: of each joint, in rad.
    """

    speed: Annotated[float, tunable(0.1, 3.0)] = 1.0
    tolerance: float = 0.02
    _at: F64 | None = None
    _whole: float = 0.0

    def __call__(
        self,
        request: HomeRequest,
        neck: Annotated[JointState, fresh("100ms")],
        dt: Tick = TICK,
    ) -> Going:
        """The next position on the way."""
        target = np.array([request.pan, request.tilt])
        if self._at is None:
            self._at = neck.position.copy()
            self._whole = max(1e-9, float(np.hypot(*(target - self._at))))
        self._at = approach(self._at, target, self.speed * dt)
        off = float(np.abs(neck.position - target).max())
        if off <= self.tolerance:
            return Going(JointCommand(target), GoalStatus("succeeded", 1.0))
        left = float(np.hypot(*(target - neck.position)))
        progress = min(1.0, max(0.0, 1.0 - left / self._whole))
        return Going(JointCommand(self._at.copy()), GoalStatus("running", progress))


@node(every="20ms")
@dataclass
class Tour:
    """Looks in several directions, one after the other. speed: in rad/s."""

    speed: Annotated[float, tunable(0.1, 3.0)] = 1.5
    tolerance: float = 0.02
    _at: F64 | None = None
    _next: int = 0
    _dwelt_s: float = 0.0

    def __call__(
        self,
        request: InspectRequest,
        neck: Annotated[JointState, fresh("100ms")],
        dt: Tick = TICK,
    ) -> Going:
        """The next position; a round without directions fails."""
        count = len(request.directions)
        if not count:
            return Going(neck.hold(), GoalStatus("failed", text="no directions to look in"))
        if self._at is None:
            self._at = neck.position.copy()
        target = np.array(request.directions[min(self._next, count - 1)])
        self._at = approach(self._at, target, self.speed * dt)
        is_there = float(np.abs(neck.position - target).max()) <= self.tolerance
        self._dwelt_s = self._dwelt_s + dt if is_there else 0.0
        if is_there and self._dwelt_s >= request.dwell_s:
            self._next, self._dwelt_s = self._next + 1, 0.0
        done = self._next >= count
        text = f"{min(self._next, count)} of {count} directions"
        status = GoalStatus("succeeded" if done else "running", min(1.0, self._next / count), text)
        return Going(JointCommand(self._at.copy()), status)


def add_modes(g: Graph, parts: Detections, label: str = "") -> None:
    """Wire the head's modes and goals into a graph that finds parts."""
    neck = servos("neck")
    sight = Watch(label)(parts)
    drive = g.modes("drive", initial="idle")
    home = g.goal("home", HomeRequest, timeout="6s")
    inspect = g.goal("inspect", InspectRequest, timeout="20s")
    with drive.mode("follow", enter=sight.seen, leave=sight.lost):
        follow = Pursue(label)(parts, neck.state)
    with drive.mode("home", goal=home):
        going = GoTo()(home.request, neck.state)
        home.report(going.status)
    with drive.mode("inspect", goal=inspect):
        tour = Tour()(inspect.request, neck.state)
        inspect.report(tour.status)
    neck.command(drive.select(follow, going.command, tour.command))


def build(model: str = "part", label: str = "washer") -> Graph:
    """The graph. model: detector in the zoo; label: which of its parts to follow."""
    with Graph("goals") as g:
        add_modes(g, detector(model)(camera("front").image), label)
    return g
