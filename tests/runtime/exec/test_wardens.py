"""The owner's side of a warden: what it stages and when it is armed, the port it hands over, the
warden that dies. Real wardens; their limit is a minute, since the owner here is pytest."""

import fcntl
import os
import pty
import select
import signal
import threading
import time
import tty
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from haihe.drivers.ports.serial import SerialPort
from haihe.drivers.servo.sts import StsGroup, StsJoint, StsOptions
from haihe.drivers.servo.sts_emulator import StsEmulator
from haihe.runtime.errors import DeviceError
from haihe.runtime.exec import wardens
from haihe.runtime.exec.bus import BusRunner
from haihe.runtime.exec.wardens import Warden, WardenSpec, safe_decision, warden_of
from haihe.runtime.guard import Action, Decision, GuardState, JointRule, SafeAction
from haihe.runtime.guard import warden as shared
from haihe.runtime.guard.guard import Guard
from haihe.runtime.io import Exchange, Reply
from haihe.runtime.telemetry.stats import EdgeStats

NONE, DRIVE, FREE = Action
ARMED, SAFE = GuardState.ARMED, GuardState.SAFE
MS = 1_000_000
MINUTE = 60_000 * MS
PATIENCE_S = 20.0
RULES = (
    JointRule("pan", -1_000_000, 1_000_000, 5_000_000, 0, SafeAction.HOLD),
    JointRule("tilt", -1_000_000, 1_000_000, 1_000_000, 0, SafeAction.GO, 300_000),
    JointRule("grip", -1_000_000, 1_000_000, 5_000_000, 0, SafeAction.FREE),
)
OPTIONS = StsOptions(tuple(StsJoint(rule.name, i) for i, rule in enumerate(RULES, 1)))


def decided(*positions: int, state: GuardState = ARMED, actions: Any = (DRIVE,) * 3) -> Decision:
    return Decision(state, tuple(actions), positions, 0)


class Counted(StsGroup):
    built = 0

    def safe_frames(self, decision: Decision, rules: tuple[JointRule, ...]) -> bytes:
        self.built += 1
        return super().safe_frames(decision, rules)


