"""Constants of nodes in YAML: read by the annotation of their parameter, written without loss.

Plain data is written plainly. What the annotation does not tell is written with its type:

    {type: app:Pose, x: 0.0, y: 1.0}       a message, another record, a NamedTuple
    {type: app:Mode, value: FAST}          a member of an Enum, a numpy scalar
    {type: array, dtype: float64, value: [0.0, 1.0]}
    {type: unit, value: mg/L}   {type: import, value: app:score}   {type: tuple, value: [1, 2]}

A whole number stays one where a float is expected, as in Python.
"""

import dataclasses
import math
import re
import typing
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml

from haihe.runtime import yaml_config
from haihe.runtime.errors import HaiheError, PlanError
from haihe.runtime.units import parse_unit
from haihe.runtime.yaml_config import Where

_BUILTIN = {"bool": bool, "int": int, "float": float, "str": str, "list": list, "none": type(None)}
Find = Callable[[str], Any]


class Placed(NamedTuple):
    """A text of a file and its place."""

    text: str
    where: Where


class ValueReader(yaml_config.Reader):
    """Reads values by annotations; `find` gives what `module:qualname` names."""

    def __init__(self, file: str, find: Find, error: type[HaiheError] = PlanError) -> None:
        super().__init__(file, error)
        self.find = find

    def read(self, hint: Any, node: yaml.Node, path: str, depth: int) -> Any:
        """The value of a node; typed forms, arrays and `Placed` besides what the base reads."""
        if hint is yaml.Node:
            return node
        options = yaml_config.options_of(hint)
        if isinstance(node, yaml.ScalarNode) and Placed in options:
            text = super().read(str, node, path, depth)
            return Placed(text, self.place(node, path))
        if isinstance(node, yaml.MappingNode) and not _has_type(options):
            pairs = self.pairs(node, path)
            if "type" in pairs:
                return self.typed(options, pairs, node, path, depth)
        if isinstance(node, yaml.SequenceNode):
            dtype = next((d for d in map(_dtype_of, options) if d is not None), None)
            if dtype is not None:
                return self.array(dtype, node, path)
        try:
            return super().read(hint, node, path, depth)
        except (NameError, TypeError) as exc:  # annotations that cannot be looked up
            self.fail(node, path, f"{exc}. Write it with its type: {{type: ..., ...}}.", exc)

    def place(self, node: yaml.Node, path: str) -> Where:
        """Where a node is written."""
        return Where(self.file, node.start_mark.line + 1, node.start_mark.column + 1, path)

    def mapping(self, hint: Any, node: yaml.Node, path: str, depth: int) -> dict[str, Any]:
        """As in the base; a record gets the place of its key, not of its first line."""
        found = super().mapping(hint, node, path, depth)
        for key, (key_node, _) in self.pairs(node, path).items():
            where = getattr(found[key], "where", None)
            if dataclasses.is_dataclass(found[key]) and isinstance(where, Where):
                here = self.place(key_node, where.path)
                here = dataclasses.replace(here, keys=where.keys)
                found[key] = dataclasses.replace(found[key], where=here)
        return found

    def scalar(self, options: list[Any], node: yaml.ScalarNode, path: str) -> Any:
        """As in the base, but a whole number is not made a float."""
        value = super().scalar(options, node, path)
        if type(value) is float and int not in options and not node.style:
            written = self.plain(node, path, 0)
            return written if type(written) is int else value
        return value

    # --- typed forms ----------------------------------------------------------------------

    def typed(
        self, options: list[Any], pairs: dict[str, Any], node: yaml.Node, path: str, depth: int
    ) -> Any:
        kind_node = pairs["type"][1]
        kind = super().read(str, kind_node, f"{path}.type", depth)
        at = f"{path}.type"
        if kind in _BUILTIN or kind in ("tuple", "dict", "array", "unit", "path", "import"):
            return self.builtin(kind, pairs, node, path, depth)
        cls = self.find_class(kind, kind_node, at)
        known = [o for o in options if isinstance(o, type) and o not in (Any, object)]
        if known and len(known) == len(options) and not issubclass(cls, tuple(known)):
            wanted = " or ".join(o.__name__ for o in known)
            self.fail(kind_node, at, f"{kind} is no {wanted}. Write one.")
        if issubclass(cls, Enum):
            name = self.value_of(str, pairs, node, path, depth)
            if name not in cls.__members__:
                names = ", ".join(cls.__members__)
                self.fail(pairs["value"][1], path, f"{kind} has no {name!r}. It has: {names}.")
            return cls[name]
        if issubclass(cls, np.generic):
            value = self.value_of(bool | int | float | str, pairs, node, path, depth)
            return cls(value)
        if "type" in field_names(cls):
            inner = self.value_of(yaml.Node, pairs, node, path, depth)
        else:
            rest = [(k, v) for k, v in node.value if k.value != "type"]
            inner = yaml.MappingNode(_MAP, rest, node.start_mark, node.end_mark)
        if issubclass(cls, tuple):
            return self.named_tuple(cls, inner, path, depth)
        return self.record(cls, inner, path, depth)

    def find_class(self, kind: str, node: yaml.Node, path: str) -> Any:
        try:
            cls = self.find(kind)
        except HaiheError as exc:
            self.fail(node, path, str(exc), exc)
        is_tuple = isinstance(cls, type) and issubclass(cls, tuple) and hasattr(cls, "_fields")
        is_value = isinstance(cls, type) and issubclass(cls, Enum | np.generic)
        if not (is_tuple or is_value or yaml_config.is_record(cls)):
            self.fail(
                node, path, f"{kind} is no message, dataclass, NamedTuple or Enum. Write one."
            )
        return cls

    def value_of(
        self, hint: Any, pairs: dict[str, Any], node: yaml.Node, path: str, depth: int
    ) -> Any:
        if "value" not in pairs:
            self.fail(node, path, "the key 'value' is missing.")
        self.only(("type", "value"), pairs, path)
        return self.read(hint, pairs["value"][1], path, depth + 1)

    def only(self, known: tuple[str, ...], pairs: dict[str, Any], path: str) -> None:
        for key, (key_node, _) in pairs.items():
            if key not in known:
                self.fail(key_node, path, f"unknown key {key!r}. Known: {', '.join(known)}.")

    def builtin(
        self, kind: str, pairs: dict[str, Any], node: yaml.Node, path: str, depth: int
    ) -> Any:
        if kind == "array":
            return self.typed_array(pairs, node, path, depth)
        if kind == "dict":
            rows = self.value_of(tuple[tuple[Any, Any], ...], pairs, node, path, depth)
            return dict(rows)
        hints: dict[str, Any] = {"tuple": tuple[Any, ...], "list": list[Any], "path": Path}
        if kind in ("int", "float"):
            text = self.value_of(str, pairs, node, path, depth)
            try:
                return _BUILTIN[kind](text)
            except ValueError as exc:
                self.fail(pairs["value"][1], path, f"{text!r} is no {kind}. Write one.", exc)
        value = self.value_of(hints.get(kind, _BUILTIN.get(kind, str)), pairs, node, path, depth)
        try:
            if kind == "unit":
                return parse_unit(value)
            return self.find(value) if kind == "import" else value
        except HaiheError as exc:
            self.fail(pairs["value"][1], path, str(exc), exc)

    def typed_array(self, pairs: dict[str, Any], node: yaml.Node, path: str, depth: int) -> Any:
        self.only(("type", "dtype", "value", "shape"), pairs, path)
        for key in ("dtype", "value"):
            if key not in pairs:
                self.fail(node, path, f"the key {key!r} is missing.")
        name = self.read(str, pairs["dtype"][1], f"{path}.dtype", depth)
        if not re.fullmatch(r"bool|u?int(8|16|32|64)|float(16|32|64)", name):
            self.fail(pairs["dtype"][1], path, f"{name!r} is no dtype of numbers. Write float64.")
        value = self.array(np.dtype(name), pairs["value"][1], path)
        if "shape" in pairs:
            shape = self.read(tuple[int, ...], pairs["shape"][1], f"{path}.shape", depth)
            if math.prod(shape) != value.size:
                self.fail(pairs["shape"][1], path, f"{value.size} values are no array of {shape}.")
            value = value.reshape(shape)
        return value

    def array(self, dtype: Any, node: yaml.Node, path: str) -> Any:
        value = self.plain(node, path, 0)
        try:
            return np.array(_numbers(value, dtype), dtype)
        except (ValueError, TypeError, OverflowError) as exc:
            said = "rows of different lengths" if "inhomogeneous" in str(exc) else str(exc)
            self.fail(node, path, f"no array of {dtype.name}: {said}. Write rows of numbers.", exc)

    def named_tuple(self, cls: Any, node: yaml.Node, path: str, depth: int) -> Any:
        pairs = self.pairs(node, path)
        self.only(cls._fields, pairs, path)
        hints = annotations_of(cls)
        values = {
            name: self.read(hints.get(name, Any), pairs[name][1], f"{path}.{name}", depth + 1)
            for name in cls._fields
            if name in pairs
        }
        try:
            return cls(**values)
        except TypeError as exc:
            self.fail(node, path, str(exc), exc)


