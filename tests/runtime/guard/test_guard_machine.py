"""Random lives of a two-joint guard in real units, judged by its history and its decisions only.

The judge never looks into the guard: it keeps what was offered and what was decided, and asks
whether the sequence of decisions can be defended.
"""

import pickle
from fractions import Fraction
from math import ceil, floor
from typing import NamedTuple

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from haihe.runtime.guard import Action, Decision, GuardState, JointRule, SafeAction
from haihe.runtime.guard.guard import Guard, next_velocity
from haihe.runtime.guard.rules import Flag

MS = 1_000_000
SECOND = 1_000_000_000
PERIOD = 20 * MS
AGE = 100 * MS
SAFE_STATES = (GuardState.STALE, GuardState.SAFE)

slews = st.sampled_from([50, 1_000, 777_777, 5_000_000, 10**9])
rates = st.sampled_from([0, 0, 1, 999, 40_000, 20_000_000, 10**9])
steps_ns = st.sampled_from([0, 1, 977, 7 * MS, PERIOD - 1, PERIOD, PERIOD, PERIOD, 33 * MS])
positions = st.one_of(st.integers(-5, 5), st.integers(-3_000_000, 3_000_000))
commands = st.one_of(positions, st.sampled_from([2**63 - 1, -(2**63) + 1]))
measurements = st.one_of(st.none(), st.tuples(positions, positions))


@st.composite
def joints(draw: st.DrawFn, name: str = "j") -> JointRule:
    low, high = sorted((draw(positions), draw(positions)))
    return JointRule(
        name,
        low,
        high,
        draw(slews),
        draw(rates),
        draw(st.sampled_from(SafeAction)),
        draw(st.integers(low, high)),
    )


class Span(NamedTuple):
    """The velocities that a joint may have, as far as its positions tell."""

    low: int
    high: int

    def after(self, joint: JointRule, dt_ns: int, moved: int) -> "Span":
        """Widened by the rate limit, then cut to those whose whole step is what was seen."""
        dt = Fraction(dt_ns, SECOND)
        gain = ceil(joint.rate * dt)
        low, high = max(self.low - gain, -joint.slew), min(self.high + gain, joint.slew)
        if dt:
            first, last = abs(moved) / dt, ceil((abs(moved) + 1) / dt) - 1
            if moved > 0:
                low, high = max(low, ceil(first)), min(high, last)
            elif moved < 0:
                low, high = max(low, -last), min(high, floor(-first))
            else:
                low, high = max(low, -last), min(high, last)
        return Span(low, high)


AT_REST = Span(0, 0)


