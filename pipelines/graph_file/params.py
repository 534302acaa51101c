"""Parameters: `$gain` in a YAML graph, `-p gain=0.6`, and a node's constant `-p aim.gain=0.6`.

A YAML file declares its parameters with a default, and a range if it has one:

    params: {label: washer, gain: {default: 0.8, range: [0, 2]}}

`$gain` (or `${gain}`) as a whole value, anywhere in the file, stands for it; `$$` begins a text
with a dollar.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import yaml

from haihe.pipelines.graph_file.values import ValueReader
from haihe.runtime.errors import PlanError
from haihe.runtime.yaml_config import Where

_USE = re.compile(r"\$(?:([A-Za-z_]\w*)|\{([A-Za-z_]\w*)\})", re.ASCII)
_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_STR, _MAX_NODES = "tag:yaml.org,2002:str", 100_000


@dataclass(frozen=True)
class Declaration:
    """A parameter of a file."""

    where: Where
    default: yaml.Node
    range: tuple[float, float] | None = None


def near(name: str, known: Any) -> str:
    """`Did you mean 'gain'?`, or what is known."""
    known = list(known)
    found = get_close_matches(name, known, n=1, cutoff=0.5)
    return f"Did you mean {found[0]!r}?" if found else f"Known: {', '.join(known) or 'none'}."


def declare(entries: Mapping[str, tuple[yaml.Node, yaml.Node, ValueReader]]) -> dict[str, Any]:
    """The declarations of a file from its entries (key, value, reader). Raises PlanError."""
    found: dict[str, Declaration] = {}
    for name, (key, value, reader) in entries.items():
        where = reader.place(key, f"params.{name}")
        if not _NAME.fullmatch(name):
            raise PlanError(f"{where}: {name!r} is no name. Use letters, digits and '_'.")
        if isinstance(value, yaml.MappingNode):
            declared = reader.read(Declaration, value, f"params.{name}", 0)
            found[name] = Declaration(where, declared.default, declared.range)
        else:
            found[name] = Declaration(where, value)
        _take(name, found[name], found[name].default, str(where))
    return found


def values(
    file: str, declared: Mapping[str, Declaration], given: Mapping[str, tuple[yaml.Node, str]]
) -> dict[str, yaml.Node]:
    """The value of each parameter; given: (value, where from). Raises PlanError."""
    for name, (_, source) in given.items():
        if name not in declared:
            raise PlanError(f"{source}: {file} has no parameter {name!r}. {near(name, declared)}")
    return {
        name: _take(name, item, *given.get(name, (item.default, str(item.where))))
        for name, item in declared.items()
    }


_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


def _take(name: str, declared: Declaration, node: yaml.Node, source: str) -> yaml.Node:
    """The node as a value of the kind of the default, inside the range."""
    reader = ValueReader(declared.where.file, lambda text: None)
    value, default = (reader.plain(n, declared.where.path, 0) for n in (node, declared.default))
    kind = type(default)
    wanted = _KINDS.get(kind, "a list" if kind is list else "a mapping")
    said = "" if source == str(declared.where) else f" (declared at {declared.where})"
    found = "found nothing" if value is None else f"found {value!r}"
    if kind is float and type(value) is int:
        value = float(value)
        node = yaml.ScalarNode(_STR, repr(value), node.start_mark, node.end_mark)
    elif kind is str and isinstance(node, yaml.ScalarNode) and value is not None:
        node = yaml.ScalarNode(_STR, node.value, node.start_mark, node.end_mark, style='"')
    elif default is not None and type(value) is not kind:
        raise PlanError(f"{source}: {found}, expected {wanted}{said}.")
    if declared.range is not None:
        low, high = declared.range
        if kind not in (int, float):
            raise PlanError(f"{declared.where}: a range is for a number. Drop it.")
        if low > high:
            raise PlanError(
                f"{declared.where}: range from {low:g} to {high:g}. Write the smaller first."
            )
        if not low <= value <= high:
            raise PlanError(f"{source}: {found}, expected {wanted} from {low:g} to {high:g}{said}.")
    return node


class Scope:
    """The parameters of a file at their values; it remembers which were used."""

    def __init__(self, known: Mapping[str, yaml.Node]) -> None:
        self.known = known
        self.used: set[str] = set()
        self._done: dict[int, tuple[yaml.Node, yaml.Node]] = {}
        self._open: set[int] = set()

    def resolve(self, node: yaml.Node, file: str) -> yaml.Node:
        """The node with every use of a parameter replaced. Raises PlanError."""
        if id(node) not in self._done:  # aliases are resolved once
            if id(node) in self._open:
                line = node.start_mark.line + 1
                raise PlanError(f"{file}:{line}: an alias inside what it stands for. Remove it.")
            self._open.add(id(node))
            self._done[id(node)] = (node, self._resolved(node, file))
        return self._done[id(node)][1]

    def _resolved(self, node: yaml.Node, file: str) -> yaml.Node:
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, file) if node.value.startswith("$") else node
        items: list[Any]
        if isinstance(node, yaml.SequenceNode):
            items = [self.resolve(item, file) for item in node.value]
        else:
            items = [(key, self.resolve(value, file)) for key, value in node.value]
        return type(node)(node.tag, items, node.start_mark, node.end_mark)

    def _scalar(self, node: yaml.ScalarNode, file: str) -> yaml.Node:
        if node.value.startswith("$$"):
            return yaml.ScalarNode(
                node.tag, node.value[1:], node.start_mark, node.end_mark, style='"'
            )
        where = f"{file}:{node.start_mark.line + 1}:{node.start_mark.column + 1}"
        match = _USE.fullmatch(node.value)
        if match is None:
            raise PlanError(
                f"{where}: {node.value!r}: a parameter stands alone, as $name. Write $$ for a "
                "dollar."
            )
        name = match[1] or match[2]
        if name not in self.known:
            raise PlanError(f"{where}: no parameter {name!r}. {near(name, self.known)}")
        self.used.add(name)
        return _moved(self.known[name], node)


def _moved(node: yaml.Node, to: yaml.Node) -> yaml.Node:
    """The node as if it were written where it is used, so that errors name that place."""
    items = node.value
    if isinstance(node, yaml.ScalarNode):
        return yaml.ScalarNode(node.tag, items, to.start_mark, to.end_mark, style=node.style)
    if isinstance(node, yaml.SequenceNode):
        items = [_moved(item, to) for item in items]
    else:
        items = [(_moved(key, to), _moved(value, to)) for key, value in items]
    return type(node)(node.tag, items, to.start_mark, to.end_mark)
