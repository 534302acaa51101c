"""The text of a graph file with all that it includes, merged; from the disk or a recording.

A recording keeps these texts, so it is wired again as it was, whatever became of the files.
"""

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import yaml

from haihe.pipelines.graph_file.params import Declaration, declare, near
from haihe.pipelines.graph_file.values import Find, Placed, ValueReader
from haihe.runtime.errors import PlanError
from haihe.runtime.yaml_config import Where, compose_text, read_text


@dataclass(frozen=True)
class NodeEntry:
    """A node, a detector (`model`) or a sub-graph (`graph`) of a file."""

    where: Where
    node: Placed | None = None
    model: Placed | None = None
    graph: Placed | None = None
    inputs: Placed | dict[str, Placed] | None = field(default=None, metadata={"key": "in"})
    params: dict[str, yaml.Node] = field(default_factory=dict)
    select: tuple[Placed, ...] | None = None
    mode: dict[str, Placed] = field(default_factory=dict)


@dataclass(frozen=True)
class ModeEntry:
    """A mode of a group, as `Modes.mode`."""

    where: Where
    enter: Placed | None = None
    leave: Placed | None = None
    then: str = ""
    auto: bool = True
    goal: Placed | None = None


@dataclass(frozen=True)
class LadderEntry:
    """When a group steps down, as `Modes.ladder`."""

    where: Where
    order: tuple[str, ...]
    misses: str = ""
    heat: str = ""
    load: float = 0.0
    battery: float = 0.0
    settle: str = "1s"
    hold: str = "5s"


@dataclass(frozen=True)
class GroupEntry:
    """A group of modes."""

    where: Where
    initial: str
    modes: dict[str, ModeEntry] = field(default_factory=dict)
    ladder: LadderEntry | None = None


@dataclass(frozen=True)
class GoalEntry:
    """A goal: the message type of its requests, its time, and the source of its status."""

    where: Where
    request: Placed
    timeout: str
    report: Placed


@dataclass(frozen=True)
class ThreadEntry:
    """Lanes that share a thread."""

    where: Where
    lanes: tuple[Placed, ...]
    policy: Literal["priority", "fifo"] = "priority"


@dataclass(frozen=True)
class ProcessEntry:
    """A process of its own for the threads of these nodes."""

    where: Where
    nodes: tuple[Placed, ...]


@dataclass(frozen=True)
class FeedbackEntry:
    """A loop in software."""

    where: Where
    source: Placed = field(metadata={"key": "from"})
    initial: yaml.Node = field()


@dataclass(frozen=True)
class GraphFile:
    """The keys of a file."""

    where: Where
    graph: Placed | None = None
    include: tuple[Placed, ...] = ()
    params: dict[str, yaml.Node] = field(default_factory=dict)
    inputs: dict[str, Placed] = field(default_factory=dict)
    outputs: dict[str, Placed] = field(default_factory=dict)
    devices: dict[str, Placed] = field(default_factory=dict)
    feedback: dict[str, FeedbackEntry] = field(default_factory=dict)
    goals: dict[str, GoalEntry] = field(default_factory=dict)
    modes: dict[str, GroupEntry] = field(default_factory=dict)
    nodes: dict[str, NodeEntry] = field(default_factory=dict)
    commands: dict[str, Placed] = field(default_factory=dict)
    threads: dict[str, ThreadEntry] = field(default_factory=dict)
    processes: dict[str, ProcessEntry] = field(default_factory=dict)


SECTIONS = (
    "inputs", "outputs", "devices", "feedback", "goals", "modes", "nodes", "commands", "threads",
    "processes",
)  # fmt: skip


