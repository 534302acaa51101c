"""The bounds that `haihe check` prints against the ages of a live run.

python -m haihe.bench.cases.ages [--duration 60s] [--measure 30s]

The demo's nodes are timed on this machine, the bounds computed from that, then the demo runs in
real time with these budgets. Samples whose data was under way during a reported overrun are left
out, and counted: until the overrunning thread was idle again its chains had no bound.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np

from haihe.bench.measure.firings import I64, Bools, LaneColumns
from haihe.bench.measure.lineage import Lineage
from haihe.pipelines.check import check
from haihe.pipelines.check.report import ChainReport
from haihe.pipelines.launch import run
from haihe.pipelines.robot.follow import build
from haihe.runtime.clock import MILLISECOND
from haihe.runtime.record.recording import Recording

IDLE_NS = (
    MILLISECOND  # a job that starts no later than this after its release found its thread idle
)


def main() -> None:
    """Measure, check, run, compare."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--duration", default="60s")
    parser.add_argument("--measure", default="30s")
    arguments = parser.parse_args()
    report = check(build(), unit="pan-tilt", measure=arguments.measure, sim=True)
    nodes = [item for lane in report.lanes for item in lane.items]
    budgets = {item.name: item.ns for item in nodes if item.ns and " " not in item.name}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "live.mcap"
        run(
            build(), unit="pan-tilt", sim=True, duration=arguments.duration, record=path,
            frames="none", budgets=budgets,
        )  # fmt: skip
        compare(Recording(path), report.chains[0])


def compare(recording: Recording, chain: ChainReport) -> None:
    """Print the ages of the demo's chain against its bounds."""
    lineage = Lineage(recording)
    lane = lineage.lanes["every-20ms"]
    parts = lineage.samples(lane.name, "part")
    overruns = recording.note_log.get("overrun", [])
    void = _void_spans(lineage, overruns)
    print(f"{chain.path[0]} → {chain.path[-1]}: {len(overruns)} overruns reported")
    read = parts.origin > 0
    _line("age when read", lane.clock - parts.origin, read, parts.origin, chain.reading_ns, void)
    bus = lane.buses["neck"]
    sent = read & (bus.first_byte > 0) & lane.is_armed
    age = bus.first_byte - parts.origin
    _line("age at the first byte", age, sent, parts.origin, chain.sent_ns, void)
    acted = np.append(bus.first_byte[1:], 0) - parts.origin  # until the next command replaces it
    held = sent & np.append(sent[1:], False)
    _line("oldest acted on", acted, held, parts.origin, chain.oldest_ns, void)


def _void_spans(lineage: Lineage, overruns: list[dict[str, int]]) -> list[tuple[int, int]]:
    """From the beginning of each overrun until its thread was idle again."""
    spans = []
    for note in overruns:
        lane: LaneColumns = lineage.lanes[str(note["lane"])]
        idle = (lane.clock > note["t_ns"]) & (lane.lateness <= IDLE_NS)
        after = np.flatnonzero(idle)
        end = int(lane.clock[after[0]]) if len(after) else int(lane.clock[-1])
        spans.append((note["t_ns"] - note["took_ns"], end))
    return spans


def _line(
    what: str, age: I64, there: Bools, origin: I64, bound: int | None,
    void: list[tuple[int, int]],
) -> None:  # fmt: skip
    counted = there.copy()
    for start, end in void:
        counted &= (origin > end) | (origin + age < start)
    seen = age[counted]
    if bound is None or not len(seen):
        print(f"  {what:<22} nothing to compare")
        return
    over = int(np.sum(seen > bound))
    print(
        f"  {what:<22} worst {seen.max() / 1e6:6.1f} ms  bound {bound / 1e6:6.1f} ms  ratio "
        f"{seen.max() / bound:.2f}  n {len(seen)}, {int(np.sum(there)) - len(seen)} excluded, "
        f"{over} above the bound"
    )


if __name__ == "__main__":
    main()
