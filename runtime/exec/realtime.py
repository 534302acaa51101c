"""The realtime executor: the plan's threads with their lanes, and one per stream device."""

import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from haihe.runtime.clock import MILLISECOND, SECOND, now_ns, sleep_until
from haihe.runtime.errors import DeviceError, HaiheError
from haihe.runtime.exec.assembly import Assembly, node_error, open_node
from haihe.runtime.exec.lane import Lane, Overrun, Sink, Timing
from haihe.runtime.exec.threads import interpreter, place, where
from haihe.runtime.graph import Graph
from haihe.runtime.guard.guard import Guard
from haihe.runtime.io import BusDevice, Port, StreamDevice
from haihe.runtime.links.slot import Slot
from haihe.runtime.plan.model import Plan, ThreadPlan
from haihe.runtime.record.format import Event

log = logging.getLogger(__name__)

IDLE_S = 0.1  # a thread looks up this often when nothing comes
START_LIMIT_S = 60.0
STOP_LIMIT_S = 3.0
REST_LIMIT_NS = 3 * SECOND  # for safe positions to be reached at a stop


@dataclass
class LiveBus:
    """A bus device with its guard and the way to open its port."""

    device: BusDevice
    guard: Guard | None
    open_port: Callable[[], Port]


@dataclass
class StreamCount:
    """What a stream device delivered."""

    delivered: int = 0
    ended: bool = False
    problem: str = ""


@dataclass
class Outcome:
    """How a run ended."""

    reason: str = ""
    failures: list[tuple[str, str, BaseException]] = field(default_factory=list)
    hung: list[str] = field(default_factory=list)


@dataclass(eq=False)
class _Run:
    """A lane on its thread."""

    lane: Lane
    link: Slot | None  # through which its trigger comes
    release_ns: int = 0  # the next place of its grid
    arrivals: deque[int] = field(default_factory=deque)  # of jobs that wait; one, but for a queue
    used: int = 0  # number of the trigger's last message


class _Worker:
    """A thread of the plan and the lanes that it runs."""

    def __init__(self, plan: ThreadPlan) -> None:
        self.plan = plan
        self.runs: list[_Run] = []
        self.wake = threading.Event()
        self.thread: threading.Thread | None = None

    @property
    def lanes(self) -> list[Lane]:
        return [run.lane for run in self.runs]

    @property
    def progress(self) -> str:
        """What it is opening, for reports of hangs."""
        return next((lane.progress for lane in self.lanes if lane.progress), "")

    def next_job(self) -> _Run | None:
        """Which lane's job is dispatched."""
        waiting = [run for run in self.runs if run.arrivals and run.lane.may_start()]
        if self.plan.policy == "fifo":
            return min(waiting, key=lambda run: run.arrivals[0], default=None)
        return waiting[0] if waiting else None


