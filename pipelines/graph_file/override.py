"""`-p aim.gain=0.6`: another constant for a node of a graph that is wired already."""

import copy
import dataclasses
from collections.abc import Mapping
from typing import Any

from haihe.pipelines.graph_file.importing import find_object
from haihe.pipelines.graph_file.nodes import annotations, check_fresh
from haihe.pipelines.graph_file.params import near
from haihe.pipelines.graph_file.values import ValueReader
from haihe.pipelines.graph_file.writer import inline, tree
from haihe.runtime import yaml_config
from haihe.runtime.errors import HaiheError, PlanError
from haihe.runtime.graph import Graph, NodeUse


def split(parameters: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Parameters of the graph, and constants of its nodes (`aim.gain`)."""
    plain = {key: value for key, value in parameters.items() if "." not in key}
    return plain, {key: value for key, value in parameters.items() if "." in key}


def override(graph: Graph, constants: Mapping[str, Any]) -> Graph:
    """The graph with these constants (`aim.gain`) changed. Raises PlanError.

    The graph that was given stays as it is. A value must fit the parameter's annotation.
    """
    if not constants:
        return graph
    changed = copy.copy(graph)
    changed.nodes = dict(graph.nodes)
    by_node: dict[str, dict[str, Any]] = {}
    for key, value in constants.items():
        name, _, constant = key.rpartition(".")
        if name not in graph.nodes:
            raise PlanError(
                f"-p {key}: graph {graph.name} has no node {name!r}. {near(name, graph.nodes)}"
            )
        use = graph.nodes[name]
        if constant not in use.constants:
            raise PlanError(
                f"-p {key}: node {name} ({use.line}) has no constant {constant!r}. "
                f"{near(constant, use.constants)}"
            )
        by_node.setdefault(name, {})[constant] = _checked(key, use, constant, value)
    for name, values in by_node.items():
        changed.nodes[name] = _changed(graph.nodes[name], values)
    return changed


def _checked(key: str, use: NodeUse, constant: str, value: Any) -> Any:
    old = use.constants[constant]
    try:
        written = inline(tree(value, Any, find_object))
        node = yaml_config.compose_text(written, f"-p {key}", PlanError)
        hint = annotations(use.contract, type(use.instance))[constant]
        new = _Checker(f"-p {key}", find_object).read(hint, node, constant, 0)
    except (ValueError, HaiheError) as exc:
        raise PlanError(f"-p {key}: {exc} It is {old!r} ({use.line}).") from exc
    return float(new) if type(old) is float and type(new) is int else new


class _Checker(ValueReader):
    def fail(self, node: Any, path: str, text: str, cause: Exception | None = None) -> Any:
        raise self.error(text) from cause


def _changed(use: NodeUse, values: dict[str, Any]) -> NodeUse:
    constants = use.constants | values
    instance = use.instance
    if instance is not None:
        fields = [f for f in dataclasses.fields(instance) if not f.name.startswith("_")]
        at_start = {f.name: constants[f.name] for f in fields if f.init}
        for f in fields:
            if not f.init and f.name in values:
                raise PlanError(
                    f"-p {use.name}.{f.name}: the node computes it from its other constants "
                    f"({use.line}). Change one of those."
                )
        try:
            check_fresh(use)
            instance = type(instance)(**at_start)
        except (ValueError, TypeError, HaiheError) as exc:
            keys = ", ".join(f"{use.name}.{key}" for key in values)
            raise PlanError(f"-p {keys}: node {use.name} ({use.line}) refuses: {exc}") from exc
        constants |= {f.name: getattr(instance, f.name) for f in fields}
    return dataclasses.replace(use, constants=constants, instance=instance)
