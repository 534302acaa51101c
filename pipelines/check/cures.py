"""What would change the bounds: headroom of the budgets, and cures. Only what was analysed again is
told: what looks obvious is often wrong (twice the frame rate can make data older)."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import msgspec

from haihe.pipelines.check.flow import Flow
from haihe.pipelines.check.hops import MAIN
from haihe.pipelines.check.judge import Case, chains, ms_up, promises
from haihe.pipelines.check.report import ChainReport, Cure, Headroom, Promise
from haihe.pipelines.check.timing_of import bound, threads_of, with_hops, work
from haihe.runtime.plan.model import Plan, ThreadPlan
from haihe.runtime.plan.timing import LaneTiming, ThreadTiming, Timing

STEP_NS = 100_000  # what is searched for is told in 0.1 ms
MOST = 4  # headroom is not looked for above so many times a budget
WORTH = 0.10  # a cure that mends nothing must shorten an age by so much
EFFORT = 6_000  # analyses times the square of the lanes, which is how their time grows
LEAST = 6
MOST_PROCESSES = 2


@dataclass
class Changes:
    """Analyses of a case with another timing, each counted."""

    case: Case
    analyses: int = 0

    def with_timing(self, timing: Timing) -> Case:
        """The case with another timing, analysed."""
        self.analyses += 1
        bounds = bound(timing, self.case.flow)
        return msgspec.structs.replace(self.case, timing=timing, bounds=bounds)

    def with_plan(self, plan: Plan) -> Case:
        """The case with its threads in other processes, analysed."""
        self.analyses += 1
        assert self.case.timing is not None
        flow, timing = Flow(plan), with_hops(self.case.timing, plan, self.case.plan)
        return msgspec.structs.replace(
            self.case, plan=plan, flow=flow, timing=timing, bounds=bound(timing, flow)
        )

    @property
    def is_enough(self) -> bool:
        """Whether no more should be spent."""
        assert self.case.timing is not None
        return self.analyses >= max(LEAST, EFFORT // len(self.case.timing.lanes) ** 2)


def _lane(timing: Timing, name: str, change: Callable[[LaneTiming], LaneTiming]) -> Timing:
    lanes = tuple(change(lane) if lane.name == name else lane for lane in timing.lanes)
    return msgspec.structs.replace(timing, lanes=lanes)


def _budget(case: Case, node: str, ns: int) -> Timing:
    """The timing with another budget of one node; it holds the interpreter for the same share."""
    assert case.timing is not None
    old, plan = case.budgets[node], case.flow.lane_of[node]
    held = old.held_ns * ns // (old.ns or 1)
    other = msgspec.structs.replace(old, ns=ns, held_ns=held)
    before, after = work(plan, case.budgets), work(plan, {**case.budgets, node: other})

    def change(lane: LaneTiming) -> LaneTiming:
        return msgspec.structs.replace(
            lane,
            worst_ns=max(1, lane.worst_ns + after[0] - before[0]),
            held_ns=lane.held_ns + after[1] - before[1],
        )

    return _lane(case.timing, plan.name, change)


def _heaviest(case: Case, chain: ChainReport) -> str:
    nodes = [name for name in chain.path if name in case.budgets]
    return max(nodes, key=lambda name: case.budgets[name].ns or 0, default="")


def headroom(changes: Changes, chain: ChainReport, given: list[Promise]) -> Headroom | None:
    """How much the longest node of a chain may take while every promise of the plan holds; None
    where one fails already. Nothing is looked for above four times its budget."""
    case = changes.case
    node = _heaviest(case, chain)
    if not node or not given or not all(promise.verdict.is_well for promise in given):
        return None
    budget = case.budgets[node].ns or 1
    lane = case.flow.lane_of[node].name
    assert case.timing is not None

    def broken(ns: int) -> Promise | None:
        found = promises(changes.with_timing(_budget(case, node, ns)))
        return next((promise for promise in found if not promise.verdict.is_well), None)

    period = _period(case.timing, lane)
    low, high = budget // STEP_NS, MOST * budget // STEP_NS + 1
    if period and budget < period < high * STEP_NS and broken(period // STEP_NS * STEP_NS):
        high = period // STEP_NS  # bounds jump where messages begin to be dropped
    if not broken(high * STEP_NS):
        return Headroom(node, budget, high * STEP_NS, "")
    while high - low > 1 and not changes.is_enough:
        middle = (low + high) // 2
        if broken(middle * STEP_NS):
            high = middle
        else:
            low = middle
    above = (low + 1) * STEP_NS
    breaks = broken(above)
    most = max(budget, low * STEP_NS)
    jump = ""
    if period and most <= period < above + STEP_NS:
        trigger = case.timing.lane(lane).trigger
        jump = "messages are dropped" if trigger else "releases are skipped"
    return Headroom(node, budget, most, _breaking(breaks), jump) if breaks else None


def _breaking(promise: Promise) -> str:
    if promise.bound is None:
        return f"{promise.kind} of {promise.subject} has no bound"
    if promise.kind == "fifo":
        return f"{promise.subject} wants {promise.bound} places"
    return f"{promise.kind} of {promise.subject} would be {ms_up(promise.bound)} ms"


def _period(timing: Timing, lane: str) -> int:
    """The period at which a lane is triggered, 0 where it is another lane's doing."""
    found = timing.lane(lane)
    if found.period_ns:
        return found.period_ns
    return next((s.period_min_ns for s in timing.sources if s.name == found.trigger), 0)