class RealtimeExecutor:
    """Runs a plan against the machine's clock."""

    def __init__(
        self,
        graph: Graph,
        plan: Plan,
        buses: Mapping[str, LiveBus],
        streams: Mapping[str, StreamDevice],
        sink: Sink | None = None,
        seed: int = 0,
        budgets: Mapping[str, int] | None = None,
        on_overrun: Callable[[Overrun], None] | None = None,
    ) -> None:
        """budgets: by node, where they differ from the declared ones. on_overrun: called from the
        lane's thread when a node takes longer."""
        self.plan = plan
        self._buses, self._streams, self._sink = buses, streams, sink
        timing = Timing(now_ns, now_ns, now_ns)
        self.assembly = Assembly(
            graph,
            plan,
            {role: (bus.device, bus.guard) for role, bus in buses.items()},
            lambda _: timing,
            seed=seed,
            sink=sink,
            budgets=budgets,
        )
        self.state = "cold"
        self.outcome = Outcome()
        self.skipped = {lane.name: 0 for lane in self.assembly.lanes}
        self.counts = {source: StreamCount() for source in self._sources()}
        self.started_ns = 0
        self._is_tuned = False
        self._ready = threading.Semaphore(0)
        self._go = threading.Event()
        self._stop = threading.Event()
        self._workers = [_Worker(thread) for thread in plan.threads]
        self._readers: list[threading.Thread] = []
        for lane in self.assembly.lanes:
            lane.on_raise = self._raised
            if on_overrun is not None:
                lane.on_overrun = on_overrun
            worker = next(w for w in self._workers if lane.name in w.plan.lanes)
            link = self.assembly.readers.get((lane.index, lane.task.trigger))
            run = _Run(lane, link)
            worker.runs.append(run)
            worker.runs.sort(key=lambda run: worker.plan.lanes.index(run.lane.name))
            if link is not None:
                link.wake = partial(self._arrive, worker, run, link)
        for worker in self._workers:
            for lane in worker.lanes:
                for queue in lane.outlets:
                    queue.freed = worker.wake.set

    def _sources(self) -> list[str]:
        sources: list[str] = []
        for lane in self.assembly.lanes:
            sources += [s for s in lane.task.reads if s.split(".")[0] in self.plan.streams]
        return list(dict.fromkeys(sources))

    # --- life ---------------------------------------------------------------------------------

    def start(self, *, arm: bool) -> None:
        """Open models and devices, then let the lanes go. Raises what opening raised."""
        self.state = "warming"
        interpreter.enter()
        self._is_tuned = True
        for worker in self._workers:
            worker.thread = threading.Thread(
                target=self._work, args=(worker,), name=f"haihe-{worker.plan.name}", daemon=True
            )
            worker.thread.start()
        for _ in self._workers:
            if not self._ready.acquire(timeout=START_LIMIT_S):
                slow = ", ".join(
                    f"{w.plan.name} ({w.progress})" for w in self._workers if w.progress
                )
                self.stop("start-up took too long")
                raise HaiheError(
                    f"start of {self.plan.graph}: not ready after {START_LIMIT_S:.0f} s; threads: "
                    f"{slow}. Look at the device or model named."
                )
        if self.outcome.failures:
            _, _, exc = self.outcome.failures[0]
            self.stop("start-up failed")
            raise exc
        try:
            for role, stream in self._streams.items():
                stream.open()
                thread = threading.Thread(
                    target=self._read, args=(role, stream), name=f"haihe-{role}", daemon=True
                )
                self._readers.append(thread)
        except BaseException:
            self.stop("start-up failed")
            raise
        interpreter.freeze()
        self.started_ns = now_ns() + 5 * MILLISECOND
        self.state = "ready"
        if arm:
            self.post(("arm",))
            self.state = "armed"
        for thread in self._readers:
            thread.start()
        self._go.set()

    def post(self, event: Event) -> None:
        """Send an event (arm, disarm, trip, reset) to every lane that has a guard; it applies at
        the start of the lane's next firing and is recorded there."""
        for lane in self.assembly.lanes:
            if any(bus.guard is not None for bus in lane.buses):
                lane.inbox.append(event)

    def set(self, node: str, key: str, value: Any) -> None:
        """Change a parameter of a node from its next firing on; recorded. Raises PlanError."""
        self.assembly.set_parameter(node, key, value)

    def wait(self, timeout_s: float) -> bool:
        """Wait until the run wants to end (a failure, the end of a stream): True if so."""
        return self._stop.wait(timeout_s)

    def stop(self, reason: str) -> Outcome:
        """End the run: safe actions, ports and models closed, threads joined."""
        if not self.outcome.reason:
            self.outcome.reason = reason
        self._stop.set()
        self._go.set()
        for worker in self._workers:
            worker.wake.set()
        deadline = now_ns() + round(STOP_LIMIT_S * 1e9) + REST_LIMIT_NS
        for worker in self._workers:
            thread = worker.thread
            if thread is None or thread.ident is None:
                continue
            thread.join(max(0.05, (deadline - now_ns()) * 1e-9))
            if thread.is_alive() and worker.plan.name not in self.outcome.hung:
                self.outcome.hung.append(worker.plan.name)
                spot = where(thread) or worker.progress
                log.error("thread %s did not stop: it hangs at %s", worker.plan.name, spot)
                for lane in worker.lanes:
                    lane.flush(now_ns())  # what it recorded before
            deadline = min(deadline, now_ns() + round(STOP_LIMIT_S * 1e9))
        for reader in self._readers:  # they look up every IDLE_S; closing under them is not safe
            if reader.ident is not None:
                reader.join(10 * IDLE_S)
        for stream in self._streams.values():
            stream.close()
        if self._is_tuned:
            self._is_tuned = False
            interpreter.leave()
        self.state = "safe"
        return self.outcome

    # --- threads ------------------------------------------------------------------------------

    def _work(self, worker: _Worker) -> None:
        for lane in worker.lanes:
            try:
                self._open(lane)
            except Exception as exc:  # noqa: BLE001 - the supervisor: start() raises it again
                self.outcome.failures.append((lane.name, lane.progress, exc))
                self._ready.release()
                self._close(worker)
                return
        place(worker.plan)  # not before: the threads of a model would inherit core and priority
        self._ready.release()
        self._go.wait()
        try:
            self._serve(worker)
        except Exception as exc:
            log.exception("thread %s failed", worker.plan.name)
            self.outcome.failures.append((worker.plan.name, worker.progress, exc))
            self._stop.set()
        finally:
            self._make_safe(worker)
            self._close(worker)

    def _open(self, lane: Lane) -> None:
        for step, instance in zip(lane.task.steps, lane.instances, strict=True):
            if hasattr(instance, "open"):
                lane.progress = f"opening {step.name}"
                open_node(self.assembly.graph.nodes[step.name], instance)
        for bus in lane.buses:
            lane.progress = f"opening the port of {bus.role}"
            bus.port = self._buses[bus.role].open_port()
        lane.progress = "setting devices up"
        self._drive(lane.setup())
        lane.progress = ""

    def _arrive(self, worker: _Worker, run: _Run, link: Slot) -> None:
        """A triggered lane has a message: latest wins, or a job for each in its queue."""
        if run.lane.task.fifo or not run.arrivals:
            # a stream's message carries its delivery; another lane's is being published now
            sample = link.value
            is_stream = run.lane.task.trigger.split(".")[0] in self.plan.streams
            run.arrivals.append(sample[3] if sample and is_stream else now_ns())
        worker.wake.set()

    def _serve(self, worker: _Worker) -> None:
        """Releases, and jobs one at a time, until the stop."""
        wake, periodic = worker.wake, [run for run in worker.runs if run.lane.task.every_ns]
        for run in periodic:
            run.release_ns = self.started_ns
        while not self._stop.is_set():
            wake.clear()
            now = now_ns()
            for run in periodic:
                self._release(run, now)
            job = worker.next_job()
            due = min((run.release_ns for run in periodic), default=now + SECOND)
            if job is not None:
                self._fire(job)
            elif len(periodic) == len(worker.runs) and due - now < 200 * MILLISECOND:
                sleep_until(due)
            else:
                wake.wait(min(IDLE_S, (due - now) * 1e-9))
                for lane in worker.lanes:
                    lane.flush_due(now_ns())

    def _release(self, run: _Run, now: int, *, is_running: bool = False) -> None:
        """The places of a lane's grid up to now; while its job waits or runs they are skipped."""
        while run.release_ns <= now:
            if is_running or run.arrivals:
                self.skipped[run.lane.name] += 1
            else:
                run.arrivals.append(run.release_ns)
            run.release_ns += run.lane.task.every_ns

    def _fire(self, run: _Run) -> None:
        lane, arrival = run.lane, run.arrivals.popleft()
        if lane.task.every_ns:
            self._drive(lane.begin(arrival))
            now = now_ns()
            self._release(run, now, is_running=True)
        else:
            sample = run.link.value if run.link is not None else None
            if sample is not None and sample[0] == run.used and not lane.task.fifo:
                return  # the last job has got this one already
            run.used = self._drive(lane.begin(arrival))
            now = now_ns()
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

    def _make_safe(self, worker: _Worker) -> None:
        """The safe actions of every lane, in turns: none waits until another is at rest."""
        left = [lane for lane in worker.lanes if any(bus.guard is not None for bus in lane.buses)]
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
        try:
            return bool(self._drive(lane.stop(now_ns, self.outcome.reason or "stop")))
        except Exception as exc:
            log.exception("lane %s: the safe actions failed", lane.name)
            self.outcome.failures.append((lane.name, "safe actions", exc))
            return True

    def _close(self, worker: _Worker) -> None:
        """Close all that its lanes hold, whatever one of them raises."""
        for lane in worker.lanes:
            ports = [bus.port for bus in lane.buses if bus.port is not None]
            for held in (*ports, *(one for one in lane.instances if hasattr(one, "close"))):
                try:
                    held.close()
                except Exception as exc:
                    log.exception("lane %s: %s did not close", lane.name, type(held).__name__)
                    self.outcome.failures.append((lane.name, "closing", exc))
            lane.flush(now_ns())

    def _read(self, role: str, stream: StreamDevice) -> None:
        sources = [s for s in self.counts if s.split(".")[0] == role]
        slots = [slot for source in sources for slot in self.assembly.slots[source]]
        self._go.wait()
        sequence = 0
        try:
            while not self._stop.is_set():
                found = stream.read(IDLE_S)
                if found is None:
                    continue
                message, capture = found
                sequence += 1
                delivered = now_ns()
                for slot in slots:
                    slot.put((sequence, message, capture, delivered))
                for source in sources:  # after the hand-over: packing a picture takes a while
                    self.counts[source].delivered = sequence
                    if self._sink is not None:
                        self._sink.stream(source, sequence, capture, delivered, message)
        except EOFError:
            self._ended(sources, "")
            self.outcome.reason = self.outcome.reason or f"{role}: end of stream"
            self._settle()
            self._stop.set()
        except (DeviceError, OSError) as exc:
            # the lanes go on: what they miss grows stale, and the guard acts
            log.error("stream %s failed: %s", role, exc)
            self._ended(sources, str(exc))
        except Exception as exc:
            log.exception("stream %s failed", role)
            self._ended(sources, f"{type(exc).__name__}: {exc}")

    def _ended(self, sources: list[str], problem: str) -> None:
        for source in sources:
            self.counts[source].ended = True
            self.counts[source].problem = problem

    def _settle(self) -> None:
        """Let what is under way be used before the stop, for a second at most."""
        deadline = now_ns() + SECOND
        kinds = ("slot", "fifo")
        edges = [i for i, edge in enumerate(self.plan.edges) if edge.kind in kinds]
        while now_ns() < deadline and any(self.assembly.in_flight(edge) for edge in edges):
            if self._stop.wait(0.02):
                return

    def _raised(self, lane: Lane, node: str, exc: BaseException) -> None:
        error = node_error(self.assembly.graph.nodes[node], exc)
        self.abort(lane.name, node, f"node {node} raised", error)

    def abort(self, lane: str, node: str, reason: str, error: HaiheError) -> None:
        """Trip every guard and end the run with an error."""
        log.error("%s", error)
        self.outcome.failures.append((lane, node, error))
        self.outcome.reason = self.outcome.reason or reason
        self.post(("trip", reason))
        self._stop.set()
