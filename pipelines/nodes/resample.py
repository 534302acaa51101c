"""Values at another rate: a first-order hold, as early or as late as is asked for."""

from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar, cast

import msgspec
import numpy as np

from haihe.runtime.contracts import TICK, Age, Tick, age_of, fresh, silent, sometimes
from haihe.runtime.history import History, Neighbours
from haihe.runtime.node import node
from haihe.runtime.types import Message

M = TypeVar("M", bound=Message)


@dataclass
class FirstOrderHold:
    """The line through the values around a moment, or through the last two.

    delay_s: the value is that of so long ago. With a delay longer than the period of the values
    plus their age it always lies between two of them; with none it runs ahead of the newest.
    reach_s: so far ahead the line is drawn (0: never), beyond it there is no value. max_gap_s: no
    line is drawn between values further apart.

    For a period of your own, give a node class of yours a `__call__` like that of `Resample`.
    """

    delay_s: float = 0.0
    reach_s: float = 0.1
    max_gap_s: float = 1.0
    _now: float = 0.0
    _values: History[Any] = field(default_factory=lambda: History(keep=128))

    def hold(self, value: M, dt: float, age: float) -> M | None:
        """Remember the value, if it is a new one; the value of now less the delay, or None."""
        self._now += dt
        values = self._values
        values.max_gap_s = self.max_gap_s
        values.add(self._now - age, value)
        wanted = self._now - self.delay_s
        newest = values.newest_s
        if newest is None or wanted <= newest:
            found = values.around(wanted)
        else:
            found = self._ahead(wanted, newest)
        return None if found is None else cast(M, message_between(*found))

    def _ahead(self, wanted: float, newest: float) -> Neighbours[Any] | None:
        times, values = self._values.times, self._values.values
        if wanted > newest + self.reach_s or len(times) < 2:
            return None
        gap = newest - times[-2]
        if gap > self.max_gap_s:
            return None
        return Neighbours(values[-2], values[-1], (wanted - times[-2]) / gap)


@node(every="10ms")
@dataclass
class Resample(FirstOrderHold):
    """`fine = Resample(delay_s=0.04)(reading)`: any message 100 times a second.

    Its floats and arrays of floats are on the line, the rest is from the nearer of the two. Where
    there is no value it is silent. The age of the output is that of the newest value: it does not
    count `delay_s`.
    """

    def __call__(
        self, value: Annotated[M, fresh("1s")], dt: Tick = TICK, value_age: Age = age_of("value")
    ) -> Annotated[M, sometimes]:
        """The value for this tick."""
        found = self.hold(value, dt, value_age)
        return silent() if found is None else found


@node(on="beat")
@dataclass
class AtRateOf(FirstOrderHold):
    """`fine = AtRateOf()(imu, reading)`: a message at every beat; else as `Resample`."""

    def __call__(
        self,
        beat: Message,
        value: Annotated[M, fresh("1s")],
        dt: Tick = TICK,
        value_age: Age = age_of("value"),
    ) -> Annotated[M, sometimes]:
        """The value at this beat."""
        found = self.hold(value, dt, value_age)
        return silent() if found is None else found


def message_between(before: M, after: M, share: float) -> M:
    """A message on the line from one (share 0) to another (share 1), and beyond.

    Floats, and arrays of floats of one shape; other fields are from the nearer of the two.
    """
    nearer = before if share < 0.5 else after
    lines = {}
    for name in nearer.__struct_fields__:
        a, b = getattr(before, name), getattr(after, name)
        if _is_smooth(a, b):
            lines[name] = a + share * (b - a)
    return msgspec.structs.replace(nearer, **lines)


def _is_smooth(a: object, b: object) -> bool:
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return (
            a.shape == b.shape and a.dtype == b.dtype and bool(np.issubdtype(a.dtype, np.floating))
        )
    return isinstance(a, float) and isinstance(b, float)


NODE = Resample
