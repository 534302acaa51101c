"""Traced values: what stands for a message while a graph is wired.

To a type checker it is the message itself. At run time it only says where the message will come
from; every operation on it raises with the user's line.
"""

import contextlib
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

from haihe.runtime.errors import WiringError
from haihe.runtime.types import Message


@dataclass(frozen=True)
class Ref:
    """Where a message comes from: a port of a node or of a device, or a feedback."""

    owner: str
    port: str
    source: str  # "node", "device" or "feedback"

    def __str__(self) -> str:
        return self.owner if self.port == "out" else f"{self.owner}.{self.port}"


def _is_users(module: str) -> bool:
    top = module.partition(".")[0]
    if top == "haihe":
        return module.startswith("haihe.pipelines.")
    return top != "numpy" and top not in sys.stdlib_module_names  # copy.copy() calls us back


class _Place(threading.local):
    """Where the graph that this thread wires is written, when that is no line of Python."""

    line = ""


_place = _Place()


@contextlib.contextmanager
def wiring_at(line: str) -> Iterator[None]:
    """What is wired in this block is written at `line`: `file:line:column` of a YAML file."""
    before, _place.line = _place.line, line
    try:
        yield
    finally:
        _place.line = before


def user_line() -> str:
    """`file:line` of the innermost frame that is the user's: outside haihe, or a pipeline.

    Inside `wiring_at`: the place that it was given.
    """
    if _place.line:
        return _place.line
    frame = sys._getframe(1)
    while frame.f_back is not None and not _is_users(frame.f_globals.get("__name__", "")):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def _refusing(what: str) -> Any:
    def method(self: "Traced", *args: Any, **kwargs: Any) -> NoReturn:
        _refuse(self, what)

    return method


class Traced:
    """A message that does not exist yet."""

    __slots__ = ("_graph", "_kind", "_ref")
    # isinstance() and match ask for __class__ after the type test has failed
    __class__ = property(_refusing("isinstance() or match"))
    __array_struct__ = property(_refusing("numpy"))  # what numpy.asarray() asks for first

    def __init__(self, graph: object, ref: Ref, kind: type[Message]) -> None:
        object.__setattr__(self, "_graph", graph)
        object.__setattr__(self, "_ref", ref)
        object.__setattr__(self, "_kind", kind)

    def __getattr__(self, name: str) -> NoReturn:
        _refuse(self, f".{name}")

    def __setattr__(self, name: str, value: object) -> NoReturn:
        _refuse(self, f".{name} = ...")


def inside(value: Any) -> tuple[object, Ref, type[Message]] | None:
    """(graph, reference, message type) of a traced value, None for any other value."""
    if type(value) is not Traced:
        return None
    get = object.__getattribute__
    return get(value, "_graph"), get(value, "_ref"), get(value, "_kind")


def _refuse(value: Traced, what: str) -> NoReturn:
    found = inside(value)
    assert found is not None
    _, ref, kind = found
    raise WiringError(
        f"{user_line()}: {what} on {ref} ({kind.__name__}): this is wiring time, there is no "
        "value yet. Move it into a node."
    )


_BINARY = "add sub mul truediv floordiv mod pow matmul and or xor lshift rshift divmod"
_OPERATORS = {
    "if or bool()": "bool",
    "len()": "len length_hint",
    "iteration or unpacking": "iter next reversed contains getitem setitem",
    "arithmetic": _BINARY
    + "".join(f" r{name} i{name}" for name in _BINARY.split())
    + " neg pos abs invert round trunc floor ceil",
    "a comparison": "eq ne lt le gt ge",
    "hash() or use as a dict key": "hash",
    "formatting": "str repr format bytes",
    "conversion to a number": "int float complex index",
    "numpy": "array array_ufunc array_function array_interface",
    "a call": "call",
    "copy or pickle": "copy deepcopy reduce reduce_ex getstate",
    "with": "enter exit",
    "await": "await aiter anext",
    "delete": "delattr delitem",
}
for _what, _names in _OPERATORS.items():
    for _name in _names.split():
        setattr(Traced, f"__{_name}__", _refusing(_what))
