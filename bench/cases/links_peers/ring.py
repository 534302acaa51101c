"""Ours: messages over a Unix socket, pictures in a ring of shared memory (runtime/links/).

What is sent is an `Image`, encoded and decoded as on the edge of a graph; the edge is the default,
latest wins, and the sender waits for a credit, so that nothing is replaced. In place the picture is
made in a loan of the ring, else it is copied there.
"""

import select
import socket

import numpy as np

from haihe.bench.cases.links_peers.payload import (
    COPIED_BELOW,
    SHAPES,
    Arrival,
    Link,
    Offer,
    Peer,
    read,
    write,
)
from haihe.runtime.clock import now_ns
from haihe.runtime.links.channel import Outlet, slots_needed
from haihe.runtime.links.inlet import Inlet
from haihe.runtime.links.ring import Ring
from haihe.runtime.types import Image

KEPT = 2  # by the reader: the message received last, and while it is handed on the one before


class Writer:
    """Sends over an outlet with one reader."""

    def __init__(self, link: Link) -> None:
        self.size, self._shape = link.size, SHAPES[link.size]
        self._in_place = link.in_place and link.size >= COPIED_BELOW
        ring = None
        self.descriptors: tuple[int, ...] = ()
        mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._theirs = theirs
        quota = link.depth + KEPT
        if link.size >= COPIED_BELOW:
            room = link.size + 4096
            ring = Ring.create("bench", slots_needed([(quota, False)]), room)
            self.descriptors = (theirs.fileno(), ring.fd)
        else:
            self.descriptors = (theirs.fileno(),)
        self._outlet = Outlet("bench", ring)
        self._reader = self._outlet.add(mine, quota)
        self._poll = select.poll()
        self._poll.register(mine, select.POLLIN)
        self._source = np.full(self._shape, 7, np.uint8)

    def send(self, sequence: int, is_last: bool) -> None:
        """Wait for a credit, loan, stamp and publish."""
        outlet, reader = self._outlet, self._reader
        while not reader.may_get:
            self._poll.poll()
            outlet.take_credits()
        picture = self._source
        if self._in_place:
            loan = outlet.allocate(self._shape, np.uint8)
            assert loan is not None
            picture = loan
        sent_ns = now_ns()
        write(picture, self.size, sequence, is_last, sent_ns)
        outlet.put((sequence, Image(picture), sent_ns, sent_ns))

    def close(self) -> None:
        """Close the outlet and the ring."""
        self._theirs.close()
        self._outlet.close()


class Reader:
    """Receives from an inlet."""

    def __init__(self, link: Link) -> None:
        self.size = link.size
        end = socket.socket(fileno=link.descriptors[0])
        memory = link.descriptors[1] if len(link.descriptors) > 1 else None
        self._inlet = Inlet("bench", Image, end, memory)
        self._poll = select.poll()
        self._poll.register(self._inlet.fileno(), select.POLLIN)

    def receive(self) -> list[Arrival]:
        """What has come, looked at and let go."""
        inlet, size = self._inlet, self.size
        self._poll.poll()
        arrivals = []
        for _, image, _, _ in inlet.receive(hold=True):
            arrivals.append(read(image.data, size))
        inlet.settle()
        return arrivals

    def close(self) -> None:
        """Close the inlet."""
        self._inlet.close()


def _offer(link: Link) -> Offer:
    end = Writer(link)
    return Offer(end, descriptors=end.descriptors)


PEER = Peer(_offer, Reader)
