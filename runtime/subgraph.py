"""`@subgraph`: a plain function that wires nodes, to be used several times under several names.

    @subgraph
    def eye(image: Image, model: str = "part", gain: float = 0.8) -> Detections:
        return smooth(detector(model)(image), gain)

    left = named("left", eye)(cam.image)  # the nodes left/part and left/smooth

It exists only while a graph is wired: the graph stays flat, its names say what belongs together.
"""

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from haihe.runtime.contracts import Age, Aligned, Fifo, Frame, Fresh, Rng, Tick
from haihe.runtime.errors import ContractError, WiringError
from haihe.runtime.graph import Graph, wiring
from haihe.runtime.node import InputPort, hints_of, read_hint
from haihe.runtime.traced import Ref, Traced, inside, user_line
from haihe.runtime.types import Message
from haihe.runtime.units import Unit

F = TypeVar("F", bound=Callable[..., Message | tuple[Any, ...] | None])


def subgraph(f: F) -> F:
    """Make a sub-graph of a function that wires nodes; it keeps its static type.

    Parameters that are messages are its inputs, the others are plain values. The nodes, feedbacks
    and sub-graphs inside are called `NAME/...`: NAME is what `named` gives, or the function's
    name, numbered from the second use on. Roles of devices are the unit's: they get no prefix.
    It gives a message, a NamedTuple of messages, or nothing when it is annotated `-> None`.
    Raises WiringError with the user's line: outside a graph, wrong or unused inputs, an output
    that no node made.
    """
    if not inspect.isfunction(f):
        raise ContractError(
            f"{user_line()}: @subgraph wants a function, got {f!r}. Write a function that wires "
            "nodes and returns what they gave."
        )

    @functools.wraps(f)
    def call(*args: Any, **kwargs: Any) -> Any:
        graph = wiring(f"sub-graph {f.__name__}")
        line = user_line()
        name = graph.take_name(f.__name__, lambda wanted: _is_taken(graph, wanted), line)
        graph.scopes.add(name)
        return _Call(graph, f, name, line).run(args, kwargs)

    call.__haihe_subgraph__ = True  # type: ignore[attr-defined]
    return call  # type: ignore[return-value]


def _is_taken(graph: Graph, name: str) -> bool:
    begin = f"{name}/"
    keys = [*graph.nodes, *graph.feedbacks]
    return name in graph.scopes or any(key.startswith(begin) for key in keys)


