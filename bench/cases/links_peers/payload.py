"""What is sent, the same over every link, and what an end of a link is.

    sequence*2 + last (u64 LE)   sent_ns (u64 LE)   ...   sequence & 255     (the last byte)

Every link takes a picture as a NumPy array of (height, width, channels) and gives one; 64 bytes may
stay bytes. Both ends touch the first 16 bytes and the last one, and nothing between: what a link
costs is its own cost, not that of making or looking at a picture. In place, the sender has its loan
before the clock is read, as a camera has it before it decodes; the loan's CPU time counts. What is
copied was written once: pages of zeros that nobody wrote are all one page, and always in the cache.
"""

import struct
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from haihe.runtime.clock import now_ns

SHAPES = {64: (8, 8, 1), 921_600: (480, 640, 3), 6_220_800: (1080, 1920, 3)}  # bytes to pixels
COPIED_BELOW = 65_536  # bytes: pyzmq's copy=False costs more than it saves on smaller messages
_HEADER, _LAST = struct.Struct("<QQ"), struct.Struct("B")


class Arrival(NamedTuple):
    """One message as it came out; times in ns of the monotonic clock."""

    sequence: int
    sent_ns: int
    received_ns: int
    is_last: bool


class Sending(Protocol):
    """The sending end of a link for messages of one size."""

    def send(self, sequence: int, is_last: bool) -> None:
        """Wait for room (and, in place, take a loan), read the clock, do all that sending takes."""

    def close(self) -> None:
        """Give back what it holds."""


class Receiving(Protocol):
    """The receiving end."""

    def receive(self) -> list[Arrival]:
        """Wait for messages; none only where a link may lose the last one, after a second."""

    def close(self) -> None:
        """Give back what it holds."""


@dataclass(frozen=True)
class Link:
    """A link to be: size in bytes, whether the payload already lies where the other end will see
    it, a folder for what needs a name, the address that the sender gave, and descriptors."""

    size: int
    in_place: bool
    folder: str
    address: str = ""
    descriptors: tuple[int, ...] = ()

    @property
    def depth(self) -> int:
        """How many messages may be under way."""
        return 64 if self.size < COPIED_BELOW else 4


class Offer(NamedTuple):
    """A sending end, and what the other side needs to find it; descriptors stay the sender's."""

    end: Sending
    address: str = ""
    descriptors: tuple[int, ...] = ()


@dataclass(frozen=True)
class Peer:
    """One way to send. `start(socket, folder)`: starts the workers in another way than as our two
    children, and gives a process that ends with them and whose CPU time counts too; `join`: what a
    worker does first."""

    offer: Callable[[Link], Offer]
    accept: Callable[[Link], Receiving]
    start: Callable[[str, str], "subprocess.Popen[bytes]"] | None = None
    join: Callable[[], object] | None = None


def header(sequence: int, is_last: bool, sent_ns: int) -> bytes:
    """The first 16 bytes."""
    return _HEADER.pack(sequence * 2 + is_last, sent_ns)


def write(buffer: Any, size: int, sequence: int, is_last: bool, sent_ns: int) -> None:
    """Put header and last byte into a writable buffer."""
    _HEADER.pack_into(buffer, 0, sequence * 2 + is_last, sent_ns)
    _LAST.pack_into(buffer, size - 1, sequence & 255)


def read(buffer: Any, size: int) -> Arrival:
    """Look at header and last byte, then at the clock. Raises ValueError when they disagree."""
    number, sent_ns = _HEADER.unpack_from(buffer, 0)
    (end,) = _LAST.unpack_from(buffer, size - 1)
    sequence = number >> 1
    if end != sequence & 255:
        raise ValueError(f"message {sequence} of {size} bytes: it ends with {end}: torn on the way")
    return Arrival(sequence, sent_ns, now_ns(), bool(number & 1))
