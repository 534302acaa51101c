"""The seam between a sans-I/O device and the world: exchanges and replies.

A device is a generator that yields `Exchange` (bytes to send, how many are expected back) and is
sent a `Reply` (the bytes that came, with stamps). It never touches a port and never reads a
clock, so the same device runs on a port, on an emulator in virtual time, and in replay.
"""

from collections.abc import Callable, Generator
from typing import Any, Protocol, TypeVar, runtime_checkable

import msgspec
from numpy.typing import NDArray

from haihe.runtime.guard import Decision, JointRule
from haihe.runtime.types import Message


class Exchange(msgspec.Struct, frozen=True, gc=False):
    """One transaction on a request/response bus.

    tx: the bytes to send, written in one call. rx_size: bytes expected back (0: no answer).
    timeout_ns: from the last byte sent to the last byte expected.
    """

    tx: bytes
    rx_size: int = 0
    timeout_ns: int = 5_000_000


class Reply(msgspec.Struct, frozen=True, gc=False):
    """What came back: `rx` may be short or hold garbage; the device's codec judges.

    t_sent_ns, t_done_ns: monotonic, when the request was handed over and when the exchange
    ended. error: empty, or why the port failed (unplugged, closed).
    """

    rx: bytes
    t_sent_ns: int
    t_done_ns: int
    error: str = ""


R = TypeVar("R")
Transaction = Generator[Exchange, Reply, R]


class Port(Protocol):
    """A port that can carry exchanges: serial line, emulator in virtual time, recording."""

    name: str

    def exchange(self, exchange: Exchange) -> Reply:
        """Send, then gather up to `rx_size` bytes or the time-out. Never raises for bad bytes."""
        ...

    def close(self) -> None:
        """Release the port; safe to call twice."""
        ...


def drive(port: Port, transaction: Transaction[R]) -> R:
    """Run a whole transaction over one port and give its result."""
    try:
        exchange = next(transaction)
        while True:
            exchange = transaction.send(port.exchange(exchange))
    except StopIteration as stop:
        result: R = stop.value
        return result


class BusDevice(Protocol):
    """A request/response device: the lane that cycles it reads its state and writes commands.

    All methods are transactions: they yield exchanges and never touch a port or a clock.
    """

    def setup(self) -> Transaction[None]:
        """Bring the device to a known state; nothing may move. Also run after a reconnect."""
        ...

    def read(self) -> Transaction[Message]:
        """One state message; its capture stamp is the middle of the (last) exchange."""
        ...

    def write(self, decision: Decision) -> Transaction[None]:
        """Carry out what the guard decided."""
        ...

    def snapshot(self) -> tuple[Any, ...]:
        """What it remembers between transactions, small and picklable."""
        ...

    def restore(self, state: tuple[Any, ...]) -> None:
        """Restore what `snapshot` gave."""
        ...


@runtime_checkable
class Guardable(Protocol):
    """A bus device whose safe actions can be prepared as bytes: a warden sends them when its owner
    is dead, without an answer, to a device of which nothing is known."""

    @property
    def longest_frame(self) -> int:
        """Bytes of the longest frame that it ever sends: that much padding ends a cut one."""
        ...

    def safe_frames(self, decision: Decision, rules: tuple[JointRule, ...]) -> bytes:
        """All that brings each joint to `decision`: FREE torque off, DRIVE to the position, no
        faster than the joint's slew as far as the device can. Pure; at most 4088 bytes."""
        ...


# (shape, dtype) -> a writable array in shared memory; None: there is no place, use one of your own
Allocate = Callable[[tuple[int, ...], Any], NDArray[Any] | None]


class StreamDevice(Protocol):
    """A device that talks unasked (a camera): it gets a reader thread. One whose messages hold
    large arrays may have an attribute `allocate`: Allocate | None, set before `read` where another
    process reads them: an array made by it crosses without a copy."""

    def open(self) -> None:
        """Acquire it. Raises DeviceError."""
        ...

    def read(self, timeout_s: float) -> tuple[Message, int] | None:
        """Wait for the next message: (message, capture stamp in ns), None after the time-out.
        Raises EOFError when the stream has ended."""
        ...

    def close(self) -> None:
        """Release it; safe to call twice and from another thread."""
        ...
