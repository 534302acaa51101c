"""The graph: what is recorded inside `with Graph("name") as g:`.

It holds nodes with their inputs and constants, devices by role, commands and feedbacks. It is
data: a plan is made from it, a recording holds it, a YAML file can say the same.
"""

import importlib
import os
import pickle
import sys
from collections.abc import Callable, Iterable
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, TypeVar, cast

from haihe.runtime import tuning
from haihe.runtime.errors import WiringError
from haihe.runtime.graph_parts import DeviceKind as DeviceKind
from haihe.runtime.graph_parts import DeviceUse as DeviceUse
from haihe.runtime.graph_parts import Feedback as Feedback
from haihe.runtime.graph_parts import GoalUse, GroupUse, ProcessUse
from haihe.runtime.graph_parts import NodeUse as NodeUse
from haihe.runtime.graph_parts import Policy as Policy
from haihe.runtime.graph_parts import ThreadUse as ThreadUse
from haihe.runtime.node import (
    Contract,
    InputPort,
    contract_of,
    current_graph,
    is_node,
    state_of,
    wiring_now,
)
from haihe.runtime.traced import Ref, Traced, inside, user_line
from haihe.runtime.types import Message
from haihe.runtime.units import same_unit

if TYPE_CHECKING:
    from haihe.runtime.modes import Goal, Modes

T = TypeVar("T")
M = TypeVar("M", bound=Message)
LANE_MARK = "HAIHE_LANE"  # set in processes that import the user's module only for its nodes


