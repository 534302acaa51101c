"""One moment of a recorded run in full: what was acted on, how old it was, what the guards did."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from haihe.bench.measure.causes import causes
from haihe.bench.measure.descent import Origin, descend
from haihe.bench.measure.evidence import Evidence
from haihe.bench.measure.incidents import KINDS, Incident
from haihe.bench.measure.reasons import Cause
from haihe.bench.measure.witness import GuardHistory, GuardStep
from haihe.runtime.guard import GuardState
from haihe.runtime.plan.codegen import CALLED
from haihe.runtime.record.format import FIRING, Event


@dataclass(frozen=True)
class Age:
    """An age (or a response) and its limit."""

    what: str
    ns: int
    limit_ns: int | None

    @property
    def is_over(self) -> bool:
        """Beyond its limit."""
        return self.limit_ns is not None and self.ns > self.limit_ns


@dataclass
class Acted:
    """What a bus was told, and what that came from."""

    role: str
    lane: str
    firing: int
    is_obeyed: bool
    origins: list[Origin]
    first_byte_ns: int  # 0: nothing was sent
    last_byte_ns: int
    sent: list[str]  # hex
    problem: str  # of the bus in this firing


@dataclass
class Joint:
    """Of a guard's step, in µrad; None: not known."""

    name: str
    action: str
    command: int | None
    measured: int | None
    sent: int | None
    low: int
    high: int
    slew: int
    safe: str


@dataclass
class GuardView:
    """A guard in one step."""

    role: str
    before: str
    state: str
    since_ns: int  # of this state
    reasons: tuple[str, ...]
    latched_by: str
    command_age_ns: int
    joints: list[Joint]


@dataclass
class LaneView:
    """A firing of a lane, the last released by then."""

    lane: str
    firing: int
    release_ns: int
    clock_ns: int
    end_ns: int
    next_release_ns: int  # 0: none
    consumed: dict[str, int]
    outcomes: dict[str, str]
    events: list[Event]


@dataclass
class Story:
    """A moment. Stamps are absolute, monotonic ns; `start_ns` is the first release."""

    t_ns: int
    start_ns: int
    incident: Incident | None
    under_way: list[Incident]
    chain: list[Cause]
    acted: list[Acted] = field(default_factory=list)
    ages: list[Age] = field(default_factory=list)
    guards: list[GuardView] = field(default_factory=list)
    lanes: list[LaneView] = field(default_factory=list)
    not_recorded: list[str] = field(default_factory=list)


def tell(
    evidence: Evidence, t_ns: int, incidents: Sequence[Incident], incident: Incident | None = None
) -> Story:
    """The story of a moment; without an incident, of the gravest that is under way then."""
    under_way = [i for i in incidents if i.t_ns <= t_ns < max(i.end_ns, i.t_ns + 1)]
    if incident is None and under_way:
        incident = min(under_way, key=lambda i: (i.is_usual, KINDS.index(i.kind)))
    chain = causes(evidence, incident) if incident is not None else []
    story = Story(t_ns, evidence.start_ns, incident, under_way, chain)
    for name, lane in evidence.lanes.items():
        row = _row(evidence, name, t_ns, story.incident)
        if row < 0:
            story.not_recorded.append(f"lane {name}: no firing up to then")
            continue
        story.lanes.append(_lane(evidence, name, row))
        story.ages += _ages(evidence, name, row)
        for bus in lane.task.buses:
            if bus.command_edge >= 0:
                _bus(evidence, story, name, row, bus.role, bus.command_edge)
    story.not_recorded += _not_recorded(evidence)
    return story


def _row(evidence: Evidence, lane: str, t_ns: int, incident: Incident | None) -> int:
    if incident is not None and incident.lane == lane and incident.t_ns == t_ns:
        return incident.row
    released = evidence.lanes[lane].release <= t_ns
    return int(released.sum()) - 1


def _lane(evidence: Evidence, name: str, row: int) -> LaneView:
    lane = evidence.lanes[name]
    firings = [r for r in evidence.recording.lanes[name] if r.kind == FIRING]
    after = int(lane.release[row + 1]) if row + 1 < len(lane) else 0
    return LaneView(
        name, int(lane.number[row]), int(lane.release[row]), int(lane.clock[row]),
        int(lane.end[row]), after,
        {source: int(sequence[row]) for source, sequence in lane.reads.items()},
        {step.name: evidence.outcome(name, row, step.name) for step in lane.task.steps},
        list(firings[row].events),
    )  # fmt: skip


