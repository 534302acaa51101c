"""`haihe check`."""

import argparse
from typing import Any

from haihe.cli.arguments import add_budgets, add_graph


def add(verbs: Any) -> None:
    """Add the verb to the parser."""
    check = verbs.add_parser(
        "check", help="before it runs: do its timing contracts hold on a unit and a board"
    )
    add_graph(check)
    check.add_argument("--unit", help="unit profile: a path or a name (default: unit.yaml beside)")
    check.add_argument("--board", help="compute profile (default: this machine's)")
    check.add_argument("--measure", metavar="TIME",
                       help="time the nodes on this machine, in TIME of simulation")  # fmt: skip
    add_budgets(check)
    check.add_argument("--sim", action="store_true",
                       help="streams as in the unit's simulated world")  # fmt: skip
    check.add_argument("--json", action="store_true", help="as JSON")
    check.set_defaults(run=_check)


def _check(arguments: argparse.Namespace) -> int:
    import os
    import sys

    from haihe.pipelines.check import check
    from haihe.pipelines.load import load_graph, parse_parameters

    graph = load_graph(arguments.graph, parse_parameters(arguments.parameters))
    report = check(
        graph, arguments.board, unit=arguments.unit, measure=arguments.measure,
        budgets=dict(arguments.budgets), sim=arguments.sim,
    )  # fmt: skip
    if arguments.json:
        print(report.to_json().decode())
    else:
        from haihe.pipelines.check.text import text

        print(text(report, colour=sys.stdout.isatty() and not os.environ.get("NO_COLOR")))
    return report.exit_code
