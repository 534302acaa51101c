"""The owner's side of the wardens (runtime/guard/warden.py): one process for each guarded port.

One each and not one for all: each port has a lane, a heartbeat, a limit and a life of its own (it
is unplugged and comes back), and one that fails takes no other with it. Linux 5.3 or newer.

All but `start`, `close` and the watcher runs in the actuator's lane, so that the heartbeat is the
lane's: a helper thread's would outlive a hang. ARMED is exactly while the guard drives the joints.
"""

import contextlib
import logging
import mmap
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from haihe.runtime.clock import MILLISECOND, now_ns
from haihe.runtime.errors import DeviceError
from haihe.runtime.exec.bus import BusRunner
from haihe.runtime.exec.lane import Lane
from haihe.runtime.guard import Action, Decision, GuardState, JointRule, SafeAction, warden
from haihe.runtime.io import Guardable
from haihe.runtime.record.format import Event

log = logging.getLogger(__name__)

LEAST_NS = 100 * MILLISECOND  # a loaded machine holds a healthy lane up for tens of ms
PERIODS = 5
START_LIMIT_S = 10.0  # measured: 0.03 to 0.06 s
STOP_LIMIT_S = 2.0
RESTARTS = 3  # of a warden that dies, in one run
_NONE, _FREE, _DRIVE = Action.NONE, Action.FREE, Action.DRIVE


@dataclass(frozen=True)
class WardenSpec:
    """That a bus has a warden. limit_ns: of the heartbeat's age, 0: the default of its period."""

    limit_ns: int = 0

    def limit(self, period_ns: int) -> int:
        """How old the heartbeat of a lane may become."""
        return self.limit_ns or max(LEAST_NS, PERIODS * period_ns)


def safe_decision(decision: Decision, rules: tuple[JointRule, ...]) -> Decision:
    """Each joint's safe action, begun from what was decided last. A joint without a reference is
    free, and stays so: nobody knows from where it would move."""
    actions, positions = [], list(decision.positions)
    for joint, rule in enumerate(rules):
        if rule.safe is SafeAction.FREE or decision.actions[joint] is not _DRIVE:
            actions.append(_FREE)
            continue
        actions.append(_DRIVE)
        if rule.safe is SafeAction.GO:
            positions[joint] = rule.safe_position
    return Decision(GuardState.SAFE, tuple(actions), tuple(positions), 0)


def warden_of(bus: BusRunner, lane: Lane, spec: WardenSpec, rank: int) -> "Warden":
    """Start the warden of a bus of a lane whose thread has the SCHED_FIFO priority `rank`; the
    warden's is one higher, lest a lane that spins keeps it from the core."""
    assert bus.guard is not None
    if not isinstance(bus.device, Guardable):
        raise DeviceError(
            f"{bus.role}: {type(bus.device).__name__} has no safe_frames and longest_frame: a "
            "warden cannot make it safe. Write them, or say what else happens on_host_death."
        )
    limit, urgency = spec.limit(lane.task.every_ns), min(rank + 1, 99) if rank else 0
    return Warden(bus.role, bus.device, bus.guard.rules, limit, lane.inbox.append, urgency)


