"""The plan: what runs, and nothing else. Plain data, serialisable, with a hash."""

import hashlib
from typing import Any, Literal

import msgspec

Trigger = dict[str, Any]


class EdgePlan(msgspec.Struct, frozen=True):
    """One edge into a node's input or a device's command port.

    kind: `local` (same tick or last value inside one task), `slot` (between tasks: one place,
    latest wins), `fifo` (between tasks, in order), `aligned` (between tasks: the one captured
    nearest to the trigger), `loop` (feedback: the previous firing's value), `goal` (the request of
    the goal that is active in this lane, absent when none is).
    """

    source: str
    target: str
    kind: str
    trigger: bool = False
    fresh_ns: int | None = None
    on_stale: str = "skip"
    fed_by: str = ""  # for a loop: the output that it remembers
    within_ns: int = 0  # of an aligned edge
    keep: int = 0  # of an aligned edge: how many messages the choice is among

    @property
    def ages(self) -> bool:
        """Whether what is made from it is as old as it: a slow side input ages nothing."""
        return self.trigger or self.fresh_ns is not None or self.kind == "aligned"


class StepPlan(msgspec.Struct, frozen=True):
    """One node in a task, at its place in the order."""

    name: str
    target: str
    inputs: tuple[tuple[str, int], ...]  # (port, index of its edge in Plan.edges)
    outputs: tuple[str, ...]
    trigger: str  # "" (the task's own), or the source whose output triggers it
    constants: dict[str, Any]
    deadline_ns: int | None = None
    budget_ns: int = 0
    recorded: bool = False
    modes: tuple[tuple[str, str], ...] = ()  # (group, mode): called only in all of these
    on_error: str = "stop"
    select: bool = False  # calls nothing: takes over the first input published in this firing

    def source(self, port: str) -> str:
        """What an output is called as a source."""
        return self.name if port == "out" else f"{self.name}.{port}"


class BusPlan(msgspec.Struct, frozen=True):
    """A device cycled in a task: read at its start, guarded and written at its end."""

    role: str
    state: str  # "neck.state"
    command_edge: int = -1  # index in Plan.edges, -1: read only
    held_by: tuple[str, ...] = ()  # groups by whose modes its command is made, or not
    idle: tuple[tuple[str, str], ...] = ()  # (group, mode) in which nothing commands it


class TaskPlan(msgspec.Struct, frozen=True):
    """A fused straight-line tick: one trigger, nodes in order, the devices it cycles."""

    name: str
    every_ns: int  # 0: triggered
    trigger: str  # the source that triggers it, "front.image" or another lane's output; or ""
    steps: tuple[StepPlan, ...]
    buses: tuple[BusPlan, ...]
    reads: tuple[str, ...]  # sources sampled from slots, in order; their sequence is recorded
    publishes: tuple[str, ...]  # sources that other tasks sample
    fifo: int = 0  # places of the trigger's queue; 0: one place, latest wins

    @property
    def makes(self) -> list[str]:
        """Its sources: states of buses, outputs of nodes."""
        outputs = [step.source(port) for step in self.steps for port in step.outputs]
        return [bus.state for bus in self.buses] + outputs

    @property
    def ends(self) -> list[int]:
        """The edges that end in it, by their index in Plan.edges."""
        edges = [edge for step in self.steps for _, edge in step.inputs]
        return edges + [bus.command_edge for bus in self.buses if bus.command_edge >= 0]


class LanePlan(msgspec.Struct, frozen=True):
    """One rate domain, with a record of its own."""

    name: str
    task: TaskPlan


class ThreadPlan(msgspec.Struct, frozen=True):
    """A thread and the lanes that it runs, one job at a time.

    lanes: most urgent first (`priority`), or in the order of ties (`fifo`). core: CPU to pin it
    to, -1: not pinned. rank: its real-time priority (SCHED_FIFO), 0: none. process: in which one
    it runs, "": in the main one, that of the launcher.
    """

    name: str
    lanes: tuple[str, ...]
    policy: Literal["priority", "fifo"] = "priority"
    core: int = -1
    rank: int = 0
    process: str = ""


class ModePlan(msgspec.Struct, frozen=True):
    """One mode of a group. enter, leave: sources of the conditions, "" for none."""

    name: str
    enter: str = ""
    auto: bool = True  # entered as soon as `enter` begins to hold; False: on request only
    leave: str = ""
    then: str = ""  # the mode after it
    goal: str = ""  # active while this goal is


class LadderPlan(msgspec.Struct, frozen=True):
    """When a group steps down to a cheaper mode, and up again; see exec/ladder.py.

    order: from full to cheapest. A threshold of 0 is not looked at, a battery's neither.
    """

    order: tuple[str, ...]
    misses: int = 0  # of deadlines and budgets, within `window_ns`
    window_ns: int = 0
    heat_degc: float = 0.0
    load: float = 0.0  # of all cores, 0..1
    battery: float = 0.0  # 0..1
    settle_ns: int = 0  # from a step down to the next
    hold_ns: int = 0  # all must have been well for so long before a step up


