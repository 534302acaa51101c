"""The test rig of the fault runs: a source that numbers its messages, a bus whose wire shows them.

A message carries the number of its capture. The control node commands it as the position of the
joint `stamp`, so what arrives at the emulator says how old the data behind it is. `swing` shows
limits. The ledger is outside every process: it notes what nodes were given and what they made.

    request    a5 'R'                  -> a5 'P', per joint i32, sum
    set-up     a5 'S'                  -> a5 'K', sum          torque off
    write      5a 'W' per joint action u8, i32 micro-units; sum    ('X': from a warden)
"""

import functools
import struct
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import numpy as np

from haihe.drivers.roles import servos
from haihe.runtime.clock import MILLISECOND
from haihe.runtime.contracts import fifo, fresh
from haihe.runtime.errors import DeviceError
from haihe.runtime.graph import DeviceKind
from haihe.runtime.guard import Action, Decision, JointRule, SafeAction
from haihe.runtime.io import Exchange, Transaction
from haihe.runtime.node import node
from haihe.runtime.types import JointCommand, JointState, Message

JOINTS = ("stamp", "swing")
BAUD = 1_000_000
RANGE = 400_000  # of the joint swing, each side
SLEW = 3_000_000
REPLY_NS = 50_000  # the emulator thinks
_FRAME = struct.Struct("<" + "Bi" * len(JOINTS))
_STATE = struct.Struct("<" + "i" * len(JOINTS))
WRITE_SIZE = 2 + _FRAME.size + 1
OnError = Literal["stop", "skip", "restart"]


class Mark(Message):
    """What flows: the number that its maker gave it, and that of the capture behind it."""

    number: int
    capture: int


SOURCE = DeviceKind("source", {"mark": Mark}, stream=True)


def summed(data: bytes) -> bytes:
    return data + bytes((sum(data) & 0xFF,))


# --- the ledger -----------------------------------------------------------------------------------


@dataclass
class Ledger:
    """What each node was given and made, in payload numbers."""

    seen: dict[str, list[int]] = field(default_factory=dict)
    made: dict[str, int] = field(default_factory=dict)
    calls: dict[str, list[int]] = field(default_factory=dict)  # ns
    now: Any = lambda: 0

    def given(self, name: str, number: int) -> None:
        self.seen.setdefault(name, []).append(number)
        self.calls.setdefault(name, []).append(self.now())

    def next(self, name: str) -> int:
        self.made[name] = self.made.get(name, 0) + 1
        return self.made[name]


class Books:
    """The ledger in use; nodes are copied and pickled, this is neither."""

    ledger = Ledger()


# --- nodes ----------------------------------------------------------------------------------------


@functools.cache
def relay(places: int, on_error: OnError) -> Any:
    """A class of nodes that pass a message on: each in order, or the newest (no places)."""
    how: Any = Annotated[Mark, fifo(places)] if places else Mark

    @node(on_error=on_error)
    @dataclass
    class Relay:
        name: str
        is_broken: bool = False

        def __call__(self, mark: how) -> Mark:
            Books.ledger.given(self.name, mark.number)
            if self.is_broken:
                raise ValueError("made to raise")
            return Mark(Books.ledger.next(self.name), mark.capture)

    return Relay


@functools.cache
def sampler(every_ms: int) -> Any:
    """A class of nodes that take the newest message in each period."""

    @node(every=f"{every_ms}ms")
    @dataclass
    class Sampler:
        name: str

        def __call__(self, mark: Annotated[Mark, fresh("100s")]) -> Mark:
            Books.ledger.given(self.name, mark.number)
            return mark

    return Sampler


@functools.cache
def controller(every_ms: int, fresh_ms: int) -> Any:
    """A class of nodes that command the number of the capture, and a swing."""

    @node(every=f"{every_ms}ms")
    @dataclass
    class Control:
        name: str
        swing: float = 0.5  # rad: further than it may

        def __call__(
            self,
            mark: Annotated[Mark, fresh(f"{fresh_ms}ms")],
            state: Annotated[JointState, fresh("1s")],
        ) -> JointCommand:
            side = 1 if mark.capture // 16 % 2 else -1
            return JointCommand(np.array([mark.capture * 1e-6, side * self.swing]))

    return Control


def rig() -> Any:
    """The actuator's role."""
    return servos("rig")


# --- the source -----------------------------------------------------------------------------------


class Source:
    """A stream device of virtual time; number 1, 2, 3 ... of the captures that it delivers."""

    def __init__(self, random: np.random.Generator) -> None:
        self.period_ns = int(random.integers(4, 34)) * MILLISECOND
        self.first_ns = int(random.integers(0, 5)) * MILLISECOND
        self.latency_ns = int(random.integers(0, 8)) * MILLISECOND
        self.captured_ns: dict[int, int] = {}
        self._drops = {int(i) for i in random.integers(0, 300, 12)}

    def capture(self, index: int, t_ns: int) -> tuple[Any, int]:
        if index in self._drops:
            return None, 0
        number = len(self.captured_ns) + 1
        self.captured_ns[number] = t_ns
        return Mark(number, number), self.latency_ns


