"""The virtual executor: a discrete-event run of the same stepping code on simulated time.

The semantics are those of `runtime/plan/timing.py`. Ties are part of the contract: completion, then
delivery, then release, then dispatch; releases in the plan's order of lanes (fastest first),
dispatches in its order of threads, all else in the order of scheduling. Exchanges reach the
emulator when their last byte arrives, so a plant is never stepped past an event that is still to
come.
"""

import heapq
import itertools
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from haihe.runtime.clock import MILLISECOND, SECOND
from haihe.runtime.exec.assembly import Assembly, node_error, open_node
from haihe.runtime.exec.lane import Lane, Sink, Timing
from haihe.runtime.exec.processors import Contention, Processors
from haihe.runtime.exec.realtime import Outcome
from haihe.runtime.graph import Graph
from haihe.runtime.guard.guard import Guard
from haihe.runtime.io import BusDevice, Exchange, Reply
from haihe.runtime.links.slot import Queue
from haihe.runtime.plan.model import Plan, ThreadPlan
from haihe.runtime.record.format import Event
from haihe.runtime.sim import SimCamera

COMPLETION, DELIVERY, RELEASE, DISPATCH = range(4)
START_NS = SECOND  # virtual time of the beginning: not 0, so that no stamp looks like "none"


class TimedPort(Protocol):
    """What virtual time asks of a port; `drivers/ports/virtual.py` is one."""

    def tx_time_ns(self, exchange: Exchange) -> int:
        """From the first byte sent to the last byte arrived."""
        ...

    def exchange_at(self, exchange: Exchange, t_ns: int) -> Reply:
        """The exchange begun at `t_ns`; called when its last byte has arrived."""
        ...


@dataclass
class SimBus:
    """A bus device with its guard and its port in virtual time."""

    device: BusDevice
    guard: Guard | None
    port: TimedPort


@dataclass(eq=False)
class _Run:
    """A lane on its thread."""

    lane: Lane
    thread: "_Thread"
    arrivals: deque[int] = field(default_factory=deque)  # of jobs that wait; one, but for a queue
    skipped: int = 0  # releases
    offset_ns: int = 0  # of its grid
    releases: int = 0


@dataclass(eq=False)
class _Thread:
    plan: ThreadPlan
    index: int
    runs: list[_Run] = field(default_factory=list)
    running: _Run | None = None

    def next_job(self) -> _Run | None:
        """Which lane's job is dispatched."""
        waiting = [run for run in self.runs if run.arrivals and run.lane.may_start()]
        if self.plan.policy == "fifo":
            return min(waiting, key=lambda run: run.arrivals[0], default=None)
        return waiting[0] if waiting else None


Execution = Callable[[str, int, int], int]  # lane, firing, planned ns -> ns


