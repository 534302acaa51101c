"""What a link between two processes costs: ours beside bare pyzmq, iceoryx2, Zenoh and dora.

    python -m haihe.bench.cases.links [--rounds N] [CASE ...]

Two processes a case; every case in each round, in an order that turns; per size a burst paced (the
one-way latency, from before to after both ends touched header and last byte) and one flat out (CPU
time of both processes whole, a message). Figures are medians of the rounds' medians, ratios are
taken within a round. A peer that is not installed is said and left out; `pip install --group peers`
installs them.
"""

import argparse
import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from haihe.bench.cases.links_peers.pair import Figures, Pair, missing
from haihe.bench.measure.stats import Interval, quantile_interval

SMALL, VGA, FULL_HD = 64, 921_600, 6_220_800  # bytes: a small message, 640x480x3, 1920x1080x3
SIZES = {SMALL: "64 B", VGA: "0.9 MB", FULL_HD: "6.2 MB"}
CASES = {  # name to module in links_peers, and whether the picture is produced in place
    "haihe in place": ("ring", True),
    "haihe one copy": ("ring", False),
    "pyzmq": ("pyzmq", False),
    "iceoryx2 in place": ("iceoryx2", True),
    "iceoryx2 one copy": ("iceoryx2", False),
    "zenoh shm": ("zenoh_shm", True),
    "dora": ("dora", True),
}
ROUNDS = 9
LEAST_ROUNDS, MOST_ROUNDS = 7, 31  # of a gate; fewer carry no interval
Cell = tuple[str, int]


@dataclass(frozen=True)
class Gate:
    """A ratio that is asked for: `figure` of a cell by that of another, at most `limit`. red: where
    the test fails, if that is not the limit; above it is what this machine is known to reach."""

    figure: str
    of: Cell
    by: Cell
    limit: float
    red: float = 0.0

    @property
    def fails_at(self) -> float:
        """The ratio above which the test is red."""
        return self.red or self.limit

    def __str__(self) -> str:
        name = {"median_ns": "latency", "cpu_ns": "CPU"}[self.figure]
        (of, size), (by, other) = self.of, self.by
        left, right = f"{of} {SIZES[size]}", f"{by} {SIZES[other]}"
        return f"{name}: {left} / {right} (at most {self.limit:.2f})"


GATES = (
    Gate("median_ns", ("haihe in place", VGA), ("pyzmq", VGA), 0.4),
    # 0.08 on a quiet machine, up to 0.13 on a busy one
    Gate("cpu_ns", ("haihe in place", VGA), ("pyzmq", VGA), 0.1, red=0.15),
    # bound by memory: 0.57 to 0.63, iceoryx2's own copy 0.55
    Gate("median_ns", ("haihe one copy", VGA), ("pyzmq", VGA), 0.5, red=0.8),
    # 1.04 to 1.12
    Gate("median_ns", ("haihe in place", VGA), ("iceoryx2 in place", VGA), 1.1, red=1.3),
    Gate("cpu_ns", ("haihe in place", FULL_HD), ("haihe in place", VGA), 1.3),
    Gate("cpu_ns", ("haihe in place", VGA), ("haihe in place", FULL_HD), 1.3),
    Gate("median_ns", ("haihe in place", SMALL), ("pyzmq", SMALL), 1.25),
)


@dataclass
class Rounds:
    """What was measured: the figures of each cell, round by round."""

    figures: dict[Cell, list[Figures]] = field(default_factory=dict)

    def median(self, cell: Cell, figure: str) -> float:
        """The median of the rounds."""
        return float(np.median([getattr(one, figure) for one in self.figures[cell]]))

    def ratio(self, gate: Gate) -> float:
        """The median of the rounds' ratios."""
        return float(np.median(self._ratios(gate)))

    def interval(self, gate: Gate) -> Interval:
        """Bounds of that median, 99 % each."""
        return quantile_interval(np.array(self._ratios(gate)), 0.5)

    def is_decided(self, gate: Gate) -> bool:
        """Whether both bounds lie on one side of where the test fails."""
        found = self.interval(gate)
        low, high = found.low or 0.0, found.high or math.inf
        return high <= gate.fails_at or low > gate.fails_at

    def _ratios(self, gate: Gate) -> list[float]:
        pairs = zip(self.figures[gate.of], self.figures[gate.by], strict=True)
        return [getattr(a, gate.figure) / getattr(b, gate.figure) for a, b in pairs]


