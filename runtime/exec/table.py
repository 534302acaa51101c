"""The counters of a process in shared memory: what a death leaves of them is where the next life
goes on, so that no message is counted twice or not at all.

A page for each lane: u64 how often it was stored (odd: the second of two copies is whole), then the
copies: firings, numbers of the lane's sources, the same at its last restart, counters of its edges
and nodes, how many of its guards have tripped. A word for each source that others read, or that a
stream makes: the number of the message that is about to be sent.

Words are stored whole or not at all; struct.pack_into clears a field before it fills it, and a
kill -9 in between would leave 0.
"""

import mmap
import os
import struct
import threading
from collections.abc import Iterable
from operator import attrgetter

from haihe.runtime.exec.assembly import Assembly
from haihe.runtime.exec.lane import Lane
from haihe.runtime.guard import GuardState
from haihe.runtime.links.slot import Queue
from haihe.runtime.plan.model import Plan, TaskPlan
from haihe.runtime.telemetry.stats import EdgeStats, NodeStats

_WORD = 8  # bytes
_EDGE, _NODE = EdgeStats.__slots__, NodeStats.__slots__
_SAFE = GuardState.SAFE
_edge_values, _node_values = attrgetter(*_EDGE), attrgetter(*_NODE)


class Table:
    """One process' counters; written by it, read by its parent and by its next life."""

    def __init__(self, fd: int, plan: Plan, process: str) -> None:
        self._map = mmap.mmap(fd, os.fstat(fd).st_size)
        self._memory = memoryview(self._map).cast("Q")
        self._order = threading.Lock()
        self._words, at = {}, 0
        for source in _words_of(plan, process):
            self._words[source] = at // _WORD
            at += _WORD
        self._pages: dict[str, tuple[int, struct.Struct]] = {}
        for lane in plan.lanes_of(process):
            layout = _layout(lane.task)
            self._pages[lane.name] = (at, layout)
            at += _WORD + 2 * layout.size

    @staticmethod
    def size(plan: Plan, process: str) -> int:
        """Of its memory, in bytes."""
        pages = sum(_WORD + 2 * _layout(lane.task).size for lane in plan.lanes_of(process))
        return _WORD * len(_words_of(plan, process)) + pages or _WORD

    def close(self) -> None:
        """Release the memory."""
        self._memory.release()
        self._map.close()

    # --- the process itself -------------------------------------------------------------------

    def sending(self, source: str, number: int) -> None:
        """That message is about to be sent."""
        at = self._words.get(source)
        if at is not None:
            self._memory[at] = number

    def watch(self, assembly: Assembly, lane: Lane) -> None:
        """Keep the counters of a lane up to date from here on: at each of its records, before it
        is written."""
        at, layout = self._pages[lane.name]
        edges = [assembly.edges[number] for number in lane.task.ends]
        nodes = [assembly.nodes[step.name] for step in lane.task.steps]
        sources = lane.task.makes
        guards = [bus.guard for bus in lane.buses if bus.guard is not None]
        count = self._memory[at // _WORD]  # of the last life: its whole copy is left alone

        def store(fixed: bytes) -> None:
            nonlocal count
            made, bases = lane.numbers(), lane.bases
            values = [lane.firing, *(made[source] for source in sources)]
            values += [bases.get(source, 0) for source in sources]
            for edge in edges:
                values += _edge_values(edge)
            for node in nodes:
                values += _node_values(node)
            values.append(sum(guard.state is _SAFE for guard in guards))
            count += 1
            layout.pack_into(self._map, at + _WORD + (count & 1) * layout.size, *values)
            with self._order:  # its release orders the two for another process
                pass
            self._memory[at // _WORD] = count

        lane.on_log = store

    def go_on(self, assembly: Assembly, lane: Lane, t_ns: int) -> None:
        """Begin a lane where its last life ended; recorded. The other lanes' counters are loaded:
        one of them may have read what this one sent in the firing that it died in."""
        firing, made = self.load(assembly, lane.name)
        for source, number in made.items():
            made[source] = max(number, self.sent(source))
        for edge, stats in zip(assembly.plan.edges, assembly.edges, strict=True):
            if edge.kind != "local" and edge.source in made:
                made[edge.source] = max(made[edge.source], stats.last)
        lane.bases = self._bases(assembly, lane.name)
        assembly.renew(lane, firing, made, t_ns)
        queue = assembly.readers.get((lane.index, lane.task.trigger))
        if isinstance(queue, Queue) and queue.stats:
            queue.died_after = queue.stats[0].last

    # --- anyone -------------------------------------------------------------------------------

    def sent(self, source: str) -> int:
        """The number of the last message of a source that was sent, 0 for none."""
        at = self._words.get(source)
        return 0 if at is None else self._memory[at]

    def firings(self, lane: str) -> int:
        """Of a lane, so far."""
        return self._page(lane)[0]

    def is_latched(self, lane: str) -> bool:
        """Whether a guard of a lane has tripped."""
        return self._page(lane)[-1] > 0

    def load(self, assembly: Assembly, lane: str) -> tuple[int, dict[str, int]]:
        """Read a lane's counters into an assembly; gives its firings and its sources' numbers."""
        task = _task_of(assembly, lane)
        values = iter(self._page(lane))
        firing = next(values)
        made = {source: next(values) for source in task.makes}
        for _ in made:
            next(values)  # at its last restart
        for number in task.ends:
            _set(assembly.edges[number], _EDGE, values)
        for step in task.steps:
            _set(assembly.nodes[step.name], _NODE, values)
        return firing, made

    def _bases(self, assembly: Assembly, lane: str) -> dict[str, int]:
        """What each source of a lane had made at its last restart."""
        sources = _task_of(assembly, lane).makes
        values = self._page(lane)[1 + len(sources) : 1 + 2 * len(sources)]
        return dict(zip(sources, values, strict=True))

    def _page(self, lane: str) -> tuple[int, ...]:
        """The copy that is whole; its writer may go on meanwhile, and come back to it."""
        at, layout = self._pages[lane]
        while True:
            count = self._memory[at // _WORD]
            found = layout.unpack_from(self._map, at + _WORD + (count & 1) * layout.size)
            if self._memory[at // _WORD] == count:
                return found


def _task_of(assembly: Assembly, lane: str) -> TaskPlan:
    return next(one.task for one in assembly.plan.lanes if one.name == lane)


def _set(stats: EdgeStats | NodeStats, names: Iterable[str], values: Iterable[int]) -> None:
    for name, value in zip(names, values, strict=False):
        setattr(stats, name, value)


def _layout(task: TaskPlan) -> struct.Struct:
    count = 2 + 2 * len(task.makes) + len(_EDGE) * len(task.ends)
    return struct.Struct(f"<{count + len(_NODE) * len(task.steps)}q")


def _words_of(plan: Plan, process: str) -> list[str]:
    """What is made in a process and numbered by it: what its lanes publish, and its streams."""
    words: list[str] = []
    for lane in plan.lanes:
        if plan.process_of(lane.name) == process:
            words += lane.task.publishes
        words += [
            source
            for source in lane.task.reads
            if source.split(".")[0] in plan.streams and plan.maker_process(source) == process
        ]
    return list(dict.fromkeys(words))
