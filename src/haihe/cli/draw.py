"""`haihe graph`: a graph as a picture, as text or as a YAML file."""

import argparse
from typing import Any

from haihe.cli.arguments import add_budgets, add_graph


def add(verbs: Any) -> None:
    """Add the verb to the parser."""
    graph = verbs.add_parser("graph", help="draw a graph: its lanes, devices, edges and bounds")
    add_graph(graph)
    graph.add_argument("--unit", help="unit profile: a path or a name, for drivers and ports")
    graph.add_argument("--board", help="with the bounds that `haihe check` finds for that board")
    add_budgets(graph)
    how = graph.add_mutually_exclusive_group()
    how.add_argument("--text", action="store_true", help="for a terminal (the default)")
    how.add_argument("--mermaid", action="store_true", help="as a Mermaid flowchart")
    how.add_argument("--svg", nargs="?", const="-", metavar="FILE",
                     help="as an SVG picture, into FILE or to the output")  # fmt: skip
    how.add_argument("--yaml", action="store_true", help="as a YAML file that wires the same graph")
    graph.set_defaults(run=_graph)


def _graph(arguments: argparse.Namespace) -> int:
    from haihe.pipelines.load import load_graph, parse_parameters

    graph = load_graph(arguments.graph, parse_parameters(arguments.parameters))
    if arguments.yaml:
        from haihe.pipelines.graph_file import dump_graph

        print(dump_graph(graph), end="")
        return 0
    drawing = _drawing(graph, arguments.unit, arguments.board, dict(arguments.budgets))
    if arguments.svg is not None:
        from pathlib import Path

        from haihe.pipelines.draw.svg import svg

        if arguments.svg == "-":
            print(svg(drawing), end="")
        else:
            Path(arguments.svg).write_text(svg(drawing), encoding="utf-8")
            print(f"drawing  {arguments.svg}")
        return 0
    if arguments.mermaid:
        from haihe.pipelines.draw.mermaid import mermaid

        print(mermaid(drawing))
    else:
        from haihe.pipelines.draw.text import text

        print(text(drawing))
    return 0


def _drawing(graph: Any, unit: str | None, board: str | None, budgets: dict[str, str]) -> Any:
    """Without a unit the roles are drawn as the graph names them; bounds need one."""
    import os
    from pathlib import Path

    from haihe.pipelines.draw.drawing import drawing_of
    from haihe.pipelines.launch import prepare
    from haihe.runtime.plan.build import make_plan

    is_named = unit or os.environ.get("HAIHE_UNIT")
    beside = Path(graph.file).parent / "unit.yaml"
    if not is_named and board is None and not beside.is_file():
        return drawing_of(graph, make_plan(graph, {}))
    prepared = prepare(graph, unit)
    if board is None:
        return drawing_of(graph, prepared.plan, prepared.binding)
    from haihe.pipelines.check import check
    from haihe.pipelines.draw.numbers import numbers_of

    report = check(graph, board, unit=unit, budgets=budgets)
    numbers = numbers_of(report, prepared.plan)
    return drawing_of(graph, prepared.plan, prepared.binding, numbers)
