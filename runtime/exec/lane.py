"""A lane at run time, and the assembly of all lanes of a plan.

The same for every executor: real time, virtual time and replay differ in what they put behind the
clock, the buses' ports and the slots.
"""

import copy
import logging
import pickle
import zlib
from collections import deque
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from types import MethodType
from typing import Any, Protocol

import numpy as np

from haihe.runtime.clock import MILLISECOND, SECOND
from haihe.runtime.contracts import SILENT
from haihe.runtime.errors import HaiheError, NodeError, PlanError, RecordError
from haihe.runtime.exec.bus import BusRunner, command_units
from haihe.runtime.graph import Graph, NodeUse
from haihe.runtime.guard.guard import Guard
from haihe.runtime.io import BusDevice
from haihe.runtime.links.slot import Queue, Recent, Slot
from haihe.runtime.node import set_state, state_of
from haihe.runtime.plan.codegen import compile_task
from haihe.runtime.plan.model import LanePlan, Plan, TaskPlan
from haihe.runtime.record.format import (
    SETUP,
    SETUP_LAYOUT,
    STOP,
    STOP_LAYOUT,
    Event,
    Logged,
    as_recorded,
    pack_tail,
)
from haihe.runtime.telemetry.stats import EdgeStats, NodeStats

log = logging.getLogger(__name__)
BLOCK_NS = 100 * MILLISECOND


class Sink(Protocol):
    """Where a lane's records go; see record/recorder.py."""

    def block(self, lane: str, data: bytes, firing: int, t_ns: int) -> None:
        """A block of a lane's records."""
        ...

    def output(self, source: str, sequence: int, t_ns: int, message: Any) -> None:
        """An output of a recorded node."""
        ...

    def stream(self, source: str, sequence: int, capture: int, delivered: int, m: Any) -> None:
        """A message of a stream device, at its delivery."""
        ...

    def keyframe(self, lane: str, firing: int, t_ns: int, state: bytes) -> None:
        """State between two firings."""
        ...


@dataclass
class Timing:
    """What stands behind time in a lane: the firing's clock reading, the present, and a clock for
    measuring execution times."""

    clock: Callable[[], int]
    now: Callable[[], int]
    mono: Callable[[], int]


@dataclass(frozen=True)
class Overrun:
    """A node took longer than its budget: what is computed from budgets is void meanwhile."""

    t_ns: int  # the end of its firing's nodes, or just before
    lane: str
    node: str
    firing: int
    took_ns: int
    budget_ns: int


NO_LIMIT = 1 << 62
Play = Callable[["Lane", int, NodeUse], Callable[..., Any]]


