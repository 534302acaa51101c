"""Routes: from the exposure of a picture to the first byte on an actuator's bus, stage by stage.

A route is found by walking the plan backwards from a bus's command edge to a stream (or, in a
graph without one, to a state that the graph reads). Its stamps, all on the monotonic clock:

    capture | delivered | clock of a lane | end of its nodes | clock of the next lane ... |
    first byte handed over | write done

Every new capture that reaches the wire is one sample: the first firing whose command descends
from it. Nothing is timed twice and nothing lies between two stages.
"""

from dataclasses import dataclass

import numpy as np

from haihe.bench.measure.firings import I64, Bools
from haihe.bench.measure.lineage import Lineage, look_up
from haihe.boards.unit import unit_from_text
from haihe.runtime.errors import BoardError
from haihe.runtime.plan.model import EdgePlan, Plan
from haihe.runtime.record.recording import Recording


@dataclass(frozen=True)
class Stage:
    """One part of the way. kind: delivery, queue, nodes, wait, command, write."""

    name: str
    kind: str
    ns: I64  # a sample per new capture
    is_after: bool = False  # after the first byte: not part of glass-to-servo


@dataclass(frozen=True)
class Route:
    """One way from a source to the bus of a role. All samples in ns, a row per new capture."""

    source: str
    role: str
    nodes: tuple[str, ...]
    capture: I64
    reaction: I64  # capture to first byte: glass to servo
    stages: tuple[Stage, ...]
    ages: I64  # of every command when its first byte was sent: repeats of old data too

    @property
    def describes(self) -> str:
        """As `front.image > part > Pursue > neck`."""
        return " → ".join((self.source, *self.nodes, self.role))


def routes(recording: Recording, lineage: Lineage | None = None) -> list[Route]:
    """Every route of every commanded bus, in the plan's order."""
    lineage = lineage or Lineage(recording)
    plan = recording.plan
    found = []
    for lane in plan.lanes:
        for bus in lane.task.buses:
            if bus.command_edge >= 0:
                for path in find_paths(plan, plan.edges[bus.command_edge]):
                    walk = _Walk(recording, lineage, path)
                    found.append(walk.route(lane.name, bus.role))
    return found


def find_paths(plan: Plan, command: EdgePlan) -> list[list[EdgePlan]]:
    """For each stream that a command descends from, the first path of edges, in the order of the
    way; without any stream the same for the states of buses."""
    inputs = {
        step.name: sorted(
            (plan.edges[number] for _, number in step.inputs),
            key=lambda edge: (not edge.trigger, edge.fresh_ns is None),
        )
        for lane in plan.lanes
        for step in lane.task.steps
    }
    ends: dict[str, list[EdgePlan]] = {}

    def go(edge: EdgePlan, behind: list[EdgePlan], seen: frozenset[str]) -> None:
        owner = edge.source.split(".")[0]
        path = [edge, *behind]
        if edge.kind == "loop" or owner in seen:
            return
        if owner not in inputs:
            ends.setdefault(edge.source, path)
            return
        for before in inputs[owner]:
            go(before, path, seen | {owner})

    go(command, [], frozenset())
    streams = {s: p for s, p in ends.items() if s.split(".")[0] in plan.streams}
    return list((streams or ends).values())


