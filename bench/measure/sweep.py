"""`haihe bench model X --sweep`: threads x cores x spin x provider, and which are worth having.

Every combination is measured in a process of its own. A combination is on the front when no other
is both faster and cheaper in CPU time; both matter, since a robot does more than infer.
"""

import dataclasses
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence

import msgspec
import numpy as np

from haihe.bench.measure.figures import ms, quantile_ms
from haihe.bench.measure.model import Settings, measure
from haihe.bench.measure.protocol import Result, from_json, to_json
from haihe.bench.report.result import headline
from haihe.runtime.errors import HaiheError, ModelError

OVERSIZE = 1.02  # worth a step in CPU time only above this: less is noise


@dataclasses.dataclass
class Point:
    """One combination, measured. is_best: on the front of latency and CPU time."""

    settings: Settings
    result: Result
    p50_ns: float
    cpu_ns: float
    is_best: bool = False


def combinations(settings: Settings, providers: Sequence[str] = ()) -> Iterator[Settings]:
    """Powers of two of threads up to the cores there are; all cores, and each class of cores
    where a board has several; spin where there is more than one thread."""
    sets = [settings.cores] if settings.cores else core_sets()
    for provider, cores in itertools.product(providers or [settings.provider], sets):
        count = len(cores) or len(os.sched_getaffinity(0))
        sizes = sorted({1, count, *(2**n for n in range(8) if 2**n <= count)})
        for threads in sizes:
            for spin in (False, True) if threads > 1 else (False,):
                yield dataclasses.replace(
                    settings, provider=provider, cores=cores, threads=threads, spin=spin
                )


def core_sets() -> list[tuple[int, ...]]:
    """() for all cores; also the big and the little ones where they differ."""
    from haihe.boards.recognise import recognise

    found, allowed = recognise(), os.sched_getaffinity(0)
    sets: list[tuple[int, ...]] = [()]
    if found.little_cores and found.big_cores:
        for cores in (found.big_cores, found.little_cores):
            inside = tuple(core for core in cores if core in allowed)
            sets += [inside] if inside else []
    return sets


def sweep(
    settings: Settings, providers: Sequence[str] = (), tell: Callable[[str], None] | None = None
) -> list[Point]:
    """Measure every combination, fastest first. Raises ModelError."""
    points = []
    for one in combinations(settings, providers):
        result = measure_apart(one)
        series = headline(result)
        assert series is not None
        median = float(np.median(series.samples_ns))
        points.append(Point(one, result, median, result.counts["cpu_process_ns"]))
        if tell is not None:
            tell(f"{_name(one)}: p50 {ms(median)}, CPU {ms(points[-1].cpu_ns)}")
    mark_best(points)
    return sorted(points, key=lambda point: point.p50_ns)


def mark_best(points: Sequence[Point]) -> None:
    """Mark the Pareto front."""
    cheapest = float("inf")
    for point in sorted(points, key=lambda p: (p.p50_ns, p.cpu_ns)):
        point.is_best = point.cpu_ns * OVERSIZE < cheapest
        cheapest = min(cheapest, point.cpu_ns)


def measure_apart(settings: Settings) -> Result:
    """`measure` in a fresh process. Raises ModelError with what it said."""
    done = subprocess.run(
        [sys.executable, "-m", "haihe.bench.measure.sweep"],
        input=json.dumps(dataclasses.asdict(settings)),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise ModelError((done.stderr.strip().splitlines() or ["its process ended"])[-1])
    return from_json(done.stdout.encode())


def settings_from(text: str) -> Settings:
    """Settings as `json.dumps(dataclasses.asdict(settings))` wrote them."""
    return msgspec.json.decode(text, type=Settings)


def table(points: Sequence[Point]) -> str:
    """For a terminal."""
    columns = (("threads", 9), ("cores", 12), ("spin", 6), ("provider", 24), ("p50", 12),
               ("p99", 26), ("CPU a run", 12))  # fmt: skip
    lines = ["".join(f"{name:<{width}}" for name, width in columns) + "peak memory"]
    for point in points:
        s, series = point.result.settings, headline(point.result)
        assert series is not None
        cores = ",".join(map(str, s["cores"])) or "all"
        memory = point.result.counts["rss_peak_bytes"] / 2**20
        lines.append(
            f"{s['threads']:<9}{cores:<12}{'yes' if s['spin'] else 'no':<6}{s['provider']:<24}"
            f"{ms(point.p50_ns):<12}{quantile_ms(np.asarray(series.samples_ns), 0.99):<26}"
            f"{ms(point.cpu_ns):<12}{memory:.0f} MiB{'   *' if point.is_best else ''}"
        )
    lines.append("*: no other is both faster and cheaper in CPU time")
    return "\n".join(lines)


def _name(settings: Settings) -> str:
    cores = ",".join(map(str, settings.cores)) or "all"
    return (
        f"{settings.threads} threads, cores {cores}{', spin' if settings.spin else ''}"
        f"{', ' + settings.provider if settings.provider else ''}"
    )


def main() -> int:
    """The child: settings in, result out."""
    try:
        result = measure(settings_from(sys.stdin.read()))
    except HaiheError as exc:
        print(exc, file=sys.stderr)
        return 1
    print(to_json(result).decode())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
