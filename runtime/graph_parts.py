"""What a graph is made of: plain records, filled while it is wired."""

from dataclasses import dataclass, field
from typing import Any, Literal

from haihe.runtime.node_contract import Contract, OutputPort
from haihe.runtime.traced import Ref
from haihe.runtime.types import Message

Policy = Literal["priority", "fifo"]


@dataclass(frozen=True)
class DeviceKind:
    """What every device of a kind offers: state ports, command ports, and how it is cycled.

    stream: it talks unasked (a camera); otherwise a lane cycles it: read, nodes, guard, write.
    """

    name: str
    states: dict[str, type[Message]]
    commands: dict[str, type[Message]] = field(default_factory=dict)
    stream: bool = False


@dataclass
class DeviceUse:
    """A device named by its role; the unit profile binds it."""

    role: str
    kind: DeviceKind
    line: str


@dataclass
class NodeUse:
    """One node of the graph."""

    name: str
    contract: Contract
    instance: Any  # the dataclass instance, or None for a function
    inputs: dict[str, Ref]
    constants: dict[str, Any]
    outputs: tuple[OutputPort, ...]  # with TypeVars resolved
    line: str
    modes: tuple[tuple[str, str], ...] = ()  # (group, mode): called only in all of these
    select: bool = False  # takes over the first input published in a firing; calls nothing


@dataclass
class Feedback:
    """A loop in software: the value of the previous firing, `initial` at first."""

    name: str
    initial: Message
    source: Ref | None
    line: str


@dataclass
class ThreadUse:
    """Lanes that share a thread: the nodes that start them, most urgent first."""

    name: str
    nodes: tuple[str, ...]
    policy: Policy
    line: str


@dataclass
class ProcessUse:
    """A process of its own for the threads that run these nodes."""

    name: str
    nodes: tuple[str, ...]
    line: str


@dataclass
class ModeUse:
    """A mode of a group, see runtime/modes.py."""

    name: str
    line: str
    enter: Ref | None = None
    auto: bool = True
    leave: Ref | None = None
    then: str = ""
    goal: str = ""


@dataclass
class LadderUse:
    """When a group of modes steps down: as it was said, checked; see exec/ladder.py."""

    order: tuple[str, ...]
    misses: str
    heat: str
    load: float
    battery: float
    settle: str
    hold: str
    line: str


@dataclass
class GroupUse:
    """Modes of which one is active at a time."""

    name: str
    initial: str
    line: str
    modes: dict[str, ModeUse] = field(default_factory=dict)
    ladder: LadderUse | None = None


@dataclass
class GoalUse:
    """A goal: what a request of it is, and the source of its status."""

    name: str
    kind: type[Message]
    timeout: str
    line: str
    status: Ref | None = None
