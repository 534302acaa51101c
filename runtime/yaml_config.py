"""Configuration files: YAML into frozen dataclasses, strict, with file, line and key in errors.

    @dataclass(frozen=True)
    class Joint:
        id: int
        limit: Annotated[float, Si("rad")]           # `90deg`, or a bare number in rad
        mode: Literal["position", "velocity"] = "position"

    unit = load("unit.yaml", Unit)
    BoardError: unit.yaml:12:5: devices.neck.joints.pan: unknown key 'positon'. Did you mean ...

Field types: nested dataclasses and msgspec Structs, `tuple[X, ...]`, `tuple[X, Y]`, `list[X]`,
`dict[str, X]`, `X | None`, unions (the kind of node chooses; among dataclasses a Literal key),
Literal, Enum, str, int, float, bool, Path, Any, `Annotated[float, Si(unit)]`. A field of type
`Where` is not a key: it gets the place of its mapping, for errors that are found later. A field
with `metadata={"key": "class"}` is written under that key. A ValueError or HaiheError raised by
`__post_init__` gets the place too.

Scalars follow YAML 1.2 (`on` and `no` are text, `010` is no number); a str takes a plain number as
it is written. Refused: duplicate and merge keys, tags, nan and inf, files over 1 MB, alias bombs.
"""

import math
import re
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from difflib import get_close_matches
from enum import Enum
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, NoReturn, TypeVar, Union, cast

import yaml

from haihe.runtime.errors import BoardError, HaiheError
from haihe.runtime.units import quantity

T = TypeVar("T")
MAX_BYTES = 1 << 20
MAX_NODES = 100_000  # after the expansion of aliases
MAX_DEPTH = 40
_INT = re.compile(r"[-+]?(?:0|[1-9]\d{0,17})|0x[0-9a-fA-F]{1,16}|0o[0-7]{1,21}")
_FLOAT = re.compile(r"[-+]?(?:\.\d+|(?:0|[1-9]\d*)(?:\.\d*)?)(?:[eE][-+]?\d{1,3})?")
_BOOL = {t: v for v, n in ((True, "true"), (False, "false")) for t in (n, n.title(), n.upper())}
_NULL = ("", "~", "null", "Null", "NULL")


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Composes only; every scalar stays text, so a tag on a node was written by hand."""

    yaml_implicit_resolvers: typing.ClassVar[dict[str, Any]] = {}


@dataclass(frozen=True)
class Si:
    """Marks a float that may be written as a quantity; the field holds the SI value.

    bare: whether a number without a unit is taken as SI; 0 always is.
    """

    unit: str
    bare: bool = True


@dataclass(frozen=True)
class Where:
    """The place of a mapping in its file: `str(where)` starts an error message."""

    file: str = ""
    line: int = 0
    column: int = 0
    path: str = ""
    keys: Mapping[str, tuple[int, int]] = field(default_factory=dict, repr=False, compare=False)

    def at(self, key: str) -> "Where":
        """The place of one of the mapping's keys."""
        line, column = self.keys.get(key, (self.line, self.column))
        return Where(self.file, line, column, f"{self.path}.{key}".lstrip("."))

    @property
    def place(self) -> str:
        """`file:line:column`."""
        return f"{self.file}:{self.line}:{self.column}"

    def __str__(self) -> str:
        return f"{self.place}: {self.path}" if self.path else self.place


NOWHERE = Where()


def load(path: str | Path, cls: type[T], error: type[HaiheError] = BoardError) -> T:
    """Read a YAML file as `cls`. Raises `error` with the file, line and key."""
    return build(cls, compose(path, error), str(path), error)


def loads(text: str, cls: type[T], file: str = "<text>", error: type[HaiheError] = BoardError) -> T:
    """Read YAML text as `cls`; `file` is its name in errors."""
    return build(cls, compose_text(text, file, error), file, error)


def build(
    cls: type[T],
    node: yaml.Node,
    file: str = "<text>",
    error: type[HaiheError] = BoardError,
    path: str = "",
) -> T:
    """Turn a node of `compose`, or one inside it that is at `path`, into `cls`."""
    return cast(T, Reader(file, error).read(cls, node, path, 0))


