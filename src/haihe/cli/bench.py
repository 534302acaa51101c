"""`haihe bench`: models, loops, pipelines, servo buses, and comparisons."""

import argparse
import shlex
import sys
from typing import Any

from haihe.cli.arguments import add_graph


def add(verbs: Any) -> None:
    """Add the verb to the parser."""
    bench = verbs.add_parser("bench", help="measure a model, this machine's timing, a pipeline")
    kinds = bench.add_subparsers(dest="kind", metavar="WHAT", required=True)

    model = kinds.add_parser("model", help="any ONNX file or a model of the zoo, without set-up")
    model_arguments(model)
    _output(model)
    model.add_argument("--sweep", action="store_true",
                       help="threads x cores x spin x provider, in fresh processes")  # fmt: skip
    model.add_argument("--costs", metavar="FILE", help="where --sweep keeps this board's costs")
    model.set_defaults(run=_model)

    loop = kinds.add_parser("loop", help="how late this machine wakes a periodic thread")
    loop.add_argument("--rate", default="200Hz", metavar="RATE", help="such as 200Hz or 5ms")
    loop.add_argument("--duration", default="5s", metavar="TIME")
    loop.add_argument("--realtime", action="store_true", help="under SCHED_FIFO")
    loop.add_argument("--cores", default="", metavar="LIST", help="such as 2,3 or 4-7")
    loop.add_argument("--with", dest="beside", default="", metavar="LIST",
                      help="other work: camera,control,MODEL or MODEL@FPS")  # fmt: skip
    _output(loop)
    loop.set_defaults(run=_loop)

    pipeline = kinds.add_parser("pipeline", help="a graph, from capture to actuator, by stage")
    add_graph(pipeline)
    pipeline.add_argument("--unit", help="unit profile: a path or a name")
    pipeline.add_argument("--sim", action="store_true", help="in the unit's simulated world")
    pipeline.add_argument("--video", metavar="FILE", help="cameras read this video")
    pipeline.add_argument("--arm", action="store_true", help="let real actuators move")
    pipeline.add_argument("--duration", default="20s", metavar="TIME")
    pipeline.add_argument("--seed", type=int, default=0)
    _output(pipeline)
    pipeline.set_defaults(run=_pipeline)

    servo = kinds.add_parser("servo", help="round trip of an emulated servo bus over a pty")
    servo.add_argument("--unit", default="pan-tilt", help="unit profile: a path or a name")
    servo.add_argument("--role", default="", help="which bus (default: the first)")
    servo.add_argument("--duration", default="3s", metavar="TIME")
    _output(servo)
    servo.set_defaults(run=_servo)

    compare = kinds.add_parser("compare", help="faster, slower or same? exit code 1: slower")
    compare.add_argument("results", nargs="*", metavar="FILE.json", help="of two runs with --json")
    compare.add_argument("--run", dest="runs", action="append", default=[], metavar="ARGUMENTS",
                         help="of `haihe bench model`; twice: the two take turns")  # fmt: skip
    compare.add_argument("--margin", type=float, default=3.0, metavar="PERCENT")
    compare.add_argument("--judge", default="p50", choices=("p50", "p90", "p99"))
    compare.add_argument("--time-limit", default="20s", metavar="TIME", help="of taking turns")
    compare.add_argument("--strict", action="store_true", help="exit code 1 for undecided too")
    compare.set_defaults(run=_compare)

    bring = kinds.add_parser("import", help="results of pytest-benchmark as one of ours")
    bring.add_argument("file", metavar="FILE.json")
    _output(bring)
    bring.set_defaults(run=_import)


