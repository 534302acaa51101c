"""An adversary: looks for the run of a timing that makes one quantity as large as it can be.

A quarter of the runs is random; the others climb from the best one found so far, and start anew
when nothing has got better for a while. Every other quantity is recorded for free.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from tests.runtime.plan.scheduling.model import (
    FINISH,
    KINDS,
    START,
    Ints,
    Outcome,
    Run,
    arrays,
    row,
    simulate,
    table,
)

from haihe.runtime.plan.timing import Timing

CHOICES = 32  # columns of a run: jobs, captures, releases before it repeats
FLIPPED = ("execution", "latency", "late", "after", "interval")
FLIPPED_WEIGHTS = (0.56, 0.20, 0.09, 0.09, 0.06)
Random = np.random.Generator


class Quantity(NamedTuple):
    """What is looked at: its place in `Outcome.value`."""

    kind: int
    node: int
    source: int


class Found(NamedTuple):
    """worst: kind x node x source, over all runs; run: the one with the most of the objective."""

    worst: Ints
    run: Run
    best: int


def horizon_of(timing: Timing) -> int:
    """Long enough for some jobs of the slowest lane."""
    periods = [lane.period_ns for lane in timing.lanes]
    periods += [source.period_max_ns for source in timing.sources]
    return 8 * max(periods) + 4 * max(lane.worst_ns for lane in timing.lanes)


def random_run(timing: Timing, random: Random) -> Run:
    """A run, drawn anew."""
    lanes, sources = timing.lanes, timing.sources

    def rows(ends: Iterable[tuple[int, int]]) -> Ints:
        return table((_between(random, low, high) for low, high in ends), CHOICES)

    return Run(
        source_phase=row(int(random.integers(0, s.period_max_ns)) for s in sources),
        lane_phase=row(int(random.integers(0, max(1, x.period_ns))) for x in lanes),
        execution=rows((lane.best_ns, lane.worst_ns) for lane in lanes),
        after=rows((lane.after_best_ns, lane.after_ns) for lane in lanes),
        interval=rows((s.period_min_ns, s.period_max_ns) for s in sources),
        latency=rows((s.latency_min_ns, s.latency_max_ns) for s in sources),
        late=rows((0, lane.late_ns) for lane in lanes),
        holders=_holders(random, len(timing.threads)),
        slice=int(random.integers(1, 400)),
        keeps=int(random.integers(2)),
    )


def _holders(random: Random, threads: int) -> Ints:
    if random.random() < 0.6:
        return np.full(1, random.integers(threads))
    return random.integers(0, threads, 16)


def _between(random: Random, low: int, high: int) -> Ints:
    """A row of choices: mostly one end, or either end, seldom what is between."""
    how = random.random()
    if low == high or how < 0.4:
        return np.full(CHOICES, high)
    if how < 0.5:
        return np.full(CHOICES, low)
    if how < 0.85:
        return np.where(random.random(CHOICES) < random.random(), low, high)
    return random.integers(low, high + 1, CHOICES)


def search(
    timing: Timing,
    random: Random,
    runs: int,
    objective: Quantity,
    seen: list[tuple[Run, Ints]] | None = None,
) -> Found:
    """Look for the most of a quantity, with so many simulations. seen: gets each run and what it
    showed, for who looks for more."""
    system, horizon = arrays(timing), horizon_of(timing)
    worst = np.full((len(KINDS), system.reach.shape[0], max(1, system.reach.shape[1])), -1)
    found = Found(worst, random_run(timing, random), -1)
    current, level, stale = found.run, -1, 0
    log: Outcome | None = None
    for at in range(runs):
        if log is None or at % 4 == 0:
            trial = random_run(timing, random)
        else:
            trial = _near(timing, current, log, random, objective)
        outcome = simulate(system, trial, horizon, logged=64)
        np.maximum(worst, outcome.value, out=worst)
        if seen is not None:
            seen.append((trial, outcome.value))
        value = int(outcome.value[objective])
        if value > found.best:
            found = Found(worst, trial, value)
        stale += 1
        if value >= level:
            stale = stale if value == level else 0
            current, level, log = trial, value, outcome
        elif stale > 40:
            current, level, log, stale = trial, value, outcome, 0
    return found


def _near(timing: Timing, run: Run, outcome: Outcome, random: Random, aim: Quantity) -> Run:
    """The run with one to three things changed."""
    for _ in range(int(random.integers(1, 4))):
        run = _changed(timing, run, outcome, random, aim)
    return run


def _changed(timing: Timing, run: Run, outcome: Outcome, random: Random, aim: Quantity) -> Run:
    how = random.random()
    if how < 0.60:
        return _shifted(timing, run, outcome, random, aim)
    if how < 0.95:
        return _flipped(timing, run, random)
    if how < 0.98:
        return run._replace(holders=_holders(random, len(timing.threads)))
    return run._replace(slice=max(1, int(run.slice * random.uniform(0.5, 2))))


def _shifted(timing: Timing, run: Run, outcome: Outcome, random: Random, aim: Quantity) -> Run:
    """A phase moved: a little, by an eighth, anew, or so that it lands near an event."""
    periods = [source.period_max_ns for source in timing.sources]
    periods += [lane.period_ns for lane in timing.lanes]
    movable = [at for at, period in enumerate(periods) if period]
    which = movable[int(random.integers(len(movable)))]
    period, sources = periods[which], len(timing.sources)
    phase = int(run.source_phase[which] if which < sources else run.lane_phase[which - sources])
    how = random.random()
    if how < 0.15:
        phase = int(random.integers(period))
    elif how < 0.3:
        phase += int(random.integers(-3, 4))
    elif how < 0.4:
        phase += int(random.choice((-1, 1))) * max(1, period // 8)
    else:
        event = int(outcome.when[aim])
        lane = int(random.integers(len(timing.lanes)))
        if random.random() < 0.8 and outcome.jobs[lane]:
            jobs = outcome.log[lane, : outcome.jobs[lane], (START, FINISH)[random.integers(2)]]
            jobs = jobs[jobs <= event]
            event = int(jobs[-1 - random.integers(min(3, len(jobs)))]) if len(jobs) else event
        if which < sources:
            event -= int(run.latency[which, 0])
        phase = event + int(random.integers(-1, 2))
    phase %= period
    if which < sources:
        phases = run.source_phase.copy()
        phases[which] = phase
        return run._replace(source_phase=phases)
    phases = run.lane_phase.copy()
    phases[which - sources] = phase
    return run._replace(lane_phase=phases)


def _flipped(timing: Timing, run: Run, random: Random) -> Run:
    """A run of choices of one row set to one end, or the row drawn anew."""
    field = str(random.choice(FLIPPED, p=FLIPPED_WEIGHTS))
    ends = {
        "execution": [(lane.best_ns, lane.worst_ns) for lane in timing.lanes],
        "after": [(lane.after_best_ns, lane.after_ns) for lane in timing.lanes],
        "late": [(0, lane.late_ns) for lane in timing.lanes],
        "latency": [(s.latency_min_ns, s.latency_max_ns) for s in timing.sources],
        "interval": [(s.period_min_ns, s.period_max_ns) for s in timing.sources],
    }[field]
    if not ends:
        return run
    at = int(random.integers(len(ends)))
    low, high = ends[at]
    rows = getattr(run, field).copy()
    if random.random() < 0.3:
        rows[at] = _between(random, low, high)
    else:
        first, count = random.integers(CHOICES), random.integers(1, CHOICES // 2)
        rows[at, (first + np.arange(count)) % CHOICES] = low if random.random() < 0.5 else high
    changed: Run = run._replace(**{field: rows})
    return changed
