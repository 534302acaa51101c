"""A process of a plan, from the inside: `haihe lane FD`, started by the launcher only.

It wires the graph anew from its file, plans it, and refuses to run another plan than the
launcher's. Then it does what it is told on the control socket; when that closes, the launcher is
dead: the actuators here are made safe, and the process ends.
"""

import logging
import os
import select
import signal
import socket
from typing import Any

import msgspec

from haihe.boards.unit import unit_from_text
from haihe.pipelines.devices import Places, live_buses, live_streams, place_cameras
from haihe.pipelines.launch import prepare
from haihe.pipelines.load import graph_of_recording
from haihe.pipelines.overruns import OverrunWatch
from haihe.pipelines.processes import kinds_of
from haihe.runtime.clock import MILLISECOND, now_ns
from haihe.runtime.errors import HaiheError, PlanError
from haihe.runtime.exec.assembly import Assembly
from haihe.runtime.exec.control import TEXT_LIMIT, receive, send
from haihe.runtime.exec.realtime import RealtimeExecutor
from haihe.runtime.exec.remote import Crossing, Ends, Outgoing, crossings
from haihe.runtime.exec.supervision import HangWatch
from haihe.runtime.exec.table import Table
from haihe.runtime.graph import LANE_MARK
from haihe.runtime.links.inlet import Inlet
from haihe.runtime.links.ring import Ring
from haihe.runtime.record.format import Event
from haihe.runtime.record.relay import RelayWriter
from haihe.runtime.telemetry.logs import log_as_told, plain
from haihe.runtime.telemetry.snapshot import encode, snapshot

log = logging.getLogger(__name__)
LOOK_S = 0.1
STATUS_NS = 400 * MILLISECOND


