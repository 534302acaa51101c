"""Owners of a servo bus that die or hang on purpose, several at a time, seen from the wire.

Each trial is a process of its own (forked from this one, which has imported everything) that runs a
graph on a pty as if on real servos: `on_host_death: warden`, three joints with a safe action each
(pan holds, tilt goes to its safe position, grip is freed). This process is the bus: it keeps every
byte with its arrival, and ends a trial when owner and warden are both gone.
"""

import contextlib
import ctypes
import gc
import os
import random
import resource
import select
import signal
import struct
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np

from haihe import Graph, fresh, named, node, servos
from haihe.boards.unit import unit_from_text
from haihe.drivers.ports import serial
from haihe.drivers.ports.pty_bridge import PtyBridge
from haihe.drivers.servo.sts import StsJoint, StsOptions
from haihe.drivers.servo.sts_emulator import StsEmulator
from haihe.pipelines.launch import prepare, run
from haihe.runtime.clock import MILLISECOND, SECOND, now_ns
from haihe.runtime.errors import HaiheError
from haihe.types import JointCommand, JointState

FAULTS = (
    "kill", "segfault", "stop", "kill in a frame", "segfault in a frame", "stop in a frame", "hang"
)  # fmt: skip
CLEAN = ("end", "SIGTERM")
SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP, "SIGTERM": signal.SIGTERM}
JOINTS = ("pan", "tilt", "grip")
LONGEST = 32  # bytes of the longest frame to three servos: 8, and 8 for each
PATIENCE_NS = 10 * SECOND
STARTS = 3
QUIET_NS = 50 * MILLISECOND  # the kernel carries the last bytes of a process over after its end
STAMP = struct.Struct("<q")

UNIT = """\
unit: three servos
devices:
  arm:
    driver: servo.sts
    port: {port}
    options:
      timeout_ms: 15
      joints: [{{name: pan, id: 1}}, {{name: tilt, id: 2}}, {{name: grip, id: 3}}]
    guard:
      command_age: 500ms
      on_host_death: warden
{limit}      joints:
        pan: {{position: [-90deg, 90deg], slew: 300deg/s, safe: hold}}
        tilt: {{position: [-90deg, 90deg], slew: 90deg/s, safe: go, safe_position: 0.3rad}}
        grip: {{position: [-90deg, 90deg], slew: 300deg/s, safe: free}}
"""


def unit_text(port: str, limit: str) -> str:
    """The profile; limit: of the warden, "" for the default."""
    return UNIT.format(port=port, limit=f"      warden: {limit}\n" if limit else "")


@node(every="10ms")
@dataclass
class Sway:
    """Moves every joint a little in each call; at call `at` it does what `fault` says."""

    fault: str = ""
    at: int = 0
    _calls: int = 0

    def __call__(self, arm: Annotated[JointState, fresh("1s")]) -> JointCommand:
        self._calls += 1
        if self.fault and self._calls == self.at:
            _stamp()
            if self.fault == "segfault":
                _segfault()
            threading.Event().wait()
        place = 0.002 * (self._calls % 100)
        return JointCommand(np.array((place, -place, place)))


def graph_of(fault: str = "", at: int = 0) -> Graph:
    """The owner's graph."""
    with Graph("sway") as graph:
        arm = servos("arm")
        arm.command(named("sway", Sway(fault, at))(arm.state))
    return graph


@dataclass
class Trial:
    """One owner and what came of it. cause_ns: just before its death, 0: none, or not yet."""

    cause: str
    cause_ns: int = 0
    chunks: list[tuple[int, bytes]] = field(default_factory=list)
    errors: bytes = b""
    status: int = 0
    pid: int = 0
    torque: dict[str, int] = field(default_factory=dict)  # registers of the servos at the end
    goal: dict[str, int] = field(default_factory=dict)
    speed: dict[str, int] = field(default_factory=dict)
    is_over: bool = False  # False at the end: it took longer than PATIENCE_NS
    starts: int = 0  # it begins anew when a busy machine ended it before its cause, see is_void

    @property
    def received(self) -> bytes:
        """Every byte, in order."""
        return b"".join(data for _, data in self.chunks)

    @property
    def pad_at(self) -> int:
        """Where the warden's first padding ends, -1: there is none."""
        start = self.received.find(bytes(LONGEST))
        return start + LONGEST if start >= 0 else -1

    @property
    def reaction_ns(self) -> int:
        """From the cause to the last byte of the first safe frames; -1: they did not come."""
        data = self.received
        again = data.find(bytes(LONGEST), self.pad_at) if self.pad_at >= 0 else -1
        if again < 0:
            return -1
        for t_ns, chunk in self.chunks:
            again -= len(chunk)
            if again <= 0:
                return t_ns - self.cause_ns
        raise AssertionError("the chunks are what was received")


