"""A thread of the realtime executor: it opens what its lanes hold, runs their jobs one at a time,
makes their actuators safe at the end, and closes."""

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from haihe.runtime.clock import MILLISECOND, SECOND, now_ns, sleep_until
from haihe.runtime.exec.assembly import open_node
from haihe.runtime.exec.lane import Lane
from haihe.runtime.exec.wardens import warden_of
from haihe.runtime.io import Port
from haihe.runtime.links.slot import Slot
from haihe.runtime.plan.model import ThreadPlan

if TYPE_CHECKING:
    from haihe.runtime.exec.realtime import RealtimeExecutor

log = logging.getLogger(__name__)

IDLE_S = 0.1  # a thread looks up this often when nothing comes, but records wait to be written
LONG_IDLE_S = 1.0  # when they do not; a stop wakes it
REST_LIMIT_NS = 3 * SECOND  # for safe positions to be reached at a stop


@dataclass(eq=False)
class Run:
    """A lane on its thread."""

    lane: Lane
    link: Slot | None  # through which its trigger comes
    release_ns: int = 0  # the next place of its grid
    arrivals: deque[int] = field(default_factory=deque)  # of jobs that wait; one, but for a queue
    used: int = 0  # number of the trigger's last message
    begun: int = 0  # firings begun and ended: they differ while one is under way
    ended: int = 0


