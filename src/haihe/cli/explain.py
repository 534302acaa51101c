"""`haihe explain`: what happened in a recording, and why."""

import argparse
from typing import Any

EVENTS = ("safe", "raised", "bus", "overrun", "deadline", "stale")


def add(verbs: Any) -> None:
    """Add the verb to the parser."""
    explain = verbs.add_parser("explain", help="why a recorded run went safe, missed, raised")
    explain.add_argument("recording")
    what = explain.add_mutually_exclusive_group()
    what.add_argument("--at", metavar="T",
                      help="the moment: 3.2s since the first release, or absolute ns")  # fmt: skip
    what.add_argument("--event", choices=EVENTS, help="the first incident of this kind")
    explain.add_argument("--each", action="store_true", help="every incident (of the kind) in full")
    explain.add_argument("--json", action="store_true", help="for programs")
    explain.add_argument("--trace", metavar="FILE.json",
                         help="write a trace for ui.perfetto.dev and chrome://tracing")  # fmt: skip
    explain.add_argument("--no-replay", action="store_true",
                         help="do not run the graph's code: from the record alone")  # fmt: skip
    explain.set_defaults(run=_explain)


def _explain(arguments: argparse.Namespace) -> int:
    from pathlib import Path

    from haihe.bench.measure.evidence import gather
    from haihe.bench.measure.explain import tell
    from haihe.bench.measure.incidents import find_incidents
    from haihe.bench.report import explain
    from haihe.runtime.record.recording import Recording

    evidence = gather(Recording(arguments.recording), replay=not arguments.no_replay)
    incidents = find_incidents(evidence)
    chosen = [i for i in incidents if i.kind == (arguments.event or i.kind)]
    # what every start and end brings is told only where nothing else is
    chosen = [i for i in chosen if not i.is_usual] or (chosen if arguments.event else [])
    if not arguments.each:
        chosen = chosen[: bool(arguments.event)]
    at = evidence.parse_time(arguments.at) if arguments.at else None
    if arguments.trace:
        from haihe.bench.report.trace import write_trace

        count = write_trace(evidence, incidents, Path(arguments.trace))
        if not arguments.json:
            print(f"trace      {arguments.trace}  ({count} events; open it in ui.perfetto.dev)")
        if at is None and not (arguments.event or arguments.each or arguments.json):
            return 0
    if arguments.json:
        stories = [tell(evidence, i.t_ns, incidents, i) for i in chosen]
        if at is not None:
            stories = [tell(evidence, at, incidents)]
        print(explain.as_json(evidence, incidents, stories))
    elif at is not None:
        print(explain.story_at(evidence, at, incidents))
    elif arguments.event and not chosen:
        print(explain.nothing_of(arguments.event))
    elif chosen:
        print("\n\n".join(explain.story_of(evidence, i, incidents) for i in chosen))
    else:
        print(explain.overview(evidence, incidents))
    return 0
