"""`haihe replay` and `haihe rec`."""

import argparse
import sys
from typing import Any


def add(verbs: Any) -> None:
    """Add the verbs to the parser."""
    replay = verbs.add_parser("replay", help="run a recording again, to the same bytes")
    replay.add_argument("recording")
    how = replay.add_mutually_exclusive_group()
    how.add_argument("--verify", action="store_true",
                     help="compare every firing and every byte (the default)")  # fmt: skip
    how.add_argument("--step", action="store_true", help="firing by firing")
    replay.add_argument("--perception", action="store_true",
                        help="run the models again on the recorded frames")  # fmt: skip
    replay.add_argument("--from", dest="start", default=None, metavar="TIME",
                        help="begin at a keyframe before this time")  # fmt: skip
    replay.set_defaults(run=_replay)

    rec = verbs.add_parser("rec", help="look at recordings and mend them")
    what = rec.add_subparsers(dest="what", metavar="WHAT", required=True)
    info = what.add_parser("info", help="what is in a recording")
    info.add_argument("recording")
    info.set_defaults(run=_info)
    fix = what.add_parser("fix", help="make a cut recording whole, indexed and compressed")
    fix.add_argument("recording")
    fix.add_argument("--out", help="write another file instead of replacing it")
    fix.set_defaults(run=_fix)


def _replay(arguments: argparse.Namespace) -> int:
    from haihe.runtime.units import duration_ns
    from haihe.testing import replayer

    start = duration_ns(arguments.start, "--from") * 1e-9 if arguments.start else 0.0
    runner = replayer(arguments.recording, perception=arguments.perception, start_s=start)
    first = None
    for step in runner.steps():
        if not arguments.step:
            continue
        first = step.t_ns if first is None and step.t_ns else first
        print(_line(step, first or 0))
        if sys.stdin.isatty() and input("Enter: next, q: end > ").strip() == "q":
            return 0
    print(runner.report)
    return 0 if runner.report.ok else 1


def _line(step: Any, first: int) -> str:
    t = (step.t_ns - first) * 1e-6
    consumed = " ".join(f"{source}#{number}" for source, number in step.consumed.items())
    outcomes = " ".join(f"{node}:{outcome}" for node, outcome in step.outcomes.items())
    events = f"  events {step.events}" if step.events else ""
    return f"{t:10.3f} ms  {step.lane} {step.firing}  {consumed}  {outcomes}{events}"


def _info(arguments: argparse.Namespace) -> int:
    from haihe.bench.report.summary import summary
    from haihe.runtime.record.recording import Recording

    opened = Recording(arguments.recording)
    print(opened.plan.describe())
    print(summary(opened))
    return 0


def _fix(arguments: argparse.Namespace) -> int:
    from haihe.runtime.record.fix import finish

    report = finish(arguments.recording, arguments.out)
    done = "rewritten" if report.rewritten else "was whole already"
    print(
        f"{report.path}: {done}, {report.messages} messages, {report.bytes_in} -> "
        f"{report.bytes_out} bytes, {report.dropped_bytes} bytes after the cut dropped"
    )
    if report.kept:
        print(f"the damaged file is kept as {report.kept}")
    return 0
