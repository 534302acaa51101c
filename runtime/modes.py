"""Modes and goals of a graph, as they are wired.

    drive = g.modes("drive", initial="idle")
    home = g.goal("home", HomeRequest, timeout="10s")
    with drive.mode("follow", enter=seen, leave=lost):
        follow = pursue(parts, neck.state)
    with drive.mode("home", goal=home):
        go = Home()(home.request, neck.state)
        home.report(go.status)
    neck.command(drive.select(follow, go.command))

A node that is wired inside a mode is called in that mode only, and begins anew each time. Who
decides, and when: runtime/exec/modes.py and goals.py.
"""

from collections.abc import Sequence
from typing import Any, Generic, TypeVar, cast

from haihe.runtime.errors import WiringError
from haihe.runtime.graph import Graph
from haihe.runtime.graph_parts import GoalUse, GroupUse, LadderUse, ModeUse, NodeUse
from haihe.runtime.node_contract import Contract, InputPort, OutputPort
from haihe.runtime.traced import Ref, Traced, inside, user_line
from haihe.runtime.types import Condition, GoalStatus, Message
from haihe.runtime.units import duration_ns

M = TypeVar("M", bound=Message)


class Modes:
    """A group of modes. Raises WiringError with the user's line."""

    def __init__(self, graph: Graph, name: str, initial: str) -> None:
        line = user_line()
        self.graph = graph
        graph._next_name = name
        self.name = graph.take_name("", lambda wanted: wanted in graph.groups, line)
        graph._check_name(initial, line)
        self.use = graph.groups[self.name] = GroupUse(self.name, initial, line)
        self.use.modes[initial] = ModeUse(initial, line)

    def mode(
        self,
        name: str,
        enter: Condition | None = None,
        leave: Condition | None = None,
        then: str = "",
        *,
        auto: bool = True,
        goal: "Goal[Any] | None" = None,
    ) -> "Mode":
        """A mode of the group, for a `with` block that wires what is active in it only.

        enter: it can be entered only while this holds; from the initial mode it is entered by
        itself as soon as this begins to hold, unless `auto=False`. leave: it ends when this holds;
        then: the mode after it (default: the initial one). goal: it is active while this goal is.
        """
        line = user_line()
        self.graph._check_name(name, line)
        use = self.use.modes.get(name)
        if use is None or (name == self.use.initial and use.line == self.use.line):
            use = self.use.modes[name] = ModeUse(name, line)
        elif enter is not None or leave is not None or then or goal is not None:
            raise WiringError(
                f"{line}: mode {name} of {self.name} is there already ({use.line}). Say its "
                "conditions once; more nodes may be wired in another `with` block."
            )
        else:
            return Mode(self, use)
        if name == self.use.initial and (enter is not None or goal is not None):
            raise WiringError(
                f"{line}: mode {name} of {self.name} is the initial one: it has no condition to "
                "enter and no goal. Let another mode be the initial one."
            )
        found = Mode(self, use)
        use.auto, use.then = auto, then
        use.enter = self._condition(name, "enter", enter, line)
        use.leave = self._condition(name, "leave", leave, line)
        use.goal = goal.name if goal is not None else ""
        return found

    def _condition(self, mode: str, key: str, value: Any, line: str) -> Ref | None:
        if value is None:
            return None
        what = f"{line}: mode {mode} of {self.name}: {key}"
        return _output_of(self.graph, value, Condition, what)

    def select(self, *values: M) -> M:
        """One value of those that the modes give: what was published in this firing, the first
        if there are several. All of one type, from nodes of one rate."""
        name = f"{self.name.split('/')[-1]}_select"
        return cast(M, select(self.graph, f"{self.name}.select()", name, values))

    def ladder(
        self,
        order: tuple[str, ...],
        *,
        misses: str = "",
        heat: str = "",
        load: float = 0.0,
        battery: float = 0.0,
        settle: str = "1s",
        hold: str = "5s",
    ) -> None:
        """Step down to cheaper modes under stress, and up again when it is over.

        order: the modes from full to cheapest; the first is the initial one. It steps down at
        once when in a window there were so many misses of deadlines and budgets ("3 in 1s"), when
        the hottest sensor reaches `heat` ("80degc"), the load of all cores `load` (0..1), or the
        battery is at `battery` (0..1); one more step not before `settle`. It steps up, one mode
        at a time, when for `hold` there was no miss and all was well below (3 K, a tenth of the
        load; a twentieth above, of the battery).
        """
        line = user_line()
        self.use.ladder = LadderUse(tuple(order), misses, heat, load, battery, settle, hold, line)


class Mode:
    """A mode: a `with` block."""

    def __init__(self, group: Modes, use: ModeUse) -> None:
        self._group, self._use = group, use

    def __enter__(self) -> "Mode":
        self._group.graph.active.append((self._group.name, self._use.name))
        return self

    def __exit__(self, *exc: object) -> None:
        self._group.graph.active.pop()

    def leave(self, condition: Condition, then: str = "") -> None:
        """It ends when this holds: for conditions that are made inside of it."""
        line = user_line()
        if self._use.leave is not None:
            raise WiringError(
                f"{line}: mode {self._use.name} of {self._group.name} has a condition to leave "
                f"already ({self._use.leave}). Join the two in one node."
            )
        self._use.leave = self._group._condition(self._use.name, "leave", condition, line)
        self._use.then = then or self._use.then


