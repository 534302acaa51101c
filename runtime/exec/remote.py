"""Edges between the processes of a run: which there are, what one process has of them, and the
thread that receives."""

import logging
import socket
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from numpy.typing import NDArray

from haihe.runtime.errors import LinkError
from haihe.runtime.exec.table import Table
from haihe.runtime.links.channel import Outlet
from haihe.runtime.links.inlet import Inlet
from haihe.runtime.links.poller import Poller
from haihe.runtime.links.slot import Queue, Sample, Slot
from haihe.runtime.plan.model import Plan, ThreadPlan
from haihe.runtime.record.sink import Records

log = logging.getLogger(__name__)
LATEST = 3  # messages: in the slot, in use, arriving
JOIN_S = 2.0


@dataclass(frozen=True)
class Crossing:
    """A source that is made in one process and read in another. quota: how many of its messages
    may be under way there. fifo: whether one of its readers there takes them all, in order."""

    source: str
    maker: str
    reader: str
    quota: int
    fifo: bool


def crossings(plan: Plan) -> list[Crossing]:
    """Every source and process that an edge of the plan leads it to."""
    found: dict[tuple[str, str], Crossing] = {}
    for lane in plan.lanes:
        reader = plan.process_of(lane.name)
        for source in lane.task.reads:
            maker = plan.maker_process(source)
            if maker == reader:
                continue
            kept = max(
                (edge.keep for edge in plan.edges if edge.source == source and edge.keep), default=0
            )
            fifo = bool(lane.task.fifo) and source == lane.task.trigger
            quota = lane.task.fifo if fifo else LATEST + kept
            known = found.get((source, reader))
            if known is not None:
                quota, fifo = max(quota, known.quota), fifo or known.fifo
            found[source, reader] = Crossing(source, maker, reader, quota, fifo)
    return list(found.values())


def receivers(plan: Plan) -> dict[str, ThreadPlan]:
    """Where the receiving thread of each process that has edges to others runs.

    On the core of its most urgent thread and below it: so it runs when that one is idle or waits
    for the interpreter, and no other process can keep it from giving the interpreter back.
    """
    found: dict[str, ThreadPlan] = {}
    taken = {(thread.core, thread.rank) for thread in plan.threads}
    ends = [end for crossing in crossings(plan) for end in (crossing.reader, crossing.maker)]
    for process in dict.fromkeys(ends):
        own = [thread for thread in plan.threads if thread.process == process]
        first = max(own, key=lambda thread: thread.rank, default=ThreadPlan("", ()))
        rank = first.rank - 1
        while rank > 0 and (first.core, rank) in taken:
            rank -= 1
        taken.add((first.core, rank))
        core = first.core if rank > 0 else -1
        name = f"receiver of {process or 'main'}"
        found[process] = ThreadPlan(name, (), "fifo", core, max(0, rank), process)
    return found


class Outgoing(Outlet):
    """An outlet that keeps the number of what it sends where a death does not reach it."""

    __slots__ = ("table",)
    table: Table | None

    def put(self, sample: Sample) -> None:
        """Send to every reader that has a credit; never waits."""
        if self.table is not None:
            self.table.sending(self.source, sample[0])
        super().put(sample)

    def place(self, shape: tuple[int, ...], dtype: Any) -> NDArray[Any] | None:
        """A place to produce an array in; None when there is none, or it does not fit."""
        try:
            return self.allocate(shape, dtype)
        except LinkError:
            return None


@dataclass
class Ends:
    """What one process has of the edges between processes: by source, where what is made here
    leaves, and where what others make arrives."""

    outlets: dict[str, Outgoing] = field(default_factory=dict)
    inlets: dict[str, Inlet] = field(default_factory=dict)


