"""The model that judges the analysis does what the virtual executor does, to the tick."""

import msgspec
import pytest
from tests.runtime.plan.scheduling.graphs import STRATA, graph, named
from tests.runtime.plan.scheduling.model import arrays, simulate
from tests.runtime.plan.scheduling.product import is_alone, play
from tests.runtime.plan.scheduling.script import finishes
from tests.runtime.plan.scheduling.search import horizon_of, random_run
from tests.runtime.plan.scheduling.witness import FOLDER, load

from haihe.runtime.plan.timing import Timing

NOT_PLAYED = {"published-while-it-runs"}  # a bus's write that shares an interpreter


def without_buses(timing: Timing) -> Timing:
    """Nothing after publication, but where the product has it."""
    lanes = [
        lane
        if lane.period_ns and is_alone(timing, lane)
        else msgspec.structs.replace(lane, after_ns=0, after_best_ns=0)
        for lane in timing.lanes
    ]
    return msgspec.structs.replace(timing, lanes=tuple(lanes))


@pytest.mark.parametrize("stratum", STRATA)
def test_random_runs_finish_at_equal_times(stratum: str) -> None:
    jobs = 0
    for number in range(30):
        timing = without_buses(graph(stratum, f"product {number}"))
        run = random_run(timing, named(f"product {stratum} {number}"))
        horizon = min(horizon_of(timing), 40_000)
        wanted = finishes(timing, simulate(arrays(timing), run, horizon, logged=10_000))
        assert play(timing, run, horizon) == wanted, (stratum, number)
        jobs += sum(map(len, wanted.values()))
    assert jobs > 20 * 30


TERMS = sorted({path.stem for path in FOLDER.glob("*.json")} - NOT_PLAYED)


@pytest.mark.parametrize("term", TERMS)
def test_every_witness_finishes_at_equal_times(term: str) -> None:
    one = load(term)
    run = one.script.run(one.timing)
    assert play(one.timing, run, one.script.horizon_ns) == one.finishes


def test_what_is_not_played_writes_a_bus_on_shared_ground() -> None:
    for term in NOT_PLAYED:
        timing = load(term).timing
        assert any(lane.after_ns and not is_alone(timing, lane) for lane in timing.lanes)