class Life(RuleBasedStateMachine):
    @initialize(data=st.data(), latch_stale=st.booleans(), start=st.sampled_from([0, 10**18]))
    def build(self, data: st.DataObject, latch_stale: bool, start: int) -> None:
        self.joints = (data.draw(joints("a")), data.draw(joints("b")))
        self.latch_stale = latch_stale
        self.guard = Guard(self.joints, AGE, PERIOD, latch_stale)
        self.now = start
        self.is_started = False
        self.offers: list[tuple[int, tuple[int, ...] | None]] = []  # of valid ones: stamp, command
        self.clock: list[list[int]] = []  # per valid offer: the time of each step since
        self.wants_to_drive = False
        self.is_driving = False
        self.is_latched = False
        self.followed_since_arming = False
        self.sent: tuple[int, ...] = (0, 0)
        self.known = [False, False]  # the joint's position is what was sent
        self.spans = [AT_REST, AT_REST]

    @rule()
    def arm(self) -> None:
        possible = not (self.is_driving or self.is_latched or self.wants_to_drive)
        assert self.guard.arm() == possible
        self.wants_to_drive |= possible

    @rule()
    def disarm(self) -> None:
        possible = not self.is_latched and (self.is_driving or self.wants_to_drive)
        assert self.guard.disarm() == possible
        if possible:
            self.is_driving = self.wants_to_drive = False

    @rule(reason=st.sampled_from(["e-stop", "fault"]))
    def trip(self, reason: str) -> None:
        before = self.guard.reason
        assert self.guard.trip(reason) == (not self.is_latched)
        assert self.guard.reason == (before if self.is_latched else reason)
        self.is_latched, self.wants_to_drive = True, False

    @rule()
    def reset(self) -> None:
        assert self.guard.reset() == self.is_latched
        if self.is_latched:
            self.is_latched = self.is_driving = False
        assert self.guard.reason == ""

    @rule()
    def keyframe(self) -> None:
        snapshot = pickle.loads(pickle.dumps(self.guard.snapshot()))
        self.guard = Guard(self.joints, AGE, PERIOD, self.latch_stale)
        self.guard.restore(snapshot)

    @rule(dt=steps_ns, command=st.tuples(commands, commands), measured=measurements)
    def obeyed_step(
        self, dt: int, command: tuple[int, ...], measured: tuple[int, ...] | None
    ) -> None:
        self.step(dt, command, 0, measured)

    @rule(
        dt=st.one_of(steps_ns, st.sampled_from([41 * MS, SECOND, 10**15, -1, -7 * MS, -SECOND])),
        command=st.one_of(
            st.none(),
            st.tuples(commands, commands),
            st.sampled_from([(), (1,), (1, 2, 3), (2**63, 0), (0, -(2**63))]),
        ),
        age=st.sampled_from([0, 1, 50 * MS, AGE, AGE + 1, SECOND, -1]),
        measured=st.one_of(measurements, st.sampled_from([(1,), (0, SECOND + 1)])),
    )
    def any_step(
        self,
        dt: int,
        command: tuple[int, ...] | None,
        age: int,
        measured: tuple[int, ...] | None,
    ) -> None:
        self.step(dt, command, age, measured)

    @precondition(lambda self: self.is_driving)
    @rule(dts=st.lists(steps_ns, min_size=1, max_size=30), command=st.tuples(commands, commands))
    def drive(self, dts: list[int], command: tuple[int, ...]) -> None:
        for dt in dts:
            self.step(dt, command, 0, (0, 0))

    def step(
        self,
        dt: int,
        command: tuple[int, ...] | None,
        age: int,
        measured: tuple[int, ...] | None,
    ) -> None:
        self.now += dt
        decision = self.guard.step(self.now, command, self.now - age, measured)
        passed = min(max(dt, 0), 2 * PERIOD) if self.is_started else 0
        assert bool(decision.flags & Flag.CLOCK) == (self.is_started and dt < 0)
        assert bool(decision.flags & Flag.LATE) == (self.is_started and dt > 2 * PERIOD)
        self.is_started = True
        followed = self.judge_command(command, age, decision)
        if measured is not None and (len(measured) != 2 or max(map(abs, measured)) > SECOND):
            measured = None
        self.judge_state(followed, measured, decision)
        self.judge_joints(passed, followed, measured, decision)
        self.sent = decision.positions

    def judge_command(
        self, command: tuple[int, ...] | None, age: int, decision: Decision
    ) -> tuple[int, ...] | None:
        """The last valid offer, if it has been young enough at every step since."""
        is_valid = command is not None and len(command) == 2 and age >= 0
        is_valid = is_valid and all(abs(value) < 2**63 for value in command or ())
        assert bool(decision.flags & Flag.INVALID) == (not is_valid)
        if is_valid:
            self.offers.append((self.now - age, command))
            self.clock.append([])
        if not self.offers:
            return None
        self.clock[-1].append(self.now)
        stamp, offer = self.offers[-1]
        return offer if all(0 <= now - stamp <= AGE for now in self.clock[-1]) else None

    def judge_state(
        self,
        followed: tuple[int, ...] | None,
        measured: tuple[int, ...] | None,
        decision: Decision,
    ) -> None:
        if self.wants_to_drive and measured is not None:
            self.wants_to_drive, self.is_driving = False, True
            self.followed_since_arming = False
            self.known = [False, False]
        if self.is_driving and not self.is_latched and followed is None:
            self.is_latched = self.latch_stale and self.followed_since_arming
            assert not self.is_latched or self.guard.reason == "command stale"
        if self.is_driving and followed is not None:
            self.followed_since_arming = True
        if self.is_latched:
            assert decision.state is GuardState.SAFE
        elif not self.is_driving:
            assert decision.state is GuardState.DISARMED
        else:
            assert decision.state is (GuardState.ARMED if followed else GuardState.STALE)
        assert decision.state is self.guard.state
        assert bool(decision.flags & Flag.LATCHED) == self.is_latched

    def judge_joints(
        self,
        passed: int,
        followed: tuple[int, ...] | None,
        measured: tuple[int, ...] | None,
        decision: Decision,
    ) -> None:
        assert len(decision.actions) == len(decision.positions) == 2
        if not self.is_driving:
            assert set(decision.actions) == {Action.NONE}
            assert decision.positions == self.sent
            return
        is_safe = decision.state in SAFE_STATES
        waits = False
        limits = 0
        for number, joint in enumerate(self.joints):
            position = decision.positions[number]
            start = self.sent[number]
            is_free = is_safe and joint.safe is SafeAction.FREE
            if not is_free and not self.known[number]:
                waits = waits or measured is None
                if measured is not None:
                    start, self.spans[number] = measured[number], AT_REST
                is_free = measured is None
            self.known[number] = not is_free
            if is_free:
                assert decision.actions[number] is Action.FREE
                assert position == start
                continue
            assert decision.actions[number] is Action.DRIVE
            if is_safe and joint.safe is SafeAction.HOLD:
                assert position == start
                self.spans[number] = AT_REST
                continue
            goal = joint.safe_position
            if not is_safe:
                assert followed is not None
                goal = followed[number]
            limits |= self.judge_motion(number, passed, start, position, goal)
        mask = Flag.RANGE | Flag.SLEW | Flag.RATE
        assert Flag(decision.flags) & mask == limits
        assert bool(decision.flags & Flag.NO_REFERENCE) == waits

    def judge_motion(self, number: int, passed: int, start: int, position: int, goal: int) -> int:
        joint, moved = self.joints[number], position - start
        target = sorted((joint.low, goal, joint.high))[1]
        assert abs(moved) <= Fraction(joint.slew * passed, SECOND)
        if start > joint.high:
            assert joint.low <= position <= start
        elif start < joint.low:
            assert start <= position <= joint.high
        else:
            assert joint.low <= position <= joint.high
        reach = floor(Fraction(joint.slew * passed, SECOND))
        slewed = sorted((-reach, target - start, reach))[1]
        if joint.rate == 0:
            assert moved == slewed
        else:
            span = self.spans[number].after(joint, passed, moved)
            assert span.low <= span.high, "no velocity within the rate limit explains this step"
            self.spans[number] = span
        return int(
            (Flag.RANGE if target != goal else 0)
            | (Flag.SLEW if abs(target - start) > reach else 0)
            | (Flag.RATE if moved != slewed else 0)
        )


