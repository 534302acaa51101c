"""Joints as they were when a picture was taken, between the readings around that moment.

The node is called for every reading of the joints, since a history of readings is what it needs,
and speaks once for each picture (or what was made of it: its origin is the picture's capture).
`aligned("10ms")` on an input is the plain way: the reading nearest to the capture.
"""

import math
from dataclasses import dataclass, field
from typing import Annotated

from haihe.runtime.contracts import TICK, Age, Tick, age_of, fresh, silent, sometimes
from haihe.runtime.history import SAME_S, History
from haihe.runtime.node import node
from haihe.runtime.types import JointState, Message


@node(on="joints")
@dataclass
class AtStamp:
    """`then = AtStamp()(neck.state, cam.image)`: the joints at the capture of each picture.

    It speaks as soon as the readings around the capture are known: at the first reading after
    the picture has come; when a picture is replaced before that, nothing is said of it. max_gap_s:
    between readings further apart than this nothing is interpolated; such pictures, and those
    from before the first reading, are counted in `_missed`. The output is as old as the picture.
    `ok` of a joint: it answered in both readings.
    """

    max_gap_s: float = 0.1
    _now: float = 0.0
    _readings: History[JointState] = field(default_factory=lambda: History(keep=128))
    _answered: float = -math.inf  # capture of the last picture that was dealt with
    _missed: int = 0

    def __call__(
        self,
        joints: JointState,
        seen: Annotated[Message | None, fresh("1s", on_stale="call")],
        dt: Tick = TICK,
        joints_age: Age = age_of("joints"),
        seen_age: Age = age_of("seen"),
    ) -> Annotated[JointState, sometimes]:
        """The joints at the capture of what is seen, once for each."""
        self._now += dt
        self._readings.max_gap_s = self.max_gap_s
        self._readings.add(self._now - joints_age, joints)
        captured = self._now - seen_age
        newest = self._readings.newest_s
        if seen is None or newest is None or captured <= self._answered + SAME_S:
            return silent()
        if captured > newest:  # the next reading will be behind it
            return silent()
        self._answered = captured
        found = self._readings.around(captured)
        if found is None:
            self._missed += 1
            return silent()
        return joints_between(*found)


def joints_between(before: JointState, after: JointState, share: float) -> JointState:
    """Joints on the straight line between two readings; share 0 is the first of them."""
    if share == 0.0:
        return before
    return JointState(
        before.names,
        before.position + share * (after.position - before.position),
        before.velocity + share * (after.velocity - before.velocity),
        before.load + share * (after.load - before.load),
        before.voltage + share * (after.voltage - before.voltage),
        before.temperature_degc + share * (after.temperature_degc - before.temperature_degc),
        before.ok & after.ok,
    )


NODE = AtStamp