# --- cures ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Try:
    change: str
    to: Timing | Plan
    is_tempting: bool = True  # it looks as if it helped


def cures(changes: Changes, chain: ChainReport | None, given: list[Promise]) -> list[Cure]:
    """Changes that mend a failure, shorten the oldest age by more than a tenth, or look as if they
    would and make it worse. chain: the one that matters, None where no stream reaches an end."""
    found: list[Cure] = []
    case = changes.case
    failing = [promise for promise in given if not promise.verdict.is_well]
    for attempt in _tries(case, chain):
        if changes.is_enough:
            break
        to = attempt.to
        after = changes.with_plan(to) if isinstance(to, Plan) else changes.with_timing(to)
        outcome = promises(after)
        still = [promise for promise in outcome if not promise.verdict.is_well]
        then = _same(chains(after, outcome), chain) if chain is not None else None
        cure = _verdict(attempt.change, chain, then, failing, still)
        if cure is not None and (cure.helps or attempt.is_tempting):
            found.append(cure)
    found += _longer_fresh(failing)
    found += _smaller_budget(changes, chain, failing)
    return sorted(found, key=lambda cure: not cure.helps)


def _same(found: list[ChainReport], chain: ChainReport) -> ChainReport | None:
    ends = (chain.path[0], chain.path[-1])
    return next((one for one in found if (one.path[0], one.path[-1]) == ends), None)


def _verdict(
    change: str,
    before: ChainReport | None,
    after: ChainReport | None,
    failing: list[Promise],
    still: list[Promise],
) -> Cure | None:
    was = before.oldest_ns if before is not None else None
    now = after.oldest_ns if after is not None else None
    ages = f"oldest {_ms(was)} → {_ms(now)} ms"
    if failing and not still:
        return Cure(change, f"all hold, {ages}" if now is not None else "all hold", True)
    worse = {p.subject for p in still} - {p.subject for p in failing}
    if worse:
        return Cure(change, f"{', '.join(sorted(worse))} would fail", False)
    if failing or was is None or now is None or before is None or after is None:
        return None
    if now < was * (1 - WORTH):
        return Cure(change, ages, True)
    read, then = before.reading_ns, after.reading_ns
    if now > was and read is not None and then is not None:
        return Cure(change, f"age at reading rises from {_ms(read)} to {_ms(then)} ms", False)
    return None


def _ms(ns: int | None) -> str:
    return "—" if ns is None else f"{ns / 1e6:.1f}"


