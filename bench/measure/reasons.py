"""The last links of a chain of causes: what a device, a thread or a node did, from the record."""

from dataclasses import dataclass

import numpy as np

from haihe.bench.measure.evidence import WAITING, Evidence, span
from haihe.bench.measure.figures import count
from haihe.bench.measure.firings import LaneColumns
from haihe.bench.measure.hops import Hop, usual
from haihe.runtime.plan.model import StepPlan

GAP = 1.5  # times the usual distance of messages, or the usual time of nodes: longer is notable


@dataclass(frozen=True)
class Cause:
    """One link of the chain."""

    t_ns: int
    text: str


class Reasons:
    """Collects causes in `found`; each method adds one reason."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        self.found: list[Cause] = []

    def add(self, t_ns: int, text: str) -> None:
        """A link, once."""
        cause = Cause(int(t_ns), text)
        if cause not in self.found:
            self.found.append(cause)

    def raised(self, lane: str, row: int, node: str) -> None:
        """A node raised in a firing."""
        columns = self.evidence.lanes[lane]
        what = self.evidence.account.raised.get((node, int(columns.number[row])))
        said = what or "what it raised is not recorded"
        self.add(
            columns.clock[row],
            f"{node} raised in firing {columns.number[row]} of lane {lane}: {said}",
        )

    def slow_nodes(self, columns: LaneColumns, row: int) -> None:
        """The nodes of a firing took long."""
        number = int(columns.number[row])
        steps = columns.task.steps
        names = " + ".join(step.name for step in steps)
        notes = [n for n in self.evidence.overruns if (n.lane, n.firing) == (columns.name, number)]
        which = ""
        if len(steps) > 1 and not notes:
            which = "; which of them took how long is not recorded"
        self.add(
            columns.end[row],
            f"{names} of lane {columns.name} took {span(int(columns.run[row]))} in firing "
            f"{number}, usually {span(usual(columns.run, row))}{_budget(steps)}{which}",
        )
        for note in notes:
            took, budget = span(note.took_ns), span(note.budget_ns)
            self.add(note.t_ns, f"{note.node} overran its budget: {took}, budget {budget}")

    def slow_reading(self, columns: LaneColumns, row: int) -> None:
        """The buses of a firing took long to answer."""
        took = columns.lateness - columns.wake
        names = " and ".join(columns.buses)
        why = ""
        if not any(row in self.evidence.errors(role) for role in columns.buses):
            why = "; answers were whole: whether device or machine was slow is not recorded"
        self.add(
            columns.clock[row],
            f"reading {names} took {span(int(took[row]))} in firing {columns.number[row]}, usually "
            f"{span(usual(took, row))}{why}",
        )

    def queued(self, columns: LaneColumns, hop: Hop) -> None:
        """A firing began late after the message that triggers it."""
        self.add(
            columns.clock[hop.row],
            f"lane {columns.name} began firing {columns.number[hop.row]} {span(hop.ns)} after "
            f"{hop.source} came, usually {span(hop.usual_ns)}",
        )
        self._busy_thread(
            columns, int(columns.clock[hop.row]) - hop.ns, int(columns.clock[hop.row])
        )

    def _busy_thread(self, columns: LaneColumns, start: int, end: int) -> None:
        """What ran on the lane's thread meanwhile, the longest."""
        evidence = self.evidence
        shared: tuple[str, ...] = (columns.name,)
        for thread in evidence.recording.plan.threads:
            if columns.name in thread.lanes:
                shared = thread.lanes
        best: tuple[int, LaneColumns, int] | None = None
        for name in shared:
            lane = evidence.lanes[name]
            overlap = np.minimum(lane.end, end) - np.maximum(lane.clock, start)
            if len(lane) and int(overlap.max()) > 0:
                row = int(overlap.argmax())
                if best is None or int(overlap[row]) > best[0]:
                    best = (int(overlap[row]), lane, row)
        if best is None:
            self.add(start, "what kept it is not recorded: the machine, or other work")
            return
        _, lane, row = best
        self.add(
            lane.clock[row],
            f"its thread ran firing {lane.number[row]} of lane {lane.name} up to "
            f"{evidence.at(lane.end[row])}",
        )
        if lane.run[row] > GAP * usual(lane.run, row):
            self.slow_nodes(lane, row)

    def late(self, lane: str, row: int) -> None:
        """Why a firing ended late: it began late, or its bus or its nodes took long."""
        columns = self.evidence.lanes[lane]
        parts = {
            "began": columns.wake,
            "read": columns.lateness - columns.wake,
            "ran": columns.run,
        }
        excess = {part: int(ns[row]) - usual(ns, row) for part, ns in parts.items()}
        worst = max(excess, key=lambda part: excess[part])
        if excess[worst] <= 0:  # as always: the deadline is what is too short
            worst = max(parts, key=lambda part: int(parts[part][row]))
        t = int(columns.release[row])
        number, ns = columns.number[row], int(parts[worst][row])
        if worst == "began":
            self.add(t + ns, f"firing {number} of lane {lane} began {span(ns)} after its release")
            self._busy_thread(columns, t, t + ns)
        elif worst == "read":
            self.slow_reading(columns, row)
        else:
            self.slow_nodes(columns, row)

    def not_delivered(self, source: str, now: int) -> None:
        """A stream's last delivery up to now, and the gap behind it."""
        evidence = self.evidence
        table, role = evidence.stream(source), source.split(".")[0]
        before = table[table[:, 2] <= now]
        after = table[table[:, 2] > now]
        if not len(before):
            until = f" before {evidence.at(after[0, 2])}" if len(after) else ""
            self.add(evidence.start_ns, f"{role} delivered nothing{until}")
            return
        number, _, delivered = before[-1].tolist()
        end = int(after[0, 2]) if len(after) else evidence.end_ns
        period = int(np.median(np.diff(before[:, 2]))) if len(before) > 2 else 0
        if period and end - delivered <= GAP * period:
            self.add(delivered, f"{role} delivered #{number}, as usual every {span(period)}")
            return
        until = evidence.at(end) if len(after) else "the end of the recording"
        every = f", usually every {span(period)}" if period else ""
        gap = span(end - delivered)
        self.add(
            delivered, f"{role} delivered #{number}, then nothing until {until} ({gap}{every})"
        )

    def no_state(self, role: str, columns: LaneColumns, row: int) -> None:
        """Why the newest state of a bus is old: the first firing that got none, up to a row."""
        errors = self.evidence.errors(role)
        if row not in errors:
            return
        first = row
        while first - 1 in errors:
            first -= 1
        after = row
        while after in errors:
            after += 1
        until = "the end of the recording"
        if after < len(columns):
            until = self.evidence.at(int(columns.clock[after]))
        sent = int(columns.buses[role].first_sent[first]) or int(columns.release[first])
        self.add(
            sent,
            f"{role} gave no state until {until} ({count(after - first, 'firing')}, tried in "
            f"{sum(errors[r] != WAITING for r in range(first, after))}): {errors[first]}",
        )


def _budget(steps: tuple[StepPlan, ...]) -> str:
    declared = [step.budget_ns for step in steps if step.budget_ns]
    if not declared:
        return ", no budget declared"
    if len(declared) < len(steps):
        return f", budgets {span(sum(declared))}, not every node declares one"
    return f", budget {span(sum(declared))}"