_MAP = "tag:yaml.org,2002:map"


def _has_type(options: list[Any]) -> bool:
    """Whether `type` is a key of its own in a mapping of this hint."""
    return any(yaml_config.is_record(o) and "type" in field_names(o) for o in options)


def field_names(cls: Any) -> tuple[str, ...]:
    """What a record or a NamedTuple is made of."""
    if dataclasses.is_dataclass(cls):
        return tuple(f.name for f in dataclasses.fields(cls) if f.init)
    names: Any = getattr(cls, "__struct_fields__", None) or getattr(cls, "_fields", ())
    return tuple(names)


def annotations_of(cls: Any) -> dict[str, Any]:
    """The annotations of a class or a function; empty when they name what is not there."""
    try:
        return typing.get_type_hints(cls, include_extras=True)
    except (NameError, TypeError):
        return {}


def _dtype_of(option: Any) -> Any:
    """The dtype of an NDArray annotation, None of any other."""
    if typing.get_origin(option) is not np.ndarray:
        return None
    inner = typing.get_args(typing.get_args(option)[1])
    kind: Any = inner[0] if inner else None
    is_number = isinstance(kind, type) and issubclass(kind, np.bool_ | np.number)
    return np.dtype(kind) if is_number and not kind.__subclasses__() else None  # no np.integer


def _numbers(value: Any, dtype: Any) -> Any:
    """Rows as written; the texts nan, inf and -inf stand for themselves."""
    if isinstance(value, list):
        return [_numbers(item, dtype) for item in value]
    if isinstance(value, str) and value in ("nan", "inf", "-inf") and dtype.kind == "f":
        return float(value)
    if isinstance(value, str) or value is None or isinstance(value, bool) != (dtype.kind == "b"):
        raise ValueError(f"found {'nothing' if value is None else repr(value)}")
    if isinstance(value, float) and dtype.kind in "iu":
        raise ValueError(f"found {value!r}")
    return value
