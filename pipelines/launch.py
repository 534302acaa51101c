"""From a graph to a run: bind to a unit, plan, execute in virtual or real time, record."""

import contextlib
import dataclasses
import logging
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from haihe.boards.binding import Binding, BoundDevice, bind, replace_driver
from haihe.boards.unit import UnitFile, find_unit, load_unit
from haihe.pipelines.overruns import OverrunWatch, known_budgets
from haihe.pipelines.series import Plottable
from haihe.pipelines.tap import Tap
from haihe.pipelines.worlds.process import WorldProcess
from haihe.runtime.clock import now_ns
from haihe.runtime.errors import BoardError, PlanError, RecordError
from haihe.runtime.exec.assembly import Assembly
from haihe.runtime.exec.realtime import LiveBus, Outcome, RealtimeExecutor
from haihe.runtime.exec.virtual import START_NS, SimBus, VirtualExecutor
from haihe.runtime.graph import Graph
from haihe.runtime.io import Port
from haihe.runtime.plan.build import make_plan
from haihe.runtime.plan.model import Plan
from haihe.runtime.record.recorder import Recorder
from haihe.runtime.record.sink import Frames
from haihe.runtime.units import duration_ns

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A graph, bound and planned."""

    graph: Graph
    binding: Binding
    plan: Plan

    def header(self, seed: int, mode: str, sim: bool) -> dict[str, Any]:
        """What a recording must hold to be replayed."""
        import msgspec

        return {
            "graph": self.graph.name,
            "source": {"file": self.graph.file, **self.graph.origin},
            "plan": msgspec.to_builtins(self.plan),
            "plan_hash": self.plan.hash,
            "unit": {
                "name": self.binding.unit.unit.unit,
                "file": self.binding.unit.file,
                "text": self.binding.unit.text,
            },
            "seed": seed,
            "mode": mode,
            "sim": sim,
        }


def prepare(graph: Graph, unit: str | Path | UnitFile | None = None) -> Prepared:
    """Bind a graph to a unit (an argument, HAIHE_UNIT, or unit.yaml beside it) and plan it."""
    if not isinstance(unit, UnitFile):
        beside = Path(graph.file).parent
        unit = load_unit(find_unit(str(unit) if unit else None, beside))
    binding = bind(graph, unit)
    plan = make_plan(graph, binding.timings(), binding.placements())
    binding.check_threads(plan)
    return Prepared(graph, binding, plan)


def budgets_ns(graph: Graph, budgets: Mapping[str, str]) -> dict[str, int]:
    """Execution times by node, read. Raises PlanError for a node that is not there."""
    for name in budgets:
        if name not in graph.nodes:
            raise PlanError(
                f"budgets: graph {graph.name} has no node {name!r}. It has: "
                f"{', '.join(graph.nodes)}."
            )
    return {name: duration_ns(text, f"budget of {name}") for name, text in budgets.items()}


@dataclasses.dataclass
class Simulation(Plottable):
    """A finished run in virtual time; its series over time: pipelines/series.py."""

    outcome: Outcome
    executor: VirtualExecutor
    world: Any
    times: list[float]  # s since the first release
    truth: dict[str, list[float]]  # the world's truth at those times, SI
    recording: Path | None = None
    tap: Tap | None = None

    def __repr__(self) -> str:
        firings = {lane.name: lane.firing for lane in self.executor.assembly.lanes}
        failures = [str(exc) for _, _, exc in self.outcome.failures]
        return f"<simulation: {self.outcome.reason or 'whole'}; firings {firings}; {failures=}>"

    def rms(self, name: str, after_s: float = 2.0) -> float:
        """Root mean square of a named truth, leaving out the beginning."""
        values = [v for t, v in zip(self.times, self.truth[name], strict=True) if t >= after_s]
        return float((sum(v * v for v in values) / max(1, len(values))) ** 0.5)


def simulate(
    graph: Graph,
    duration: str = "10s",
    *,
    unit: str | Path | UnitFile | None = None,
    seed: int = 0,
    world: Mapping[str, Any] | None = None,
    budgets: Mapping[str, str] | None = None,
    record: str | Path | None = None,
    frames: Frames = "lossless",
    prepare_run: Callable[[VirtualExecutor, Any], None] | None = None,
    capture: bool = True,
    mono: Callable[[], int] = lambda: 0,
) -> Simulation:
    """Run a graph in virtual time in the simulated world of its unit.

    world: options of the world to override. budgets: execution times by node, where they differ
    from the declared ones. prepare_run: called before the start, to schedule faults and events.
    capture: keep what the result's series show (False: the world's truth only). mono: a clock for
    the nodes' real execution times, which go into their statistics.
    """
    from haihe.drivers.ports.virtual import VirtualPort
    from haihe.pipelines.worlds.serve import make_world

    prepared = prepare(graph, unit)
    plan, binding = prepared.plan, prepared.binding
    length = duration_ns(duration)
    times_ns = budgets_ns(graph, budgets or {})
    sim_world: Any = make_world(binding.unit, seed, dict(world or {}))
    bound = binding.buses(plan)
    for role in bound:
        if role not in sim_world.emulators:
            raise BoardError(_not_simulated(binding.devices[role], sim_world.emulators))
    buses = {
        role: SimBus(
            device, guard, VirtualPort(sim_world.emulators[role], binding.devices[role].baud)
        )
        for role, (device, guard) in bound.items()
    }
    cameras, opened = {}, []
    for role in plan.streams:
        if role in sim_world.cameras:
            cameras[role] = sim_world.cameras[role]
        else:
            cameras[role] = binding.devices[role].make()
            cameras[role].open()
            opened.append(cameras[role])
    recorder = None
    if record is not None:
        header = prepared.header(seed, "virtual time", sim=True)
        recorder = Recorder(record, header, frames, START_NS)
    executor = VirtualExecutor(
        graph,
        plan,
        buses,
        cameras,
        sink=recorder,
        seed=seed,
        budgets=times_ns,
        step_world=sim_world.step,
        mono=mono,
    )
    tap = Tap(executor) if capture else None
    times: list[float] = []
    stamps: list[int] = []
    truth: dict[str, list[float]] = {}

    def look(t_ns: int) -> None:
        for name, value in sim_world.truth(executor.now_ns).items():
            truth.setdefault(name, []).append(value)
        times.append(t_ns * 1e-9)
        stamps.append(executor.now_ns)
        executor.after(5_000_000, lambda: look(t_ns + 5_000_000))

    executor.on_begin = lambda: look(0)
    try:
        if prepare_run is not None:
            prepare_run(executor, sim_world)
        outcome = executor.run(length)
    finally:
        for camera in opened:
            camera.close()
        if recorder is not None:
            rows = list(zip(stamps, *truth.values(), strict=True))
            recorder.note("truth", {"names": ["t_ns", *truth], "rows": rows}, executor.now_ns)
            recorder.note("guard", guard_counts(executor.assembly), executor.now_ns)
            recorder.close()
    path = recorder.path if recorder else None
    return Simulation(outcome, executor, sim_world, times, truth, path, tap)


@dataclasses.dataclass
class Live:
    """A run in real time, under way or over; what a status line and a judge look at."""

    prepared: Prepared
    executor: RealtimeExecutor
    world: WorldProcess | None
    recording: Path | None = None
    outcome: Outcome | None = None
    overruns: OverrunWatch | None = None
    is_closed_loop: bool = False  # the world's own cameras are used: its truth can judge the run

    def __repr__(self) -> str:
        reason = self.outcome.reason if self.outcome else "running"
        firings = {lane.name: lane.firing for lane in self.executor.assembly.lanes}
        return f"<run of {self.prepared.graph.name}: {reason}; firings {firings}>"


def run(
    graph: Graph,
    *,
    unit: str | Path | UnitFile | None = None,
    sim: bool = False,
    duration: str | None = None,
    record: str | Path | None = None,
    frames: Frames = "jpeg",
    arm: bool | None = None,
    seed: int = 0,
    video: str | Path | None = None,
    camera: str | None = None,
    world: Mapping[str, Any] | None = None,
    attach: WorldProcess | None = None,
    tick: Callable[[Live], None] | None = None,
    tick_s: float = 0.2,
    budgets: Mapping[str, int] | None = None,
    strict: bool = False,
) -> Live:
    """Run a graph in real time until its duration, the end of a stream, a failure or Ctrl-C.

    sim: in the simulated world of the unit, a process of its own; actuators then arm themselves.
    On real devices they move only with `arm=True`. video, camera: take every camera of the graph
    from a file or from that V4L2 device. tick: called a few times a second (default: a status
    line on a terminal). budgets: of nodes in ns, where they are not declared (default: those that
    `haihe bench` measured on this machine): each overrun is counted and recorded with the chains
    whose bound it voids. strict: the first overrun, after the first ten firings of its lane,
    stops the run safely and is raised. Raises what a node raised, after the safe actions.
    """
    length = duration_ns(duration) if duration else None
    for warning in graph.warnings:
        log.warning("%s", warning)
    prepared = prepare(graph, unit)
    binding = prepared.binding
    for role in prepared.plan.streams:
        if video is not None or camera is not None:
            binding = _other_camera(binding, role, video, camera)
    with contextlib.ExitStack() as stack:
        place = attach
        if sim and place is None:
            place = stack.enter_context(WorldProcess(binding.unit, seed, world))
        if place is not None:
            for role, path in place.cameras.items():
                if role in binding.devices and video is None and camera is None:
                    binding = _world_camera(binding, role, path)
        prepared = dataclasses.replace(prepared, binding=binding)
        buses, streams = _live_buses(prepared, place), binding.streams(prepared.plan)
        recorder = None
        if record is not None:
            header = prepared.header(seed, "real time", sim=place is not None)
            recorder = Recorder(record, header, frames)
            stack.callback(_close, recorder)
        if budgets is None:
            budgets = known_budgets(prepared)
        watch = OverrunWatch(graph, prepared.plan, recorder, budgets, strict=strict)
        executor = RealtimeExecutor(
            graph, prepared.plan, buses, streams, recorder, seed, budgets, watch.overran
        )
        watch.executor = executor
        live = Live(prepared, executor, place, recorder.path if recorder else None)
        live.overruns = watch
        live.is_closed_loop = place is not None and video is None and camera is None
        armed = sim if arm is None else arm
        if not armed and buses:
            log.warning("not armed: nothing will move. Say arm=True (--arm) when it may.")
        line = None
        if tick is None and sys.stderr.isatty():
            from haihe.pipelines.status import StatusLine

            tick = line = StatusLine()
        try:
            _run(live, length, armed, tick, tick_s)
        finally:
            if line is not None:
                line.end()
        for _, _, exc in executor.outcome.failures:
            raise exc
        if place is not None:
            place.check()
            if live.is_closed_loop and recorder is not None:
                recorder.note("truth", {"names": place.truth_names, "rows": place.truth()})
        if recorder is not None:
            recorder.note("guard", guard_counts(executor.assembly))
    return live


def guard_counts(assembly: Assembly) -> dict[str, dict[str, int]]:
    """By role: how often the guard had each reason to change or refuse a command."""
    return {bus.role: bus.guard_counts() for lane in assembly.lanes for bus in lane.buses}


def _close(recorder: Recorder) -> None:
    """A loss must be heard of, but not in place of the error that ended the run."""
    failing = sys.exc_info()[0] is not None
    try:
        recorder.close()
    except RecordError as exc:
        if not failing:
            raise
        log.error("%s", exc)


def _run(
    live: Live,
    length: int | None,
    arm: bool,
    tick: Callable[[Live], None] | None,
    tick_s: float,
) -> None:
    """Whatever happens, the executor is stopped: with safe actions, threads joined."""
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


def _live_buses(prepared: Prepared, place: WorldProcess | None) -> dict[str, LiveBus]:
    buses = {}
    for role, (device, guard) in prepared.binding.buses(prepared.plan).items():
        bound = prepared.binding.devices[role]
        if place is not None and role not in place.ports:
            raise BoardError(_not_simulated(bound, place.ports))
        url = place.ports[role] if place is not None else bound.profile.port
        if not url:
            raise BoardError(
                f"{bound.profile.where}: device {role} has no port. Give `port: /dev/...`, or run "
                "it simulated with --sim."
            )
        buses[role] = LiveBus(device, guard, _port_opener(url, bound.baud))
    return buses


def _not_simulated(bound: BoundDevice, known: Iterable[str]) -> str:
    return (
        f"{bound.profile.where}: device {bound.role}: the unit's world does not simulate it (it "
        f"has: {', '.join(known) or 'none'}). Choose a world that does, or leave it out."
    )


def _port_opener(url: str, baud: int) -> Callable[[], Port]:
    def open_port() -> Port:
        from haihe.drivers.ports.serial import SerialPort

        return SerialPort(url, baud)

    return open_port


def _world_camera(binding: Binding, role: str, path: str) -> Binding:
    from haihe.drivers.camera.world import SPEC, WorldCameraOptions

    intrinsics = getattr(binding.devices[role].options, "intrinsics", None)
    return replace_driver(binding, role, SPEC, WorldCameraOptions(path, intrinsics))


def _other_camera(
    binding: Binding, role: str, video: str | Path | None, camera: str | None
) -> Binding:
    intrinsics = getattr(binding.devices[role].options, "intrinsics", None)
    if video is not None:
        from haihe.drivers.camera.file import SPEC, FileOptions

        return replace_driver(binding, role, SPEC, FileOptions(Path(video), intrinsics=intrinsics))
    from haihe.drivers.camera.v4l2 import SPEC as V4L2
    from haihe.drivers.camera.v4l2 import V4l2Options

    old = binding.devices[role].options
    if not isinstance(old, V4l2Options):
        old = V4l2Options(intrinsics=intrinsics)
    return replace_driver(binding, role, V4L2, dataclasses.replace(old, device=str(camera)))
