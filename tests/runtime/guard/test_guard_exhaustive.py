"""Every reachable state of a one-joint guard on a tiny range, and every transition out of it.

Positions are whole units in -2..2, one period is one second. The walk does not stop at a depth: it
ends when no new state appears, so sequences of every length are covered. Each transition is
judged by a specification written from the rules, not from the code.
"""

from collections import deque
from itertools import product
from typing import NamedTuple

import pytest

from haihe.runtime.guard import Action, Decision, GuardState, JointRule, SafeAction
from haihe.runtime.guard.guard import Guard, Snapshot
from haihe.runtime.guard.rules import Flag

SECOND = 1_000_000_000
LOW, HIGH = -2, 2
AGE = 1  # s
DTS = (-1, 0, 1, 3)  # s; 3 is late and counts as 2
MEASURED = (None, (-4,), (1,), (5_000_000_000,))
COMMANDS: list[tuple[tuple[int, ...] | None, int]] = [  # (command, age in s)
    (None, 0),
    ((), 0),
    ((1, 1), 0),
    ((2**63,), 0),
    ((-(2**63),), 0),
    *(((value,), 0) for value in range(-3, 4)),
    *(((value,), age) for value in (-2, 2) for age in (-1, AGE, AGE + 1)),
]
# `|` of two IntFlags takes longer than a step of the guard.
RANGE, SLEW, RATE, STALE, INVALID, CLOCK, LATE, NO_REFERENCE, LATCHED = map(int, Flag)
EVENTS = ("arm", "disarm", "trip", "reset")


class Config(NamedTuple):
    safe: SafeAction
    slew: int
    rate: int
    latch_stale: bool = False

    def guard(self) -> Guard:
        rule = JointRule("j", LOW, HIGH, self.slew, self.rate, self.safe, safe_position=-1)
        return Guard((rule,), AGE * SECOND, SECOND, self.latch_stale)


class View(NamedTuple):
    """A snapshot in the words of the specification, times in s before now."""

    state: GuardState
    is_arming: bool
    is_engaged: bool
    is_started: bool
    command: tuple[int, ...] | None
    age: int
    sent: int
    velocity: int
    is_referenced: bool
    reason: str


def view(snapshot: Snapshot) -> View:
    state, arming, engaged, t_ns, command, command_t_ns, sent, velocity, referenced, reason = (
        snapshot
    )
    age = 0 if command is None or t_ns is None else (t_ns - command_t_ns) // SECOND
    return View(
        GuardState(state),
        arming,
        engaged,
        t_ns is not None,
        command,
        age,
        sent[0],
        velocity[0],
        referenced[0],
        reason,
    )


def snapshot_at_zero(state: View) -> Snapshot:
    return (
        int(state.state),
        state.is_arming,
        state.is_engaged,
        0 if state.is_started else None,
        state.command,
        -state.age * SECOND,
        (state.sent,),
        (state.velocity,),
        (state.is_referenced,),
        state.reason,
    )


def expected_event(state: View, event: str) -> View:
    """What an event does, as a table: anything not listed has no effect."""
    match event, state.state, state.is_arming:
        case "arm", GuardState.DISARMED, False:
            return state._replace(is_arming=True)
        case "disarm", GuardState.DISARMED, True:
            return state._replace(is_arming=False)
        case "disarm", GuardState.ARMED | GuardState.STALE, _:
            return state._replace(state=GuardState.DISARMED, is_engaged=False)
        case "trip", GuardState.DISARMED | GuardState.ARMED | GuardState.STALE, _:
            return state._replace(state=GuardState.SAFE, is_arming=False, reason="test")
        case "reset", GuardState.SAFE, _:
            return state._replace(state=GuardState.DISARMED, is_engaged=False, reason="")
    return state