def _ages(evidence: Evidence, name: str, row: int) -> list[Age]:
    lane, found = evidence.lanes[name], []
    for step in lane.task.steps:
        outcome = evidence.outcome(name, row, step.name)
        for port, edge in evidence.inputs(step):
            seen = evidence.lineage.samples(name, edge.source)
            is_asked = outcome not in ("not triggered", "off") and not step.select
            if edge.kind == "loop" or not is_asked or not seen.origin[row]:
                continue
            age = int(lane.clock[row] - seen.origin[row])
            found.append(Age(f"{step.name}.{port} ({edge.source})", age, edge.fresh_ns))
        if step.deadline_ns is not None and int(lane.outcomes[step.name][row]) == CALLED:
            response = int(lane.end[row] - lane.release[row])
            found.append(Age(f"{step.name}: release to publication", response, step.deadline_ns))
    return found


def _bus(
    evidence: Evidence, story: Story, name: str, row: int, role: str, command_edge: int
) -> None:
    lane = evidence.lanes[name]
    source = evidence.recording.plan.edges[command_edge].source
    made = int(evidence.lineage.samples(name, source).made[row])
    history = evidence.account.guards.get(role)
    step = None
    if history is not None:
        if made:
            age = Age(f"command of {role} ({source})", int(lane.end[row]) - made,
                      history.command_age_ns)  # fmt: skip
            story.ages.append(age)
        end = int(lane.end[row])
        if story.incident is not None and story.incident.subject == role:
            end = max(end, story.incident.t_ns)  # of a stop: after the last firing
        place = next((i for i, s in enumerate(history.steps) if s.t_ns == end), None)
        if place is not None:
            step = history.steps[place]
            story.guards.append(_guard(history, place))
    bus = lane.buses[role]
    firings = [r for r in evidence.recording.lanes[name] if r.kind == FIRING]
    index = next(i for i, b in enumerate(lane.task.buses) if b.role == role)
    sent = [
        exchange.tx.hex()
        for number, exchange, reply in firings[row].exchanges
        if number == index and not reply.error and reply.t_sent_ns >= lane.clock[row]
    ]
    is_obeyed = step is not None and step.state is GuardState.ARMED
    acted = Acted(
        role, name, int(lane.number[row]), is_obeyed, [], int(bus.first_byte[row]),
        int(bus.last_byte[row]), sent, evidence.errors(role).get(row, ""),
    )  # fmt: skip
    descend(evidence, acted.origins, name, row, source, "command")
    story.acted.append(acted)


def _guard(history: GuardHistory, place: int) -> GuardView:
    steps = history.steps
    step = steps[place]
    before: GuardStep | None = steps[place - 1] if place else None
    first = place
    while first and steps[first - 1].state is step.state:
        first -= 1

    def of(values: tuple[int, ...] | None, joint: int) -> int | None:
        return values[joint] if values and joint < len(values) else None

    joints = [
        Joint(
            rule.name, step.actions[i].name.lower() if step.actions else "", of(step.command, i),
            of(step.measured, i), of(step.sent, i), rule.low, rule.high, rule.slew,
            rule.safe.name.lower(),
        )
        for i, rule in enumerate(history.rules)
    ]  # fmt: skip
    return GuardView(
        history.role, before.state.name if before is not None else "", step.state.name,
        steps[first].t_ns, step.flags, step.reason, history.command_age_ns, joints,
    )  # fmt: skip


def _not_recorded(evidence: Evidence) -> list[str]:
    found = []
    recording, account = evidence.recording, evidence.account
    if account.why_not_replayed:
        found.append(
            f"guards are told from the record alone ({account.why_not_replayed}): positions, and "
            "which limits acted, are not in it"
        )
    if not recording.complete:
        found.append("the end of the recording is cut off")
    if recording.dropped_bytes:
        found.append(f"{recording.dropped_bytes} bytes are damaged and were left out")
    if evidence.unread_notes:
        found.append(f"{evidence.unread_notes} notes of overruns are of a form not known here")
    for name, lane in evidence.lanes.items():
        if lane.gap < len(lane):
            found.append(f"lane {name} has a gap after firing {int(lane.number[lane.gap])}")
    return found


def as_data(story: Story) -> dict[str, Any]:
    """The story as plain values for JSON."""
    import dataclasses

    return dataclasses.asdict(story)