class Lane:
    """One lane: its compiled task, state, inbox of events, and the record being written."""

    def __init__(self, index: int, plan: LanePlan, sink: Sink | None) -> None:
        self.index = index
        self.name = plan.name
        self.task = plan.task
        self.sink = sink
        self.inbox: deque[Event] = deque()
        self.firing = 0
        self.stops = 0
        self.buses: list[BusRunner] = []
        self.exchanges: list[Logged] = []
        self.applied: list[Event] = []
        self.functions: list[Callable[..., Any]] = []
        self.constants: list[dict[str, Any]] = []
        self.instances: list[Any] = []
        self.counts: dict[str, int] = {}  # outputs of recorded nodes so far
        self.on_raise: Callable[[Lane, str, BaseException], None] = lambda lane, node, exc: None
        self.on_overrun: Callable[[Overrun], None] = lambda overrun: None
        self.outlets: list[Queue] = []  # of a lane with a queue: the queues that it feeds
        self.on_log: Callable[[bytes], None] | None = None
        self.progress = ""  # what is being opened, for reports of hangs
        every = plan.task.every_ns
        self.keyframe_every = max(1, SECOND // every) if every else 30
        self._resting: dict[int, tuple[int, ...]] = {}
        self._block = bytearray()
        self._flushed_at = 0
        self.tick: Any = None
        self.snapshot_held: Any = None
        self.restore_held: Any = None
        self.timing: Timing | None = None
        self.ids: dict[str, int] = {}
        self.held: tuple[str, ...] = ()

    # --- firing -------------------------------------------------------------------------------

    def begin(self, release: int) -> Generator[Any, Any, None]:
        """Start a firing: events apply now, and are recorded in it."""
        self.firing += 1
        if self.inbox:
            self._apply_events()
        tick: Generator[Any, Any, None] = self.tick(release, self.firing)
        return tick

    def may_start(self) -> bool:
        """Whether there is room for what a job of it makes: else it is held back, and what waits
        for it waits in its own queue, up to the entrance of the chain."""
        return all(queue.has_room() for queue in self.outlets)

    def _apply_events(self) -> None:
        for _ in range(min(len(self.inbox), 200)):
            event = self.inbox.popleft()
            self.apply(event)
            self.applied.append(event)

    def apply(self, event: Event) -> None:
        """Carry one event out."""
        kind = event[0]
        if kind == "param":
            _, node, key, value = event
            index = next(i for i, step in enumerate(self.task.steps) if step.name == node)
            self._set_constant(index, key, value)
            return
        for bus in self.buses:
            if bus.guard is None:
                continue
            if kind == "arm":
                bus.guard.arm()
            elif kind == "disarm":
                bus.guard.disarm()
            elif kind == "trip":
                bus.guard.trip(event[1])
            elif kind == "reset":
                bus.guard.reset()

    def _set_constant(self, index: int, key: str, value: Any) -> None:
        self.constants[index][key] = value
        instance = self.instances[index]
        if instance is not None and hasattr(instance, key):
            object.__setattr__(instance, key, value)  # frozen dataclasses too

    def log(self, fixed: bytes) -> None:
        """End the record of a firing, set-up or stop: its fixed part is given."""
        if self.on_log is not None:
            self.on_log(fixed)
        if self.sink is not None:
            self._block += fixed
            self._block += pack_tail(self.applied, self.exchanges)
        if self.exchanges or self.applied:
            self.exchanges.clear()
            self.applied.clear()
        if self.sink is not None:
            now = self.timing.now()  # type: ignore[union-attr]
            if now - self._flushed_at >= BLOCK_NS:
                self.flush(now)

    def flush(self, now: int) -> None:
        """Hand the block to the sink."""
        if self._block and self.sink is not None:
            self.sink.block(self.name, bytes(self._block), self.firing, now)
            self._block.clear()
        self._flushed_at = now

    def after_firing(self, now: int) -> None:
        """Between two firings: a keyframe when one is due."""
        if self.sink is None or self.firing % self.keyframe_every:
            return
        try:
            state = pickle.dumps(self.snapshot(), 5)
        except Exception as exc:  # noqa: BLE001 - pickle raises anything; a run goes on without
            log.warning("lane %s: no keyframes from here on: %s", self.name, exc)
            self.keyframe_every = 1 << 62
            return
        self.sink.keyframe(self.name, self.firing, now, state)

    # --- set-up and stop ----------------------------------------------------------------------

    def setup(self) -> Generator[Any, Any, None]:
        """Set every bus device up; recorded. Raises DeviceError."""
        for index, bus in enumerate(self.buses):
            try:
                yield from bus.setup()
            finally:
                self.log(SETUP_LAYOUT.pack(SETUP, index))

    def stop(self, clock: Callable[[], int], reason: str) -> Generator[Any, Any, bool]:
        """One stop firing: trip the guards and send the safe actions; recorded. Gives whether
        every joint has come to rest (a safe position may take several)."""
        at_rest = True
        self.stops += 1
        for index, bus in enumerate(self.buses):
            if bus.guard is None:
                continue
            if self.stops == 1:
                event: Event = ("trip", reason)
                bus.guard.trip(reason)
                self.applied.append(event)
            state = yield from bus.last_look()
            if not bus.online and self.stops == 1:
                why = f"{bus.role} is offline ({bus.problem})"
                log.error("%s: no safe action could be sent", why)
            t = clock()
            decision = bus.decide(t, None, 0, state)
            yield from bus.write(decision, 0, EdgeStats(), 0)
            at_rest &= decision.positions == self._resting.get(index)
            self._resting[index] = decision.positions
            self.log(STOP_LAYOUT.pack(STOP, self.stops, t, index))
        return at_rest

    # --- state --------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, Any]:
        """Everything the next firing depends on, for a keyframe."""
        states = {
            step.name: state_of(instance)
            for step, instance in zip(self.task.steps, self.instances, strict=True)
            if instance is not None and not step.recorded
        }
        return {
            "firing": self.firing,
            "held": self.snapshot_held(),
            "nodes": states,
            "constants": [dict(c) for c in self.constants],
            "buses": [bus.snapshot() for bus in self.buses],
            "counts": dict(self.counts),
        }

    def sequence_of(self, source: str) -> int:
        """The number of the last message that a source of this lane has made."""
        values = dict(zip(self.held, self.snapshot_held(), strict=True))
        return int(values[f"q{self.ids[source]}"])

    def restore(self, state: dict[str, Any]) -> None:
        """Restore what `snapshot` gave."""
        self.firing = state["firing"]
        self.restore_held(state["held"])
        for step, instance in zip(self.task.steps, self.instances, strict=True):
            if step.name in state["nodes"]:
                set_state(instance, state["nodes"][step.name])
        for index, constants in enumerate(state["constants"]):
            for key, value in constants.items():
                self._set_constant(index, key, value)
        for bus, bus_state in zip(self.buses, state["buses"], strict=True):
            bus.restore(bus_state)
        self.counts.clear()
        self.counts.update(state["counts"])


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
    ) -> None:
        """budgets: by node, where they differ from the declared ones."""
        self.graph, self.plan, self.seed = graph, plan, seed
        make_link = make_link or link_for
        self.edges = [EdgeStats() for _ in plan.edges]
        self.nodes = {name: NodeStats() for name in graph.nodes}
        self.slots: dict[str, list[Slot]] = {}
        self.lanes = [Lane(i, lane, sink) for i, lane in enumerate(plan.lanes)]
        self.readers: dict[tuple[int, str], Slot] = {}
        for lane in self.lanes:
            for source in lane.task.reads:
                slot = self.readers[lane.index, source] = make_link(plan, lane.task, source)
                self.slots.setdefault(source, []).append(slot)
        for lane in self.lanes:
            self._wire(lane, buses, timing(lane.index), play, budgets or {})
        for lane in self.lanes:
            queue = self.readers.get((lane.index, lane.task.trigger))
            if isinstance(queue, Queue):
                queue.stats = [self.edges[i] for i in _edges_into(plan, lane.task)]
                fed = [slot for s in lane.task.publishes for slot in self.slots[s]]
                lane.outlets = [slot for slot in fed if isinstance(slot, Queue)]

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
        ids = stepping.ids
        lane.timing = timing
        env: dict[str, Any] = {
            "clock": timing.clock,
            "now": timing.now,
            "mono": timing.mono,
            "LOG": lane.log,
            "PACK": stepping.layout.pack,
            "check": lambda index, place, value: check_output(uses[index], place, value),
            "raised": lambda index, exc: lane.on_raise(lane, uses[index].name, exc),
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
        for index, bus in enumerate(lane.task.buses):
            device, guard = buses[bus.role]
            runner = BusRunner(bus.role, device, guard, lane.exchanges, index)
            lane.buses.append(runner)
            env |= {f"R{index}": runner.read, f"W{index}": runner.write}
            env |= {f"G{index}": runner.decide, f"U{index}": command_units}
        for name, loop in self.graph.feedbacks.items():
            if name in ids:
                env[f"L{ids[name]}"] = loop.initial
        for source in lane.task.publishes:
            env[f"P{ids[source]}"] = self._publisher(source)
        lane.tick, lane.snapshot_held, lane.restore_held = stepping.factory(env)
        lane.ids, lane.held = ids, stepping.held

    def _publisher(self, source: str) -> Callable[[Any], None]:
        slots = self.slots[source]
        if len(slots) == 1:
            return slots[0].put

        def publish(sample: Any) -> None:
            for slot in slots:
                slot.put(sample)

        return publish

    def lane_of(self, node: str) -> Lane:
        """The lane in which a node runs."""
        return next(lane for lane in self.lanes if any(s.name == node for s in lane.task.steps))

    def set_parameter(self, node: str, key: str, value: Any) -> None:
        """Change a parameter of a node from its next firing on. Raises PlanError."""
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
        self.lane_of(node).inbox.append(event)

    def guards(self) -> list[Guard]:
        """Every guard."""
        return [b.guard for lane in self.lanes for b in lane.buses if b.guard is not None]

    def in_flight(self, edge: int) -> int:
        """Messages of an edge that are sent and neither read nor overwritten."""
        plan = self.plan.edges[edge]
        if plan.kind == "loop":
            return 0
        if plan.kind == "fifo":
            stats = self.edges[edge]
            queues = (s for s in self.slots[plan.source] if isinstance(s, Queue))
            return next(len(q.items) for q in queues if any(one is stats for one in q.stats))
        if plan.kind in ("slot", "aligned"):
            value = self.slots[plan.source][0].value
            made = value[0] if value else 0
        else:
            made = next(
                lane.sequence_of(plan.source)
                for lane in self.lanes
                if plan.source in lane.ids and plan.source not in lane.task.reads
            )
        return made - self.edges[edge].last


def link_for(plan: Plan, task: TaskPlan, source: str) -> Slot:
    """The link through which a task reads a source of another lane."""
    if task.fifo and source == task.trigger:
        return Queue(task.fifo)
    for number in _edges_into(plan, task):
        edge = plan.edges[number]
        if edge.source == source and edge.kind == "aligned":
            return Recent(edge.keep)
    return Slot()


def _edges_into(plan: Plan, task: TaskPlan) -> list[int]:
    return [number for step in task.steps for _, number in step.inputs]


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
