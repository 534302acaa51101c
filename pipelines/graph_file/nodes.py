"""Nodes by name, and what can be set on them: what YAML graphs and overrides ask of a node."""

import dataclasses
import inspect
import pickle
from typing import Any

from haihe.pipelines.graph_file.params import near
from haihe.pipelines.graph_file.values import Find, annotations_of
from haihe.pipelines.graph_file.writer import same
from haihe.runtime import registry
from haihe.runtime.errors import HaiheError, PlanError
from haihe.runtime.graph import NodeUse
from haihe.runtime.node import Contract, contract_of, is_node, state_of

SHORT = "haihe.pipelines.nodes."


def find_node(text: str, find: Find) -> Any:
    """The node that `pursue` or `app:aim` names. Raises PlanError."""
    found = find(text) if ":" in text else registry.load("node", text, PlanError).NODE
    if not is_node(found) or not (isinstance(found, type) or inspect.isfunction(found)):
        what = "Put @node above its definition." if callable(found) else "Name a node."
        raise PlanError(f"{text} is not a node. {what}")
    return found


def node_text(use: NodeUse, find: Find) -> str:
    """How a file names the node: `pursue`, or `app:aim`. Raises PlanError."""
    target = use.contract.target
    module, _, qualname = target.partition(":")
    if "<" in qualname:
        raise PlanError(
            f"{use.line}: node {use.name}: {target} is defined inside a function, so a file "
            "cannot name it. Define it at the top of a module."
        )
    try:
        found = find_node(target, find)
    except HaiheError as exc:
        raise PlanError(f"{use.line}: node {use.name}: {exc}") from exc
    kind = type(use.instance) if use.instance is not None else None
    is_same = found is kind if kind else contract_of(found).function is use.contract.function
    if not is_same:
        raise PlanError(
            f"{use.line}: node {use.name}: {target} is another node by now. Give each node a name "
            "of its own in its module."
        )
    short = module.removeprefix(SHORT)
    if short != module and getattr(registry.load("node", short, PlanError), "NODE", 0) is found:
        return short
    return target


def annotations(contract: Contract, owner: Any) -> dict[str, Any]:
    """The annotation of each constant; owner: the class of a node that has one."""
    hints = annotations_of(contract.function)
    found = {name: hints.get(name, Any) for name in contract.constants}
    if contract.is_class:
        own = annotations_of(owner)
        found |= {f.name: own.get(f.name, Any) for f in fields_of(owner)}
    return found


def fields_of(owner: Any) -> list[Any]:
    """The parameters of a class of nodes: public fields that its constructor takes."""
    return [f for f in dataclasses.fields(owner) if f.init and not f.name.startswith("_")]


def required(contract: Contract, owner: Any) -> list[str]:
    """Constants without a default."""
    signature = inspect.signature(contract.function).parameters
    names = [n for n in contract.constants if signature[n].default is inspect.Parameter.empty]
    missing = dataclasses.MISSING
    fields = fields_of(owner) if contract.is_class else []
    return names + [f.name for f in fields if f.default is missing and f.default_factory is missing]


def check_fresh(use: NodeUse) -> None:
    """Refuse an instance that is more than its constants: a state or fields set by hand."""
    instance = use.instance
    if instance is None:
        return
    try:
        twin = type(instance)(**{f.name: getattr(instance, f.name) for f in fields_of(instance)})
    except (TypeError, ValueError, HaiheError) as exc:
        raise PlanError(
            f"{use.line}: node {use.name}: it cannot be made of its constants again ({exc}). "
            "Let its constructor take its public fields."
        ) from exc
    state = state_of(instance)
    public = [f.name for f in dataclasses.fields(instance) if not f.name.startswith("_")]
    one = state | {name: getattr(instance, name) for name in public}
    other = state_of(twin) | {name: getattr(twin, name) for name in public}
    for name, value in one.items():
        if name not in other or not _alike(value, other[name]):
            raise PlanError(
                f"{use.line}: node {use.name}: its {name} is not what its constants make it. Set "
                "it by a public field, or in __post_init__."
            )


def _alike(one: Any, other: Any) -> bool:
    try:
        return same(one, other) or pickle.dumps(one) == pickle.dumps(other)
    except Exception as exc:  # pickle and == raise anything; wiring has pickled the state
        raise PlanError(f"a field cannot be compared: {exc}") from exc


def find_constant(name: str, contract: Contract, owner: Any, target: str) -> Any:
    """The annotation of a constant. Raises PlanError with the nearest name."""
    known = annotations(contract, owner)
    if name in known:
        return known[name]
    if name in [port.name for port in contract.inputs]:
        raise PlanError(f"{name} is an input of {target}. Connect it under `in`.")
    raise PlanError(f"{target} has no constant {name!r}. {near(name, known)}")
