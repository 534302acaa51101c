"""The realtime executor: the plan's threads with their lanes, and one per stream device.

It runs a whole plan, or the part of it that belongs to one process: what comes from other
processes arrives through `Ends` (remote.py), what happens in them is the `Household`'s concern.
"""

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from haihe.runtime.clock import MILLISECOND, SECOND, now_ns
from haihe.runtime.errors import DeviceError, HaiheError
from haihe.runtime.exec.assembly import Assembly, node_error
from haihe.runtime.exec.goals import GoalHandle
from haihe.runtime.exec.ladder import LOOK_NS, LadderWatch
from haihe.runtime.exec.lane import Lane, Overrun, Sink, Timing
from haihe.runtime.exec.modes import Requests
from haihe.runtime.exec.realtime_settings import Settings
from haihe.runtime.exec.remote import Ends, Receiver, receivers
from haihe.runtime.exec.table import Table
from haihe.runtime.exec.threads import where
from haihe.runtime.exec.wardens import WardenSpec
from haihe.runtime.exec.worker import IDLE_S, REST_LIMIT_NS, Worker
from haihe.runtime.graph import Graph
from haihe.runtime.guard.guard import Guard
from haihe.runtime.io import BusDevice, Port, StreamDevice
from haihe.runtime.plan.model import Plan, ThreadPlan
from haihe.runtime.record.format import Event
from haihe.runtime.record.sink import Records
from haihe.runtime.types import Message

log = logging.getLogger(__name__)

START_LIMIT_S = 60.0
STOP_LIMIT_S = 3.0


@dataclass
class LiveBus:
    """A bus device with its guard and the way to open its port."""

    device: BusDevice
    guard: Guard | None
    open_port: Callable[[], Port]
    warden: WardenSpec | None = None  # None: it has none


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


class Household(Protocol):
    """The other processes of a run, as an executor sees them."""

    def start(self) -> None:
        """Start them; they open their models and devices."""
        ...

    def wait_ready(self) -> None:
        """Until all of them are ready. Raises what went wrong in one of them."""
        ...

    def go(self, started_ns: int, *, arm: bool) -> None:
        """Let them run."""
        ...

    def post(self, event: Event, lanes: tuple[str, ...]) -> None:
        """Give an event to lanes of theirs; () for every lane with a guard."""
        ...

    def refresh(self, assembly: Assembly) -> None:
        """Bring the counters of their lanes' edges and nodes into these."""
        ...

    def stop(self, reason: str) -> list[str]:
        """Stop them; gives the names of those that hung."""
        ...


