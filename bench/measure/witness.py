"""What every guard of a recorded run decided, firing by firing.

A recording holds no decisions: decision replay runs the guards again, exactly, where the graph can
be wired again. Where it cannot, the guard's state still follows from what is recorded (events, the
ages of commands, whether states were read); positions and the limits that acted are left out.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from haihe.bench.measure.firings import LaneColumns
from haihe.bench.measure.lineage import Lineage
from haihe.boards.binding import bind
from haihe.boards.unit import GuardProfile, UnitFile, unit_from_text
from haihe.pipelines.load import graph_of_recording
from haihe.runtime.errors import BoardError, ContractError, HaiheError, RecordError
from haihe.runtime.exec.bus import BusRunner
from haihe.runtime.guard import Action, Decision, GuardState, JointRule, SafeAction, reasons
from haihe.runtime.guard.guard import Guard
from haihe.runtime.plan.model import BusPlan
from haihe.runtime.record.format import FIRING, STOP
from haihe.runtime.record.recording import Recording
from haihe.runtime.record.replay import Replayer

# what importing and wiring the file of another day may raise
UNWIRED = (HaiheError, ImportError, SyntaxError, NameError, AttributeError, TypeError, ValueError,
           LookupError, OSError, RuntimeError, ArithmeticError, AssertionError)  # fmt: skip
# flags that do not hang on positions
WITHOUT_POSITIONS = {"stale", "clock", "late", "latched"}

Units = tuple[int, ...]  # µrad of every joint


@dataclass(frozen=True)
class GuardStep:
    """One decision. Positions in µrad; empty or None where they are not known."""

    t_ns: int
    state: GuardState
    flags: tuple[str, ...]
    reason: str  # of the latch
    actions: tuple[Action, ...] = ()
    sent: Units = ()
    command: Units | None = None
    measured: Units | None = None
    is_stop: bool = False


@dataclass
class GuardHistory:
    """The guard of one role; steps in order, those of the stop last."""

    role: str
    lane: str
    rules: tuple[JointRule, ...]
    command_age_ns: int
    is_replayed: bool
    steps: list[GuardStep] = field(default_factory=list)

    def safe_actions(self) -> str:
        """As `pan hold, tilt hold`."""
        return ", ".join(f"{rule.name} {_safe(rule)}" for rule in self.rules)


def _safe(rule: JointRule) -> str:
    return "goes to its safe position" if rule.safe is SafeAction.GO else rule.safe.name.lower()


@dataclass
class Account:
    """Guards by role, what nodes raised, and why it is not from a replay (empty: it is)."""

    guards: dict[str, GuardHistory]
    raised: dict[tuple[str, int], str] = field(default_factory=dict)  # (node, firing) -> text
    why_not_replayed: str = ""


class _Watched(Guard):
    """A guard that remembers what it was given and what it decided."""

    __slots__ = ("seen",)

    @classmethod
    def like(cls, guard: Guard) -> "_Watched":
        """A fresh one with the same contract."""
        made = cls(guard.rules, guard._command_age_ns, guard._dt_limit_ns // 2, guard._latch_stale)
        made.seen = []
        return made

    seen: list[GuardStep]

    def step(
        self, t_ns: int, command: Units | None, command_t_ns: int, measured: Units | None
    ) -> Decision:
        """The guard's own step, remembered."""
        decision = super().step(t_ns, command, command_t_ns, measured)
        self.seen.append(
            GuardStep(
                t_ns, decision.state, reasons(decision.flags), self.reason, decision.actions,
                decision.positions, command, measured,
            )
        )  # fmt: skip
        return decision


def witness(recording: Recording, lineage: Lineage, *, replay: bool = True) -> Account:
    """What the guards decided: by replay, or from the record alone. Never raises for a graph that
    cannot be wired again: the answer says why."""
    if not replay:
        return _from_record(recording, lineage, "not asked for")
    try:
        return _from_replay(recording, lineage)
    except UNWIRED as exc:
        return _from_record(recording, lineage, f"{type(exc).__name__}: {exc}")


