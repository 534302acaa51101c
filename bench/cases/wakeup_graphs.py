"""The graphs of haihe.bench.cases.wakeup: a camera, inference and a control lane of 1 kHz.

`seeing` has no control; `together` has all in one process; in `apart` control has a process of its
own. They are loaded by name, as any user's graph: `haihe run wakeup_graphs.py:apart`.
"""

from dataclasses import dataclass
from typing import Annotated

from haihe import Graph, camera, detector, fresh, node
from haihe.types import Detections, Reading


@node
@dataclass
class Seen:
    """How many parts there are: the end of the graph without control."""

    def __call__(self, parts: Detections) -> Reading:
        return Reading(float(len(parts)))


@node(every="1ms")
@dataclass
class Control:
    """A small filter over the newest detections, as a controller has."""

    gain: float = 0.1
    _value: float = 0.0

    def __call__(self, parts: Annotated[Detections, fresh("500ms")]) -> Reading:
        self._value += self.gain * (len(parts) - self._value)
        return Reading(self._value)


with Graph("seeing") as seeing:
    Seen()(detector("part")(camera("front").image))

with Graph("together") as together:
    together.thread("loop", Control()(detector("part")(camera("front").image)))

with Graph("apart") as apart:
    command = Control()(detector("part")(camera("front").image))
    apart.thread("loop", command)
    apart.process("control", command)
