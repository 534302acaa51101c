"""Constants of nodes that may change while a graph runs: what may be set, and to what."""

from typing import Any, Literal, get_args, get_origin

from haihe.runtime.errors import PlanError
from haihe.runtime.graph_parts import NodeUse
from haihe.runtime.node_contract import Contract, constant_hints, read_hint

_NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


def out_of_range(contract: Contract, key: str, value: Any) -> str:
    """What is wrong with a constant that has a range; "" if nothing is."""
    limits = contract.tunables.get(key)
    if limits is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"{value!r} is no number, and {key} is tunable({limits.low!r}, {limits.high!r})"
    if not limits.low <= value <= limits.high:
        return f"{value!r} is outside its range of {limits.low!r} to {limits.high!r}"
    return ""


def checked(use: NodeUse, key: str, value: Any) -> Any:
    """The value as the node gets it: a whole number where a float is wanted becomes one.

    Raises PlanError for a value of another type than the annotation says, or outside its range.
    """
    where = f"set({use.name!r}, {key!r})"
    wanted = constant_hints(use.contract, type(use.instance)).get(key, Any)
    kind, _, optional, _ = read_hint(wanted)
    if value is None and optional:
        return value
    problem = ""
    if get_origin(kind) is Literal:
        choices = get_args(kind)
        if value not in choices:
            problem = f"{value!r} is none of {', '.join(map(repr, choices))}"
    elif kind is float and type(value) is int:
        value = float(value)
    elif kind in _NAMES and type(value) is not kind:
        problem = f"expected {_NAMES[kind]}, found {value!r}"
    problem = problem or out_of_range(use.contract, key, value)
    if problem:
        raise PlanError(f"{where}: {problem} (wired at {use.line}). Nothing was changed.")
    return value
