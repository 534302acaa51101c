"""From bounds to verdicts: every contract of a plan with its bound, and the chains."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise

import msgspec

from haihe.pipelines.check.flow import Flow
from haihe.pipelines.check.hops import process_name
from haihe.pipelines.check.report import Budget, ChainReport, Part, Promise, Verdict, weakest
from haihe.pipelines.check.timing_of import threads_of, work
from haihe.runtime.graph import Graph
from haihe.runtime.plan.model import EdgePlan, LanePlan, Plan
from haihe.runtime.plan.timing import Bounds, ChainBound, Term, Timing

INTERPRETER = "interpreter"


class Case(msgspec.Struct, frozen=True):
    """What is judged. words: by lane, the verdict of a contract that holds. timing, bounds: None
    where a budget is missing, `missing` says of what."""

    graph: Graph
    plan: Plan
    flow: Flow
    budgets: Mapping[str, Budget]
    words: Mapping[str, Verdict]
    timing: Timing | None
    bounds: Bounds | None
    missing: str = ""

    def word(self, lanes: Iterable[str]) -> Verdict:
        """Of what holds and rests on these lanes."""
        return weakest([verdict for name, verdict in self.words.items() if name in set(lanes)])

    def biggest(self, lane: str) -> str:
        """The node of a lane, or of a thread's lanes, that takes longest."""
        thread = next((t for t in threads_of(self.plan) if t.name == lane), None)
        names = thread.lanes if thread is not None else (lane,)
        steps = [s.name for one in self.plan.lanes if one.name in names for s in one.task.steps]
        return max(steps, key=lambda name: self.budgets[name].ns or 0, default=lane)


# --- contracts --------------------------------------------------------------------------------


def promises(case: Case) -> list[Promise]:
    """Every contract about time of a plan, in the order of its lanes."""
    found: list[Promise] = []
    for lane in case.plan.lanes:
        found += _deadlines(case, lane)
        for step in lane.task.steps:
            for _, number in step.inputs:
                edge = case.plan.edges[number]
                if edge.fresh_ns is not None:
                    found.append(_fresh(case, lane, edge, edge.fresh_ns))
        if lane.task.fifo:
            found.append(_queue(case, lane))
    return found


def _deadlines(case: Case, lane: LanePlan) -> Iterator[Promise]:
    bound, after = None, 0
    if case.bounds is not None and case.timing is not None:
        bound = case.bounds.lanes[lane.name].response_ns
        after = case.timing.lane(lane.name).after_ns
    for step in lane.task.steps:
        if step.deadline_ns is None:
            continue
        line = case.graph.nodes[step.name].line
        ns = None if bound is None else bound - after
        blame = delayer(case, lane)
        problem = _starved(case, lane.name)
        verdict = _judge(case, ns, step.deadline_ns, blame, problem, {lane.name})
        yield Promise("deadline", step.name, line, ns, step.deadline_ns, verdict, blame)


def _queue(case: Case, lane: LanePlan) -> Promise:
    node = lane.task.steps[0].name
    places = None if case.bounds is None else case.bounds.lanes[lane.name].backlog
    if case.bounds is None:
        verdict = Verdict("unbounded", case.missing)
    elif places is None:
        verdict = Verdict("unbounded", f"{lane.name} never catches up")
    elif places > lane.task.fifo:
        verdict = Verdict("fails", f"{places} messages may wait, fifo({lane.task.fifo})")
    else:
        verdict = case.word({lane.name})
    line = case.graph.nodes[node].line
    return Promise("fifo", node, line, places, lane.task.fifo, verdict)


def _fresh(case: Case, lane: LanePlan, edge: EdgePlan, limit: int) -> Promise:
    node = edge.target.rsplit(".", 1)[0]
    line = case.graph.nodes[node].line
    bound, blame, problem = _age(case, lane, edge)
    lanes = {lane.name, *case.flow.lanes_behind(case.flow.owner(edge.source))}
    verdict = _judge(case, bound, limit, blame, problem, lanes)
    return Promise("fresh", edge.target, line, bound, limit, verdict, blame)


def _judge(
    case: Case, bound: int | None, limit: int, blame: str, problem: str, lanes: set[str]
) -> Verdict:
    """lanes: those that the bound rests on."""
    if case.bounds is None:
        return Verdict("unbounded", case.missing)
    if bound is None:
        return Verdict("unbounded", problem)
    if bound > limit:
        return Verdict("fails", f"{blame} +{ms_up(bound - limit)} ms")
    return case.word(lanes)


