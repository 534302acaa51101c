"""A bounded history of a value, asked for a moment in the past.

    _now: float = 0.0
    _pan: History[float] = field(default_factory=History)

    def __call__(self, neck: JointState, dt: Tick = TICK, neck_age: Age = age_of("neck"), ...):
        self._now += dt                                        # nodes read no clocks
        self._pan.add(self._now - neck_age, float(neck.position[0]))
        then = self._pan.at(self._now - parts_age)             # None: not known

Times are in s on the node's own time, the sum of its `dt`. It is state that pickles, and gives the
same bits again in a replay.
"""

import math
from bisect import bisect_right
from typing import Any, Generic, NamedTuple, TypeVar, cast

import msgspec
import numpy as np

V = TypeVar("V")
SAME_S = 1e-6  # one reading, aged at two ticks, gets two stamps that differ by rounding


class Neighbours(NamedTuple, Generic[V]):
    """The values around a moment. share: how far it is from `before` to `after`, 0 to 1."""

    before: V
    after: V
    share: float


class History(msgspec.Struct, Generic[V]):
    """The newest `keep` values with their times.

    Between two values: a straight line for floats and float arrays; with `is_angle` the shorter
    way round, given in -pi..pi rad; the nearer of the two for anything else. Outside, and in a gap
    between two values that is longer than `max_gap_s`, nothing is known: None. A value that is
    older than the newest is not taken and counted in `late`; the same again (less than a
    microsecond from the newest) is not taken and counted in `repeated`.
    """

    keep: int = 256
    max_gap_s: float = math.inf
    is_angle: bool = False
    late: int = 0
    repeated: int = 0
    times: list[float] = []  # twice `keep` at most, so that each is moved once
    values: list[V] = []

    def __post_init__(self) -> None:
        if self.keep < 2 or not self.max_gap_s > 0:
            raise ValueError(
                f"History(keep={self.keep}, max_gap_s={self.max_gap_s}): two values at least, and "
                "a gap above 0 s, please."
            )

    def __len__(self) -> int:
        return min(len(self.times), self.keep)

    @property
    def oldest_s(self) -> float | None:
        """The time of the oldest value, None when empty."""
        return self.times[-len(self)] if self.times else None

    @property
    def newest_s(self) -> float | None:
        """The time of the newest value, None when empty."""
        return self.times[-1] if self.times else None

    def add(self, t_s: float, value: V) -> bool:
        """Remember a value; False when it is not newer than the newest, and so not taken.

        Arrays are kept, not copied. Raises ValueError for a time that is no number, an angle that
        is no float, and an array of another shape than the last.
        """
        t_s = float(t_s)
        if not math.isfinite(t_s):
            raise ValueError(f"History.add({t_s}, ...): the time must be a finite number of s.")
        if self.is_angle and not _is_smooth(value):
            raise ValueError(
                f"History.add: an angle is a float or an array of floats in rad, got "
                f"{type(value).__name__}."
            )
        if self.values and np.shape(cast(Any, value)) != np.shape(cast(Any, self.values[-1])):
            raise ValueError(
                f"History.add: shape {np.shape(cast(Any, value))} after shape "
                f"{np.shape(cast(Any, self.values[-1]))}. Keep a history for each."
            )
        if self.times and t_s <= self.times[-1] + SAME_S:
            if t_s < self.times[-1] - SAME_S:
                self.late += 1
            else:
                self.repeated += 1
            return False
        if len(self.times) >= 2 * self.keep:
            del self.times[: -self.keep], self.values[: -self.keep]
        self.times.append(t_s)
        self.values.append(value)
        return True

    def around(self, t_s: float) -> Neighbours[V] | None:
        """The two values around a moment, for a value that is blended in a way of its own."""
        times = self.times
        first = len(times) - len(self)
        if not times or not times[first] <= t_s <= times[-1]:
            return None
        index = bisect_right(times, t_s, first) - 1
        begin = times[index]
        if begin == t_s:
            return Neighbours(self.values[index], self.values[index], 0.0)
        gap = times[index + 1] - begin
        if gap > self.max_gap_s:
            return None
        return Neighbours(self.values[index], self.values[index + 1], (t_s - begin) / gap)

    def at(self, t_s: float) -> V | None:
        """The value at a moment, None where it is not known."""
        found = self.around(t_s)
        if found is None:
            return None
        return blend(found.before, found.after, found.share, is_angle=self.is_angle)


def blend(before: V, after: V, share: float, *, is_angle: bool = False) -> V:
    """Between two values: a straight line where they are floats, else the nearer one."""
    if not (_is_smooth(before) and _is_smooth(after)):
        return before if share < 0.5 else after
    a, b = cast(Any, before), cast(Any, after)
    if share in (0.0, 1.0):  # a + (b - a) is not always b
        end = b if share else a
        return cast(V, wrap(end) if is_angle else end)
    if is_angle:
        return cast(V, wrap(a + share * wrap(b - a)))
    return cast(V, a + share * (b - a))


def wrap(angle: Any) -> Any:
    """The same angle in -pi..pi rad; a float or an array."""
    wrapped = angle - math.tau * np.rint(angle / math.tau)
    return wrapped if isinstance(angle, np.ndarray) else float(wrapped)


def _is_smooth(value: object) -> bool:
    if isinstance(value, np.ndarray):
        return bool(np.issubdtype(value.dtype, np.floating))
    return isinstance(value, float)
