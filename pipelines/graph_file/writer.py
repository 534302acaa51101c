"""Constants of nodes as YAML: the shortest form that reads back as the same value.

Each form is read back before it is taken, so what is written is lossless, or an error.
"""

import re
import typing
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np

from haihe.pipelines.graph_file.params import Scope
from haihe.pipelines.graph_file.values import Find, ValueReader, annotations_of, field_names
from haihe.runtime import yaml_config
from haihe.runtime.errors import HaiheError, PlanError
from haihe.runtime.node import target_name
from haihe.runtime.units import Unit

MAX_ELEMENTS = 4096  # of an array: more is no longer read by anybody
WIDTH = 100
_PLAIN = re.compile(r"[A-Za-z_/][\w./+-]*(?::[A-Za-z_][\w./+-]*)?", re.ASCII)
_WORDS = re.compile(r"(?i:true|false|null|y|n|yes|no|on|off)")

Tree = str | list[Any] | dict[str, Any]  # a scalar as it is written, lists and mappings of trees


def tree(value: Any, hint: Any, find: Find) -> Tree:
    """A value as it is written where `hint` is expected. Raises ValueError saying why not."""
    for form in (_short, _typed):
        written = form(value, hint, find)
        if written is not None and same(_read_back(written, hint, find), value):
            return written
    raise ValueError(
        f"a {type(value).__name__} has no form in YAML. Use plain data, a message, a dataclass, or "
        "something that can be imported."
    )


def _read_back(written: Tree, hint: Any, find: Find) -> Any:
    try:
        node = Scope({}).resolve(yaml_config.compose_text(inline(written), "", PlanError), "")
        return ValueReader("", find).read(hint, node, "", 0)
    except (HaiheError, UnicodeError):
        return NotImplemented  # like nothing that is written


def _short(value: Any, hint: Any, find: Find) -> Tree | None:
    options = yaml_config.options_of(hint)
    if isinstance(value, Enum):
        value = value.value
    if value is None or isinstance(value, bool | int | float | str):
        return scalar(value)
    if isinstance(value, Path):
        return scalar(str(value))
    if type(value) in (list, tuple):
        hints = _element_hints(value, options)
        return [tree(item, hint, find) for item, hint in zip(value, hints, strict=True)]
    if type(value) is dict and all(isinstance(key, str) for key in value):
        args = [typing.get_args(o) for o in options if typing.get_origin(o) is dict]
        inner = args[0][1] if args else Any
        return {scalar(key): tree(item, inner, find) for key, item in value.items()}
    if isinstance(value, np.ndarray) and value.size:
        return _rows(value)
    return _parts(value, find) if yaml_config.is_record(type(value)) else None


def _typed(value: Any, hint: Any, find: Find) -> Tree | None:
    kind = type(value)
    if isinstance(value, np.ndarray):
        shape = {} if value.size else {"shape": [str(n) for n in value.shape]}
        rows = _rows(value) if value.size else []
        return {"type": "array", "dtype": scalar(value.dtype.name), "value": rows, **shape}
    if kind is Unit:
        return {"type": "unit", "value": scalar(value.name)}
    if isinstance(value, Path):
        return {"type": "path", "value": scalar(str(value))}
    if value is None or kind is bool:
        return {"type": "none" if value is None else "bool", "value": scalar(value)}
    if kind in (int, float, str):
        return {"type": kind.__name__, "value": scalar(str(value))}
    if kind in (list, tuple):
        return {"type": kind.__name__, "value": [tree(item, Any, find) for item in value]}
    if kind is dict:
        rows = [[tree(key, Any, find), tree(item, Any, find)] for key, item in value.items()]
        return {"type": "dict", "value": rows}
    if isinstance(value, Enum):
        return {"type": _importable(kind, find), "value": scalar(value.name)}
    if isinstance(value, np.generic):
        return {"type": _importable(kind, find), "value": tree(value.item(), Any, find)}
    if yaml_config.is_record(kind) or (isinstance(value, tuple) and hasattr(kind, "_fields")):
        parts = _parts(value, find)
        head: dict[str, Tree] = {"type": _importable(kind, find)}
        return head | ({"value": parts} if "type" in parts else parts)
    return {"type": "import", "value": _importable(value, find)} if callable(value) else None


