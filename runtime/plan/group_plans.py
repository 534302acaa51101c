"""Where modes and goals are decided: in one lane each, from what is made in it.

A firing's conditions are those of its own tick, so a decision depends on one record only.
"""

import re
from collections.abc import Mapping, Sequence

import msgspec

from haihe.runtime.errors import PlanError
from haihe.runtime.graph import Graph
from haihe.runtime.graph_parts import GroupUse, LadderUse
from haihe.runtime.plan.model import GoalPlan, GroupPlan, LadderPlan, LanePlan, ModePlan
from haihe.runtime.traced import Ref
from haihe.runtime.units import duration_ns

Triggers = Mapping[str, Ref | int]  # by node: what triggers it, or its period in ns
_MISSES = re.compile(r"\s*(\d+)\s+in\s+(\S.*)")
_HEAT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(?:degc|°C)\s*")


def goal_plans(graph: Graph, lane_of: Mapping[str, str]) -> tuple[GoalPlan, ...]:
    """Every goal with the lane of the nodes that take its request and report on it."""
    found = []
    for goal in graph.goals.values():
        assert goal.status is not None
        users = [
            use.name
            for use in graph.nodes.values()
            if any(r.source == "goal" and r.owner == goal.name for r in use.inputs.values())
        ]
        home = lane_of[goal.status.owner]
        for user in users:
            if lane_of[user] != home:
                raise PlanError(
                    f"{graph.nodes[user].line}: node {user} of lane {lane_of[user]} takes the "
                    f"request of goal {goal.name}, which is reported in lane {home}. Pass on what "
                    "it needs as an output of a node of that lane."
                )
        timeout = duration_ns(goal.timeout, f"timeout of goal {goal.name}")
        request = str(Ref(goal.name, "request", "goal"))
        found.append(GoalPlan(goal.name, home, request, str(goal.status), timeout))
    return tuple(found)


def group_plans(
    graph: Graph,
    lanes: Sequence[LanePlan],
    lane_of: Mapping[str, str],
    goals: Sequence[GoalPlan],
) -> tuple[GroupPlan, ...]:
    """Every group with its lanes and the one that decides."""
    found = []
    for group in graph.groups.values():
        home = "" if group.ladder is not None else _home(group, lanes, lane_of, goals)
        concerned = [
            lane.name
            for lane in lanes
            if lane.name == home
            or any(name == group.name for step in lane.task.steps for name, _ in step.modes)
            or any(group.name in bus.held_by for bus in lane.task.buses)
        ]
        modes = tuple(
            ModePlan(m.name, _source(m.enter), m.auto, _source(m.leave), m.then, m.goal)
            for m in group.modes.values()
        )
        ladder = _ladder(group, group.ladder) if group.ladder is not None else None
        found.append(GroupPlan(group.name, group.initial, modes, home, tuple(concerned), ladder))
    return tuple(found)


def _source(ref: Ref | None) -> str:
    return "" if ref is None else str(ref)


def _home(
    group: GroupUse,
    lanes: Sequence[LanePlan],
    lane_of: Mapping[str, str],
    goals: Sequence[GoalPlan],
) -> str:
    """The lane of its conditions and goals; else one whose actuator it concerns; else the first."""
    needs: dict[str, str] = {}  # lane -> what is made in it
    for mode in group.modes.values():
        for ref in (mode.enter, mode.leave):
            if ref is not None:
                needs.setdefault(lane_of[ref.owner], f"condition {ref} of mode {mode.name}")
        for goal in goals:
            if goal.name == mode.goal:
                needs.setdefault(goal.lane, f"goal {goal.name} of mode {mode.name}")
    if len(needs) > 1:
        text = ", ".join(f"{what} in lane {lane}" for lane, what in needs.items())
        raise PlanError(
            f"{group.line}: modes {group.name} are decided from {text}. All of it belongs into one "
            "lane: let a node of it take the others' outputs, with fresh()."
        )
    if needs:
        return next(iter(needs))
    held = (la.name for la in lanes if any(group.name in b.held_by for b in la.task.buses))
    used = (la.name for la in lanes for s in la.task.steps if (group.name in dict(s.modes)))
    found = next(held, "") or next(used, "")
    if not found:
        raise PlanError(
            f"{group.line}: modes {group.name}: no node is wired in any of them. Wire some inside "
            "`with NAME.mode(...):`, or leave the group out."
        )
    return found


def _ladder(group: GroupUse, use: LadderUse) -> LadderPlan:
    what = f"{use.line}: ladder of {group.name}"
    count, window, heat = 0, 0, 0.0
    if use.misses:
        found = _MISSES.fullmatch(use.misses)
        count = int(found.group(1)) if found else 0
        if found is None or not count:
            raise PlanError(
                f'{what}: misses={use.misses!r}: say how many in which time: "3 in 1s".'
            )
        window = duration_ns(found.group(2).strip(), "misses")
    if use.heat:
        degrees = _HEAT.fullmatch(use.heat)
        if degrees is None:
            raise PlanError(f'{what}: heat={use.heat!r}: say a temperature: "80degc".')
        heat = float(degrees.group(1))
    for name, share in (("load", use.load), ("battery", use.battery)):
        if not 0.0 <= share <= 1.0:
            raise PlanError(f"{what}: {name}={share!r} is not within 0..1.")
    settle, hold = duration_ns(use.settle, "settle"), duration_ns(use.hold, "hold")
    return LadderPlan(
        use.order, count, window, heat, float(use.load), float(use.battery), settle, hold
    )


def held_by(graph: Graph, triggers: Triggers, lane: LanePlan) -> LanePlan:
    """The lane with the groups by whose modes each of its commands is made, and the modes in which
    none is."""
    buses = []
    for bus in lane.task.buses:
        command = graph.commands.get((bus.role, "command"))
        if command is not None and command.source == "node":
            makers = _makers(graph, triggers, command.owner)
            groups = {group: None for maker in makers for group, _ in graph.nodes[maker].modes}
            idle = [
                (group, mode)
                for group in groups
                for mode in graph.groups[group].modes
                if not _is_made(graph, triggers, command.owner, group, mode)
            ]
            bus = msgspec.structs.replace(bus, held_by=tuple(groups), idle=tuple(idle))
        buses.append(bus)
    task = msgspec.structs.replace(lane.task, buses=tuple(buses))
    return msgspec.structs.replace(lane, task=task)


def _setting_off(graph: Graph, triggers: Triggers, name: str) -> list[str]:
    """The nodes without which a node is not called: what triggers it; of a select, its inputs."""
    use, trigger = graph.nodes[name], triggers[name]
    refs = list(use.inputs.values()) if use.select else [trigger]
    return [ref.owner for ref in refs if not isinstance(ref, int) and ref.source == "node"]


def _makers(graph: Graph, triggers: Triggers, name: str) -> set[str]:
    found, waiting = {name}, [name]
    while waiting:
        more = set(_setting_off(graph, triggers, waiting.pop())) - found
        found |= more
        waiting += more
    return found


def _is_made(graph: Graph, triggers: Triggers, name: str, group: str, mode: str) -> bool:
    """Whether a node can be called in that mode."""
    modes = [own for of, own in graph.nodes[name].modes if of == group]
    if any(own != mode for own in modes):
        return False
    before = [
        _is_made(graph, triggers, one, group, mode) for one in _setting_off(graph, triggers, name)
    ]
    return not before or (any if graph.nodes[name].select else all)(before)