def ms_up(ns: int) -> str:
    """ms with one decimal, never rounded down: what is over a limit is not shown as nothing."""
    return f"{-(-ns // 100_000) / 10:.1f}"


def _age(case: Case, lane: LanePlan, edge: EdgePlan) -> tuple[int | None, str, str]:
    """The age of an input when its node reads it: bound, its greatest term, why it has none."""
    if case.bounds is None or case.timing is None:
        return None, "", case.missing
    bounds, flow = case.bounds, case.flow
    owner, node = flow.owner(edge.source), edge.target.rsplit(".", 1)[0]
    if flow.states.get(owner) is lane:
        blame = f"bus {owner.split('.')[0]}"
        if bounds.lanes[lane.name].elapsed_ns != case.timing.lane(lane.name).worst_ns:
            blame = INTERPRETER
        return _own_state(case, lane), blame, _starved(case, lane.name)
    found: list[tuple[int | None, str, str]] = []
    reads_at_once = flow.lane_of.get(owner) is lane  # what its writer read in the same firing
    for origin in sorted(flow.origins(node if edge.kind == "aligned" else owner)):
        chain = bounds.chains.get((owner if reads_at_once else node, origin))
        known = [chain.fresh_ns] if chain is not None and (reads_at_once or edge.trigger) else []
        if edge.kind == "aligned":
            known = [
                None if chain is None or chain.fresh_ns is None else chain.fresh_ns + edge.within_ns
            ]
        elif not reads_at_once:
            known.append(bounds.published.get((flow.seen(owner, lane), origin)))
        ages = [age for age in known if age is not None]
        found.append((min(ages, default=None), _blame(case, chain), _problem(case, chain)))
    found = found or [_made_inside(case, owner, lane)]
    return max(found, key=lambda one: float("inf") if one[0] is None else one[0])


def _own_state(case: Case, lane: LanePlan) -> int | None:
    """Of a bus that the lane reads itself: the exchanges, and what keeps the lane meanwhile."""
    assert case.bounds is not None
    assert case.timing is not None
    timing = case.timing.lane(lane.name)
    elapsed = case.bounds.lanes[lane.name].elapsed_ns
    if elapsed is None:
        return None
    return elapsed - work(lane, case.budgets)[0] - timing.after_ns