class _Running:
    """A trial under way: its bus, its process, its pipes."""

    def __init__(self, trial: Trial, limit: str, dice: random.Random) -> None:
        self.trial, self.dice = trial, dice
        trial.starts += 1
        trial.chunks, trial.errors, trial.is_over = [], b"", False
        joints = tuple(StsJoint(name, i) for i, name in enumerate(JOINTS, 1))
        self.bus = StsEmulator(StsOptions(joints), record=False)
        self.bus.gap_ns = 1 << 62  # the strictest receiver: a cut frame waits for its rest for ever
        self.bridge = PtyBridge(self.bus)
        self.due: int | None = None
        self.begun = now_ns()
        self.driven = 0  # when the first goal came
        self.heard = 0  # when the last bytes came
        self.delay = dice.randrange(20, 120) * MILLISECOND + dice.randrange(10 * MILLISECOND)
        self.errors, errors = os.pipe()
        self.stamps, stamps = os.pipe()
        trial.pid = os.fork()
        if not trial.pid:
            _own(trial.cause, unit_text(self.bridge.path, limit), errors, stamps, dice)
        os.close(errors)
        os.close(stamps)

    def fds(self) -> list[int]:
        """What it waits for."""
        errors = [] if self.trial.is_over else [self.errors]
        return [self.bridge.fileno(), *errors]

    def look(self, ready: set[int]) -> None:
        """Serve the bus, do the deed, see whether it is over."""
        trial = self.trial
        self.due = self.bridge.serve_once(now_ns())
        received, now = self.bridge.received, now_ns()
        if received:  # stamped when they have been read: later than they came, never earlier
            trial.chunks += [(now, data) for _, data in received]
            received.clear()
            self.heard = now
        if not self.driven and self.bus.servos[1].peek("torque_enable"):
            self.driven = now
        number = SIGNALS.get(trial.cause)
        is_due = self.driven and now > self.driven + self.delay
        if number and is_due and not trial.cause_ns and _is_alive(trial.pid):
            trial.cause_ns = now_ns()
            os.kill(trial.pid, number)
        if self.errors in ready:
            said = os.read(self.errors, 4096)
            trial.errors += said
            if not said:
                trial.is_over, self.heard = True, now
        if (trial.is_over and now - self.heard > QUIET_NS) or now - self.begun > PATIENCE_NS:
            self._end()

    def is_void(self) -> bool:
        """Over before the cause: it did not start, or was held up for longer than the limit."""
        return not self.driven or (self.trial.cause in FAULTS and not self.trial.cause_ns)

    def _end(self) -> None:
        trial = self.trial
        if not trial.is_over:
            with contextlib.suppress(ProcessLookupError):
                os.kill(trial.pid, signal.SIGKILL)
        _, trial.status = os.waitpid(trial.pid, 0)
        stamp = os.read(self.stamps, STAMP.size)
        if stamp:
            (trial.cause_ns,) = STAMP.unpack(stamp)
        for servo in self.bus.servos.values():
            name = servo.joint.name
            trial.torque[name] = servo.peek("torque_enable")
            trial.goal[name] = servo.peek("goal_position")
            trial.speed[name] = servo.peek("goal_velocity")
        for fd in (self.errors, self.stamps):
            os.close(fd)
        self.bridge.close()
        self.begun = 0


def _is_alive(pid: int) -> bool:
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None


def trials(causes: Iterable[str], limit: str = "", at_once: int = 6, seed: int = 0) -> list[Trial]:
    """Run a trial for each cause (of FAULTS and CLEAN)."""
    prepare(graph_of(), unit_from_text(unit_text("/dev/null", limit), "unit.yaml"))  # imports all
    gc.collect()
    gc.freeze()  # a collection in an owner would copy all that it has from us
    waiting = [Trial(cause) for cause in causes]
    done, running = list(waiting), list[_Running]()
    waiting.reverse()
    while waiting or running:
        while waiting and len(running) < at_once:
            trial = waiting.pop()
            running.append(_Running(trial, limit, random.Random(f"{seed} {len(waiting)}")))
        due = [one.due for one in running if one.due is not None]
        wait = min([20 * MILLISECOND, *(max(0, t - now_ns()) for t in due)]) * 1e-9
        fds = [fd for one in running for fd in one.fds()]
        ready, _, _ = select.select(fds, [], [], wait)
        for one in running:
            one.look(set(ready))
        void = [one.trial for one in running if not one.begun and one.is_void()]
        waiting += [trial for trial in void if trial.starts < STARTS]
        running = [one for one in running if one.begun]
    gc.unfreeze()
    return done


# --- the owner --------------------------------------------------------------------------------

_stamps = -1
_PR_SET_PDEATHSIG = 1


def _own(cause: str, text: str, errors: int, stamps: int, dice: random.Random) -> None:
    """The forked process; never returns."""
    global _stamps
    status = 1
    try:
        os.dup2(errors, 2)
        os.closerange(3, stamps)
        os.closerange(stamps + 1, 1 << 16)
        _stamps = stamps
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # not to outlive the bus
        what, _, where = cause.partition(" in a ")
        if where:
            _CutPort.cause, _CutPort.left = what, dice.randrange(5, 30)
            _CutPort.dice = dice
            serial.SerialPort = _CutPort  # type: ignore[misc]
        inside = what if what in ("segfault", "hang") and not where else ""
        run(
            graph_of(inside, dice.randrange(5, 30)),
            unit=unit_from_text(text, "unit.yaml"),
            arm=True,
            duration="0.3s" if cause == "end" else "60s",
            tick=lambda live: None,
        )
        status = 0
    except HaiheError as exc:
        os.write(2, f"{type(exc).__name__}: {exc}\n".encode())
    finally:
        os._exit(status)


class _CutPort(serial.SerialPort):
    """Dies or stops with a frame half written."""

    cause, left, dice = "", 0, random.Random()

    def _send(self, tx: bytes, deadline_ns: int) -> bool:
        is_goal = tx[4] == 0x83
        cls = type(self)
        cls.left -= is_goal
        if cls.left or not is_goal:
            return super()._send(tx, deadline_ns)
        cut = cls.dice.randrange(1, len(tx))
        os.write(self._fd, tx[:cut])
        _stamp()
        if cls.cause == "segfault":
            _segfault()
        os.kill(os.getpid(), SIGNALS[cls.cause])
        select.poll().poll(1000)  # another thread may be the one that takes the signal
        return super()._send(tx[cut:], deadline_ns)  # were it to go on: the rest


def _stamp() -> None:
    os.write(_stamps, STAMP.pack(now_ns()))


def _segfault() -> None:
    ctypes.string_at(0)
