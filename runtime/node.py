"""`@node`: a plain function, or a dataclass with `__call__`, becomes a node of a graph.

The decorator gives back the same static type, so type checkers see the plain callable. Inside
`with Graph()` a call is recorded as an edge; outside, it is the plain call.
"""

import dataclasses
import enum
import functools
import inspect
import sys
import threading
import types as _types
from collections.abc import Callable
from typing import (
    Annotated,
    Any,
    ParamSpec,
    Protocol,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    overload,
)

from haihe.runtime.contracts import Age, Aligned, Fifo, Frame, Fresh, Rng, Sometimes, Tick
from haihe.runtime.errors import ContractError
from haihe.runtime.traced import user_line
from haihe.runtime.types import Message
from haihe.runtime.units import Unit, duration_ns

MAX_OUTPUTS = 13  # a bit each in the u16 of a firing's record
P = ParamSpec("P")
R = TypeVar("R")
C = TypeVar("C")
F = TypeVar("F", bound="Callable[..., Message | tuple[Any, ...]]")


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

    def input(self, name: str) -> InputPort:
        """The input of that name."""
        return next(port for port in self.inputs if port.name == name)


@dataclasses.dataclass
class _Options:
    every: str | None = None
    on: str | None = None
    deadline: str | None = None
    budget: str | None = None
    held: str | None = None
    recorded: bool = False
    contract: Contract | None = None


class _Decorator(Protocol):
    @overload
    def __call__(self, f: type[C], /) -> type[C]: ...  # type: ignore[overload-overlap]
    @overload
    def __call__(self, f: F, /) -> F: ...
    @overload
    def __call__(self, f: Callable[P, R | None], /) -> Callable[P, R]: ...


@overload
def node(f: type[C], /) -> type[C]: ...  # type: ignore[overload-overlap]
@overload
def node(f: F, /) -> F: ...
@overload
def node(f: Callable[P, R | None], /) -> Callable[P, R]: ...
@overload
def node(
    f: None = None,
    /,
    *,
    every: str | None = None,
    on: str | None = None,
    deadline: str | None = None,
    budget: str | None = None,
    held: str | None = None,
    recorded: bool = False,
) -> _Decorator: ...
def node(f: Any = None, /, **options: Any) -> Any:
    """Make a node of a function, or of a dataclass with `__call__`.

    every: period of a periodic node ("20ms", "50Hz"). on: the input that triggers it, when the
    contract does not say. deadline: release to publication. budget: declared worst execution
    time. held: of it, holding the interpreter (default: as measured, else all of it; numpy, OpenCV
    and inference let go of it). recorded: decision replay takes its output from the recording
    (models).
    """
    settings = _Options(**options)
    if settings.every and settings.on:
        raise ContractError(
            f"node(every={settings.every!r}, on={settings.on!r}): a node has one trigger. "
            "Keep one of the two."
        )
    for name in ("every", "deadline", "budget", "held"):
        value = getattr(settings, name)
        if value is not None:
            try:
                duration_ns(value, name)
            except ContractError as exc:
                raise ContractError(f"{user_line()}: node({name}={value!r}): {exc}") from exc
    if f is None:
        return lambda g: _decorate(g, settings)
    return _decorate(f, settings)


