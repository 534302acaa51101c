"""`haihe replay` and `haihe rec`."""

import argparse
from typing import Any


def add(verbs: Any) -> None:
    """Add the verbs to the parser."""
    replay = verbs.add_parser("replay", help="run a recording again, to the same bytes")
    replay.add_argument("recording")
    how = replay.add_mutually_exclusive_group()
    how.add_argument("--verify", action="store_true",
                     help="compare every firing and every byte (the default)")  # fmt: skip
    how.add_argument("--step", action="store_true",
                     help="a debugger that steps by firings (h: its commands)")  # fmt: skip
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
    if start:
        _check_start(arguments.recording, arguments.start, start)
    runner = replayer(arguments.recording, perception=arguments.perception, start_s=start)
    if arguments.step:
        from haihe.cli.step import Stepper

        return Stepper(runner).run()
    runner.run()
    print(runner.report)
    return 0 if runner.report.ok else 1


def _check_start(path: str, said: str, start_s: float) -> None:
    from haihe.runtime.errors import RecordError
    from haihe.runtime.record.format import FIRING
    from haihe.runtime.record.recording import Recording

    lanes = Recording(path).lanes.values()
    times = [r.fixed[2] for records in lanes for r in records if r.kind == FIRING]
    length_s = (max(times) - min(times)) * 1e-9 if times else 0.0
    if start_s > length_s:
        raise RecordError(
            f"{path}: --from {said} lies after the last firing, at {length_s:.3f} s. Choose a time "
            "within the run."
        )


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
