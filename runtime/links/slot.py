"""The edges between lanes, in one process.

A sample is (sequence, message, origin, fired): the number from 1, the message, the oldest capture
stamp in its lineage, and the clock reading of the firing that made it, both in ns. A link holds
references to samples, so a message and its number cannot tear.
"""

from collections import deque
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from haihe.runtime.telemetry.stats import EdgeStats

Sample = tuple[int, Any, int, int]


class Slot:
    """The default: one place, latest wins. `wake` is called after each sample, if given."""

    __slots__ = ("value", "wake")

    def __init__(self) -> None:
        self.value: Sample | None = None
        self.wake: Callable[[], None] | None = None

    def put(self, sample: Sample) -> None:
        """Publish; never waits."""
        self.value = sample
        if self.wake is not None:
            self.wake()

    def in_flight(self, last: int) -> int:
        """Messages that were sent after number `last`, the last one read."""
        return self.value[0] - last if self.value else 0


@runtime_checkable
class Bounded(Protocol):
    """A link that holds its writer back when it is full."""

    freed: Callable[[], None] | None

    def has_room(self) -> bool:
        """Whether another sample would be taken."""
        ...


class Queue(Slot):
    """`fifo(n)`: samples in order, each taken once.

    A full queue refuses and counts. Where a queue feeds the writer, the executor holds the writer
    back until there is room, so a refusal happens at the entrance of a chain only.
    """

    __slots__ = ("died_after", "freed", "items", "places", "stats", "taken")

    def __init__(self, places: int) -> None:
        super().__init__()
        self.items: deque[Sample] = deque()
        self.places = places
        self.stats: list[EdgeStats] = []  # of the edges that end here
        self.freed: Callable[[], None] | None = None
        self.taken: Callable[[], None] | None = None  # at its maker in another process
        self.died_after: int | None = None  # in a new life: the last one that the old one has read

    def has_room(self) -> bool:
        """Whether another sample would be taken."""
        return len(self.items) < self.places

    def put(self, sample: Sample) -> None:
        """Publish, or refuse when it is full; never waits."""
        self.value = sample
        if self.died_after is not None:  # what comes between waited for a dead reader
            lost, self.died_after = sample[0] - self.died_after - 1, None
            for stats in self.stats:
                stats.overwritten += lost
        if not self.has_room():
            for stats in self.stats:
                stats.refused += 1
            return
        self.items.append(sample)
        if self.wake is not None:
            self.wake()

    def take(self) -> Sample | None:
        """The oldest sample, which leaves the queue."""
        sample = self.items.popleft() if self.items else None
        if self.taken is not None and sample is not None:
            self.taken()
        if self.freed is not None:
            self.freed()
        return sample

    def in_flight(self, last: int) -> int:
        """Messages that wait."""
        return len(self.items)


class Recent(Slot):
    """`aligned()`: the newest samples, from which the reader takes the one captured nearest."""

    __slots__ = ("items", "keep")

    def __init__(self, keep: int) -> None:
        super().__init__()
        self.items: tuple[Sample, ...] = ()
        self.keep = keep

    def put(self, sample: Sample) -> None:
        """Publish; never waits. Readers hold on to the tuple that they saw."""
        self.items = (*self.items[1 - self.keep :], sample)
        super().put(sample)


def nearest(samples: tuple[Sample, ...], origin: int) -> Sample | None:
    """The sample captured nearest to `origin`, the older one of two at the same distance."""
    return min(samples, key=lambda sample: abs(sample[2] - origin), default=None)