@contextlib.contextmanager
def open_pairs(cells: Sequence[Cell]) -> Iterator[dict[str, Pair]]:
    """The worker processes of these cells, warm. Raises LinkError."""
    with contextlib.ExitStack() as stack:
        pairs = {}
        for case in dict.fromkeys(case for case, _ in cells):
            module, in_place = CASES[case]
            sizes = [size for name, size in cells if name == case]
            pairs[case] = stack.enter_context(Pair(module, in_place, sizes))
        yield pairs


def measure(cells: Sequence[Cell], gates: Sequence[Gate] = (), rounds: int = ROUNDS) -> Rounds:
    """Measure cells in turns: `rounds` times, or with gates until each is decided, or 31 rounds
    have not decided it. Raises LinkError."""
    found = Rounds({cell: [] for cell in cells})
    with open_pairs(cells) as pairs:
        for number in range(MOST_ROUNDS if gates else rounds):
            turned = [*cells[number % len(cells) :], *cells[: number % len(cells)]]
            for case, size in turned if number % 2 == 0 else reversed(turned):
                found.figures[case, size].append(pairs[case].burst(size))
            if gates and number + 1 >= LEAST_ROUNDS and all(map(found.is_decided, gates)):
                break
    return found


def gates_here() -> tuple[list[Gate], list[str]]:
    """The gates that this machine's packages allow, and why the others are left out."""
    reasons = {gate: missing(CASES[gate.by[0]][0]) for gate in GATES}
    return [g for g in GATES if not reasons[g]], [f"{g}: {r}" for g, r in reasons.items() if r]


def cells_of(gates: Sequence[Gate]) -> list[Cell]:
    """The cells that gates compare."""
    return list(dict.fromkeys(cell for gate in gates for cell in (gate.of, gate.by)))


def table(found: Rounds) -> str:
    """The figures by size, as lines; ratios to pyzmq in the same rounds."""
    lines = []
    for size, label in SIZES.items():
        lines.append(
            f"{label:18}  latency µs    CPU µs   paced CPU µs   messages/s   lost   ratios"
        )
        for case, other in found.figures:
            if other != size:
                continue
            cell = case, size
            at = [found.median(cell, name) for name in ("median_ns", "cpu_ns", "paced_cpu_ns")]
            ratios = ""
            if ("pyzmq", size) in found.figures and case != "pyzmq":
                both = [Gate(name, cell, ("pyzmq", size), 1.0) for name in ("median_ns", "cpu_ns")]
                ratios = "{:.2f} {:.3f}".format(*map(found.ratio, both))
            lost = sum(one.lost for one in found.figures[cell])
            lines.append(
                f"{case:18} {at[0] / 1000:11.0f} {at[1] / 1000:9.1f} {at[2] / 1000:14.0f}"
                f" {found.median(cell, 'per_second'):12.0f} {lost:6}   {ratios}"
            )
    return "\n".join(lines)


def verdict(found: Rounds, gate: Gate) -> str:
    """A gate's ratio and bounds, as a line."""
    bounds = found.interval(gate)
    low, high = (f"{x:.3f}" if x is not None else "…" for x in (bounds.low, bounds.high))
    word = "met" if found.ratio(gate) <= gate.limit else "MISSED"
    rounds = len(found.figures[gate.of])
    return f"{word:6} {found.ratio(gate):.3f} ({low} to {high}, {rounds} rounds)  {gate}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(prog="python -m haihe.bench.cases.links")
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of: {', '.join(CASES)}")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    given = parser.parse_args(arguments)
    unknown = set(given.cases) - set(CASES)
    if unknown:
        parser.error(f"unknown case {sorted(unknown)[0]!r}; there are: {', '.join(CASES)}")
    cases = []
    for case in given.cases or CASES:
        reason = missing(CASES[case][0])
        if reason:
            print(f"{case}: left out: {reason}")
        else:
            cases.append(case)
    found = measure([(case, size) for size in SIZES for case in cases], rounds=given.rounds)
    print(f"{given.rounds} rounds; ratios to pyzmq: latency, CPU")
    print(table(found))
    for gate in GATES:
        if gate.of in found.figures and gate.by in found.figures:
            print(verdict(found, gate))


if __name__ == "__main__":
    main()
