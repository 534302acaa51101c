"""The other processes of a run, from the launcher's side: started, watched, started again, stopped.

Every process of the plan is a child that was given descriptors, and nothing else: a control socket,
memory for its counters and its records, an end of each edge to another process. None of it has a
name, so a kill -9 leaves nothing behind. The rules of restarts are supervision.py's.
"""

import logging
import os
import select
import socket
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from haihe.runtime import errors
from haihe.runtime.clock import SECOND, now_ns
from haihe.runtime.errors import HaiheError
from haihe.runtime.exec.arming import Arming
from haihe.runtime.exec.assembly import Assembly
from haihe.runtime.exec.child import Child
from haihe.runtime.exec.control import receive
from haihe.runtime.exec.goals import ASKED, FAILED
from haihe.runtime.exec.remote import Crossing, Ends, Outgoing, Ports, Receiver, crossings
from haihe.runtime.exec.supervision import RestartPolicy, State, Supervision, exit_cause
from haihe.runtime.exec.table import Table
from haihe.runtime.graph import LANE_MARK
from haihe.runtime.links.channel import slots_needed
from haihe.runtime.links.inlet import Inlet
from haihe.runtime.links.memory import reserve
from haihe.runtime.links.ring import Ring, create_ring
from haihe.runtime.plan.model import Plan
from haihe.runtime.record.format import Event
from haihe.runtime.record.sink import Records
from haihe.runtime.types import Message

log = logging.getLogger(__name__)

POLL_S = 0.05  # records are taken so often, and deadlines looked at
STOP_LIMIT_NS = 8 * SECOND  # safe positions, then the threads
SILENT_NS = 2 * SECOND  # of a child without a word, added to its `hang`


