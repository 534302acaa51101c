"""`haihe check`."""

import argparse
from typing import Any


def add(verbs: Any) -> None:
    """Add the verb to the parser."""
    check = verbs.add_parser(
        "check", help="before it runs: do its timing contracts hold on a unit and a board"
    )
    check.add_argument(
        "graph", help="app.py, app.py:name, app.yaml, or a pipeline such as robot.follow"
    )
    check.add_argument(
        "-p", dest="parameters", action="append", default=[], metavar="NAME=VALUE",
        help="a parameter of the graph, or a node's constant: aim.gain=0.6",
    )  # fmt: skip
    check.add_argument("--unit", help="unit profile: a path or a name (default: unit.yaml beside)")
    check.add_argument("--board", help="compute profile (default: this machine's)")
    check.add_argument("--measure", metavar="TIME",
                       help="time the nodes on this machine, in TIME of simulation")  # fmt: skip
    check.add_argument("--budget", dest="budgets", action="append", default=[],
                       metavar="NODE=TIME", help="a node's longest execution time")  # fmt: skip
    check.add_argument("--sim", action="store_true",
                       help="streams as in the unit's simulated world")  # fmt: skip
    check.add_argument("--json", action="store_true", help="as JSON")
    check.set_defaults(run=_check)


def _check(arguments: argparse.Namespace) -> int:
    import os
    import sys

    budgets: dict[str, str] = {}
    for pair in arguments.budgets:
        name, equals, time = pair.partition("=")
        if not (name and equals and time):
            print(f"--budget {pair}: write NODE=TIME, as in aim=2ms.", file=sys.stderr)
            return 2
        budgets[name] = time

    from haihe.pipelines.check import check
    from haihe.pipelines.load import load_graph, parse_parameters

    graph = load_graph(arguments.graph, parse_parameters(arguments.parameters))
    report = check(
        graph, arguments.board, unit=arguments.unit, measure=arguments.measure, budgets=budgets,
        sim=arguments.sim,
    )  # fmt: skip
    if arguments.json:
        print(report.to_json().decode())
    else:
        from haihe.pipelines.check.text import text

        print(text(report, colour=sys.stdout.isatty() and not os.environ.get("NO_COLOR")))
    return report.exit_code
