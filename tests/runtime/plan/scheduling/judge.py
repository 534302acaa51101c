"""Bounds against what the adversary finds, for graphs of a stratum."""

import zlib
from typing import NamedTuple

import msgspec
import numpy as np
from tests.runtime.plan.scheduling.graphs import graph, named
from tests.runtime.plan.scheduling.model import (
    BACKLOG,
    ELAPSED,
    FRESH,
    KINDS,
    OLDEST,
    PUBLISHED,
    RESPONSE,
    SENT,
    Ints,
    names,
)
from tests.runtime.plan.scheduling.search import Quantity, search

from haihe.runtime.plan.bounds import analyse
from haihe.runtime.plan.timing import Bounds, Timing


class Claim(NamedTuple):
    """A bound and where the model keeps what it bounds."""

    kind: int
    node: int
    source: int
    bound: int

    def text(self, timing: Timing) -> str:
        of = f" of {timing.sources[self.source].name}" if self.kind >= FRESH else ""
        return f"{KINDS[self.kind]}{of} at {names(timing)[self.node]}"


class Verdict(NamedTuple):
    """Of one graph. age: found/bound of the objective, None: unbounded. responses: of lanes."""

    stratum: str
    name: str
    violations: list[str]
    age: float | None
    responses: list[float]
    backlogs: list[float]


def claims(timing: Timing, bounds: Bounds) -> list[Claim]:
    """Every finite bound of an analysis."""
    node = {name: at for at, name in enumerate(names(timing))}
    given: list[tuple[int, int, int, int | None]] = []
    for name, lane in bounds.lanes.items():
        given.append((RESPONSE, node[name], 0, lane.response_ns))
        given.append((ELAPSED, node[name], 0, lane.elapsed_ns))
        given.append((BACKLOG, node[name], 0, lane.backlog))
    for (name, source), chain in bounds.chains.items():
        given.append((FRESH, node[name], node[source], chain.fresh_ns))
        given.append((SENT, node[name], node[source], chain.sent_ns))
        given.append((OLDEST, node[name], node[source], chain.oldest_ns))
    for (name, source), age in bounds.published.items():
        given.append((PUBLISHED, node[name], node[source], age))
    return [Claim(kind, at, s, bound) for kind, at, s, bound in given if bound is not None]


def violated(timing: Timing, bounds: Bounds, worst: Ints) -> list[str]:
    """What was found above its bound, to the tick."""
    return [
        f"{claim.text(timing)}: found {found}, bound {claim.bound}"
        for claim in claims(timing, bounds)
        if (found := int(worst[claim.kind, claim.node, claim.source])) > claim.bound
    ]


def objective(timing: Timing, name: str) -> Quantity:
    """The oldest age at the last lane, of one of the sources that reach it."""
    heard: set[str] = {timing.lanes[-1].name}
    for lane in reversed(timing.lanes):
        if lane.name in heard:
            heard |= {lane.trigger, *lane.reads}
    sources = [at for at, source in enumerate(timing.sources) if source.name in heard]
    source = sources[zlib.crc32(name.encode()) % len(sources)]
    return Quantity(OLDEST, len(timing.sources) + len(timing.lanes) - 1, source)


def judge(stratum: str, name: str, runs: int) -> Verdict:
    """Search a graph for the worst age at its actuator, and compare all that was seen."""
    timing = graph(stratum, name)
    bounds = analyse(timing)
    aim = objective(timing, name)
    found = search(timing, named(f"search {stratum}/{name}"), runs, aim)
    ratio: dict[int, list[float]] = {RESPONSE: [], BACKLOG: []}
    age = None
    for claim in claims(timing, bounds):
        seen = int(found.worst[claim.kind, claim.node, claim.source])
        if claim[:3] == aim:
            age = seen / claim.bound
        elif claim.kind in ratio and seen >= 0:
            ratio[claim.kind].append(seen / claim.bound)
    wrong = violated(timing, bounds, found.worst)
    return Verdict(stratum, name, wrong, age, ratio[RESPONSE], ratio[BACKLOG])


def as_json(stratum: str, name: str) -> str:
    """The graph, for a report of a violation."""
    return msgspec.json.encode(graph(stratum, name)).decode()


def tenths(values: list[float]) -> tuple[float, float, float]:
    """The 10th, 50th and 90th percentile; nan of nothing."""
    if not values:
        return (float("nan"),) * 3
    low, middle, high = np.percentile(values, (10, 50, 90))
    return float(low), float(middle), float(high)
