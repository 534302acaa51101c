"""`haihe explain`: what happened in a recorded run, for a person at the machine."""

import json
import math
import re
import textwrap
from collections.abc import Sequence
from dataclasses import asdict

from haihe.bench.measure.evidence import Evidence, span
from haihe.bench.measure.explain import Acted, GuardView, LaneView, Story, as_data, tell
from haihe.bench.measure.figures import count
from haihe.bench.measure.incidents import KINDS, Incident, Kind

WIDTH = 100
BYTES = 24  # of what was sent, at most; the rest is counted
_STAMP = re.compile(r"\s+[\d.]+ s  ")


def story_at(evidence: Evidence, t_ns: int, incidents: Sequence[Incident]) -> str:
    """The moment `t_ns`, absolute."""
    story = tell(evidence, t_ns, incidents)
    going_on = [i for i in story.under_way if not i.is_usual]
    head = f"at {evidence.at(t_ns)}: "
    if going_on:
        head += ", ".join(f"{i.kind} {i.subject} since {evidence.at(i.t_ns)}" for i in going_on)
    else:
        head += "nothing wrong under way"
    return _fit([head, *_body(evidence, story)])


def story_of(evidence: Evidence, incident: Incident, incidents: Sequence[Incident]) -> str:
    """An incident, at its beginning."""
    same = [i for i in incidents if i.kind == incident.kind and not i.is_usual]
    head = f"{incident.kind} at {evidence.at(incident.t_ns)}: {incident.subject}"
    if incident in same and len(same) > 1:
        head += f" ({same.index(incident) + 1} of {len(same)} of this kind)"
    story = tell(evidence, incident.t_ns, incidents, incident)
    return _fit([head, *_body(evidence, story)])


def overview(evidence: Evidence, incidents: Sequence[Incident]) -> str:
    """All incidents in groups, and the first of each kind in full."""
    header, wrong = evidence.recording.header, [i for i in incidents if not i.is_usual]
    counts = {kind: sum(i.kind == kind for i in wrong) for kind in KINDS}
    said = ", ".join(f"{kind} {number}" for kind, number in counts.items() if number)
    lines = [
        f"{evidence.recording.plan.graph} on {header.get('unit', {}).get('name', 'unknown unit')}, "
        f"{header.get('mode', 'unknown mode')}, {evidence.at(evidence.end_ns)}: "
        + (f"{count(len(wrong), 'incident')} ({said})" if wrong else "nothing went wrong")
    ]
    groups: dict[tuple[Kind, str], list[Incident]] = {}
    for incident in wrong:
        groups.setdefault((incident.kind, incident.subject), []).append(incident)
    for (kind, subject), found in groups.items():
        first, times = found[0], ""
        if len(found) > 1:
            total = sum(i.end_ns - i.t_ns for i in found)
            lasted = f", {span(total)} in all" if total else ""
            times = f" ({len(found)} times{lasted}; the first:)"
        lines.append(f"  {evidence.at(first.t_ns):>10}  {kind:<8}  {subject}{times}: {first.text}")
    usual = [i for i in incidents if i.is_usual]
    if usual:
        lines.append("of every start and end")
        lines += [f"  {evidence.at(i.t_ns):>10}  {i.kind:<8}  {i.subject}: {i.text}" for i in usual]
    for kind in KINDS:
        first_of = next((i for i in wrong if i.kind == kind), None)
        if first_of is not None:
            lines += ["", story_of(evidence, first_of, incidents)]
    if not wrong:
        lines += _missing(tell(evidence, evidence.start_ns, incidents))
    return _fit(lines)


def _fit(lines: list[str]) -> str:
    """Lines of at most WIDTH; what follows a stamp stays beside it."""
    found = []
    for line in "\n".join(lines).split("\n"):
        stamp = _STAMP.match(line)
        hang = stamp.end() if stamp else len(line) - len(line.lstrip()) + 4
        found += textwrap.wrap(
            line, WIDTH, subsequent_indent=" " * hang, break_on_hyphens=False,
            break_long_words=False,
        ) or [""]  # fmt: skip
    return "\n".join(found)


def nothing_of(kind: Kind) -> str:
    """What is said when there is no incident of a kind."""
    if kind == "overrun":
        return (
            "no overrun is noted in it: no node exceeded its budget, or the run's executor made no "
            "notes of that"
        )
    return f"no incident of kind {kind} in it"


def as_json(evidence: Evidence, incidents: Sequence[Incident], stories: Sequence[Story]) -> str:
    """The same for programs; stamps are absolute ns, `start_ns` is the first release."""
    return json.dumps(
        {
            "recording": str(evidence.recording.path),
            "graph": evidence.recording.plan.graph,
            "start_ns": evidence.start_ns,
            "end_ns": evidence.end_ns,
            "guards_replayed": not evidence.account.why_not_replayed,
            "incidents": [asdict(incident) for incident in incidents],
            "stories": [as_data(story) for story in stories],
        },
        ensure_ascii=False,
        indent=1,
    )