def _made_inside(case: Case, node: str, reader: LanePlan) -> tuple[int | None, str, str]:
    """Made without any input that ages: as old as the firing that made it, and its hop."""
    assert case.bounds is not None
    assert case.timing is not None
    lane = case.timing.lane(case.flow.lane_of[node].name)
    response = case.bounds.lanes[lane.name].response_ns
    if response is None or not lane.period_ns:
        return None, node, _starved(case, lane.name)
    age = max(1, -(-response // lane.period_ns)) * lane.period_ns + response
    hop = case.flow.seen(node, reader)
    if hop in case.flow.hop_names:
        took = case.bounds.lanes[hop].response_ns
        return (None, node, _starved(case, hop)) if took is None else (age + took, node, "")
    return age, node, ""


def _starved(case: Case, lane: str) -> str:
    if case.bounds is None:
        return case.missing
    by = case.bounds.lanes[lane].starved_by
    return f"{lane} starved by {case.biggest(by)}" if by else ""


def _problem(case: Case, chain: ChainBound | None) -> str:
    if chain is None:
        return "no way of its data is known"
    for name in case.bounds.lanes if case.bounds is not None else ():
        if chain.problem.startswith(f"{name} is starved"):
            return _starved(case, name)
    return chain.problem


def _blame(case: Case, chain: ChainBound | None) -> str:
    parts = _parts(case, chain)
    return max(parts, key=lambda part: part.ns).label if parts else "age"


def delayer(case: Case, lane: LanePlan) -> str:
    """What a lane's response is longest by: its longest node, the interpreter, or its thread."""
    if case.bounds is None or case.timing is None:
        return case.biggest(lane.name)
    found, timing = case.bounds.lanes[lane.name], case.timing.lane(lane.name)
    node = case.biggest(lane.name)
    elapsed = found.elapsed_ns or 0
    shares = {
        node: case.budgets[node].ns or 0 if node in case.budgets else 0,
        INTERPRETER: elapsed - timing.worst_ns,
        queued(case, lane.name): (found.response_ns or 0) - elapsed,
    }
    return max(shares, key=lambda name: shares[name])


def queued(case: Case, lane: str) -> str:
    """What a job waits for before it starts: the others of its thread, or the one before it."""
    assert case.timing is not None
    thread = case.timing.thread_of(lane)
    return f"thread {thread.name}" if len(thread.lanes) > 1 else f"previous {case.biggest(lane)}"


def _parts(case: Case, chain: ChainBound | None) -> list[Part]:
    """The terms of a chain; what a lane waits for is told apart from what it does."""
    found = []
    for term in chain.terms if chain is not None else ():
        is_hop = term.subject in case.flow.hop_names
        if term.kind != "response" or is_hop or case.timing is None or case.bounds is None:
            found.append(Part(label(case, term), term.ns))
            continue
        lane = case.flow.lane_of[term.subject].name
        own = min(term.ns, case.timing.lane(lane).worst_ns)
        elapsed = case.bounds.lanes[lane].elapsed_ns or own
        shared = min(term.ns, elapsed) - own
        found += [
            Part(label(case, term), own),
            Part(INTERPRETER, shared),
            Part(queued(case, lane), term.ns - own - shared),
        ]
    return [part for part in found if part.ns]


def label(case: Case, term: Term) -> str:
    """A term for people."""
    name = term.subject
    if name in case.flow.hop_names:
        return f"hop to {process_name(case.flow.hop_names[name].process)}"
    if term.kind == "frame":
        return "next frame" if name in case.plan.streams else f"next {name}"
    if term.kind == "delivery":
        return "capture→host" if name in case.plan.streams else name
    task = case.flow.lane_of[name].task
    if term.kind == "gap":
        return "next tick" if task.every_ns else f"next {case.biggest(task.name)}"
    return "tick+bus" if task.every_ns and task.buses else case.biggest(task.name)


# --- chains -----------------------------------------------------------------------------------


def chains(case: Case, given: list[Promise]) -> list[ChainReport]:
    """Every chain from a stream to an actuator, or to a node whose outputs nobody ages by."""
    found = []
    for end, actuator in case.flow.ends():
        lane = case.flow.lane_of.get(end)
        if lane is None:
            continue
        for origin in sorted(case.flow.origins(end)):
            if origin in case.flow.states and case.flow.states[origin] is lane:
                continue  # its own bus: the deadline and fresh() say all
            found.append(_chain(case, lane, origin, end, actuator, given))
    return found


def _chain(
    case: Case, lane: LanePlan, origin: str, end: str, actuator: str, given: list[Promise]
) -> ChainReport:
    bound = None if case.bounds is None else case.bounds.chains.get((end, origin))
    way = case.flow.way(origin, end, set(bound.path) if bound is not None else set())
    way = way or case.flow.way(origin, end, set(case.flow.lane_of))
    pairs = set(pairwise(way))
    mine = [p for p in given if p.kind == "fresh" and _pair(case, p) in pairs]
    mine.sort(key=lambda promise: way.index(_pair(case, promise)[1]))
    reading = bound.fresh_ns if bound is not None else None
    last = _last_hop(case, way)
    verdicts = [promise.verdict for promise in mine]
    if bound is None or bound.oldest_ns is None:
        reason = case.missing if case.bounds is None else _problem(case, bound)
        verdicts.append(Verdict("unbounded", reason))
    return ChainReport(
        [*way, actuator] if actuator else way,
        last,
        actuator,
        reading,
        bound.sent_ns if bound is not None else None,
        bound.oldest_ns if bound is not None else None,
        _parts(case, bound),
        mine,
        weakest([*verdicts, case.word(case.flow.lanes_behind(end))]),
    )


def _pair(case: Case, promise: Promise) -> tuple[str, str]:
    node = promise.subject.rsplit(".", 1)[0]
    edge = next(edge for edge in case.plan.edges if edge.target == promise.subject)
    return case.flow.owner(edge.source), node


def _last_hop(case: Case, way: list[str]) -> str:
    """What is read by the first node of the last lane: "faces when aim reads them"."""
    if len(way) < 2:
        return ""
    lane = case.flow.lane_of[way[-1]]
    at = next(i for i, node in enumerate(way[1:], 1) if case.flow.lane_of[node] is lane)
    node = way[at]
    for edge in case.plan.edges:
        if edge.target.rsplit(".", 1)[0] == node and case.flow.owner(edge.source) == way[at - 1]:
            return f"{edge.target.rsplit('.', 1)[1]} when {node} reads"
    return f"{way[at - 1]} when {node} reads"