def _decorate(f: Any, settings: _Options) -> Any:
    if not isinstance(f, type):

        @functools.wraps(f)
        def call(*args: Any, **kwargs: Any) -> Any:
            graph = current_graph()
            if graph is None:
                return f(*args, **kwargs)
            return graph.record(call, None, args, kwargs)

        call.__haihe_node__ = settings  # type: ignore[attr-defined]
        return call

    method = f.__dict__.get("__call__")
    if method is None:
        raise ContractError(
            f"node {f.__qualname__}: the class has no __call__ of its own. Define __call__ with "
            "the inputs as its parameters."
        )

    @functools.wraps(method)
    def call_method(self: Any, *args: Any, **kwargs: Any) -> Any:
        graph = current_graph()
        if graph is None:
            return method(self, *args, **kwargs)
        return graph.record(type(self), self, args, kwargs)

    owner: Any = f
    inherited = getattr(owner.__init_subclass__, "__func__", None)

    def init_subclass(cls: Any, /, **kwargs: Any) -> None:
        if inherited is not None:
            inherited(cls, **kwargs)
        if "__call__" in cls.__dict__ and "__haihe_node__" not in cls.__dict__:
            # its body would run on traced values: insist on its own @node, lazily, because
            # decorators run after this hook
            cls.__haihe_undecorated__ = True
            cls.__call__ = _insisting(cls.__dict__["__call__"])

    owner.__call__ = call_method
    owner.__haihe_node__ = settings
    owner.__haihe_undecorated__ = False
    owner.__init_subclass__ = classmethod(init_subclass)
    if not hasattr(owner, "reset"):
        owner.reset = reset
    return f


def _insisting(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        if current_graph() is not None:
            contract_of(type(self))  # raises unless @node came after all
        return method(self, *args, **kwargs)

    return call


def reset(instance: Any) -> None:
    """Give a dataclass node its initial state: every underscored field its default again."""
    for field in dataclasses.fields(instance):
        if not field.name.startswith("_"):
            continue
        if field.default_factory is not dataclasses.MISSING:
            object.__setattr__(instance, field.name, field.default_factory())
        elif field.default is not dataclasses.MISSING:
            object.__setattr__(instance, field.name, field.default)


def state_of(instance: Any) -> dict[str, Any]:
    """The state of a dataclass node: its underscored fields and attributes."""
    names = [f.name for f in dataclasses.fields(instance)]
    names += [name for name in getattr(instance, "__dict__", ()) if name not in names]
    return {name: getattr(instance, name) for name in names if name.startswith("_")}


def set_state(instance: Any, state: dict[str, Any]) -> None:
    """Restore what `state_of` gave."""
    for name, value in state.items():
        object.__setattr__(instance, name, value)


class Recording(Protocol):
    """What `@node` asks of the graph that is being wired."""

    def record(
        self, target: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Add the call as a node; give traced outputs."""
        ...


class _Wiring(threading.local):
    """The graphs being wired, by thread: a node that runs elsewhere is not wired in here."""

    def __init__(self) -> None:
        self.graphs: list[Recording] = []


wiring_now = _Wiring()


def current_graph() -> Recording | None:
    """The graph whose `with` block this thread is in."""
    return wiring_now.graphs[-1] if wiring_now.graphs else None


def is_node(value: Any) -> bool:
    """Whether it is a node function, a node class or an instance of one."""
    return hasattr(value, "__haihe_node__")


def contract_of(target: Any) -> Contract:
    """The contract of a node function, node class or node instance. Raises ContractError."""
    if not is_node(target):
        raise ContractError(f"{target!r} is not a node. Put @node above its definition.")
    owner: Any = target
    if not isinstance(target, type | _types.FunctionType):
        owner = type(target)
    settings: _Options = owner.__haihe_node__
    if settings.contract is None or settings.contract.target != target_name(owner):
        settings.contract = _read_contract(owner, settings)
    return settings.contract


def target_name(owner: Any) -> str:
    """`module:qualname` of a function or a class, as another process finds it."""
    module = owner.__module__
    if module == "__main__":
        main = sys.modules["__main__"]
        spec = getattr(main, "__spec__", None)
        if spec is not None:
            module = spec.name
        elif getattr(main, "__file__", None):
            module = str(main.__file__).rsplit("/", 1)[-1].removesuffix(".py")
    return f"{module}:{owner.__qualname__}"


def _read_contract(owner: Any, settings: _Options) -> Contract:
    is_class = isinstance(owner, type)
    function = inspect.unwrap(owner.__call__ if is_class else owner)
    target = target_name(owner)
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
    return Contract(
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
        recorded=settings.recorded,
        line=where.split(": ")[0],
    )


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
