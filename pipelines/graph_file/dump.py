"""A graph, however it was wired, as a YAML file: all constants, defaults included."""

from typing import Any

from haihe.drivers.roles import KINDS
from haihe.models.detector import Detector
from haihe.pipelines.graph_file.importing import find_object
from haihe.pipelines.graph_file.nodes import annotations, check_fresh, node_text
from haihe.pipelines.graph_file.writer import Tree, block, scalar, tree
from haihe.runtime.errors import HaiheError, PlanError
from haihe.runtime.graph import Graph, NodeUse


def dump_graph(graph: Graph) -> str:
    """The text of a YAML file that wires the same graph, with the same plan.

    Sub-graphs come as their nodes (`left/part`). Raises PlanError for what no file can name: a
    node made inside a function, a constant that is not data.
    """
    sections: dict[str, dict[str, Tree]] = {
        "devices": {},
        "feedback": {},
        "nodes": {scalar(name): _node(use) for name, use in graph.nodes.items()},
        "commands": {},
        "threads": {},
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
    lines = [f"graph: {scalar(graph.name)}"]
    for section, entries in sections.items():
        if section == "nodes" or section == "feedback":
            lines += [f"{section}:"] if entries else []
            lines += [f"  {key}:{block(item, 4, len(key) + 4)}" for key, item in entries.items()]
        elif entries:
            lines.append(f"{section}:{block(entries, 2, len(section) + 2)}")
    return "\n".join(lines) + "\n"


def _node(use: NodeUse) -> Tree:
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
