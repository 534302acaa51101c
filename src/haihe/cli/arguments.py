"""Arguments that several verbs share."""

import argparse


def add_graph(verb: argparse.ArgumentParser) -> None:
    """The graph and its parameters: what `load_graph` and `parse_parameters` are given."""
    verb.add_argument(
        "graph", help="app.py, app.py:name, app.yaml, or a pipeline such as robot.follow"
    )
    verb.add_argument(
        "-p", dest="parameters", action="append", default=[], metavar="NAME=VALUE",
        help="a parameter of the graph, or a node's constant: aim.gain=0.6",
    )  # fmt: skip


def add_budgets(verb: argparse.ArgumentParser) -> None:
    """Budgets, as pairs of a node and a time."""
    verb.add_argument("--budget", dest="budgets", action="append", default=[], type=_budget,
                      metavar="NODE=TIME", help="a node's longest execution time")  # fmt: skip


def _budget(pair: str) -> tuple[str, str]:
    node, _, time = pair.partition("=")
    if not (node and time):
        raise argparse.ArgumentTypeError(f"{pair!r}: write NODE=TIME, as in aim=2ms.")
    return node, time
