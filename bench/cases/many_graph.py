"""The graph of haihe.bench.cases.many: 300 nodes in 24 lanes, six lanes in each of four groups.

In a group one lane ticks at 10 Hz, four hang on it in a row, and one is fed by the group before. At
rest the ticking nodes have nothing to tell, and the other lanes wait; with `tells` all fire at
10 Hz. Which group runs in which process is left to the unit profile.
"""

from typing import Annotated

from haihe import Graph, named, node, silent, sometimes
from haihe.types import Reading

GROUPS, LANES, NODES = 4, 6, 300
LONG = NODES - GROUPS * LANES * (NODES // (GROUPS * LANES))  # lanes with one node more


@node(every="100ms")
def tick(tells: bool = False) -> Annotated[Reading, sometimes]:
    """The beginning of a group."""
    return Reading(1.0) if tells else silent()


@node
def step(value: Reading) -> Reading:
    """A node of a chain."""
    return Reading(value.value + 1.0)


def thread_name(group: int, lane: int) -> str:
    """The thread of a lane."""
    return f"g{group}l{lane}"


with Graph("many") as many:
    ticks = [named(f"tick{group}", tick)() for group in range(GROUPS)]
    for group in range(GROUPS):
        many.thread(thread_name(group, 0), ticks[group])
        last = ticks[group]
        for lane in range(LANES):
            length = NODES // (GROUPS * LANES) + (group * LANES + lane < LONG)
            value = ticks[group - 1] if lane == LANES - 1 else last
            for index in range(length - (lane == 0)):
                value = named(f"g{group}l{lane}n{index}", step)(value)
                if index == 0 and lane > 0:
                    many.thread(thread_name(group, lane), value)
            last = value
