"""What a servo moves: the protocol the emulator drives, and one axis with the usual limits."""

import math
from typing import Protocol

STEP_NS = 1_000_000
_STEP_S = STEP_NS * 1e-9


class ServoPlant(Protocol):
    """One joint in rad, rad/s; load -1..1 of stall. Never knows bytes or ticks."""

    @property
    def position(self) -> float:
        """In rad, at the time of the last `step`."""
        ...

    @property
    def velocity(self) -> float:
        """In rad/s."""
        ...

    @property
    def load(self) -> float:
        """-1..1 of stall."""
        ...

    def step(self, t_ns: int) -> None:
        """Advance to `t_ns`; a time that has passed already is ignored."""
        ...

    def set_goal(self, position: float, speed: float, acceleration: float) -> None:
        """From now on go to `position`, in rad; speed, acceleration in SI, 0: the own limit."""
        ...

    def set_torque(self, on: bool) -> None:
        """Hold and obey goals, or coast."""
        ...


class AxisPlant:
    """A position servo on one axis: input lag, speed limit, acceleration limit, hard stops.

    Defaults: 15 ms first-order input lag, 300 deg/s, 1500 deg/s2. It integrates on a fixed grid of
    absolute milliseconds and uses only + - * / and sqrt, which IEEE 754 rounds exactly: the same
    goals at the same times give the same trajectory on every machine, however `step` is called in
    between. A goal acts from the next millisecond on; between two it moves on at its velocity.
    """

    def __init__(
        self,
        position: float = 0.0,
        *,
        lag_s: float = 0.015,
        speed: float = math.radians(300.0),
        acceleration: float = math.radians(1500.0),
        low: float = -math.pi,
        high: float = math.pi,
    ) -> None:
        self.speed, self.acceleration = speed, acceleration
        self.low, self.high = low, high
        self.outer_load = 0.0  # -1..1, added to the load shown: what the world presses with
        self.torque = False
        self.goal = position
        self._alpha = _STEP_S / (lag_s + _STEP_S)
        self._input = self._x = position
        self._v = self._a = 0.0
        self._speed, self._acceleration = speed, acceleration
        self._t_ns = self._grid = -1

    @property
    def position(self) -> float:
        """In rad, at the time of the last `step`."""
        ahead_ns = self._t_ns - self._grid * STEP_NS
        return min(max(self._x + self._v * (ahead_ns * 1e-9), self.low), self.high)

    @property
    def velocity(self) -> float:
        """In rad/s."""
        return self._v

    @property
    def load(self) -> float:
        """-1..1 of stall: half for the full acceleration, a fifth for the full speed."""
        own = 0.5 * self._a / self.acceleration + 0.2 * self._v / self.speed
        return min(max(own + self.outer_load, -1.0), 1.0)

    def set_goal(self, position: float, speed: float = 0.0, acceleration: float = 0.0) -> None:
        """From now on go to `position`; speed, acceleration 0: the plant's own limit."""
        self.goal = min(max(position, self.low), self.high)
        self._speed = min(speed, self.speed) if speed > 0 else self.speed
        self._acceleration = (
            min(acceleration, self.acceleration) if acceleration > 0 else self.acceleration
        )

    def set_torque(self, on: bool) -> None:
        """Hold and obey goals, or coast to a stop."""
        if on and not self.torque:
            self._input = self._x
        self.torque = on

    def step(self, t_ns: int) -> None:
        """Advance to `t_ns`; a time that has passed already is ignored."""
        if t_ns <= self._t_ns:
            return
        grid = t_ns // STEP_NS
        if self._grid < 0:
            self._grid = grid  # the axis was at rest until somebody looked
        for _ in range(grid - self._grid):
            if not self._advance():
                break  # at rest: every further sub-step gives the same state
        self._grid = grid
        self._t_ns = t_ns

    def _advance(self) -> bool:
        x, v, shaped = self._x, self._v, self._input
        limit = self._acceleration if self.torque else self.acceleration
        wanted = 0.0
        if self.torque:
            self._input = shaped + (self.goal - shaped) * self._alpha
            error = self._input - x
            distance = abs(error)
            half = 0.5 * limit * _STEP_S
            braking = math.sqrt(half * half + 2.0 * limit * distance) - half
            wanted = min(braking, self._speed, distance / _STEP_S)
            if error < 0:
                wanted = -wanted
        most = limit * _STEP_S
        change = min(max(wanted - v, -most), most)
        self._v = v + change
        self._x = x + self._v * _STEP_S
        if not self.low <= self._x <= self.high:
            self._x = min(max(self._x, self.low), self.high)
            self._v = 0.0
        self._a = change / _STEP_S
        return self._x != x or self._v != v or self._input != shaped or change != 0.0
