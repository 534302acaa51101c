"""What timing costs: a no-op under the stopwatch of `haihe bench model`, one thread.

    python -m haihe.bench.cases.timer

The loop with the stopwatch, less the same loop without it: the fastest of interleaved rounds, since
whatever else runs on the machine can only make a round slower.
"""

from haihe.bench.measure.stopwatch import Until, closed
from haihe.runtime.clock import now_ns

ROUNDS, RUNS = 51, 20_000


def nothing() -> None:
    """The work."""


def measure(rounds: int = ROUNDS, runs: int = RUNS) -> tuple[float, float]:
    """(ns per run with one stage, with three stages), above the calls themselves."""
    found: dict[int, list[float]] = {1: [], 3: []}
    for _ in range(rounds):
        begun = now_ns()
        for _ in range(runs):
            nothing()
        bare = (now_ns() - begun) / runs
        for stages, costs in found.items():
            timed = closed([("nothing", nothing)] * stages, Until(1 << 62, 1 << 62, most=runs))
            costs.append(timed.seconds * 1e9 / timed.runs - stages * bare)
    return min(found[1]), min(found[3])


def main() -> None:
    """Print the figures."""
    one, three = measure()
    print(
        f"timing a no-op: {one:.0f} ns a run with one stage, {three:.0f} ns with three (fastest of "
        f"{ROUNDS} interleaved rounds of {RUNS} runs; target 1000 ns)"
    )


if __name__ == "__main__":
    main()
