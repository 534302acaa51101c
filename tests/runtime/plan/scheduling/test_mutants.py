"""Every term of the analysis is needed: without it, a stored witness exceeds the bound."""

import pytest
from tests.runtime.plan.scheduling.graphs import STRATA, graph, named
from tests.runtime.plan.scheduling.judge import claims, objective, violated
from tests.runtime.plan.scheduling.model import KINDS, names
from tests.runtime.plan.scheduling.mutants import MUTANTS, Mutant, without
from tests.runtime.plan.scheduling.script import finishes
from tests.runtime.plan.scheduling.search import search
from tests.runtime.plan.scheduling.witness import FOLDER, load

from haihe.runtime.plan.bounds import analyse


@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.name for mutant in MUTANTS])
def test_a_witness_exceeds_the_bound_without_the_term_and_not_with_it(mutant: Mutant) -> None:
    one = load(mutant.name)
    outcome = one.script.play(one.timing)
    assert finishes(one.timing, outcome) == one.finishes
    nodes = names(one.timing)
    source = nodes.index(one.source) if one.source else 0
    found = outcome.value[KINDS.index(one.quantity), nodes.index(one.node), source]
    assert found == one.found
    assert one.of(claims(one.timing, analyse(one.timing))) == one.bound
    assert one.bound is None or one.bound >= found
    assert one.of(claims(one.timing, without(mutant)(one.timing))) == one.without < found


def test_every_witness_has_its_term() -> None:
    assert {path.stem for path in FOLDER.glob("*.json")} == {mutant.name for mutant in MUTANTS}


@pytest.mark.scenario
def test_random_graphs_alone_find_the_common_terms() -> None:
    analyses = {mutant.name: without(mutant) for mutant in MUTANTS}
    alive = set(analyses)
    strata = [stratum for stratum in STRATA if stratum != "interpreter"]
    for number in range(240):
        stratum = strata[number % len(strata)]
        timing = graph(stratum, f"mutants/{number}")
        random = named(f"mutants/{number}")
        worst = search(timing, random, 60, objective(timing, stratum)).worst
        alive = {name for name in alive if not violated(timing, analyses[name](timing), worst)}
    killed = sorted(set(analyses) - alive)
    print(f"\nkilled by random graphs: {len(killed)} of {len(analyses)}: {', '.join(killed)}")
    assert len(killed) >= 12
