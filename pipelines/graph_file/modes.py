"""The keys `modes` and `goals` of a file, and `mode` of a node: as runtime/modes.py."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from haihe.pipelines.graph_file.params import near
from haihe.pipelines.graph_file.source import GoalEntry, GraphFile, GroupEntry, NodeEntry
from haihe.pipelines.graph_file.values import Placed
from haihe.runtime.errors import PlanError
from haihe.runtime.graph import Graph
from haihe.runtime.modes import Goal, Modes
from haihe.runtime.traced import wiring_at
from haihe.runtime.types import Message

Value = Callable[[Placed], Any]  # the traced value of a source


class ModeWirer:
    """Wires the modes and goals of one file."""

    def __init__(self, graph: Graph, file: GraphFile, prefix: str) -> None:
        self.graph, self.file, self.prefix = graph, file, prefix
        self.groups: dict[str, Modes] = {}
        self.goals: dict[str, Goal[Any]] = {}

    def begin(self, message: Callable[[Placed], type[Message]]) -> None:
        """Goals and groups, before the nodes. message: finds the type of a request."""
        for name, goal in self.file.goals.items():
            kind = message(goal.request)
            with wiring_at(goal.where.place):
                self.goals[name] = Goal(self.graph, self.prefix + name, kind, goal.timeout)
        for name, group in self.file.modes.items():
            with wiring_at(group.where.place):
                self.groups[name] = Modes(self.graph, self.prefix + name, group.initial)

    @contextmanager
    def inside(self, entry: NodeEntry) -> Iterator[None]:
        """While the nodes of an entry are wired: in its modes."""
        active = [self._mode(group, mode) for group, mode in entry.mode.items()]
        self.graph.active += active
        try:
            yield
        finally:
            del self.graph.active[len(self.graph.active) - len(active) :]

    def _mode(self, group: str, mode: Placed) -> tuple[str, str]:
        if group not in self.groups:
            raise PlanError(f"{mode.where}: no modes {group!r}. {near(group, self.groups)}")
        known = [self.file.modes[group].initial, *self.file.modes[group].modes]
        if mode.text not in known:
            raise PlanError(f"{mode.where}: {group} has no mode {mode.text!r}. "
                            f"{near(mode.text, known)}")  # fmt: skip
        return self.groups[group].name, mode.text

    def end(self, value: Value) -> None:
        """Conditions and reports, after the nodes."""
        for name, group in self.file.modes.items():
            self._group(self.groups[name], group, value)
        for name, goal in self.file.goals.items():
            self._report(self.goals[name], goal, value)

    def _group(self, modes: Modes, group: GroupEntry, value: Value) -> None:
        for name, mode in group.modes.items():
            if mode.goal is not None and mode.goal.text not in self.goals:
                raise PlanError(
                    f"{mode.goal.where}: no goal {mode.goal.text!r}. "
                    f"{near(mode.goal.text, self.goals)}"
                )
            enter = value(mode.enter) if mode.enter is not None else None
            leave = value(mode.leave) if mode.leave is not None else None
            goal = self.goals[mode.goal.text] if mode.goal is not None else None
            with wiring_at(mode.where.place):
                modes.mode(name, enter, leave, mode.then, auto=mode.auto, goal=goal)
        if group.ladder is not None:
            one = group.ladder
            with wiring_at(one.where.place):
                modes.ladder(
                    one.order, misses=one.misses, heat=one.heat, load=one.load,
                    battery=one.battery, settle=one.settle, hold=one.hold,
                )  # fmt: skip

    def _report(self, goal: Goal[Any], entry: GoalEntry, value: Value) -> None:
        status = value(entry.report)
        with wiring_at(entry.report.where.place):
            goal.report(status)
