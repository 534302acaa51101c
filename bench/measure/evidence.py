"""What a recording tells, ready to be asked: by lane and row, by source and sequence number."""

from dataclasses import dataclass, field

import msgspec
import numpy as np

from haihe.bench.measure.firings import I64, LaneColumns
from haihe.bench.measure.lineage import Lineage
from haihe.bench.measure.witness import Account, witness
from haihe.runtime.errors import RecordError
from haihe.runtime.plan.codegen import OUTCOMES
from haihe.runtime.plan.model import EdgePlan, StepPlan
from haihe.runtime.record.format import FIRING
from haihe.runtime.record.recording import Recording
from haihe.runtime.units import format_ns, quantity

WAITING = "offline, waiting for the next attempt"  # of a device that is not there


class OverrunNote(msgspec.Struct, frozen=True):
    """A note of the executor: a node took longer than its budget."""

    t_ns: int
    lane: str
    node: str
    firing: int
    took_ns: int
    budget_ns: int
    void: list[str] = []  # chains whose computed bounds do not hold meanwhile


@dataclass(frozen=True)
class Made:
    """The firing that made a message."""

    lane: str
    row: int


@dataclass
class Evidence:
    """A recording with its lanes as columns, its guards, and its overruns."""

    recording: Recording
    lineage: Lineage
    account: Account
    start_ns: int  # the first release
    end_ns: int
    overruns: list[OverrunNote] = field(default_factory=list)
    unread_notes: int = 0  # overrun notes of a form that is not known
    _errors: dict[str, dict[int, str]] = field(default_factory=dict)

    @property
    def lanes(self) -> dict[str, LaneColumns]:
        """By name, in the plan's order."""
        return self.lineage.lanes

    def at(self, t_ns: int) -> str:
        """A stamp for people: s since the first release."""
        return f"{(t_ns - self.start_ns) * 1e-9:.3f} s"

    def parse_time(self, text: str) -> int:
        """`3.2s` since the first release, or an absolute stamp in ns. Raises ContractError for no
        time, RecordError for one outside of the run."""
        if text.strip().isdigit() and int(text) > 10**9:
            t = int(text)
        else:
            t = self.start_ns + round(quantity(text, "s") * 1e9)
        if not self.start_ns <= t <= self.end_ns:
            raise RecordError(
                f"{self.recording.path}: --at {text} lies outside of the run, which goes from "
                f"0 s to {self.at(self.end_ns)}. Choose a time within it."
            )
        return t

    def row_at(self, lane: str, t_ns: int) -> int:
        """The last firing of a lane whose clock was read at or before a time; -1: none."""
        return int(np.searchsorted(self.lanes[lane].clock, t_ns, side="right")) - 1

    def step(self, node: str) -> StepPlan:
        """A node in the plan."""
        lanes = self.recording.plan.lanes
        return next(s for lane in lanes for s in lane.task.steps if s.name == node)

    def inputs(self, step: StepPlan) -> list[tuple[str, EdgePlan]]:
        """Ports and edges of a node, in order."""
        return [(port, self.recording.plan.edges[number]) for port, number in step.inputs]

    def outcome(self, lane: str, row: int, node: str) -> str:
        """How a node ended in a firing."""
        code = int(self.lanes[lane].outcomes[node][row])
        return OUTCOMES[code] if code < len(OUTCOMES) else f"outcome {code}"

    def maker(self, source: str, sequence: int) -> Made | None:
        """The firing that made a message of a node or a bus; None: not recorded, or a stream's."""
        home = self.lineage.home(source)
        if not home or not sequence:
            return None
        lane = self.lanes[home]
        rows = np.flatnonzero(lane.fired(source)[: lane.gap])
        return Made(home, int(rows[sequence - 1])) if sequence <= len(rows) else None

    def stream(self, source: str) -> I64:
        """Rows of sequence number, capture, delivery."""
        return self.lineage.streams.get(source, np.zeros((0, 3), np.int64))

    def errors(self, role: str) -> dict[int, str]:
        """By row of its lane: why the port of a bus failed, or that an answer was missing."""
        if role in self._errors:
            return self._errors[role]
        name, index = self.recording.find_bus(role)
        was_read = self.lanes[name].buses[role].was_read
        found = self._errors.setdefault(role, {})
        row = 0
        for record in self.recording.lanes[name]:
            if record.kind != FIRING:
                continue
            own = [reply for bus, _, reply in record.exchanges if bus == index]
            failed = next((reply.error for reply in own if reply.error), "")
            if failed:
                found[row] = f"the port failed: {failed}"
            elif not was_read[row]:
                found[row] = "no whole answer" if own else WAITING
            row += 1
        return found


def gather(recording: Recording, *, replay: bool = True) -> Evidence:
    """Everything that is needed to explain a recording. Raises RecordError without any firing."""
    lineage = Lineage(recording)
    lanes = [lane for lane in lineage.lanes.values() if len(lane)]
    if not lanes:
        raise RecordError(
            f"{recording.path}: no firing in it: there is nothing to explain. Look at what is "
            f"there with: haihe rec info {recording.path}"
        )
    start = min(int(lane.release[0]) for lane in lanes)
    end = max(int(lane.end[-1]) for lane in lanes)
    evidence = Evidence(recording, lineage, witness(recording, lineage, replay=replay), start, end)
    stops = [s.t_ns for g in evidence.account.guards.values() for s in g.steps if s.is_stop]
    evidence.end_ns = max([end, *stops])
    _read_overruns(evidence)
    return evidence


def _read_overruns(evidence: Evidence) -> None:
    for note in evidence.recording.note_log.get("overrun", []):
        try:
            evidence.overruns.append(msgspec.convert(note, OverrunNote))
        except msgspec.ValidationError:
            evidence.unread_notes += 1
    evidence.overruns.sort(key=lambda note: note.t_ns)


def span(ns: int) -> str:
    """A duration for people; to 0.1 ms below a second."""
    return f"{ns * 1e-6:.4g} ms" if 10**6 <= abs(ns) < 10**9 else format_ns(ns)