def model_arguments(parser: argparse.ArgumentParser) -> None:
    """What says how a model is measured; also read from `compare --run`."""
    parser.add_argument("model", help="FILE.onnx, a manifest, or a name in the zoo")
    for name, kind, metavar, text in (
        ("--image", str, "FILE", "input picture (default: random numbers)"),
        ("--threads", int, "N", "of one run (default 1)"),
        ("--provider", str, "NAME", "such as cpu or cuda; absent is an error, no fallback"),
        ("--cores", str, "LIST", "stay on these, such as 2,3 or 4-7"),
        ("--paced", float, "FPS", "runs are due at this rate; times count from when they were"),
        ("--streams", int, "N", "that many at once, each with a session of its own"),
        ("--with", str, "LIST", "other work beside it: camera,control,MODEL or MODEL@FPS"),
        ("--golden", str, "FILE", "outputs must be like those in this file"),
        ("--save-golden", str, "FILE", "write inputs and outputs for --golden"),
        ("--min-cosine", float, "X", "how alike (default 0.999)"),
        ("--time-limit", str, "TIME", "of the measurement (default 10s)"),
        ("--soak", str, "TIME", "run that long, whatever is known: heat and throttling"),
        ("--label", str, "TEXT", "kept in the result"),
    ):
        parser.add_argument(name, type=kind, metavar=metavar, help=text, dest=_dest(name))
    parser.add_argument("--shape", action="append", default=[], metavar="NAME=1x3x224x224",
                        help="size of an input whose file leaves it open")  # fmt: skip
    parser.add_argument("--spin", action="store_true", help="threads wait by spinning")
    parser.add_argument("--profile", action="store_true", help="list the costliest operators")
    parser.add_argument("--loadgen", action="store_true", help="MLPerf LoadGen asks for the runs")


def _dest(name: str) -> str:
    return "beside" if name == "--with" else name.strip("-").replace("-", "_")


def _output(parser: argparse.ArgumentParser) -> None:
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--json", action="store_true", help="the whole result, to standard output")
    how.add_argument("--markdown", action="store_true", help="a table row for a README")
    parser.add_argument("--html", metavar="FILE", help="write a report with plots")
    parser.add_argument("--name-machine", action="store_true",
                        help="put this machine's host name into the result")  # fmt: skip


def settings_of(arguments: argparse.Namespace) -> Any:
    """The settings of `model_arguments`."""
    from haihe.bench.measure.model import Settings
    from haihe.bench.measure.session import parse_shape
    from haihe.runtime.units import duration_ns

    given = {
        name: getattr(arguments, name)
        for name in ("model", "image", "threads", "provider", "streams", "golden", "save_golden",
                     "label", "spin", "profile", "loadgen")
    }  # fmt: skip
    given |= {"fps": arguments.paced, "least_cosine": arguments.min_cosine}
    given["beside"] = _list(arguments.beside)
    given["cores"] = parse_cores(arguments.cores or "")
    given["shapes"] = dict(parse_shape(text) for text in arguments.shape)
    for name, field in (("time_limit", "time_limit_ns"), ("soak", "soak_ns")):
        text = getattr(arguments, name)
        given[field] = duration_ns(text, f"--{name.replace('_', '-')}") if text else None
    return Settings(**{name: value for name, value in given.items() if value is not None})


def parse_cores(text: str) -> tuple[int, ...]:
    """Read `2,3` or `4-7`. Raises ModelError."""
    from haihe.runtime.errors import ModelError

    found: list[int] = []
    for part in _list(text):
        first, dash, last = part.partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise ModelError(f"--cores {text}: write numbers such as 2,3 or 4-7.")
        found += range(int(first), int(last if dash else first) + 1)
    return tuple(found)


def _list(text: str | None) -> tuple[str, ...]:
    return tuple(part for part in (text or "").split(",") if part)


def _give(result: Any, arguments: argparse.Namespace) -> int:
    """Print and write a result as asked."""
    if arguments.name_machine:
        import platform

        result.settings["host"] = platform.node()
    if arguments.html:
        from pathlib import Path

        from haihe.bench.report.result_html import report

        Path(arguments.html).write_text(report(result), encoding="utf-8")
    if arguments.json:
        from haihe.bench.measure.protocol import to_json

        print(to_json(result).decode())
        return 0
    from haihe.bench.report.result import markdown, text

    print(markdown(result) if arguments.markdown else text(result))
    return 0


