"""The virtual executor: a discrete-event run of the same stepping code on simulated time.

The semantics are those of `runtime/plan/timing.py`. Ties are part of the contract: completion, then
delivery, then release, then dispatch; releases in the plan's order of lanes (fastest first),
dispatches in its order of threads, all else in the order of scheduling. Exchanges reach the
emulator when their last byte arrives, so a plant is never stepped past an event that is still to
come.
"""

import heapq
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from haihe.runtime.clock import MILLISECOND, SECOND
from haihe.runtime.errors import HaiheError
from haihe.runtime.exec.assembly import Assembly, node_error, open_node
from haihe.runtime.exec.goals import GoalHandle
from haihe.runtime.exec.ladder import LOOK_NS, LadderWatch
from haihe.runtime.exec.lane import Lane, Sink, Timing
from haihe.runtime.exec.modes import Requests
from haihe.runtime.exec.processors import Contention, Processors
from haihe.runtime.exec.realtime import Outcome
from haihe.runtime.exec.supervision import RestartPolicy
from haihe.runtime.exec.virtual_links import process_link
from haihe.runtime.exec.virtual_processes import Processes
from haihe.runtime.exec.virtual_run import CuttablePort, Run, Thread, TimedPort
from haihe.runtime.exec.virtual_warden import VirtualWarden
from haihe.runtime.exec.wardens import WardenSpec
from haihe.runtime.graph import Graph
from haihe.runtime.guard.guard import Guard
from haihe.runtime.io import BusDevice, Exchange, Reply
from haihe.runtime.links.slot import Queue
from haihe.runtime.plan.model import Plan
from haihe.runtime.record.format import Event
from haihe.runtime.sim import SimCamera
from haihe.runtime.types import Message

if TYPE_CHECKING:
    from haihe.runtime.exec.faults import Faults

COMPLETION, DELIVERY, RELEASE, DISPATCH = range(4)
GRACE_NS = 50 * MILLISECOND  # for what runs to complete at the end, before the rest is made safe
STOP_LIMIT_NS = 3 * SECOND  # after that
START_NS = SECOND  # virtual time of the beginning: not 0, so that no stamp looks like "none"


