"""One fault run from a seed: a random small graph in one to three processes, and random faults."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from haihe.drivers.ports.virtual import VirtualPort
from haihe.runtime.clock import MILLISECOND
from haihe.runtime.exec.faults import Faults
from haihe.runtime.exec.realtime import Outcome
from haihe.runtime.exec.supervision import RestartPolicy
from haihe.runtime.exec.virtual import START_NS, SimBus, VirtualExecutor
from haihe.runtime.exec.wardens import WardenSpec
from haihe.runtime.graph import Graph, named
from haihe.runtime.guard import SafeAction
from haihe.runtime.guard.guard import Guard
from haihe.runtime.plan.build import make_plan
from haihe.runtime.plan.model import Plan
from haihe.runtime.record.recorder import Recorder
from haihe.runtime.record.recording import Recording
from haihe.runtime.record.replay import Replayer, ReplayReport
from tests.scenarios.fault_world import (
    BAUD,
    SOURCE,
    Books,
    Ledger,
    OnError,
    Rig,
    RigEmulator,
    Source,
    controller,
    relay,
    rig,
    rules,
    sampler,
)

PROCESSES = ("", "near", "far")
ON_ERROR: tuple[OnError, ...] = ("stop", "skip", "restart")


@dataclass(frozen=True)
class RelaySpec:
    """A node that passes messages on."""

    name: str
    after: str  # "source", or a relay
    places: int  # of its queue, 0: the latest wins
    on_error: OnError
    process: str
    budget_ns: int
    thread: str  # relays of one process may share it


@dataclass(frozen=True)
class Injected:
    """A fault: when after the first release, and what."""

    t_ns: int
    kind: str
    target: str
    amount_ns: int = 0


@dataclass(frozen=True)
class Setting:
    """Everything of a run but the source."""

    seed: int
    relays: tuple[RelaySpec, ...]
    sampled: str  # the relay that the control lane samples
    every_ms: int
    fresh_ms: int
    command_age_ms: int
    control_process: str
    safe: SafeAction
    policies: dict[str, RestartPolicy]
    start_ns: int  # a process needs to open its models
    faults: tuple[Injected, ...]
    duration_ns: int = 2_000 * MILLISECOND

    @property
    def processes(self) -> tuple[str, ...]:
        """In use."""
        used = {spec.process for spec in self.relays} | {self.control_process, ""}
        return tuple(name for name in PROCESSES if name in used)

    def process_of(self, node: str) -> str:
        """Where a node runs."""
        found = next((spec.process for spec in self.relays if spec.name == node), None)
        return self.control_process if found is None else found


def setting(seed: int) -> tuple[Setting, Source]:
    """The run of a seed."""
    random = np.random.default_rng(seed)
    source = Source(random)
    used = PROCESSES[: int(random.integers(1, 4))]
    relays: list[RelaySpec] = []
    for number in range(int(random.integers(1, 5))):
        after = "source" if not relays else str(random.choice([r.name for r in relays][-2:]))
        queued = random.random() < 0.4
        process = str(random.choice(used))
        thread = f"on-r{number}"
        if relays and relays[-1].process == process and random.random() < 0.3:
            thread = relays[-1].thread
        relays.append(
            RelaySpec(
                f"r{number}",
                after,
                int(random.integers(1, 5)) if queued else 0,
                ON_ERROR[int(random.integers(3))],
                process,
                int(random.integers(100, 5000)) * 1000,
                thread,
            )
        )
    policies = {
        name: RestartPolicy(
            limit=int(random.integers(0, 4)),
            window_ns=60_000 * MILLISECOND,
            backoff_ns=int(random.integers(20, 200)) * MILLISECOND,
            hang_ns=int(random.choice([200, 400])) * MILLISECOND,
            rearm=bool(random.random() < 0.5),
        )
        for name in used
        if name
    }
    made = Setting(
        seed,
        tuple(relays),
        str(random.choice([r.name for r in relays])),
        int(random.choice([10, 20])),
        int(random.integers(60, 200)),
        int(random.integers(40, 150)),
        str(random.choice(used)),
        SafeAction(int(random.integers(3))),
        policies,
        int(random.integers(50, 200)) * MILLISECOND,
        (),
    )
    return _with_faults(made, random), source


def _with_faults(made: Setting, random: np.random.Generator) -> Setting:
    nodes = [r.name for r in made.relays] + ["control"]
    faults = []
    for _ in range(int(random.integers(1, 5))):
        t = int(random.integers(100, 1700)) * MILLISECOND + int(random.integers(MILLISECOND))
        kind = str(random.choice(KINDS))
        target = str(random.choice(nodes))
        if kind in ("kill", "stop"):
            target = str(random.choice(made.processes))
            if not target and random.random() < 0.7:  # of the main one seldom: it ends the run
                target = made.processes[-1]
                kind = kind if target else "late"
                target = target or str(random.choice(nodes))
        elif kind in ("raise", "exhaust"):
            target = str(random.choice(nodes[:-1]))
        low, high = AMOUNTS_MS[kind]
        faults.append(Injected(t, kind, target, int(random.integers(low, high)) * MILLISECOND))
    return replace(made, faults=tuple(sorted(faults, key=lambda f: f.t_ns)))


AMOUNTS_MS = {
    "kill": (0, 1), "stop": (5, 600), "hang": (5, 900), "raise": (20, 200), "slow": (50, 600),
    "late": (5, 500), "exhaust": (20, 500), "unplug": (20, 400),
}  # fmt: skip
KINDS = ("kill", "kill", *AMOUNTS_MS)


def graph_of(made: Setting) -> Graph:
    """The graph, wired again for a replay."""
    with Graph("faults") as graph:
        graph.use_device("source", SOURCE)
        outputs: dict[str, Any] = {"source": graph.state("source", "mark")}
        for spec in made.relays:
            kind = relay(spec.places, spec.on_error)
            out = named(spec.name, kind(spec.name))(outputs[spec.after])
            outputs[spec.name] = out
        for thread in dict.fromkeys(spec.thread for spec in made.relays):
            inside = [outputs[spec.name] for spec in made.relays if spec.thread == thread]
            graph.thread(thread, *inside, policy="fifo" if made.seed % 2 else "priority")
        sampled = named("sample", sampler(made.every_ms)("sample"))(outputs[made.sampled])
        arm = rig()
        command = named("control", controller(made.every_ms, made.fresh_ms)("control"))(
            sampled, arm.state
        )
        arm.command(command)
        for process in made.processes:
            inside = [outputs[s.name] for s in made.relays if s.process == process]
            if made.control_process == process:
                inside.append(command)
            if process and inside:
                graph.process(process, *inside)
    return graph


@dataclass
class Run:
    """What a run left behind."""

    setting: Setting
    source: Source
    plan: Plan
    executor: VirtualExecutor
    emulator: RigEmulator
    ledger: Ledger
    outcome: Outcome
    deaths: list[tuple[int, str, str]] = field(default_factory=list)  # when, process, cause
    recording: Path | None = None
    restarts_judged: int = 0


def guard_of(made: Setting) -> Guard:
    """The actuator's guard."""
    period = made.every_ms * MILLISECOND
    return Guard(rules(made.safe), made.command_age_ms * MILLISECOND, period)