class GroupPlan(msgspec.Struct, frozen=True):
    """Modes of which one is active at a time. home: the lane that decides ("": a ladder does, from
    outside). lanes: all that it concerns."""

    name: str
    initial: str
    modes: tuple[ModePlan, ...]
    home: str
    lanes: tuple[str, ...]
    ladder: LadderPlan | None = None

    def mode(self, name: str) -> ModePlan:
        """The mode of that name."""
        return next(mode for mode in self.modes if mode.name == name)


class GoalPlan(msgspec.Struct, frozen=True):
    """A goal: its lane, the source of its request, of its status, and the time that it may take."""

    name: str
    lane: str
    request: str
    status: str
    timeout_ns: int


class Plan(msgspec.Struct, frozen=True):
    """The compiled graph."""

    graph: str
    lanes: tuple[LanePlan, ...]
    edges: tuple[EdgePlan, ...]
    streams: tuple[str, ...]  # stream roles, each with a reader of its own
    threads: tuple[ThreadPlan, ...] = ()
    groups: tuple[GroupPlan, ...] = ()
    goals: tuple[GoalPlan, ...] = ()

    @property
    def processes(self) -> tuple[str, ...]:
        """The processes of its own, besides the main one, in the order of their threads."""
        return tuple(dict.fromkeys(t.process for t in self.threads if t.process))

    def process_of(self, lane: str) -> str:
        """The process in which a lane runs; "" is the main one."""
        return next((t.process for t in self.threads if lane in t.lanes), "")

    def lanes_of(self, process: str) -> tuple[LanePlan, ...]:
        """The lanes that run in a process."""
        return tuple(lane for lane in self.lanes if self.process_of(lane.name) == process)

    def maker_process(self, source: str) -> str:
        """The process in which a source is made: its lane's; a stream is read in the process of
        the lane that it triggers, or of the first that samples it."""
        readers: list[str] = []
        for lane in self.lanes:
            if source in lane.task.publishes:
                return self.process_of(lane.name)
            if source == lane.task.trigger:
                readers.insert(0, lane.name)
            elif source in lane.task.reads:
                readers.append(lane.name)
        # every port of a device is read by one thread: the one that triggers, if there is one
        role = source.split(".")[0]
        for lane in self.lanes:
            if role in self.streams and lane.task.trigger.split(".")[0] == role:
                return self.process_of(lane.name)
        return self.process_of(readers[0]) if readers else ""

    def to_json(self) -> bytes:
        """Canonical JSON."""
        return msgspec.json.encode(msgspec.to_builtins(self), order="deterministic")

    @property
    def hash(self) -> str:
        """sha256 of the canonical JSON."""
        return hashlib.sha256(self.to_json()).hexdigest()

    def describe(self) -> str:
        """For people: lanes, their tasks, order and edges."""
        from haihe.runtime.units import format_ns

        lines = [f"plan of {self.graph}  {self.hash[:12]}"]
        for lane in self.lanes:
            task = lane.task
            when = f"every {format_ns(task.every_ns)}" if task.every_ns else f"on {task.trigger}"
            order = [f"read {bus.role}" for bus in task.buses]
            order += [step.name for step in task.steps]
            order += [f"guard {b.role} · write {b.role}" for b in task.buses if b.command_edge >= 0]
            lines.append(f"  lane {lane.name:<14} {when:<16} {' · '.join(order)}")
        for thread in self.threads:
            where = f", process {thread.process}" if thread.process else ""
            where += f", core {thread.core}" if thread.core >= 0 else ""
            where += f", SCHED_FIFO {thread.rank}" if thread.rank else ""
            if where or len(thread.lanes) > 1:
                how = f" ({thread.policy})" if len(thread.lanes) > 1 else ""
                lines.append(f"  thread {thread.name:<12} {', '.join(thread.lanes)}{how}{where}")
        for group in self.groups:
            who = f"decided in {group.home}" if group.home else "decided by its ladder"
            names = " · ".join(mode.name for mode in group.modes)
            lines.append(f"  modes {group.name:<13} {names}  (at first {group.initial}, {who})")
        for goal in self.goals:
            within = format_ns(goal.timeout_ns)
            lines.append(f"  goal {goal.name:<14} in {goal.lane}, within {within}")
        for edge in self.edges:
            limit = f"  fresh {format_ns(edge.fresh_ns)}" if edge.fresh_ns else ""
            how = "triggers" if edge.trigger else edge.kind
            lines.append(f"  {edge.source:>18} -> {edge.target:<20} {how}{limit}")
        return "\n".join(lines)
