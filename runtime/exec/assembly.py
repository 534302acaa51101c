"""All lanes of a plan, wired: links, counters, node instances, buses."""

import copy
import logging
import zlib
from collections.abc import Callable, Mapping
from types import MethodType
from typing import Any

import numpy as np

from haihe.runtime.clock import SECOND
from haihe.runtime.contracts import SILENT
from haihe.runtime.errors import HaiheError, NodeError, PlanError, RecordError
from haihe.runtime.exec.bus import BusRunner, command_units
from haihe.runtime.exec.goals import GoalRunner
from haihe.runtime.exec.lane import Lane, Overrun, Sink, Timing
from haihe.runtime.exec.modes import Decider
from haihe.runtime.graph import Graph, NodeUse
from haihe.runtime.guard.guard import Guard
from haihe.runtime.io import BusDevice
from haihe.runtime.links.slot import Bounded, Queue, Recent, Slot
from haihe.runtime.node import state_of
from haihe.runtime.plan.codegen import Stepping, compile_task
from haihe.runtime.plan.model import Plan, StepPlan, TaskPlan
from haihe.runtime.record.format import Event, as_recorded
from haihe.runtime.telemetry.stats import EdgeStats, NodeStats
from haihe.runtime.tuning import checked

log = logging.getLogger(__name__)
Play = Callable[[Lane, int, NodeUse], Callable[..., Any]]
NO_LIMIT = 1 << 62