@dataclass
class SimBus:
    """A bus device with its guard and its port in virtual time."""

    device: BusDevice
    guard: Guard | None
    port: TimedPort


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
        policies: Mapping[str, RestartPolicy] | None = None,
        start: Callable[[str, int], int] | None = None,
        wardens: Mapping[str, WardenSpec] | None = None,
    ) -> None:
        """policies, start: of the plan's processes, see `Processes`. wardens: by role of a bus."""
        self.now_ns = START_NS
        self.plan = plan
        self.processes = Processes(self, plan, policies or {}, start)
        now = self.now
        self.assembly = Assembly(
            graph,
            plan,
            {role: (bus.device, bus.guard) for role, bus in buses.items()},
            lambda _: Timing(now, now, mono),
            seed=seed,
            sink=sink,
            budgets=budgets,
            make_link=process_link(self.processes.by_name) if plan.processes or wardens else None,
        )
        self.processes.connect(self.assembly)
        self.requests = Requests(graph, plan, self.post)
        self.assembly.connect(self.post, self.requests.hear)
        self.ladders = LadderWatch(plan, self.assembly.nodes, self.post)
        self.outcome = Outcome()
        self.faults: Faults | None = None
        self.captures: list[int] = []
        self._cameras, self.sink, self._step_world = cameras, sink, step_world
        self._heap: list[tuple[int, int, int, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._execution, self._lateness = execution, lateness
        self.budgets = budgets or {}
        self._contention = contention or Contention()
        self._threads = [Thread(thread, i) for i, thread in enumerate(plan.threads)]
        self.runs = [self._run_of(lane, offsets or {}) for lane in self.assembly.lanes]
        self._processors = Processors(
            plan.threads,
            self._contention,
            lambda: self.now_ns - self.begin_ns,
            lambda t, action: self._push(self.begin_ns + t, COMPLETION, action),
        )
        self._sequences: dict[str, int] = {}
        self.stopping = False
        self.begin_ns = 0  # the first release
        self.ended_ns = 0  # when the stop began
        self._waiting: list[tuple[int, Callable[[], None]]] = []
        self.on_begin: Callable[[], None] = lambda: None
        self.wardens: list[VirtualWarden] = []
        for run in self.runs:
            for bus in run.lane.buses:
                bus.port = buses[bus.role].port
                if wardens is not None and bus.role in wardens:
                    self.wardens.append(VirtualWarden(self, run, bus, wardens[bus.role]))
            run.lane.on_raise = self._raised
            if run.lane.task.trigger:
                link = self.assembly.readers[run.lane.index, run.lane.task.trigger]
                link.wake = partial(self._arrive, run)
                if isinstance(link, Queue):
                    link.freed = self.dispatch_all

    def _run_of(self, lane: Lane, offsets: Mapping[str, int]) -> Run:
        thread = next(t for t in self._threads if lane.name in t.plan.lanes)
        process = self.processes.by_name[thread.plan.process]
        run = Run(lane, thread, offset_ns=offsets.get(lane.name, 0), process=process)
        process.runs.append(run)
        thread.runs.append(run)
        thread.runs.sort(key=lambda run: thread.plan.lanes.index(run.lane.name))
        return run

    def delivered(self, source: str) -> int:
        """Messages of a stream device so far."""
        return self._sequences.get(source, 0)

    def now(self) -> int:
        """Virtual time in ns."""
        return self.now_ns

    def post(self, event: Event, lanes: tuple[str, ...] = ()) -> None:
        """An event for these lanes, or for every lane with a guard."""
        for lane in self.assembly.lanes:
            has_guard = any(bus.guard is not None for bus in lane.buses)
            if lane.name in lanes if lanes else has_guard:
                lane.inbox.append(event)

    def mode(self, group: str, name: str) -> None:
        """Ask for a mode. Raises PlanError; see `Requests`."""
        self.requests.mode(group, name)

    def goal(self, name: str, request: Message) -> GoalHandle:
        """Ask for a goal. Raises PlanError; see `Requests`."""
        return self.requests.goal(name, request)

    def _look(self) -> None:
        self.ladders.look(self.now_ns)
        self.after(LOOK_NS, self._look)

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
                self._stop_all(self.outcome.reason or "end of the simulation")
            self.requests.close("the run has ended")
            for lane in self.assembly.lanes:
                lane.flush(self.now_ns)
                for instance in lane.instances:
                    if hasattr(instance, "close"):
                        instance.close()
        return self.outcome

    def _set_up(self, arm: bool) -> None:
        for run in self.runs:
            for step, instance in zip(run.lane.task.steps, run.lane.instances, strict=True):
                if hasattr(instance, "open"):
                    open_node(self.assembly.graph.nodes[step.name], instance)
            self._alone(run.lane.setup())
        begin = -(-self.now_ns // (10 * MILLISECOND)) * 10 * MILLISECOND
        self.now_ns = self.begin_ns = begin
        for wait, action in self._waiting:
            self._push(begin + wait, DELIVERY, action)
        self.on_begin()
        self.processes.begin(begin)
        if arm:
            self.post(("arm",))
        if self.ladders.ladders:
            self._look()
        for run in self.runs:
            if run.lane.task.every_ns:
                self._push_release(run, begin)
        for role, camera in self._cameras.items():
            first = begin + camera.first_ns
            self._push(first, DELIVERY, partial(self._capture, role, 0, first))

    def _go_on(self, end_ns: int) -> None:
        while self._heap and self._heap[0][0] < end_ns and not self.stopping:
            self._next()
        self.ended_ns = self.now_ns if self.stopping else end_ns
        self.stopping = True  # nothing new is started
        self._complete(GRACE_NS)

    def _complete(self, limit_ns: int) -> None:
        """Let what runs complete."""
        deadline = self.now_ns + limit_ns
        while self._heap and self._heap[0][0] <= deadline:
            running = (thread.running for thread in self._threads)
            if not any(run is not None and run.process.hears for run in running):
                break
            self._next()

    def _next(self) -> None:
        t, *_, action = heapq.heappop(self._heap)
        self.now_ns = max(t, self.now_ns)
        action()

    def _stop_all(self, reason: str) -> None:
        """Safe actions of every lane: of what still runs when it has completed, if it does."""
        self._make_safe(reason)
        self._complete(STOP_LIMIT_NS)
        for thread in self._threads:
            if thread.running is not None:
                self.outcome.hung.append(thread.plan.name)
        self._make_safe(reason)
        for run in self.runs:  # what did not stop is killed
            if run.steps is not None or run.process.is_stopped:
                self.processes.kill(run.process.name, "it did not stop")

    def _make_safe(self, reason: str) -> None:
        for run in self.runs:
            lane = run.lane
            if run.steps is not None or not run.process.hears or lane.stops:
                continue  # it runs, it is dead, or it is done
            deadline = self.now_ns + 3 * SECOND
            while not self._alone(lane.stop(self.now, reason)) and self.now_ns < deadline:
                self.now_ns += lane.task.every_ns or 20 * MILLISECOND
            for warden in self.wardens:
                if warden.run is run:
                    warden.disarm()

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
            reader = self.processes.reader_of(source)
            if not reader.hears:
                again = partial(self._deliver, role, message, capture)
                self.processes.keep(reader, role, again)
                return
            number = self._sequences[source] = self._sequences.get(source, 0) + 1
            if self.sink is not None:
                self.sink.stream(source, number, capture, self.now_ns, message)
            for slot in slots:
                slot.put((number, message, capture, self.now_ns))

    def _arrive(self, run: Run) -> None:
        """A triggered lane has a message: latest wins, or a job for each in its queue."""
        if run.lane.task.fifo or not run.arrivals:
            run.arrivals.append(self.now_ns)
        self._push_dispatch(run.thread)

    def _push_release(self, run: Run, earliest: int) -> None:
        place = self.begin_ns + run.offset_ns + run.releases * run.lane.task.every_ns
        t = max(earliest, place + self._lateness(run.lane.name, run.releases))
        self._push(t, RELEASE, partial(self._release, run, run.process.life), run.lane.index)

    def _release(self, run: Run, life: int) -> None:
        if self.stopping or run.process.life != life or not run.process.is_open:
            return
        if run.arrivals or run.thread.running is run:
            run.skipped += 1
        else:
            run.arrivals.append(self.now_ns)
            self._push_dispatch(run.thread)
        run.releases += 1
        self._push_release(run, self.now_ns + 1)

    def _push_dispatch(self, thread: Thread) -> None:
        self._push(self.now_ns, DISPATCH, partial(self._dispatch, thread), thread.index)

    def dispatch_all(self) -> None:
        """Let every thread look for a job."""
        for thread in self._threads:
            self._push_dispatch(thread)

    def _dispatch(self, thread: Thread) -> None:
        if thread.running is not None or self.stopping or self.now_ns < thread.late_until_ns:
            return
        run = thread.next_job()
        if run is None or not run.process.hears:
            return
        self.start(run, run.lane.begin(run.arrivals.popleft()), None)

    def start(self, run: Run, steps: Any, done: Callable[[], None] | None) -> None:
        """Begin what a lane does: a firing, or something else that is `done` at its end."""
        run.thread.running, run.steps, run.done = run, steps, done
        self._advance(run, steps, None)

    def _advance(self, run: Run, steps: Any, reply: Reply | None) -> None:
        """Go on with a firing until it asks for time."""
        if run.steps is not steps:
            return  # it was killed meanwhile
        if run.process.is_stopped:
            run.process.kept.append(partial(self._go_on_with, run, steps, reply))
            return
        run.sending = None
        item: Any = 0
        try:
            while item == 0:  # a node without a budget takes no time
                item = steps.send(reply)
                reply = None
                if item.__class__ is int:
                    item = self._execution(run.lane.name, run.lane.firing, item)
                    item += self.faults.delay_ns(run) if self.faults else 0
        except StopIteration:
            run.thread.running = run.steps = None
            if run.done is None:
                run.lane.after_firing(self.now_ns)
            else:
                run.done()
            self._push_dispatch(run.thread)
            return
        if item.__class__ is int:
            held = self._contention.held_ns.get(run.lane.name, 0)
            self._compute(run, steps, item, held)
        else:
            self._exchange(run, steps, item.port, item.pending)

    def _go_on_with(self, run: Run, steps: Any, reply: Reply | None) -> None:
        """After a stop; a reply that came meanwhile is stamped when it is read."""
        if reply is not None:
            done = max(reply.t_done_ns, self.now_ns)
            reply = Reply(reply.rx, reply.t_sent_ns, done, reply.error)
        self._advance(run, steps, reply)

    def _compute(self, run: Run, steps: Any, work_ns: int, held_ns: int) -> None:
        self._processors.compute(
            run.thread.index, work_ns, held_ns, lambda: self._advance(run, steps, None)
        )

    def pause(self, run: Run) -> None:
        """What a lane computes stands still, until its process goes on."""
        rest = self._processors.remove(run.thread.index) if run.thread.running is run else None
        if rest is not None:
            left, held = rest
            run.process.kept.append(partial(self._compute, run, run.steps, left, held))

    def abandon(self, run: Run) -> None:
        """What a lane does ends in the middle, and so does what it sends."""
        if run.sending is not None:
            port, exchange, begun = run.sending
            if isinstance(port, CuttablePort):
                port.cut(exchange, begun, self.now_ns)
        self._processors.remove(run.thread.index)
        run.steps.close()
        run.thread.running = run.steps = run.sending = None

    def _exchange(self, run: Run, steps: Any, port: TimedPort, exchange: Exchange) -> None:
        begun = self.now_ns
        run.sending = (port, exchange, begun)

        def arrived() -> None:
            if run.steps is not steps:
                return  # cut
            run.sending = None
            reply = port.exchange_at(exchange, begun)
            done = max(reply.t_done_ns, self.now_ns)
            self._push(done, COMPLETION, lambda: self._advance(run, steps, reply))

        self._push(begun + port.tx_time_ns(exchange), COMPLETION, arrived)

    def at(self, t_ns: int, action: Callable[[], Any]) -> None:
        """Do something at a time of this clock."""
        self._push(t_ns, DELIVERY, action)

    def release_again(self, run: Run) -> None:
        """A lane that has begun anew goes on at the next place of its grid."""
        every = run.lane.task.every_ns
        if every:
            gone = self.now_ns - self.begin_ns - run.offset_ns
            run.releases = max(run.releases, -(-gone // every))
            self._push_release(run, self.now_ns)

    def _raised(self, lane: Lane, node: str, exc: BaseException) -> None:
        error = node_error(self.assembly.graph.nodes[node], exc)
        self.fail(lane.name, node, f"node {node} raised", error)

    def fail(self, lane: str, node: str, reason: str, error: HaiheError) -> None:
        """Trip every guard and end the run with an error."""
        self.outcome.failures.append((lane, node, error))
        self.outcome.reason = self.outcome.reason or reason
        self.post(("trip", reason))
        # one more period, so that the trip is carried out and recorded as a firing
        wait = max(run.lane.task.every_ns for run in self.runs) or 20 * MILLISECOND
        self._push(self.now_ns + 2 * wait, RELEASE, self._end)