class Warden:
    """The warden of one bus, seen from its owner."""

    def __init__(
        self,
        role: str,
        device: Guardable,
        rules: tuple[JointRule, ...],
        limit_ns: int,
        post: Callable[[Event], None],
        rank: int = 0,
    ) -> None:
        """post: takes an event for the actuator's lane. rank: SCHED_FIFO priority of the process,
        0: none. Raises DeviceError: it does not start."""
        self.role, self.rules, self.limit_ns = role, rules, limit_ns
        self.deaths = 0
        self._device, self._post, self._rank = device, post, rank
        self._holds = [i for i, rule in enumerate(rules) if rule.safe is SafeAction.HOLD]
        self._half_ns = limit_ns // 2
        self._is_armed = False
        self._is_alive = False
        self._is_closing = False
        self._beat_ns = 0
        self._staged: Any = None
        self._port: Any = None  # handed over; None while it is lost
        self._renewed = False  # a new process has no port yet
        self._last_near = 0
        if os.getpid() == 1:
            log.warning(
                "%s: this process is PID 1: its death kills the warden too. Run it under an init "
                "(docker run --init).", role,
            )  # fmt: skip
        try:
            self._owner_fd = os.pidfd_open(os.getpid())
        except OSError as exc:
            raise DeviceError(
                f"{role}: a warden needs a pidfd of this process, and the system gives none: "
                f"{exc.strerror}. Use Linux 5.3 or newer, or say what else happens on_host_death."
            ) from exc
        self._shared_fd = os.memfd_create(f"haihe-warden-{role}")
        os.ftruncate(self._shared_fd, warden.SIZE)
        self._shared = mmap.mmap(self._shared_fd, warden.SIZE)
        self._words = memoryview(self._shared).cast("q")
        self._words[warden.LIMIT] = limit_ns
        self._words[warden.LONGEST] = device.longest_frame
        try:
            self._start()
        except DeviceError:
            self._release_all()
            raise
        self._watcher = threading.Thread(
            target=self._watch, name=f"haihe-warden-{role}", daemon=True
        )
        self._watcher.start()

    @property
    def pid(self) -> int:
        """Of the present process."""
        return self._process.pid

    @property
    def near_misses(self) -> int:
        """How often the heartbeat came later than half the limit while armed."""
        return int(self._words[warden.NEAR]) if not self._is_closing else self._last_near

    # --- in the actuator's lane ---------------------------------------------------------------

    def take(self, port: Any) -> None:
        """Hand over a duplicate of the port: it is set up, and about to be used."""
        self._port, self._renewed = port, False
        with contextlib.suppress(OSError):  # it has just died: the watcher sees to it
            socket.send_fds(self._control, [b"port"], [port.fileno()])

    def release(self) -> None:
        """The port is lost: a duplicate would keep its lock, and nothing can be sent."""
        self.disarm()
        if self._port is not None:
            self._port = None
            with contextlib.suppress(OSError):
                self._control.send(b"release")

    def before(self, decision: Decision) -> None:
        """Just before a decision is carried out."""
        now, words = now_ns(), self._words
        if self._is_armed and now - self._beat_ns > self._half_ns:
            words[warden.NEAR] += 1
        words[warden.BEAT] = self._beat_ns = now
        if decision.actions[0] is _NONE:
            self.disarm()
            return
        if self._renewed and self._port is not None:
            self.take(self._port)
        if not self._is_alive and decision.state is not GuardState.SAFE:
            self._post(("trip", f"the warden of {self.role} died"))
        if not self._is_armed:
            self._stage(decision)
            words[warden.STATE] = warden.ARMED
            self._is_armed = True

    def after(self, decision: Decision) -> None:
        """The decision is on the wire: from now on this is what must be held."""
        if self._is_armed:
            self._stage(decision)
            self._words[warden.BEAT] = self._beat_ns = now_ns()

    def disarm(self) -> None:
        """Nothing is driven any more."""
        if self._is_armed:
            self._words[warden.STATE] = warden.DISARMED
            self._is_armed, self._staged = False, None

    def _stage(self, decision: Decision) -> None:
        positions = decision.positions
        key = (decision.actions, [positions[i] for i in self._holds])
        if key == self._staged:
            return
        frames = self._device.safe_frames(safe_decision(decision, self.rules), self.rules)
        if len(frames) > warden.CAPACITY:
            raise DeviceError(
                f"{self.role}: its safe frames are {len(frames)} bytes, expected at most "
                f"{warden.CAPACITY}. Split the bus."
            )
        words = self._words
        other = 1 - words[warden.VALID]
        at = (1 + other) * warden.PAGE
        self._shared[at : at + 8] = len(frames).to_bytes(8, sys.byteorder)
        self._shared[at + 8 : at + 8 + len(frames)] = frames
        words[warden.VALID] = other
        self._staged = key

    # --- life ---------------------------------------------------------------------------------

    def _start(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        descriptors = (self._shared_fd, theirs.fileno(), self._owner_fd)
        numbers = [str(n) for n in (*descriptors, os.getpid(), self._rank)]
        try:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-E", warden.__file__, *numbers, self.role],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=descriptors,
                start_new_session=True,  # a Ctrl-C or a hang-up of our terminal is not for it
            )
        except OSError as exc:
            ours.close()
            raise DeviceError(
                f"{self.role}: its warden did not start: {exc.strerror}. Look at the limits of "
                "this process: ulimit -u, ulimit -n."
            ) from exc
        finally:
            theirs.close()
        ours.settimeout(START_LIMIT_S)
        try:
            answer = ours.recv(16)
        except OSError as exc:
            answer = str(exc).encode()
        if answer != b"ready":
            ours.close()
            process.kill()
            process.wait()
            raise DeviceError(
                f"{self.role}: its warden did not start: exit status {process.returncode}, "
                f"{answer.decode() or 'no answer'}; expected it ready in {START_LIMIT_S:g} s. Look "
                f"at standard error, or run: {sys.executable} -I -S -E {warden.__file__}"
            )
        ours.settimeout(None)
        self._process, self._control, self._is_alive = process, ours, True

    def _watch(self) -> None:
        """A warden that dies: the lane trips (`before`), and gets a new one, a few times."""
        while True:
            code = self._process.wait()
            if self._is_closing:
                return
            self._is_alive = False
            self.deaths += 1
            again = self.deaths <= RESTARTS
            log.error(
                "%s: its warden (process %d) died with status %d. %s", self.role, self.pid, code,
                "The joints go safe; a new one is started." if again else
                f"It died {self.deaths} times: there is none from here on, and nothing moves.",
            )  # fmt: skip
            if not again:
                return
            self._control.close()
            try:
                self._start()
            except DeviceError as exc:
                log.error("%s", exc)
                return
            self._renewed = True

    def close(self) -> None:
        """The safe actions of the stop are done: the warden ends without a byte, and lets go of
        the port. Safe to call twice."""
        if self._is_closing:
            return
        self._last_near = self.near_misses
        if self._last_near:
            log.warning(
                "%s: its lane gave no sign for more than half the limit of its warden (%g ms) %d "
                "times. Give the lane a real-time priority, or the warden more time.",
                self.role, self.limit_ns / 1e6, self._last_near,
            )  # fmt: skip
        self._is_closing = True
        self._words[warden.STATE] = warden.FINISHED
        self._control.close()
        self._watcher.join(STOP_LIMIT_S)
        if self._watcher.is_alive():
            log.error("%s: its warden did not end in %g s; killed", self.role, STOP_LIMIT_S)
            self._process.kill()
            self._watcher.join(STOP_LIMIT_S)
        self._control.close()  # of one that was being started meanwhile
        self._release_all()

    def _release_all(self) -> None:
        self._words.release()
        self._shared.close()
        os.close(self._shared_fd)
        os.close(self._owner_fd)
