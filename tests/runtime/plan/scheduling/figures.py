"""The figures of the analysis: what a search finds, by the bound, per stratum of random graphs.

    python -m tests.runtime.plan.scheduling.figures [--block second] [--graphs 180] [--runs 120]

The block `first` is what the tests use; `second` is for the record, never for tuning.
"""

import argparse
import time

from tests.runtime.plan.scheduling.graphs import STRATA
from tests.runtime.plan.scheduling.judge import Verdict, as_json, judge, tenths

GRAPHS, RUNS = 180, 120


def judged(block: str, stratum: str, graphs: int, runs: int) -> list[Verdict]:
    """The verdicts of a stratum."""
    return [judge(stratum, f"{block}/{at}", runs) for at in range(graphs)]


def row(verdicts: list[Verdict]) -> str:
    """A line of the table."""
    ages = [verdict.age for verdict in verdicts if verdict.age is not None]
    responses = [ratio for verdict in verdicts for ratio in verdict.responses]
    backlogs = [ratio for verdict in verdicts for ratio in verdict.backlogs]
    cells = [" / ".join(f"{v:.2f}" for v in tenths(x)) for x in (ages, responses, backlogs)]
    wrong = sum(1 for verdict in verdicts if verdict.violations)
    return (
        f"{verdicts[0].stratum:<14} {len(ages):>4} of {len(verdicts):<4} {wrong:>5}   "
        + "   ".join(f"{cell:<18}" for cell in cells)
    ).rstrip()


HEAD = (
    f"{'stratum':<14} {'bounded':>12} {'wrong':>5}   "
    f"{'oldest age':<18}   {'response':<18}   backlog\n"
    f"{'':<34}   found/bound, 10th / 50th / 90th percentile"
)


def main() -> None:
    """Print the table, and every violation with its graph."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--block", default="first")
    options.add_argument("--graphs", type=int, default=GRAPHS)
    options.add_argument("--runs", type=int, default=RUNS)
    options.add_argument("--stratum", choices=STRATA)
    given = options.parse_args()
    print(
        f"block {given.block}: {given.graphs} graphs a stratum, {given.runs} runs a graph\n{HEAD}"
    )
    began = time.perf_counter()
    for stratum in [given.stratum] if given.stratum else STRATA:
        verdicts = judged(given.block, stratum, given.graphs, given.runs)
        print(row(verdicts), flush=True)
        for verdict in verdicts:
            if verdict.violations:
                print(f"  {stratum} {verdict.name}: {'; '.join(verdict.violations)}")
                print(f"    {as_json(stratum, verdict.name)}")
    print(f"{time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
