"""Faults at any time of a virtual run: what a scenario injects.

    faults = Faults(executor)
    executor.after(700_000_000, lambda: faults.kill("vision"))

Each acts at the time of its call. A node that raises is no fault from outside: give it a parameter
and `executor.set` it, so that the recording says so.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from haihe.runtime.errors import PlanError
from haihe.runtime.exec.virtual_links import Link, Process
from haihe.runtime.exec.virtual_processes import KILLED
from haihe.runtime.exec.virtual_run import Run

if TYPE_CHECKING:
    from haihe.runtime.exec.virtual import VirtualExecutor


@dataclass
class _Slow:
    factor: float
    until_ns: int
    calls: int


class Faults:
    """Injects faults into a virtual executor."""

    def __init__(self, executor: "VirtualExecutor") -> None:
        self._executor = executor
        self._hanging: dict[str, tuple[int, int]] = {}  # ns, calls so far
        self._slow: dict[str, _Slow] = {}
        executor.faults = self

    # --- processes ----------------------------------------------------------------------------

    def kill(self, process: str, cause: str = KILLED) -> None:
        """As kill -9: "" is the main process. What is being sent is cut."""
        self._of(process)
        self._executor.processes.kill(process, cause)

    def stop(self, process: str, duration_ns: int) -> None:
        """As SIGSTOP, and SIGCONT after a while."""
        life = self._of(process).life
        self._executor.processes.stop(process)

        def go_on() -> None:
            if self._of(process).life == life:
                self._executor.processes.go_on(process)

        self._executor.after(duration_ns, go_on)

    def _of(self, process: str) -> Process:
        found = self._executor.processes.by_name
        if process not in found:
            raise PlanError(
                f"no process {process!r} in the plan of {self._executor.plan.graph}. It has: "
                f"{', '.join(repr(name) for name in found)}."
            )
        return found[process]

    # --- lanes and nodes ----------------------------------------------------------------------

    def late(self, lane: str, by_ns: int) -> None:
        """The thread of a lane wakes up late: it starts nothing for so long."""
        executor = self._executor
        thread = next(run.thread for run in executor.runs if run.lane.name == lane)
        thread.late_until_ns = max(thread.late_until_ns, executor.now_ns + by_ns)
        executor.after(by_ns, executor.dispatch_all)

    def hang(self, node: str, duration_ns: int) -> None:
        """The next call of a node takes so much longer."""
        self._hanging[node] = (duration_ns, self._calls(node))

    def slow(self, node: str, factor: float, duration_ns: int) -> None:
        """For a while each call of a node takes `factor` times its budget."""
        until = self._executor.now_ns + duration_ns
        self._slow[node] = _Slow(factor, until, self._calls(node))

    def _calls(self, node: str) -> int:
        stats = self._executor.assembly.nodes[node]
        return stats.called + stats.silent + stats.raised

    def delay_ns(self, run: Run) -> int:
        """What the faults add to the firing under way, whose nodes have been called."""
        delay = 0
        for step in run.lane.task.steps:
            name = step.name
            if name in self._hanging and self._calls(name) > self._hanging[name][1]:
                delay += self._hanging.pop(name)[0]
            slow = self._slow.get(name)
            if slow is not None and self._calls(name) > slow.calls:
                slow.calls = self._calls(name)
                if self._executor.now_ns < slow.until_ns:
                    budget = self._executor.budgets.get(name, step.budget_ns)
                    delay += round(budget * (slow.factor - 1))
        return delay

    # --- memory -------------------------------------------------------------------------------

    def exhaust(self, source: str, duration_ns: int) -> None:
        """For a while no message of a source has room in shared memory: dropped and counted."""
        links: list[Link] = [
            one for one in self._executor.assembly.slots[source] if isinstance(one, Link)
        ]
        for link in links:
            link.has_memory = False

        def again() -> None:
            for link in links:
                link.has_memory = True

        self._executor.after(duration_ns, again)