class Texts:
    """Texts by their path from the first file's folder."""

    def __init__(self, folder: Path, shown: str = "", kept: Mapping[str, str] | None = None):
        self.folder = folder
        self.shown = shown  # how a person wrote the folder
        self.kept = dict(kept or {})
        self._is_kept = kept is not None
        self._keys: dict[str, str] = {}

    def name(self, key: str) -> str:
        """The file's name in errors."""
        name = posixpath.join(self.shown, key)
        self._keys[name] = key
        return name

    def read(self, key: str) -> str:
        """The text. Raises PlanError."""
        if key not in self.kept:
            self.kept[key] = read_text(self.folder / key, PlanError)
        return self.kept[key]

    def beside(self, named: Placed) -> str:
        """The key of a file that is named in another by a path from there. Raises PlanError."""
        folder = posixpath.dirname(self._keys[named.where.file])
        key = posixpath.normpath(posixpath.join(folder, named.text))
        if key not in self.kept and (self._is_kept or not (self.folder / key).is_file()):
            found = [p.name for p in (self.folder / key).parent.glob("*.yaml")]
            cure = near(posixpath.basename(key), found)
            raise PlanError(f"{named.where}: no file {named.text!r}. {cure}")
        return key


@dataclass
class Piece:
    """One file of a merged graph, before parameters are put in."""

    key: str
    file: str
    root: yaml.Node


def _compose(text: str, file: str) -> yaml.Node:
    try:
        return compose_text(text, file, PlanError)
    except PlanError as exc:
        if "${" in text:  # YAML ends a text at { inside of { }
            raise PlanError(f"{exc} Inside {{ }} a parameter is $name, or quoted.") from exc
        raise


def read_pieces(texts: Texts, key: str, find: Find) -> list[Piece]:
    """The file and what it includes, included ones first. Raises PlanError."""
    pieces: list[Piece] = []

    def read(key: str, path: tuple[str, ...]) -> None:
        file = texts.name(key)
        root = _compose(texts.read(key), file)
        if not isinstance(root, yaml.MappingNode):
            raise PlanError(f"{file}:1:1: found a list or a text, expected the keys of a graph.")
        reader = ValueReader(file, find)
        keys = reader.pairs(root, "")
        if path and "graph" in keys:
            raise PlanError(
                f"{reader.place(keys['graph'][0], 'graph')}: an included file has no name of its "
                "own. Remove it, or use the file as a sub-graph."
            )
        included: tuple[Placed, ...] = ()
        if "include" in keys:
            included = reader.read(tuple[Placed, ...], keys["include"][1], "include", 0)
        for named in included:
            other = texts.beside(named)
            if other in (*path, key):
                raise PlanError(f"{named.where}: {named.text} includes this file. Remove one.")
            if all(p.key != other for p in pieces):
                read(other, (*path, key))
        pieces.append(Piece(key, file, root))

    read(key, ())
    return pieces


def declarations(pieces: list[Piece], find: Find) -> dict[str, Declaration]:
    """The parameters of all pieces. Raises PlanError."""
    found: dict[str, tuple[yaml.Node, yaml.Node, ValueReader]] = {}
    for piece in pieces:
        reader = ValueReader(piece.file, find)
        sections = reader.pairs(piece.root, "")
        if "params" not in sections:
            continue
        for name, (key, value) in reader.pairs(sections["params"][1], "params").items():
            if name in found:
                raise _twice(
                    f"params.{name}", reader.place(key, ""), found[name][2], found[name][0]
                )
            found[name] = (key, value, reader)
    return declare(found)


def _twice(path: str, where: Where, other: ValueReader, node: yaml.Node) -> PlanError:
    return PlanError(f"{where}: {path} is already at {other.place(node, '')}. Remove one.")


def merged(pieces: list[Piece], roots: list[yaml.Node], find: Find) -> GraphFile:
    """One file of all pieces, whose `roots` have their parameters. Raises PlanError."""
    sections: dict[str, dict[str, object]] = {name: {} for name in SECTIONS}
    places: dict[str, tuple[ValueReader, yaml.Node]] = {}
    for piece, root in zip(pieces, roots, strict=True):
        reader = ValueReader(piece.file, find)
        whole = reader.read(GraphFile, root, "", 0)
        keys = reader.pairs(root, "")
        for section in SECTIONS:
            if section not in keys:
                continue
            for name, (key, _) in reader.pairs(keys[section][1], section).items():
                path = f"{section}.{name}"
                if path in places:
                    raise _twice(path, reader.place(key, ""), *places[path])
                places[path] = (reader, key)
                sections[section][name] = getattr(whole, section)[name]
    return GraphFile(whole.where, whole.graph, **sections)  # type: ignore[arg-type]
