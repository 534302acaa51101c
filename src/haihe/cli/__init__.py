"""The command line: `haihe VERB ...`. Nothing heavy is imported before a verb needs it."""

import argparse
import sys
from collections.abc import Sequence

from haihe import __version__
from haihe.cli import accept, bench, boards, check, draw, explain, new, record, run

GROUPS = (run, record, explain, check, draw, new, boards, bench, accept)


def parser() -> argparse.ArgumentParser:
    """The whole parser."""
    top = argparse.ArgumentParser(
        prog="haihe",
        description="Edge-AI runtime for robots and smart sensors: contract-checked graphs, "
        "fail-safe actuation, deterministic replay.",
    )
    top.add_argument("--version", action="version", version=f"haihe {__version__}")
    verbs = top.add_subparsers(dest="verb", metavar="VERB")
    for group in GROUPS:
        group.add(verbs)
    completion = verbs.add_parser("completion", help="print a completion script for your shell")
    completion.add_argument("shell", choices=("bash", "zsh"))
    completion.set_defaults(run=_completion)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; gives the exit code: 0 well, 1 failed, 2 used wrongly."""
    top = parser()
    parsed = top.parse_args(arguments)
    if parsed.verb is None:
        top.print_help()
        return 2
    return carry_out(parsed)


def carry_out(parsed: argparse.Namespace) -> int:
    """Run a parsed verb; what it raises on purpose is one line."""
    from haihe.runtime.errors import HaiheError

    try:
        code: int = parsed.run(parsed)
    except HaiheError as exc:
        print(f"{type(exc).__name__}: {exc}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output has gone: nothing to say
        return 1
    except OSError as exc:
        print(f"{type(exc).__name__}: {exc}", file=sys.stderr)
        return 1
    return code


def _completion(arguments: argparse.Namespace) -> int:
    from haihe.cli.completion import script

    print(script(parser(), arguments.shell))
    return 0
