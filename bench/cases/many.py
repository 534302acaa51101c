"""300 nodes in 24 lanes over four processes: how fast they start, and what they cost at rest.

    python -m haihe.bench.cases.many [--duration 10s] [--rounds 3]

`haihe run` of many_graph.py as any user starts it, recorded. Start: from the start of the process
to the first release of the last ticking lane, imports and planning included; beside it the CPU time
that this took, which other programs on the machine do not stretch. CPU at rest: user and system
time of all its processes over some seconds, in percent of one core.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from haihe.bench.cases.many_graph import GROUPS, LANES, NODES, thread_name
from haihe.bench.measure.firings import lane_columns
from haihe.runtime.clock import SECOND, now_ns, sleep
from haihe.runtime.record.recording import Recording
from haihe.runtime.units import duration_ns

GRAPH = Path(__file__).with_name("many_graph.py")
SETTLE_S = 8.0  # from the start of a process to the first look at its CPU time
STARTS_S, RESTS = 3.0, 0.05  # the targets


class Kind(NamedTuple):
    """A way to run it."""

    said: str
    apart: bool
    tells: bool


class Figures(NamedTuple):
    """Of one run. cpu: in cores, after the start."""

    start_s: float
    start_cpu_s: float
    cpu: float
    processes: int


KINDS = (
    Kind("at rest", apart=True, tells=False),
    Kind("every lane at 10 Hz", apart=True, tells=True),
    Kind("at rest, one process", apart=False, tells=False),
)


def unit_text(*, apart: bool) -> str:
    """The unit profile; apart: every group but the first in a process of its own."""
    lines = ["unit: bench", "devices: {}", *["processes:"] * apart]
    for group in range(1, GROUPS if apart else 1):
        threads = ", ".join(thread_name(group, lane) for lane in range(LANES))
        lines.append(f"  group{group}: {{threads: [{threads}]}}")
    return "\n".join(lines) + "\n"


def measure(folder: Path, kind: Kind, length_ns: int) -> Figures:
    """One run."""
    unit, recording = folder / "unit.yaml", folder / "many.mcap"
    unit.write_text(unit_text(apart=kind.apart))
    recording.unlink(missing_ok=True)
    length_s = length_ns / SECOND
    options = {
        "--unit": unit, "--record": recording, "--frames": "none",
        "--duration": f"{length_s + SETTLE_S:g}s",
    }  # fmt: skip
    given = [str(part) for pair in options.items() for part in pair]
    tells = [f"-ptick{group}.tells=true" for group in range(GROUPS) if kind.tells]
    command = [sys.executable, "-m", "haihe", "run", str(GRAPH), *given, *tells]
    with (folder / "said.txt").open("w") as said:
        begun = now_ns()
        with subprocess.Popen(command, stdout=said, stderr=said) as process:
            sleep(SETTLE_S)
            family = [process.pid, *descendants(process.pid)]
            before, since = cpu_s(family), now_ns()
            sleep(length_s)
            cpu = (cpu_s(family) - before) / ((now_ns() - since) / SECOND)
    if process.returncode:
        text = (folder / "said.txt").read_text()
        raise SystemExit(f"many: {kind.said}: it ended with {process.returncode}: {text}")
    lanes = lane_columns(Recording(recording)).values()
    ready = max(int(lane.release[0]) for lane in lanes if lane.task.every_ns)
    if ready > since:
        raise SystemExit(f"many: {kind.said}: not up after {SETTLE_S:g} s. Quieten the machine.")
    start_cpu = before - cpu * (since - ready) / SECOND
    return Figures((ready - begun) / SECOND, start_cpu, cpu, len(family))


def descendants(pid: int) -> Iterator[int]:
    """The processes that a process has started, and theirs."""
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        if int(fields[1]) == pid:
            yield int(entry.parent.name)
            yield from descendants(int(entry.parent.name))


def cpu_s(pids: list[int]) -> float:
    """User and system time of processes in s."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--duration", default="10s", help="of each look at the CPU time")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    length = duration_ns(arguments.duration)
    found: list[list[Figures]] = [[] for _ in KINDS]
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(arguments.rounds):
            for kind, runs in zip(KINDS, found, strict=True):
                runs.append(measure(Path(folder), kind, length))
    print(f"{NODES} nodes in {GROUPS * LANES} lanes, {arguments.rounds} interleaved runs of each")
    for kind, runs in zip(KINDS, found, strict=True):
        starts, shares = [run.start_s for run in runs], [run.cpu for run in runs]
        cpu = statistics.median(run.start_cpu_s for run in runs)
        print(
            f"{kind.said}: {runs[0].processes} processes; up after {statistics.median(starts):.2f} "
            f"s ({min(starts):.2f} to {max(starts):.2f}; {cpu:.2f} s of CPU), then "
            f"{statistics.median(shares):.1%} of a core ({min(shares):.1%} to {max(shares):.1%}) "
            f"over {length / SECOND:g} s"
        )
    print(f"targets, at rest over {GROUPS} processes: {STARTS_S:g} s and {RESTS:.0%}")


if __name__ == "__main__":
    main()
