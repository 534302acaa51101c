"""A graph for the debugger's tests: two nodes share a function, one starves, one has state."""

from dataclasses import dataclass
from typing import Annotated

from haihe import Graph, camera, fresh, named, node
from haihe.pipelines.worlds.ideal import ideal_detector
from haihe.types import Detections, Reading


@node
def centre(parts: Detections, axis: int = 0) -> Reading:
    """The middle of the first box along an axis, in px."""
    return Reading(parts.best().centre[axis] if len(parts) else -1.0)


@node(every="40ms")
@dataclass
class Sum:
    """Adds up what it is given while it is fresh."""

    gain: float = 0.5
    _total: float = 0.0

    def __call__(
        self, x: Annotated[Reading, fresh("30ms")], y: Annotated[Reading, fresh("1s")]
    ) -> Reading:
        self._total += self.gain * (x.value + y.value)
        return Reading(self._total)


with Graph("stepping") as g:
    parts = ideal_detector(camera("front").image)
    Sum()(named("u", centre)(parts, axis=0), named("v", centre)(parts, axis=1))
