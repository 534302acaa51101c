"""Execution times of nodes: real nodes on this machine, with the inputs of the unit's simulated
world, in virtual time. What is timed is their own time on this machine's clock."""

from typing import Any

import msgspec

from haihe.pipelines.launch import Prepared, simulate
from haihe.runtime.clock import MILLISECOND, now_ns
from haihe.runtime.exec.virtual import VirtualExecutor
from haihe.runtime.units import duration_ns

WARM_UP_NS = 500 * MILLISECOND  # virtual time; what comes before it is in no statistic


class Measured(msgspec.Struct, frozen=True):
    """Execution times of a node. held_share: of them, at most, holding the interpreter."""

    worst_ns: int
    samples: int
    held_share: float = 1.0


def measure_nodes(prepared: Prepared, duration: str) -> dict[str, Measured]:
    """Run the graph in the unit's simulated world; by node, how long it took on this machine.

    duration: of virtual time, after half a second to warm up. Raises what a node raised, and
    BoardError where the unit names no world.
    """
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
