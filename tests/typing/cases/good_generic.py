"""Generic nodes, feedback, names, Optional inputs, units, own messages."""

from dataclasses import dataclass
from typing import Annotated, Generic, TypeVar

from haihe import Graph, contract_of, feedback, fresh, named, node, servos, unit
from haihe.types import JointCommand, JointState, Message, Reading

M = TypeVar("M", bound=Message)


class Pose(Message):
    """A place on the floor, in m."""

    x: float
    y: float

    @classmethod
    def zero(cls) -> "Pose":
        """The origin."""
        return cls(0.0, 0.0)


@node
def hold(value: M) -> M:
    """The same again."""
    return value


@node(on="value")
def first(value: M, other: Annotated[M, fresh("1s")]) -> M:
    """The first of two of a kind."""
    return value if other is not value else other


@node
@dataclass
class Delay(Generic[M]):
    """One firing late."""

    initial: M
    _before: M | None = None

    def __call__(self, value: M) -> M:
        before, self._before = self._before, value
        return self.initial if before is None else before


@node(every="50Hz")
def odometry(previous: Pose, wheels: Annotated[JointState, fresh("40ms")]) -> Pose:
    """Integrate."""
    return Pose(previous.x + float(wheels.velocity[0]), previous.y)


@node
def oxygen(pose: Pose) -> Annotated[Reading, unit("mg/L")]:
    """A probe."""
    return Reading(8.0 + pose.x)


@node
def either(pose: Pose, limit: float = 1.0) -> Reading | None:
    """Sugar: `X | None` may stay silent; downstream sees X."""
    return Reading(pose.x) if pose.x < limit else None


@node(every="20ms")
def steer(
    pose: Annotated[Pose | None, fresh("60ms", on_stale="call")],
    wheels: Annotated[JointState, fresh("40ms")],
    level: Annotated[Reading, fresh("2s"), unit("g/m^3")],
) -> JointCommand:
    """Stay when lost."""
    if pose is None or level.value < 4.0:
        return wheels.hold()
    return JointCommand(wheels.position + pose.x)


with Graph("generic") as g:
    wheels = servos("wheels")
    previous, feed = feedback(Pose.zero())
    pose = odometry(previous, wheels.state)
    feed(pose)
    late = named("late", Delay(Pose.zero()))(hold(pose))
    command = named("steer_left", steer)(late, wheels.state, oxygen(first(late, pose)))
    wheels.command(hold(command))
    unused: Reading = either(pose, limit=2.0)
    lost = named("lost", steer)(None, wheels.state, oxygen(pose))

if __name__ == "__main__":
    print(contract_of(steer).inputs, g.run(sim=True))