class _Call:
    """One use of a sub-graph."""

    def __init__(self, graph: Graph, f: Callable[..., Any], name: str, line: str) -> None:
        self.graph, self.f, self.name, self.line = graph, f, name, line
        code = inspect.unwrap(f).__code__
        self.place = f"{code.co_filename}:{code.co_firstlineno}"
        self.hints = hints_of(f, f"{self.place}: sub-graph {f.__name__}")

    def run(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Wire the nodes inside; give what the function gave."""
        signature = inspect.signature(self.f)
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError as exc:
            raise self._error(f"{exc}. It takes: {', '.join(signature.parameters)}.") from exc
        bound.apply_defaults()
        given: dict[str, Ref] = {}
        for name, value in bound.arguments.items():
            if name not in self.hints:
                raise self._error(f"parameter {name} has no type ({self.place}). Annotate it.")
            found = self._input(name, value)
            if found is not None:
                bound.arguments[name] = found
                given[name] = _ref(found)
        with self._scope():
            result = self.f(*bound.args, **bound.kwargs)
        outputs = self._outputs(result)
        used = {id(ref) for ref in [*_consumed(self.graph), *outputs]}
        for name, ref in given.items():
            if id(ref) not in used:
                raise self._error(
                    f"nothing inside uses its input {name} ({self.place}). Connect it to a node, "
                    "or drop the parameter."
                )
        return result

    @contextmanager
    def _scope(self) -> Iterator[None]:
        before, self.graph.scope = self.graph.scope, f"{self.name}/"
        try:
            yield
        finally:
            self.graph.scope = before

    def _error(self, what: str) -> WiringError:
        return WiringError(f"{self.line}: sub-graph {self.name}: {what}")

    def _input(self, name: str, value: Any) -> Traced | None:
        """The traced value to give to the function: a copy, to see whether this one is used."""
        kind, metadata, optional, _ = read_hint(self.hints[name])
        if kind in (Tick, Age, Rng):
            raise self._error(
                f"parameter {name} is {kind.__name__}, which only a node gets ({self.place}). "
                "Move it into a node."
            )
        found = inside(value)
        if not (isinstance(kind, type) and issubclass(kind, Message)):
            if found is None:
                return None
            raise self._error(
                f"{name} is a plain value, got the message of {found[1]}. Annotate the parameter "
                "with a Message type to make it an input."
            )
        wrong = next((m for m in metadata if isinstance(m, Fresh | Fifo | Aligned)), None)
        if wrong is not None:
            raise self._error(
                f"input {name} is {type(wrong).__name__.lower()}(), which says how a node samples "
                f"({self.place}). Write it on the input of the node inside."
            )
        if found is None:
            if value is None and optional:
                return None
            raise self._error(
                f"input {name} wants a {kind.__name__} from a port, got "
                f"{'nothing' if value is None else type(value).__name__}. Connect a device's port "
                "or a node's output."
            )
        graph, ref, given = found
        if graph is not self.graph:
            raise self._error(
                f"input {name}: {ref} belongs to another graph. Wire nodes and devices of one "
                "`with Graph` block."
            )
        if not issubclass(given, kind):
            raise self._error(
                f"input {name}: {ref} gives {given.__name__}, {name} wants {kind.__name__}. Put a "
                "node between that converts."
            )
        self.graph.check_edge(ref, self.name, _port(name, kind, metadata), self.line)
        self.graph.passed.append(ref)  # a sub-graph around this one has used it
        return Traced(self.graph, Ref(ref.owner, ref.port, ref.source), given)

    def _outputs(self, result: Any) -> list[Ref]:
        hint = self.hints.get("return", Message)
        if hint is type(None):
            if result is None:
                return []
            raise self._error(
                f"it is annotated -> None ({self.place}) but gives something. Mend one of the two."
            )
        if issubclass(type(result), tuple) and hasattr(result, "_fields"):  # not isinstance: Traced
            hints = hints_of(type(result), f"{self.place}: sub-graph {self.f.__name__}")
            return [
                self._output(f"output {field}", field, value, hints[field])
                for field, value in zip(result._fields, result, strict=True)
            ]
        return [self._output("it", "output", result, hint)]

    def _output(self, what: str, name: str, value: Any, hint: Any) -> Ref:
        found = inside(value)
        if found is None:
            gives = "nothing" if value is None else f"a {type(value).__name__}"
            raise self._error(
                f"{what} gives {gives}, not the output of a node ({self.place}). Return what a "
                "node gave, or a NamedTuple of such."
            )
        graph, ref, given = found
        if graph is not self.graph:
            raise self._error(
                f"{what} gives {ref}, which belongs to another graph ({self.place}). Wire "
                "nodes and devices of one `with Graph` block."
            )
        kind, metadata, _, _ = read_hint(hint)
        if isinstance(kind, type) and not issubclass(given, kind):
            raise self._error(
                f"{what} gives the {given.__name__} of {ref}, {self.place} says {kind.__name__}. "
                "Mend its return type, or put a node between that converts."
            )
        self.graph.check_edge(ref, self.name, _port(name, kind, metadata), self.line)
        return ref


def _port(name: str, kind: type[Message], metadata: tuple[Any, ...]) -> InputPort:
    """An end of the sub-graph, for what its annotation states."""
    unit = next((m for m in metadata if isinstance(m, Unit)), None)
    frame = next((m.name for m in metadata if isinstance(m, Frame)), "")
    return InputPort(name, kind, unit=unit, frame=frame)


def _ref(value: Any) -> Ref:
    found = inside(value)
    assert found is not None
    return found[1]


def _consumed(graph: Graph) -> list[Ref]:
    """Everything that has been connected so far."""
    refs = [ref for use in graph.nodes.values() for ref in use.inputs.values()]
    refs += graph.commands.values()
    refs += [loop.source for loop in graph.feedbacks.values() if loop.source is not None]
    modes = [mode for group in graph.groups.values() for mode in group.modes.values()]
    refs += [ref for mode in modes for ref in (mode.enter, mode.leave) if ref is not None]
    refs += [goal.status for goal in graph.goals.values() if goal.status is not None]
    return refs + graph.passed