class RealtimeExecutor:
    """Runs a plan, or one process' part of it, against the machine's clock."""

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
        *,
        process: str = "",
        ends: Ends | None = None,
        table: Table | None = None,
        household: Household | None = None,
    ) -> None:
        """budgets: by node, where they differ from the declared ones. on_overrun: called from the
        lane's thread when a node takes longer. process: whose part it runs. ends: of the edges to
        and from other processes. table: its counters, for the next life of this process."""
        self.plan = plan
        self.buses, self._streams, self._sink = buses, streams, sink
        self._table, self.household = table, household
        self.process = process
        self._outlets = ends.outlets if ends is not None else {}
        timing = Timing(now_ns, now_ns, now_ns)
        self.assembly = Assembly(
            graph,
            plan,
            {role: (bus.device, bus.guard) for role, bus in buses.items()},
            lambda _: timing,
            seed=seed,
            sink=sink,
            budgets=budgets,
            process=process if plan.processes else None,
            outlets=self._outlets,
        )
        self.requests = Requests(graph, plan, self.post)
        self.tell: Callable[[tuple[Any, ...]], None] = self.requests.hear
        self.assembly.connect(self.post, lambda told: self.tell(told))
        self.ladders = LadderWatch(plan, self.assembly.nodes, self.post)
        self.state = "cold"
        self.outcome = Outcome()
        self.skipped = {lane.name: 0 for lane in self.assembly.lanes}
        self.counts = {source: StreamCount() for source in self._sources()}
        self.started_ns = 0
        self.settings = Settings()
        self._is_tuned = False
        self.is_ready = threading.Semaphore(0)
        self.may_go = threading.Event()
        self.stopping = threading.Event()
        mine = [t for t in plan.threads if not plan.processes or t.process == process]
        self.workers = [Worker(thread, self) for thread in mine]
        self._readers: list[threading.Thread] = []
        for lane in self.assembly.lanes:
            lane.on_raise = self._raised
            if on_overrun is not None:
                lane.on_overrun = on_overrun
            worker = next(w for w in self.workers if lane.name in w.plan.lanes)
            worker.add(lane, self.assembly.readers.get((lane.index, lane.task.trigger)))
        for worker in self.workers:
            for lane in worker.lanes:
                for queue in lane.outlets:
                    queue.freed = worker.wake.set
        self.receiver: Receiver | None = None
        if ends is not None:
            records = sink if isinstance(sink, Records) else None
            thread = receivers(plan).get(process, ThreadPlan("receiver", ()))
            place = partial(self.settings.place, thread)
            self.receiver = Receiver(ends, self.assembly.slots, records, place)

    def _sources(self) -> list[str]:
        sources: list[str] = []
        for lane in self.assembly.lanes:
            sources += [s for s in lane.task.reads if s.split(".")[0] in self._streams]
        if self._streams:  # read here for other processes only
            sources += [s for s in self.assembly.slots if s.split(".")[0] in self._streams]
        return list(dict.fromkeys(sources))

    # --- life ---------------------------------------------------------------------------------

    def start(self, *, arm: bool) -> None:
        """Open models and devices, then let the lanes go. Raises what opening raised."""
        try:
            if self.household is not None:
                self.household.start()
            self.open()
            if self.household is not None:
                self.household.wait_ready()
        except BaseException:
            self.stop("start-up failed")
            raise
        started = now_ns() + 5 * MILLISECOND
        if self.household is not None:
            self.household.go(started, arm=arm)
        self.go(started, arm=arm)

    def open(self) -> None:
        """Open this process' models and devices. Raises what opening raised; `stop` it then."""
        self.state = "warming"
        self.settings.enter([worker.plan for worker in self.workers])
        self._is_tuned = True
        for worker in self.workers:
            worker.start()
        for _ in self.workers:
            if not self.is_ready.acquire(timeout=START_LIMIT_S):
                slow = ", ".join(
                    f"{w.plan.name} ({w.progress})" for w in self.workers if w.progress
                )
                self.outcome.reason = "start-up took too long"
                raise HaiheError(
                    f"start of {self.plan.graph}: not ready after {START_LIMIT_S:.0f} s; threads: "
                    f"{slow}. Look at the device or model named."
                )
        if self.outcome.failures:
            raise self.outcome.failures[0][2]
        for role, stream in self._streams.items():
            stream.open()
            outlet = next((o for s, o in self._outlets.items() if s.split(".")[0] == role), None)
            if outlet is not None and hasattr(stream, "allocate"):
                stream.allocate = outlet.place
            thread = threading.Thread(
                target=self._read, args=(role, stream), name=f"haihe-{role}", daemon=True
            )
            self._readers.append(thread)
        self.settings.freeze()
        if isinstance(self._sink, Records):
            self._sink.note("settings", self.settings.note(self.process))
        self.state = "ready"

    def go(self, started_ns: int, *, arm: bool) -> None:
        """Let the lanes run, periodic ones on a grid that begins at `started_ns`."""
        self.started_ns = started_ns
        if arm:
            self._deliver(("arm",), ())
            self.state = "armed"
        if self.receiver is not None:
            self.receiver.start()
        for thread in self._readers:
            thread.start()
        self.may_go.set()

    def post(self, event: Event, lanes: tuple[str, ...] = ()) -> None:
        """Send an event (arm, disarm, trip, reset, mode ...) to these lanes, or to every lane that
        has a guard; it applies at the start of the lane's next firing and is recorded there."""
        self._deliver(event, lanes)
        if self.household is not None:
            self.household.post(event, lanes)

    def receive(self, event: Event, lanes: tuple[str, ...]) -> None:
        """An event that another process has posted."""
        self._deliver(event, lanes)

    def _deliver(self, event: Event, lanes: tuple[str, ...]) -> None:
        for lane in self.assembly.lanes:
            has_guard = any(bus.guard is not None for bus in lane.buses)
            if lane.name in lanes if lanes else has_guard:
                lane.inbox.append(event)

    def set(self, node: str, key: str, value: Any) -> None:
        """Change a parameter of a node from its next firing on; recorded. Raises PlanError."""
        event = self.assembly.parameter(node, key, value)
        lane = next(
            one.name for one in self.plan.lanes if any(step.name == node for step in one.task.steps)
        )
        self.post(event, (lane,))

    def mode(self, group: str, name: str) -> None:
        """Ask for a mode. Raises PlanError; see `Requests`."""
        self.requests.mode(group, name)

    def goal(self, name: str, request: Message) -> GoalHandle:
        """Ask for a goal; the handle says what becomes of it. Raises PlanError."""
        return self.requests.goal(name, request)

    def wait(self, timeout_s: float) -> bool:
        """Wait until the run wants to end (a failure, the end of a stream): True if so. Meanwhile
        the ladders of the plan are looked at."""
        deadline = now_ns() + round(timeout_s * 1e9)
        while self.ladders.ladders and (left := deadline - now_ns()) > 0:
            if self.household is not None:
                self.household.refresh(self.assembly)
            self.ladders.look(now_ns())
            if self.stopping.wait(min(left, LOOK_NS) * 1e-9):
                return True
        return self.stopping.wait(max(0.0, (deadline - now_ns()) * 1e-9))

    def stop(self, reason: str) -> Outcome:
        """End the run: safe actions, ports and models closed, threads joined."""
        if not self.outcome.reason:
            self.outcome.reason = reason
        self.stopping.set()
        self.may_go.set()
        for worker in self.workers:
            worker.wake.set()
        if self.household is not None:
            self.outcome.hung += self.household.stop(self.outcome.reason)
        deadline = now_ns() + round(STOP_LIMIT_S * 1e9) + REST_LIMIT_NS
        for worker in self.workers:
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
        if self.receiver is not None:
            self.receiver.stop()
        if self._is_tuned:
            self._is_tuned = False
            self.settings.leave()
        self.requests.close("the run has ended")
        self.state = "safe"
        return self.outcome

    # --- streams ------------------------------------------------------------------------------

    def _read(self, role: str, stream: StreamDevice) -> None:
        sources = [s for s in self.counts if s.split(".")[0] == role]
        slots = [slot for source in sources for slot in self.assembly.slots[source]]
        self.may_go.wait()
        table = self._table
        sequence = max((table.sent(source) for source in sources), default=0) if table else 0
        try:
            while not self.stopping.is_set():
                found = stream.read(IDLE_S)
                if found is None:
                    continue
                message, capture = found
                sequence += 1
                delivered = now_ns()
                if table is not None:
                    for source in sources:
                        table.sending(source, sequence)
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
            self.stopping.set()
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
        edges = [
            number
            for number, edge in enumerate(self.plan.edges)
            if edge.kind in ("slot", "fifo") and edge.source in self.assembly.slots
            and self.assembly.is_read_here(number)
        ]  # fmt: skip
        while now_ns() < deadline and any(self.assembly.in_flight(edge) for edge in edges):
            if self.stopping.wait(0.02):
                return

    # --- failures -----------------------------------------------------------------------------

    def _raised(self, lane: Lane, node: str, exc: BaseException) -> None:
        error = node_error(self.assembly.graph.nodes[node], exc)
        self.abort(lane.name, node, f"node {node} raised", error)

    def abort(self, lane: str, node: str, reason: str, error: HaiheError) -> None:
        """Trip every guard and end the run with an error."""
        log.error("%s", error)
        self.outcome.failures.append((lane, node, error))
        self.outcome.reason = self.outcome.reason or reason
        self.post(("trip", reason))
        self.stopping.set()
