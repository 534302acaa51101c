"""From the entries of a graph file to the calls that wire it, in a `with Graph` block."""

from collections.abc import Mapping
from typing import Any, NoReturn

import yaml

from haihe.drivers.roles import KINDS
from haihe.models.detector import Detector
from haihe.pipelines.graph_file.importing import Finder
from haihe.pipelines.graph_file.modes import ModeWirer
from haihe.pipelines.graph_file.nodes import fields_of, find_constant, find_node, required
from haihe.pipelines.graph_file.params import Scope, near, values
from haihe.pipelines.graph_file.source import (
    FeedbackEntry,
    GraphFile,
    NodeEntry,
    Texts,
    declarations,
    merged,
    read_pieces,
)
from haihe.pipelines.graph_file.values import Placed, ValueReader
from haihe.runtime.errors import HaiheError, PlanError
from haihe.runtime.graph import DeviceKind, Graph, feedback, named
from haihe.runtime.modes import select
from haihe.runtime.node import Contract, contract_of
from haihe.runtime.traced import Traced, wiring_at
from haihe.runtime.types import Message
from haihe.runtime.yaml_config import Where

Given = dict[str, tuple[yaml.Node, str]]  # a parameter's value and where it comes from
KINDS_OF_ENTRY = ("node", "model", "graph", "select")
MAX_DEPTH = 20  # of sub-graphs in sub-graphs


class _Outlet:
    """What can be connected of a device, a node, a sub-graph: ports and their values."""

    def __init__(self, what: str, ports: dict[str, Any]) -> None:
        self.what = what
        self.ports = ports


