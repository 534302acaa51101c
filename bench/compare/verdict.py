"""The verdict on two results: faster, slower, same, or undecided, at a stated margin.

    slower      the shift is above the margin: its lower bound is, with 99 % confidence
    faster      it is below minus the margin, likewise
    same        both bounds lie within the margin
    undecided   anything else: more samples, or a quieter machine, would tell

So two runs of the same thing are called slower or faster in at most 2 of 100 cases at a margin of
nothing, and far more rarely at one of 3 % (tests/bench/measure/test_stats_simulation.py). Judged is
the whole (`total`, or the only stage); the stages are then named by how much of it is theirs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from haihe.bench.measure.figures import ms, too_few
from haihe.bench.measure.percentile import Samples, samples_needed
from haihe.bench.measure.protocol import Result
from haihe.bench.measure.stats import Shift, hodges_lehmann, paired_shift, shift
from haihe.bench.report.result import headline
from haihe.runtime.errors import HaiheError

MARGIN = 0.03
Word = Literal["faster", "slower", "same", "undecided"]
Bursts = Mapping[str, Sequence[Samples]]  # stage to the samples of each burst
LOAD = ("load", "fps", "streams", "with", "soak_s")  # settings that change what is timed
DIFFERENCES = ("model", "sha256", "threads", "spin", "provider", "cores", "input", "shapes")


@dataclass(frozen=True)
class StageVerdict:
    """One stage of both."""

    stage: str
    word: Word
    middle: Shift | None  # of the judged quantile
    tail: Shift | None  # of the p99, None where the samples do not carry it
    typical_ns: float  # the shift that best lays one over the other (Hodges-Lehmann)
    counts: tuple[int, int]


@dataclass(frozen=True)
class Verdict:
    """Both results, stage by stage."""

    word: Word
    whole: StageVerdict
    stages: tuple[StageVerdict, ...]
    margin: float
    differences: tuple[str, ...]

    @property
    def culprit(self) -> StageVerdict:
        """The stage that moved the most in the direction of the verdict."""
        sign = -1.0 if self.word == "faster" else 1.0
        parts = [s for s in self.stages if s is not self.whole] or [self.whole]
        return max(parts, key=lambda s: sign * s.typical_ns)

    def text(self) -> str:
        """For a terminal."""
        lines = [f"differs: {text}" for text in self.differences]
        for s in (*[s for s in self.stages if s is not self.whole], self.whole):
            tail = f"p99 {percent(s.tail)}" if s.tail else f"p99 {too_few(min(s.counts), 0.99)}"
            typical = f"{'+' if s.typical_ns >= 0 else '-'}{ms(abs(s.typical_ns))}"
            lines.append(
                f"{s.stage[:24]:<26}p{100 * (s.middle.q if s.middle else 0.5):g} "
                f"{percent(s.middle):<30}{tail:<34}{typical:<12}{s.word}"
            )
        name = f"{self.culprit.stage} " if self.word in ("slower", "faster") else ""
        moved = percent(self.culprit.middle) if name else percent(self.whole.middle)
        lines.append(
            f"B is {self.word}: {name}{moved}; margin {100 * self.margin:g} %, "
            f"n {self.whole.counts[0]} and {self.whole.counts[1]}"
        )
        return "\n".join(lines)


def percent(found: Shift | None) -> str:
    """`+12.3 % [+11.0, +13.6]`."""
    if found is None:
        return "too few samples"
    return f"{100 * found.ratio:+.1f} % [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"


def judge(found: Shift | None, margin: float) -> Word:
    """The word for a shift."""
    if found is None:
        return "undecided"
    if found.low > margin:
        return "slower"
    if found.high < -margin:
        return "faster"
    return "same" if found.low >= -margin and found.high <= margin else "undecided"


def compare(
    a: Result, b: Result, margin: float = MARGIN, q: float = 0.5,
    bursts: tuple[Bursts, Bursts] | None = None,
) -> Verdict:  # fmt: skip
    """The verdict on B against A. bursts: their samples by burst, where they took turns. Raises
    HaiheError for results that cannot be compared."""
    check_comparable(a, b)
    sides = [{s.stage: np.asarray(s.samples_ns) for s in r.series if s.samples_ns} for r in (a, b)]
    shared = [stage for stage in sides[0] if stage in sides[1]]
    top = headline(a)
    if top is None or top.stage not in shared:
        raise HaiheError(
            f"{a.name} and {b.name}: no stage to judge by in both ({', '.join(sides[0]) or 'none'} "
            f"and {', '.join(sides[1]) or 'none'}). Measure both the same way."
        )
    stages = []
    for stage in shared:
        samples = sides[0][stage], sides[1][stage]
        enough = min(map(len, samples)) >= samples_needed(max(q, 0.99))
        middle, tail = (
            _shift(stage, samples, quantile, bursts) if needed else None
            for quantile, needed in ((q, q < 0.9 or enough), (0.99, enough))
        )
        counts = len(samples[0]), len(samples[1])
        moved = hodges_lehmann(*samples)
        stages.append(StageVerdict(stage, judge(middle, margin), middle, tail, moved, counts))
    whole = next(s for s in stages if s.stage == top.stage)
    return Verdict(whole.word, whole, tuple(stages), margin, differences(a, b))


def _shift(
    stage: str, samples: tuple[Samples, Samples], q: float, bursts: tuple[Bursts, Bursts] | None
) -> Shift | None:
    if bursts is None:
        return shift(*samples, q)
    return paired_shift(list(bursts[0][stage]), list(bursts[1][stage]), q)


def check_comparable(a: Result, b: Result) -> None:
    """Refuse what was not timed the same way."""
    if (a.protocol, a.schema) != (b.protocol, b.schema):
        raise HaiheError(
            f"{a.name} and {b.name}: protocol {a.protocol}/{a.schema} and {b.protocol}/{b.schema}. "
            "What they time differs: measure again with one version."
        )
    for result in (a, b):
        if result.machine.is_emulated:
            raise HaiheError(f"{result.name}: measured on an emulated machine: no time is real.")
    kinds = [result.name.split(" ")[0] for result in (a, b)]
    if kinds[0] != kinds[1]:
        raise HaiheError(f"{a.name} and {b.name}: a {kinds[0]} and a {kinds[1]} do not compare.")
    for key in LOAD:
        if a.settings.get(key) != b.settings.get(key):
            raise HaiheError(
                f"{a.name} and {b.name}: {key} is {a.settings.get(key)} and {b.settings.get(key)}. "
                "Measure both under the same load."
            )


def differences(a: Result, b: Result) -> tuple[str, ...]:
    """What else differs: it may be the reason, and it may be a mistake."""
    found = [
        f"{key} {_short(a.settings.get(key))} → {_short(b.settings.get(key))}"
        for key in DIFFERENCES
        if a.settings.get(key) != b.settings.get(key)
    ]
    if a.machine.model != b.machine.model or a.machine.cores != b.machine.cores:
        found.append(f"machine {a.machine.model} → {b.machine.model}")
    names = sorted({*a.machine.packages, *b.machine.packages})
    return tuple(found) + tuple(
        f"{name} {a.machine.packages.get(name)} → {b.machine.packages.get(name)}"
        for name in names
        if a.machine.packages.get(name) != b.machine.packages.get(name)
    )


def _short(value: object) -> str:
    return str(value)[:40]