def _body(evidence: Evidence, story: Story) -> list[str]:
    lines = []
    if story.chain:
        lines.append("why")
        lines += [f"  {evidence.at(cause.t_ns):>10}  {cause.text}" for cause in story.chain]
    for acted in story.acted:
        lines += _acted(evidence, acted, bool(story.guards))
    if story.ages:
        lines.append("ages")
        width = max(len(age.what) for age in story.ages)
        for age in story.ages:
            limit = f"limit {span(age.limit_ns)}" if age.limit_ns is not None else "no limit"
            over = "  over it" if age.is_over else ""
            lines.append(f"  {age.what:<{width}}  {span(age.ns):>9}  {limit}{over}")
    for guard in story.guards:
        lines += _guard(evidence, guard)
    for lane in story.lanes:
        lines += _lane(evidence, lane)
    return lines + _missing(story)


def _missing(story: Story) -> list[str]:
    return [f"not recorded: {text}" for text in story.not_recorded]


def _acted(evidence: Evidence, acted: Acted, is_guard_known: bool) -> list[str]:
    lines = [f"acted on by {acted.role}, firing {acted.firing} of lane {acted.lane}"]
    for origin in acted.origins:
        number = f" #{origin.sequence}" if origin.sequence else ""
        obeyed = ""
        if not origin.depth and not acted.is_obeyed and is_guard_known:
            obeyed = "; not obeyed"
        lines.append(
            f"  {'  ' * origin.depth}{origin.port}: {origin.source}{number}, {origin.text}{obeyed}"
        )
    if not acted.sent:
        return [*lines, f"  nothing was sent{': ' if acted.problem else ''}{acted.problem}"]
    data = bytes.fromhex("".join(acted.sent))
    rest = f" and {len(data) - BYTES} more" if len(data) > BYTES else ""
    return [
        *lines,
        f"  sent {len(data)} bytes, first {evidence.at(acted.first_byte_ns)}, done "
        f"{evidence.at(acted.last_byte_ns)}: {data[:BYTES].hex(' ')}{rest}",
    ]


def _guard(evidence: Evidence, guard: GuardView) -> list[str]:
    head = f"guard of {guard.role}: {guard.state} since {evidence.at(guard.since_ns)}"
    if guard.before and guard.before != guard.state:
        head += f", {guard.before} before"
    if guard.latched_by:
        head += f", latched by: {guard.latched_by}"
    if guard.reasons:
        head += f"; reasons: {', '.join(guard.reasons)}"
    lines = [f"{head}; command age limit {span(guard.command_age_ns)}"]
    for joint in guard.joints:
        values = [
            f"{name} {_degrees(value)}"
            for name, value in (
                ("command", joint.command), ("measured", joint.measured), ("sent", joint.sent),
            )
            if value is not None
        ]  # fmt: skip
        action = {"drive": "drive", "free": "torque off", "none": "no action"}.get(joint.action)
        limits = (
            f"range {_degrees(joint.low)} to {_degrees(joint.high)}, slew "
            f"{_degrees(joint.slew)}/s, safe: {joint.safe}"
        )
        told = ", ".join([*values, *([action] if action else [])])
        line = f"  {joint.name}: {told + '; ' if told else ''}{limits}"
        lines += [line] if len(line) <= WIDTH else [f"  {joint.name}: {told}", f"    {limits}"]
    return lines


def _degrees(micro: int) -> str:
    degrees = round(math.degrees(micro * 1e-6), 2)
    return f"{degrees + 0.0:g}°"  # no -0


def _lane(evidence: Evidence, lane: LaneView) -> list[str]:
    after = f", the next {evidence.at(lane.next_release_ns)}" if lane.next_release_ns else ""
    if not lane.next_release_ns:
        after = ", the last recorded"
    lines = [
        f"lane {lane.lane}, firing {lane.firing}: released {evidence.at(lane.release_ns)}, clock "
        f"read {span(lane.clock_ns - lane.release_ns)} later, nodes "
        f"{span(lane.end_ns - lane.clock_ns)}{after}"
    ]
    read = [f"{source} #{n}" if n else f"no {source}" for source, n in lane.consumed.items()]
    parts = ["read " + ", ".join(read)] if read else []
    parts += [f"{node} {outcome}" for node, outcome in lane.outcomes.items()]
    parts += ["event " + " ".join(map(str, event)) for event in lane.events]
    return [*lines, f"  {'; '.join(parts)}"]
