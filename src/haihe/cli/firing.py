"""What a node saw and did at one firing of a replay, in text."""

import contextlib
import dataclasses
import pickle
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from haihe.runtime.exec.lane import Lane
from haihe.runtime.graph import Graph
from haihe.runtime.guard import GuardState
from haihe.runtime.node import state_of
from haihe.runtime.plan.model import Plan, StepPlan
from haihe.runtime.record.replay import Step

SHORT = 12  # elements of an array that are written out
LONG = 100  # characters of any other value


@dataclasses.dataclass(frozen=True)
class Before:
    """A lane between two firings: what its task holds, and its nodes' states, pickled."""

    held: tuple[Any, ...]
    states: dict[str, bytes]

    @classmethod
    def of(cls, lane: Lane) -> "Before":
        """As it is now."""
        states = {}
        for step, instance in zip(lane.task.steps, lane.instances, strict=True):
            if instance is not None and not step.recorded:
                with contextlib.suppress(Exception):  # pickle raises anything: no state is shown
                    states[step.name] = pickle.dumps(state_of(instance), 5)
        return cls(tuple(lane.snapshot_held()), states)


class Firing:
    """One replayed firing, with the lane as it was before."""

    def __init__(self, step: Step, lane: Lane, before: Before, graph: Graph, plan: Plan) -> None:
        self.step, self.lane, self.before = step, lane, before
        self.graph, self.plan = graph, plan
        self._held = dict(zip(lane.held, lane.snapshot_held(), strict=True))
        self._old = dict(zip(lane.held, before.held, strict=True))

    def describe(self, name: str) -> list[str]:
        """A node (inputs, outputs, state, parameters), or a device that the lane cycles."""
        for step in self.lane.task.steps:
            if step.name == name:
                return self._node(step)
        return self._bus(name)

    def names(self) -> list[str]:
        """What `describe` knows in this firing."""
        task = self.lane.task
        return [bus.role for bus in task.buses] + [step.name for step in task.steps]

    def _sample(self, source: str, held: Mapping[str, Any]) -> tuple[int, Any, int] | None:
        """(sequence, message, origin) of a source."""
        if source in self.step.inputs:
            sample = self.step.inputs[source]
            return (sample[0], sample[1], sample[2]) if sample is not None else None
        i = self.lane.ids[source]
        if not held[f"q{i}"] and held[f"m{i}"] is None:
            return None
        return held[f"q{i}"], held[f"m{i}"], held[f"o{i}"]

    def _node(self, step: StepPlan) -> list[str]:
        use = self.graph.nodes[step.name]
        outcome = self.step.outcomes.get(step.name, "not run")
        lines = [f"{step.name}: {outcome}  ({use.line})"]
        for port, number in step.inputs:
            edge = self.plan.edges[number]
            held = self._old if edge.kind == "loop" else self._held
            lines.append(_row("in", port, self._input(edge.source, held)))
        for port in step.outputs:
            source = step.name if port == "out" else f"{step.name}.{port}"
            i = self.lane.ids[source]
            shown = "nothing"
            if self._held[f"q{i}"] != self._old[f"q{i}"]:
                shown = f"#{self._held[f'q{i}']}  {show(self._held[f'm{i}'])}"
            lines.append(_row("out", port, shown))
        index = next(i for i, s in enumerate(self.lane.task.steps) if s.name == step.name)
        lines += self._state(step.name, self.lane.instances[index])
        for key, value in self.lane.constants[index].items():
            lines.append(_row("param", key, show(value)))
        return lines

    def _input(self, source: str, held: Mapping[str, Any]) -> str:
        sample = self._sample(source, held)
        if sample is None:
            return f"{source}: absent"
        number, message, origin = sample
        age = f"age {(self.step.t_ns - origin) * 1e-6:.3f} ms" if number else "initial"
        shown = "(not decoded)" if message is None else show(message)
        return f"{source} #{number}  {age}  {shown}"

    def _state(self, name: str, instance: Any) -> list[str]:
        data = self.before.states.get(name)
        if data is None:
            return []
        lines = []
        old = pickle.loads(data)  # our own, made a moment ago
        for key, value in state_of(instance).items():
            was, now = show(old.get(key)), show(value)
            lines.append(_row("state", key, now if was == now else f"{was} -> {now}"))
        return lines

    def _bus(self, role: str) -> list[str]:
        bus = next(b for b in self.lane.buses if b.role == role)
        plan = next(b for b in self.lane.task.buses if b.role == role)
        lines = [f"{role}: {'online' if bus.online else f'offline ({bus.problem})'}"]
        lines.append(_row("in", plan.state.partition(".")[2], self._input(plan.state, self._held)))
        if bus.guard is not None:
            state, _, _, _, command, _, sent, _, _, _ = bus.guard.snapshot()
            lines.append(_row("guard", GuardState(state).name.lower(), bus.guard.reason))
            lines.append(_row("command", "", show(_si(command)) if command else "none"))
            lines.append(_row("sent", "", show(_si(sent))))
            counts = ", ".join(f"{reason} {n}" for reason, n in bus.guard_counts().items())
            lines.append(_row("so far", "", counts or "no command was changed"))
        return lines


def _si(micro: tuple[int, ...]) -> Any:
    return np.array(micro) * 1e-6


def _row(what: str, name: str, text: str) -> str:
    return f"  {what:<7} {name:<12} {text}".rstrip()


def show(value: Any) -> str:
    """A value on one line; big arrays by their shape."""
    if isinstance(value, np.ndarray):
        if value.size > SHORT:
            return f"<{value.dtype} {value.shape}>"
        return " ".join(np.array2string(value, precision=6, separator=", ").split())
    if isinstance(value, msgspec.Struct):
        inner = ", ".join(f"{k}={show(getattr(value, k))}" for k in value.__struct_fields__)
        return f"{type(value).__name__}({inner})"
    text = f"{value:.6g}" if isinstance(value, float) else " ".join(repr(value).split())
    return text if len(text) <= LONG else f"{text[:LONG]}… ({len(text)} characters)"
