"""`@node`: a plain function, or a dataclass with `__call__`, becomes a node of a graph.

The decorator gives back the same static type, so type checkers see the plain callable. Inside
`with Graph()` a call is recorded as an edge; outside, it is the plain call.
"""

import dataclasses
import functools
import sys
import threading
import types as _types
from collections.abc import Callable
from typing import Any, ParamSpec, Protocol, TypeVar, get_args, overload

from haihe.runtime.errors import ContractError
from haihe.runtime.node_contract import MAX_OUTPUTS as MAX_OUTPUTS
from haihe.runtime.node_contract import Contract as Contract
from haihe.runtime.node_contract import Inject as Inject
from haihe.runtime.node_contract import InputPort as InputPort
from haihe.runtime.node_contract import OnError, Options, read_contract
from haihe.runtime.node_contract import OutputPort as OutputPort
from haihe.runtime.node_contract import hints_of as hints_of
from haihe.runtime.node_contract import read_hint as read_hint
from haihe.runtime.traced import user_line
from haihe.runtime.types import Message
from haihe.runtime.units import duration_ns

P = ParamSpec("P")
R = TypeVar("R")
C = TypeVar("C")
F = TypeVar("F", bound="Callable[..., Message | tuple[Any, ...]]")


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
    on_error: OnError = "stop",
    blocking: bool = False,
) -> _Decorator: ...
def node(f: Any = None, /, **options: Any) -> Any:
    """Make a node of a function, or of a dataclass with `__call__`.

    every: period of a periodic node ("20ms", "50Hz"). on: the input that triggers it, when the
    contract does not say. deadline: release to publication. budget: declared worst execution
    time. held: of it, holding the interpreter (default: as measured, else all of it; numpy, OpenCV
    and inference let go of it). recorded: decision replay takes its output from the recording
    (models).
    on_error: what follows when it raises. `stop`: safe actions, and the run ends with the error.
    `skip`: no output in this firing. `restart`: the same, and its state begins anew (one with
    open() is closed and opened). Each is counted; all but the first are logged once a second.
    blocking: it waits for something slow (HTTP, a database): it gets a lane and a thread of its
    own, and is `recorded`.
    """
    settings = Options(**options)
    if settings.on_error not in get_args(OnError):
        raise ContractError(
            f"{user_line()}: node(on_error={settings.on_error!r}): say stop, skip or restart."
        )
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


def _decorate(f: Any, settings: Options) -> Any:
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
    settings: Options = owner.__haihe_node__
    if settings.contract is None or settings.contract.target != target_name(owner):
        settings.contract = read_contract(owner, settings, target_name(owner))
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
