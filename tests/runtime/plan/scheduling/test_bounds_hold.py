"""No bound of the analysis is exceeded by what the adversary finds, and the bounds are near it."""

from typing import NamedTuple

import msgspec
import numpy as np
import pytest
from tests.runtime.plan.scheduling.figures import GRAPHS, HEAD, RUNS, judged, row
from tests.runtime.plan.scheduling.graphs import STRATA, named, small
from tests.runtime.plan.scheduling.judge import Verdict, as_json, claims, violated
from tests.runtime.plan.scheduling.search import Quantity, search

from haihe.runtime.plan.bounds import analyse


class Gate(NamedTuple):
    """The least of found/bound: median and 10th percentile of the oldest age, 90th percentile of
    the responses."""

    median: float
    low: float = 0.0
    response: float = 0.85


GATES = {
    "fused": Gate(0.90, 0.75),
    "priority": Gate(0.70),
    "fifo policy": Gate(0.70),
    "fifo(8) edges": Gate(0.70),
    "overload": Gate(0.55),
    "shared core": Gate(0.70),
    # asked were 0.45 and 0.85, from an analysis that `carried-jobs` refutes; counting no job that
    # is under way when a window begins, which is unsound, gives a median of 0.44 only
    "interpreter": Gate(0.28, response=0.6),
}
UNBOUNDED_SHARE = 0.30


def violations(verdicts: list[Verdict]) -> list[str]:
    """With the graph, for whoever has to find out why."""
    return [
        f"{one.stratum} {one.name}: {'; '.join(one.violations)}\n{as_json(one.stratum, one.name)}"
        for one in verdicts
        if one.violations
    ]


@pytest.mark.parametrize("stratum", STRATA)
def test_bounds_hold_on_a_few_graphs(stratum):
    verdicts = judged("few", stratum, graphs=10, runs=50)
    assert violations(verdicts) == []
    assert any(verdict.age is not None for verdict in verdicts)


def small_violations(block: str, graphs: int) -> list[str]:
    """Graphs of a few lanes with every feature at once, any of their quantities as the aim."""
    wrong = []
    for number in range(graphs):
        random = named(f"{block}/{number}")
        timing = small(random)
        bounds = analyse(timing)
        given = claims(timing, bounds)
        if given:
            aim = Quantity(*given[int(random.integers(len(given)))][:3])
            found = violated(timing, bounds, search(timing, random, 100, aim).worst)
            wrong += [f"{text}\n{msgspec.json.encode(timing).decode()}" for text in found]
    return wrong


def test_bounds_hold_on_small_graphs_of_any_kind():
    assert small_violations("few", 100) == []


@pytest.mark.scenario
def test_bounds_hold_on_many_small_graphs_of_any_kind():
    assert small_violations("f1", 1500) == []


@pytest.mark.scenario
@pytest.mark.parametrize("stratum", STRATA)
def test_bounds_hold_and_are_near_what_is_found(stratum):
    verdicts = judged("first", stratum, GRAPHS, RUNS)
    print(f"\n{HEAD}\n{row(verdicts)}")
    assert violations(verdicts) == []
    ages = [verdict.age for verdict in verdicts if verdict.age is not None]
    assert len(ages) >= 100
    assert 1 - len(ages) / len(verdicts) <= UNBOUNDED_SHARE
    assert np.median(ages) >= GATES[stratum].median
    assert np.percentile(ages, 10) >= GATES[stratum].low
    assert (
        np.percentile([r for one in verdicts for r in one.responses], 90) >= GATES[stratum].response
    )