def run(
    made: Setting,
    source: Source,
    record: Path | None = None,
    *,
    wardens: Mapping[str, WardenSpec] | None = None,
    guard: Guard | None = None,
    start_ns: int = 0,
) -> Run:
    """Carry it out. The rest is for tests of the judge: what differs from the setting."""
    graph = graph_of(made)
    plan = make_plan(graph, {})
    emulator = RigEmulator()
    ledger = Books.ledger = Ledger()
    recorder = None
    if record is not None:
        header = {"plan": msgspec.to_builtins(plan), "seed": made.seed, "graph": plan.graph}
        recorder = Recorder(record, header, "none", START_NS)
    executor = VirtualExecutor(
        graph,
        plan,
        {"rig": SimBus(Rig(), guard or guard_of(made), VirtualPort(emulator, BAUD))},
        {"source": source},
        sink=recorder,
        seed=made.seed,
        budgets={spec.name: spec.budget_ns for spec in made.relays} | {"control": 300_000},
        policies=made.policies,
        start=lambda name, number: start_ns or made.start_ns,
        wardens={"rig": WardenSpec()} if wardens is None else wardens,
    )
    ledger.now = executor.now
    done = Run(made, source, plan, executor, emulator, ledger, executor.outcome, [], record)
    executor.processes.on_death = lambda name, cause: done.deaths.append(
        (executor.now_ns, name, cause)
    )
    faults = Faults(executor)
    for fault in made.faults:
        executor.after(fault.t_ns, partial(inject, executor, faults, fault))
    try:
        executor.run(made.duration_ns)
    finally:
        if recorder is not None:
            recorder.close()
    return done


def inject(executor: VirtualExecutor, faults: Faults, fault: Injected) -> None:
    """Let it happen now."""
    kind, target, amount = fault.kind, fault.target, fault.amount_ns
    if kind == "kill":
        faults.kill(target)
    elif kind == "stop":
        faults.stop(target, amount)
    elif kind == "hang":
        faults.hang(target, amount)
    elif kind == "slow":
        faults.slow(target, 2.0 + amount / (50 * MILLISECOND), amount)
    elif kind == "late":
        faults.late(executor.assembly.lane_of(target).name, amount)
    elif kind == "exhaust":
        if target in executor.assembly.slots:
            faults.exhaust(target, amount)
    elif kind == "raise":
        executor.set(target, "is_broken", True)
        executor.after(amount, lambda: executor.set(target, "is_broken", False))
    elif kind == "unplug":
        port = next(b.port for lane in executor.assembly.lanes for b in lane.buses)
        port.unplug()
        executor.after(amount, port.plug)


def replay(done: Run) -> ReplayReport:
    """The recorded run again, from its recording."""
    assert done.recording is not None
    Books.ledger = Ledger()
    made = done.setting
    recording = Recording(done.recording)
    buses = {"rig": (Rig(), guard_of(made))}
    return Replayer(recording, graph_of(made), buses).run()
