"""The realtime executor: one thread per lane, one per stream device."""

import gc
import logging
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from haihe.runtime.clock import MILLISECOND, SECOND, now_ns, sleep_until
from haihe.runtime.errors import DeviceError, HaiheError
from haihe.runtime.exec.lane import Assembly, Lane, Sink, Timing, node_error, open_node
from haihe.runtime.graph import Graph
from haihe.runtime.guard.guard import Guard
from haihe.runtime.io import BusDevice, Port, StreamDevice
from haihe.runtime.plan.model import Plan
from haihe.runtime.record.format import Event

log = logging.getLogger(__name__)

IDLE_S = 0.1  # a triggered lane looks up this often when nothing comes
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


class _Interpreter:
    """Settings of the whole interpreter, while at least one executor runs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._interval = 0.0

    def enter(self) -> None:
        """A control lane waits at most 0.1 ms for the interpreter."""
        with self._lock:
            self._users += 1
            if self._users == 1:
                self._interval = sys.getswitchinterval()
                sys.setswitchinterval(1e-4)

    def freeze(self) -> None:
        """A full collection of what the imports left would cost tens of ms later."""
        gc.collect()
        gc.freeze()

    def leave(self) -> None:
        """The last one restores."""
        with self._lock:
            self._users -= 1
            if not self._users:
                gc.unfreeze()
                sys.setswitchinterval(self._interval)


_interpreter = _Interpreter()


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
    ) -> None:
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
        self._wakes = {lane.index: threading.Event() for lane in self.assembly.lanes}
        self._threads: list[tuple[Lane, threading.Thread]] = []
        self._readers: list[threading.Thread] = []
        for lane in self.assembly.lanes:
            lane.on_raise = self._raised
            if lane.task.trigger:
                slot = self.assembly.readers[lane.index, lane.task.trigger]
                slot.wake = self._wakes[lane.index].set

    def _sources(self) -> list[str]:
        sources: list[str] = []
        for lane in self.assembly.lanes:
            sources += [s for s in lane.task.reads if s.split(".")[0] in self.plan.streams]
        return list(dict.fromkeys(sources))

    # --- life ---------------------------------------------------------------------------------

    def start(self, *, arm: bool) -> None:
        """Open models and devices, then let the lanes go. Raises what opening raised."""
        self.state = "warming"
        _interpreter.enter()
        self._is_tuned = True
        for lane in self.assembly.lanes:
            thread = threading.Thread(
                target=self._lane, args=(lane,), name=f"haihe-{lane.name}", daemon=True
            )
            self._threads.append((lane, thread))
            thread.start()
        for _ in self._threads:
            if not self._ready.acquire(timeout=START_LIMIT_S):
                slow = ", ".join(f"{lane.name} ({lane.progress})" for lane, _ in self._threads)
                self.stop("start-up took too long")
                raise HaiheError(
                    f"start of {self.plan.graph}: not ready after {START_LIMIT_S:.0f} s; lanes: "
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
        _interpreter.freeze()
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
        for wake in self._wakes.values():
            wake.set()
        deadline = now_ns() + round(STOP_LIMIT_S * 1e9) + REST_LIMIT_NS
        for lane, thread in self._threads:
            if thread.ident is None:
                continue
            thread.join(max(0.05, (deadline - now_ns()) * 1e-9))
            if thread.is_alive() and lane.name not in self.outcome.hung:
                self.outcome.hung.append(lane.name)
                where = _where(thread) or lane.progress
                log.error("lane %s did not stop: it hangs at %s", lane.name, where)
                lane.flush(now_ns())  # what it recorded before
            deadline = min(deadline, now_ns() + round(STOP_LIMIT_S * 1e9))
        for reader in self._readers:  # they look up every IDLE_S; closing under them is not safe
            if reader.ident is not None:
                reader.join(10 * IDLE_S)
        for stream in self._streams.values():
            stream.close()
        if self._is_tuned:
            self._is_tuned = False
            _interpreter.leave()
        self.state = "safe"
        return self.outcome

    # --- threads ------------------------------------------------------------------------------

    def _lane(self, lane: Lane) -> None:
        try:
            self._open(lane)
        except Exception as exc:  # noqa: BLE001 - the supervisor: start() raises it again
            self.outcome.failures.append((lane.name, lane.progress, exc))
            self._ready.release()
            self._close(lane)
            return
        self._ready.release()
        self._go.wait()
        try:
            if lane.task.every_ns:
                self._periodic(lane)
            else:
                self._triggered(lane)
        except Exception as exc:
            log.exception("lane %s failed", lane.name)
            self.outcome.failures.append((lane.name, lane.progress, exc))
            self._stop.set()
        finally:
            try:
                self._make_safe(lane)
            except Exception as exc:
                log.exception("lane %s: the safe actions failed", lane.name)
                self.outcome.failures.append((lane.name, "safe actions", exc))
            finally:
                self._close(lane)

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

    def _periodic(self, lane: Lane) -> None:
        period, release = lane.task.every_ns, self.started_ns
        stopped = self._stop.is_set
        while not stopped():
            if period > 200 * MILLISECOND:
                self._stop.wait(max(0.0, (release - now_ns()) * 1e-9 - 0.01))
                if stopped():
                    return
            sleep_until(release)
            self._drive(lane.begin(release))
            now = now_ns()
            lane.after_firing(now)
            release += period
            if release < now:  # overrun: skip to the next place of the grid
                late = (now - release) // period + 1
                self.skipped[lane.name] += late
                release += late * period

    def _triggered(self, lane: Lane) -> None:
        slot = self.assembly.readers[lane.index, lane.task.trigger]
        wake, last = self._wakes[lane.index], 0
        while not self._stop.is_set():
            if not wake.wait(IDLE_S):
                lane.flush(now_ns())
                continue
            wake.clear()
            sample = slot.value
            if sample is None or sample[0] == last:
                continue
            last = self._drive(lane.begin(sample[3]))  # it may have got a newer one
            lane.after_firing(now_ns())

    def _drive(self, steps: Any) -> Any:
        """Run a lane's generator: do its exchanges; what nodes take has passed already."""
        reply = None
        try:
            while True:
                item = steps.send(reply)
                reply = None if item.__class__ is int else item.port.exchange(item.pending)
        except StopIteration as stop:
            return stop.value

    def _make_safe(self, lane: Lane) -> None:
        if not any(bus.guard is not None for bus in lane.buses):
            return
        period = lane.task.every_ns or 20 * MILLISECOND
        release = now_ns()
        deadline = release + REST_LIMIT_NS
        while not self._drive(lane.stop(now_ns, self.outcome.reason or "stop")):
            release += period
            if release > deadline:
                log.error("lane %s: the safe position was not reached", lane.name)
                break
            sleep_until(release)

    def _close(self, lane: Lane) -> None:
        for bus in lane.buses:
            if bus.port is not None:
                bus.port.close()
        for instance in lane.instances:
            if hasattr(instance, "close"):
                instance.close()
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
        slots = [i for i, edge in enumerate(self.plan.edges) if edge.kind == "slot"]
        while now_ns() < deadline and any(self.assembly.in_flight(edge) for edge in slots):
            if self._stop.wait(0.02):
                return

    def _raised(self, lane: Lane, node: str, exc: BaseException) -> None:
        error = node_error(self.assembly.graph.nodes[node], exc)
        log.error("%s", error)
        self.outcome.failures.append((lane.name, node, error))
        self.outcome.reason = self.outcome.reason or f"node {node} raised"
        self.post(("trip", f"node {node} raised"))
        self._stop.set()


def _where(thread: threading.Thread) -> str:
    """`file:line in function` of what a thread executes: of its innermost frame outside haihe's
    runtime, so a hanging node is named."""
    frame = sys._current_frames().get(thread.ident or 0)
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if not module.startswith(("haihe.runtime", "threading")):
            break
        frame = frame.f_back
    if frame is None:
        return ""
    return f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_qualname}"
