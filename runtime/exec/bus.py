"""Runs a sans-I/O bus device inside a lane: exchanges, stamps, going offline and coming back.

Everything it decides follows from replies and from counting firings, never from a clock, so a
replay that feeds the recorded replies takes the same way.
"""

import logging
from collections.abc import Generator
from typing import Any

from haihe.runtime.errors import DeviceError
from haihe.runtime.guard import Decision, Flag, GuardState, reasons
from haihe.runtime.guard.guard import Guard
from haihe.runtime.io import BusDevice, Exchange, Reply, Transaction
from haihe.runtime.record.format import Event, Logged
from haihe.runtime.telemetry.stats import EdgeStats
from haihe.runtime.types import JointState, Message

log = logging.getLogger(__name__)
Steps = Generator["BusRunner", Reply, Any]
RETRY_LIMIT = 64  # firings between two attempts to bring a lost device back, at most


def micro(values: Any) -> tuple[int, ...] | None:
    """Floats in SI as integers in micro-units; None when one of them is not a number."""
    try:
        return tuple(round(value * 1e6) for value in values.tolist())
    except (ValueError, OverflowError, AttributeError, TypeError):
        return None


def command_units(command: Any) -> tuple[int, ...] | None:
    """What the guard is given of a command message: None when it is not usable."""
    return micro(getattr(command, "position", None))


