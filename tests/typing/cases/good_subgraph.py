"""Sub-graphs: typed as the plain functions that they are, generic ones too."""

from typing import Annotated, NamedTuple, TypeVar

from haihe import Graph, camera, detector, feedback, frame, fresh, named, node, servos, subgraph
from haihe.types import Detections, Image, JointCommand, JointState, Message, Reading

M = TypeVar("M", bound=Message)


class Seen(NamedTuple):
    """What an eye gives."""

    parts: Detections
    light: Annotated[Reading, frame("camera")]


@node
def hold(value: M) -> M:
    """The same again."""
    return value


@node
def light(image: Image, gain: float) -> Annotated[Reading, frame("camera")]:
    """How bright it is."""
    return Reading(float(image.data.mean()) * gain)


@node(on="value")
def least(value: Reading, before: Reading) -> Reading:
    """The darkest so far."""
    return min(value, before, key=lambda reading: reading.value)


@node(every="20ms")
def aim(
    parts: Annotated[Detections, fresh("120ms")], neck: Annotated[JointState, fresh("25ms")]
) -> JointCommand:
    """Turn to the best part."""
    return neck.towards(parts.best(), 0.3) if len(parts) else neck.hold()


@subgraph
def twice(value: M) -> M:
    """Any message, held twice."""
    return hold(hold(value))


@subgraph
def darkest(image: Image, gain: float = 1.0) -> Reading:
    """A loop inside."""
    before, feed = feedback(Reading(1e9))
    now = least(light(image, gain), before)
    feed(now)
    return now


@subgraph
def eye(image: Image, model: str = "part", *, gain: float = 0.8) -> Seen:
    """Another one inside."""
    return Seen(twice(detector(model)(image)), light(image, gain))


@subgraph
def follow(parts: Detections) -> None:
    """It ends at a device."""
    neck = servos("neck")
    neck.command(aim(parts, neck.state))


with Graph("eyes") as g:
    image: Image = twice(camera("front").image)
    left, brightness = named("left", eye)(image, gain=0.5)
    night: Reading = named("night", darkest)(image)
    follow(left)
    twice(brightness)

if __name__ == "__main__":
    g.run(sim=True)
