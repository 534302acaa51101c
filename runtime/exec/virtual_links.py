"""Links between lanes in virtual time, in a plan with processes: what the state of the reader's
process does to messages. A dead reader loses them, counted; for a stopped one as many wait as a
channel gives credits, and the rest is dropped.
"""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from haihe.runtime.exec.assembly import link_for
from haihe.runtime.exec.supervision import HangWatch, Supervision
from haihe.runtime.exec.virtual_run import Run
from haihe.runtime.links.slot import Queue, Recent, Sample, Slot
from haihe.runtime.plan.model import Plan, TaskPlan
from haihe.runtime.record.format import Event
from haihe.runtime.telemetry.stats import EdgeStats

CREDITS = 3  # of a reader in another process, when the latest wins


@dataclass(eq=False)
class Process:
    """One process of the plan; "" is the main one, which nobody starts again."""

    name: str
    supervision: Supervision
    watch: HangWatch
    runs: list[Run] = field(default_factory=list)
    links: "list[Link]" = field(default_factory=list)  # through which its lanes read
    is_alive: bool = True
    is_open: bool = True  # its lanes have been let go
    is_stopped: bool = False  # as by SIGSTOP
    kept: list[Callable[[], None]] = field(default_factory=list)  # what goes on when it does
    streamed: list[str] = field(default_factory=list)  # roles of the deliveries among them
    life: int = 0
    events: list[Event] = field(default_factory=list)  # with which its next life begins

    @property
    def hears(self) -> bool:
        """Whether what is sent to it arrives at once."""
        return self.is_alive and self.is_open and not self.is_stopped


class Link:
    """Mixed into the links of lanes in a plan with processes: what its reader's state does to
    messages."""

    reader: Process
    credits: int
    made: int  # number of the last message that was made for it
    newest: Sample | None
    has_memory: bool
    waiting: deque[Sample]  # for a stopped reader
    ends: list[EdgeStats]  # the edges that end here

    def into(self, reader: Process, room: int) -> None:
        """Set up, after the link's own initialisation."""
        self.reader, self.credits, self.ends = reader, room, []
        self.made, self.newest, self.has_memory = 0, None, True
        self.waiting = deque()
        reader.links.append(self)

    def put(self, sample: Sample) -> None:
        """Publish; never waits."""
        self.newest, self.made = sample, sample[0]
        reader = self.reader
        if not reader.is_alive or not reader.is_open:
            self.lose(1)
        elif not self.has_memory:
            self.drop()
        elif not reader.is_stopped:
            self.deliver(sample)
        elif len(self.waiting) < self.left():
            self.waiting.append(sample)
        else:
            self.drop()

    def deliver(self, sample: Sample) -> None:
        """Put it where the reader takes it."""
        super().put(sample)  # type: ignore[misc]

    def left(self) -> int:
        """Messages that a stopped reader may have waiting."""
        return self.credits

    def drop(self) -> None:
        """A message that a living reader does not get: latest wins counts it by the gap."""

    def lose(self, messages: int) -> None:
        """The newest messages, and all that waits: a dead reader never gets them."""
        for stats in self.ends:
            stats.overwritten += self.made - stats.last
            stats.last = self.made

    def skip(self, made: int) -> None:
        """Messages up to that number were made and never sent: their maker died."""
        gap, self.made = made - self.made, max(self.made, made)
        if gap > 0 and not (self.reader.is_alive and self.reader.is_open):
            self.lose(gap)

    def go_on(self) -> None:
        """The reader goes on: it receives what waited."""
        while self.waiting:
            self.deliver(self.waiting.popleft())

    def clear(self) -> None:
        """The reader is dead: what waits for it is lost."""
        self.lose(0)
        self.waiting.clear()


class SlotLink(Link, Slot):
    """One place, latest wins."""

    def clear(self) -> None:
        """The reader is dead."""
        super().clear()
        self.value = None

    def in_flight(self, last: int) -> int:
        """Messages after number `last`."""
        return self.made - last


class RecentLink(Link, Recent):
    """The newest few."""

    def in_flight(self, last: int) -> int:
        """Messages after number `last`."""
        return self.made - last

    def clear(self) -> None:
        """The reader is dead."""
        super().clear()
        self.items, self.value = (), None


class QueueLink(Link, Queue):
    """In order: what is not taken is refused."""

    def has_room(self) -> bool:
        """Whether another sample would be taken; a dead reader holds nobody back."""
        if not self.reader.is_alive or not self.reader.is_open:
            return True
        return self.left() > len(self.waiting)

    def left(self) -> int:
        """Places for what waits."""
        return self.places - len(self.items)

    def drop(self) -> None:
        """Refused."""
        self.lose(1)

    def lose(self, messages: int) -> None:
        """Refused."""
        for stats in self.stats:
            stats.refused += messages

    def skip(self, made: int) -> None:
        """Made and never sent."""
        gap, self.made = made - self.made, max(self.made, made)
        self.lose(max(0, gap))

    def in_flight(self, last: int) -> int:
        """Messages that wait."""
        return len(self.items) + len(self.waiting)

    def clear(self) -> None:
        """The reader is dead."""
        self.lose(self.in_flight(0))
        self.waiting.clear()
        self.items.clear()
        self.value = None


def process_link(processes: Mapping[str, Process]) -> Callable[[Plan, TaskPlan, str], Slot]:
    """Makes the links of a plan with processes."""

    def make(plan: Plan, task: TaskPlan, source: str) -> Slot:
        plain = link_for(plan, task, source)
        link: SlotLink | RecentLink | QueueLink
        room = CREDITS
        if isinstance(plain, Queue):
            link = QueueLink(plain.places)
        elif isinstance(plain, Recent):
            link = RecentLink(plain.keep)
            room = max(room, plain.keep)
        else:
            link = SlotLink()
        lane = next(one.name for one in plan.lanes if one.task is task)
        link.into(processes[plan.process_of(lane)], room)
        return link

    return make
