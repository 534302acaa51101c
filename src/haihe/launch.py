"""From a graph to a run: bind to a unit, plan, execute in virtual or real time, record."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from haihe.boards.binding import Binding, bind
from haihe.boards.unit import UnitFile, find_unit, load_unit
from haihe.runtime.exec.realtime import Outcome
from haihe.runtime.exec.virtual import SimBus, VirtualExecutor
from haihe.runtime.graph import Graph
from haihe.runtime.plan.build import make_plan
from haihe.runtime.plan.model import Plan
from haihe.runtime.record.recorder import Frames, Recorder
from haihe.runtime.units import duration_ns


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A graph, bound and planned."""

    graph: Graph
    binding: Binding
    plan: Plan

    def header(self, seed: int, mode: str) -> dict[str, Any]:
        """What a recording must hold to be replayed."""
        import msgspec

        return {
            "graph": self.graph.name,
            "source": source_of(self.graph),
            "plan": msgspec.to_builtins(self.plan),
            "plan_hash": self.plan.hash,
            "unit": {"file": self.binding.unit.file, "text": self.binding.unit.text},
            "seed": seed,
            "mode": mode,
        }


def source_of(graph: Graph) -> dict[str, str]:
    """Where a graph comes from: its file, and how it was named on the command line."""
    return {"file": graph.file, "pipeline": getattr(graph, "pipeline", "")}


def prepare(graph: Graph, unit: str | Path | UnitFile | None = None) -> Prepared:
    """Bind a graph to a unit (an argument, HAIHE_UNIT, or unit.yaml beside it) and plan it."""
    if not isinstance(unit, UnitFile):
        beside = Path(graph.file).parent
        unit = load_unit(find_unit(str(unit) if unit else None, beside))
    binding = bind(graph, unit)
    return Prepared(graph, binding, make_plan(graph, binding.timings()))


@dataclasses.dataclass
class Simulation:
    """A finished run in virtual time."""

    outcome: Outcome
    executor: VirtualExecutor
    world: Any
    times: list[float]  # s since the first release
    truth: dict[str, list[float]]  # the world's truth at those times, SI
    recording: Path | None = None

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
) -> Simulation:
    """Run a graph in virtual time in the simulated world of its unit.

    world: options of the world to override. budgets: execution times by node, where they differ
    from the declared ones. prepare_run: called before the start, to schedule faults and events.
    """
    from haihe.drivers.ports.virtual import VirtualPort
    from haihe.pipelines.worlds.serve import make_world

    prepared = prepare(graph, unit)
    plan, binding = prepared.plan, prepared.binding
    sim_world: Any = make_world(binding.unit, seed, dict(world or {}))
    recorder = Recorder(record, prepared.header(seed, "virtual"), frames) if record else None
    buses = {
        role: SimBus(
            device, guard, VirtualPort(sim_world.emulators[role], binding.devices[role].baud)
        )
        for role, (device, guard) in binding.buses(plan).items()
    }
    cameras = {}
    for role in plan.streams:
        if role in sim_world.cameras:
            cameras[role] = sim_world.cameras[role]
        else:
            cameras[role] = binding.devices[role].make()
            cameras[role].open()
    executor = VirtualExecutor(
        graph,
        plan,
        buses,
        cameras,
        sink=recorder,
        seed=seed,
        budgets={k: duration_ns(v) for k, v in (budgets or {}).items()},
        step_world=sim_world.step,
    )
    times: list[float] = []
    truth: dict[str, list[float]] = {}
    length = duration_ns(duration)

    def look(t_ns: int) -> None:
        for name, value in sim_world.truth(executor.now_ns).items():
            truth.setdefault(name, []).append(value)
        times.append(t_ns * 1e-9)
        executor.after(5_000_000, lambda: look(t_ns + 5_000_000))

    executor.on_begin = lambda: look(0)
    if prepare_run is not None:
        prepare_run(executor, sim_world)
    try:
        outcome = executor.run(length)
    finally:
        if recorder is not None:
            recorder.close()
    path = recorder.path if recorder else None
    return Simulation(outcome, executor, sim_world, times, truth, path)
