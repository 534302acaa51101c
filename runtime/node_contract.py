"""What a plan needs to know of a node, read from its annotations."""

import dataclasses
import enum
import inspect
import types as _types
from collections.abc import Callable
from typing import (
    Annotated,
    Any,
    Literal,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from haihe.runtime.contracts import Age, Aligned, Fifo, Frame, Fresh, Rng, Sometimes, Tick, Tunable
from haihe.runtime.errors import ContractError
from haihe.runtime.types import Message
from haihe.runtime.units import Unit, duration_ns

MAX_OUTPUTS = 13  # a bit each in the u16 of a firing's record
R = TypeVar("R")
OnError = Literal["stop", "skip", "restart"]


class Inject(enum.Enum):
    """Parameters that the plan fills in."""

    TICK = "dt"
    AGE = "age"
    RNG = "rng"


@dataclasses.dataclass(frozen=True)
class InputPort:
    """One input of a node: its message type and contract."""

    name: str
    kind: type[Message]
    optional: bool = False
    fresh: Fresh | None = None
    unit: Unit | None = None
    variable: str = ""  # the TypeVar's name for a generic node
    frame: str = ""
    fifo: int = 0  # places; 0: latest wins
    aligned: Aligned | None = None


@dataclasses.dataclass(frozen=True)
class OutputPort:
    """One output of a node."""

    name: str
    kind: type[Message]
    sometimes: bool = False
    unit: Unit | None = None
    variable: str = ""
    frame: str = ""


@dataclasses.dataclass(frozen=True)
class Contract:
    """Everything a plan needs to know of a node."""

    target: str  # "module:qualname", how another process finds it
    function: Callable[..., Any]  # the undecorated function or `__call__`
    is_class: bool
    inputs: tuple[InputPort, ...]
    outputs: tuple[OutputPort, ...]
    output_tuple: type[Any] | None  # the NamedTuple of several outputs
    injected: tuple[tuple[str, Inject, str], ...]  # parameter, kind, input it is about
    constants: tuple[str, ...]
    every_ns: int | None
    on: str | None
    deadline_ns: int | None
    budget_ns: int | None
    held_ns: int | None
    recorded: bool
    line: str
    on_error: OnError = "stop"
    blocking: bool = False
    tunables: dict[str, Tunable] = dataclasses.field(default_factory=dict)

    def input(self, name: str) -> InputPort:
        """The input of that name."""
        return next(port for port in self.inputs if port.name == name)


@dataclasses.dataclass
class Options:
    """What stands in the brackets of `@node(...)`, and the contract once it is read."""

    every: str | None = None
    on: str | None = None
    deadline: str | None = None
    budget: str | None = None
    held: str | None = None
    recorded: bool = False
    on_error: OnError = "stop"
    blocking: bool = False
    contract: Contract | None = None


def read_contract(owner: Any, settings: Options, target: str) -> Contract:
    """The contract of a node function or class called `target`. Raises ContractError."""
    is_class = isinstance(owner, type)
    function = inspect.unwrap(owner.__call__ if is_class else owner)
    where = f"{function.__code__.co_filename}:{function.__code__.co_firstlineno}: node {target}"
    if is_class:
        _check_class(owner, where)
    hints = hints_of(function, where)
    inputs: list[InputPort] = []
    injected: list[tuple[str, Inject, str]] = []
    constants: list[str] = []
    parameters = list(inspect.signature(function).parameters.values())[1 if is_class else 0 :]
    for parameter in parameters:
        name = parameter.name
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise ContractError(f"{where}: parameter {name}: a node has no *args or **kwargs.")
        if name not in hints:
            raise ContractError(f"{where}: parameter {name} has no type. Annotate it.")
        kind, metadata, optional, variable = read_hint(hints[name])
        if kind is Tick or kind is Rng or kind is Age:
            if parameter.default is parameter.empty:
                raise ContractError(
                    f"{where}: parameter {name} is filled in by the plan: give it a default "
                    f"({'TICK' if kind is Tick else 'RNG' if kind is Rng else 'age_of(...)'})."
                )
            if kind is Age:
                injected.append((name, Inject.AGE, parameter.default.of))
            else:
                injected.append((name, Inject.TICK if kind is Tick else Inject.RNG, ""))
        elif isinstance(kind, type) and issubclass(kind, Message):
            freshness = _meta(metadata, Fresh)
            if freshness and freshness.on_stale == "call" and not optional:
                raise ContractError(
                    f'{where}: input {name}: on_stale="call" gives None when stale. Write '
                    f"{kind.__name__} | None."
                )
            queue = _meta(metadata, Fifo)
            near = _meta(metadata, Aligned)
            if queue is not None and near is not None:
                raise ContractError(
                    f"{where}: input {name}: fifo() is for the input that triggers the node, "
                    "aligned() for the others. Keep one of the two."
                )
            inputs.append(
                InputPort(
                    name,
                    kind,
                    optional,
                    freshness,
                    _meta(metadata, Unit),
                    variable,
                    _frame_of(metadata),
                    queue.places if queue else 0,
                    near,
                )
            )
        else:
            constants.append(name)
    if is_class:
        fields = {f.name for f in dataclasses.fields(owner)}
        twice = [name for name in constants if name in fields]
        if twice:
            raise ContractError(
                f"{where}: {', '.join(twice)} is a field and a parameter of __call__. Keep one."
            )
    names = {port.name for port in inputs}
    for name, _, about in injected:
        if about and about not in names:
            raise ContractError(
                f"{where}: parameter {name}: age_of({about!r}) names no input. Inputs: "
                f"{', '.join(sorted(names)) or 'none'}."
            )
    if settings.on is not None and settings.on not in names:
        raise ContractError(
            f"{where}: on={settings.on!r} names no input. Inputs: "
            f"{', '.join(sorted(names)) or 'none'}."
        )
    output_tuple, outputs = _read_outputs(hints.get("return"), where)
    contract = Contract(
        target=target,
        function=function,
        is_class=is_class,
        inputs=tuple(inputs),
        outputs=outputs,
        output_tuple=output_tuple,
        injected=tuple(injected),
        constants=tuple(constants),
        every_ns=duration_ns(settings.every, "every") if settings.every else None,
        on=settings.on,
        deadline_ns=duration_ns(settings.deadline, "deadline") if settings.deadline else None,
        budget_ns=duration_ns(settings.budget, "budget") if settings.budget else None,
        held_ns=duration_ns(settings.held, "held") if settings.held else None,
        recorded=settings.recorded or settings.blocking,
        line=where.split(": ")[0],
        on_error=settings.on_error,
        blocking=settings.blocking,
    )
    return dataclasses.replace(contract, tunables=_tunables(contract, owner))


def _tunables(contract: Contract, owner: Any) -> dict[str, Tunable]:
    """The ranges of constants, by name; of a class, those of its fields too."""
    hints = constant_hints(contract, owner)
    ranges = {name: _meta(read_hint(hint)[1], Tunable) for name, hint in hints.items()}
    return {name: limits for name, limits in ranges.items() if limits is not None}


def _check_class(owner: type, where: str) -> None:
    if not dataclasses.is_dataclass(owner):
        raise ContractError(f"{where}: a node class is a dataclass. Put @dataclass above it.")
    if owner.__dict__.get("__haihe_undecorated__", False):
        raise ContractError(
            f"{where}: the subclass has a __call__ of its own but no @node. Put @node above it."
        )
    private = [f.name for f in dataclasses.fields(owner) if f.name.startswith("_")]
    if private and owner.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        raise ContractError(
            f"{where}: a frozen dataclass cannot keep the state {', '.join(private)}. "
            "Drop frozen=True."
        )


def hints_of(owner: Any, where: str) -> dict[str, Any]:
    """The annotations of a function or class, with their metadata. Raises ContractError."""
    try:
        return get_type_hints(owner, include_extras=True)
    except NameError as exc:
        raise ContractError(
            f"{where}: the annotation names {exc.name!r}, which is not known at run time. Import "
            "it at the top of the module, not under TYPE_CHECKING or inside a function."
        ) from exc


def read_hint(hint: Any) -> tuple[Any, tuple[Any, ...], bool, str]:
    """(type, metadata, optional, name of the TypeVar or "")."""
    metadata: tuple[Any, ...] = ()
    optional = False
    variable = ""
    for _ in range(4):  # Annotated, Optional and TypeVar in any nesting
        if get_origin(hint) is Annotated:
            metadata += tuple(hint.__metadata__)
            hint = hint.__origin__
        elif get_origin(hint) in (Union, _types.UnionType) and type(None) in get_args(hint):
            rest = [a for a in get_args(hint) if a is not type(None)]
            hint, optional = (rest[0] if len(rest) == 1 else hint), True
        elif isinstance(hint, TypeVar):
            variable, hint = hint.__name__, hint.__bound__ or object
    return hint, metadata, optional, variable


def _read_outputs(hint: Any, where: str) -> tuple[type[Any] | None, tuple[OutputPort, ...]]:
    if hint is None or hint is type(None):
        raise ContractError(
            f"{where}: no return type. A node returns a Message, or a NamedTuple of them."
        )
    kind, metadata, optional, variable = read_hint(hint)
    if isinstance(kind, type) and issubclass(kind, tuple) and hasattr(kind, "_fields"):
        fields = hints_of(kind, where)
        if len(kind._fields) > MAX_OUTPUTS:
            raise ContractError(
                f"{where}: {len(kind._fields)} outputs, at most {MAX_OUTPUTS} fit a record. Split "
                "the node, or put several values into one message."
            )
        ports = tuple(_read_output(name, fields[name], where) for name in kind._fields)
        return kind, ports
    return None, (_output("out", kind, metadata, optional, variable, where),)


def _read_output(name: str, hint: Any, where: str) -> OutputPort:
    kind, metadata, optional, variable = read_hint(hint)
    return _output(name, kind, metadata, optional, variable, where)


def _output(
    name: str, kind: Any, metadata: tuple[Any, ...], optional: bool, variable: str, where: str
) -> OutputPort:
    if not (isinstance(kind, type) and issubclass(kind, Message)):
        raise ContractError(
            f"{where}: output {name} is {getattr(kind, '__name__', kind)}, not a Message. Return "
            "a Message, or a NamedTuple whose fields are Messages."
        )
    may_be_silent = optional or any(isinstance(m, Sometimes) for m in metadata)
    return OutputPort(
        name, kind, may_be_silent, _meta(metadata, Unit), variable, _frame_of(metadata)
    )


def _meta(metadata: tuple[Any, ...], kind: type[R]) -> R | None:
    return next((m for m in metadata if isinstance(m, kind)), None)


def _frame_of(metadata: tuple[Any, ...]) -> str:
    found = _meta(metadata, Frame)
    return found.name if found else ""


def constant_hints(contract: Contract, owner: Any) -> dict[str, Any]:
    """The annotation of each constant; owner: the class of a node that has one. What cannot be
    looked up at run time is Any."""

    def hints(thing: Any) -> dict[str, Any]:
        try:
            return get_type_hints(thing, include_extras=True)
        except (NameError, TypeError):
            return {}

    own = hints(contract.function)
    found = {name: own.get(name, Any) for name in contract.constants}
    if contract.is_class:
        own = hints(owner)
        found |= {f.name: own.get(f.name, Any) for f in dataclasses.fields(owner)}
    return found
