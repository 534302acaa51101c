"""Look for the witnesses of terms, shrink them and store them.

    python -m tests.runtime.plan.scheduling.find [TERM ...] [--graphs 2000] [--seed 0]

Without a term: of all that have none yet. A witness that is there is replaced by a smaller one.
"""

import argparse
import signal
from collections.abc import Callable, Iterator

import msgspec
import numpy as np
from tests.runtime.plan.scheduling.graphs import named, small
from tests.runtime.plan.scheduling.judge import Claim, claims
from tests.runtime.plan.scheduling.model import KINDS, NEVER, Run, names
from tests.runtime.plan.scheduling.mutants import MUTANTS, without
from tests.runtime.plan.scheduling.script import COLUMNS, Script, finishes
from tests.runtime.plan.scheduling.search import Quantity, horizon_of, search
from tests.runtime.plan.scheduling.witness import FOLDER, Witness, load, source_name

from haihe.runtime.plan.bounds import analyse
from haihe.runtime.plan.timing import Bounds, LaneTiming, Timing

Analysis = Callable[[Timing], Bounds]


def scripted(timing: Timing, run: Run, horizon: int) -> Script:
    """The run by names."""
    lanes = [lane.name for lane in timing.lanes]
    sources = [source.name for source in timing.sources]

    def rows(keys: list[str], table: np.ndarray) -> dict[str, list[int]]:
        wrapped = np.tile(table, 1 + COLUMNS // table.shape[1])[:, :COLUMNS]
        return dict(zip(keys, wrapped.tolist(), strict=True))

    return Script(
        horizon,
        dict(zip(sources, run.source_phase.tolist(), strict=True))
        | dict(zip(lanes, run.lane_phase.tolist(), strict=True)),
        rows(lanes, run.execution),
        rows(lanes, run.after),
        rows(sources, run.interval),
        rows(sources, run.latency),
        rows(lanes, run.late),
        [timing.threads[at].name for at in run.holders],
        run.slice,
        bool(run.keeps),
    )


def shown(timing: Timing, script: Script, claim: Claim) -> int:
    """What a script shows of a claim's quantity."""
    return int(script.play(timing).value[claim.kind, claim.node, claim.source])


def witness(
    term: str, analysis: Analysis, timing: Timing, script: Script, claim: Claim
) -> Witness | None:
    """The witness, if the script is one against that claim's quantity."""
    true = {c[:3]: c.bound for c in claims(timing, analyse(timing))}
    wrong = {c[:3]: c.bound for c in claims(timing, analysis(timing))}
    place = claim[:3]
    outcome = script.play(timing)
    found = int(outcome.value[place])
    if place not in wrong or not wrong[place] < found <= true.get(place, NEVER):
        return None
    if outcome.jobs.max() >= COLUMNS:
        return None
    nodes = names(timing)
    return Witness(
        term,
        KINDS[claim.kind],
        nodes[claim.node],
        source_name(claim, timing),
        found,
        wrong[place],
        true.get(place),
        timing,
        script,
        finishes(timing, outcome),
    )


def simpler(one: Witness) -> Iterator[tuple[Timing, Script]]:
    """Simpler graphs and runs, the best first."""
    timing, script = one.timing, one.script
    used = {lane.trigger for lane in timing.lanes} | {n for x in timing.lanes for n in x.reads}
    used.add(one.node)
    for lane in timing.lanes:
        if lane.name not in used:
            fewer = _without_lane(timing, lane)
            known = {thread.name for thread in fewer.threads}
            holders = [name for name in script.holders if name in known]
            yield fewer, msgspec.structs.replace(script, holders=holders)
        for read in lane.reads:
            rest = tuple(name for name in lane.reads if name != read)
            yield _with_lane(timing, msgspec.structs.replace(lane, reads=rest)), script
    for source in timing.sources:
        if source.name not in used | {one.source}:
            rest_of = tuple(s for s in timing.sources if s is not source)
            yield msgspec.structs.replace(timing, sources=rest_of), script
    if script.late:
        yield timing, msgspec.structs.replace(script, late={})
    if script.interval:
        yield timing, msgspec.structs.replace(script, interval={})
    for field in ("after", "latency", "execution"):
        rows = getattr(script, field)
        if rows:
            yield timing, msgspec.structs.replace(script, **{field: {}})
        for name in rows:
            rest_rows = {key: row for key, row in rows.items() if key != name}
            yield timing, msgspec.structs.replace(script, **{field: rest_rows})
    for lane in timing.lanes:
        for change in ({"late_ns": 0}, {"after_ns": 0, "after_best_ns": 0}, {"after_best_ns": 0}):
            changed = msgspec.structs.replace(lane, **change)
            if changed != lane:
                yield _with_lane(timing, changed), script
    for at, period in script.phases.items():
        if period:
            phases = script.phases | {at: 0}
            yield timing, msgspec.structs.replace(script, phases=phases)
    if script.slice_ns > 1 or script.holders:
        yield timing, msgspec.structs.replace(script, holders=[], slice_ns=1)
    if script.keeps:
        yield timing, msgspec.structs.replace(script, keeps=False)
    for horizon in range(1, script.horizon_ns):
        yield timing, msgspec.structs.replace(script, horizon_ns=horizon)


def _with_lane(timing: Timing, changed: LaneTiming) -> Timing:
    lanes = tuple(changed if lane.name == changed.name else lane for lane in timing.lanes)
    return msgspec.structs.replace(timing, lanes=lanes)


def _without_lane(timing: Timing, gone: LaneTiming) -> Timing:
    threads = [
        msgspec.structs.replace(t, lanes=tuple(name for name in t.lanes if name != gone.name))
        for t in timing.threads
    ]
    lanes = tuple(lane for lane in timing.lanes if lane is not gone)
    return Timing(timing.sources, lanes, tuple(thread for thread in threads if thread.lanes))


def shrunk(one: Witness, analysis: Analysis) -> Witness:
    """The same term's, as small as single steps make it."""
    is_shrinking = True
    while is_shrinking:
        is_shrinking = False
        for timing, script in simpler(one):
            nodes = names(timing)
            source = nodes.index(one.source) if one.source else 0
            claim = Claim(KINDS.index(one.quantity), nodes.index(one.node), source, 0)
            better = witness(one.term, analysis, timing, script, claim)
            if better is not None:
                one, is_shrinking = better, True
                break
    return _trimmed(one)


def _trimmed(one: Witness) -> Witness:
    """Lists as long as there are jobs or captures that use them."""
    script, most = one.script, one.script.horizon_ns
    rows = {
        field: {name: _cut(row, most) for name, row in getattr(script, field).items()}
        for field in ("execution", "after", "interval", "latency", "late")
    }
    for field in ("execution", "after"):
        for name, row in rows[field].items():
            rows[field][name] = _cut(row, len(one.finishes.get(name, ())) + 1)
    known = set(names(one.timing))
    phases = {name: phase for name, phase in script.phases.items() if phase and name in known}
    rows = {field: {n: r for n, r in each.items() if n in known} for field, each in rows.items()}
    trimmed = msgspec.structs.replace(script, phases=phases, **rows)
    assert finishes(one.timing, trimmed.play(one.timing)) == one.finishes
    return msgspec.structs.replace(one, script=trimmed)


def _cut(row: list[int], most: int) -> list[int]:
    row = row[:most]
    while len(row) > 1 and row[-1] == row[-2]:
        row = row[:-1]
    return row


def size(one: Witness) -> tuple[int, int, int]:
    """Smaller is better: what an executor cannot be given first."""
    awkward = len(one.script.late) + len(one.script.interval)
    return awkward, len(one.timing.lanes) + len(one.timing.sources), one.script.horizon_ns


def _too_long(*_: object) -> None:
    raise TimeoutError


def bounded(timing: Timing, analysis: Analysis) -> dict[tuple[int, int, int], int]:
    """Every finite bound by its place; none if the analysis takes long."""
    signal.alarm(2)
    try:
        return {(c.kind, c.node, c.source): c.bound for c in claims(timing, analysis(timing))}
    except TimeoutError:
        return {}
    finally:
        signal.alarm(0)


def look(terms: dict[str, Analysis], graphs: int, seed: str) -> Iterator[Witness]:
    """Witnesses of these terms among small random graphs: where the term makes a difference."""
    signal.signal(signal.SIGALRM, _too_long)
    for number in range(graphs):
        random = named(f"{seed}/{number}")
        timing = small(random)
        true = bounded(timing, analyse)
        for term, analysis in list(terms.items()):
            wrong = bounded(timing, analysis)
            places = [at for at, bound in wrong.items() if bound < true.get(at, NEVER)]
            if not places or not true:
                continue
            aim = Quantity(*places[int(random.integers(len(places)))])
            seen: list[tuple[Run, np.ndarray]] = []
            found = search(timing, random, 150, aim, seen)
            shows = [at for at in places if wrong[at] < found.worst[at] <= true.get(at, NEVER)]
            if shows:
                run = max(seen, key=lambda one: int(one[1][shows[0]]))[0]
                claim = Claim(*shows[0], 0)
                script = scripted(timing, run, horizon_of(timing))
                one = witness(term, analysis, timing, script, claim)
                if one is not None:
                    yield shrunk(one, analysis)


def main() -> None:
    """Find, and say what has none."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("terms", nargs="*", metavar="TERM")
    options.add_argument("--graphs", type=int, default=2000)
    options.add_argument("--seed", default="0")
    options.add_argument("--each", type=int, default=4, help="witnesses of a term to choose from")
    given = options.parse_args()
    wanted = given.terms or [m.name for m in MUTANTS if not (FOLDER / f"{m.name}.json").exists()]
    terms = {mutant.name: without(mutant) for mutant in MUTANTS if mutant.name in wanted}
    left = dict.fromkeys(terms, given.each)
    for one in look(terms, given.graphs, given.seed):
        stored = FOLDER / f"{one.term}.json"
        if not stored.exists() or size(one) < size(load(one.term)):
            one.save()
            print(
                f"{one.term}: {one.quantity} at {one.node} {one.without} < {one.found}", flush=True
            )
        left[one.term] -= 1
        if left[one.term] <= 0:
            terms.pop(one.term, None)
    missing = [name for name in wanted if not (FOLDER / f"{name}.json").exists()]
    print(f"without a witness: {', '.join(missing) or 'none'}")


if __name__ == "__main__":
    main()