def _from_replay(recording: Recording, lineage: Lineage) -> Account:
    graph = graph_of_recording(recording.header)
    buses, watched = {}, {}
    for role, (device, guard) in bind(graph, _unit(recording)).buses(recording.plan).items():
        if guard is not None:
            guard = watched[role] = _Watched.like(guard)
        buses[role] = (device, guard)
    replayer = Replayer(recording, graph, buses)
    raised: dict[tuple[str, int], str] = {}
    recorded = {s.name for lane in recording.plan.lanes for s in lane.task.steps if s.recorded}

    def hear(lane: Any, node: str, exc: BaseException) -> None:
        if node not in recorded:  # else it is the replay's own stand-in that raises
            raised[node, lane.firing] = f"{type(exc).__name__}: {exc}{_where(exc)}"

    for lane in replayer.assembly.lanes:
        lane.on_raise = hear
    report = replayer.run()
    if report.differing:
        raise RecordError(
            f"{recording.path}: the graph's code gives another run than was recorded "
            f"({report.differing} differences, the first: {report.differences[0]})"
        )
    found = Account({}, raised)
    for role, guard in watched.items():
        name, _ = recording.find_bus(role)
        stops = {r.fixed[1] for r in recording.lanes[name] if r.kind == STOP}
        ends = set((lineage.lanes[name].end).tolist())
        history = GuardHistory(role, name, guard.rules, guard._command_age_ns, True)
        history.steps = [
            _as_stop(step) if step.t_ns in stops and step.t_ns not in ends else step
            for step in guard.seen
        ]
        found.guards[role] = history
    return found


def _as_stop(step: GuardStep) -> GuardStep:
    return GuardStep(
        step.t_ns, step.state, step.flags, step.reason, step.actions, step.sent, step.command,
        step.measured, is_stop=True,
    )  # fmt: skip


def _where(exc: BaseException) -> str:
    trace = exc.__traceback__
    if trace is None:
        return ""
    while trace.tb_next is not None:
        trace = trace.tb_next
    return f" ({Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno})"


def _unit(recording: Recording) -> UnitFile:
    kept = recording.header.get("unit", {})
    return unit_from_text(kept.get("text", ""), kept.get("file", ""))


def _from_record(recording: Recording, lineage: Lineage, why: str) -> Account:
    found = Account({}, why_not_replayed=why)
    try:
        devices = _unit(recording).unit.devices
    except BoardError as exc:
        found.why_not_replayed += f"; the unit's text cannot be read ({exc}): no guard is told of"
        return found
    for lane in lineage.lanes.values():
        for bus in lane.task.buses:
            profile = devices[bus.role].guard if bus.role in devices else None
            if bus.command_edge < 0 or profile is None:
                continue
            try:
                found.guards[bus.role] = _stepped(recording, lineage, lane, bus, profile)
            except (BoardError, ContractError) as exc:
                found.why_not_replayed += f"; the guard of {bus.role} cannot be made: {exc}"
    return found


class _Nothing:
    """The device of a guard that is stepped through a record."""

    def snapshot(self) -> tuple[Any, ...]:
        return ()


def _stepped(
    recording: Recording, lineage: Lineage, lane: LaneColumns, bus: BusPlan, profile: GuardProfile
) -> GuardHistory:
    """Step a guard through what is recorded, with zeros for positions: its state hangs on none.
    Over a switch of modes the bus holds, as in a run."""
    rules = tuple(limits.rule(name) for name, limits in profile.joints.items())
    age = round(profile.command_age * 1e9)
    guard = Guard(rules, age, max(lane.task.every_ns, 1), profile.on_stale == "latch")
    history = GuardHistory(bus.role, lane.name, rules, age, False)
    zeros = (0,) * len(rules)
    made = lineage.samples(lane.name, recording.plan.edges[bus.command_edge].source).made
    was_read = lane.buses[bus.role].was_read
    row = 0
    nothing: Any = _Nothing()
    runner = BusRunner(bus.role, nothing, guard, [])
    active = {group.name: group.initial for group in recording.plan.groups}
    for record in recording.lanes[lane.name]:
        for event in record.events:
            if event[0] in ("arm", "disarm", "trip", "reset"):
                runner.apply(event)
            elif event[0] == "mode" and active.get(event[1]) != event[2]:
                active[event[1]] = event[2]
                if event[1] in bus.held_by:
                    runner.hold(is_lasting=tuple(event[1:]) in bus.idle)
        is_stop = record.kind == STOP
        if record.kind == FIRING:
            t, stamp, is_known = int(lane.end[row]), int(made[row]), bool(was_read[row])
            row += 1
        elif is_stop:
            t, stamp, is_known = record.fixed[1], 0, False
        else:
            continue
        measured = zeros if is_known else None
        command, stamp = runner.command_at(t, zeros if stamp else None, stamp)
        decision = guard.step(t, command, stamp, measured)
        flags = tuple(flag for flag in reasons(decision.flags) if flag in WITHOUT_POSITIONS)
        history.steps.append(GuardStep(t, decision.state, flags, guard.reason, is_stop=is_stop))
    return history