class _Walk:
    """Carries stamps along one path: `rows` has a row per firing of `lane`, a column per stamp;
    a row with a 0 is not known."""

    def __init__(self, recording: Recording, lineage: Lineage, path: list[EdgePlan]) -> None:
        self.recording, self.lineage, self.path = recording, lineage, path
        self.source = path[0].source
        self.stages: list[tuple[str, str]] = []
        self.lane = ""
        self.nodes: list[str] = []
        self._since: list[str] = []  # nodes since the last clock reading
        self.rows: I64 = np.zeros((0, 0), np.int64)

    def route(self, lane: str, role: str) -> Route:
        """The whole way."""
        for edge in self.path[:-1]:
            node = edge.target.split(".")[0]
            self._enter(edge.source, self._lane_of(node))
            self._call(node)
        self._enter(self.path[-1].source, lane)
        columns = self.lineage.lanes[lane]
        bus = columns.buses[role]
        names = " + ".join(self._since) or "command"
        self.stages += [(f"{names}, guard", "command"), (self._hand_over(), "write")]
        rows = np.column_stack((self.rows, bus.first_byte, bus.last_byte))
        sent = (rows > 0).all(axis=1) & columns.is_armed & self._is_fresh(lane, role)
        capture, first = rows[:, 0], rows[:, -2]
        new = sent.copy()
        new[sent] = np.diff(capture[sent], prepend=0) != 0
        steps = np.diff(rows[new], axis=1).T
        last = len(self.stages) - 1
        return Route(
            self.source,
            role,
            tuple(self.nodes),
            capture[new],
            (first - capture)[new],
            tuple(
                Stage(name, kind, ns, is_after=index == last)
                for index, ((name, kind), ns) in enumerate(zip(self.stages, steps, strict=True))
            ),
            (first - capture)[sent],
        )

    def _lane_of(self, node: str) -> str:
        return self.lineage.home(node)

    def _enter(self, source: str, lane: str) -> None:
        """The source is sampled in a lane: into the first, from one to the next, or no hop."""
        if lane == self.lane:
            return
        columns = self.lineage.lanes[lane]
        home = self.lineage.home(source)
        device = source.split(".")[0]
        if not home:
            table = self.lineage.streams.get(source, np.zeros((0, 3), np.int64))
            self.stages += [(f"{device}: delivery", "delivery"), ("queue", "queue")]
            rows = look_up(table, columns.reads[source])
        elif not self.lane and home == lane:
            bus = columns.buses[device]
            self.stages += [(f"{device}: reading", "delivery"), ("other readings", "queue")]
            rows = np.column_stack((bus.state_at, bus.state_done))
        else:
            if not self.lane:  # a state read in one lane and used in another
                before = self.lineage.lanes[home].buses[device]
                self.stages.append((f"{device}: reading", "delivery"))
                self.rows = np.column_stack((before.state_at, before.state_done))
                self._since = ["publication"]
            rows = self._hop(source, home, lane)
        self.rows = np.column_stack((rows, columns.clock))
        self.lane, self._since = lane, []

    def _hop(self, source: str, home: str, lane: str) -> I64:
        before = self.lineage.lanes[home]
        self.stages.append((" + ".join(self._since), "nodes"))
        every = self.lineage.lanes[lane].task.every_ns
        self.stages.append(("wait for the tick" if every else "queue", "wait"))
        made = np.flatnonzero(before.fired(source)[: before.gap])
        rows = np.column_stack((self.rows, before.end))[made]
        table = np.column_stack((np.arange(1, len(made) + 1), rows))
        return look_up(table, self.lineage.lanes[lane].reads[source])

    def _call(self, node: str) -> None:
        """Behind a node, its last output stands until the next."""
        fired = self.lineage.lanes[self.lane].fired(node)
        last = np.maximum.accumulate(np.where(fired, np.arange(len(fired)), -1))
        held = self.rows[last]
        held[last < 0] = 0
        self.rows = held
        self._since.append(node)
        self.nodes.append(node)

    def _is_fresh(self, lane: str, role: str) -> Bools:
        """Where the guard still obeyed the command: it was younger than the unit's command age."""
        columns = self.lineage.lanes[lane]
        made = self.lineage.samples(lane, self.path[-1].source).made
        limit = command_age_ns(self.recording, role)
        if limit is None:
            return made > 0
        return (made > 0) & (columns.clock - made <= limit)

    def _hand_over(self) -> str:
        return "wire" if self.recording.header.get("mode") == "virtual time" else "write call"


def command_age_ns(recording: Recording, role: str) -> int | None:
    """The command age of a role's guard in the recorded unit profile; None if it has none."""
    kept = recording.header.get("unit", {})
    try:
        device = unit_from_text(kept.get("text", ""), kept.get("file", "")).unit.devices[role]
    except (BoardError, KeyError):
        return None
    return round(device.guard.command_age * 1e9) if device.guard is not None else None