class VirtualExecutor:
    """Runs a plan in virtual time. Execution times are the nodes' budgets, or `budgets`, or what
    `execution` makes of their sum. offsets: by periodic lane, when its grid begins. lateness: of a
    lane's release number 0, 1 ... after its place on the grid, in ns. mono: a clock
    for the real times of nodes, which decide nothing here."""

    def __init__(
        self,
        graph: Graph,
        plan: Plan,
        buses: Mapping[str, SimBus],
        cameras: Mapping[str, SimCamera],
        *,
        sink: Sink | None = None,
        seed: int = 0,
        budgets: Mapping[str, int] | None = None,
        step_world: Callable[[int], None] = lambda t: None,
        execution: Execution = lambda lane, firing, planned: planned,
        offsets: Mapping[str, int] | None = None,
        lateness: Callable[[str, int], int] = lambda lane, number: 0,
        contention: Contention | None = None,
        mono: Callable[[], int] = lambda: 0,
    ) -> None:
        self.now_ns = START_NS
        self.plan = plan
        now = self.now
        self.assembly = Assembly(
            graph,
            plan,
            {role: (bus.device, bus.guard) for role, bus in buses.items()},
            lambda _: Timing(now, now, mono),
            seed=seed,
            sink=sink,
            budgets=budgets,
        )
        self.outcome = Outcome()
        self.captures: list[int] = []
        self._cameras, self._sink, self._step_world = cameras, sink, step_world
        self._heap: list[tuple[int, int, int, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._execution, self._lateness = execution, lateness
        self._contention = contention or Contention()
        self._threads = [_Thread(thread, i) for i, thread in enumerate(plan.threads)]
        self._runs = [self._run_of(lane, offsets or {}) for lane in self.assembly.lanes]
        self._processors = Processors(
            plan.threads,
            self._contention,
            lambda: self.now_ns - self.begin_ns,
            lambda t, action: self._push(self.begin_ns + t, COMPLETION, action),
        )
        self._sequences: dict[str, int] = {}
        self.stopping = False
        self.begin_ns = 0  # the first release
        self._waiting: list[tuple[int, Callable[[], None]]] = []
        self.on_begin: Callable[[], None] = lambda: None
        for run in self._runs:
            for bus in run.lane.buses:
                bus.port = buses[bus.role].port
            run.lane.on_raise = self._raised
            if run.lane.task.trigger:
                link = self.assembly.readers[run.lane.index, run.lane.task.trigger]
                link.wake = partial(self._arrive, run)
                if isinstance(link, Queue):
                    link.freed = self._dispatch_all

    def _run_of(self, lane: Lane, offsets: Mapping[str, int]) -> _Run:
        thread = next(t for t in self._threads if lane.name in t.plan.lanes)
        run = _Run(lane, thread, offset_ns=offsets.get(lane.name, 0))
        thread.runs.append(run)
        thread.runs.sort(key=lambda run: thread.plan.lanes.index(run.lane.name))
        return run

    def now(self) -> int:
        """Virtual time in ns."""
        return self.now_ns

    def post(self, event: Event) -> None:
        """An event for every lane with a guard."""
        for lane in self.assembly.lanes:
            if any(bus.guard is not None for bus in lane.buses):
                lane.inbox.append(event)

    def set(self, node: str, key: str, value: Any) -> None:
        """Change a parameter from the node's next firing on. Raises PlanError."""
        self.assembly.set_parameter(node, key, value)

    def after(self, wait_ns: int, action: Callable[[], None]) -> None:
        """Do something later, counted from now (a fault, an event of a scenario); before the run,
        from the first release."""
        if self.begin_ns:
            self._push(self.now_ns + wait_ns, DELIVERY, action)
        else:
            self._waiting.append((wait_ns, action))

    def _push(self, t: int, rank: int, action: Callable[[], None], place: int = 0) -> None:
        heapq.heappush(self._heap, (t, rank, place, next(self._order), action))

    # --- the run ------------------------------------------------------------------------------

    def run(self, duration_ns: int, *, arm: bool = True) -> Outcome:
        """Set up, run for a duration from the first release, stop safely."""
        try:
            self._set_up(arm)
            self._go_on(self.begin_ns + duration_ns)
        finally:
            if self.begin_ns:
                self._make_safe(self.outcome.reason or "end of the simulation")
            for lane in self.assembly.lanes:
                lane.flush(self.now_ns)
                for instance in lane.instances:
                    if hasattr(instance, "close"):
                        instance.close()
        return self.outcome

    def _set_up(self, arm: bool) -> None:
        for run in self._runs:
            for step, instance in zip(run.lane.task.steps, run.lane.instances, strict=True):
                if hasattr(instance, "open"):
                    open_node(self.assembly.graph.nodes[step.name], instance)
            self._alone(run.lane.setup())
        begin = -(-self.now_ns // (10 * MILLISECOND)) * 10 * MILLISECOND
        self.now_ns = self.begin_ns = begin
        for wait, action in self._waiting:
            self._push(begin + wait, DELIVERY, action)
        self.on_begin()
        if arm:
            self.post(("arm",))
        for run in self._runs:
            if run.lane.task.every_ns:
                self._push_release(run, begin)
        for role, camera in self._cameras.items():
            first = begin + camera.first_ns
            self._push(first, DELIVERY, partial(self._capture, role, 0, first))

    def _go_on(self, end_ns: int) -> None:
        while self._heap and self._heap[0][0] < end_ns and not self.stopping:
            self._next()
        # let what runs complete; start nothing new
        self.stopping = True
        while any(thread.running for thread in self._threads) and self._heap:
            self._next()

    def _next(self) -> None:
        t, *_, action = heapq.heappop(self._heap)
        self.now_ns = max(t, self.now_ns)
        action()

    def _make_safe(self, reason: str) -> None:
        for lane in self.assembly.lanes:
            deadline = self.now_ns + 3 * SECOND
            while not self._alone(lane.stop(self.now, reason)) and self.now_ns < deadline:
                self.now_ns += lane.task.every_ns or 20 * MILLISECOND
            lane.flush(self.now_ns)

    def _alone(self, steps: Any) -> Any:
        """Drive a generator to its end with nothing else going on."""
        reply = None
        try:
            while True:
                item = steps.send(reply)
                reply = None
                if item.__class__ is not int:
                    t = self.now_ns
                    reply = item.port.exchange_at(item.pending, t)
                    self.now_ns = max(reply.t_done_ns, t)
        except StopIteration as stop:
            return stop.value

    # --- events -------------------------------------------------------------------------------

    def _capture(self, role: str, index: int, t: int) -> None:
        if self.stopping:
            return
        camera = self._cameras[role]
        self._step_world(t)
        try:
            message, latency = camera.capture(index, t)
        except EOFError:
            self.outcome.reason = self.outcome.reason or f"{role}: end of stream"
            self._push(t + SECOND // 2, RELEASE, self._end)
            return
        self.captures.append(t)
        if message is not None:
            self._push(t + latency, DELIVERY, lambda: self._deliver(role, message, t))
        following = t + camera.period_ns
        self._push(following, DELIVERY, lambda: self._capture(role, index + 1, following))

    def _end(self) -> None:
        self.stopping = True

    def _deliver(self, role: str, message: Any, capture: int) -> None:
        for source, slots in self.assembly.slots.items():
            if source.split(".")[0] != role:
                continue
            number = self._sequences[source] = self._sequences.get(source, 0) + 1
            if self._sink is not None:
                self._sink.stream(source, number, capture, self.now_ns, message)
            for slot in slots:
                slot.put((number, message, capture, self.now_ns))

    def _arrive(self, run: _Run) -> None:
        """A triggered lane has a message: latest wins, or a job for each in its queue."""
        if run.lane.task.fifo or not run.arrivals:
            run.arrivals.append(self.now_ns)
        self._push_dispatch(run.thread)

    def _push_release(self, run: _Run, earliest: int) -> None:
        place = self.begin_ns + run.offset_ns + run.releases * run.lane.task.every_ns
        t = max(earliest, place + self._lateness(run.lane.name, run.releases))
        self._push(t, RELEASE, partial(self._release, run), run.lane.index)

    def _release(self, run: _Run) -> None:
        if self.stopping:
            return
        if run.arrivals or run.thread.running is run:
            run.skipped += 1
        else:
            run.arrivals.append(self.now_ns)
            self._push_dispatch(run.thread)
        run.releases += 1
        self._push_release(run, self.now_ns + 1)

    def _push_dispatch(self, thread: _Thread) -> None:
        self._push(self.now_ns, DISPATCH, partial(self._dispatch, thread), thread.index)

    def _dispatch_all(self) -> None:
        for thread in self._threads:
            self._push_dispatch(thread)

    def _dispatch(self, thread: _Thread) -> None:
        if thread.running is not None or self.stopping:
            return
        run = thread.next_job()
        if run is None:
            return
        thread.running = run
        self._advance(run, run.lane.begin(run.arrivals.popleft()), None)

    def _advance(self, run: _Run, steps: Any, reply: Reply | None) -> None:
        """Go on with a firing until it asks for time."""
        item: Any = 0
        try:
            while item == 0:  # a node without a budget takes no time
                item = steps.send(reply)
                reply = None
                if item.__class__ is int:
                    item = self._execution(run.lane.name, run.lane.firing, item)
        except StopIteration:
            run.thread.running = None
            run.lane.after_firing(self.now_ns)
            self._push_dispatch(run.thread)
            return
        if item.__class__ is int:
            held = self._contention.held_ns.get(run.lane.name, 0)
            self._processors.compute(
                run.thread.index, item, held, lambda: self._advance(run, steps, None)
            )
        else:
            self._exchange(run, steps, item.port, item.pending)

    def _exchange(self, run: _Run, steps: Any, port: TimedPort, exchange: Exchange) -> None:
        begun = self.now_ns

        def arrived() -> None:
            reply = port.exchange_at(exchange, begun)
            done = max(reply.t_done_ns, self.now_ns)
            self._push(done, COMPLETION, lambda: self._advance(run, steps, reply))

        self._push(begun + port.tx_time_ns(exchange), COMPLETION, arrived)

    def _raised(self, lane: Lane, node: str, exc: BaseException) -> None:
        error = node_error(self.assembly.graph.nodes[node], exc)
        self.outcome.failures.append((lane.name, node, error))
        self.outcome.reason = self.outcome.reason or f"node {node} raised"
        self.post(("trip", f"node {node} raised"))
        # one more period, so that the trip is carried out and recorded as a firing
        wait = max(run.lane.task.every_ns for run in self._runs) or 20 * MILLISECOND
        self._push(self.now_ns + 2 * wait, RELEASE, self._end)
