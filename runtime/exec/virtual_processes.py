"""Processes in virtual time: what dies with one, what waits while one is stopped, its restart.

What runs ends where it is; what waits for a dead reader is lost and counted; a stopped reader has
as many messages wait for it as a channel gives credits. When it is started again, and whether, says
`supervision.py`, as in real time.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from haihe.runtime.clock import MILLISECOND
from haihe.runtime.errors import DeviceError, HaiheError
from haihe.runtime.exec.assembly import Assembly, open_node
from haihe.runtime.exec.supervision import (
    LOOKS,
    HangWatch,
    RestartPolicy,
    Supervision,
)
from haihe.runtime.exec.virtual_links import Link, Process
from haihe.runtime.exec.virtual_run import Run
from haihe.runtime.guard import GuardState
from haihe.runtime.plan.model import Plan
from haihe.runtime.record.format import Event

if TYPE_CHECKING:
    from haihe.runtime.exec.virtual import VirtualExecutor

BUFFERED = 4  # messages of a stream device that wait for a stopped reader
START_NS = 300 * MILLISECOND  # a process needs to open its models, unless `start` says else
KILLED = "it was killed by SIGKILL"


class Processes:
    """The processes of a virtual run: kills, stops and restarts them."""

    def __init__(
        self,
        executor: "VirtualExecutor",
        plan: Plan,
        policies: Mapping[str, RestartPolicy],
        start: Callable[[str, int], int] | None,
    ) -> None:
        """policies: by process; without one it is not restarted. start: how long a process
        needs to open its models, in ns, by its name and the number of its restart."""
        self._executor, self._start = executor, start or (lambda name, number: START_NS)
        self.by_name: dict[str, Process] = {}
        for name in ("", *plan.processes):
            policy = policies.get(name, RestartPolicy(limit=0, hang_ns=0))
            supervision = Supervision(name, policy)
            self.by_name[name] = Process(name, supervision, HangWatch(policy.hang_ns))
        self.undelivered: dict[str, int] = {}  # of stream devices, while nobody read them
        self.on_death: Callable[[str, str], None] = lambda name, cause: None  # for judges

    def connect(self, assembly: Assembly) -> None:
        """The links count where the edges do."""
        for lane in assembly.lanes:
            for number in lane.task.ends:
                link = assembly.readers.get((lane.index, assembly.plan.edges[number].source))
                if isinstance(link, Link):
                    link.ends.append(assembly.edges[number])

    def reader_of(self, source: str) -> Process:
        """The process that reads a stream device."""
        return self.by_name[self._executor.plan.maker_process(source)]

    def keep(self, reader: Process, role: str, delivery: Callable[[], None]) -> None:
        """A message of a stream device that its reader cannot take now: a stopped one finds the
        first few when it goes on."""
        if reader.is_stopped and reader.is_open and len(reader.streamed) < BUFFERED:
            reader.streamed.append(role)
            reader.kept.append(delivery)
        else:
            self._lost(role)

    def _lost(self, role: str) -> None:
        self.undelivered[role] = self.undelivered.get(role, 0) + 1

    def begin(self, t: int) -> None:
        """The first release: everything runs."""
        for process in self.by_name.values():
            for step in ("on_start", "on_ready", "on_running"):
                getattr(process.supervision, step)(t)
            if process.name and process.supervision.policy.hang_ns:
                self._look(process, process.life)

    # --- dying --------------------------------------------------------------------------------

    def kill(self, name: str, cause: str = KILLED) -> None:
        """Kill a process where it is; what it was sending stays cut."""
        process, executor = self.by_name[name], self._executor
        if not process.is_alive:
            return
        now = executor.now_ns
        self.on_death(name, cause)
        process.events = self._latched(process)
        process.is_alive = process.is_open = process.is_stopped = False
        process.life += 1
        process.kept.clear()
        for role in process.streamed:
            self._lost(role)
        process.streamed.clear()
        for run in process.runs:
            self._end_of(run)
        for link in process.links:
            link.clear()
        executor.dispatch_all()  # writers that a full queue of it held back
        for warden in executor.wardens:
            if warden.run.process is process:
                warden.owner_died()
        if executor.stopping:
            return
        if not name:
            executor.outcome.reason = executor.outcome.reason or f"the main process died: {cause}"
            executor.stopping = True
            return
        decision = process.supervision.on_death(now, cause)
        if decision.error:
            self._give_up(process, decision.error)
        elif decision.restart_at_ns is not None:
            executor.at(decision.restart_at_ns, partial(self._restart, process, process.life))

    def _latched(self, process: Process) -> list[Event]:
        """What its guards must know in the next life: a trip stays, arming only if allowed."""
        guards = [bus.guard for run in process.runs for bus in run.lane.buses if bus.guard]
        tripped = [guard.reason for guard in guards if guard.state is GuardState.SAFE]
        if tripped:
            return [("trip", tripped[0])]
        is_armed = any(g.state in (GuardState.ARMED, GuardState.STALE) for g in guards)
        return [("arm",)] if is_armed and process.supervision.policy.rearm else []

    def _end_of(self, run: Run) -> None:
        """End what a lane does, and forget what waits."""
        executor, lane = self._executor, run.lane
        numbers = lane.numbers()
        if run.steps is not None:
            executor.abandon(run)
            for source in lane.task.publishes:
                self._record_orphan(source)
        for source in lane.task.publishes:
            for link in executor.assembly.slots[source]:
                if isinstance(link, Link):
                    link.skip(numbers[source])
        run.arrivals.clear()
        for instance in lane.instances:
            if hasattr(instance, "close"):
                instance.close()

    def _record_orphan(self, source: str) -> None:
        """What a lane had sent in the firing that it died in, before it could record it."""
        sink = self._executor.sink
        for link in self._executor.assembly.slots[source]:
            if sink is not None and isinstance(link, Link) and link.newest is not None:
                sink.orphan(source, link.newest)
                return

    def _give_up(self, process: Process, message: str) -> None:
        error = HaiheError(message)
        self._executor.fail(process.name, "process", f"process {process.name} given up", error)

    # --- living again -------------------------------------------------------------------------

    def _restart(self, process: Process, life: int) -> None:
        executor, supervision = self._executor, process.supervision
        if process.life != life or executor.stopping:
            return
        supervision.on_start(executor.now_ns)
        process.watch.reset()
        process.is_alive = True
        needed = self._start(process.name, len(supervision.restarts))
        deadline = executor.now_ns + supervision.policy.start_ns + 1
        executor.at(executor.now_ns + needed, partial(self._open, process, life))
        executor.at(deadline, partial(self._late, process, life))

    def _failed(self, process: Process, life: int, cause: str) -> None:
        if process.life == life:
            self.kill(process.name, cause)

    def _late(self, process: Process, life: int) -> None:
        overdue = process.supervision.overdue(self._executor.now_ns)
        if process.life == life and overdue:
            self.kill(process.name, overdue)

    def _open(self, process: Process, life: int) -> None:
        """Its lanes begin anew: models are open, devices are set up one after another."""
        executor = self._executor
        if process.life != life or executor.stopping:
            return
        if process.is_stopped:
            process.kept.append(partial(self._open, process, life))
            return
        for run in process.runs:
            lane = run.lane
            executor.assembly.renew(lane, lane.firing, lane.numbers(), executor.now_ns)
            for step, instance in zip(lane.task.steps, lane.instances, strict=True):
                if hasattr(instance, "open"):
                    open_node(executor.assembly.graph.nodes[step.name], instance)
        self._set_up(process, life, iter(list(process.runs)))

    def _set_up(self, process: Process, life: int, left: Iterator[Run]) -> None:
        for run in left:
            if run.lane.buses:
                done = partial(self._set_up, process, life, left)
                self._executor.start(run, self._attempt(process, run), done)
                return
        if process.life == life:
            self._go(process)

    def _attempt(self, process: Process, run: Run) -> Any:
        try:
            yield from run.lane.setup()
        except DeviceError as exc:
            now, life = self._executor.now_ns, process.life
            cause = f"it could not start: {exc}"
            self._executor.at(now, partial(self._failed, process, life, cause))
            yield 1 << 62  # it never gets further

    def _go(self, process: Process) -> None:
        executor = self._executor
        process.supervision.on_ready(executor.now_ns)
        process.supervision.on_running(executor.now_ns)
        process.is_open = True
        for run in process.runs:
            if any(bus.guard is not None for bus in run.lane.buses):
                run.lane.inbox.extend(process.events)
            executor.release_again(run)
        executor.requests.after_restart(run.lane.name for run in process.runs)
        if process.supervision.policy.hang_ns:
            self._look(process, process.life)

    def _look(self, process: Process, life: int) -> None:
        """The supervisor's look at the progress of a process."""
        executor, watch = self._executor, process.watch
        if process.life != life or executor.stopping:
            return
        lanes = {"": (0 if process.is_stopped else executor.now_ns, True)} | {
            run.lane.name: (2 * run.lane.firing + (run.steps is None), self._has_work(run, watch))
            for run in process.runs
        }
        hung = watch.look(executor.now_ns, lanes)
        if hung:
            self.kill(process.name, hung)
            return
        executor.at(executor.now_ns + watch.hang_ns // LOOKS, partial(self._look, process, life))

    @staticmethod
    def _has_work(run: Run, watch: HangWatch) -> bool:
        lane = run.lane
        if run.steps is not None or watch.is_always_at_work(lane.task.every_ns):
            return True
        waits = bool(run.arrivals) or any(
            link.waiting for link in run.process.links if isinstance(link, Link)
        )
        return waits and lane.may_start()

    # --- stopping -----------------------------------------------------------------------------

    def stop(self, name: str) -> None:
        """As SIGSTOP does: nothing of it moves, its devices and its peers go on."""
        process = self.by_name[name]
        if process.is_alive and not process.is_stopped:
            process.is_stopped = True
            for run in process.runs:
                self._executor.pause(run)

    def go_on(self, name: str) -> None:
        """As SIGCONT does."""
        process = self.by_name[name]
        if not process.is_alive or not process.is_stopped:
            return
        process.is_stopped = False
        process.streamed.clear()
        kept, process.kept = process.kept, []
        for action in kept:
            action()
        for link in process.links:
            link.go_on()
        self._executor.dispatch_all()