class Supervisor:
    """The processes of a plan besides the main one."""

    def __init__(
        self,
        plan: Plan,
        policies: Mapping[str, RestartPolicy],
        command: Sequence[str],
        job: Mapping[str, Any],
        *,
        kinds: Mapping[str, type[Message]],
        slot_bytes: Callable[[str], int],
        recorder: Records | None,
        record_bytes: int,
    ) -> None:
        """command: of a child; the number of the descriptor with its job is added. job: what a
        child must know besides its descriptors. kinds: message types by source. slot_bytes: of
        the largest message of a source. record_bytes: of records that may wait here."""
        self.plan, self._command, self._job = plan, tuple(command), dict(job)
        self._kinds, self._recorder = kinds, recorder
        self.crossings = crossings(plan)
        self.children: dict[str, Child] = {}
        self._rings: dict[str, int] = {}
        self._slot_bytes = slot_bytes
        self._record_bytes = record_bytes
        self.executor: Any = None
        self._lock = threading.RLock()
        self._thread = threading.Thread(target=self._watch, name="haihe-processes", daemon=True)
        self._stopping = threading.Event()
        self._started_ns = 0
        self._sticky: dict[tuple[Any, ...], tuple[Event, tuple[str, ...]]] = {}
        self.is_over = False
        self.ends = Ends()
        actuated = {x.name for x in plan.lanes if any(b.command_edge >= 0 for b in x.task.buses)}
        for name in plan.processes:
            fd = reserve(f"counters of {name}", Table.size(plan, name))
            lanes = tuple(lane.name for lane in plan.lanes_of(name))
            self.children[name] = Child(
                name,
                lanes,
                Supervision(name, policies.get(name, RestartPolicy(limit=0))),
                fd,
                Table(fd, plan, name),
                {lane: Arming() for lane in lanes if lane in actuated},
            )
        for crossing in self.crossings:
            if not crossing.maker:
                self._ring(crossing.source)
                self.ends.outlets[crossing.source] = self._outlet(crossing.source)

    # --- the household, as the executor sees it ------------------------------------------------

    def start(self) -> None:
        """Start every process; they open their models and devices."""
        first = self._connections(list(self.children))
        try:
            for child in self.children.values():
                self._spawn(child, first[child.name])
            self._connect(first[""])
        finally:
            for name in self.children:
                first[name].close()

    def wait_ready(self) -> None:
        """Until all of them are ready. Raises what went wrong in one of them."""
        while any(c.supervision.state is State.STARTING for c in self.children.values()):
            self._look(POLL_S)
            for child in self.children.values():
                if child.failure is not None:
                    raise child.failure
                if child.supervision.state in (State.GIVEN_UP, State.BACKING_OFF):
                    raise HaiheError(
                        f"process {child.name} did not start: {child.supervision.causes[-1]}. Its "
                        "last lines are above; `haihe run` without processes shows more."
                    )

    def go(self, started_ns: int, *, arm: bool) -> None:
        """Let them run."""
        self._started_ns = started_ns
        for child in self.children.values():
            self._let_go(child, arm)
        self._thread.start()

    def post(self, event: Event, lanes: tuple[str, ...]) -> None:
        """Give an event to lanes of theirs; () for every lane with a guard."""
        self._forward(event, lanes, None)

    def _forward(self, event: Event, lanes: tuple[str, ...], origin: Child | None) -> None:
        """To every other process that has one of these lanes. One that does not run gets it when
        it does: what lasts, as its newest, and what is asked of it."""
        with self._lock:
            if event[0] in ("param", "mode"):  # a process that is started again must know
                self._sticky[event[:-1]] = (event, lanes)
            for child in self.children.values():
                for lane, arming in child.arming.items():
                    if not lanes or lane in lanes:
                        arming.hear(event)
                if child is origin or (lanes and not any(lane in lanes for lane in child.lanes)):
                    continue
                if child.supervision.state is State.RUNNING:
                    child.tell("post", event, lanes)
                elif event[0] in ("ask", "goal", "cancel"):
                    child.waiting.append((event, lanes))

    def refresh(self, assembly: Assembly) -> None:
        """Bring the counters of their lanes' edges and nodes into the launcher's."""
        for child in self.children.values():
            for lane in child.lanes:
                child.table.load(assembly, lane)

    def stop(self, reason: str) -> list[str]:
        """Stop them, the ones with actuators first; gives the names of what hung."""
        if self.is_over:
            return []
        self._stopping.set()
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join()
        hung: list[str] = []
        for first in (True, False):
            group = [c for c in self.children.values() if bool(c.arming) is first]
            hung += self._stop(group, reason)
        if self.executor is not None:
            self.refresh(self.executor.assembly)
        for child in self.children.values():
            child.table.close()
            os.close(child.table_fd)
        for fd in self._rings.values():
            os.close(fd)
        self.is_over = True
        return hung

    def _stop(self, group: list[Child], reason: str) -> list[str]:
        for child in group:
            child.supervision.on_stop(now_ns())
            child.tell("stop", reason)
        deadline = now_ns() + STOP_LIMIT_NS
        while any(c.pidfd >= 0 for c in group) and now_ns() < deadline:
            self._look(POLL_S)
        hung = []
        for child in group:
            if child.pidfd >= 0:
                log.error("process %s did not stop: it is killed", child.name)
                hung.append(f"process {child.name}")
                child.kill("it did not stop")
                while child.pidfd >= 0:
                    self._look(POLL_S)
            hung += child.hung
            child.end_relay(self._recorder)
        return hung

    # --- ends of edges --------------------------------------------------------------------------

    def _ring(self, source: str) -> int:
        """Memory for the large arrays of a source; new for each life of its maker."""
        readers = [(c.quota, c.fifo) for c in self.crossings if c.source == source]
        fd = create_ring(source, slots_needed(readers, 4), self._slot_bytes(source))
        old = self._rings.get(source)
        if old is not None:
            os.close(old)
        self._rings[source] = fd
        return fd

    def _outlet(self, source: str) -> Outgoing:
        outlet = Outgoing(source, Ring(source, os.dup(self._rings[source])))
        outlet.table = None
        return outlet

    def _inlet(self, source: str, end: socket.socket, crossing: Crossing) -> Inlet:
        fd = os.dup(self._rings[source])
        return Inlet(source, self._kinds[source], end, fd, fifo=crossing.fifo)

    def _connections(self, names: list[str]) -> dict[str, "Ports"]:
        """New ends of every edge that touches these processes, by process."""
        ports = {name: Ports() for name in ("", *self.children)}
        for crossing in self.crossings:
            if crossing.maker in names and crossing.source not in ports[crossing.maker].sources:
                self._ring(crossing.source)
                ports[crossing.maker].sources.append(crossing.source)
            if crossing.maker in names or crossing.reader in names:
                out, into = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                ports[crossing.maker].outlets.append((crossing.source, out, crossing))
                ports[crossing.reader].inlets[crossing.source] = (into, crossing)
        return ports

    # --- one child ------------------------------------------------------------------------------

    def _spawn(self, child: Child, ports: "Ports") -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        job_fd = os.memfd_create("haihe-job", 0)
        try:
            if self._recorder is not None:
                child.begin_relay(self._record_bytes)
            rings = {source: self._rings[source] for source in (*ports.sources, *ports.inlets)}
            fds = {
                "control": theirs.fileno(),
                "table": child.table_fd,
                "record": child.relay_fd,
                "rings": rings,
                "outlets": [[source, end.fileno(), c.reader] for source, end, c in ports.outlets],
                "inlets": [[source, end.fileno()] for source, (end, _) in ports.inlets.items()],
            }
            job = {**self._job, "process": child.name, "life": child.lives, "fds": fds}
            os.write(job_fd, msgspec.msgpack.encode(job))
            keep = [theirs.fileno(), child.table_fd, job_fd, *rings.values()]
            keep += [child.relay_fd] if child.relay_fd >= 0 else []
            keep += [end.fileno() for end in ports.ends()]
            child.killed_for, child.failure = "", None
            child.popen = subprocess.Popen(
                [*self._command, str(job_fd)],
                pass_fds=keep,
                env={**os.environ, LANE_MARK: child.name},
                stdin=subprocess.DEVNULL,
            )
            child.pidfd = os.pidfd_open(child.popen.pid)
        except BaseException:
            ours.close()
            raise
        finally:
            os.close(job_fd)
            theirs.close()
        child.control = ours
        child.lives += 1
        child.heard_ns = now_ns()
        child.supervision.on_start(now_ns())

    def _restart(self, child: Child) -> None:
        """A new life: the others get new ends of the edges to it."""
        child.restart_at_ns = 0
        log.warning("process %s is started again", child.name)
        ports = self._connections([child.name])
        try:
            self._spawn(child, ports[child.name])
            self._connect(ports[""])
            for other in self.children.values():
                if other is child:
                    continue
                for source, (end, _) in ports[other.name].inlets.items():
                    other.tell("inlet", source, fds=[end.fileno(), self._rings[source]])
                for source, end, crossing in ports[other.name].outlets:
                    other.tell("outlet", source, crossing.reader, fds=[end.fileno()])
        finally:
            for name in self.children:
                ports[name].close()

    def _connect(self, ports: "Ports") -> None:
        """New ends in this process."""
        receiver: Receiver = self.executor.receiver
        for source, (end, crossing) in ports.inlets.items():
            receiver.connect(self._inlet(source, end, crossing))
        for source, end, crossing in ports.outlets:
            receiver.extend(source, end, crossing)

    # --- watching -------------------------------------------------------------------------------

    def _watch(self) -> None:
        while not self._stopping.is_set():
            try:
                self._look(POLL_S)
            except Exception as exc:
                log.exception("the watch over the processes failed")
                reason = "the watch over the processes failed"
                self.executor.abort("", "", reason, HaiheError(f"{reason}: {exc}"))
                return

    def _look(self, timeout_s: float) -> None:
        """What they say, who has died, what is due."""
        poll = select.poll()
        by_fd: dict[int, tuple[Child, bool]] = {}
        for child in self.children.values():
            if child.control is not None:
                by_fd[child.control.fileno()] = (child, True)
            if child.pidfd >= 0:
                by_fd[child.pidfd] = (child, False)
        for fd in by_fd:
            poll.register(fd, select.POLLIN)
        ready = [by_fd[fd] for fd, _ in poll.poll(timeout_s * 1000)]
        for child, is_control in sorted(ready, key=lambda one: not one[1]):
            if is_control:
                self._hear(child)
            else:
                self._bury(child)
        now = now_ns()
        for child in self.children.values():
            child.take_records(self._recorder)
            self._judge(child, now)

    def _judge(self, child: Child, now: int) -> None:
        supervision = child.supervision
        late = supervision.overdue(now)
        hang = supervision.policy.hang_ns
        silent = now - child.heard_ns
        if hang and supervision.state is State.RUNNING and silent > hang + SILENT_NS:
            late = late or f"nothing was heard of it for {silent * 1e-9:.1f} s"
        if late and not child.killed_for:
            log.error("process %s: %s: it is killed", child.name, late)
            child.kill(late)
        if child.restart_at_ns and now >= child.restart_at_ns and not self._stopping.is_set():
            self._restart(child)

    def _hear(self, child: Child) -> bool:
        """What it says next: whether it said something."""
        assert child.control is not None
        try:
            message, fds = receive(child.control, wait=False)
        except BlockingIOError:
            return False
        except EOFError:
            child.end_control()
            return False
        for fd in fds:
            os.close(fd)
        child.heard_ns = now_ns()
        kind, *rest = message
        if kind == "ready":
            child.supervision.on_ready(now_ns())
            if self._started_ns and not self._stopping.is_set():  # a new life joins the run
                self._rejoin(child)
        elif kind == "status":
            child.status = rest[0]
        elif kind == "post":
            event, lanes = tuple(rest[0]), tuple(rest[1])
            self.executor.receive(event, lanes)
            self._forward(event, lanes, child)
        elif kind == "told":
            self.executor.tell(tuple(rest[0]))
        elif kind == "failed":
            self._failed(child, *rest)
        elif kind == "hangs":
            log.error("process %s: %s", child.name, rest[0])
            child.kill(rest[0])
        elif kind == "ends":
            self.executor.outcome.reason = self.executor.outcome.reason or rest[0]
            self.executor.stopping.set()
        elif kind == "done":
            child.hung = list(rest[0])
        return True

    def _rejoin(self, child: Child) -> None:
        begun = {group.name for group in self.plan.groups if group.home in child.lanes}
        with self._lock:
            self._let_go(child, False)
            for lane, arming in child.arming.items():
                for event in arming.events():
                    child.tell("post", event, (lane,))
            held = {k: v for k, v in self._sticky.items() if k[0] != "mode" or k[1] not in begun}
            self.executor.requests.after_restart(child.lanes)
            for event, lanes in held.values():  # a mode may be newer than what was told of it
                child.tell("post", event, lanes)
            self._sticky |= held
            waiting, child.waiting = child.waiting, []
            for event, lanes in waiting:
                child.tell("post", event, lanes)
        still = "" if all(one.is_armed for one in child.arming.values()) else ", not armed"
        log.warning("process %s runs again%s", child.name, still)

    def _let_go(self, child: Child, arm: bool) -> None:
        with self._lock:
            if arm:
                for arming in child.arming.values():
                    arming.hear(("arm",))
            child.tell("go", self._started_ns, arm)
            child.supervision.on_running(now_ns())

    def _failed(self, child: Child, lane: str, node: str, kind: str, text: str) -> None:
        if self._started_ns and child.supervision.state is not State.RUNNING:  # a later life
            child.killed_for = child.killed_for or f"it could not start: {text}"
            return
        error = getattr(errors, kind, HaiheError)(text)
        child.failure = error
        if self._started_ns:
            self.executor.abort(lane, node, f"node {node} raised" if node else text, error)

    def _bury(self, child: Child) -> None:
        """A process has ended: take its last records, then restart it, or stop the run."""
        assert child.popen is not None
        while child.control is not None and self._hear(child):  # what it said last
            pass
        child.end_control()  # something that it started may still have its end
        code = child.popen.wait()
        cause = child.killed_for or exit_cause(code)
        os.close(child.pidfd)
        child.pidfd = -1
        child.end_relay(self._recorder)
        with self._lock:
            decision = child.supervision.on_death(now_ns(), cause)
            for lane, arming in child.arming.items():
                latched = child.table.is_latched(lane)
                arming.die(is_latched=latched, rearm=child.supervision.policy.rearm)
        self._fail_goals(child)
        if decision.restart_at_ns is not None and child.failure is None:
            log.error("process %s died: %s; it is started again", child.name, cause)
            child.restart_at_ns = decision.restart_at_ns
        elif decision.gives_up and child.failure is None and self._started_ns:
            reason = f"process {child.name} given up"
            self.executor.abort("", "", reason, HaiheError(decision.error))

    def _fail_goals(self, child: Child) -> None:
        """Goals that it was asked for and never took up: nobody else knows of them."""
        requests = self.executor.requests
        mine = {goal.name for goal in self.plan.goals if goal.lane in child.lanes}
        known = {event[2] for event, _ in child.waiting if event[0] == "goal"}
        for handle in list(requests.handles.values()):
            if handle.name in mine and handle.state == ASKED and handle.request not in known:
                why = "its process died"
                requests.hear(("goal", handle.name, handle.request, FAILED, 0.0, why))