class Graph:
    """A pipeline. Call nodes inside `with Graph("name") as g:` to record their edges."""

    def __init__(self, name: str) -> None:
        if not name or "/" in name or "." in name:
            raise WiringError(
                f"{user_line()}: Graph({name!r}): a name without '.' and '/', please."
            )
        self.name = name
        self.nodes: dict[str, NodeUse] = {}
        self.devices: dict[str, DeviceUse] = {}
        self.commands: dict[tuple[str, str], Ref] = {}
        self.command_lines: dict[tuple[str, str], str] = {}
        self.feedbacks: dict[str, Feedback] = {}
        self.threads: dict[str, ThreadUse] = {}
        self.processes: dict[str, ProcessUse] = {}
        self.groups: dict[str, GroupUse] = {}
        self.goals: dict[str, GoalUse] = {}
        self.warnings: list[str] = []
        self.origin: dict[str, Any] = {}  # of a pipeline: its name and parameters
        self.file = user_line().rsplit(":", 1)[0]
        self.scope = ""  # of the sub-graph being wired, "left/"; the beginning of its nodes' names
        self.scopes: set[str] = set()  # names of the sub-graphs so far
        self.passed: list[Ref] = []  # what was given to sub-graphs
        self.active: list[tuple[str, str]] = []  # (group, mode) whose `with` blocks are open
        self._instances: dict[int, str] = {}
        self._next_name: str | None = None

    # --- wiring ---------------------------------------------------------------------------

    def __enter__(self) -> "Graph":
        wiring_now.graphs.append(self)
        return self

    def __exit__(self, exc_type: object, *rest: object) -> None:
        wiring_now.graphs.remove(self)
        if exc_type is None:
            self._close()

    def _close(self) -> None:
        for loop in self.feedbacks.values():
            if loop.source is None:
                raise WiringError(
                    f"{loop.line}: feedback {loop.name}: nothing feeds it. Call the second value "
                    "that feedback() gave with the message to remember."
                )
        used = {str(ref) for use in self.nodes.values() for ref in use.inputs.values()}
        used |= {str(ref) for ref in self.commands.values()}
        used |= {str(loop.source) for loop in self.feedbacks.values()}
        if self.groups or self.goals:
            used |= importlib.import_module("haihe.runtime.modes").close(self)
        for use in self.nodes.values():
            for port in use.outputs:
                ref = Ref(use.name, port.name, "node")
                if str(ref) not in used:
                    self.warnings.append(f"{use.line}: output {ref} is not used by anything.")

    def record(
        self, target: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Add a node call; give its traced outputs."""
        line = user_line()
        contract = contract_of(target)
        name = self._name_of(target, instance, line)
        if instance is not None:
            self._check_instance(name, instance, line)
        bound = self._bind(name, contract, instance, args, kwargs, line)
        inputs: dict[str, Ref] = {}
        variables: dict[str, type[Message]] = {}
        for port in contract.inputs:
            value = bound.pop(port.name, None)
            found = inside(value)
            if found is None:
                if value is None and port.optional:
                    continue
                raise WiringError(
                    f"{line}: node {name}: input {port.name} wants a {port.kind.__name__} from a "
                    f"port, got {'nothing' if value is None else type(value).__name__}. Connect a "
                    "device's port or a node's output."
                )
            graph, ref, kind = found
            if graph is not self:
                raise WiringError(
                    f"{line}: node {name}: input {port.name}: {ref} belongs to another graph. "
                    "Wire nodes and devices of one `with Graph` block."
                )
            if not issubclass(kind, port.kind):
                raise WiringError(
                    f"{line}: edge {ref} -> {name}.{port.name}: {ref} gives {kind.__name__}, "
                    f"{port.name} wants {port.kind.__name__}. Put a node between that converts."
                )
            self.check_edge(ref, name, port, line)
            if port.variable:
                other = variables.get(port.variable, kind)
                variables[port.variable] = next(c for c in kind.__mro__ if issubclass(other, c))
            inputs[port.name] = ref
        for key, value in bound.items():
            if inside(value) is not None:
                raise WiringError(
                    f"{line}: node {name}: {key} is a constant, got the message of "
                    f"{inside(value)[1]}. Annotate the parameter with a Message type to make it "  # type: ignore[index]
                    "an input."
                )
        injected = {entry[0] for entry in contract.injected}
        constants = {key: value for key, value in bound.items() if key not in injected}
        outputs = tuple(
            replace(p, kind=variables.get(p.variable, p.kind), variable="")
            for p in contract.outputs
        )
        for key, value in constants.items():
            problem = tuning.out_of_range(contract, key, value)
            if problem:
                raise WiringError(f"{line}: node {name}: {problem}. Choose one inside.")
        modes = tuple(self.active)
        self.nodes[name] = NodeUse(
            name, contract, instance, inputs, constants, outputs, line, modes
        )
        traced = tuple(Traced(self, Ref(name, p.name, "node"), p.kind) for p in outputs)
        return contract.output_tuple(*traced) if contract.output_tuple else traced[0]

    def _name_of(self, target: Any, instance: Any, line: str) -> str:
        default = getattr(instance, "node_name", None) or target.__name__
        return self.take_name(default, self._is_taken, line)

    def take_name(self, default: str, is_taken: Callable[[str], bool], line: str) -> str:
        """The full name of what is being called: what `named` gave, or the default, numbered."""
        wanted, self._next_name = self._next_name, None
        if wanted is not None:
            wanted = self.scope + wanted
        else:
            wanted = base = self.scope + default
            number = 2
            while is_taken(wanted):
                wanted, number = f"{base}_{number}", number + 1
        for part in wanted.split("/"):
            self._check_name(part, line, wanted)
        if is_taken(wanted):
            raise WiringError(
                f"{line}: the name {wanted!r} is taken. Names are the keys of files and "
                "recordings: choose another one."
            )
        return wanted

    def _is_taken(self, name: str) -> bool:
        kinds: tuple[Iterable[str], ...] = (self.nodes, self.devices, self.feedbacks, self.goals)
        return any(name in kind for kind in kinds)

    def _check_name(self, name: str, line: str, whole: str = "") -> None:
        if not name.replace("-", "").replace("_", "").isalnum():
            raise WiringError(
                f"{line}: {(whole or name)!r} is not a name: it is the key of files and "
                "recordings. Use letters, digits, '_' and '-'."
            )

    def _check_instance(self, name: str, instance: Any, line: str) -> None:
        if id(instance) in self._instances:
            raise WiringError(
                f"{line}: node {name}: this instance is node {self._instances[id(instance)]} "
                "already: two nodes would share one state. Make an instance for each."
            )
        self._instances[id(instance)] = name
        if hasattr(instance, "open") and not contract_of(instance).recorded:
            raise WiringError(
                f"{line}: node {name}: it has open(), so it holds something that a replay may not "
                "have. Say @node(recorded=True): replay then takes its outputs from the recording."
            )
        for key, value in state_of(instance).items():
            try:
                pickle.dumps(value)
            except Exception as exc:  # pickle raises anything
                raise WiringError(
                    f"{line}: node {name}: its state {key} cannot be pickled ({exc}), so it "
                    "cannot be replayed from a keyframe. Keep plain data in underscored fields."
                ) from exc

    def _bind(
        self,
        name: str,
        contract: Contract,
        instance: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        line: str,
    ) -> dict[str, Any]:
        import inspect

        signature = inspect.signature(contract.function)
        given = (instance, *args) if contract.is_class else args
        try:
            bound = signature.bind(*given, **kwargs)
        except TypeError as exc:
            takes = ", ".join(n for n in signature.parameters if n != "self")
            raise WiringError(f"{line}: node {name}: {exc}. It takes: {takes}.") from exc
        bound.apply_defaults()
        values = dict(bound.arguments)
        if contract.is_class:
            values.pop(next(iter(signature.parameters)))
            for f in fields(instance):
                if not f.name.startswith("_"):
                    values[f.name] = getattr(instance, f.name)
        return values

    def check_edge(self, ref: Ref, name: str, port: InputPort, line: str) -> None:
        """Refuse an edge between two ports that state another unit or frame."""
        self._check_unit(ref, name, port.name, port.unit, line)
        self._check_frame(ref, name, port, line)

    def _check_unit(self, ref: Ref, name: str, port: str, wanted: Any, line: str) -> None:
        if wanted is None or ref.source != "node":
            return
        given = next(p.unit for p in self.nodes[ref.owner].outputs if p.name == ref.port)
        if given is not None and not same_unit(given, wanted):
            how = "dimension" if given.dimension != wanted.dimension else "scale"
            raise WiringError(
                f"{line}: edge {ref} -> {name}.{port}: {ref} is in {given.name}, {port} wants "
                f"{wanted.name}: another {how}. Ports speak SI: convert in the node that makes it."
            )

    def _check_frame(self, ref: Ref, name: str, port: InputPort, line: str) -> None:
        if not port.frame or ref.source != "node":
            return
        given = next(p.frame for p in self.nodes[ref.owner].outputs if p.name == ref.port)
        if given and given != port.frame:
            raise WiringError(
                f"{line}: edge {ref} -> {name}.{port.name}: {ref} is in the frame {given!r}, "
                f"{port.name} wants {port.frame!r}. Put a node between that transforms it."
            )

    def thread(self, name: str, *outputs: Any, policy: Policy = "priority") -> None:
        """Let lanes share a thread, or give a triggered node a lane of its own.

        outputs: what node calls gave (or their names). Each of these nodes starts a lane; nodes
        triggered by it that are not named stay fused with it. policy: `priority`: the first named
        is the most urgent; `fifo`: in order of arrival. A job runs to its end before the next.
        Without this, every rate has a lane and a thread of its own, which has the closest bound.
        """
        line = user_line()
        self._check_name(name, line)
        if policy not in ("priority", "fifo"):
            raise WiringError(
                f"{line}: thread {name}: policy {policy!r}: priority or fifo, please."
            )
        if name in self.threads:
            raise WiringError(f"{line}: thread {name} exists already. Choose another name.")
        nodes: list[str] = []
        for node in self._nodes_of(f"{line}: thread {name}", outputs):
            other = next((t.name for t in self.threads.values() if node in t.nodes), None)
            if other or node in nodes:
                raise WiringError(
                    f"{line}: thread {name}: node {node} is in thread {other or name} already."
                )
            nodes.append(node)
        if not nodes:
            raise WiringError(f"{line}: thread {name}: name the nodes that start its lanes.")
        self.threads[name] = ThreadUse(name, tuple(nodes), policy, line)

    def process(self, name: str, *outputs: Any) -> None:
        """Run the threads of these nodes in a process of their own: an interpreter that they share
        with nobody, and a death that the others survive.

        outputs: what node calls gave (or their names); one node of a thread names all of it. What
        no process names runs in the main one. Restarts are the unit profile's: `processes:`.
        """
        line = user_line()
        self._check_name(name, line)
        if name in self.processes or name == "main":
            raise WiringError(f"{line}: process {name} exists already. Choose another name.")
        nodes = self._nodes_of(f"{line}: process {name}", outputs)
        if not nodes:
            raise WiringError(f"{line}: process {name}: name the nodes that run in it.")
        self.processes[name] = ProcessUse(name, tuple(nodes), line)

    def _nodes_of(self, where: str, outputs: Iterable[Any]) -> list[str]:
        nodes = []
        for output in outputs:
            found = inside(output)
            node = output
            if found:
                node = found[1].owner if found[1].source == "node" else str(found[1])
            if not isinstance(node, str) or node not in self.nodes:
                raise WiringError(
                    f"{where}: {node!r} is no "
                    f"node of this graph. Give it what node calls gave; nodes: "
                    f"{', '.join(self.nodes) or 'none'}."
                )
            nodes.append(node)
        return nodes

    def modes(self, name: str, initial: str) -> "Modes":
        """A group of modes, of which one is active at a time, `initial` at first; see
        runtime/modes.py."""
        from haihe.runtime.modes import Modes

        return Modes(self, name, initial)

    def goal(self, name: str, kind: type[M], timeout: str) -> "Goal[M]":
        """Something that can be asked for while the graph runs, one at a time, with a `kind` of
        message; it has failed when it takes longer than `timeout`."""
        from haihe.runtime.modes import Goal

        return Goal(self, name, kind, timeout)

    def use_device(self, role: str, kind: DeviceKind) -> DeviceUse:
        """Name a device by role; a role has one kind."""
        line = user_line()
        known = self.devices.get(role)
        if known is not None and known.kind is not kind:
            raise WiringError(
                f"{line}: device {role!r} is a {known.kind.name} already ({known.line}), not a "
                f"{kind.name}. Choose another role."
            )
        if known is None and self._is_taken(role):
            what = "goal" if role in self.goals else "node"
            raise WiringError(f"{line}: {role!r} is a {what} already. Choose another role.")
        self._check_name(role, line)
        if known is None:
            known = self.devices[role] = DeviceUse(role, kind, line)
        return known

    def state(self, role: str, port: str) -> Any:
        """The traced value of a device's state port."""
        kind = self.devices[role].kind.states[port]
        return Traced(self, Ref(role, port, "device"), kind)

    def command(self, role: str, port: str, value: Any) -> None:
        """Connect a node's output to a device's command port."""
        line = user_line()
        wanted = self.devices[role].kind.commands[port]
        found = inside(value)
        if found is None:
            raise WiringError(
                f"{line}: {role}.{port} wants a {wanted.__name__} from a node, got "
                f"{type(value).__name__}. Connect a node's output."
            )
        graph, ref, kind = found
        if graph is not self:
            raise WiringError(
                f"{line}: {role}.{port}: {ref} belongs to another graph. Wire nodes and devices of "
                "one `with Graph` block."
            )
        if ref.source in ("feedback", "goal"):
            what = "the value of the last tick" if ref.source == "feedback" else "a goal's request"
            raise WiringError(f"{line}: {role}.{port}: {ref} is {what}. Connect a node's output.")
        if not issubclass(kind, wanted):
            raise WiringError(
                f"{line}: edge {ref} -> {role}.{port}: {ref} gives {kind.__name__}, {port} wants "
                f"{wanted.__name__}. Put a node between that converts."
            )
        if (role, port) in self.commands:
            raise WiringError(
                f"{line}: {role}.{port} has a writer already ({self.commands[role, port]}, "
                f"{self.command_lines[role, port]}). One actuator obeys one node."
            )
        self.commands[role, port] = ref
        self.command_lines[role, port] = line

    # --- running --------------------------------------------------------------------------

    def run(self, **options: Any) -> Any:
        """Run the graph; acts only in the main program, so no `if __name__` is needed.

        Options as in `haihe.pipelines.launch.run`: unit, board, sim, duration, record, arm.
        """
        caller = sys._getframe(1).f_globals.get("__name__")
        if caller != "__main__" or os.environ.get(LANE_MARK):
            return None
        live = _launch().run(self, **options)
        sys.stderr.write(f"{live}\n")
        return live

    def check(self, board: str | None = None, **options: Any) -> Any:
        """Whether its timing contracts hold on a board (default: this machine's), as a report whose
        repr is a text; see `haihe.pipelines.check.check`."""
        return importlib.import_module("haihe.pipelines.check").check(self, board, **options)

    def simulate(self, duration: str, **options: Any) -> Any:
        """Run it in virtual time and give the result; see `haihe.pipelines.launch.simulate`."""
        return _launch().simulate(self, duration, **options)


def _launch() -> Any:
    # binding and drivers live above this floor; the launcher is found by name
    return importlib.import_module("haihe.pipelines.launch")


def wiring(what: str) -> Graph:
    """The graph being wired; an error that names `what` outside `with Graph`."""
    graph = current_graph()
    if graph is None:
        raise WiringError(
            f"{user_line()}: {what} outside a graph. Write it inside `with Graph(...) as g:`."
        )
    return cast(Graph, graph)


class _Named:
    def __init__(self, name: str, call: Any) -> None:
        self.name, self.call = name, call

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        wiring(f"named({self.name!r}, ...)")._next_name = self.name
        return self.call(*args, **kwargs)


def named(name: str, call: T) -> T:
    """A stable name for a node: `named("left_eye", aim)(parts, state)`; or for a sub-graph.

    The name is the key of files and recordings; without it, nodes are named after their function
    and numbered in the order of the calls.
    """
    is_called = is_node(call) or hasattr(call, "__haihe_subgraph__")
    if not is_called or isinstance(call, type):
        what = f"the class {call.__name__}" if isinstance(call, type) else repr(call)
        raise WiringError(
            f"{user_line()}: named({name!r}, ...) wants a node, got {what}. Give it a function "
            "with @node above it, or an instance of a node class."
        )
    return cast(T, _Named(name, call))


def feedback(initial: M, name: str = "") -> tuple[M, Callable[[M], None]]:
    """A loop in software: `previous, feed = feedback(Pose.zero())`, later `feed(pose)`.

    name: of the loop in files and plans; without it, they are numbered.
    """
    graph = wiring("feedback()")
    number = 1 + sum(key.rpartition("/")[0] == graph.scope[:-1] for key in graph.feedbacks)
    if not name:
        while graph._is_taken(f"{graph.scope}feedback_{number}"):
            number += 1
    graph._next_name = name or f"feedback_{number}"
    name = graph.take_name("", graph._is_taken, user_line())
    loop = graph.feedbacks[name] = Feedback(name, initial, None, user_line())

    def feed(value: M, /) -> None:
        line = user_line()
        found = inside(value)
        if found is None or found[0] is not graph:
            raise WiringError(f"{line}: {name}: feed it with the output of a node of this graph.")
        if not issubclass(found[2], type(initial)):
            raise WiringError(
                f"{line}: {name}: it starts as {type(initial).__name__}, got "
                f"{found[2].__name__} from {found[1]}. Feed it with what it starts as."
            )
        if loop.source is not None:
            raise WiringError(
                f"{line}: {name} is fed already ({loop.source}). Make a feedback for each value."
            )
        loop.source = found[1]

    traced = Traced(graph, Ref(name, "out", "feedback"), type(initial))
    return cast(M, traced), feed
