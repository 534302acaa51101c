"""Execution times of nodes and buses: real nodes and drivers, on this machine, in virtual time.

Nodes run in the unit's simulated world with real inputs; what is timed is their own time on this
machine's clock. Buses are driven against their emulators on a virtual port: what is timed is the
wire, which does not depend on this machine.
"""

from typing import Any

import msgspec

from haihe.pipelines.launch import Prepared
from haihe.runtime.clock import MILLISECOND, now_ns
from haihe.runtime.exec.bus import BusRunner
from haihe.runtime.exec.virtual import VirtualExecutor
from haihe.runtime.io import Reply
from haihe.runtime.telemetry.stats import EdgeStats

WARM_UP_NS = 500 * MILLISECOND  # virtual time; what comes before it is in no statistic
CYCLES = 100  # of a bus, with commands of every kind


class Measured(msgspec.Struct, frozen=True):
    """Execution times of a node. held_share: of them, at most, holding the interpreter."""

    worst_ns: int
    samples: int
    held_share: float = 1.0


class BusTime(msgspec.Struct, frozen=True):
    """The longest exchanges of a device: its state read, its command written."""

    read_ns: int
    write_ns: int


def measure_nodes(prepared: Prepared, duration: str) -> dict[str, Measured]:
    """Run the graph in the unit's simulated world; by node, how long it took on this machine.

    duration: of virtual time, after half a second to warm up. Raises what a node raised, and
    BoardError where the unit names no world.
    """
    from haihe.pipelines.launch import simulate
    from haihe.runtime.units import duration_ns

    whole = f"{(duration_ns(duration) + WARM_UP_NS) * 1e-9:.9f}s"
    sessions: dict[str, _Stopwatch] = {}

    def watch(executor: VirtualExecutor, world: Any) -> None:
        executor.after(WARM_UP_NS, lambda: _begin(executor, sessions))

    made = simulate(
        prepared.graph, whole, unit=prepared.binding.unit, capture=False, prepare_run=watch,
        mono=now_ns,
    )  # fmt: skip
    for _, _, exc in made.outcome.failures:
        raise exc
    found = {}
    for name, stats in made.executor.assembly.nodes.items():
        samples = stats.called + stats.silent
        if samples:
            held = 1.0
            if name in sessions and stats.total_ns:
                held = max(0.0, 1.0 - sessions[name].inside_ns / stats.total_ns)
            found[name] = Measured(stats.worst_ns, samples, held)
    return found


def _begin(executor: VirtualExecutor, sessions: dict[str, "_Stopwatch"]) -> None:
    """End of the warm-up: forget what was counted, and time models apart from what is around."""
    for stats in executor.assembly.nodes.values():
        stats.called = stats.silent = stats.total_ns = stats.worst_ns = 0
    for lane in executor.assembly.lanes:
        for step, instance in zip(lane.task.steps, lane.instances, strict=True):
            opened = getattr(instance, "_opened", None)
            if opened is not None and hasattr(opened, "session"):
                opened.session = sessions[step.name] = _Stopwatch(opened.session)


class _Stopwatch:
    """A model's session that notes how long it ran: meanwhile the interpreter is free."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self.inside_ns = 0

    def run(self) -> Any:
        """As the session's own."""
        begun = now_ns()
        outputs = self._session.run()
        self.inside_ns += now_ns() - begun
        return outputs

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)


def bus_times(prepared: Prepared, world: Any) -> dict[str, BusTime]:
    """By role, the longest exchanges of the unit's bus devices, against the emulators of a world.

    A device that the world does not simulate is left out.
    """
    from haihe.drivers.ports.virtual import VirtualPort

    found: dict[str, BusTime] = {}
    for role, (device, guard) in prepared.binding.buses(prepared.plan).items():
        emulator = world.emulators.get(role)
        if emulator is None:
            continue
        port = VirtualPort(emulator, prepared.binding.devices[role].baud)
        runner = BusRunner(role, device, guard, [])
        _drive(runner.setup(), port)
        period = next(
            lane.task.every_ns
            for lane in prepared.plan.lanes
            if any(bus.role == role for bus in lane.task.buses)
        )
        found[role] = _cycle(runner, port, period or 20 * MILLISECOND)
    return found


def _cycle(runner: BusRunner, port: Any, period_ns: int) -> BusTime:
    """Read, decide and write some times: still, moving, and let go of."""
    reads, writes = [0], [0]
    guard = runner.guard
    if guard is not None:
        guard.arm()
    for cycle in range(CYCLES):
        begun = port.now_ns
        state, took = _drive(runner.read(), port)
        reads.append(took)
        if guard is not None:
            if cycle == CYCLES - 5:
                guard.trip("end of the measurement")
            command = None
            if state is not None:
                goal = state[0].position + 0.001 * (cycle % 2)
                command = tuple(round(value * 1e6) for value in goal.tolist())
            now = port.now_ns + 1
            found = state[0] if state is not None else None
            decision = guard.step(now, command, now, command if found is not None else None)
            writes.append(_drive(runner.write(decision, 0, EdgeStats(), 0), port)[1])
        port.now_ns = max(begun + period_ns, port.now_ns)
    return BusTime(max(reads), max(writes))


def _drive(steps: Any, port: Any) -> tuple[Any, int]:
    """A bus transaction to its end: its result, and the time of all its exchanges."""
    took, reply = 0, None
    try:
        while True:
            runner: BusRunner = steps.send(reply)
            reply = port.exchange(runner.pending)
            assert isinstance(reply, Reply)
            took += reply.t_done_ns - reply.t_sent_ns
    except StopIteration as stop:
        return stop.value, took