def _parts(value: Any, find: Find) -> dict[str, Tree]:
    hints, parts = annotations_of(type(value)), {}
    for name in field_names(type(value)):
        try:
            parts[name] = tree(getattr(value, name), hints.get(name, Any), find)
        except ValueError as exc:
            raise ValueError(f"its {name}: {exc}") from exc
    return parts


def _element_hints(value: Any, options: list[Any]) -> list[Any]:
    for option in options:
        origin, args = typing.get_origin(option), typing.get_args(option)
        if origin is type(value) and args:
            if origin is list or args[-1] is ...:
                return [args[0]] * len(value)
            if len(args) == len(value):
                return list(args)
    return [Any] * len(value)


def _rows(value: Any) -> list[Any]:
    if value.size > MAX_ELEMENTS:
        raise ValueError(
            f"an array of {value.size} numbers, a file holds at most {MAX_ELEMENTS}. Let the node "
            "load it from a file."
        )
    if value.dtype.kind not in "biuf":
        raise ValueError(f"an array of {value.dtype}, a file holds numbers. Use an array of them.")

    def rows(items: Any) -> Any:
        return [rows(item) for item in items] if isinstance(items, list) else scalar(items)

    found: list[Any] = rows(value.tolist())
    return found


def _importable(thing: Any, find: Find) -> str:
    name = target_name(thing) if hasattr(thing, "__qualname__") else repr(thing)
    try:
        if find(name) is thing:
            return scalar(name)
    except HaiheError:
        pass
    raise ValueError(f"{name} cannot be imported by that name. Define it at the top of a module.")


def same(one: Any, other: Any) -> bool:
    """Whether two constants are the same to the last bit: types, structure, numbers."""
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray | np.generic):
        is_alike = one.dtype == other.dtype and one.shape == other.shape
        return bool(is_alike and _bits(one) == _bits(other))
    if isinstance(one, float):
        return bool(one.hex() == other.hex())
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return same(list(one.items()), list(other.items()))
    if yaml_config.is_record(type(one)):
        return all(same(getattr(one, n), getattr(other, n)) for n in field_names(type(one)))
    return bool(one == other)


def _bits(value: Any) -> bytes:
    # which NaN it is has no meaning, and is not written
    if value.dtype.kind == "f":
        value = np.where(np.isnan(value), value.dtype.type("nan"), value)
    return bytes(value.tobytes())


def scalar(value: Any) -> str:
    """A scalar as it is written; text is quoted where it could be read as something else."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int | float):
        return repr(value)
    text = f"${value}" if value.startswith("$") else str(value)
    if _PLAIN.fullmatch(text) and not _WORDS.fullmatch(text):
        return text
    return '"' + "".join(map(_escaped, text)) + '"'


def _escaped(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    if character.isprintable():
        return character
    code = ord(character)
    return (
        f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 65536 else f"\\U{code:08x}"
    )


def inline(value: Tree) -> str:
    """A tree on one line."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return f"[{', '.join(map(inline, value))}]"
    return "{" + ", ".join(f"{key}: {inline(item)}" for key, item in value.items()) + "}"


def block(value: Tree, indent: int = 0, used: int = 0) -> str:
    """A tree on as few lines as fit; `used`: columns taken before it on its first line."""
    line = inline(value)
    pad = "\n" + " " * indent
    if isinstance(value, str) or not value or used + len(line) <= WIDTH:
        return f" {line}"
    if isinstance(value, list):
        if all(isinstance(item, str) for item in value):
            return f" [{_filled(value, pad)}]"
        return "".join(f"{pad}-{block(item, indent + 2, indent + 2)}" for item in value)
    return "".join(
        f"{pad}{key}:{block(item, indent + 2, indent + len(key) + 2)}"
        for key, item in value.items()
    )


def _filled(words: list[str], pad: str) -> str:
    lines = [""]
    for word in words:
        if lines[-1] and len(pad) + len(lines[-1]) + len(word) + 2 > WIDTH:
            lines.append("")
        lines[-1] += f"{word}, "
    return pad + pad.join(line.rstrip() for line in lines).rstrip(",")
