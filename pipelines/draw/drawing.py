"""What every drawing of a graph shows: devices and nodes as boxes, in lanes, and their edges.

A bus stands twice in its lane, as the plan runs it: read at the start, guarded and written at the
end. So the only lines that run backwards are feedbacks and lanes that sample each other.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import msgspec

from haihe.boards.binding import Binding, BoundDevice
from haihe.models.detector import Detector
from haihe.runtime.graph import Graph, NodeUse
from haihe.runtime.plan.model import BusPlan, EdgePlan, LanePlan, Plan, StepPlan
from haihe.runtime.traced import Ref
from haihe.runtime.units import format_ns

How = Literal["triggers", "local", "sampled", "fifo", "aligned", "loop"]
Kind = Literal["stream", "read", "node", "write"]
LEGEND: dict[How, str] = {
    "triggers": "triggers",
    "local": "same tick",
    "sampled": "sampled: the newest",
    "fifo": "in order, triggers",
    "aligned": "sampled: the nearest in time",
    "loop": "previous firing",
}


class Number(msgspec.Struct, frozen=True):
    """A result of the analysis: `86.3 ms` and its verdict (`holds (measured)`, `fails`, or "")."""

    text: str
    verdict: str = ""

    def __str__(self) -> str:
        return f"{self.text} {self.verdict}".rstrip()


class Numbers(msgspec.Struct, frozen=True):
    """What the analysis says: of an edge (by its target, `pursue.parts`) the age at reading, of
    a node and of a lane the response."""

    edges: Mapping[str, Number] = {}
    nodes: Mapping[str, Number] = {}
    lanes: Mapping[str, Number] = {}
    verdict: str = ""  # of the whole, with its board


NOTHING = Numbers()


class Input(msgspec.Struct, frozen=True):
    """An input of a box with its one edge. detail: its contract, `fresh 250 ms`."""

    name: str
    source: str  # as the graph writes it: "front.image"
    box: str  # the box it comes from
    how: How
    detail: str = ""
    number: Number | None = None


class Box(msgspec.Struct, frozen=True):
    """A device or a node. lane: "" for a stream device, which has a reader of its own."""

    key: str
    kind: Kind
    title: str
    facts: tuple[str, ...]
    inputs: tuple[Input, ...] = ()
    lane: str = ""
    number: Number | None = None


class LaneFrame(msgspec.Struct, frozen=True):
    """A lane: what sets it going, and its boxes in their order."""

    name: str
    when: str
    boxes: tuple[Box, ...]
    number: Number | None = None


class ThreadFrame(msgspec.Struct, frozen=True):
    """A thread with its lanes. facts: its process, policy, core and rank, where they are said.
    process: "" is the main one."""

    name: str
    facts: tuple[str, ...]
    lanes: tuple[LaneFrame, ...]
    process: str = ""


class Drawing(msgspec.Struct, frozen=True):
    """A graph to draw."""

    title: str
    subtitle: str
    streams: tuple[Box, ...]
    threads: tuple[ThreadFrame, ...]

    def boxes(self) -> Iterator[Box]:
        """Every box, streams first, then in the order of the plan."""
        yield from self.streams
        for thread in self.threads:
            for lane in thread.lanes:
                yield from lane.boxes

    def used(self) -> list[How]:
        """The kinds of edges that it has, in the order of the legend."""
        found = {edge.how for box in self.boxes() for edge in box.inputs}
        return [how for how in LEGEND if how in found]


def drawing_of(
    graph: Graph, plan: Plan, binding: Binding | None = None, numbers: Numbers = NOTHING
) -> Drawing:
    """The drawing of a plan; binding: for the drivers and ports; numbers: of its analysis."""
    return _Drawer(graph, plan, binding, numbers).drawing()


class _Drawer:
    def __init__(self, graph: Graph, plan: Plan, binding: Binding | None, numbers: Numbers) -> None:
        self.graph, self.plan, self.binding, self.numbers = graph, plan, binding, numbers
        self.makers: dict[str, str] = {}  # source -> box
        for lane in plan.lanes:
            for bus in lane.task.buses:
                self.makers[bus.state] = f"{bus.role}.read"
            for step in lane.task.steps:
                for port in step.outputs:
                    self.makers[str(Ref(step.name, port, "node"))] = step.name

    def drawing(self) -> Drawing:
        lanes = {lane.name: self._lane(lane) for lane in self.plan.lanes}
        threads = []
        for thread in self.plan.threads:
            facts = [f"process {thread.process}"] if thread.process else []
            if len(thread.lanes) > 1:
                between = " before " if thread.policy == "priority" else ", "
                order = "" if thread.policy == "priority" else "first come, first run: "
                facts.append(order + between.join(thread.lanes))
            if thread.core >= 0:
                facts.append(f"core {thread.core}")
            if thread.rank:
                facts.append(f"rank {thread.rank}")
            frames = tuple(lanes[name] for name in thread.lanes)
            threads.append(ThreadFrame(thread.name, tuple(facts), frames, thread.process))
        unit = f"unit {self.binding.unit.unit.unit} · " if self.binding else ""
        verdict = f" · {self.numbers.verdict}" if self.numbers.verdict else ""
        subtitle = f"{unit}plan {self.plan.hash[:12]}{verdict}"
        streams = tuple(self._stream(role) for role in self.plan.streams)
        return Drawing(self.plan.graph, subtitle, streams, tuple(threads))

    def _lane(self, lane: LanePlan) -> LaneFrame:
        task = lane.task
        when = f"every {format_ns(task.every_ns)}" if task.every_ns else f"on {task.trigger}"
        if task.fifo:
            when += f", {task.fifo} places"
        boxes = [self._read(bus, lane.name) for bus in task.buses]
        boxes += [self._node(step, lane.name) for step in task.steps]
        boxes += [self._write(bus, lane.name) for bus in task.buses if bus.command_edge >= 0]
        return LaneFrame(lane.name, when, tuple(boxes), self.numbers.lanes.get(lane.name))

    def _stream(self, role: str) -> Box:
        kind = self.graph.devices[role].kind.name
        facts = tuple(_device_facts(self.binding.devices[role])) if self.binding else (kind,)
        return Box(role, "stream", role, facts)

    def _read(self, bus: BusPlan, lane: str) -> Box:
        kind = self.graph.devices[bus.role].kind.name
        facts = tuple(_device_facts(self.binding.devices[bus.role])) if self.binding else (kind,)
        return Box(f"{bus.role}.read", "read", f"read {bus.role}", facts, lane=lane)

    def _write(self, bus: BusPlan, lane: str) -> Box:
        facts = []
        guard = self.binding.devices[bus.role].profile.guard if self.binding else None
        if guard is not None:
            facts.append(f"command age {format_ns(round(guard.command_age * 1e9))}")
            safe = {name: limits.safe for name, limits in guard.joints.items()}
            same = len(set(safe.values())) == 1
            said = next(iter(safe.values())) if same else ", ".join(map(" ".join, safe.items()))
            facts.append(f"safe: {said}")
            facts.append(f"host dies: {guard.on_host_death}")
        edge = self.plan.edges[bus.command_edge]
        title = f"guard · write {bus.role}"
        inputs = (self._input("command", edge),)
        return Box(f"{bus.role}.write", "write", title, tuple(facts), inputs, lane)

    def _node(self, step: StepPlan, lane: str) -> Box:
        facts = [*_node_facts(self.graph.nodes[step.name])]
        if step.budget_ns:
            facts.append(f"budget {format_ns(step.budget_ns)}")
        if step.deadline_ns:
            facts.append(f"deadline {format_ns(step.deadline_ns)}")
        edges = [(port, self.plan.edges[i]) for port, i in step.inputs]
        facts += [f"asked: {edge.source}" for _, edge in edges if edge.kind == "goal"]
        facts += [f"in {group}: {mode}" for group, mode in step.modes]
        inputs = tuple(self._input(port, edge) for port, edge in edges if edge.kind != "goal")
        number = self.numbers.nodes.get(step.name)
        return Box(step.name, "node", step.name, tuple(facts), inputs, lane, number)

    def _input(self, port: str, edge: EdgePlan) -> Input:
        hows: dict[str, How] = {
            "fifo": "fifo", "loop": "loop", "aligned": "aligned", "local": "local",
        }  # fmt: skip
        how = hows.get(edge.kind, "sampled")
        if edge.trigger and how != "fifo":
            how = "triggers"
        detail = ""
        if edge.fresh_ns:
            detail = f"fresh {format_ns(edge.fresh_ns)}"
            detail += ", or None" if edge.on_stale == "call" else ""
        elif edge.keep:
            detail = f"within {format_ns(edge.within_ns)}"
        source = edge.fed_by or edge.source
        box = self.makers.get(source) or source.partition(".")[0]
        return Input(port, source, box, how, detail, self.numbers.edges.get(edge.target))


def _node_facts(use: NodeUse) -> Iterator[str]:
    if isinstance(use.instance, Detector):
        yield f"model {use.instance.model.rsplit('/', 1)[-1]}"
    else:
        name = use.contract.target.rpartition(":")[2].rpartition(".")[2]
        if name.lower() != use.name.lower():
            yield name


def _device_facts(bound: BoundDevice) -> Iterator[str]:
    yield bound.profile.driver
    options: Any = bound.options
    if bound.profile.port:
        yield f"{bound.profile.port} · {bound.baud:,} baud"
    elif str(getattr(options, "device", "")):
        device = str(options.device)
        yield f"/dev/video{device}" if device.isdecimal() else device
    elif getattr(options, "path", None):
        yield str(options.path)
    size, fps = getattr(options, "size", None), getattr(options, "fps", 0)
    said = [f"{size[0]}x{size[1]}"] if size else []
    said += [f"{fps:g} fps"] if fps else []
    if said:
        yield " · ".join(said)
    joints = [str(joint.name) for joint in getattr(options, "joints", ())]
    if joints:
        yield ", ".join(joints)