def compose(path: str | Path, error: type[HaiheError] = BoardError) -> yaml.Node:
    """The root node of a YAML file, to choose a class by one of its keys before `build`."""
    return compose_text(read_text(path, error), str(path), error)


def read_text(path: str | Path, error: type[HaiheError] = BoardError) -> str:
    """The text of a configuration file: UTF-8, of a sane size."""
    try:
        with Path(path).open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as exc:
        raise error(f"{path}: cannot be read: {exc.strerror}. Check the path.") from exc
    if len(data) > MAX_BYTES:
        raise error(f"{path}: larger than {MAX_BYTES} bytes. Configuration is small: split it.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = data[: exc.start].count(b"\n") + 1
        raise error(f"{path}:{line}: not UTF-8. Save the file as UTF-8.") from exc


def compose_text(text: str, file: str, error: type[HaiheError] = BoardError) -> yaml.Node:
    """The root node of YAML text; `file` is its name in errors."""
    try:
        node = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        place = f"{file}:{mark.line + 1}:{mark.column + 1}" if mark else file
        said = ", ".join(part for part in (exc.context, exc.problem) if part)
        raise error(f"{place}: not valid YAML: {said}. Check indentation and quotes.") from exc
    except yaml.YAMLError as exc:
        said = str(exc).splitlines()[0]
        raise error(f"{file}: not valid YAML: {said}. Remove the character.") from exc
    except RecursionError as exc:
        raise error(f"{file}: nested too deeply. At most {MAX_DEPTH} levels are read.") from exc
    if node is None:
        raise error(f"{file}: the file is empty. Write its keys.")
    return node


class _Field(NamedTuple):
    name: str
    key: str
    hint: Any
    is_required: bool


@lru_cache(maxsize=512)
def _fields(cls: type) -> tuple[_Field, ...]:
    hints = typing.get_type_hints(cls, include_extras=True)
    if hasattr(cls, "__struct_fields__"):
        import msgspec

        infos = msgspec.structs.fields(cls)
        return tuple(_Field(f.name, f.encode_name, hints[f.name], f.required) for f in infos)
    return tuple(
        _Field(
            f.name,
            f.metadata.get("key", f.name),
            hints[f.name],
            f.default is MISSING and f.default_factory is MISSING,
        )
        for f in fields(cls)
        if f.init
    )


def is_record(hint: Any) -> bool:
    """Whether a hint is a dataclass or a msgspec Struct."""
    return isinstance(hint, type) and (is_dataclass(hint) or hasattr(hint, "__struct_fields__"))


def options_of(hint: Any) -> list[Any]:
    """The members of a union; any other hint alone."""
    if typing.get_origin(hint) in (Union, types.UnionType):
        return [option for member in typing.get_args(hint) for option in options_of(member)]
    return [hint]


def _scalar(node: yaml.ScalarNode) -> Any:
    """The value of a scalar by the rules of YAML 1.2; a quoted one is text."""
    text = node.value
    if node.style:
        return text
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    if _INT.fullmatch(text):
        return int(text, 0)
    return float(text) if _FLOAT.fullmatch(text) else text


def _describe(hint: Any) -> str:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        units = [m.unit for m in args[1:] if isinstance(m, Si)]
        return f"a quantity like '1 {units[0]}'" if units else _describe(args[0])
    if origin is Literal:
        return " or ".join(repr(a) for a in args)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return " or ".join(repr(member.value) for member in hint)
    if origin in (tuple, list) or hint in (tuple, list):
        many = origin is tuple and args[-1:] != (...,)
        return f"a list of {len(args)}" if many else "a list"
    if origin in (dict, Mapping) or hint is dict or is_record(hint):
        return "a mapping"
    names = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
    names |= {type(None): "nothing", Path: "a path", Any: "any", object: "any"}
    return names.get(hint) or f"a {getattr(hint, '__name__', hint)}"


class Reader:
    """Reads nodes of `compose` by type hints; a subclass may read more kinds of hints."""

    def __init__(self, file: str, error: type[HaiheError]) -> None:
        self.file = file
        self.error = error
        self.nodes = 0

    def fail(
        self, node: yaml.Node, path: str, text: str, cause: Exception | None = None
    ) -> NoReturn:
        mark = node.start_mark
        raise self.error(
            f"{Where(self.file, mark.line + 1, mark.column + 1, path)}: {text}"
        ) from cause

    def read(self, hint: Any, node: yaml.Node, path: str, depth: int) -> Any:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            self.fail(node, path, f"over {MAX_NODES} values after aliases. Write fewer aliases.")
        if depth > MAX_DEPTH:
            self.fail(node, path, f"nested deeper than {MAX_DEPTH} levels. Write it flatter.")
        kind = {yaml.ScalarNode: "str", yaml.SequenceNode: "seq"}.get(type(node), "map")
        if node.tag not in (f"tag:yaml.org,2002:{kind}", "!"):
            self.fail(node, path, f"the tag {node.tag!r} is not read. Remove it.")
        options = options_of(hint)
        for option in options:
            if option is Any or option is object:
                return self.plain(node, path, depth)
        if isinstance(node, yaml.ScalarNode):
            return self.scalar(options, node, path)
        if isinstance(node, yaml.SequenceNode):
            for option in options:
                if (typing.get_origin(option) or option) in (tuple, list):
                    return self.sequence(option, node, path, depth)
        else:
            records = [option for option in options if is_record(option)]
            if records:
                return self.record(self.choose(records, node, path), node, path, depth)
            for option in options:
                if (typing.get_origin(option) or option) in (dict, Mapping):
                    return self.mapping(option, node, path, depth)
        found = "a list" if isinstance(node, yaml.SequenceNode) else "a mapping"
        self.refuse(options, node, path, found)

    def refuse(self, options: list[Any], node: yaml.Node, path: str, found: str) -> NoReturn:
        wanted = " or ".join(dict.fromkeys(map(_describe, options)))
        near = ""
        if isinstance(node, yaml.ScalarNode):
            known = re.findall(r"'([^']*)'", wanted)
            matches = get_close_matches(node.value, known, n=1)
            near = f" Did you mean {matches[0]!r}?" if matches else ""
        self.fail(node, path, f"found {found}, expected {wanted}.{near}")

    def scalar(self, options: list[Any], node: yaml.ScalarNode, path: str) -> Any:
        value = _scalar(node)
        if value is None and type(None) in options:
            return None
        for option in options:
            origin, args = typing.get_origin(option), typing.get_args(option)
            for arg in args if origin is Literal else ():
                if arg == node.value or (arg == value and type(arg) is type(value)):
                    return arg
            if isinstance(option, type) and issubclass(option, Enum):
                for member in option:
                    if member.value in (value, node.value):
                        return member
        for option in options:
            if typing.get_origin(option) is Annotated:
                return self.annotated(option, node, path)
        kind = type(value)
        if kind in options and (kind is not float or math.isfinite(value)):
            return value
        if kind is int and float in options:
            return float(value)
        if value is not None and str in options:
            return node.value
        if value is not None and Path in options:
            return Path(node.value)
        self.refuse(options, node, path, "nothing" if value is None else repr(value))

    def annotated(self, option: Any, node: yaml.ScalarNode, path: str) -> Any:
        base, *marks = typing.get_args(option)
        wanted = [mark for mark in marks if isinstance(mark, Si)]
        units = [mark.unit for mark in wanted]
        if not units:
            return self.scalar(options_of(base), node, path)
        value = _scalar(node)
        if value is None or isinstance(value, bool):
            self.refuse([option], node, path, "nothing" if value is None else repr(value))
        if not wanted[0].bare and isinstance(value, int | float) and value:
            self.fail(
                node, path, f"{node.value} has no unit. Write it, as in '{node.value}{units[0]}'"
            )
        try:
            number = quantity(value, units[0])
        except HaiheError as exc:
            self.fail(node, path, str(exc), exc)
        if not math.isfinite(number):
            self.refuse([option], node, path, repr(node.value))
        return number

    def pairs(self, node: yaml.Node, path: str) -> dict[str, tuple[yaml.Node, yaml.Node]]:
        found: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self.fail(key, path, "a key is a list or a mapping. Write a name.")
            if key.value == "<<" and not key.style:
                self.fail(key, path, "merge keys are not read. Write the keys out.")
            if key.value in found:
                first = found[key.value][0].start_mark.line + 1
                self.fail(key, path, f"key {key.value!r} is already on line {first}. Remove one.")
            found[key.value] = (key, value)
        return found

    def choose(self, records: list[Any], node: yaml.Node, path: str) -> Any:
        if len(records) == 1:
            return records[0]
        pairs = self.pairs(node, path)
        kinds: dict[str, list[Any]] = {}
        for record in records:
            for item in _fields(record):
                if typing.get_origin(item.hint) is Literal:
                    values = typing.get_args(item.hint)
                    kinds.setdefault(item.key, []).extend(values)
                    if item.key in pairs and pairs[item.key][1].value in values:
                        return record
        for key, named in kinds.items():
            wanted = [Literal[tuple(named)]]
            if key in pairs:
                _, value = pairs[key]
                text = repr(value.value) if isinstance(value, yaml.ScalarNode) else "a list"
                self.refuse(wanted, value, f"{path}.{key}".lstrip("."), text)
            said = _describe(wanted[0])
            self.fail(node, path, f"the key {key!r} is missing. It says what this is: {said}.")
        raise TypeError(f"{records}: a union of dataclasses needs a common field of type Literal")

    def record(self, cls: Any, node: yaml.Node, path: str, depth: int) -> Any:
        pairs = self.pairs(node, path)
        known = {item.key: item for item in _fields(cls) if item.hint is not Where}
        for key, (key_node, _) in pairs.items():
            if key not in known:
                near = get_close_matches(key, known, n=1, cutoff=0.5)
                cure = f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(known)}."
                self.fail(key_node, path, f"unknown key {key!r}. {cure}")
        values: dict[str, Any] = {}
        for item in _fields(cls):
            if item.hint is Where:
                at = {
                    k: (n.start_mark.line + 1, n.start_mark.column + 1)
                    for k, (n, _) in pairs.items()
                }
                mark = node.start_mark
                values[item.name] = Where(self.file, mark.line + 1, mark.column + 1, path, at)
            elif item.key in pairs:
                inner = f"{path}.{item.key}".lstrip(".")
                values[item.name] = self.read(item.hint, pairs[item.key][1], inner, depth + 1)
            elif item.is_required:
                self.fail(node, path, f"the key {item.key!r} is missing ({_describe(item.hint)}).")
        try:
            return cls(**values)
        except (ValueError, HaiheError) as exc:
            self.fail(node, path, str(exc), exc)

    def sequence(self, hint: Any, node: yaml.Node, path: str, depth: int) -> Any:
        origin, args = typing.get_origin(hint) or hint, typing.get_args(hint)
        if origin is tuple and args and args[-1] is not ...:
            if len(args) != len(node.value):
                found = f"found {len(node.value)} values, expected {len(args)}."
                self.fail(node, path, f"{found} Write a list of {len(args)}.")
            hints = list(args)
        else:
            hints = [args[0] if args else Any] * len(node.value)
        return origin(
            self.read(inner, item, f"{path}[{i}]", depth + 1)
            for i, (inner, item) in enumerate(zip(hints, node.value, strict=True))
        )

    def mapping(self, hint: Any, node: yaml.Node, path: str, depth: int) -> dict[str, Any]:
        inner = typing.get_args(hint)[1] if typing.get_args(hint) else Any
        return {
            key: self.read(inner, value, f"{path}.{key}".lstrip("."), depth + 1)
            for key, (_, value) in self.pairs(node, path).items()
        }

    def plain(self, node: yaml.Node, path: str, depth: int) -> Any:
        if isinstance(node, yaml.ScalarNode):
            return _scalar(node)
        if isinstance(node, yaml.SequenceNode):
            return self.sequence(list, node, path, depth)
        return self.mapping(dict, node, path, depth)