def _model(arguments: argparse.Namespace) -> int:
    from haihe.bench.measure.model import measure

    settings = settings_of(arguments)
    if not arguments.sweep:
        return _give(measure(settings), arguments)
    import dataclasses
    from pathlib import Path

    from haihe.bench.measure.costs import write_costs
    from haihe.bench.measure.sweep import sweep, table

    providers = _list(settings.provider)
    points = sweep(
        dataclasses.replace(settings, provider=""), providers, lambda t: print(t, file=sys.stderr)
    )
    if arguments.json or arguments.markdown or arguments.html:
        _give(points[0].result, arguments)  # the fastest; the table has them all
    print(table(points), file=sys.stderr if arguments.json else sys.stdout)
    path = Path(arguments.costs) if arguments.costs else None
    where = write_costs([point.result for point in points], path)
    print(f"costs of this board: {where}", file=sys.stderr)
    return 0


def _loop(arguments: argparse.Namespace) -> int:
    from haihe.bench.measure.loop import measure_loop
    from haihe.runtime.units import duration_ns

    result = measure_loop(
        1e9 / duration_ns(arguments.rate, "--rate"), duration_ns(arguments.duration),
        realtime=arguments.realtime, cores=parse_cores(arguments.cores),
        loads=_list(arguments.beside),
    )  # fmt: skip
    return _give(result, arguments)


def _pipeline(arguments: argparse.Namespace) -> int:
    from haihe.bench.measure.pipeline import measure_pipeline
    from haihe.pipelines.load import parse_parameters

    result = measure_pipeline(
        arguments.graph, arguments.unit, arguments.duration, sim=arguments.sim,
        arm=arguments.arm, seed=arguments.seed, parameters=parse_parameters(arguments.parameters),
        video=arguments.video,
    )  # fmt: skip
    return _give(result, arguments)


def _servo(arguments: argparse.Namespace) -> int:
    from haihe.bench.measure.servo import measure_servo
    from haihe.runtime.units import duration_ns

    duration = duration_ns(arguments.duration)
    return _give(measure_servo(arguments.unit, arguments.role, duration), arguments)


def _compare(arguments: argparse.Namespace) -> int:
    from haihe.bench.compare.verdict import compare
    from haihe.runtime.errors import HaiheError
    from haihe.runtime.units import duration_ns

    margin, q = arguments.margin / 100, int(arguments.judge[1:]) / 100
    if sorted((len(arguments.results), len(arguments.runs))) != [0, 2]:
        raise HaiheError("bench compare: give two results, or --run twice.")
    if arguments.runs:
        from haihe.bench.compare.interleave import take_turns

        a, b = (_run_settings(text) for text in arguments.runs)
        limit = duration_ns(arguments.time_limit, "--time-limit")
        verdict, *_ = take_turns(a, b, margin, q, limit)
    else:
        a, b = (read_result(path) for path in arguments.results)
        verdict = compare(a, b, margin, q)
    print(verdict.text())
    return int(verdict.word == "slower" or (arguments.strict and verdict.word == "undecided"))


def _run_settings(text: str) -> Any:
    words = shlex.split(text)
    if words[:3] == ["haihe", "bench", "model"]:
        words = words[3:]
    parser = argparse.ArgumentParser(prog=f"--run {text!r}", add_help=False)
    model_arguments(parser)
    return settings_of(parser.parse_args(words))


def read_result(path: str) -> Any:
    """A result from a file. Raises HaiheError."""
    from pathlib import Path

    import msgspec

    from haihe.bench.measure.protocol import from_json
    from haihe.runtime.errors import HaiheError

    try:
        return from_json(Path(path).read_bytes())
    except (OSError, msgspec.DecodeError) as exc:
        raise HaiheError(f"{path}: not a result of haihe bench --json: {exc}.") from exc


def _import(arguments: argparse.Namespace) -> int:
    from pathlib import Path

    from haihe.bench.measure.imports import read_pytest_benchmark

    return _give(read_pytest_benchmark(Path(arguments.file)), arguments)
