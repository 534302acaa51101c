"""The guard between command and driver: one small state machine, integers only, no clock.

Every number fits int64 and a C99 twin gives the same bits:
- stamps lie within +-2**62 ns, so that their difference fits; rules pass `check_rule`; a period
  is 1..10**9 ns, so dt <= 2 * 10**9 and the products slew * dt and rate * dt stay <= 2 * 10**18;
- every division has a dividend >= 0 and a divisor > 0: floor and truncation are the same.
  Velocities are signed micro-units/s; a step is the magnitude floor(|v| * dt / 10**9), signed.

Braking. Let D be the distance to the bound ahead and A = ceil(rate * dt / 10**9). The step keeps

    v * v <= 2 * rate * (D + 1) - 1        (whole micro-units: the stop is short of D + 1)

A new velocity up to isqrt(A*A + 2*rate*(D+1) - 1) - A keeps it after its own step, and so does
full braking (v - A) if it held before. The goal is never beyond a bound, so whatever dt comes
next, the sent position never leaves the range and never passes a goal that it can still stop at.
A*A + 2*rate*(D+1) <= 4 * 10**18 + 4 * 10**18 + 2 * 10**9 < 2**63.
"""

from math import isqrt

from haihe.runtime.errors import ContractError, RecordError
from haihe.runtime.guard.rules import (
    LIMIT,
    Action,
    Decision,
    Flag,
    GuardState,
    JointRule,
    SafeAction,
    check_rule,
)

SECOND = 1_000_000_000
COMMAND_LIMIT = 2**63 - 1  # symmetric: -2**63 has no magnitude in int64

# Attributes of an enum class and `|` of IntFlag are slow: plain names and ints on the hot path.
_DISARMED, _ARMED, _STALE, _SAFE = GuardState
_NONE, _DRIVE, _FREE = Action
_RANGE, _SLEW, _RATE = int(Flag.RANGE), int(Flag.SLEW), int(Flag.RATE)
_STALE_COMMAND, _INVALID, _CLOCK = int(Flag.STALE), int(Flag.INVALID), int(Flag.CLOCK)
_LATE, _NO_REFERENCE, _LATCHED = int(Flag.LATE), int(Flag.NO_REFERENCE), int(Flag.LATCHED)
_SAFE_HOLD, _SAFE_FREE = SafeAction.HOLD, SafeAction.FREE

Snapshot = tuple[
    int,  # state
    bool,  # is_arming
    bool,  # is_engaged
    int | None,  # t_ns of the last step
    tuple[int, ...] | None,  # last valid command
    int,  # its stamp
    tuple[int, ...],  # sent positions
    tuple[int, ...],  # velocities
    tuple[bool, ...],  # is_referenced
    str,  # reason
]


def next_velocity(rule: JointRule, distance: int, velocity: int, dt_ns: int) -> int:
    """Velocity towards a goal at signed `distance` under slew, rate and braking distance."""
    gain = (rule.rate * dt_ns + SECOND - 1) // SECOND
    wish = 0
    if distance:
        room = 2 * rule.rate * (abs(distance) + 1) - 1
        wish = min(isqrt(gain * gain + room) - gain, rule.slew)
        if distance < 0:
            wish = -wish
    return max(velocity - gain, min(wish, velocity + gain))


