"""What went wrong in a recorded run: when, where, for how long. Why: see causes.py.

Kinds: `safe` (a guard left ARMED, or held its joints for want of a command), `stale` (an input was
older than fresh(), too far from its trigger, or absent), `deadline` (published late), `overrun` (a
node took longer than its budget), `raised` (a node raised), `bus` (a device gave no state).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

from haihe.bench.measure.evidence import Evidence, span
from haihe.bench.measure.firings import Bools, LaneColumns
from haihe.bench.measure.witness import GuardHistory, GuardStep
from haihe.runtime.guard import GuardState
from haihe.runtime.plan.codegen import CALLED, NOT_TRIGGERED, OFF, OUTCOMES, RAISED
from haihe.runtime.plan.model import EdgePlan, StepPlan

Kind = Literal["safe", "raised", "bus", "overrun", "deadline", "stale"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True)
class Incident:
    """One thing that went wrong, over firings of a lane that follow each other."""

    kind: Kind
    subject: str  # a role, a node, or an input as `aim.parts`
    lane: str
    row: int  # the first firing
    rows: int  # how many
    t_ns: int
    end_ns: int  # of the first good firing; of the run, where it never got good again
    text: str
    is_over: bool = True
    is_usual: bool = False  # of every start or end: nothing went wrong


def find_incidents(evidence: Evidence) -> list[Incident]:
    """All incidents, by time; those of one time from the cause on."""
    found: list[Incident] = []
    for lane in evidence.lanes.values():
        if not len(lane):
            continue
        for role in lane.buses:
            found += _bus(evidence, lane, role)
        for step in lane.task.steps:
            found += _stale(evidence, lane, step)
            found += _late(evidence, lane, step)
            raised = lane.outcomes[step.name] == RAISED
            found += _spans(evidence, lane, raised, "raised", step.name, "it raised")
    for note in evidence.overruns:
        columns = evidence.lanes.get(note.lane)
        numbers = columns.number if columns is not None else np.zeros(0, np.int64)
        rows = np.flatnonzero(numbers == note.firing)
        text = f"it took {span(note.took_ns)}, budget {span(note.budget_ns)}"
        if note.void:
            text += f"; void meanwhile: {', '.join(note.void)}"
        row = int(rows[0]) if len(rows) else -1
        found.append(Incident("overrun", note.node, note.lane, row, 1, note.t_ns, note.t_ns, text))
    for history in evidence.account.guards.values():
        found += _safe(evidence, history)
    order = {kind: place for place, kind in enumerate(("bus", "overrun", "raised", "deadline",
                                                       "stale", "safe"))}  # fmt: skip
    return sorted(found, key=lambda incident: (incident.t_ns, order[incident.kind]))


def _spans(
    evidence: Evidence, lane: LaneColumns, where: Bools, kind: Kind, subject: str, text: str
) -> Iterator[Incident]:
    change = np.flatnonzero(np.diff(np.concatenate(([False], where, [False])).astype(np.int8)))
    for first, after in zip(change[::2].tolist(), change[1::2].tolist(), strict=True):
        is_over = after < len(lane)
        end = int(lane.clock[after]) if is_over else evidence.end_ns
        yield Incident(
            kind, subject, lane.name, first, after - first, int(lane.clock[first]), end, text,
            is_over,
        )  # fmt: skip


def _bus(evidence: Evidence, lane: LaneColumns, role: str) -> Iterator[Incident]:
    errors = evidence.errors(role)
    where = np.zeros(len(lane), bool)
    where[list(errors)] = True
    for found in _spans(evidence, lane, where, "bus", role, ""):
        yield replace(found, text=errors[found.row])


def _late(evidence: Evidence, lane: LaneColumns, step: StepPlan) -> Iterator[Incident]:
    if step.deadline_ns is None:
        return
    took = lane.end - lane.release
    where = (took > step.deadline_ns) & (lane.outcomes[step.name] == CALLED)
    for found in _spans(evidence, lane, where, "deadline", step.name, ""):
        worst = int(took[found.row : found.row + found.rows].max())
        first = int(took[found.row])
        most = f", up to {span(worst)}" if worst > first else ""
        text = f"published {span(first)} after its release{most}, deadline {span(step.deadline_ns)}"
        yield replace(found, text=text)


def _stale(evidence: Evidence, lane: LaneColumns, step: StepPlan) -> Iterator[Incident]:
    if step.select:  # of what it takes over, each node is told of
        return
    outcome = lane.outcomes[step.name]
    asked = (outcome != NOT_TRIGGERED) & (outcome != OFF)
    for port, edge in evidence.inputs(step):
        if edge.kind in ("loop", "goal"):
            continue
        yield from _input(evidence, lane, asked, edge, f"{step.name}.{port}")
        if edge.kind == "aligned" and "unaligned" in OUTCOMES:
            apart = outcome == OUTCOMES.index("unaligned")
            text = f"{edge.source} not within {span(edge.within_ns)} of the trigger"
            yield from _spans(evidence, lane, apart, "stale", f"{step.name}.{port}", text)


def _input(
    evidence: Evidence, lane: LaneColumns, asked: Bools, edge: EdgePlan, subject: str
) -> Iterator[Incident]:
    seen = evidence.lineage.samples(lane.name, edge.source)
    absent = asked & (seen.sequence == 0)
    without = "; called without it" if edge.on_stale == "call" else ""
    text = f"no {edge.source} yet{without}"
    for found in _spans(evidence, lane, absent, "stale", subject, text):
        # before the first message: of every start, when the message came
        yield replace(found, is_usual=found.is_over)
    if edge.fresh_ns is None:
        return
    age = lane.clock - seen.origin
    stale = asked & (seen.sequence > 0) & (seen.origin > 0) & (age > edge.fresh_ns)
    for found in _spans(evidence, lane, stale, "stale", subject, ""):
        first = int(age[found.row])
        worst = int(age[found.row : found.row + found.rows].max())
        most = f", up to {span(worst)}" if worst > first else ""
        text = f"{edge.source} {span(first)} old{most}, limit {span(edge.fresh_ns)}{without}"
        yield replace(found, text=text)


def _safe(evidence: Evidence, history: GuardHistory) -> Iterator[Incident]:
    """Spans of one guard state that is not ARMED, from the first arming on."""
    before = GuardState.DISARMED
    steps = history.steps
    at = 0
    while at < len(steps):
        after = at
        while after < len(steps) and steps[after].state is steps[at].state:
            after += 1
        state = steps[at].state
        is_left = before is GuardState.ARMED or state in (GuardState.STALE, GuardState.SAFE)
        if state is not GuardState.ARMED and is_left:
            yield _guard_span(evidence, history, before, steps, at, after)
        before = state
        at = after


def _guard_span(
    evidence: Evidence, history: GuardHistory, before: GuardState, steps: list[GuardStep],
    at: int, after: int,
) -> Incident:  # fmt: skip
    first = steps[at]
    is_over = after < len(steps) and not steps[after].is_stop
    end = steps[after].t_ns if after < len(steps) else evidence.end_ns
    usual, text = False, f"{before.name} -> {first.state.name}"
    if first.state is GuardState.SAFE:
        text += f": {first.reason or 'reason not recorded'}"
        usual = first.is_stop  # the stop of a run trips every guard
    elif first.state is GuardState.STALE and before is not GuardState.ARMED:
        text += ": armed, no command yet"
        usual = is_over
    if first.actions and not any(first.actions):
        text += "; nothing is sent"
    elif first.state is not GuardState.DISARMED:
        text += f"; {history.safe_actions()}"
    lane = evidence.lanes[history.lane]
    row = int(np.searchsorted(lane.end, first.t_ns)) if not first.is_stop else len(lane) - 1
    return Incident(
        "safe", history.role, history.lane, min(row, len(lane) - 1), after - at, first.t_ns, end,
        text, is_over, usual,
    )  # fmt: skip
