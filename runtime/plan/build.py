"""From a graph to a plan: triggers, rate domains, order, edges.

A rate domain is what one root sets going: a stream device, or a period. Each domain is one fused
straight-line task in a lane and a thread of its own: its timing bound is nearly exact, and a hop
between threads costs some ten times a checked node call (docs/design.md). `Graph.thread` lets
lanes share a thread, and lets a node start a lane where it would be fused with what triggers it.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from haihe.runtime.errors import PlanError
from haihe.runtime.graph import Graph, NodeUse
from haihe.runtime.node import InputPort
from haihe.runtime.plan.group_plans import goal_plans, group_plans, held_by
from haihe.runtime.plan.model import (
    BusPlan,
    EdgePlan,
    LanePlan,
    Plan,
    StepPlan,
    TaskPlan,
    ThreadPlan,
)
from haihe.runtime.traced import Ref
from haihe.runtime.types import Message
from haihe.runtime.units import format_ns


@dataclass(frozen=True)
class DeviceTiming:
    """What the plan needs to know of a bound device: the period of its own cycle."""

    cycle_ns: int


@dataclass(frozen=True)
class Placement:
    """Where a thread runs, as the unit profile says: see ThreadPlan."""

    core: int = -1
    rank: int = 0
    process: str = ""


class Domain(NamedTuple):
    """What sets a lane going: a period in ns (0: none), or a source; and the node that a thread
    of the graph names as its start ("": none)."""

    every_ns: int
    source: str
    start: str = ""


def make_plan(
    graph: Graph,
    devices: Mapping[str, DeviceTiming],
    placements: Mapping[str, Placement] | None = None,
) -> Plan:
    """Plan a graph; raises PlanError naming the node, its line and the cure."""
    return _Planner(graph, devices, placements or {}).plan()


class _Planner:
    def __init__(
        self,
        graph: Graph,
        devices: Mapping[str, DeviceTiming],
        placements: Mapping[str, Placement],
    ) -> None:
        self.graph = graph
        self.devices = devices
        self.placements = placements
        self.starts = {name for thread in graph.threads.values() for name in thread.nodes}
        self.starts |= {name for name, use in graph.nodes.items() if use.contract.blocking}
        self.triggers = {name: self._trigger(use) for name, use in graph.nodes.items()}
        self.domains: dict[str, Domain] = {}
        self.bus_domains: dict[str, Domain] = {}
        self._lane_names: dict[Domain, str] = {}

    def plan(self) -> Plan:
        graph = self.graph
        if not graph.nodes and not graph.commands:
            raise PlanError(f"{graph.file}: graph {graph.name} has no nodes. Wire one.")
        for role, device in graph.devices.items():
            if not device.kind.stream:
                self.bus_domains[role] = self._bus_domain(role)
        for name in graph.nodes:
            self._refuse_circle(name)
            self._domain(name)
        self._check_selects()
        domains = list(dict.fromkeys([*self.domains.values(), *self.bus_domains.values()]))
        # fastest first: the order of lanes is the order of release on equal times
        domains.sort(key=lambda d: (not d.every_ns, d.every_ns))
        members = {d: self._order(d) for d in domains}
        edges: list[EdgePlan] = []
        tasks = [self._task(domain, members[domain], edges) for domain in domains]
        published = {source for task in tasks for source in task.reads}
        tasks = [
            msgspec.structs.replace(
                task, name=name, publishes=tuple(s for s in task.publishes if s in published)
            )
            for name, task in zip(_distinct(task.name for task in tasks), tasks, strict=True)
        ]
        lanes = tuple(LanePlan(task.name, task) for task in tasks)
        streams = tuple(r for r, d in graph.devices.items() if d.kind.stream)
        shared = {name for thread in graph.threads.values() for name in thread.nodes}
        for thread in graph.threads.values():
            if any(
                lane.name == thread.name
                for d, lane in zip(domains, lanes, strict=True)
                if d.start not in shared
            ):
                raise PlanError(
                    f"{thread.line}: thread {thread.name}: a lane that has its own thread is "
                    "called so already. Choose another name."
                )
        self._lane_names = {d: lane.name for d, lane in zip(domains, lanes, strict=True)}
        threads = self._threads(
            {d.start: lane.name for d, lane in zip(domains, lanes, strict=True)}
        )
        threads += [
            self._placed(ThreadPlan(lane.name, (lane.name,)))
            for domain, lane in zip(domains, lanes, strict=True)
            if not domain.start
        ]
        lanes = tuple(held_by(graph, self.triggers, lane) for lane in lanes)
        lane_of = {step.name: lane.name for lane in lanes for step in lane.task.steps}
        goals = goal_plans(graph, lane_of)
        groups = group_plans(graph, lanes, lane_of, goals)
        return Plan(graph.name, lanes, tuple(edges), streams, tuple(threads), groups, goals)

    def _threads(self, started: Mapping[str, str]) -> list[ThreadPlan]:
        threads = [
            ThreadPlan(t.name, tuple(started[n] for n in t.nodes), t.policy)
            for t in self.graph.threads.values()
        ]
        named = {name for thread in threads for name in thread.lanes}
        alone = [ThreadPlan(n, (n,)) for start, n in started.items() if start and n not in named]
        return [self._placed(thread) for thread in (*threads, *alone)]

    def _placed(self, thread: ThreadPlan) -> ThreadPlan:
        place = self.placements.get(thread.name, Placement())
        process = place.process or self._process(thread)
        return msgspec.structs.replace(thread, core=place.core, rank=place.rank, process=process)

    def _process(self, thread: ThreadPlan) -> str:
        """The process that the graph names for a thread's nodes."""
        inside = {n for n in self.graph.nodes if self._lane_names[self.domains[n]] in thread.lanes}
        named = {p.name: p for p in self.graph.processes.values() if inside & set(p.nodes)}
        if len(named) > 1:
            lines = " and ".join(p.line for p in named.values())
            raise PlanError(
                f"{lines}: the processes {' and '.join(named)} both name nodes of thread "
                f"{thread.name}. A thread runs in one process: name it in one of them."
            )
        return next(iter(named), "")

    # --- triggers and domains -----------------------------------------------------------------

    def _trigger(self, use: NodeUse) -> Ref | int:
        """The input that triggers the node, or its period in ns."""
        contract = use.contract
        if use.select:
            return next(iter(use.inputs.values()))
        if contract.every_ns is not None:
            return contract.every_ns
        if contract.on is not None:
            if contract.on not in use.inputs:
                raise PlanError(
                    f"{use.line}: node {use.name}: its trigger {contract.on} is not connected. "
                    "Connect it."
                )
            if use.inputs[contract.on].source in ("feedback", "goal"):
                what = "a feedback, which only remembers"
                if use.inputs[contract.on].source == "goal":
                    what = "a goal's request, which is there or not"
                raise PlanError(
                    f"{use.line}: node {use.name}: its trigger {contract.on} is {what}. Let "
                    "another input trigger it, or give it a period."
                )
            return use.inputs[contract.on]
        connected = [
            port
            for port in contract.inputs
            if port.name in use.inputs and use.inputs[port.name].source not in ("feedback", "goal")
        ]
        unaged = [port.name for port in connected if port.fifo] or [
            port.name for port in connected if port.fresh is None and port.aligned is None
        ]
        if len(unaged) != 1:
            found = f"{len(unaged)} ({', '.join(unaged)})" if unaged else "none"
            raise PlanError(
                f"{use.line}: node {use.name}: what triggers it? Inputs without fresh(): {found}; "
                'exactly one would be the trigger. Say @node(every="20ms") or @node(on="input").'
            )
        return use.inputs[unaged[0]]

    def _check_selects(self) -> None:
        """What a select takes over is made in its own tick."""
        for use in self.graph.nodes.values():
            if not use.select:
                continue
            for ref in use.inputs.values():
                if self.domains[ref.owner] != self.domains[use.name]:
                    raise PlanError(
                        f"{use.line}: {use.name}: {next(iter(use.inputs.values()))} and {ref} are "
                        "of different rates. What is selected is made in one tick: give their "
                        "nodes one period, or one trigger."
                    )

    def _refuse_circle(self, name: str) -> None:
        path: list[str] = []
        while name not in path:
            path.append(name)
            trigger = self.triggers[name]
            if isinstance(trigger, int) or trigger.source != "node":
                return
            name = trigger.owner
        circle = path[path.index(name) :]
        lines = " and ".join(self.graph.nodes[n].line for n in circle)
        raise PlanError(
            f"{lines}: the nodes {' -> '.join([*circle, name])} trigger each other. Give one of "
            "them a period, or close the loop with feedback()."
        )

    def _domain(self, name: str) -> Domain:
        if name in self.domains:
            return self.domains[name]
        trigger = self.triggers[name]
        start = name if name in self.starts else ""
        if isinstance(trigger, int):
            domain = Domain(trigger, "", start)
        elif start or (
            trigger.source == "device" and self.graph.devices[trigger.owner].kind.stream
        ):
            domain = Domain(0, str(trigger), start)
        elif trigger.source == "node":
            domain = self._domain(trigger.owner)
        else:
            domain = self.bus_domains[trigger.owner]
        self.domains[name] = domain
        return domain

    def _bus_domain(self, role: str) -> Domain:
        """A bus belongs to the periodic lane that commands it, else it cycles by itself."""
        for (owner, _), ref in self.graph.commands.items():
            if owner == role and ref.source == "node":
                name = ref.owner
                self._refuse_circle(name)
                trigger = self.triggers[name]
                while not isinstance(trigger, int) and trigger.source == "node":
                    if name in self.starts:  # a lane of its own, which is not periodic
                        break
                    name = trigger.owner
                    trigger = self.triggers[name]
                if isinstance(trigger, int):
                    self._refuse_blocking(role, name)
                    return Domain(trigger, "", name if name in self.starts else "")
        cycle = self.devices[role].cycle_ns if role in self.devices else 0
        if not cycle:
            raise PlanError(
                f"{self.graph.devices[role].line}: device {role}: no periodic node commands it, so "
                "its own cycle must be known. Give `cycle: 20ms` in the unit profile."
            )
        return Domain(cycle, "")

    def _refuse_blocking(self, role: str, name: str) -> None:
        use = self.graph.nodes[name]
        if use.contract.blocking:
            raise PlanError(
                f"{use.line}: node {name} is blocking, and its lane would cycle {role}: while it "
                f"waits, nothing would guard {role}. Let another periodic node command it, which "
                f"samples what {name} gives with fresh()."
            )

    # --- order and tasks ----------------------------------------------------------------------

    def _order(self, domain: Domain) -> list[NodeUse]:
        """Topological order inside a domain, stable in the order of wiring."""
        names = [n for n in self.graph.nodes if self.domains[n] == domain]
        placed: list[NodeUse] = []
        done: set[str] = set()
        while len(placed) < len(names):
            ready = next(
                (n for n in names if n not in done and self._needs(n, names) <= done), None
            )
            if ready is None:
                stuck = [n for n in names if n not in done]
                lines = " and ".join(self.graph.nodes[n].line for n in stuck)
                raise PlanError(
                    f"{lines}: {' and '.join(stuck)} depend on each other in one tick. Close the "
                    "loop with feedback()."
                )
            done.add(ready)
            placed.append(self.graph.nodes[ready])
        return placed

    def _needs(self, name: str, names: list[str]) -> set[str]:
        refs = self.graph.nodes[name].inputs.values()
        return {ref.owner for ref in refs if ref.source == "node" and ref.owner in names}

    def _task(self, domain: Domain, uses: list[NodeUse], edges: list[EdgePlan]) -> TaskPlan:
        local = {use.name for use in uses}
        roles = [r for r, d in self.bus_domains.items() if d == domain]
        reads: list[str] = []
        near: set[str] = set()  # sources of which a node takes the message nearest to its trigger
        if domain.source:
            reads.append(domain.source)

        def connect(ref: Ref, target: str, **contract: Any) -> int:
            source = str(ref)
            if ref.source == "feedback":
                fed = self.graph.feedbacks[ref.owner].source
                assert fed is not None
                if fed.source != "node" or fed.owner not in local:
                    raise PlanError(
                        f"{self.graph.feedbacks[ref.owner].line}: {ref.owner} is fed by {fed} of "
                        "another rate. A feedback stays inside one tick: feed it from a node of "
                        "the same rate, or keep what it remembers inside one node."
                    )
                if contract.get("fresh_ns"):
                    raise PlanError(
                        f"{self.graph.feedbacks[ref.owner].line}: {target} wants fresh(), but "
                        f"{ref.owner} always gives the previous firing's value. Drop fresh()."
                    )
                kind, contract["fed_by"] = "loop", str(fed)
            elif ref.source == "goal":
                kind = "goal"
            elif (ref.owner in local) or (ref.source == "device" and ref.owner in roles):
                kind = "local"
            else:
                kind = "aligned" if contract.get("keep") else "slot"
                if source in reads and (source in near or kind == "aligned"):
                    raise PlanError(
                        f"{self._line(target)}: {target}: its lane reads {source} twice, aligned() "
                        "and in another way. Give one of the readers a lane of its own: "
                        "g.thread(...)."
                    )
                if kind == "aligned":
                    near.add(source)
                if source not in reads:
                    reads.append(source)
                if source == domain.source and fifo:
                    kind = "fifo"
            if contract.get("keep") and kind != "aligned":
                raise PlanError(
                    f"{self._line(target)}: {target} is aligned(), but {source} is made in the "
                    "same tick. Drop aligned(), or give its maker a lane of its own: g.thread(...)."
                )
            edges.append(EdgePlan(source, target, kind, **contract))
            return len(edges) - 1

        fifo = self._fifo(domain, uses)
        steps = tuple(self._step(use, domain, connect) for use in uses)
        buses = []
        for role in roles:
            command = self.graph.commands.get((role, "command"))
            edge = connect(command, f"{role}.command") if command is not None else -1
            buses.append(BusPlan(role, f"{role}.state", edge))
        publishes = [f"{role}.state" for role in roles]
        publishes += [str(Ref(use.name, p.name, "node")) for use in uses for p in use.outputs]
        every = domain.every_ns
        name = (
            "every-" + format_ns(every).replace(" ", "") if every else domain.source.split(".")[0]
        )
        return TaskPlan(
            domain.start or name,
            every,
            domain.source,
            steps,
            tuple(buses),
            tuple(reads),
            tuple(publishes),
            fifo,
        )

    def _line(self, target: str) -> str:
        owner = target.rsplit(".", 1)[0]
        if owner in self.graph.nodes:
            return self.graph.nodes[owner].line
        return self.graph.command_lines[owner, "command"]

    def _fifo(self, domain: Domain, uses: list[NodeUse]) -> int:
        """The places of the lane's queue, 0 for none."""
        wanted: dict[int, str] = {}
        for use in uses:
            for port in use.contract.inputs:
                if not port.fifo:
                    continue
                target = f"{use.name}.{port.name}"
                if self.triggers[use.name] != use.inputs.get(port.name):
                    raise PlanError(
                        f"{use.line}: {target} is fifo(), but it does not trigger {use.name}: a "
                        "queue is emptied by one call for each message. Say "
                        f'@node(on="{port.name}"), or drop fifo().'
                    )
                if str(use.inputs[port.name]) == domain.source:
                    wanted[port.fifo] = target
        if len(wanted) > 1:
            raise PlanError(
                f"{uses[0].line}: {' and '.join(wanted.values())} share one queue, but ask for "
                f"{' and '.join(map(str, wanted))} places. Ask for the same."
            )
        return next(iter(wanted), 0)

    def _step(self, use: NodeUse, domain: Domain, connect: Any) -> StepPlan:
        contract = use.contract
        trigger = self.triggers[use.name]
        inputs = []
        for port in contract.inputs:
            ref = use.inputs.get(port.name)
            if ref is None:
                continue
            fresh = port.fresh
            edge = connect(
                ref,
                f"{use.name}.{port.name}",
                trigger=trigger == ref or use.select,
                fresh_ns=fresh.limit_ns if fresh else None,
                on_stale=fresh.on_stale if fresh else "skip",
                **self._alignment(use, port),
            )
            inputs.append((port.name, edge))
        inner = ""
        if not (isinstance(trigger, int) or use.select or str(trigger) == domain.source):
            inner = str(trigger)
        return StepPlan(
            name=use.name,
            target=contract.target,
            inputs=tuple(inputs),
            outputs=tuple(p.name for p in use.outputs),
            trigger=inner,
            constants={k: plain(v) for k, v in use.constants.items()},
            deadline_ns=contract.deadline_ns,
            budget_ns=contract.budget_ns or 0,
            recorded=contract.recorded,
            modes=use.modes,
            on_error=contract.on_error,
            select=use.select,
        )

    def _alignment(self, use: NodeUse, port: InputPort) -> dict[str, int]:
        if port.aligned is None:
            return {}
        trigger = self.triggers[use.name]
        if isinstance(trigger, int) or use.inputs[port.name] == trigger:
            what = "nothing triggers it" if isinstance(trigger, int) else "it is the trigger itself"
            raise PlanError(
                f"{use.line}: {use.name}.{port.name} is aligned() with the stamp of the node's "
                f'triggering input, but {what}. Say @node(on="...") with another input.'
            )
        return {"within_ns": port.aligned.within_ns, "keep": port.aligned.keep}


def _distinct(names: Iterable[str]) -> list[str]:
    """Numbers for names that are taken: periods are rounded, 60Hz and 16.67ms are two lanes."""
    found: list[str] = []
    for name in names:
        free, number = name, 2
        while free in found:
            free, number = f"{name}_{number}", number + 1
        found.append(free)
    return found


def plain(value: Any) -> Any:
    """A constant as plain data for the plan: messages and other objects by their fields."""
    try:
        return msgspec.to_builtins(value, enc_hook=_plain_hook, str_keys=True)
    except (TypeError, ValueError):
        # the plan is hashed: no address of this process may stand in it
        if callable(value) and hasattr(value, "__qualname__"):
            return f"{value.__module__}:{value.__qualname__}"
        return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def _plain_hook(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Message):
        return msgspec.structs.asdict(value)
    raise TypeError(type(value).__name__)
