"""Find a graph by what a person writes: `app.py`, `app.py:name`, `app.yaml`, a pipeline's name."""

import inspect
import os
import traceback
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from haihe.pipelines.graph_file import load_graph_file
from haihe.pipelines.graph_file.importing import import_beside
from haihe.pipelines.graph_file.override import override, split
from haihe.pipelines.graph_file.params import near
from haihe.runtime import registry, yaml_config
from haihe.runtime.errors import HaiheError, PlanError
from haihe.runtime.graph import Graph


def parse_parameters(pairs: Iterable[str]) -> dict[str, Any]:
    """What `-p NAME=VALUE` says, values read as YAML. Raises PlanError."""
    parameters: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise PlanError(f"-p {pair}: write NAME=VALUE.")
        if name in parameters:
            raise PlanError(f"-p {pair}: {name} is given twice. Remove one.")
        try:
            parameters[name] = yaml_config.loads(text, object) if text.strip() else None
        except HaiheError as exc:
            raise PlanError(f"-p {pair}: the value is not YAML. Quote it.") from exc
    return parameters


def load_graph(name: str, parameters: Mapping[str, Any] | None = None) -> Graph:
    """The graph of a file or a pipeline. Raises PlanError saying what was found instead.

    parameters: of a pipeline or a YAML file (`gain`), or another value for a constant of a node
    (`aim.gain`) of any graph. A Python file is imported under its own name with its folder on the
    path, so that other processes and replays find its nodes again.
    """
    given = dict(parameters or {})
    path, _, wanted = name.partition(":")
    if name.endswith((".yaml", ".yml")):
        return load_graph_file(name, given)
    if not path.endswith(".py"):
        return _pipeline(name, given)
    graph = _of_python(path, wanted)
    own, constants = split(given)
    if own:
        raise PlanError(
            f"{path}: it has no parameter {next(iter(own))!r}: a file's graph is what it wires. "
            f"Set a constant of a node: -p NODE.CONSTANT=VALUE (nodes: {', '.join(graph.nodes)})."
        )
    if constants:
        graph = override(graph, constants)
        graph.origin = {"parameters": given}
    return graph


def _not_imported(path: str, file: Path, exc: Exception) -> str:
    """The error with the last line of the file that led to it."""
    lines = [n for frame, n in traceback.walk_tb(exc.__traceback__)
             if frame.f_code.co_filename == str(file)]  # fmt: skip
    said = str(exc)
    if isinstance(exc, SyntaxError) and exc.filename == str(file):
        lines, said = [exc.lineno or 1], exc.msg
    where = f"{path}:{lines[-1]}" if lines else path
    return f"{where}: {type(exc).__name__}: {said}. Mend it; `python {path}` shows the traceback."


def _of_python(path: str, wanted: str) -> Graph:
    file = Path(path).resolve()
    if not file.is_file():
        raise PlanError(f"{path}: no such file.")
    try:
        module = import_beside(file.stem, file.parent)
    except PlanError as exc:
        raise PlanError(f"{path}: {exc}") from exc
    except HaiheError:
        raise
    except Exception as exc:  # a module raises anything
        raise PlanError(_not_imported(path, file, exc)) from exc
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


def _hint(key: str, known: Iterable[str]) -> str:
    cure = near(key, known)
    return f"{cure} " if cure.startswith("Did") else ""


def _pipeline(name: str, parameters: dict[str, Any]) -> Graph:
    build = registry.load("pipeline", name, PlanError).build
    known = inspect.signature(build).parameters
    own, constants = split(parameters)
    for key in own:
        if key not in known:
            raise PlanError(
                f"pipeline {name}: it has no parameter {key!r}. {_hint(key, known)}It has: "
                f"{', '.join(f'{k}={p.default!r}' for k, p in known.items()) or 'none'}."
            )
    graph: Graph = override(build(**own), constants)
    graph.origin = {"pipeline": name, "parameters": parameters}
    return graph


def graph_of_recording(header: Mapping[str, Any]) -> Graph:
    """Wire the graph of a recording anew, from the code it names. Raises PlanError."""
    source = header["source"]
    parameters = source.get("parameters", {})
    if source.get("pipeline"):
        return _pipeline(source["pipeline"], parameters)
    file = Path(source["file"])
    if "texts" in source:  # a YAML graph is wired as it was; only its nodes are code
        here = file if file.parent.is_dir() else Path(os.getcwd()) / file.name
        return load_graph_file(here, parameters, source["texts"])
    if not file.is_file():
        local = Path(os.getcwd()) / file.name
        if not local.is_file():
            raise PlanError(
                f"the recording was made by {file}, which is not here. Replay it in the folder of "
                f"{file.name}."
            )
        file = local
    return load_graph(f"{file}:{header['graph']}", parameters)
