"""What runs in virtual time: a lane on its thread, and the port that it sends through."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from haihe.runtime.exec.lane import Lane
from haihe.runtime.io import Exchange, Reply
from haihe.runtime.plan.model import ThreadPlan

if TYPE_CHECKING:
    from haihe.runtime.exec.virtual_links import Process


class TimedPort(Protocol):
    """What virtual time asks of a port; `drivers/ports/virtual.py` is one."""

    def tx_time_ns(self, exchange: Exchange) -> int:
        """From the first byte sent to the last byte arrived."""
        ...

    def exchange_at(self, exchange: Exchange, t_ns: int) -> Reply:
        """The exchange begun at `t_ns`; called when its last byte has arrived."""
        ...


@runtime_checkable
class CuttablePort(Protocol):
    """A port whose exchanges may end in the middle."""

    def cut(self, exchange: Exchange, t_ns: int, end_ns: int) -> None:
        """An exchange begun at `t_ns` whose owner dies at `end_ns`: what has not left by then
        never does."""
        ...


@dataclass(eq=False)
class Run:
    """A lane on its thread."""

    lane: Lane
    thread: "Thread"
    arrivals: deque[int] = field(default_factory=deque)  # of jobs that wait; one, but for a queue
    skipped: int = 0  # releases
    offset_ns: int = 0  # of its grid
    releases: int = 0
    process: "Process" = field(kw_only=True)
    steps: Any = None  # of the firing under way
    done: Callable[[], None] | None = None  # after what is under way, where that is no firing
    sending: tuple[TimedPort, Exchange, int] | None = None  # the exchange under way, since when


@dataclass(eq=False)
class Thread:
    """A thread of the plan."""

    plan: ThreadPlan
    index: int
    runs: list[Run] = field(default_factory=list)
    running: Run | None = None
    late_until_ns: int = 0

    def next_job(self) -> Run | None:
        """Which lane's job is dispatched."""
        waiting = [run for run in self.runs if run.arrivals and run.lane.may_start()]
        if self.plan.policy == "fifo":
            return min(waiting, key=lambda run: run.arrivals[0], default=None)
        return waiting[0] if waiting else None