class _Outside:
    """The rest of the run, as the executor of this process sees it: the launcher starts, stops and
    waits; what is posted here goes to it, and from it to the others."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control

    def start(self) -> None:
        pass

    def wait_ready(self) -> None:
        pass

    def go(self, started_ns: int, *, arm: bool) -> None:
        pass

    def post(self, event: Event, lanes: tuple[str, ...]) -> None:
        send(self._control, ["post", event, lanes])

    def refresh(self, assembly: Assembly) -> None:
        pass

    def stop(self, reason: str) -> list[str]:
        return []


class LaneProcess:
    """One process of a plan."""

    def __init__(self, job: dict[str, Any], control: socket.socket) -> None:
        self.control = control
        self.name: str = job["process"]
        header, fds = job["header"], job["fds"]
        places = msgspec.convert(job["places"], Places)
        try:
            graph = graph_of_recording(header)
        except PlanError as exc:
            raise PlanError(
                f"process {self.name} imports the graph's file to wire it again: {exc} A graph "
                "with processes stands at the top level of its file, under no `if`."
            ) from exc
        os.environ.pop(LANE_MARK, None)  # what a node starts may be a program with a run of its own
        unit = header["unit"]
        prepared = prepare(graph, unit_from_text(unit["text"], unit["file"]))
        plan = prepared.plan
        if plan.hash != header["plan_hash"]:
            raise PlanError(
                f"{graph.file}: process {self.name} makes another plan of graph {graph.name} than "
                "the launcher did. The file changed meanwhile, or what it wires depends on more "
                "than itself: save it and start again, or wire it without random or time."
            )
        binding = place_cameras(prepared.binding, plan, places)
        self._crossings = crossings(plan)
        self._kinds = kinds_of(prepared)
        self.relay = RelayWriter(fds["record"], job["frames"]) if job["is_recorded"] else None
        self.table = Table(fds["table"], plan, self.name)
        self._is_strict = job["strict"]
        self._budgets: dict[str, int] = job["budgets"]
        watch = OverrunWatch(graph, plan, self.relay, job["budgets"], strict=self._is_strict)
        ends = self._ends(fds)
        self.executor = RealtimeExecutor(
            graph,
            plan,
            live_buses(binding, plan, places, self.name),
            live_streams(binding, plan, self.name),
            self.relay,
            header["seed"],
            job["budgets"],
            watch.overran,
            process=self.name,
            ends=ends,
            table=self.table,
            household=_Outside(control),
        )
        watch.executor = self.executor
        self.executor.tell = self._hand_on
        policy = prepared.binding.unit.unit.processes.get(self.name)
        self._hang = HangWatch(round(policy.hang * 1e9) if policy is not None else 0)
        now, lanes = now_ns(), self.executor.assembly.lanes
        for lane in lanes if job["life"] else ():
            self.table.load(self.executor.assembly, lane.name)
        for lane in lanes:
            lane.block_ns = 0  # each record is handed on at once: it outlives this process
            if job["life"]:
                self.table.go_on(self.executor.assembly, lane, now)
            self.table.watch(self.executor.assembly, lane)

    def _hand_on(self, told: tuple[Any, ...]) -> None:
        send(self.control, ["told", told])

    def _ends(self, fds: dict[str, Any]) -> Ends:
        ends, rings = Ends(), fds["rings"]
        for source in {source for source, _, _ in fds["outlets"]}:
            outlet = Outgoing(source, Ring(source, rings[source]))
            outlet.table = self.table
            ends.outlets[source] = outlet
        for source, end, reader in fds["outlets"]:
            crossing = self._crossing(source, reader)
            ends.outlets[source].add(
                socket.socket(fileno=end), crossing.quota, fifo=crossing.fifo, name=reader or "main"
            )
        for source, end in fds["inlets"]:
            ends.inlets[source] = self._inlet(source, end, rings[source])
        return ends

    def _crossing(self, source: str, reader: str) -> Crossing:
        return next(c for c in self._crossings if (c.source, c.reader) == (source, reader))

    def _inlet(self, source: str, end: int, ring: int) -> Inlet:
        fifo = self._crossing(source, self.name).fifo
        return Inlet(source, self._kinds[source], socket.socket(fileno=end), ring, fifo=fifo)

    def run(self) -> int:
        """Until the launcher says stop, or is gone. Gives the exit code."""
        self.executor.open()
        send(self.control, ["ready"])
        poll = select.poll()
        poll.register(self.control, select.POLLIN)
        told, status_ns = False, 0
        while True:
            if poll.poll(LOOK_S * 1000):
                try:
                    message, given = receive(self.control)
                except EOFError:
                    log.error("process %s: the launcher is gone", self.name)
                    self.executor.stop("the launcher died")
                    return 1
                if message[0] == "stop":
                    return self._end(message[1])
                self._do(message, given)
            if self.executor.stopping.is_set() and not told:
                told = True
                self._tell()
            now = now_ns()
            if now - status_ns > STATUS_NS:
                status_ns = now
                send(self.control, ["status", self._status()], wait=False)
                self._look_for_hangs(now)

    def _do(self, message: list[Any], given: list[int]) -> None:
        kind, *rest = message
        executor = self.executor
        if kind == "go":
            executor.go(rest[0], arm=rest[1])
        elif kind == "post":
            executor.receive(tuple(rest[0]), tuple(rest[1]))
        elif kind == "inlet":
            assert executor.receiver is not None
            executor.receiver.connect(self._inlet(rest[0], *given))
        elif kind == "outlet":
            assert executor.receiver is not None
            source, reader = rest
            end = socket.socket(fileno=given[0])
            executor.receiver.extend(source, end, self._crossing(source, reader))

    def _status(self) -> bytes:
        return encode(snapshot(self.executor, budgets=self._budgets))

    def _tell(self) -> None:
        """Why this process wants the run to end."""
        outcome = self.executor.outcome
        if not outcome.failures:
            send(self.control, ["ends", outcome.reason])
            return
        lane, node, exc = outcome.failures[0]
        send(self.control, ["failed", lane, node, *_told(exc)])

    def terminate(self, number: int, frame: object) -> None:
        """SIGTERM to one process of a run ends all of it, as it does to the launcher."""
        outcome = self.executor.outcome
        outcome.reason = outcome.reason or "SIGTERM"
        self.executor.stopping.set()

    def _look_for_hangs(self, now: int) -> None:
        if not self._hang.hang_ns or not self.executor.may_go.is_set():
            return
        progress: dict[str, tuple[int, bool]] = {}
        for worker in self.executor.workers:
            progress |= worker.progress_of_lanes(self._hang.is_always_at_work)
        why = self._hang.look(now, progress)
        if why:
            send(self.control, ["hangs", why])

    def _end(self, reason: str) -> int:
        outcome = self.executor.stop(reason)
        send(self.control, ["status", self._status()])
        send(self.control, ["done", outcome.hung])
        if outcome.hung:  # a thread that never returns must not keep the process
            os._exit(1)
        return 0


def serve(fd: int) -> int:
    """Run the process whose job is in that descriptor. Gives the exit code."""
    with os.fdopen(fd, "rb") as stream:
        stream.seek(0)
        job = msgspec.msgpack.decode(stream.read())
    if log_as_told(job["process"]) is None:
        logging.basicConfig(format=plain(job["process"]))
    # not ignored, which what a node starts would inherit: the launcher says when to stop
    signal.signal(signal.SIGINT, lambda number, frame: None)
    fds = job["fds"]
    held = [fd for fd in (fds["control"], fds["table"], fds["record"]) if fd >= 0]
    held += [*fds["rings"].values(), *(end for _, end, *_ in (*fds["outlets"], *fds["inlets"]))]
    for one in held:  # nor these: the end of an edge must end with this process
        os.set_inheritable(one, False)
    control = socket.socket(fileno=fds["control"])
    process = None
    try:
        process = LaneProcess(job, control)
        signal.signal(signal.SIGTERM, process.terminate)
        return process.run()
    except Exception as exc:  # whatever it is, the actuators here are made safe
        if not isinstance(exc, HaiheError):
            log.exception("process %s failed", job["process"])
        send(control, ["failed", "", "", *_told(exc)])
        if process is not None:
            process.executor.stop("the process failed")
        return 1
    finally:
        control.close()


def _told(exc: BaseException) -> tuple[str, str]:
    """Class and text of an error for the launcher."""
    if isinstance(exc, HaiheError):
        return type(exc).__name__, str(exc)[:TEXT_LIMIT]
    return "HaiheError", f"{type(exc).__name__}: {exc}"[:TEXT_LIMIT]
