"""`haihe run` and `haihe demo`."""

import argparse
import os
from typing import Any

from haihe.cli.arguments import add_graph


def add(verbs: Any) -> None:
    """Add the verbs to the parser."""
    run = verbs.add_parser("run", help="run a graph: on devices, on a video, or simulated")
    add_graph(run)
    run.add_argument("--unit", help="unit profile: a path or a name (default: unit.yaml beside it)")
    run.add_argument("--sim", action="store_true", help="in the simulated world of the unit")
    run.add_argument("--watch", action="store_true",
                     help="with --sim: start again when a file changes")  # fmt: skip
    run.add_argument("--strict", action="store_true",
                     help="stop safely when a node exceeds its budget")  # fmt: skip
    run.add_argument("--warden", action="store_true",
                     help="with --sim: wardens run too, as they always do on devices")  # fmt: skip
    run.add_argument("--video", metavar="FILE", help="cameras read this video, image or folder")
    run.add_argument("--camera", metavar="DEVICE", help="cameras are this V4L2 device")
    run.add_argument("--arm", action="store_true", help="let real actuators move")
    run.add_argument("--record", nargs="?", const="", metavar="FILE", help="make a recording")
    run.add_argument("--keep", metavar="TIME",
                     help="with --record: keep that much in memory (60s), write it when a guard "
                     "trips, the run fails, or at SIGUSR1")  # fmt: skip
    run.add_argument("--quota", metavar="SIZE",
                     help="of all recordings in the folder (2GB): the oldest go")  # fmt: skip
    run.add_argument("--metrics", metavar="PORT",
                     help="serve Prometheus metrics on 127.0.0.1:PORT")  # fmt: skip
    run.add_argument("--log", metavar="FILE.jsonl", help="append logs as JSON lines")
    run.add_argument("--report", metavar="FILE.html", help="write a report of the recording")
    _common(run, None)
    run.set_defaults(run=_run)

    lane = verbs.add_parser("lane")  # started by the launcher only, so not in the help
    lane.add_argument("job", type=int)
    lane.set_defaults(run=_lane)

    demo = verbs.add_parser("demo", help="a simulated pan-tilt head follows a part, recorded")
    demo.add_argument("--out", default="haihe-demo", metavar="DIR", help="where the files go")
    demo.add_argument(
        "--no-prediction",
        action="store_true",
        help="command the last bearing seen, to see what prediction is worth",
    )
    _common(demo, "12s")
    demo.set_defaults(run=_demo)


def _common(verb: argparse.ArgumentParser, duration: str | None) -> None:
    verb.add_argument("--duration", default=duration, metavar="TIME", help="such as 10s or 5min")
    verb.add_argument("--seed", type=int, default=0, help="of the simulated world and of nodes")
    verb.add_argument("--frames", choices=("lossless", "jpeg", "none"), default="jpeg",
                      help="how a recording keeps pictures")  # fmt: skip


def _run(arguments: argparse.Namespace) -> int:
    if arguments.watch:
        from haihe.cli.watch import watch

        return watch(arguments)
    from pathlib import Path

    from haihe.pipelines.load import load_graph, parse_parameters
    from haihe.runtime.errors import RecordError
    from haihe.runtime.telemetry.logs import logging_to

    graph = load_graph(arguments.graph, parse_parameters(arguments.parameters))
    recording = None
    if arguments.record is not None or arguments.report:
        recording = Path(arguments.record or _new_name(graph.name))
    elif arguments.keep or arguments.quota:
        recording = Path(_new_name(graph.name))
    if arguments.keep and arguments.report:
        raise RecordError(
            "--report: it tells of a whole run, and --keep records a part of it. Leave one out."
        )
    with logging_to(arguments.log):
        live = _carry_out(graph, arguments, recording)
    if live.recording is None:
        print(live)
        for path in live.saved:
            print(f"recording  {path}  (haihe replay {path} --verify)")
        return 0
    _finish(recording, arguments.report)
    return 0


def _carry_out(graph: Any, arguments: argparse.Namespace, recording: Any) -> Any:
    from haihe.pipelines.launch import run

    status = _Status()
    try:
        return run(
            graph,
            unit=arguments.unit,
            sim=arguments.sim,
            duration=arguments.duration,
            record=recording,
            frames=arguments.frames,
            arm=True if arguments.arm else None,
            seed=arguments.seed,
            video=arguments.video,
            camera=arguments.camera,
            tick=status,
            strict=arguments.strict,
            warden=arguments.warden,
            keep=arguments.keep,
            quota=arguments.quota,
            metrics=arguments.metrics,
        )
    finally:
        status.end()


def _lane(arguments: argparse.Namespace) -> int:
    from haihe.pipelines.lane_process import serve

    return serve(arguments.job)


def _demo(arguments: argparse.Namespace) -> int:
    from pathlib import Path

    from haihe.pipelines.launch import run
    from haihe.pipelines.load import load_graph
    from haihe.runtime.units import duration_ns

    duration_ns(arguments.duration)
    folder = Path(arguments.out)
    recording = folder / _new_name("follow").name
    print("A simulated pan-tilt head with a camera follows a washer on a table: a real detector,")
    print("real bytes on an emulated servo bus. Ctrl-C ends it safely.")
    parameters = {"predict": False} if arguments.no_prediction else {}
    status = _Status()
    try:
        run(
            load_graph("robot.follow", parameters),
            unit="pan-tilt",
            sim=True,
            duration=arguments.duration,
            record=recording,
            frames=arguments.frames,
            seed=arguments.seed,
            tick=status,
        )
    finally:
        status.end()
    _finish(recording, str(recording.with_suffix(".html")))
    return 0


class _Status:
    """The status line, imported when the run begins; none where logs go to stderr as JSON."""

    def __init__(self) -> None:
        self._line: Any = None
        self._is_shown = os.environ.get("HAIHE_LOG") != "json"

    def __call__(self, live: Any) -> None:
        if not self._is_shown:
            return
        if self._line is None:
            from haihe.pipelines.status import StatusLine

            self._line = StatusLine()
        self._line(live)

    def end(self) -> None:
        """Leave the line."""
        if self._line is not None:
            self._line.end()


def _new_name(graph: str) -> Any:
    from datetime import datetime
    from pathlib import Path

    now = datetime.now()
    return Path(f"{graph}-{now:%Y%m%d-%H%M%S}-{now.microsecond // 1000:03d}.mcap")


def _finish(recording: Any, report: str | None) -> None:
    from haihe.bench.report.summary import summary
    from haihe.runtime.record.recording import Recording

    opened = Recording(recording)
    print(summary(opened))
    if report:
        from pathlib import Path

        from haihe.bench.report.html import write_report

        write_report(opened, Path(report))
        print(f"report     {report}")
    print(f"recording  {recording}  (haihe replay {recording} --verify)")