TestLife = pytest.mark.slow(Life.TestCase)
TestLife.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)


def drive_from_rest(joint: JointRule, goal: int, dts: list[int]) -> list[Decision]:
    guard = Guard((joint,), 0, PERIOD)
    guard.arm()
    now, decisions = 0, []
    for dt in [0, *dts]:
        now += dt
        decisions.append(guard.step(now, (goal,), now, (0,)))
    return decisions


@settings(max_examples=1000, deadline=None)
@given(
    rate=st.integers(1, SECOND) | rates.filter(bool),
    velocity=st.integers(0, SECOND) | st.integers(0, 5_000_000),
    dt=st.integers(0, 2 * SECOND) | steps_ns,
    spare=st.integers(0, 3) | st.integers(0, 10**6),
    back=st.just(0) | st.integers(0, 10**6),
)
def test_a_step_keeps_the_stop_before_the_bound(
    rate: int, velocity: int, dt: int, spare: int, back: int
) -> None:
    """The induction step of the proof in guard.py: the goal lies `back` before the bound."""
    room = max(ceil(Fraction(velocity**2 + 1, 2 * rate)) - 1, 0) + spare
    assume(room <= 2 * SECOND)
    joint = JointRule("j", -SECOND, SECOND, SECOND, rate, SafeAction.HOLD)
    after = next_velocity(joint, room - back, velocity, dt)
    assert abs(after - velocity) <= ceil(Fraction(rate * dt, SECOND))
    if after > 0:
        room -= floor(Fraction(after * dt, SECOND))
        assert room >= 0
        assert after**2 <= 2 * rate * (room + 1) - 1


@settings(max_examples=300, deadline=None)
@given(
    slew=slews,
    rate=rates,
    goal=st.integers(-2_000_000, 2_000_000),
    dts=st.lists(st.integers(0, 2 * PERIOD), max_size=300),
)
def test_a_steady_goal_is_never_passed_and_never_left(
    slew: int, rate: int, goal: int, dts: list[int]
) -> None:
    joint = JointRule("j", -2_000_000, 2_000_000, slew, rate, SafeAction.HOLD)
    positions = [abs(decision.positions[0]) for decision in drive_from_rest(joint, goal, dts)]
    assert positions == sorted(positions)
    assert positions[-1] <= abs(goal)


@settings(max_examples=200, deadline=None)
@given(
    slew=st.integers(500_000, 10_000_000),
    rate=st.one_of(st.just(0), st.integers(5_000_000, 1_000_000_000)),
    goal=st.integers(-1_000_000, 1_000_000),
)
def test_a_steady_goal_is_reached_in_about_the_time_of_a_trapezoid(
    slew: int, rate: int, goal: int
) -> None:
    """Cruise, ramps up and down, and a tail of a few periods for the last micro-units."""
    joint = JointRule("j", -1_000_000, 1_000_000, slew, rate, SafeAction.HOLD)
    ideal = Fraction(abs(goal), slew)
    if rate:
        ideal += Fraction(slew, rate)
    steps = ceil(ideal * SECOND / PERIOD) + 60
    last = drive_from_rest(joint, goal, [PERIOD] * steps)[-1]
    assert last.positions == (goal,)
    assert last.flags == 0


@pytest.mark.parametrize("sign", [-1, 1])
def test_the_largest_products_fit_int64(sign: int) -> None:
    """The limits of `check_rule` at their extreme: the header of guard.py claims < 2**63."""
    limit, dt = SECOND, 2 * SECOND
    distance = 2 * limit
    gain = limit * dt // SECOND
    assert max(limit * dt + SECOND - 1, gain * gain + 2 * limit * (distance + 1)) < 2**63
    joint = JointRule("j", -limit, limit, limit, limit, SafeAction.HOLD)
    guard = Guard((joint,), 0, SECOND)
    guard.arm()
    for now in range(0, 20 * SECOND, 2 * SECOND):
        decision = guard.step(now, (sign * limit,), now, (-sign * limit,))
    assert decision.positions == (sign * limit,)
