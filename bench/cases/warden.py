"""How long a warden takes from the death or the hang of a port's owner to the safe frames.

    python -m haihe.bench.cases.warden [--trials 100] [--limit 100ms] [--at-once 4]

Real processes on a real pty; the time is taken at the far end of the wire, at the last byte of the
safe frames, and holds the owner's death, its discovery and the padding. What a hang and a stop add
is the limit of the heartbeat. See bench/measure/host_death.py for the owner.
"""

import argparse

import numpy as np

from haihe.bench.measure.host_death import FAULTS, Trial, trials
from haihe.bench.measure.percentile import percentile


def row(cause: str, found: list[Trial]) -> str:
    """One line of the table."""
    times = np.array([t.reaction_ns * 1e-6 for t in found if t.reaction_ns >= 0])
    marks = [percentile(times, q) for q in (0.5, 0.9, 0.95, 0.99)]
    cells = ["-" if mark is None else f"{mark:.1f}" for mark in marks]
    worst = f"{times.max():.1f}" if len(times) else "-"
    return f"{cause:<20} {len(times):>4} of {len(found):<4}" + "".join(
        f"{cell:>8}" for cell in (*cells, worst)
    )


def main() -> None:
    """Print the distribution, by cause."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--limit", default="", help="default: that of the unit, 100 ms here")
    parser.add_argument("--at-once", type=int, default=4)
    arguments = parser.parse_args()
    print(f"{'cause':<20} safe frames  {'p50':>7}{'p90':>8}{'p95':>8}{'p99':>8}{'max':>8}  ms")
    for cause in FAULTS:
        causes = [cause] * arguments.trials
        print(row(cause, trials(causes, arguments.limit, arguments.at_once)), flush=True)
    print("(- where the sample is too small for it)")


if __name__ == "__main__":
    main()