class Receiver:
    """The thread that puts what arrives into the slots of local readers, and sends what waited for
    a credit. When a maker dies, its last message goes into the recording: its own record of it may
    have died with it."""

    def __init__(
        self,
        ends: Ends,
        slots: Mapping[str, list[Slot]],
        records: Records | None,
        place: Callable[[], None] = lambda: None,
    ) -> None:
        """place: called by the thread when it starts, to get its core and priority."""
        self._place = place
        self._ends, self._slots, self._records = ends, slots, records
        self._poller = Poller()
        self._new: deque[Inlet] = deque()  # to be connected by the thread
        self._thread = threading.Thread(target=self._run, name="haihe-links", daemon=True)
        self._stop = threading.Event()
        for outlet in ends.outlets.values():
            outlet.watch(self._poller)
        self._new.extend(ends.inlets.values())
        ends.inlets.clear()

    def start(self) -> None:
        """Begin to receive."""
        self._thread.start()

    def connect(self, inlet: Inlet) -> None:
        """Receive from it, in place of an earlier one of that source, once that is read empty."""
        self._new.append(inlet)
        self._poller.wake()

    def extend(self, source: str, end: socket.socket, crossing: Crossing) -> None:
        """A new reader of what is made here."""
        outlet = self._ends.outlets[source]
        outlet.add(end, crossing.quota, fifo=crossing.fifo, name=crossing.reader or "main")

    def stop(self) -> None:
        """End the thread and close every end; safe to call twice."""
        if self._stop.is_set():
            return
        self._stop.set()
        self._poller.wake()
        if self._thread.ident is not None:
            self._thread.join(JOIN_S)
        for outlet in self._ends.outlets.values():
            outlet.close()
        for inlet in (*self._ends.inlets.values(), *self._new):
            self._poller.remove(inlet.fileno())
            inlet.close()
        self._ends.inlets.clear()
        self._poller.close()

    def _run(self) -> None:
        self._place()
        while not self._stop.is_set():
            try:
                while self._new:
                    self._begin(self._new.popleft())
                self._poller.poll(1.0)
            except Exception:
                log.exception("the links to other processes failed")
                return

    def _begin(self, inlet: Inlet) -> None:
        old = self._ends.inlets.get(inlet.source)
        if old is not None:  # its maker is dead: what it sent is there, up to the end
            while self._receive(old):
                pass
            self._end(old)  # the end is not, while something that its maker started lives on
        self._ends.inlets[inlet.source] = inlet
        for slot in self._slots[inlet.source]:
            if isinstance(slot, Queue):
                slot.taken = inlet.taker()  # each taken message gives its credit back
        self._poller.add(inlet.fileno(), partial(self._receive, inlet))

    def _receive(self, inlet: Inlet) -> bool:
        """Hand on what has come: whether there was something."""
        source = inlet.source
        try:
            samples = inlet.receive(hold=True)
        except (EOFError, LinkError) as exc:
            if isinstance(exc, LinkError):
                log.error("source %s: nothing more is received of it: %s", source, exc)
            self._end(inlet)
            return False
        slots = self._slots[source]
        for sample in samples:
            for slot in slots:
                slot.put(sample)
        inlet.settle()
        return bool(samples)

    def _end(self, inlet: Inlet) -> None:
        if self._ends.inlets.get(inlet.source) is not inlet:
            return
        last: Sample | None = inlet.last()
        if last is not None and self._records is not None:
            self._records.orphan(inlet.source, last)
        del self._ends.inlets[inlet.source]
        self._poller.remove(inlet.fileno())
        inlet.close()


@dataclass
class Ports:
    """New ends of edges for one process. sources: that it makes, each with a new ring."""

    sources: list[str] = field(default_factory=list)
    outlets: list[tuple[str, socket.socket, Crossing]] = field(default_factory=list)
    inlets: dict[str, tuple[socket.socket, Crossing]] = field(default_factory=dict)

    def ends(self) -> list[socket.socket]:
        """All of them."""
        return [end for _, end, _ in self.outlets] + [end for end, _ in self.inlets.values()]

    def close(self) -> None:
        """Close what is still ours of them."""
        for end in self.ends():
            end.close()
