"""What the guard is given and what it decides: integers only.

Positions are micro-units of the joint (µrad, µm), times are ns, both int64: the generated C guard
of the firmware bridge computes the same numbers from the same trace, bit for bit.
"""

import enum

import msgspec


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

    flags: bit set of `guard.flags` reasons over all joints, 0 when the command passed untouched.
    """

    state: GuardState
    actions: tuple[Action, ...]
    positions: tuple[int, ...]
    flags: int
