"""What waits in the queue of a process when it dies is counted by its next life."""

import os
from typing import Annotated

import numpy as np

from haihe.drivers.roles import camera
from haihe.runtime.contracts import fifo
from haihe.runtime.exec.assembly import Assembly
from haihe.runtime.exec.lane import Timing
from haihe.runtime.exec.table import Table
from haihe.runtime.graph import Graph
from haihe.runtime.links.slot import Sample
from haihe.runtime.node import node
from haihe.runtime.plan.build import make_plan
from haihe.runtime.types import Image, Reading

SEEN: list[int] = []


@node
def look(image: Annotated[Image, fifo(3)]) -> Reading:
    SEEN.append(int(image.data[0, 0, 0]))
    return Reading(float(SEEN[-1]))


with Graph("queue") as GRAPH:
    _seen = look(camera("front").image)
    GRAPH.process("far", _seen)
PLAN = make_plan(GRAPH, {})


class Life:
    def __init__(self, fd: int, number: int) -> None:
        self.table = Table(fd, PLAN, "far")
        timing = Timing(lambda: 1, lambda: 1, lambda: 0)
        self.assembly = Assembly(GRAPH, PLAN, {}, lambda index: timing, process="far")
        (self.lane,) = self.assembly.lanes
        if number:
            self.table.go_on(self.assembly, self.lane, 0)
        self.table.watch(self.assembly, self.lane)

    def put(self, number: int) -> None:
        sample: Sample = (number, Image(np.full((1, 1, 1), number, np.uint8)), number, number)
        for slot in self.assembly.slots["front.image"]:
            slot.put(sample)

    def fire(self) -> None:
        for _ in self.lane.begin(0):
            pass


def test_the_counters_of_a_queue_balance_over_a_death() -> None:
    fd = os.memfd_create("table")
    os.truncate(fd, Table.size(PLAN, "far"))
    SEEN.clear()
    first = Life(fd, 0)
    for number in (1, 2, 3):
        first.put(number)
    first.fire()
    first.table.close()  # 2 and 3 wait in its queue; 4 and 5 are sent while nobody lives
    second = Life(fd, 1)
    for number in (6, 7, 8, 9):  # 9 finds it full
        second.put(number)
    second.fire()
    stats = second.assembly.edges[0]
    assert SEEN == [1, 6]
    assert (stats.received, stats.overwritten, stats.refused) == (2, 4, 1)
    assert second.assembly.in_flight(0) == 2
    assert stats.received + stats.overwritten + stats.refused + 2 == 9
    second.table.close()
    os.close(fd)