# --- the bus --------------------------------------------------------------------------------------


def rules(swing: SafeAction) -> tuple[JointRule, ...]:
    """`stamp` goes free when there is nothing to obey, so that no old number is driven to."""
    return (
        JointRule("stamp", 0, 1_000_000_000, 1_000_000_000, 0, SafeAction.FREE),
        JointRule("swing", -RANGE, RANGE, SLEW, 0, swing, 123_456),
    )


class Rig:
    """The device, sans-I/O."""

    def __init__(self) -> None:
        self._held = (0,) * len(JOINTS)

    def setup(self) -> Transaction[None]:
        reply = yield Exchange(b"\xa5S", 3)
        if reply.rx != summed(b"\xa5K"):
            raise DeviceError(f"rig: no answer to the set-up ({reply.rx.hex() or 'nothing'}).")

    def read(self) -> Transaction[Message]:
        size = 2 + _STATE.size + 1
        reply = yield Exchange(b"\xa5R", size)
        ok = len(reply.rx) == size and summed(reply.rx[:-1]) == reply.rx
        if ok:
            self._held = _STATE.unpack(reply.rx[2:-1])
        position = np.array(self._held) * 1e-6
        zero = np.zeros(len(JOINTS))
        return JointState(
            JOINTS, position, zero, zero, zero, zero, np.full(len(JOINTS), ok)
        )  # fmt: skip

    def write(self, decision: Decision) -> Transaction[None]:
        if any(decision.actions):
            yield Exchange(self._frame(b"\x5aW", decision))

    @staticmethod
    def _frame(head: bytes, decision: Decision) -> bytes:
        pairs = zip(decision.actions, decision.positions, strict=True)
        return summed(head + _FRAME.pack(*(int(value) for pair in pairs for value in pair)))

    @property
    def longest_frame(self) -> int:
        return WRITE_SIZE

    def safe_frames(self, decision: Decision, rules: tuple[JointRule, ...]) -> bytes:
        return self._frame(b"\x5aX", decision)

    def snapshot(self) -> tuple[Any, ...]:
        return (self._held,)

    def restore(self, state: tuple[Any, ...]) -> None:
        (self._held,) = state


@dataclass
class Frame:
    """A whole write, as it arrived."""

    t_ns: int
    is_wardens: bool
    actions: tuple[int, ...]
    positions: tuple[int, ...]
    before: tuple[int, ...]  # where the joints were
    torque: tuple[bool, ...]  # before it


class RigEmulator:
    """The far end of the wire. Whatever is no frame is skipped byte by byte."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.setups: list[int] = []
        self.skipped = 0
        self.last_byte_ns = 0
        self._buffer = b""
        self._position = [0] * len(JOINTS)
        self._torque = [False] * len(JOINTS)

    def receive(self, data: bytes, t_ns: int) -> list[tuple[int, bytes]]:
        self.last_byte_ns = t_ns
        self._buffer += data
        replies: list[tuple[int, bytes]] = []
        while len(self._buffer) >= 2:
            taken = self._take(t_ns, replies)
            if taken < 0:
                break
            self.skipped += taken == 0
            self._buffer = self._buffer[taken or 1 :]
        return replies

    def _take(self, t_ns: int, replies: list[tuple[int, bytes]]) -> int:
        """How many bytes the next frame has: 0 when there is none, -1 when it is not whole yet."""
        head = self._buffer[:2]
        if head == b"\xa5R":
            self._answer(b"\xa5P" + _STATE.pack(*self._position), t_ns, replies)
            return 2
        if head == b"\xa5S":
            self.setups.append(t_ns)
            self._torque = [False] * len(JOINTS)
            self._answer(b"\xa5K", t_ns, replies)
            return 2
        if head not in (b"\x5aW", b"\x5aX"):
            return 0
        if len(self._buffer) < WRITE_SIZE:
            return -1
        frame = self._buffer[:WRITE_SIZE]
        if summed(frame[:-1]) != frame:
            return 0
        values = _FRAME.unpack(frame[2:-1])
        actions, positions = values[::2], values[1::2]
        self.frames.append(
            Frame(t_ns, head == b"\x5aX", actions, positions, tuple(self._position),
                  tuple(self._torque))
        )  # fmt: skip
        for joint, (action, position) in enumerate(zip(actions, positions, strict=True)):
            if action == Action.FREE:
                self._torque[joint] = False
            elif action == Action.DRIVE:
                self._torque[joint], self._position[joint] = True, position
        return WRITE_SIZE

    def _answer(self, data: bytes, t_ns: int, replies: list[tuple[int, bytes]]) -> None:
        whole = summed(data)
        replies.append((t_ns + REPLY_NS + len(whole) * 10_000_000_000 // BAUD, whole))