class Fixture:
    """A warden of three servos on a pty."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.device = Counted(OPTIONS)
        self.far, self.near = pty.openpty()
        tty.setraw(self.near)
        self.path = os.ttyname(self.near)
        self.port = SerialPort(self.path)
        self.warden = Warden("arm", self.device, RULES, MINUTE, self.events.append)
        self.warden.take(self.port)

    def word(self, index: int) -> int:
        return int(self.warden._words[index])

    def staged(self) -> bytes:
        return shared.frames_in(self.warden._shared, self.word(shared.VALID))

    def fire(self, decision: Decision) -> None:
        self.warden.before(decision)
        self.warden.after(decision)

    def close(self) -> None:
        self.warden.close()
        self.port.close()
        os.close(self.far)
        os.close(self.near)


@pytest.fixture
def made() -> Iterator[Fixture]:
    fixture = Fixture()
    yield fixture
    fixture.close()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def safe(*positions: int) -> bytes:
    return StsGroup(OPTIONS).safe_frames(Decision(SAFE, (DRIVE, DRIVE, FREE), positions, 0), RULES)


def test_the_safe_action_of_each_joint() -> None:
    assert safe_decision(decided(10, 20, 30), RULES) == Decision(
        SAFE, (DRIVE, DRIVE, FREE), (10, 300_000, 30), 0
    )
    # nobody knows where a joint without a reference is
    assert safe_decision(decided(10, 20, 30, actions=(FREE, FREE, FREE)), RULES) == Decision(
        SAFE, (FREE, FREE, FREE), (10, 20, 30), 0
    )


def test_the_limit_is_five_periods_and_100_ms_or_what_the_unit_says() -> None:
    assert WardenSpec().limit(20 * MS) == 100 * MS
    assert WardenSpec().limit(50 * MS) == 250 * MS
    assert WardenSpec(70 * MS).limit(50 * MS) == 70 * MS


def test_it_is_armed_exactly_while_the_joints_are_driven(made: Fixture) -> None:
    resting = decided(0, 0, 0, state=GuardState.DISARMED, actions=(NONE,) * 3)
    states = []
    for decision in (resting, decided(1, 2, 3), decided(1, 2, 3, state=SAFE), resting):
        made.fire(decision)
        states.append(made.word(shared.STATE))
    assert states == [shared.DISARMED, shared.ARMED, shared.ARMED, shared.DISARMED]
    assert made.events == []


def test_the_frames_are_there_before_the_first_write_and_change_after_the_others(
    made: Fixture,
) -> None:
    warden = made.warden
    warden.before(decided(1000, 0, 0))
    assert made.staged() == safe(1000, 300_000, 0)
    warden.after(decided(1000, 0, 0))
    warden.before(decided(9000, 0, 0))
    assert made.staged() == safe(1000, 300_000, 0)  # not on the wire yet
    warden.after(decided(9000, 0, 0))
    assert made.staged() == safe(9000, 300_000, 0)


def test_they_are_built_only_when_what_must_be_held_has_changed(made: Fixture) -> None:
    for place in range(0, 50_000, 1000):
        made.fire(decided(7, place, place))  # pan, which holds, stands still
    assert made.device.built == 1
    made.fire(decided(8, 0, 0))
    assert made.device.built == 2
    made.fire(decided(8, 0, 0, actions=(FREE, DRIVE, DRIVE)))
    assert made.device.built == 3


def test_the_heartbeat_is_stored_before_and_after_the_write(made: Fixture) -> None:
    stamps = [time.monotonic_ns()]
    made.warden.before(decided(1, 2, 3))
    stamps += [made.word(shared.BEAT), time.monotonic_ns()]
    made.warden.after(decided(1, 2, 3))
    stamps += [made.word(shared.BEAT), time.monotonic_ns()]
    assert stamps == sorted(stamps)


def test_a_heartbeat_later_than_half_the_limit_is_a_near_miss(
    made: Fixture, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made.fire(decided(1, 2, 3))
    ahead = MINUTE // 2 + MS
    monkeypatch.setattr(wardens, "now_ns", lambda: time.monotonic_ns() + ahead)
    made.fire(decided(1, 2, 3))
    made.fire(decided(1, 2, 3))
    assert made.warden.near_misses == 1
    made.warden.close()
    assert made.warden.near_misses == 1
    assert caplog.messages == [
        "arm: its lane gave no sign for more than half the limit of its warden (60000 ms) 1 times. "
        "Give the lane a real-time priority, or the warden more time."
    ]


def test_the_end_is_without_a_byte_and_frees_the_lock(made: Fixture) -> None:
    made.fire(decided(1, 2, 3))
    pid = made.warden.pid
    made.warden.disarm()
    made.warden.close()
    made.port.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert not select.select([made.far], [], [], 0.05)[0]
    made.port = SerialPort(made.path)


def test_a_lost_port_is_let_go_so_that_it_can_be_opened_again(made: Fixture) -> None:
    made.fire(decided(1, 2, 3))
    made.port.close()
    assert _is_locked(made.path)  # by the warden's duplicate
    made.warden.release()
    assert made.word(shared.STATE) == shared.DISARMED
    until(lambda: not _is_locked(made.path))
    made.port = SerialPort(made.path)
    made.warden.take(made.port)
    made.port.close()
    until(lambda: _is_locked(made.path))


def _is_locked(path: str) -> bool:
    fd = os.open(path, os.O_RDWR | os.O_NOCTTY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(fd)


def test_a_warden_that_dies_trips_the_guard_and_is_started_again(
    made: Fixture, caplog: pytest.LogCaptureFixture
) -> None:
    made.fire(decided(1, 2, 3))
    first = made.warden.pid
    os.kill(first, signal.SIGKILL)
    until(lambda: made.warden.deaths == 1)
    until(lambda: made.warden.pid != first)
    until(lambda: made.warden._renewed)
    assert caplog.messages == [
        f"arm: its warden (process {first}) died with status -9. The joints go safe; a new one is "
        "started."
    ]
    made.port.close()
    assert not _is_locked(made.path)  # the new one has no port yet
    made.port = SerialPort(made.path)
    made.warden.take(made.port)
    made.fire(decided(1, 2, 3, state=SAFE))
    made.port.close()
    until(lambda: _is_locked(made.path))
    assert made.events == []  # a new one watches, and the guard is safe already


def test_without_a_warden_the_guard_is_tripped_as_often_as_it_is_armed(
    made: Fixture, caplog: pytest.LogCaptureFixture
) -> None:
    for deaths in range(1, 5):
        pid = made.warden.pid
        os.kill(pid, signal.SIGKILL)
        until(lambda deaths=deaths: made.warden.deaths == deaths)  # type: ignore[misc]
        if deaths < 4:
            until(lambda pid=pid: made.warden._is_alive and made.warden.pid != pid)  # type: ignore[misc]
    made.warden._watcher.join(PATIENCE_S)
    assert caplog.messages[-1] == (
        f"arm: its warden (process {made.warden.pid}) died with status -9. It died 4 times: there "
        "is none from here on, and nothing moves."
    )
    trip = ("trip", "the warden of arm died")
    made.fire(decided(1, 2, 3))
    assert made.events == [trip]
    made.fire(decided(1, 2, 3, state=SAFE))
    assert made.events == [trip]
    made.fire(decided(1, 2, 3))
    assert made.events == [trip, trip]


def test_a_warden_that_does_not_start_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    before = set(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(wardens.sys, "executable", "/bin/false")  # type: ignore[attr-defined]
    with pytest.raises(DeviceError) as caught:
        Warden("arm", StsGroup(OPTIONS), RULES, MINUTE, print)
    assert str(caught.value) == (
        "arm: its warden did not start: exit status 1, no answer; expected it ready in 10 s. Look "
        f"at standard error, or run: /bin/false -I -S -E {shared.__file__}"
    )
    assert set(os.listdir("/proc/self/fd")) == before


def test_a_warden_that_cannot_be_started_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    before = set(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(wardens.sys, "executable", "/nowhere/python")  # type: ignore[attr-defined]
    with pytest.raises(DeviceError) as caught:
        Warden("arm", StsGroup(OPTIONS), RULES, MINUTE, print)
    assert str(caught.value) == (
        "arm: its warden did not start: No such file or directory. Look at the limits of this "
        "process: ulimit -u, ulimit -n."
    )
    assert set(os.listdir("/proc/self/fd")) == before


class Deaf:
    """A device that a warden cannot make safe."""

    def snapshot(self) -> tuple[Any, ...]:
        return ()


def test_a_device_without_safe_frames_has_no_warden() -> None:
    bus = BusRunner("arm", Deaf(), Guard(RULES, 0, MS), [])  # type: ignore[arg-type]
    with pytest.raises(DeviceError) as caught:
        warden_of(bus, None, WardenSpec(), 0)  # type: ignore[arg-type]
    assert str(caught.value) == (
        "arm: Deaf has no safe_frames and longest_frame: a warden cannot make it safe. Write them, "
        "or say what else happens on_host_death."
    )


def test_frames_that_do_not_fit_are_an_error(made: Fixture) -> None:
    made.device.safe_frames = lambda decision, rules: bytes(5000)  # type: ignore[method-assign]
    with pytest.raises(DeviceError) as caught:
        made.warden.before(decided(1, 2, 3))
    assert str(caught.value) == (
        "arm: its safe frames are 5000 bytes, expected at most 4088. Split the bus."
    )
    assert made.word(shared.STATE) == shared.DISARMED


def test_a_runner_hands_the_port_over_after_the_set_up_and_takes_it_back_when_it_is_lost() -> None:
    """The order of what a BusRunner says to its warden, seen from the warden's place."""
    said: list[str] = []

    class Listener:
        def __getattr__(self, name: str) -> Callable[..., None]:
            return lambda *_: said.append(name)

    emulator = StsEmulator(OPTIONS)
    broken = threading.Event()

    def exchange(wanted: Exchange) -> Reply:
        said.append("w" if wanted.tx[4] == 0x83 else "")
        if broken.is_set():
            return Reply(b"", 1, 2, "unplugged")
        answers = emulator.receive(wanted.tx, time.monotonic_ns())
        return Reply(b"".join(data for _, data in answers), 1, 2)

    runner = BusRunner("arm", StsGroup(OPTIONS), Guard(RULES, MINUTE, MS), [])
    runner.warden = Listener()

    def drive(steps: Any) -> None:
        reply = None
        try:
            while True:
                steps.send(reply)
                reply = exchange(runner.pending)
        except StopIteration:
            pass

    drive(runner.setup())
    assert said[-1] == "take"
    said.clear()
    drive(runner.write(decided(1, 2, 3), 0, EdgeStats(), 0))
    assert said == ["before", "w", "after"]
    said.clear()
    broken.set()
    drive(runner.write(decided(1, 2, 3), 0, EdgeStats(), 0))
    assert said == ["before", "w", "release"]
    broken.clear()
    drive(runner.last_look())
    assert said[-2:] == ["take", ""]
