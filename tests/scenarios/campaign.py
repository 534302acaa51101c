"""The campaign of fault runs in virtual time.

    python -m tests.scenarios.campaign [--runs 950] [--block second] [--replay-every 1]

Every run is judged at the wire, the source and the sinks (fault_judge.py); of every n-th one the
recording is replayed. Ends with status 1 when anything was violated, and names the seeds.
"""

import argparse
import logging
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tests.scenarios.fault_judge import judge
from tests.scenarios.fault_runs import replay, run, setting

BLOCKS = {"first": 0, "second": 1_000_000}
RUNS = 950


@dataclass
class Result:
    """What a part of the campaign found."""

    runs: int = 0
    replayed: int = 0
    firings: int = 0  # replayed
    counts: Counter[str] = field(default_factory=Counter)
    violations: dict[int, list[str]] = field(default_factory=dict)

    def add(self, other: "Result") -> None:
        """Two parts together."""
        self.runs += other.runs
        self.replayed += other.replayed
        self.firings += other.firings
        self.counts += other.counts
        self.violations |= other.violations

    def __str__(self) -> str:
        counts = ", ".join(f"{number} {what}" for what, number in sorted(self.counts.items()))
        lines = [
            f"{self.runs} runs, {len(self.violations)} with violations; {self.replayed} replayed "
            f"({self.firings} firings)",
            f"  {counts}",
        ]
        for seed, found in self.violations.items():
            lines += [f"  seed {seed}: {text}" for text in found]
        return "\n".join(lines)


def campaign(seeds: Iterable[int], replay_every: int) -> Result:
    """Run and judge these seeds. replay_every: 0 replays none."""
    result = Result()
    logging.disable(logging.CRITICAL)  # what goes wrong in them is on purpose
    try:
        with tempfile.TemporaryDirectory() as folder:
            for seed in seeds:
                is_replayed = bool(replay_every) and seed % replay_every == 0
                one(seed, Path(folder) / f"{seed}.mcap" if is_replayed else None, result)
    finally:
        logging.disable(logging.NOTSET)
    return result


def one(seed: int, record: Path | None, result: Result) -> None:
    """One run."""
    made, source = setting(seed)
    done = run(made, source, record)
    found = judge(done)
    result.runs += 1
    result.counts.update(f"faults: {fault.kind}" for fault in made.faults)
    result.counts["frames"] += len(done.emulator.frames)
    result.counts["deaths"] += len(done.deaths)
    result.counts["restarts"] += len(done.emulator.setups) - 1
    result.counts["restarts judged"] += done.restarts_judged
    result.counts["given up"] += done.outcome.reason.endswith("given up")
    result.counts["saved by a warden"] += any(f.is_wardens for f in done.emulator.frames)
    if record is not None:
        report = replay(done)
        record.unlink()
        result.replayed += 1
        result.firings += report.firings
        if not report.ok or report.skipped:
            found.append(str(report))
    if found:
        result.violations[seed] = found


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--block", choices=BLOCKS, default="first")
    parser.add_argument("--seed", type=int, help="this one only")
    parser.add_argument("--replay-every", type=int, default=1)
    given = parser.parse_args()
    first = BLOCKS[given.block]
    seeds = range(first, first + given.runs)
    if given.seed is not None:
        seeds = range(given.seed, given.seed + 1)
    begun = time.perf_counter()
    result = campaign(seeds, given.replay_every)
    print(f"{result}\n  {time.perf_counter() - begun:.1f} s on one core")
    return 1 if result.violations else 0


if __name__ == "__main__":
    sys.exit(main())
