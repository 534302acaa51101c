"""A run in real time: its handle, and how it is carried to its end."""

import contextlib
import dataclasses
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from haihe.pipelines.overruns import OverrunWatch
from haihe.pipelines.worlds.process import WorldProcess
from haihe.runtime.clock import now_ns
from haihe.runtime.errors import RecordError
from haihe.runtime.exec.goals import GoalHandle
from haihe.runtime.exec.realtime import Outcome, RealtimeExecutor
from haihe.runtime.exec.supervisor import Supervisor
from haihe.runtime.record.recorder import Recorder
from haihe.runtime.record.ring_recorder import RingRecorder
from haihe.runtime.telemetry.prometheus import MetricsServer
from haihe.runtime.telemetry.snapshot import ProcessState, Snapshot, decode, merge, snapshot
from haihe.runtime.types import Message

if TYPE_CHECKING:
    from haihe.pipelines.launch import Prepared


@dataclasses.dataclass
class Live:
    """A run in real time, under way or over; what a status line and a judge look at."""

    prepared: "Prepared"
    executor: RealtimeExecutor
    world: WorldProcess | None
    recording: Path | None = None
    outcome: Outcome | None = None
    overruns: OverrunWatch | None = None
    is_closed_loop: bool = False  # the world's own cameras are used: its truth can judge the run
    recorder: Recorder | RingRecorder | None = None
    budgets: Mapping[str, int] = dataclasses.field(default_factory=dict)  # by node, in ns
    metrics: MetricsServer | None = None

    def __repr__(self) -> str:
        reason = self.outcome.reason if self.outcome else "running"
        firings = {lane.name: lane.firings for lane in self.snapshot().lanes}
        return f"<run of {self.prepared.graph.name}: {reason}; firings {firings}>"

    @property
    def modes(self) -> dict[str, str]:
        """By group: the active mode."""
        return dict(self.executor.requests.modes)

    def mode(self, group: str, name: str) -> None:
        """Ask for a mode; recorded. Raises PlanError for one that is not there; a condition that
        does not hold refuses it in the lane: logged, and counted in `executor.requests.refused`."""
        self.executor.mode(group, name)

    def goal(self, name: str, request: Message) -> GoalHandle:
        """Ask for a goal; recorded. The handle has state, progress, `result(timeout_s)` and
        `cancel()`. Raises PlanError."""
        return self.executor.goal(name, request)

    def set(self, node: str, key: str, value: object) -> None:
        """Change a constant of a node from its next firing on; recorded. Raises PlanError for one
        that is not there, of another type, or outside its `tunable` range."""
        self.executor.set(node, key, value)

    def snapshot(self) -> Snapshot:
        """The state of the run now, of all its processes; see docs/telemetry.md."""
        own = snapshot(self.executor, budgets=self.budgets, recorder=self.recorder)
        others = self.executor.household
        if not isinstance(others, Supervisor):
            return own
        children = list(others.children.values())
        states = [
            ProcessState(
                child.name,
                child.pid,
                str(child.supervision.state),
                len(child.supervision.restarts),
                child.supervision.causes[-1] if child.supervision.causes else "",
            )
            for child in children
        ]
        return merge([own, *(decode(child.status) for child in children if child.status)], states)

    @property
    def saved(self) -> list[Path]:
        """The files that were written of what is kept in memory."""
        return list(self.recorder.saved) if isinstance(self.recorder, RingRecorder) else []

    def save(self, reason: str) -> Path:
        """Write what is kept in memory (`keep=`), up to half a second from now, to a file of which
        the name is given. Raises RecordError when nothing is kept."""
        if not isinstance(self.recorder, RingRecorder):
            raise RecordError(
                f"save({reason!r}): this run keeps no recording in memory. Run it with "
                "record=FILE, keep='60s' (--record FILE --keep 60s)."
            )
        return self.recorder.save(reason)


def drive(
    live: Live,
    length: int | None,
    arm: bool,
    tick: Callable[[Live], None] | None,
    tick_s: float,
) -> None:
    """Run until the end: whatever happens, the executor is stopped, with safe actions."""
    executor = live.executor
    live.outcome = executor.outcome
    reason = "an error outside the lanes"
    with _terminate_as_interrupt():
        try:
            executor.start(arm=arm)
            end = executor.started_ns + length if length else None
            while end is None or now_ns() < end:
                left = tick_s if end is None else min(tick_s, max(0.0, (end - now_ns()) * 1e-9))
                if executor.wait(left):
                    reason = "stop"
                    break
                if tick is not None:
                    tick(live)
            else:
                reason = "end of the duration"
        except KeyboardInterrupt as exc:
            reason = str(exc) or "Ctrl-C"
        finally:
            with _uninterrupted():
                executor.stop(reason)


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """A second Ctrl-C must not cut the safe actions short: a stop takes a few seconds at most."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    signals = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, signal.SIG_IGN) for number in signals]
    try:
        yield
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)


@contextlib.contextmanager
def _terminate_as_interrupt() -> Iterator[None]:
    """SIGTERM ends a run as Ctrl-C does: with safe actions and a whole recording."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt("SIGTERM")

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
