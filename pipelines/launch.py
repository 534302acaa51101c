"""From a graph to a run: bind to a unit, plan, execute in virtual or real time, record."""

import contextlib
import dataclasses
import logging
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from haihe.boards.binding import Binding, bind
from haihe.boards.health import HealthReader
from haihe.boards.unit import UnitFile, find_unit, load_unit
from haihe.pipelines.devices import (
    Places,
    live_buses,
    live_streams,
    not_simulated,
    place_cameras,
    wardens_of,
)
from haihe.pipelines.incidents import Incidents
from haihe.pipelines.live import Live, drive
from haihe.pipelines.overruns import OverrunWatch, known_budgets
from haihe.pipelines.processes import policies_of, supervisor_of
from haihe.pipelines.recorders import recorder_of
from haihe.pipelines.series import Plottable
from haihe.pipelines.tap import Tap
from haihe.pipelines.worlds.process import WorldProcess
from haihe.runtime.errors import BoardError, PlanError, RecordError
from haihe.runtime.exec.assembly import Assembly
from haihe.runtime.exec.realtime import Outcome, RealtimeExecutor
from haihe.runtime.exec.virtual import START_NS, SimBus, VirtualExecutor
from haihe.runtime.graph import Graph
from haihe.runtime.plan.build import make_plan
from haihe.runtime.plan.model import Plan
from haihe.runtime.record.recorder import Recorder
from haihe.runtime.record.ring_recorder import RingRecorder
from haihe.runtime.record.sink import Frames
from haihe.runtime.telemetry.prometheus import MetricsServer, loopback
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
    keep: str | None = None,
    prepare_run: Callable[[VirtualExecutor, Any], None] | None = None,
    capture: bool = True,
    mono: Callable[[], int] = lambda: 0,
    wardens: bool = False,
) -> Simulation:
    """Run a graph in virtual time in the simulated world of its unit.

    world: options of the world to override. budgets: execution times by node, where they differ
    from the declared ones. keep: record in memory that long, and write a file when a guard trips
    (see `run`). prepare_run: called before the start, to schedule faults and events.
    capture: keep what the result's series show (False: the world's truth only). mono: a clock for
    the nodes' real execution times, which go into their statistics. wardens: those of the unit
    watch, too (a run with faults).
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
            raise BoardError(not_simulated(binding.devices[role], sim_world.emulators))
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
    header = prepared.header(seed, "virtual time", sim=True)
    recorder = recorder_of(record, header, plan, frames, keep=keep, start_ns=START_NS)
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
        policies=policies_of(prepared),
        wardens=wardens_of(binding, plan) if wardens else None,
    )
    incidents = None
    if isinstance(recorder, RingRecorder):
        recorder.watch(executor.assembly)
        incidents = Incidents(recorder)
    tap = Tap(executor) if capture else None
    times: list[float] = []
    stamps: list[int] = []
    truth: dict[str, list[float]] = {}

    def look(t_ns: int) -> None:
        for name, value in sim_world.truth(executor.now_ns).items():
            truth.setdefault(name, []).append(value)
        if incidents is not None:
            incidents.look_at(executor.assembly)
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
            if isinstance(recorder, RingRecorder) and executor.outcome.failures:
                recorder.save(f"the run failed: {executor.outcome.failures[0][2]}")
            recorder.close()
    path = recorder.path if isinstance(recorder, Recorder) else None
    if isinstance(recorder, RingRecorder):
        path = recorder.saved[-1] if recorder.saved else None
    return Simulation(outcome, executor, sim_world, times, truth, path, tap)


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
    warden: bool = False,
    keep: str | None = None,
    quota: str | None = None,
    metrics: str | None = None,
) -> Live:
    """Run a graph in real time until its duration, the end of a stream, a failure or Ctrl-C.

    sim: in the simulated world of the unit, a process of its own; actuators then arm themselves.
    On real devices they move only with `arm=True`. video, camera: take every camera of the graph
    from a file or from that V4L2 device. tick: called a few times a second (default: a status
    line on a terminal). budgets: of nodes in ns, where they are not declared (default: those that
    `haihe bench` measured on this machine): each overrun is counted and recorded with the chains
    whose bound it voids. strict: the first overrun, after the first ten firings of its lane,
    stops the run safely and is raised. warden: with `sim`, the unit's wardens run too, and kill
    the process of an actuator's lane that hangs; on devices they always do. keep:
    the recording stays in memory, the last "60s" of it; FILE-1.mcap, FILE-2.mcap ... are written
    when a guard trips, at SIGUSR1, by `Live.save`, and when the run fails. quota: what all
    recordings in its folder may take ("2GB"); the oldest are removed for it. metrics: serve
    Prometheus metrics on that port of the loopback device ("9464"). Raises what a node raised,
    after the safe actions.
    """
    length = duration_ns(duration) if duration else None
    if metrics is not None:
        loopback(metrics)
    for warning in graph.warnings:
        log.warning("%s", warning)
    prepared = prepare(graph, unit)
    binding = prepared.binding
    with contextlib.ExitStack() as stack:
        place = attach
        if sim and place is None:
            place = stack.enter_context(WorldProcess(binding.unit, seed, world))
        places = _places(place, video, camera, warden)
        binding = place_cameras(binding, prepared.plan, places)
        prepared = dataclasses.replace(prepared, binding=binding)
        own = "" if prepared.plan.processes else None
        buses = live_buses(binding, prepared.plan, places, own)
        streams = live_streams(binding, prepared.plan, own)
        header = prepared.header(seed, "real time", sim=place is not None)
        recorder = recorder_of(record, header, prepared.plan, frames, keep=keep, quota=quota)
        if recorder is not None:
            stack.callback(_close, recorder)
        if budgets is None:
            budgets = known_budgets(prepared)
        watch = OverrunWatch(graph, prepared.plan, recorder, budgets, strict=strict)
        others = None
        if prepared.plan.processes:
            others = supervisor_of(prepared, header, places, budgets, recorder, frames, strict)
        executor = RealtimeExecutor(
            graph,
            prepared.plan,
            buses,
            streams,
            recorder,
            seed,
            budgets,
            watch.overran,
            ends=others.ends if others is not None else None,
            household=others,
        )
        watch.executor = executor
        if executor.ladders.ladders:
            executor.ladders.health = HealthReader()
        if others is not None:
            others.executor = executor
        path = recorder.path if isinstance(recorder, Recorder) else None
        live = Live(prepared, executor, place, path, recorder=recorder, budgets=budgets)
        live.overruns = watch
        live.is_closed_loop = place is not None and video is None and camera is None
        armed = sim if arm is None else arm
        if not armed and any(lane.task.buses for lane in prepared.plan.lanes):
            log.warning("not armed: nothing will move. Say arm=True (--arm) when it may.")
        line = None
        if tick is None and sys.stderr.isatty():
            from haihe.pipelines.status import StatusLine

            tick = line = StatusLine()
        if isinstance(recorder, RingRecorder):
            recorder.watch(executor.assembly)
            incidents = Incidents(recorder)
            tick = incidents.before(tick)
            stack.enter_context(incidents.on_signal())
        if metrics is not None:
            live.metrics = MetricsServer(metrics, live.snapshot)
            stack.callback(live.metrics.close)
            log.info("metrics: %s", live.metrics.url)
        try:
            drive(live, length, armed, tick, tick_s)
        finally:
            if line is not None:
                line.end()
        if executor.outcome.hung and isinstance(recorder, RingRecorder):
            recorder.save(f"it hung at the stop: {', '.join(executor.outcome.hung)}")
        for _, _, exc in executor.outcome.failures:
            raise exc
        if place is not None:
            place.check()
            if live.is_closed_loop and recorder is not None:
                recorder.note("truth", {"names": place.truth_names, "rows": place.truth()})
        if recorder is not None:
            recorder.note("guard", {b.role: b.guard_counts for b in live.snapshot().buses})
    return live


def _places(
    place: WorldProcess | None, video: str | Path | None, camera: str | None, warden: bool
) -> Places:
    given = {"video": str(video or ""), "camera": str(camera or "")}
    if place is None:
        return Places(**given)  # type: ignore[arg-type]
    ports = {role: str(port) for role, port in place.ports.items()}
    cameras = {role: str(path) for role, path in place.cameras.items()}
    return Places(True, ports, cameras, **given, has_wardens=warden)


def guard_counts(assembly: Assembly) -> dict[str, dict[str, int]]:
    """By role: how often the guard had each reason to change or refuse a command."""
    return {bus.role: bus.guard_counts() for lane in assembly.lanes for bus in lane.buses}


def _close(recorder: Recorder | RingRecorder) -> None:
    """A loss must be heard of, but not in place of the error that ended the run."""
    error = sys.exc_info()[1]
    failing = error is not None
    if failing and isinstance(recorder, RingRecorder) and recorder.size:  # it had begun
        recorder.save(f"the run failed: {error}")
    try:
        recorder.close()
    except RecordError as exc:
        if not failing:
            raise
        log.error("%s", exc)
