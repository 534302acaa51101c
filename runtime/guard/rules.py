"""What the guard is given and what it decides: integers only.

Positions are micro-units of the joint (µrad, µm), times are ns, both int64: the generated C guard
of the firmware bridge computes the same numbers from the same trace, bit for bit.
"""

import enum

import msgspec

from haihe.runtime.errors import ContractError

LIMIT = 1_000_000_000
"""Largest magnitude of a limit, a measured position or a period: no int64 product overflows."""


class SafeAction(enum.IntEnum):
    """What a joint does when there is nothing safe to obey."""

    HOLD = 0  # stay at the last position sent
    FREE = 1  # torque off: right for a gripper, wrong for an arm that would fall
    GO = 2  # drive to `safe_position` within the slew limit, then hold


class Action(enum.IntEnum):
    """What the driver shall do with one joint in this firing."""

    NONE = 0  # send nothing (disarmed)
    DRIVE = 1  # torque on, go to the position
    FREE = 2  # torque off


class GuardState(enum.IntEnum):
    """DISARMED -> ARMED by `arm`; ARMED <-> STALE by command age; SAFE is latched."""

    DISARMED = 0
    ARMED = 1
    STALE = 2  # armed, but the command is too old: safe actions until a fresh command
    SAFE = 3  # latched by e-stop, a fault or the stop of the run: left only by `reset`


class Flag(enum.IntFlag):
    """Why a decision is not simply the command; ORed over all joints."""

    RANGE = 1  # the command was outside low..high
    SLEW = 2  # the goal is further away than the slew limit allows in this step
    RATE = 4  # the rate limit changed the step: still speeding up, or braking
    STALE = 8  # no valid command that is young enough
    INVALID = 16  # no command given, or its length, its numbers or its stamp are wrong
    CLOCK = 32  # the clock went backwards: dt counts as 0
    LATE = 64  # dt was longer than two periods and was cut to that
    NO_REFERENCE = 128  # a joint waits for its measured position
    LATCHED = 256  # SAFE: only `reset` leads out


def reasons(flags: int) -> tuple[str, ...]:
    """The names of the bits in `Decision.flags`, in lower case."""
    return tuple(flag.name.lower() for flag in Flag if flag & flags and flag.name)


class JointRule(msgspec.Struct, frozen=True, gc=False):
    """Limits of one joint in micro-units.

    low, high: position range. slew: largest change of the sent position per second. rate: largest
    change of that change per second (0: no limit). safe, safe_position: see SafeAction.
    """

    name: str
    low: int
    high: int
    slew: int
    rate: int
    safe: SafeAction
    safe_position: int = 0


class Decision(msgspec.Struct, frozen=True, gc=False):
    """What may be sent: per joint an action and a position in micro-units.

    flags: bit set of `Flag` over all joints, 0 when the command passed untouched.
    """

    state: GuardState
    actions: tuple[Action, ...]
    positions: tuple[int, ...]
    flags: int


def check_rule(rule: JointRule, period_ns: int) -> None:
    """Refuse limits that contradict each other, or whose products leave int64. ContractError."""
    problem = ""
    if max(abs(rule.low), abs(rule.high), abs(rule.slew), abs(rule.rate)) > LIMIT:
        problem = f"a limit is beyond {LIMIT} micro-units (per s, per s2)"
    elif rule.low > rule.high:
        problem = f"low {rule.low} is above high {rule.high}"
    elif rule.slew * period_ns < 1_000_000_000:
        problem = f"slew {rule.slew} never moves one micro-unit in a period of {period_ns} ns"
    elif rule.rate < 0:
        problem = f"rate {rule.rate} is negative (0 is no limit)"
    elif rule.safe is SafeAction.GO and not rule.low <= rule.safe_position <= rule.high:
        problem = f"safe_position {rule.safe_position} is outside {rule.low}..{rule.high}"
    if problem:
        raise ContractError(f"guard of joint {rule.name}: {problem}. Correct the joint's limits.")