class Goal(Generic[M]):
    """Something that can be asked for while the graph runs. Raises WiringError."""

    def __init__(self, graph: Graph, name: str, kind: type[M], timeout: str) -> None:
        line = user_line()
        if not (isinstance(kind, type) and issubclass(kind, Message)):
            raise WiringError(f"{line}: goal {name}: a request is a Message, got {kind!r}.")
        self.graph = graph
        graph._next_name = name
        self.name = graph.take_name("", graph._is_taken, line)
        duration_ns(timeout, f"timeout of goal {name}")
        self.use = graph.goals[self.name] = GoalUse(self.name, kind, timeout, line)

    @property
    def request(self) -> M:
        """What was asked for; absent while nothing is."""
        return cast(M, Traced(self.graph, Ref(self.name, "request", "goal"), self.use.kind))

    def report(self, status: GoalStatus) -> None:
        """Connect the output that says how far it is."""
        line = user_line()
        if self.use.status is not None:
            raise WiringError(
                f"{line}: goal {self.name}: {self.use.status} reports on it already. One node does."
            )
        self.use.status = _output_of(self.graph, status, GoalStatus, f"{line}: goal {self.name}")


def _output_of(graph: Graph, value: Any, kind: type[Message], what: str) -> Ref:
    found = inside(value)
    if found is None or found[0] is not graph or found[1].source != "node":
        given = type(value).__name__ if found is None else str(found[1])
        raise WiringError(f"{what}: {given} is no output of a node of this graph. Give it one.")
    if not issubclass(found[2], kind):
        raise WiringError(
            f"{what}: {found[1]} gives {found[2].__name__}, expected {kind.__name__}. Put a node "
            "between that converts."
        )
    return found[1]


def _select(*values: Any) -> Any:
    """Never called: the stepping code takes a value over itself."""
    raise NotImplementedError


def select(graph: Graph, what: str, name: str, values: Sequence[Any]) -> Traced:
    """A node that takes over what was published in this firing. what: its name in errors; name:
    its default name. Raises WiringError."""
    line = user_line()
    refs = [_output_of(graph, value, Message, f"{line}: {what}") for value in values]
    kinds = [inside(value)[2] for value in values]  # type: ignore[index]
    if not refs:
        raise WiringError(f"{line}: {what}: give it outputs of nodes.")
    kind = next((k for k in kinds if all(issubclass(other, k) for other in kinds)), None)
    if kind is None:
        names = ", ".join(dict.fromkeys(k.__name__ for k in kinds))
        raise WiringError(f"{line}: {what}: {names} are several types. Give it outputs of one.")
    name = graph.take_name(name, graph._is_taken, line)
    ports = tuple(InputPort(f"in_{i + 1}", kind) for i in range(len(refs)))
    contract = Contract(
        target="haihe:select", function=_select, is_class=False, inputs=ports,
        outputs=(OutputPort("out", kind, sometimes=True),), output_tuple=None, injected=(),
        constants=(), every_ns=None, on=None, deadline_ns=None, budget_ns=None, held_ns=None,
        recorded=False, line=line,
    )  # fmt: skip
    inputs = {port.name: ref for port, ref in zip(ports, refs, strict=True)}
    graph.nodes[name] = NodeUse(
        name, contract, None, inputs, {}, contract.outputs, line, tuple(graph.active), select=True
    )
    return Traced(graph, Ref(name, "out", "node"), kind)


def close(graph: Graph) -> set[str]:
    """Check the groups and goals of a wired graph; what they use of its outputs."""
    used: set[str] = set()
    owners: dict[str, str] = {}
    for group in graph.groups.values():
        for mode in group.modes.values():
            used |= {str(ref) for ref in (mode.enter, mode.leave) if ref is not None}
            mode.then = mode.then or group.initial
            what = f"{mode.line}: mode {mode.name} of {group.name}"
            if mode.then not in group.modes:
                names = ", ".join(group.modes)
                raise WiringError(f"{what}: no mode {mode.then!r} follows it. Modes: {names}.")
            if group.modes[mode.then].goal:
                raise WiringError(
                    f"{what}: {mode.then} is the mode of a goal: nothing but a request of it leads "
                    "there. Name another one."
                )
            if mode.leave is not None and mode.then == mode.name:
                raise WiringError(f"{what}: it follows itself. Say then= another mode.")
            if mode.goal and mode.goal in owners:
                raise WiringError(
                    f"{what}: goal {mode.goal} is that of {owners[mode.goal]} already. A goal has "
                    "one mode."
                )
            if mode.goal:
                owners[mode.goal] = f"{mode.name} of {group.name}"
        if group.ladder is not None:
            _check_ladder(group, group.ladder)
    for goal in graph.goals.values():
        if goal.status is None:
            raise WiringError(
                f"{goal.line}: goal {goal.name}: nothing reports on it. Call its report() with the "
                "GoalStatus that a node gives."
            )
        used.add(str(goal.status))
    return used


def _check_ladder(group: GroupUse, ladder: LadderUse) -> None:
    what = f"{ladder.line}: ladder of {group.name}"
    if sorted(ladder.order) != sorted(group.modes):
        raise WiringError(
            f"{what}: order names {', '.join(ladder.order) or 'nothing'}, the modes are "
            f"{', '.join(group.modes)}. Name each once."
        )
    if ladder.order[0] != group.initial:
        raise WiringError(
            f"{what}: it begins at {ladder.order[0]}, the group at {group.initial}. Let the first "
            "be the initial mode."
        )
    for mode in group.modes.values():
        if mode.enter is not None or mode.leave is not None or mode.goal:
            raise WiringError(
                f"{what}: mode {mode.name} has a condition or a goal ({mode.line}). A ladder "
                "decides alone: use another group for the rest."
            )
    if not (ladder.misses or ladder.heat or ladder.load or ladder.battery):
        raise WiringError(f"{what}: it looks at nothing. Say misses, heat, load or battery.")