def _tries(case: Case, chain: ChainReport | None) -> Iterator[_Try]:
    timing = case.timing
    assert timing is not None
    shared = [thread for thread in timing.threads if len(thread.lanes) > 1]
    for thread in shared:
        longest = sorted(thread.lanes, key=lambda name: -timing.lane(name).worst_ns)
        for lane in longest[: 1 if len(longest) == 2 else 3]:  # of two, either is both
            yield _Try(
                f"a thread of its own for {case.biggest(lane)}", _alone(timing, thread, lane)
            )
    yield from _processes(case)
    if chain is None:
        return
    lanes = dict.fromkeys(case.flow.lane_of[n].name for n in chain.path if n in case.flow.lane_of)
    for name in lanes:
        period = timing.lane(name).period_ns
        if period:
            yield _Try(
                f"{case.biggest(name)} every {_ms(period // 2)} ms",
                _lane(
                    timing, name, lambda x: msgspec.structs.replace(x, period_ns=x.period_ns // 2)
                ),
            )
    for source in timing.sources:
        if source.name.removesuffix(".") != chain.path[0]:
            continue
        for factor in (2.0, 0.5):
            other = msgspec.structs.replace(
                source,
                period_min_ns=round(source.period_min_ns / factor),
                period_max_ns=round(source.period_max_ns / factor),
            )
            if other.latency_max_ns - other.latency_min_ns >= other.period_min_ns:
                continue  # messages could overtake each other
            rate = 2e9 / (other.period_min_ns + other.period_max_ns)
            streams = tuple(other if s is source else s for s in timing.sources)
            changed = msgspec.structs.replace(timing, sources=streams)
            yield _Try(f"{chain.path[0]} at {rate:.3g} Hz", changed, factor > 1)


def _alone(timing: Timing, thread: ThreadTiming, lane: str) -> Timing:
    rest = tuple(name for name in thread.lanes if name != lane)
    threads = [
        msgspec.structs.replace(each, lanes=rest) if each is thread else each
        for each in timing.threads
    ]
    own = ThreadTiming(f"{lane}'s own", (lane,), process=thread.process)
    return msgspec.structs.replace(timing, threads=(*threads, own))


def _processes(case: Case) -> Iterator[_Try]:
    """A process of its own for the threads that hold the interpreter longest, of those that share
    one; without its buses, which stay where they are."""
    threads, timing = threads_of(case.plan), case.timing
    assert timing is not None
    held = {t.name: sum(timing.lane(name).held_ns for name in t.lanes) for t in threads}
    beside = [t for t in threads if sum(t.process == o.process for o in threads) > 1]
    most = 1 if len(beside) == 2 else MOST_PROCESSES  # of two, either is both
    beside = [t for t in beside if held[t.name]]
    for thread in sorted(beside, key=lambda t: -held[t.name])[:most]:
        taken = {*case.plan.processes, MAIN}
        node = case.biggest(thread.name)
        free = next(n for n in (node, thread.name, f"{thread.name}-lane") if n not in taken)
        own = msgspec.structs.replace(thread, process=free.replace("/", "-"))
        moved = tuple(own if t is thread else t for t in threads)
        plan = msgspec.structs.replace(case.plan, threads=moved)
        yield _Try(_said(case, thread, node, own.process), plan, False)


def _said(case: Case, thread: ThreadPlan, node: str, process: str) -> str:
    """How the process is written: in the graph, or for a thread without nodes in the profile."""
    if node not in case.graph.nodes:
        return f"processes: {{{process}: {{threads: [{thread.name}]}}}} in the unit profile"
    if case.graph.file.endswith((".yaml", ".yml")):
        return f"processes: {{{process}: {{nodes: [{node}]}}}} in the graph"
    return f'g.process("{process}", "{node}")'


def _longer_fresh(failing: list[Promise]) -> Iterator[Cure]:
    """Asking for less is always possible: the bound itself, rounded up."""
    for promise in failing[:3]:
        if promise.kind in ("fresh", "deadline") and promise.bound is not None:
            whole = -(-promise.bound // 1_000_000)
            asked = f'fresh("{whole}ms")' if promise.kind == "fresh" else f'deadline="{whole}ms"'
            change = f"{asked} on {promise.subject}"
            yield Cure(change, "all hold" if len(failing) == 1 else "that one holds", True)
        if promise.kind == "fifo" and promise.bound is not None:
            effect = "all hold" if len(failing) == 1 else "that one holds"
            yield Cure(f"fifo({promise.bound}) at {promise.subject}", effect, True)


def _smaller_budget(
    changes: Changes, chain: ChainReport | None, failing: list[Promise]
) -> Iterator[Cure]:
    """How fast the longest node of the chain would have to be."""
    case = changes.case
    node = _heaviest(case, chain) if chain is not None else ""
    if not failing or not node:
        return

    def holds(ns: int) -> bool:
        found = promises(changes.with_timing(_budget(case, node, ns)))
        return all(promise.verdict.is_well for promise in found)

    low, high = 0, (case.budgets[node].ns or 1) // STEP_NS + 1
    if changes.is_enough or not holds(STEP_NS):
        return
    while high - low > 1 and not changes.is_enough:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle * STEP_NS) else (low, middle)
    if low:
        yield Cure(f"{node} in {_ms(low * STEP_NS)} ms or less", "all hold", True)