class Assembly:
    """All lanes of a plan, wired: slots, counters, node instances, buses."""

    def __init__(
        self,
        graph: Graph,
        plan: Plan,
        buses: Mapping[str, tuple[BusDevice, Guard | None]],
        timing: Callable[[int], Timing],
        *,
        seed: int = 0,
        sink: Sink | None = None,
        play: Play | None = None,
        budgets: Mapping[str, int] | None = None,
        make_link: Callable[[Plan, TaskPlan, str], Slot] | None = None,
        process: str | None = None,
        outlets: Mapping[str, Slot] | None = None,
    ) -> None:
        """budgets: by node, where they differ from the declared ones. process: whose lanes these
        are (None: every lane). outlets: by source made here, the way to its readers elsewhere."""
        self.graph, self.plan, self.seed = graph, plan, seed
        make_link = make_link or link_for
        self.edges = [EdgeStats() for _ in plan.edges]
        self.nodes = {name: NodeStats() for name in graph.nodes}
        self._reported: dict[str, int] = {}  # by node that raised and goes on: when it was said
        self.slots: dict[str, list[Slot]] = {}
        self.lanes = [
            Lane(i, lane, sink)
            for i, lane in enumerate(plan.lanes)
            if process is None or plan.process_of(lane.name) == process
        ]
        self.readers: dict[tuple[int, str], Slot] = {}
        for lane in self.lanes:
            for source in lane.task.reads:
                slot = self.readers[lane.index, source] = make_link(plan, lane.task, source)
                self.slots.setdefault(source, []).append(slot)
        for source, outlet in (outlets or {}).items():
            self.slots.setdefault(source, []).append(outlet)
        for lane in self.lanes:
            self._wire(lane, buses, timing(lane.index), play, budgets or {})
        for lane in self.lanes:
            queue = self.readers.get((lane.index, lane.task.trigger))
            if isinstance(queue, Queue):
                into = lane.task.ends
                queue.stats = [self.edges[i] for i in into if plan.edges[i].kind == "fifo"]
                fed = [slot for s in lane.task.publishes for slot in self.slots[s]]
                lane.outlets = [slot for slot in fed if isinstance(slot, Bounded)]

    def _wire(
        self,
        lane: Lane,
        buses: Mapping[str, tuple[BusDevice, Guard | None]],
        timing: Timing,
        play: Play | None,
        budgets: Mapping[str, int],
    ) -> None:
        uses = [self.graph.nodes[step.name] for step in lane.task.steps]
        stepping = compile_task(self.plan, lane.task, {u.name: u.contract for u in uses})
        lane.timing = timing
        lane.ids, lane.held = stepping.ids, stepping.held
        for index, bus in enumerate(lane.task.buses):
            device, guard = buses[bus.role]
            lane.buses.append(BusRunner(bus.role, device, guard, lane.exchanges, index))
        self._decide(lane)
        lane.rewire = lambda: self._fill(lane, stepping, uses, play, budgets)
        lane.rewire()

    def _fill(
        self,
        lane: Lane,
        stepping: Stepping,
        uses: list[NodeUse],
        play: Play | None,
        budgets: Mapping[str, int],
    ) -> None:
        """New nodes and held values for the compiled task."""
        ids, timing = stepping.ids, lane.timing
        assert timing is not None
        for filled in (lane.instances, lane.states, lane.constants, lane.functions):
            filled.clear()
        env: dict[str, Any] = {
            "clock": timing.clock,
            "now": timing.now,
            "mono": timing.mono,
            "LOG": lane.log,
            "PACK": stepping.layout.pack,
            "check": lambda index, place, value: check_output(uses[index], place, value),
            "raised": lambda index, exc: self._raised(lane, index, uses[index], exc),
            "MODES": lane.modes,
            "overran": lambda index, firing, took: lane.on_overrun(
                Overrun(timing.now(), lane.name, uses[index].name, firing, took, env[f"O{index}"])
            ),
        }
        for source in lane.task.reads:
            env[f"S{ids[source]}"] = self.readers[lane.index, source]
        for number, stats in enumerate(self.edges):
            env[f"E{number}"] = stats
        for index, use in enumerate(uses):
            step = lane.task.steps[index]
            instance = copy.deepcopy(use.instance)
            function = use.contract.function
            call = MethodType(function, instance) if instance is not None else function
            lane.instances.append(instance)
            state = state_of(use.instance) if use.instance is not None else {}
            lane.states.append(copy.deepcopy(state))
            lane.constants.append(dict(use.constants))
            if step.recorded:
                if play is not None:
                    call = play(lane, index, use)
                elif lane.sink is not None:
                    call = _recorded(lane, use, call)
            lane.functions.append(call)
            for port in use.outputs:
                name = use.name if port.name == "out" else f"{use.name}.{port.name}"
                env[f"Y{ids[name]}"] = port.kind
            env[f"N{index}"] = call
            env[f"K{index}"] = lane.constants[index]
            env[f"T{index}"] = self.nodes[use.name]
            budget = budgets.get(use.name, step.budget_ns)
            env[f"B{index}"], env[f"O{index}"] = budget, budget or NO_LIMIT
            env[f"X{index}"] = _random(self.seed, use.name)
        for index, runner in enumerate(lane.buses):
            env |= {f"R{index}": runner.read, f"W{index}": runner.write}
            env |= {f"G{index}": runner.decide, f"U{index}": command_units}
        for name, loop in self.graph.feedbacks.items():
            if name in ids:
                env[f"L{ids[name]}"] = loop.initial
        env |= {f"H{i}": goal for i, goal in enumerate(lane.goals.values())}
        env |= {f"D{i}": decider for i, decider in enumerate(lane.deciders.values())}
        for source in lane.task.publishes:
            env[f"P{ids[source]}"] = self._publisher(source, lane.bases.get(source, 0))
        lane.tick, lane.snapshot_held, lane.restore_held = stepping.factory(env)

    def _decide(self, lane: Lane) -> None:
        """The modes that concern a lane, and what it decides of them."""
        plan = self.plan
        for goal in plan.goals:
            if goal.lane == lane.name:
                kind = self.graph.goals[goal.name].kind
                lane.goals[goal.name] = GoalRunner(goal, kind, lambda told: lane.tell(told))
        for group in plan.groups:
            if lane.name in group.lanes:
                lane.modes[group.name] = lane.initial_modes[group.name] = group.initial
            if lane.name == (group.home or next(iter(group.lanes), "")):
                lane.speaks.add(group.name)
            if lane.name == group.home:
                decider = lane.deciders[group.name] = Decider(
                    group,
                    lane.modes,
                    lane.goals,
                    lambda event, lanes=group.lanes: lane.post(event, lanes),  # type: ignore[misc]
                    lambda told: lane.tell(told),
                )
                runners = list(decider.goals.values())
                for runner in runners:
                    runner.rivals = [other for other in runners if other is not runner]

    def connect(
        self,
        post: Callable[[Event, tuple[str, ...]], None],
        tell: Callable[[tuple[Any, ...]], None],
    ) -> None:
        """Where the lanes' own events go, and what they tell outside."""
        for lane in self.lanes:
            lane.post, lane.tell, lane.is_live = post, tell, True

    def _raised(self, lane: Lane, index: int, use: NodeUse, exc: BaseException) -> None:
        """A node raised: what follows is said by its `on_error`."""
        step = lane.task.steps[index]
        if step.on_error == "stop" or not isinstance(exc, Exception):
            lane.on_raise(lane, use.name, exc)
            return
        if step.on_error == "restart":
            lane.begin_anew(index)
        if not lane.is_live:
            return
        self._report(lane, step, use, exc)
        if step.on_error == "restart" and hasattr(lane.instances[index], "open"):
            try:
                lane.instances[index].close()
                open_node(use, lane.instances[index])
            except Exception as problem:  # noqa: BLE001 - what it holds is gone: the run ends
                lane.on_raise(lane, use.name, problem)

    def _report(self, lane: Lane, step: StepPlan, use: NodeUse, exc: Exception) -> None:
        """Say that a node raised and goes on, at most once a second."""
        assert lane.timing is not None
        now = lane.timing.now()
        if now - self._reported.get(use.name, -SECOND) < SECOND:
            return
        self._reported[use.name] = now
        log.warning(
            "%s: node %s: it raised %s: %s. No output in this firing; %s (on_error=%s). %d times "
            "so far",
            use.line, use.name, type(exc).__name__, exc,
            "it begins anew" if step.on_error == "restart" else "it goes on",
            step.on_error, self.nodes[use.name].raised,
        )  # fmt: skip

    def _publisher(self, source: str, base: int) -> Callable[[Any], None]:
        """base: how many messages the source made before the last restart of its lane."""
        slots = self.slots[source]
        if len(slots) == 1 and not base:
            return slots[0].put

        def publish(sample: Any) -> None:
            if base:
                sample = (sample[0] + base, *sample[1:])
            for slot in slots:
                slot.put(sample)

        return publish

    def renew(self, lane: Lane, firing: int, made: Mapping[str, int], t_ns: int) -> None:
        """Begin a lane anew after the death of its process: see Lane.renew. What its nodes had not
        read of each other is lost, and counted so."""
        before = lane.bases
        for number, edge in enumerate(self.plan.edges):
            if edge.kind == "local" and edge.source in made and self._is_read_in(lane, number):
                stats = self.edges[number]
                stats.overwritten += made[edge.source] - before.get(edge.source, 0) - stats.last
                stats.last = 0
        lane.renew(firing, made, t_ns)

    @staticmethod
    def _is_read_in(lane: Lane, edge: int) -> bool:
        return edge in lane.task.ends

    def lane_of(self, node: str) -> Lane:
        """The lane in which a node runs."""
        return next(lane for lane in self.lanes if any(s.name == node for s in lane.task.steps))

    def is_read_here(self, edge: int) -> bool:
        """Whether one of these lanes is at the end of an edge."""
        return any(self._is_read_in(lane, edge) for lane in self.lanes)

    def set_parameter(self, node: str, key: str, value: Any) -> None:
        """Change a parameter of a node of these lanes from its next firing on. Raises PlanError."""
        event = self.parameter(node, key, value)
        self.lane_of(node).inbox.append(event)

    def parameter(self, node: str, key: str, value: Any) -> Event:
        """The event that changes a parameter of a node. Raises PlanError."""
        use = self.graph.nodes.get(node)
        if use is None:
            raise PlanError(
                f"set({node!r}, {key!r}): graph {self.graph.name} has no node {node!r}. It has: "
                f"{', '.join(self.graph.nodes)}."
            )
        if key not in use.constants:
            raise PlanError(
                f"set({node!r}, {key!r}): node {node} ({use.line}) has no parameter {key!r}. It "
                f"has: {', '.join(use.constants) or 'none'}."
            )
        try:
            event = as_recorded(("param", node, key, value))
        except RecordError as exc:
            raise PlanError(f"set({node!r}, {key!r}): {exc}") from exc
        return (*event[:3], checked(use, key, event[3]))

    def guards(self) -> list[Guard]:
        """Every guard."""
        return [b.guard for lane in self.lanes for b in lane.buses if b.guard is not None]

    def in_flight(self, edge: int) -> int:
        """Messages of an edge that are sent and neither read nor overwritten."""
        plan = self.plan.edges[edge]
        if plan.kind == "loop":
            return 0
        if plan.kind == "goal":
            goals = (goal for lane in self.lanes for goal in lane.goals.values())
            number = next(g.number for g in goals if g.plan.request == plan.source)
            return number - self.edges[edge].last
        lane = next(lane for lane in self.lanes if self._is_read_in(lane, edge))
        last = self.edges[edge].last
        if plan.kind != "local":
            return self.readers[lane.index, plan.source].in_flight(last)
        return lane.sequence_of(plan.source) - lane.bases.get(plan.source, 0) - last


