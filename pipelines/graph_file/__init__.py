"""A graph as a YAML file, wired by the calls that a person would write in Python.

    graph: follow
    devices: {front: camera, neck: servos}
    nodes:
      part: {model: part, in: front.image}
      aim:  {node: app:aim, in: {parts: part, neck: neck.state}, params: {gain: 0.8}}
    commands: {neck: aim}

All keys are in docs/graphs.md. Errors name the place in the file, wiring errors too.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from haihe.pipelines.graph_file.dump import dump_graph
from haihe.pipelines.graph_file.importing import Finder
from haihe.pipelines.graph_file.override import override, split
from haihe.pipelines.graph_file.source import Texts
from haihe.pipelines.graph_file.wiring import Given, Wirer
from haihe.pipelines.graph_file.writer import inline, tree
from haihe.runtime.errors import PlanError
from haihe.runtime.graph import Graph
from haihe.runtime.traced import wiring_at
from haihe.runtime.yaml_config import compose_text

__all__ = ["dump_graph", "load_graph_file"]


def load_graph_file(
    file: str | Path,
    parameters: Mapping[str, Any] | None = None,
    texts: Mapping[str, str] | None = None,
) -> Graph:
    """The graph of a YAML file. Raises PlanError or WiringError at the place in the file.

    parameters: of the file (`gain`), constants of its nodes (`aim.gain`). texts: what a recording
    kept of the file and those that it names, instead of what is there now.
    """
    path = Path(file)
    if texts is None and not path.is_file():
        raise PlanError(f"{file}: no such file.")
    here = path.resolve().parent
    source = Texts(here, "" if str(path.parent) == "." else str(path.parent), texts)
    given, constants = split(parameters or {})
    nodes: Given = {}
    for name, value in given.items():
        try:
            written = inline(tree(value, Any, Finder(here)))
        except ValueError as exc:
            raise PlanError(f"-p {name}: {exc}") from exc
        nodes[name] = (compose_text(written, f"-p {name}", PlanError), f"-p {name}={written}")
    wirer = Wirer(source, Finder(here))
    whole = wirer.read(path.name, nodes)
    if whole.graph is None:
        raise PlanError(f"{whole.where}: the key 'graph' is missing: the graph's name.")
    if whole.inputs or whole.outputs:
        key = "inputs" if whole.inputs else "outputs"
        raise PlanError(
            f"{whole.where.at(key)}: {whole.graph.text} is a sub-graph. Use it in a graph: "
            f"{{graph: {path.name}, in: ...}}."
        )
    with wiring_at(whole.graph.where.place):
        graph = Graph(whole.graph.text)
    graph.file = str(path.resolve())
    with graph:
        wirer.wire(graph, whole, "", {})
    graph.warnings += wirer.warnings
    graph.origin = {"texts": source.kept, "parameters": dict(parameters or {})}
    return override(graph, constants)