def check_step(
    config: Config,
    before: View,
    dt: int,
    offer: tuple[tuple[int, ...] | None, int],
    measured: tuple[int, ...] | None,
    after: View,
    decision: Decision,
) -> None:
    command, age = offer
    flags = 0
    if not before.is_started:
        dt = 0
    passed = min(max(dt, 0), 2)
    flags |= CLOCK if dt < 0 else LATE if dt > 2 else 0

    # The command that may be followed.
    is_valid = command is not None and len(command) == 1 and abs(command[0]) < 2**63 and age >= 0
    if not is_valid:
        flags |= INVALID
        command, age = before.command, before.age + dt
    if not 0 <= age <= AGE:
        command = None
    assert after.command == command
    assert command is None or after.age == age

    # The state.
    position = None if measured is None or abs(measured[0]) > SECOND else measured[0]
    is_arming_now = before.is_arming and position is not None
    latched = False
    if before.state is GuardState.SAFE:
        state = GuardState.SAFE
    elif before.state is GuardState.DISARMED and not is_arming_now:
        state = GuardState.DISARMED
        flags |= NO_REFERENCE if before.is_arming else 0
    elif command is not None:
        state = GuardState.ARMED
    else:
        latched = config.latch_stale and before.state is GuardState.ARMED
        state = GuardState.SAFE if latched else GuardState.STALE
        flags |= STALE
    flags |= LATCHED if state is GuardState.SAFE else 0
    assert decision.state is after.state is state
    assert after.is_arming == (before.is_arming and not is_arming_now)
    assert after.is_engaged == (before.is_engaged or is_arming_now)
    assert after.reason == ("command stale" if latched else before.reason)
    assert decision.positions == (after.sent,)

    # The action.
    if not after.is_engaged:
        assert decision.actions == (Action.NONE,)
        assert after.sent == before.sent
        assert decision.flags == flags
        return
    start, velocity = before.sent, before.velocity
    is_referenced = before.is_referenced and not is_arming_now
    is_free = state is not GuardState.ARMED and config.safe is SafeAction.FREE
    if not is_free and not is_referenced:
        if position is None:
            is_free = True
            flags |= NO_REFERENCE
        else:
            start, velocity = position, 0
    if is_free:
        assert decision.actions == (Action.FREE,)
        assert after.sent == start
        assert not after.is_referenced
        assert decision.flags == flags
        return
    assert decision.actions == (Action.DRIVE,)
    assert after.is_referenced

    # The motion.
    moved = after.sent - start
    if state is not GuardState.ARMED and config.safe is SafeAction.HOLD:
        assert (moved, after.velocity) == (0, 0)
        assert decision.flags == flags
        return
    goal = -1
    if state is GuardState.ARMED:
        assert command is not None
        goal = command[0]
        flags |= RANGE if not LOW <= goal <= HIGH else 0
        goal = sorted((LOW, goal, HIGH))[1]
    reach = config.slew * passed
    slewed = sorted((-reach, goal - start, reach))[1]
    flags |= SLEW if slewed != goal - start else 0
    flags |= RATE if moved != slewed else 0
    assert decision.flags == flags
    assert abs(moved) <= reach
    if LOW <= start <= HIGH:
        assert LOW <= after.sent <= HIGH
    else:  # only towards the range, and not out at its other end
        assert moved * (1 if start < LOW else -1) >= 0
        assert abs(start) >= abs(after.sent)
    if config.rate == 0:
        assert moved == slewed
        return
    assert abs(after.velocity) <= config.slew
    assert abs(after.velocity - velocity) <= config.rate * passed
    assert moved == after.velocity * passed
    if velocity * (goal - start) >= 0 and abs(velocity) <= 1:  # one second of braking stops it
        assert min(start, goal) <= after.sent <= max(start, goal)


def check_arrival(config: Config, guard: Guard, state: View) -> None:
    """From every armed state each command is reached, in few periods, when it stays."""
    for goal in range(LOW, HIGH + 1):
        guard.restore(snapshot_at_zero(state))
        for second in range(1, 12):
            decision = guard.step(second * SECOND, (goal,), second * SECOND, (1,))
        assert decision.positions == (goal,)
        assert decision.flags == 0


CONFIGS = [
    Config(SafeAction.HOLD, 1, 0),
    Config(SafeAction.FREE, 1, 0, latch_stale=True),
    Config(SafeAction.GO, 1, 0),
    Config(SafeAction.HOLD, 2, 1),
    Config(SafeAction.FREE, 2, 1),
    Config(SafeAction.GO, 2, 1, latch_stale=True),
]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: "-".join(map(str, c)))
def test_every_transition_of_every_reachable_state(config: Config) -> None:
    guard = config.guard()
    start = view(guard.snapshot())
    depths = {start: 0}
    queue = deque([start])
    transitions = 0
    reached = set()

    def visit(new: View, depth: int) -> None:
        if new not in depths:
            depths[new] = depth
            queue.append(new)

    while queue:
        before = queue.popleft()
        depth = depths[before] + 1
        origin = snapshot_at_zero(before)
        for event in EVENTS:
            guard.restore(origin)
            took = guard.trip("test") if event == "trip" else getattr(guard, event)()
            after = view(guard.snapshot())
            assert after == expected_event(before, event)
            assert took == (after != before)
            transitions += 1
            visit(after, depth)
        for dt, offer, measured in product(DTS, COMMANDS, MEASURED):
            guard.restore(origin)
            t_ns = dt * SECOND
            decision = guard.step(t_ns, offer[0], t_ns - offer[1] * SECOND, measured)
            after = view(guard.snapshot())
            check_step(config, before, dt, offer, measured, after, decision)
            transitions += 1
            reached.add((decision.state, decision.actions[0]))
            visit(after, depth)
        if before.state is GuardState.ARMED:
            check_arrival(config, guard, before)
    print(
        f"{config}: {len(depths)} states, {transitions} transitions, depth {max(depths.values())}"
    )
    assert {state for state, _ in reached} == set(GuardState)
    assert (GuardState.SAFE, Action.NONE) in reached
    assert (GuardState.ARMED, Action.DRIVE) in reached