def link_for(plan: Plan, task: TaskPlan, source: str) -> Slot:
    """The link through which a task reads a source of another lane."""
    if task.fifo and source == task.trigger:
        return Queue(task.fifo)
    for number in task.ends:
        edge = plan.edges[number]
        if edge.source == source and edge.kind == "aligned":
            return Recent(edge.keep)
    return Slot()


def node_error(use: NodeUse, exc: BaseException) -> NodeError:
    """What a user is told of a node that raised."""
    error = NodeError(
        f"{use.line}: node {use.name}: it raised {type(exc).__name__}: {exc}. The actuators were "
        "made safe; mend the node."
    )
    error.__cause__ = exc
    return error


def open_node(use: NodeUse, instance: Any) -> None:
    """Open a node's resource; its error gets the line at which the node was wired."""
    try:
        instance.open()
    except HaiheError as exc:
        raise type(exc)(f"{use.line}: node {use.name}: {exc}") from exc


def check_output(use: NodeUse, place: int, value: Any) -> None:
    """What a node returned must be what its annotation says. Raises TypeError."""
    port = use.outputs[place]
    if isinstance(value, port.kind) or (value is SILENT and port.sometimes):
        return
    what = "" if port.name == "out" else f" for {port.name}"
    found = "nothing" if value is None else "silent()" if value is SILENT else type(value).__name__
    cure = ""
    if value is None or value is SILENT:
        if value is None and port.sometimes:
            return
        cure = "; an output that may stay away is Annotated[..., sometimes]"
    raise TypeError(f"it returned {found}{what}, expected {port.kind.__name__}{cure}")


def _recorded(lane: Lane, use: NodeUse, call: Callable[..., Any]) -> Callable[..., Any]:
    """Records what the node gives, in decision replay's terms: per output, in sequence."""
    several = use.contract.output_tuple is not None
    sources = [use.name if p.name == "out" else f"{use.name}.{p.name}" for p in use.outputs]
    sink = lane.sink
    assert sink is not None

    def recording(*args: Any) -> Any:
        result = call(*args)
        for source, message in zip(sources, result if several else (result,), strict=True):
            if message is not None and message is not SILENT:
                number = lane.counts[source] = lane.counts.get(source, 0) + 1
                assert lane.timing is not None
                sink.output(source, number, lane.timing.now(), message)
        return result

    return recording


def _random(seed: int, node: str) -> Callable[[int], np.random.Generator]:
    key = np.array([seed & 0xFFFFFFFFFFFFFFFF, zlib.crc32(node.encode())], np.uint64)

    def generator(firing: int) -> np.random.Generator:
        return np.random.Generator(np.random.Philox(key=key, counter=[0, 0, 0, firing]))

    return generator
