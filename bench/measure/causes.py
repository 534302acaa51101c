"""Why an incident happened: from the effect back along the plan, in the order of time.

Each question has one answer from what is recorded: why is this input old, why was no newer one
made, why did nothing arrive. Where the record holds no answer, it says what is not recorded.
"""

import numpy as np

from haihe.bench.measure.evidence import Evidence, span
from haihe.bench.measure.firings import LaneColumns
from haihe.bench.measure.hops import hops
from haihe.bench.measure.incidents import Incident
from haihe.bench.measure.reasons import Cause, Reasons
from haihe.runtime.guard import GuardState
from haihe.runtime.plan.codegen import RAISED

NOTABLE = 4  # times what a part grew beyond the usual reaches the age: that made it old
WAYS = 4  # in which the firings of a node ended, that are told of


def causes(evidence: Evidence, incident: Incident) -> list[Cause]:
    """The chain that ends in an incident, in order."""
    chain = _Chain(evidence)
    chain.explain(incident)
    ordered = sorted(enumerate(chain.found), key=lambda pair: (pair[1].t_ns, -pair[0]))
    return [cause for _, cause in ordered]


class _Chain(Reasons):
    def __init__(self, evidence: Evidence) -> None:
        super().__init__(evidence)
        self._asked: set[tuple[str, str, int]] = set()

    def explain(self, incident: Incident) -> None:
        """Add what led to it, the incident itself first."""
        lane, row = incident.lane, incident.row
        if incident.kind == "safe":
            self._guard(incident)
        elif incident.kind == "bus":
            self.no_state(incident.subject, self.evidence.lanes[lane], row)
        elif incident.kind == "stale":
            node, _, port = incident.subject.rpartition(".")
            self.add(incident.t_ns, f"{incident.subject}: {incident.text}{_length(incident)}")
            edges = dict(self.evidence.inputs(self.evidence.step(node)))
            self._why_old(lane, row, edges[port].source)
        elif incident.kind == "raised":
            self.raised(lane, row, incident.subject)
        elif incident.kind == "deadline":
            self.add(
                int(self.evidence.lanes[lane].end[row]),
                f"{incident.subject} of lane {lane}: {incident.text}{_length(incident)}",
            )
            self.late(lane, row)
        else:
            self.add(incident.t_ns, f"{incident.subject} of lane {lane}: {incident.text}")

    # --- the guard ----------------------------------------------------------------------------

    def _guard(self, incident: Incident) -> None:
        evidence = self.evidence
        history = evidence.account.guards[incident.subject]
        self.add(incident.t_ns, f"guard of {incident.subject}: {incident.text}{_length(incident)}")
        step = next(s for s in history.steps if s.t_ns == incident.t_ns)
        if incident.is_over:
            after = next(s for s in history.steps if s.t_ns == incident.end_ns)
            self.add(
                incident.end_ns,
                f"guard of {incident.subject}: {step.state.name} -> {after.state.name}",
            )
        lane = evidence.lanes[incident.lane]
        is_old = step.state is GuardState.STALE or step.reason == "command stale"
        if not is_old:
            self._events(lane, incident)
            return
        number = next(b.command_edge for b in lane.task.buses if b.role == incident.subject)
        source = evidence.recording.plan.edges[number].source
        made = int(evidence.lineage.samples(incident.lane, source).made[incident.row])
        limit = span(history.command_age_ns)
        if not made:
            self.add(incident.t_ns, f"{incident.subject} has no command yet")
        elif incident.t_ns - made > history.command_age_ns:
            age = span(incident.t_ns - made)
            self.add(incident.t_ns, f"command of {incident.subject} {age} old, limit {limit}")
        else:
            self.add(
                incident.t_ns,
                f"the command of {incident.subject} is {span(incident.t_ns - made)} old, within "
                f"its limit of {limit}: it was refused, or the joints start again",
            )
        # a command that never came is explained at the end: by then it had all its reasons
        row = incident.row if made else incident.row + incident.rows - 1
        self._why_no_newer(incident.lane, min(row, len(lane) - 1), source)

    def _events(self, lane: LaneColumns, incident: Incident) -> None:
        """The last event up to then that takes a guard out of ARMED."""
        for t, (kind, *about) in reversed(lane.events):
            if t > incident.t_ns or kind not in ("trip", "disarm"):
                continue
            text = str(about[0]) if about else ""
            self.add(t, f"event {kind}{': ' if text else ''}{text}")
            for other in self.evidence.lanes.values():
                for step in other.task.steps:
                    rows = np.flatnonzero(
                        (other.outcomes[step.name] == RAISED) & (other.clock <= t)
                    )
                    if text == f"node {step.name} raised" and len(rows):
                        self.raised(other.name, int(rows[0]), step.name)
            return

    # --- nodes --------------------------------------------------------------------------------

    def _why_no_newer(self, lane: str, row: int, source: str, now: int = 0) -> None:
        """Why there was no newer message of a source when a lane looked for one, in a firing or
        at a later `now`."""
        evidence = self.evidence
        if (lane, source, row) in self._asked:
            return
        self._asked.add((lane, source, row))
        home, owner = evidence.lineage.home(source), source.split(".")[0]
        now = now or int(evidence.lanes[lane].clock[row])
        if not home:
            self.not_delivered(source, now)
            return
        columns = evidence.lanes[home]
        last_row = row if home == lane else evidence.row_at(home, now)
        if owner in columns.buses:
            self.no_state(owner, columns, last_row)
            return
        fired = columns.fired(source)[: last_row + 1]
        ended = columns.end[: last_row + 1] <= now if home != lane else np.ones(last_row + 1, bool)
        made = np.flatnonzero(fired & ended)
        last = int(made[-1]) if len(made) else -1
        if last >= 0:
            number = columns.number[last]
            self.add(
                columns.end[last], f"last output of {source}, in firing {number} of lane {home}"
            )
        if last < last_row:
            self._why_not_made(home, last + 1, last_row, source, now)
        else:
            self._why_no_firing(columns, last, now)

    def _why_not_made(self, lane: str, row: int, last: int, source: str, now: int) -> None:
        """Why the firings from `row` to `last` made no message of a source: a cause for each way
        in which they ended, in turn."""
        node = source.split(".")[0]
        told = 0
        while row <= last and told < WAYS:
            outcome = self.evidence.outcome(lane, row, node)
            times = 1
            while row + times <= last and self.evidence.outcome(lane, row + times, node) == outcome:
                times += 1
            again = f" ({times} firings up to then)" if times > 1 else ""
            self._ended(lane, row, node, source, outcome, again, now)
            row, told = row + times, told + 1
        if row <= last:
            self.add(now, f"{node} ended in yet other ways, not followed further")

    def _ended(
        self, lane: str, row: int, node: str, source: str, outcome: str, again: str, now: int
    ) -> None:
        evidence, columns = self.evidence, self.evidence.lanes[lane]
        t = int(columns.clock[row])
        if outcome in ("stale", "absent", "unaligned"):
            for port, edge in evidence.inputs(evidence.step(node)):
                why = self._unfit(lane, row, port, edge.source, edge.fresh_ns, outcome)
                if why and edge.on_stale != "call":
                    self.add(t, f"{node} not called: {why}{again}")
                    self._why_old(lane, row, edge.source)
        elif outcome == "raised":
            self.raised(lane, row, node)
        elif outcome == "not triggered":
            trigger = evidence.step(node).trigger
            self.add(t, f"{node} not triggered: no {trigger}{again}")
            self._why_no_newer(lane, row, trigger)
        elif outcome == "off":
            modes = " and ".join(" of ".join(m[::-1]) for m in evidence.step(node).modes)
            self.add(t, f"{node} off: it is called in mode {modes} only{again}")
        elif evidence.step(node).select:
            self.add(t, f"{node} had nothing to take over{again}")
            for _, edge in evidence.inputs(evidence.step(node)):
                if evidence.outcome(lane, row, edge.source.split(".")[0]) != "off":
                    self._why_no_newer(lane, row, edge.source)
        elif columns.end[row] > now:
            self.add(t, f"{node} under way from then on, up to {evidence.at(columns.end[row])}")
            self.slow_nodes(columns, row)
        else:
            self.add(t, f"{node} was called and gave no {source}{again}")

    def _unfit(
        self, lane: str, row: int, port: str, source: str, fresh: int | None, outcome: str
    ) -> str:
        seen = self.evidence.lineage.samples(lane, source)
        if not seen.sequence[row]:
            return f"no {port} yet" if outcome == "absent" else ""
        if outcome == "unaligned":
            return f"{port} too far from the trigger"
        age = int(self.evidence.lanes[lane].clock[row] - seen.origin[row])
        if fresh is None or not seen.origin[row] or age <= fresh:
            return ""
        return f"{port} {span(age)} old, limit {span(fresh)}"

    def _why_old(self, lane: str, row: int, source: str) -> None:
        """The part of an age that grew most beyond what is usual, and why."""
        parts = hops(self.evidence, lane, row, source)
        if not parts:
            self._why_no_newer(lane, row, source)
            return
        worst = max(parts, key=lambda hop: hop.ns - hop.usual_ns)
        if NOTABLE * (worst.ns - worst.usual_ns) < sum(hop.ns for hop in parts):
            worst = max(parts, key=lambda hop: hop.ns)  # it is always as old: the longest part
        columns = self.evidence.lanes[worst.lane]
        if worst.part == "wait":
            self._why_no_newer(worst.lane, worst.row, worst.source)
        elif worst.part == "run":
            self.slow_nodes(columns, worst.row)
        elif worst.part == "queue":
            self.queued(columns, worst)
        elif worst.part == "reading":
            self.slow_reading(columns, worst.row)
        else:
            t = int(self.evidence.lineage.samples(worst.lane, worst.source).made[worst.row])
            self.add(
                t,
                f"{worst.source} came {span(worst.ns)} after its capture, usually "
                f"{span(worst.usual_ns)}",
            )

    # --- lanes --------------------------------------------------------------------------------

    def _why_no_firing(self, columns: LaneColumns, last: int, now: int) -> None:
        """Why a lane fired no more after a firing, up to now."""
        task, evidence = columns.task, self.evidence
        if last >= 0 and columns.end[last] > now:
            self.slow_nodes(columns, last)
        elif task.every_ns:
            since = int(columns.release[last]) if last >= 0 else evidence.start_ns
            if now - since > 2 * task.every_ns:
                self.add(since, f"lane {columns.name} has no firing from then on ({task.name})")
        elif not task.trigger:
            return
        elif evidence.lineage.home(task.trigger):
            home = evidence.lanes[evidence.lineage.home(task.trigger)]
            self._why_no_newer(home.name, evidence.row_at(home.name, now), task.trigger, now)
        else:
            table = evidence.stream(task.trigger)
            begun = int(columns.clock[last]) if last >= 0 else 0
            came = table[(table[:, 2] > begun) & (table[:, 2] <= now)]
            if not len(came):
                self.not_delivered(task.trigger, now)
            else:
                self.add(
                    came[0, 2],
                    f"{task.trigger} #{came[0, 0]} came, and no firing of lane {columns.name} is "
                    f"recorded up to {evidence.at(now)}: one that has not ended leaves no record",
                )


def _length(incident: Incident) -> str:
    if incident.rows < 2:
        return ""
    lasted = span(incident.end_ns - incident.t_ns)
    end = "" if incident.is_over else ", to the end"
    return f" ({incident.rows} firings, {lasted}{end})"