class BusRunner:
    """One bus device of a lane. Its generators yield the runner itself, with the exchange to do
    in `pending`, and are sent the reply."""

    def __init__(
        self,
        role: str,
        device: BusDevice,
        guard: Guard | None,
        log: list[Logged],
        index: int = 0,
    ) -> None:
        self.role, self.device, self.guard, self.index = role, device, guard, index
        self.log = log  # the lane's, cleared after each record
        self.port: Any = None  # an executor's own
        self.warden: Any = None  # of a realtime run, see wardens.py
        self.pending = Exchange(b"")
        self.last = Reply(b"", 0, 0)
        self.online = False
        self.problem = ""  # why it is offline
        self.losses = 0
        self._retry_in = 0
        self._retry_gap = 1
        self.flags: dict[int, int] = {}
        self._has_warned = False
        self.first_bytes = 0  # commands whose origin was new: the count behind the two below
        self.reaction_total_ns = 0
        self.reaction_worst_ns = 0
        self._reacted_to = 0
        self._decided_ns = 0  # clock reading of the guard's last step
        self._hold: tuple[int, ...] | None = None  # positions kept over a switch of modes
        self._is_hold_lasting = False
        self._hold_ns = 0  # the stamp of the hold, as a command; 0: not stamped yet
        self._hold_from_ns = 0  # a command stamped later ends it
        self.initial = self.snapshot()  # for a restart

    def _run(self, transaction: Transaction[Any]) -> Steps:
        self.problem = ""
        try:
            self.pending = transaction.send(None)  # type: ignore[arg-type]
            while True:
                exchange = self.pending
                reply = yield self
                self.log.append((self.index, exchange, reply))
                if reply.error:
                    self.problem = reply.error
                self.last = reply
                self.pending = transaction.send(reply)
        except StopIteration as stop:
            return stop.value

    def setup(self) -> Steps:
        """Set the device up. Raises DeviceError."""
        yield from self._run(self.device.setup())
        if self.problem:
            raise DeviceError(f"{self.role}: {self.problem}")
        self.online = True
        if self.warden is not None:
            self.warden.take(self.port)

    def read(self) -> Generator["BusRunner", Reply, tuple[Message, int] | None]:
        """The state and its capture stamp (middle of the exchange), None when there is none."""
        if not self.online and not (yield from self._come_back()):
            return None
        state: Message = yield from self._run(self.device.read())
        if self.problem:
            self._lost()
            return None
        if isinstance(state, JointState) and not state.ok.any():
            return None  # nobody answered: the state is absent and its age runs on
        return state, (self.last.t_sent_ns + self.last.t_done_ns) // 2

    def _lost(self) -> None:
        self.online = False
        if self.warden is not None:
            self.warden.release()
        self.losses += 1
        self._retry_gap = 1
        self._retry_in = 1

    def _come_back(self) -> Steps:
        self._retry_in -= 1
        if self._retry_in > 0:
            return False
        self._retry_gap = min(2 * self._retry_gap, RETRY_LIMIT)
        self._retry_in = self._retry_gap
        try:
            yield from self.setup()
        except DeviceError as exc:
            self.problem = str(exc)
            self.online = False
            return False
        if self.guard is not None:
            # torque is off after the set-up: the reference is where the joints are now
            self.guard.lose_reference()
        return True

    def apply(self, event: Event) -> None:
        """Carry an event of the guard out: arm, disarm, trip, reset."""
        kind = event[0]
        if self.guard is None or kind not in ("arm", "disarm", "trip", "reset"):
            return
        if kind == "arm":
            self.guard.arm()
            return
        self._hold = None  # what is armed again starts from where it is
        if kind == "disarm":
            self.guard.disarm()
        elif kind == "trip":
            self.guard.trip(event[1])
        elif kind == "reset":
            self.guard.reset()

    def hold(self, *, is_lasting: bool) -> None:
        """A switch of modes: what obeyed a command keeps its last position as one, until the new
        mode's first command. is_lasting: nothing commands in the new mode, so the hold does not
        grow old; else it is as old as the switch, and then the safe actions follow as usual. What
        did not obey a command goes on with its safe actions."""
        self._hold = self.guard.held() if self.guard is not None else None
        self._is_hold_lasting, self._hold_ns = is_lasting, 0
        self._hold_from_ns = self._decided_ns

    def command_at(self, t: int, command: Any, command_t: int) -> tuple[Any, int]:
        """What the guard is given at `t` as the command and its stamp: the hold, while it lasts."""
        self._decided_ns = t
        if self._hold is not None and command_t > self._hold_from_ns:
            self._hold = None
        if self._hold is None:
            return command, command_t
        if self._is_hold_lasting or not self._hold_ns:
            self._hold_ns = t
        return self._hold, self._hold_ns

    def decide(self, t: int, command: Any, command_t: int, state: Any) -> Decision:
        """One step of the guard, in the lane's one clock reading."""
        assert self.guard is not None
        measured = None
        if state is not None and state.ok.all():
            measured = micro(state.position)
        command, command_t = self.command_at(t, command, command_t)
        decision = self.guard.step(t, command, command_t, measured)
        flags = decision.flags
        if flags:
            self.flags[flags] = self.flags.get(flags, 0) + 1
            if flags & Flag.INVALID and command_t and not self._has_warned:
                self._has_warned = True
                log.warning(
                    "%s: the command is refused: expected %d finite positions in rad, found %s",
                    self.role, len(self.guard.rules), command,
                )  # fmt: skip
        return decision

    def guard_counts(self) -> dict[str, int]:
        """How often the guard had each reason to change or refuse a command."""
        counts: dict[str, int] = {}
        for flags, number in self.flags.items():
            for reason in reasons(flags):
                counts[reason] = counts.get(reason, 0) + number
        return counts

    def write(self, decision: Decision, origin: int, edge: EdgeStats, sequence: int) -> Steps:
        """Carry the decision out; note the age of the data behind it at the first byte."""
        if sequence != edge.last:
            edge.received += 1
            edge.overwritten += sequence - edge.last - 1
            edge.last = sequence
        if not self.online:
            return
        before, warden = len(self.log), self.warden
        if warden is not None:
            warden.before(decision)
        yield from self._run(self.device.write(decision))
        if self.problem:
            self._lost()
        elif warden is not None:
            warden.after(decision)
        if len(self.log) == before or not origin or decision.state is not GuardState.ARMED:
            return
        if self._hold is not None:  # no data is behind it
            return
        age = self.log[before][2].t_sent_ns - origin
        edge.count += 1
        edge.total_ns += age
        edge.worst_ns = max(edge.worst_ns, age)
        if origin != self._reacted_to:
            self._reacted_to = origin
            self.first_bytes += 1
            self.reaction_total_ns += age
            self.reaction_worst_ns = max(self.reaction_worst_ns, age)

    def last_look(self) -> Steps:
        """At a stop: the state, or None. An offline device gets another chance to be made safe;
        two, because a port that has come back says so by failing once more."""
        found = yield from self.read()
        for _ in range(2):
            if not self.online:
                self._retry_in = 0
                found = yield from self.read()
        return found[0] if found is not None else None

    def snapshot(self) -> tuple[Any, ...]:
        """State for a keyframe."""
        guard = self.guard.snapshot() if self.guard is not None else None
        hold = (self._hold, self._is_hold_lasting, self._hold_ns, self._hold_from_ns)
        link = (self.online, self._retry_in, self._retry_gap)
        return (guard, self.device.snapshot(), *link, *hold, self._decided_ns)

    def restore(self, state: tuple[Any, ...]) -> None:
        """Restore what `snapshot` gave."""
        guard, device, self.online, self._retry_in, self._retry_gap, *later = state
        if later:
            (
                self._hold,
                self._is_hold_lasting,
                self._hold_ns,
                self._hold_from_ns,
                self._decided_ns,
            ) = later
        if self.guard is not None and guard is not None:
            self.guard.restore(guard)
        self.device.restore(device)
