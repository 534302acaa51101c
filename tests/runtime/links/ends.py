"""Both ends of a channel in one process: a real socket and real shared memory."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from haihe.runtime.links.channel import Outlet, Reader, slots_needed
from haihe.runtime.links.inlet import Inlet
from haihe.runtime.links.ring import Ring
from haihe.runtime.links.slot import Sample
from haihe.runtime.types import Image, Message

SHAPE = (40, 30, 3)  # 3600 bytes: goes into a slot
SLOT_BYTES = 8192


class Pair(Message):
    """Two arrays and a number."""

    left: np.ndarray[tuple[int, ...], np.dtype[np.float64]]
    right: np.ndarray[tuple[int, ...], np.dtype[np.int16]]
    number: int = 0


def image(number: int, shape: tuple[int, ...] = SHAPE) -> Image:
    """A picture in which every byte is its number."""
    return Image(np.full(shape, number % 251, np.uint8))


def sample(number: int, message: Message | None = None) -> Sample:
    """A sample whose stamps follow from its number, 1 ms apart."""
    return number, message or image(number), number * 1_000_000, number * 1_000_000 + 5


def numbers(samples: list[Sample]) -> list[int]:
    """What arrived, by the content; each byte of a picture must say the same number."""
    for number, message, origin, fired in samples:
        assert (origin, fired) == (number * 1_000_000, number * 1_000_000 + 5)
        if isinstance(message, Image):
            assert np.all(message.data == number % 251)
    return [number for number, *_ in samples]


@dataclass
class Ends:
    """An outlet and its inlets."""

    outlet: Outlet
    ring: Ring | None
    inlets: list[Inlet] = field(default_factory=list)
    readers: list[Reader] = field(default_factory=list)

    def add(
        self, quota: int = 3, *, fifo: bool = False, kind: type[Message] = Image
    ) -> tuple[Reader, Inlet]:
        """One more reader."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        memfd = os.dup(self.ring.fd) if self.ring is not None else None
        reader = self.outlet.add(ours, quota, fifo=fifo, name=f"reader{len(self.readers)}")
        inlet = Inlet(self.outlet.source, kind, theirs, memfd, fifo=fifo)
        self.readers.append(reader)
        self.inlets.append(inlet)
        return reader, inlet


@contextmanager
def channel(
    slots: int = slots_needed([(3, False)]), slot_bytes: int = SLOT_BYTES
) -> Iterator[Ends]:
    """An outlet with a ring (slots=0: without), closed at the end."""
    ring = Ring.create("camera", slots, slot_bytes) if slots else None
    ends = Ends(Outlet("camera", ring), ring)
    try:
        yield ends
    finally:
        for inlet in ends.inlets:
            inlet.close()
        ends.outlet.close()


def descriptors() -> dict[int, str]:
    """The open descriptors of this process and what they are."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue  # the listing's own
    return found


def balance(ends: Ends, puts: int) -> None:
    """Every put is accounted for, by each reader."""
    for reader in ends.readers:
        assert puts == (
            reader.sent + reader.dropped + reader.refused + (reader.pending is not None)
        )