class Wirer:
    """Wires the nodes of a file, and of its sub-graphs, into a graph."""

    def __init__(self, texts: Texts, find: Finder) -> None:
        self.texts = texts
        self.find = find
        self.warnings: list[str] = []

    def read(self, key: str, given: Given) -> GraphFile:
        """A file with its parameters put in."""
        pieces = read_pieces(self.texts, key, self.find)
        declared = declarations(pieces, self.find)
        scope = Scope(values(self.texts.name(key), declared, given))
        roots: list[yaml.Node] = []
        for piece in pieces:
            sections = [
                (k, v if k.value == "params" else scope.resolve(v, piece.file))
                for k, v in piece.root.value
            ]
            root = piece.root
            roots.append(yaml.MappingNode(root.tag, sections, root.start_mark, root.end_mark))
        for name, item in declared.items():
            said = f"{item.where.place}: parameter {name} is not used."
            if name not in scope.used and said not in self.warnings:
                self.warnings.append(said)
        return merged(pieces, roots, self.find)

    # --- wiring ---------------------------------------------------------------------------

    def wire(
        self, graph: Graph, file: GraphFile, prefix: str, inputs: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Record everything of a file; the traced outputs of a sub-graph."""
        outlets = {name: _Outlet(f"input {name}", {"out": v}) for name, v in inputs.items()}
        for role, kind_name in file.devices.items():
            kind = self._kind(kind_name)
            with wiring_at(kind_name.where.place):
                graph.use_device(role, kind)
            self._add(outlets, role, kind_name.where, f"device {role}", {
                port: graph.state(role, port) for port in kind.states
            })  # fmt: skip
        feeds = {}
        for name, loop in file.feedback.items():
            initial = self._initial(loop)
            with wiring_at(loop.where.place):
                value, feeds[name] = feedback(initial, prefix + name)
            self._add(outlets, name, loop.where, f"feedback {name}", {"out": value})
        modes = ModeWirer(graph, file, prefix)
        modes.begin(self._message)
        for name, goal in modes.goals.items():
            where = file.goals[name].where
            self._add(outlets, name, where, f"goal {name}", {"request": goal.request})
        self._nodes(graph, file, prefix, outlets, modes)
        modes.end(lambda source: self._value(source, outlets))
        for target, source in file.commands.items():
            self._command(graph, target, source, outlets)
        for name, loop in file.feedback.items():
            with wiring_at(loop.source.where.place):
                feeds[name](self._value(loop.source, outlets))
        for name, thread in file.threads.items():
            lanes = self._node_names(file, prefix, thread.lanes)
            with wiring_at(thread.where.place):
                graph.thread(name, *lanes, policy=thread.policy)
        for name, process in file.processes.items():
            nodes = self._node_names(file, prefix, process.nodes)
            with wiring_at(process.where.place):
                graph.process(name, *nodes)
        return {name: self._value(source, outlets) for name, source in file.outputs.items()}

    def _node_names(self, file: GraphFile, prefix: str, named: tuple[Placed, ...]) -> list[str]:
        """The full names of nodes that a section lists."""
        known = [name for name, entry in file.nodes.items() if entry.graph is None]
        for one in named:
            if one.text not in known:
                self._fail(one, f"no node {one.text!r}. {near(one.text, known)}")
        return [prefix + one.text for one in named]

    def _initial(self, loop: FeedbackEntry) -> Message:
        reader = ValueReader(loop.where.file, self.find)
        node, path = loop.initial, f"{loop.where.path}.initial"
        if not (isinstance(node, yaml.MappingNode) and "type" in reader.pairs(node, path)):
            where = reader.place(node, path)
            raise PlanError(f"{where}: expected a message with its type: {{type: app:Pose, ...}}.")
        value: Message = reader.read(Message, node, path, 0)
        return value

    def _nodes(
        self,
        graph: Graph,
        file: GraphFile,
        prefix: str,
        outlets: dict[str, _Outlet],
        modes: ModeWirer,
    ) -> None:
        """In the order of the file, each after what it takes its inputs from."""
        left = dict(file.nodes)
        for name, entry in left.items():
            self._check_new(outlets, name, entry.where)
            for source in _sources(entry).values():
                if source.text.partition(".")[0] not in {**outlets, **left}:
                    self._value(source, {**outlets, **dict.fromkeys(left, _Outlet("", {}))})
        while left:
            ready = next(
                (
                    name
                    for name, entry in left.items()
                    if not any(s.text.partition(".")[0] in left for s in _sources(entry).values())
                ),
                None,
            )
            if ready is None:
                lines = " and ".join(entry.where.place for entry in left.values())
                raise PlanError(
                    f"{lines}: {' and '.join(left)} take each other's outputs. Close the loop "
                    "under `feedback`, which gives the previous firing's value: its nodes need one "
                    "rate."
                )
            entry = left.pop(ready)
            with modes.inside(entry):
                ports = self._node(graph, prefix + ready, entry, outlets)
            self._add(outlets, ready, entry.where, f"node {ready}", ports)

    def _node(
        self, graph: Graph, name: str, entry: NodeEntry, outlets: dict[str, _Outlet]
    ) -> dict[str, Any]:
        kinds = [k for k in KINDS_OF_ENTRY if getattr(entry, k) is not None]
        if len(kinds) != 1:
            found = " and ".join(kinds)
            said = f"found {found}. Keep one." if kinds else "write node, model, graph or select."
            raise PlanError(f"{entry.where}: {said}")
        if entry.graph is not None:
            return self._sub_graph(graph, name, entry, outlets)
        if entry.select is not None:
            return self._select(graph, name, entry, outlets)
        reader = ValueReader(entry.where.file, self.find)
        if entry.model is not None:
            owner: Any = Detector
            given: dict[str, Any] = {"model": entry.model.text}
            target = "a detector"
        else:
            assert entry.node is not None
            try:
                owner = find_node(entry.node.text, self.find)
            except HaiheError as exc:
                self._fail(entry.node, str(exc), exc)
            given, target = {}, entry.node.text
        contract = contract_of(owner)
        for constant, node in entry.params.items():
            path = f"{entry.where.path}.params.{constant}"
            written_at = reader.place(node, path)
            if constant in given:
                self._fail(Placed("", written_at), f"{constant} is given already, under `model`.")
            try:
                hint = find_constant(constant, contract, owner, target)
            except PlanError as exc:
                self._fail(Placed("", written_at), str(exc), exc)
            given[constant] = reader.read(hint, node, path, 0)
        for constant in required(contract, owner):
            if constant not in given:
                raise PlanError(
                    f"{entry.where}: {target} needs the constant {constant!r}. Write it under "
                    "`params`."
                )
        call = owner
        if contract.is_class:
            own = {f.name: given.pop(f.name) for f in fields_of(owner) if f.name in given}
            try:
                call = owner(**own)
            except (ValueError, TypeError, HaiheError) as exc:
                raise PlanError(f"{entry.where}: {exc}") from exc
        inputs = self._inputs(entry, contract, target, outlets)
        with wiring_at(entry.where.place):
            made: Any = named(name, call)(**inputs, **given)
        return dict(made._asdict()) if contract.output_tuple else {"out": made}

    def _select(
        self, graph: Graph, name: str, entry: NodeEntry, outlets: dict[str, _Outlet]
    ) -> dict[str, Any]:
        if entry.inputs is not None or entry.params:
            key = "in" if entry.inputs is not None else "params"
            raise PlanError(
                f"{entry.where}: a select has no {key!r}. Name its sources in the list."
            )
        values = [self._value(source, outlets) for source in entry.select or ()]
        with wiring_at(entry.where.place):
            graph._next_name = name
            return {"out": select(graph, f"select {name}", name, values)}

    def _inputs(
        self, entry: NodeEntry, contract: Contract, target: str, outlets: dict[str, _Outlet]
    ) -> dict[str, Any]:
        ports = [port.name for port in contract.inputs]
        sources = _sources(entry)
        if "" in sources:
            if len(ports) != 1:
                self._fail(
                    sources[""],
                    f"{target} has {len(ports)} inputs ({', '.join(ports)}). Name them: "
                    "{input: source, ...}.",
                )
            sources = {ports[0]: sources[""]}
        for port, source in sources.items():
            if port not in ports:
                self._fail(source, f"{target} has no input {port!r}. {near(port, ports)}")
        left_out = {p.name: None for p in contract.inputs if p.optional and p.name not in sources}
        return {port: self._value(s, outlets) for port, s in sources.items()} | left_out

    def _sub_graph(
        self, graph: Graph, name: str, entry: NodeEntry, outlets: dict[str, _Outlet]
    ) -> dict[str, Any]:
        assert entry.graph is not None
        if name.count("/") >= MAX_DEPTH:
            self._fail(entry.graph, f"sub-graphs nested deeper than {MAX_DEPTH}. Is it its own?")
        inner = self.texts.beside(entry.graph)
        reader = ValueReader(entry.where.file, self.find)
        given = {
            parameter: (node, str(reader.place(node, f"{entry.where.path}.params.{parameter}")))
            for parameter, node in entry.params.items()
        }
        file = self.read(inner, given)
        sources = _sources(entry)
        ports = list(file.inputs)
        if "" in sources and len(ports) == 1:
            sources = {ports[0]: sources[""]}
        for port, source in sources.items():
            if port not in file.inputs:
                self._fail(source, f"{entry.graph.text} has no input {port!r}. {near(port, ports)}")
        connected = {source.text.partition(".")[0] for source in _all_sources(file)}
        given_values = {}
        for port, kind in file.inputs.items():
            if port not in sources:
                raise PlanError(
                    f"{entry.where}: input {port} of {entry.graph.text} ({kind.where}) is not "
                    "connected. Connect it under `in`."
                )
            if port not in connected:
                self._fail(
                    kind, "nothing inside uses this input. Connect it to a node, or drop it."
                )
            given_values[port] = self._value(sources[port], outlets)
            self._check_kind(sources[port], given_values[port], kind)
        graph.scopes.add(name)
        return self.wire(graph, file, name + "/", given_values)

    # --- names ----------------------------------------------------------------------------

    def _check_kind(self, source: Placed, value: Traced, kind: Placed) -> None:
        wanted = self._message(kind)
        found = object.__getattribute__(value, "_kind")
        if not issubclass(found, wanted):
            self._fail(
                source,
                f"{source.text} gives {found.__name__}, the input wants {wanted.__name__} "
                f"({kind.where.place}). Put a node between that converts.",
            )

    def _message(self, kind: Placed) -> type[Message]:
        try:
            found = self.find(kind.text if ":" in kind.text else f"haihe.types:{kind.text}")
        except HaiheError as exc:
            self._fail(kind, str(exc), exc)
        if not (isinstance(found, type) and issubclass(found, Message)):
            self._fail(kind, f"{kind.text} is no message. Name one, as Image or app:Pose.")
        return found

    def _kind(self, kind: Placed) -> DeviceKind:
        if kind.text not in KINDS:
            self._fail(kind, f"no kind of device {kind.text!r}. {near(kind.text, KINDS)}")
        return KINDS[kind.text]

    def _check_new(self, outlets: dict[str, _Outlet], name: str, where: Where) -> None:
        if name in outlets:
            raise PlanError(f"{where}: {name!r} is {outlets[name].what} already. Rename one.")

    def _add(
        self, outlets: dict[str, _Outlet], name: str, where: Where, what: str, ports: Any
    ) -> None:
        self._check_new(outlets, name, where)
        outlets[name] = _Outlet(what, ports)

    def _value(self, source: Placed, outlets: dict[str, _Outlet]) -> Any:
        owner, dot, port = source.text.partition(".")
        if owner not in outlets:
            self._fail(source, f"nothing is called {owner!r}. {near(owner, outlets)}")
        ports = outlets[owner].ports
        if (port or "out") in ports:
            return ports[port or "out"]
        what = outlets[owner].what
        if not dot:
            names = " or ".join(f"{owner}.{p}" for p in ports)
            self._fail(source, f"which output of {what}? Write {names}.")
        known = [p for p in ports if p != "out"]
        self._fail(source, f"{what} has no output {port!r}. {near(port, known)}")

    def _command(
        self, graph: Graph, target: str, source: Placed, outlets: dict[str, _Outlet]
    ) -> None:
        role, _, port = target.partition(".")
        if role not in graph.devices:
            self._fail(source, f"no device {role!r}. {near(role, graph.devices)}")
        ports = list(graph.devices[role].kind.commands)
        if not port and len(ports) == 1:
            port = ports[0]
        if port not in ports:
            kind = graph.devices[role].kind.name
            if not ports:
                self._fail(source, f"{role} ({kind}) takes no command. Remove it.")
            self._fail(source, f"{role} ({kind}) has no command {port!r}. {near(port, ports)}")
        with wiring_at(source.where.place):
            graph.command(role, port, self._value(source, outlets))

    def _fail(self, at: Placed, text: str, cause: Exception | None = None) -> NoReturn:
        raise PlanError(f"{at.where}: {text}") from cause


def _all_sources(file: GraphFile) -> list[Placed]:
    """Everything that a file connects to something."""
    found = [source for entry in file.nodes.values() for source in _sources(entry).values()]
    found += [loop.source for loop in file.feedback.values()]
    modes = [mode for group in file.modes.values() for mode in group.modes.values()]
    found += [source for mode in modes for source in (mode.enter, mode.leave) if source]
    found += [goal.report for goal in file.goals.values()]
    return [*found, *file.commands.values(), *file.outputs.values()]


def _sources(entry: NodeEntry) -> dict[str, Placed]:
    """Where each input comes from; the only input of a node may go without its name: ""."""
    if entry.select is not None:
        return {f"in_{number + 1}": source for number, source in enumerate(entry.select)}
    if isinstance(entry.inputs, Placed):
        return {"": entry.inputs}
    return dict(entry.inputs or {})
