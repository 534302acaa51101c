"""Random graphs for the analysis, by stratum, each from a name: the same name, the same graph."""

import zlib
from collections.abc import Callable
from typing import Literal

import numpy as np

from haihe.runtime.plan.timing import LaneTiming, SourceTiming, ThreadTiming, Timing

STRATA = (
    "fused",
    "priority",
    "fifo policy",
    "fifo(8) edges",
    "overload",
    "shared core",
    "interpreter",
)
Random = np.random.Generator


def named(name: str) -> Random:
    """The random numbers of a name."""
    return np.random.default_rng(zlib.crc32(name.encode()))


def graph(stratum: str, name: str) -> Timing:
    """A layered graph of 3-5 stages whose last lane is an actuator's."""
    random = named(f"{stratum}/{name}")
    sources = [_source(random, at) for at in range(random.integers(1, 3))]
    lanes = _lanes(random, sources, fifo=stratum == "fifo(8) edges")
    return _on_threads(random, stratum, sources, lanes)


def _period(random: Random) -> int:
    return int(np.exp(random.uniform(np.log(100), np.log(2500))))


def _source(random: Random, at: int) -> SourceTiming:
    period = _period(random)
    low = int(random.integers(0, period // 2))
    jitter = int(random.integers(0, period // 2)) * int(random.random() < 0.6)
    drift = int(random.integers(0, period // 20)) * int(random.random() < 0.3)
    return SourceTiming(f"s{at}", period, period + drift, low, low + jitter)


def _lanes(random: Random, sources: list[SourceTiming], *, fifo: bool) -> list[LaneTiming]:
    """Stage by stage; execution times are still 1."""
    lanes: list[LaneTiming] = []
    before = [source.name for source in sources]
    stages = int(random.integers(3, 6))
    for stage in range(stages):
        here = 1 if stage == stages - 1 else int(random.integers(1, 3))
        names = [f"n{len(lanes) + at}" for at in range(here)]
        for name in names:
            heard = [before[int(random.integers(len(before)))]]
            older = [s.name for s in sources] + [lane.name for lane in lanes]
            if random.random() < 0.3:
                heard.append(older[int(random.integers(len(older)))])
            if stage == stages - 1 and len(before) > 1:
                heard += before
            heard = [h for h in dict.fromkeys(heard) if h not in names]
            triggered = random.random() < 0.5
            period = 0 if triggered else _period(random)
            late = int(random.integers(0, max(1, period // 8))) * int(random.random() < 0.3)
            lanes.append(
                LaneTiming(
                    name,
                    worst_ns=1,
                    best_ns=1,
                    period_ns=period,
                    late_ns=late,
                    trigger=heard[0] if triggered else "",
                    fifo=8 if triggered and fifo and random.random() < 0.7 else 0,
                    reads=tuple(heard[1:] if triggered else heard),
                    is_actuator=stage == stages - 1,
                )
            )
        before = names
    return lanes


def _on_threads(
    random: Random, stratum: str, sources: list[SourceTiming], lanes: list[LaneTiming]
) -> Timing:
    count = len(lanes) if stratum == "fused" else int(random.integers(2, 4))
    count = min(count, len(lanes))
    place = list(range(count)) + [int(p) for p in random.integers(0, count, len(lanes) - count)]
    random.shuffle(place)
    core = [""] * count
    if stratum == "shared core":
        core = ["c"] * count
        if count > 2 and random.random() < 0.5:
            core[int(random.integers(count))] = ""
    ranks = [int(rank) for rank in random.permutation(count) + 1]
    rate = {source.name: source.period_min_ns for source in sources}
    for lane in lanes:
        rate[lane.name] = lane.period_ns or rate[lane.trigger]

    done: dict[str, LaneTiming] = {}
    threads: list[ThreadTiming] = []
    for at in range(count):
        mine = [lane for lane, where in zip(lanes, place, strict=True) if where == at]
        share = random.uniform(0.6, 1.6) if stratum == "overload" else random.uniform(0.3, 0.75)
        if core[at]:
            share /= core.count("c")
        weights = random.dirichlet(np.ones(len(mine)))
        for lane, weight in zip(mine, weights, strict=True):
            done[lane.name] = _timed(random, stratum, lane, share * weight * rate[lane.name])
        names = [lane.name for lane in mine]
        if random.random() < 0.5:
            random.shuffle(names)
        else:
            names.sort(key=rate.__getitem__)
        by_arrival: Callable[[], bool] = {
            "fifo policy": lambda: True,
            "priority": lambda: False,
        }.get(stratum, lambda: bool(random.random() < 0.5))
        threads.append(
            ThreadTiming(
                f"t{at}",
                tuple(names),
                "fifo" if by_arrival() else "priority",
                core[at],
                ranks[at] if core[at] else 0,
                "p" if stratum == "interpreter" else "",
            )
        )
    return Timing(tuple(sources), tuple(done[lane.name] for lane in lanes), tuple(threads))


def _timed(random: Random, stratum: str, lane: LaneTiming, worst: float) -> LaneTiming:
    """The lane with execution times."""
    longest = max(2, int(worst))
    shortest = max(1, int(longest * random.uniform(0.3, 1.0)))
    after = int(random.integers(0, shortest // 2 + 1)) if random.random() < 0.4 else 0
    if (not lane.is_actuator and random.random() < 0.8) or after >= shortest:
        after = 0
    held = int(np.ceil(longest * random.uniform(0.05, 1.0))) if stratum == "interpreter" else 0
    return LaneTiming(
        lane.name,
        worst_ns=longest,
        best_ns=shortest,
        period_ns=lane.period_ns,
        late_ns=lane.late_ns,
        trigger=lane.trigger,
        fifo=lane.fifo,
        reads=lane.reads,
        held_ns=held,
        after_ns=after,
        after_best_ns=int(random.integers(0, after + 1)),
        is_actuator=lane.is_actuator,
    )


def small(random: Random) -> Timing:
    """One to four lanes in small numbers, of any kind: what witnesses are looked for in."""
    sources = []
    for at in range(int(random.integers(0, 3))):
        period, low = int(random.integers(3, 20)), int(random.integers(0, 4))
        jitter = int(random.integers(0, period + 2)) * int(random.random() < 0.4)
        drift = int(random.integers(1, 4)) * int(random.random() < 0.2)
        sources.append(SourceTiming(f"s{at}", period, period + drift, low, low + jitter))
    heard = [source.name for source in sources]
    rate = {source.name: source.period_min_ns for source in sources}
    fifo, interpreter = random.random() < 0.3, random.random() < 0.3
    load, lanes = random.choice((0.4, 0.9, 1.5)), list[LaneTiming]()
    count = int(random.integers(1, 5))
    for at in range(count):
        trigger = str(random.choice(heard)) if heard and random.random() < 0.55 else ""
        period = 0 if trigger else int(random.integers(3, 30))
        rate[f"n{at}"] = period or rate[trigger]
        worst = max(1, int(rate[f"n{at}"] * random.uniform(0.1, load)))
        best = int(random.choice((1, max(1, worst // 2), worst)))
        after = int(random.integers(0, best)) if random.random() < 0.25 else 0
        reads = [name for name in heard if name != trigger and random.random() < 0.35]
        lanes.append(
            LaneTiming(
                f"n{at}",
                worst_ns=worst,
                best_ns=best,
                period_ns=period,
                late_ns=int(random.integers(0, period)) if period and random.random() < 0.2 else 0,
                trigger=trigger,
                fifo=int(random.integers(1, 5)) if trigger and fifo else 0,
                reads=tuple(reads),
                held_ns=int(random.integers(1, worst + 1)) if interpreter else 0,
                after_ns=after,
                after_best_ns=int(random.integers(0, after + 1)),
            )
        )
        heard.append(f"n{at}")
    places = [int(place) for place in random.integers(0, random.integers(1, 4), count)]
    cored = random.random() < 0.35
    threads = []
    for at in sorted(set(places)):
        names = [lane.name for lane, place in zip(lanes, places, strict=True) if place == at]
        random.shuffle(names)
        policy: Literal["fifo", "priority"] = "fifo" if random.random() < 0.5 else "priority"
        core = "c" if cored and random.random() < 0.8 else ""
        process = "p" if interpreter else ""
        threads.append(
            ThreadTiming(f"t{at}", tuple(names), policy, core, at + 1 if core else 0, process)
        )
    return Timing(tuple(sources), tuple(lanes), tuple(threads))
