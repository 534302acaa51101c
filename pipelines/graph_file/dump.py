"""A graph, however it was wired, as a YAML file: all constants, defaults included."""

from typing import Any

from haihe.drivers.roles import KINDS
from haihe.models.detector import Detector
from haihe.pipelines.graph_file.importing import find_object
from haihe.pipelines.graph_file.nodes import annotations, check_fresh, node_text
from haihe.pipelines.graph_file.writer import Tree, block, scalar, tree
from haihe.runtime.errors import HaiheError, PlanError
from haihe.runtime.graph import Graph, NodeUse
from haihe.runtime.graph_parts import GoalUse, GroupUse
from haihe.runtime.node import target_name

LADDER = ("misses", "heat", "load", "battery", "settle", "hold")


def dump_graph(graph: Graph) -> str:
    """The text of a YAML file that wires the same graph, with the same plan.

    Sub-graphs come as their nodes (`left/part`). Raises PlanError for what no file can name: a
    node made inside a function, a constant that is not data.
    """
    sections: dict[str, dict[str, Tree]] = {
        "devices": {},
        "feedback": {},
        "goals": {scalar(name): _goal(goal) for name, goal in graph.goals.items()},
        "modes": {scalar(name): _group(group) for name, group in graph.groups.items()},
        "nodes": {scalar(name): _node(use) for name, use in graph.nodes.items()},
        "commands": {},
        "threads": {},
        "processes": {},
    }
    for role, device in graph.devices.items():
        if KINDS.get(device.kind.name) is not device.kind:
            raise PlanError(
                f"{device.line}: device {role}: its kind {device.kind.name!r} is not among those "
                f"that a file can name ({', '.join(KINDS)}). Use one of them."
            )
        sections["devices"][scalar(role)] = scalar(device.kind.name)
    for loop in graph.feedbacks.values():
        try:
            initial = tree(loop.initial, Any, find_object)
        except ValueError as exc:
            raise PlanError(f"{loop.line}: feedback {loop.name}: {exc}") from exc
        written = {"from": scalar(str(loop.source)), "initial": initial}
        sections["feedback"][scalar(loop.name)] = written
    for (role, port), ref in graph.commands.items():
        is_only = len(graph.devices[role].kind.commands) == 1
        sections["commands"][scalar(role if is_only else f"{role}.{port}")] = scalar(str(ref))
    for thread in graph.threads.values():
        lanes: list[Tree] = [scalar(name) for name in thread.nodes]
        sections["threads"][scalar(thread.name)] = {"lanes": lanes, "policy": thread.policy}
    for process in graph.processes.values():
        nodes: list[Tree] = [scalar(name) for name in process.nodes]
        sections["processes"][scalar(process.name)] = {"nodes": nodes}
    lines = [f"graph: {scalar(graph.name)}"]
    for section, entries in sections.items():
        if section in ("nodes", "feedback", "modes", "goals"):
            lines += [f"{section}:"] if entries else []
            lines += [f"  {key}:{block(item, 4, len(key) + 4)}" for key, item in entries.items()]
        elif entries:
            lines.append(f"{section}:{block(entries, 2, len(section) + 2)}")
    return "\n".join(lines) + "\n"


def _goal(goal: GoalUse) -> Tree:
    name = target_name(goal.kind)
    try:
        found = find_object(name)
    except HaiheError as exc:
        raise PlanError(f"{goal.line}: goal {goal.name}: {exc}") from exc
    if found is not goal.kind:
        raise PlanError(
            f"{goal.line}: goal {goal.name}: {name} is another message by now. Define it at the "
            "top of a module."
        )
    status = scalar(str(goal.status))
    return {"request": scalar(name), "timeout": scalar(goal.timeout), "report": status}


def _group(group: GroupUse) -> Tree:
    modes: dict[str, Tree] = {}
    for mode in group.modes.values():
        written: dict[str, Tree] = {}
        if mode.enter is not None:
            written["enter"] = scalar(str(mode.enter))
        if not mode.auto:
            written["auto"] = "false"
        if mode.leave is not None:
            written |= {"leave": scalar(str(mode.leave)), "then": scalar(mode.then)}
        elif mode.then != group.initial:
            written["then"] = scalar(mode.then)
        if mode.goal:
            written["goal"] = scalar(mode.goal)
        if written or mode.name != group.initial:
            modes[scalar(mode.name)] = written
    found: dict[str, Tree] = {"initial": scalar(group.initial), "modes": modes}
    if group.ladder is not None:
        ladder = group.ladder
        values = {name: getattr(ladder, name) for name in LADDER if getattr(ladder, name)}
        order: list[Tree] = [scalar(name) for name in ladder.order]
        found["ladder"] = {"order": order, **{k: scalar(v) for k, v in values.items()}}
    return found


def _node(use: NodeUse) -> Tree:
    mode: dict[str, Tree] = {scalar(group): scalar(name) for group, name in use.modes}
    modes: dict[str, Tree] = {"mode": mode} if mode else {}
    if use.select:
        sources: list[Tree] = [scalar(str(ref)) for ref in use.inputs.values()]
        return {"select": sources, **modes}
    return {**_call(use), **modes}


def _call(use: NodeUse) -> dict[str, Tree]:
    contract, owner = use.contract, type(use.instance)
    text = node_text(use, find_object)
    check_fresh(use)
    hints = annotations(contract, owner)
    written: dict[str, Tree] = {}
    constants = {name: use.constants[name] for name in hints}
    if owner is Detector and isinstance(constants["model"], str):
        written["model"] = scalar(constants.pop("model"))
    else:
        written["node"] = scalar(text)
    sources: dict[str, Tree] = {port: scalar(str(ref)) for port, ref in use.inputs.items()}
    if len(contract.inputs) == 1 and sources:
        written["in"] = next(iter(sources.values()))
    elif sources:
        written["in"] = sources
    params: dict[str, Tree] = {}
    for name, value in constants.items():
        try:
            params[scalar(name)] = tree(value, hints[name], find_object)
        except (ValueError, HaiheError) as exc:
            raise PlanError(f"{use.line}: node {use.name}: constant {name}: {exc}") from exc
    if params:
        written["params"] = params
    return written
