"""Find a graph by what a person writes: `app.py`, `app.py:name`, or a pipeline's name."""

import importlib
import inspect
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from haihe.runtime import registry
from haihe.runtime.errors import PlanError
from haihe.runtime.graph import Graph


def load_graph(name: str, parameters: Mapping[str, Any] | None = None) -> Graph:
    """The graph of a file or a pipeline. Raises PlanError saying what was found instead.

    A file is imported under its own name with its folder on the path, so that other processes
    and replays find its nodes again.
    """
    path, _, wanted = name.partition(":")
    if not path.endswith(".py"):
        return _pipeline(name, dict(parameters or {}))
    if parameters:
        raise PlanError(f"{path}: parameters are for pipelines; a file's graph is what it wires.")
    file = Path(path).resolve()
    if not file.is_file():
        raise PlanError(f"{path}: no such file.")
    if str(file.parent) not in sys.path:
        sys.path.insert(0, str(file.parent))
    loaded = sys.modules.get(file.stem)
    if loaded is not None and Path(str(getattr(loaded, "__file__", ""))).resolve() != file:
        raise PlanError(
            f"{path}: a module named {file.stem!r} is loaded already ({loaded.__file__}). Rename "
            "the file."
        )
    module = importlib.import_module(file.stem)
    graphs = {key: value for key, value in vars(module).items() if type(value) is Graph}
    if wanted:
        chosen = graphs.get(wanted) or next((g for g in graphs.values() if g.name == wanted), None)
        if chosen is None:
            raise PlanError(f"{path}: no graph {wanted!r} in it. Found: {_list(graphs)}.")
        return chosen
    if len(set(map(id, graphs.values()))) != 1:
        raise PlanError(
            f"{path}: {len(graphs)} graphs at its top level ({_list(graphs)}), expected one. Write "
            f"{path}:NAME to choose, or wire one with `with Graph(...) as g:`."
        )
    return next(iter(graphs.values()))


def _list(graphs: Mapping[str, Graph]) -> str:
    return ", ".join(graphs) or "none"


def _pipeline(name: str, parameters: dict[str, Any]) -> Graph:
    build = registry.load("pipeline", name, PlanError).build
    known = inspect.signature(build).parameters
    for key in parameters:
        if key not in known:
            raise PlanError(
                f"pipeline {name}: it has no parameter {key!r}. It has: "
                f"{', '.join(f'{k}={p.default!r}' for k, p in known.items()) or 'none'}."
            )
    graph: Graph = build(**parameters)
    graph.origin = {"pipeline": name, "parameters": parameters}
    return graph


def graph_of_recording(header: Mapping[str, Any]) -> Graph:
    """Wire the graph of a recording anew, from the code it names. Raises PlanError."""
    source = header["source"]
    if source.get("pipeline"):
        return _pipeline(source["pipeline"], source.get("parameters", {}))
    file = Path(source["file"])
    if not file.is_file():
        local = Path(os.getcwd()) / file.name
        if not local.is_file():
            raise PlanError(
                f"the recording was made by {file}, which is not here. Replay it in the folder of "
                f"{file.name}."
            )
        file = local
    return load_graph(f"{file}:{header['graph']}")