class Guard:
    """Range, slew and rate limits, command age, arming, latch and safe actions of some joints.

    Events (`arm`, `disarm`, `trip`, `reset`) are applied before a step and tell whether they took
    effect. `reason` is that of the first trip, empty when not latched.
    """

    __slots__ = (
        "_command",
        "_command_age_ns",
        "_command_t_ns",
        "_dt_limit_ns",
        "_is_arming",
        "_is_engaged",
        "_is_referenced",
        "_latch_stale",
        "_sent",
        "_t_ns",
        "_velocity",
        "reason",
        "rules",
        "state",
    )

    def __init__(
        self,
        rules: tuple[JointRule, ...],
        command_age_ns: int,
        period_ns: int,
        latch_stale: bool = False,
    ) -> None:
        """latch_stale: an armed guard whose command grows stale trips. Raises ContractError."""
        if not 0 < period_ns <= LIMIT or command_age_ns < 0:
            raise ContractError(
                f"guard: period {period_ns} ns, command age {command_age_ns} ns; expected a period "
                f"of 1..{LIMIT} ns and an age of 0 or more. Correct the contract."
            )
        for rule in rules:
            check_rule(rule, period_ns)
        self.rules = rules
        self.state = _DISARMED
        self.reason = ""
        self._command_age_ns = command_age_ns
        self._dt_limit_ns = 2 * period_ns
        self._latch_stale = latch_stale
        self._is_arming = False  # armed by the user, the measured position is still unknown
        self._is_engaged = False  # the joints have been driven since arming
        self._t_ns: int | None = None
        self._command: tuple[int, ...] | None = None
        self._command_t_ns = 0
        self._sent = [0] * len(rules)
        self._velocity = [0] * len(rules)
        self._is_referenced = [False] * len(rules)

    def arm(self) -> bool:
        """Ask to drive. Until a step knows the measured positions, the state stays DISARMED."""
        if self.state is not _DISARMED or self._is_arming:
            return False
        self._is_arming = True
        return True

    def disarm(self) -> bool:
        """Stop sending, or withdraw an `arm`; no effect when latched."""
        if self.state is _SAFE or not (self._is_engaged or self._is_arming):
            return False
        self._rest()
        return True

    def trip(self, reason: str) -> bool:
        """Latch SAFE: safe actions if the joints were driven, nothing at all if they were not."""
        if self.state is _SAFE:
            return False
        self.state = _SAFE
        self.reason = reason
        self._is_arming = False
        return True

    def reset(self) -> bool:
        """Leave SAFE, to DISARMED only."""
        if self.state is not _SAFE:
            return False
        self._rest()
        self.reason = ""
        return True

    def lose_reference(self) -> None:
        """The joints may have been moved with torque off (a reconnect): every joint starts again
        from its measured position, and is free until that is known."""
        self._is_referenced = [False] * len(self.rules)

    def held(self) -> tuple[int, ...] | None:
        """The positions last sent, if it obeys a command with every joint; None otherwise."""
        if self.state is not _ARMED or not all(self._is_referenced):
            return None
        return tuple(self._sent)

    def step(
        self,
        t_ns: int,
        command: tuple[int, ...] | None,
        command_t_ns: int,
        measured: tuple[int, ...] | None,
    ) -> Decision:
        """Decide what may be sent at `t_ns`.

        command: the newest there is, stamped `command_t_ns`; None if none, or if the caller
        holds it invalid. measured: the joint positions if known in this cycle.
        """
        dt_ns = 0 if self._t_ns is None else t_ns - self._t_ns
        self._t_ns = t_ns
        flags = 0
        if dt_ns < 0:
            dt_ns = 0
            flags = _CLOCK
        elif dt_ns > self._dt_limit_ns:
            dt_ns = self._dt_limit_ns
            flags = _LATE
        if command is not None and command_t_ns <= t_ns and self._fits(command, COMMAND_LIMIT):
            self._command = command
            self._command_t_ns = command_t_ns
        else:
            flags |= _INVALID
        # A command once found too old (or stamped after now: the clock went back) is forgotten.
        if not 0 <= t_ns - self._command_t_ns <= self._command_age_ns:
            self._command = None
        if measured is not None and not self._fits(measured, LIMIT):
            measured = None
        flags |= self._change_state(measured)
        if not self._is_engaged:
            return Decision(self.state, (_NONE,) * len(self.rules), tuple(self._sent), flags)
        return self._decide(dt_ns, measured, flags)

    def _fits(self, values: tuple[int, ...], limit: int) -> bool:
        if len(values) != len(self.rules):
            return False
        for value in values:  # noqa: SIM110 - all() with a generator costs 0.4 us more
            if not -limit <= value <= limit:
                return False
        return True

    def _change_state(self, measured: tuple[int, ...] | None) -> int:
        """Arming and staleness; gives the flags of the new state."""
        if self._is_arming:
            if measured is None:
                return _NO_REFERENCE
            self.state = _STALE
            self._is_arming = False
            self._is_engaged = True
            self._is_referenced = [False] * len(self.rules)
        if self.state is _SAFE:
            return _LATCHED
        if not self._is_engaged:
            return 0
        if self._command is not None:
            self.state = _ARMED
            return 0
        if self._latch_stale and self.state is _ARMED:
            self.trip("command stale")
            return _LATCHED | _STALE_COMMAND
        self.state = _STALE
        return _STALE_COMMAND

    def _rest(self) -> None:
        self.state = _DISARMED
        self._is_arming = False
        self._is_engaged = False

    def _decide(self, dt_ns: int, measured: tuple[int, ...] | None, flags: int) -> Decision:
        command = self._command if self.state is _ARMED else None
        sent = self._sent
        actions = []
        for joint, rule in enumerate(self.rules):
            if command is None and rule.safe is _SAFE_FREE:
                self._is_referenced[joint] = False
                actions.append(_FREE)
                continue
            if not self._is_referenced[joint]:  # start from where it is, at rest
                if measured is None:
                    flags |= _NO_REFERENCE
                    actions.append(_FREE)
                    continue
                sent[joint] = measured[joint]
                self._velocity[joint] = 0
                self._is_referenced[joint] = True
            actions.append(_DRIVE)
            if command is not None:
                goal = min(max(command[joint], rule.low), rule.high)
                if goal != command[joint]:
                    flags |= _RANGE
            elif rule.safe is _SAFE_HOLD:  # a hold never moves on, not even to brake
                self._velocity[joint] = 0
                continue
            else:
                goal = rule.safe_position
            flags |= self._move(joint, rule, goal - sent[joint], dt_ns)
        return Decision(self.state, tuple(actions), tuple(sent), flags)

    def _move(self, joint: int, rule: JointRule, distance: int, dt_ns: int) -> int:
        """Move the sent position of a joint towards its goal; gives the limits that acted."""
        flags = 0
        limit = rule.slew * dt_ns // SECOND
        step = distance
        if step > limit or step < -limit:
            step = limit if step > 0 else -limit
            flags = _SLEW
        if rule.rate:
            velocity = next_velocity(rule, distance, self._velocity[joint], dt_ns)
            self._velocity[joint] = velocity
            slewed = step
            step = abs(velocity) * dt_ns // SECOND
            if velocity < 0:
                step = -step
            if step != slewed:
                flags |= _RATE
        self._sent[joint] += step
        return flags

    def snapshot(self) -> Snapshot:
        """The whole state as plain values, for the keyframes of a recording."""
        return (
            int(self.state),
            self._is_arming,
            self._is_engaged,
            self._t_ns,
            self._command,
            self._command_t_ns,
            tuple(self._sent),
            tuple(self._velocity),
            tuple(self._is_referenced),
            self.reason,
        )

    def restore(self, snapshot: Snapshot) -> None:
        """Continue from a snapshot of a guard with the same joints. Raises RecordError."""
        if len(snapshot[6]) != len(self.rules):
            raise RecordError(
                f"guard: the snapshot has {len(snapshot[6])} joints, expected {len(self.rules)}. "
                "Replay it with the graph that it was recorded with."
            )
        (
            state,
            self._is_arming,
            self._is_engaged,
            self._t_ns,
            self._command,
            self._command_t_ns,
            sent,
            velocity,
            is_referenced,
            self.reason,
        ) = snapshot
        self.state = GuardState(state)
        self._sent = list(sent)
        self._velocity = list(velocity)
        self._is_referenced = list(is_referenced)
