"""Captures a simulation: what lanes hold at the end of each firing, as numbers over time.

It hangs on the lanes' own end of a record, reads and changes nothing: neither the run nor a byte
of its recording depends on it.
"""

import struct
from typing import TYPE_CHECKING, Any

import numpy as np

from haihe.runtime.exec.virtual import VirtualExecutor
from haihe.runtime.record.format import FIRING, STOP, STOP_LAYOUT
from haihe.runtime.types import Detections, JointCommand, JointState, Message

if TYPE_CHECKING:
    from haihe.runtime.exec.bus import BusRunner
    from haihe.runtime.exec.lane import Lane

LONGEST = 64  # elements of an array that is taken for a series
_HEAD = struct.Struct("<BIqqq")  # of a firing's record: kind, firing, release, clock, run
_UNITS = {"position": "rad", "velocity": "rad/s", "voltage": "V", "temperature_degc": "degC"}


class Trace:
    """Samples of one series under way: stamps in ns; values are floats or arrays of one axis."""

    def __init__(self, unit: str = "", columns: tuple[str, ...] = ()) -> None:
        self.unit, self.columns = unit, columns
        self.t_ns: list[int] = []
        self.values: list[Any] = []

    def add(self, t_ns: int, value: Any) -> None:
        """One sample."""
        self.t_ns.append(t_ns)
        self.values.append(value)


class Tap:
    """Looks at every lane of a virtual run at the end of each firing; changes nothing in it."""

    def __init__(self, executor: VirtualExecutor) -> None:
        self.executor = executor
        self.traces: dict[str, Trace] = {}
        for lane in executor.assembly.lanes:
            lane.on_log = _LaneTap(self, lane).look

    def trace(self, name: str, unit: str = "", columns: tuple[str, ...] = ()) -> Trace:
        """The trace of a name, begun when it is new."""
        found = self.traces.get(name)
        if found is None:
            found = self.traces[name] = Trace(unit, columns)
        return found

    def message(self, source: str, unit: str, t_ns: int, message: Message) -> None:
        """Every number in a message."""
        if isinstance(message, Detections):
            self.trace(f"{source}.count", "count").add(t_ns, len(message))
            score = float(message.scores.max()) if len(message) else float("nan")
            self.trace(f"{source}.score", "1").add(t_ns, score)
            return
        is_joint = isinstance(message, JointState | JointCommand)
        columns = message.names if isinstance(message, JointState) else ()
        for field in message.__struct_fields__:
            value = _numbers(getattr(message, field))
            if value is not None:
                known = _UNITS.get(field, "") if is_joint else unit
                self.trace(f"{source}.{field}", known, columns).add(t_ns, value)


def _numbers(value: Any) -> Any:
    """A float, or a copy as a float64 array of one axis; None for what is no number."""
    if isinstance(value, bool | int | float | np.number | np.bool_):
        return float(value)
    if isinstance(value, tuple) and value and all(isinstance(v, int | float) for v in value):
        value = np.array(value)
    if not isinstance(value, np.ndarray) or value.ndim != 1 or value.size > LONGEST:
        return None
    return value.astype(np.float64) if value.dtype.kind in "fiub" else None


class _LaneTap:
    def __init__(self, tap: Tap, lane: "Lane") -> None:
        self.tap, self.lane = tap, lane
        graph, plan = tap.executor.assembly.graph, tap.executor.plan
        place = {name: index for index, name in enumerate(lane.held)}
        # source, its unit, places of sequence, message and stamp among what the lane holds
        self.sources: list[tuple[str, str, int, int, int]] = []
        for bus in lane.task.buses:
            i = lane.ids[bus.state]
            self.sources.append((bus.state, "", place[f"q{i}"], place[f"m{i}"], place[f"o{i}"]))
        for step in lane.task.steps:
            for port in graph.nodes[step.name].outputs:
                source = step.name if port.name == "out" else f"{step.name}.{port.name}"
                i = lane.ids[source]
                unit = port.unit.name if port.unit else ""
                self.sources.append((source, unit, place[f"q{i}"], place[f"m{i}"], place[f"f{i}"]))
        self.newest = [0] * len(self.sources)
        self.edges = [
            (f"age.{plan.edges[number].target}", number)
            for step in lane.task.steps
            for _, number in step.inputs
            if plan.edges[number].fresh_ns is not None
        ]
        self.read = {number: (0, 0) for _, number in self.edges}  # readings, sum of their ages
        self.ports = {role: port for role, port in graph.commands}

    def look(self, record: bytes) -> None:
        """At the end of a record: what is new since the last one."""
        if record[0] == STOP:
            _, _, t, index = STOP_LAYOUT.unpack(record)
            self._command(self.lane.buses[index], t)
        if record[0] != FIRING:
            return
        _, _, _, t, run = _HEAD.unpack_from(record)
        held = self.lane.snapshot_held()
        for index, (source, unit, number, message, stamp) in enumerate(self.sources):
            if held[number] != self.newest[index]:
                self.newest[index] = held[number]
                if held[number]:  # 0: the lane began anew
                    self.tap.message(source, unit, held[stamp], held[message])
        for name, number in self.edges:
            stats = self.tap.executor.assembly.edges[number]
            count, total = self.read[number]
            if stats.count != count:
                self.read[number] = (stats.count, stats.total_ns)
                self.tap.trace(name, "s").add(t, (stats.total_ns - total) * 1e-9)
        for bus in self.lane.buses:
            self._command(bus, t + run)

    def _command(self, bus: "BusRunner", t: int) -> None:
        if bus.guard is None or bus.role not in self.ports:
            return
        state, _, is_engaged, _, _, _, sent, _, is_referenced, _ = bus.guard.snapshot()
        driven = np.array(is_referenced) & (is_engaged and bus.online)
        values = np.where(driven, np.array(sent) * 1e-6, np.nan)
        names = tuple(rule.name for rule in bus.guard.rules)
        command = f"{bus.role}.{self.ports[bus.role]}.position"
        self.tap.trace(command, "rad", names).add(t, values)
        self.tap.trace(f"{bus.role}.guard.state").add(t, float(state))
