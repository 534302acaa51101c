"""Keyframes: the state of a lane, read back from a file without trusting it."""

import dataclasses
import enum
import io
import pickle
from typing import Any

import msgspec

from haihe.runtime.errors import RecordError
from haihe.runtime.graph import Graph

NUMPY = {"ndarray", "dtype", "_reconstruct", "scalar", "_frombuffer"}
PLAIN = {
    ("builtins", name) for name in ("set", "frozenset", "complex", "bytearray", "slice", "range")
} | {("collections", "deque"), ("collections", "OrderedDict"), ("msgspec._core", "rebuild")}


class _StateUnpickler(pickle.Unpickler):
    """A keyframe is data from a file: only plain types, numpy arrays, messages and the classes
    that the graph's own modules define are made."""

    def __init__(self, data: bytes, modules: set[str]) -> None:
        super().__init__(io.BytesIO(data))
        self._modules = modules

    def find_class(self, module: str, name: str) -> Any:
        """Refuse everything else."""
        if (module, name) in PLAIN or (module.partition(".")[0] == "numpy" and name in NUMPY):
            return super().find_class(module, name)
        if "." not in name and (module.startswith("haihe.") or module in self._modules):
            found = super().find_class(module, name)
            if isinstance(found, type) and found.__module__ == module:
                # making one must do nothing but hold data
                if issubclass(found, (msgspec.Struct, enum.Enum, tuple, float)):
                    return found
                if module in self._modules and dataclasses.is_dataclass(found):
                    return found
        raise RecordError(
            f"the keyframe wants {module}.{name}: not a class of the graph's modules. Replay from "
            "the beginning, or look where the recording came from."
        )


def load_state(data: bytes, graph: Graph) -> dict[str, Any]:
    """A keyframe's state, by a restricted unpickler."""
    modules = {use.contract.target.split(":")[0] for use in graph.nodes.values()}
    modules |= {use.contract.function.__module__ for use in graph.nodes.values()}
    state: dict[str, Any] = _StateUnpickler(data, modules).load()
    return state