class Worker:
    """A thread of the plan and the lanes that it runs."""

    def __init__(self, plan: ThreadPlan, executor: "RealtimeExecutor") -> None:
        self.plan, self.executor = plan, executor
        self.runs: list[Run] = []
        self.wake = threading.Event()
        self.thread: threading.Thread | None = None

    @property
    def lanes(self) -> list[Lane]:
        """Its lanes, the most urgent first."""
        return [run.lane for run in self.runs]

    @property
    def progress(self) -> str:
        """What it is opening, for reports of hangs."""
        return next((lane.progress for lane in self.lanes if lane.progress), "")

    def add(self, lane: Lane, link: Slot | None) -> None:
        """A lane of it, with the link through which its trigger comes."""
        run = Run(lane, link)
        self.runs.append(run)
        self.runs.sort(key=lambda run: self.plan.lanes.index(run.lane.name))
        if link is not None:
            link.wake = partial(self._arrive, run, link)

    def start(self) -> None:
        """Start the thread."""
        name = f"haihe-{self.plan.name}"
        self.thread = threading.Thread(target=self._work, name=name, daemon=True)
        self.thread.start()

    def next_job(self) -> Run | None:
        """Which lane's job is dispatched."""
        waiting = [run for run in self.runs if run.arrivals and run.lane.may_start()]
        if self.plan.policy == "fifo":
            return min(waiting, key=lambda run: run.arrivals[0], default=None)
        return waiting[0] if waiting else None

    def progress_of_lanes(self, is_at_work: Callable[[int], bool]) -> dict[str, tuple[int, bool]]:
        """By lane: a number that changes while it gets on, and whether there is work for it.
        is_at_work: whether a lane of that period always has."""
        return {
            run.lane.name: (
                run.begun + run.ended,
                run.begun != run.ended
                or is_at_work(run.lane.task.every_ns)
                or bool(run.arrivals and run.lane.may_start()),
            )
            for run in self.runs
        }

    # --- the thread ---------------------------------------------------------------------------

    def _work(self) -> None:
        executor = self.executor
        for lane in self.lanes:
            try:
                self._open(lane)
            except Exception as exc:  # noqa: BLE001 - the supervisor: start() raises it again
                executor.outcome.failures.append((lane.name, lane.progress, exc))
                executor.is_ready.release()
                self._close()
                return
        # not before: the threads of a model would inherit core and priority
        executor.settings.place(self.plan)
        executor.is_ready.release()
        executor.may_go.wait()
        try:
            self._serve()
        except Exception as exc:
            log.exception("thread %s failed", self.plan.name)
            executor.outcome.failures.append((self.plan.name, self.progress, exc))
            executor.stopping.set()
        finally:
            self._make_safe()
            self._close()

    def _open(self, lane: Lane) -> None:
        executor = self.executor
        for step, instance in zip(lane.task.steps, lane.instances, strict=True):
            if hasattr(instance, "open"):
                lane.progress = f"opening {step.name}"
                open_node(executor.assembly.graph.nodes[step.name], instance)
        for bus in lane.buses:
            lane.progress = f"opening the port of {bus.role}"
            live = executor.buses[bus.role]
            bus.port = live.open_port()
            if live.warden is not None and bus.guard is not None:
                lane.progress = f"starting the warden of {bus.role}"
                bus.warden = warden_of(bus, lane, live.warden, self.plan.rank)
        lane.progress = "setting devices up"
        self._drive(lane.setup())
        lane.progress = ""

    def _arrive(self, run: Run, link: Slot) -> None:
        """A triggered lane has a message: latest wins, or a job for each in its queue."""
        if run.lane.task.fifo or not run.arrivals:
            # a stream's message carries its delivery; another lane's is being published now
            sample = link.value
            is_stream = run.lane.task.trigger.split(".")[0] in self.executor.plan.streams
            run.arrivals.append(sample[3] if sample and is_stream else now_ns())
        self.wake.set()

    def _serve(self) -> None:
        """Releases, and jobs one at a time, until the stop."""
        executor = self.executor
        wake, periodic = self.wake, [run for run in self.runs if run.lane.task.every_ns]
        for run in periodic:
            run.release_ns = self._first_release(run)
        while not executor.stopping.is_set():
            wake.clear()
            now = now_ns()
            for run in periodic:
                self._release(run, now)
            job = self.next_job()
            due = min((run.release_ns for run in periodic), default=now + SECOND)
            if job is not None:
                self._fire(job)
            elif len(periodic) == len(self.runs) and due - now < 200 * MILLISECOND:
                sleep_until(due)
            else:
                waits = IDLE_S if any(lane.has_records for lane in self.lanes) else LONG_IDLE_S
                wake.wait(min(waits, (due - now) * 1e-9))
                for lane in self.lanes:
                    lane.flush_due(now_ns())

    def _first_release(self, run: Run) -> int:
        """The grid of a run begins with it; who joins later begins at the next place."""
        started, every = self.executor.started_ns, run.lane.task.every_ns
        late = max(0, now_ns() - started)
        return started + -(-late // every) * every

    def _release(self, run: Run, now: int, *, is_running: bool = False) -> None:
        """The places of a lane's grid up to now; while its job waits or runs they are skipped."""
        while run.release_ns <= now:
            if is_running or run.arrivals:
                self.executor.skipped[run.lane.name] += 1
            else:
                run.arrivals.append(run.release_ns)
            run.release_ns += run.lane.task.every_ns

    def _fire(self, run: Run) -> None:
        lane, arrival = run.lane, run.arrivals.popleft()
        run.begun += 1
        if lane.task.every_ns:
            self._drive(lane.begin(arrival))
            now = now_ns()
            self._release(run, now, is_running=True)
        else:
            sample = run.link.value if run.link is not None else None
            if sample is not None and sample[0] == run.used and not lane.task.fifo:
                run.ended = run.begun
                return  # the last job has got this one already
            run.used = self._drive(lane.begin(arrival))
            now = now_ns()
        run.ended = run.begun
        lane.after_firing(now)

    def _drive(self, steps: Any) -> Any:
        """Run a lane's generator: do its exchanges; what nodes take has passed already."""
        reply = None
        try:
            while True:
                item = steps.send(reply)
                reply = None if item.__class__ is int else item.port.exchange(item.pending)
        except StopIteration as stop:
            return stop.value

    # --- the end ------------------------------------------------------------------------------

    def _make_safe(self) -> None:
        """The safe actions of every lane, in turns: none waits until another is at rest."""
        left = [lane for lane in self.lanes if any(bus.guard is not None for bus in lane.buses)]
        periods = [lane.task.every_ns for lane in left if lane.task.every_ns]
        period = min(periods, default=20 * MILLISECOND)
        release = now_ns()
        deadline = release + REST_LIMIT_NS
        while True:
            left = [lane for lane in left if not self._is_safe(lane)]
            release += period
            if not left or release > deadline:
                break
            sleep_until(release)
        for lane in left:
            log.error("lane %s: the safe position was not reached", lane.name)

    def _is_safe(self, lane: Lane) -> bool:
        """One stop firing: whether nothing is left to do."""
        outcome = self.executor.outcome
        try:
            if not self._drive(lane.stop(now_ns, outcome.reason or "stop")):
                return False
            for bus in lane.buses:  # it waits for the others now: no heartbeat
                if bus.warden is not None:
                    bus.warden.disarm()
            return True
        except Exception as exc:
            log.exception("lane %s: the safe actions failed", lane.name)
            outcome.failures.append((lane.name, "safe actions", exc))
            return True

    def _close(self) -> None:
        """Close all that its lanes hold, whatever one of them raises."""
        for lane in self.lanes:
            ports: list[Port] = [bus.port for bus in lane.buses if bus.port is not None]
            wardens = [bus.warden for bus in lane.buses if bus.warden is not None]
            for held in (
                *wardens,
                *ports,
                *(one for one in lane.instances if hasattr(one, "close")),
            ):
                try:
                    held.close()
                except Exception as exc:
                    log.exception("lane %s: %s did not close", lane.name, type(held).__name__)
                    self.executor.outcome.failures.append((lane.name, "closing", exc))
            lane.flush(now_ns())
