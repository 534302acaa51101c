"""When a run that keeps its recording in memory writes a file: a guard trips, SIGUSR1."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from haihe.runtime.exec.assembly import Assembly
from haihe.runtime.guard import GuardState
from haihe.runtime.record.ring_recorder import RingRecorder

if TYPE_CHECKING:
    from haihe.pipelines.live import Live


class Latch(NamedTuple):
    """A guard: the role of its device, its firings in SAFE so far, whether it is in it now, and
    the reason of its trip."""

    role: str
    latched: int
    is_safe: bool
    reason: str


class Incidents:
    """Looks at the guards of a run a few times a second, and asks the ring for a file."""

    def __init__(self, ring: RingRecorder) -> None:
        self.ring = ring
        self._latched: dict[str, int] = {}
        self._is_safe: dict[str, bool] = {}
        self._signals = 0

    def look(self, guards: Iterable[Latch]) -> None:
        """A guard has tripped when it is in SAFE and was not; also when it was there and has been
        reset since the last look."""
        for guard in guards:
            was_there = guard.latched > self._latched.get(guard.role, 0)
            if (guard.is_safe or was_there) and not self._is_safe.get(guard.role, False):
                why = f": {guard.reason}" if guard.reason else ""
                self.ring.save(f"the guard of {guard.role} tripped{why}", repeat=False)
            self._latched[guard.role], self._is_safe[guard.role] = guard.latched, guard.is_safe
        if self._signals:
            self._signals = 0
            self.ring.save("SIGUSR1")

    def look_at(self, assembly: Assembly) -> None:
        """The same of the guards of these lanes."""
        self.look(
            Latch(
                bus.role,
                bus.guard_counts().get("latched", 0),
                bus.guard.state is GuardState.SAFE,
                bus.guard.reason,
            )
            for lane in assembly.lanes
            for bus in lane.buses
            if bus.guard is not None
        )

    def before(self, tick: "Callable[[Live], None] | None") -> "Callable[[Live], None]":
        """What is called a few times a second: this look, then `tick`."""

        def look(live: "Live") -> None:
            self.look(
                Latch(
                    bus.role,
                    bus.guard_counts.get("latched", 0),
                    bus.guard == GuardState.SAFE.name,
                    bus.guard_reason,
                )
                for bus in live.snapshot().buses
            )
            if tick is not None:
                tick(live)

        return look

    @contextlib.contextmanager
    def on_signal(self) -> Iterator[None]:
        """SIGUSR1 asks for a file, too, meanwhile; it is heard at the next look."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def note(number: int, frame: object) -> None:
            self._signals += 1

        before = signal.signal(signal.SIGUSR1, note)
        try:
            yield
        finally:
            signal.signal(signal.SIGUSR1, before)
