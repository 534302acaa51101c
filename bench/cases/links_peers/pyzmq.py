"""Bare pyzmq: PUSH to PULL over a Unix socket (`ipc://`); copy=True below 64 KiB: it is faster."""

import itertools
from typing import Any

import numpy as np
import zmq

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


class Push:
    """Sends from a few buffers in turn: with copy=False pyzmq reads them after `send` returned."""

    def __init__(self, link: Link) -> None:
        self.size = link.size
        self.address = f"ipc://{link.folder}/zmq-{link.size}"
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.PUSH)
        self._socket.setsockopt(zmq.SNDHWM, link.depth)
        self._socket.bind(self.address)
        count = 4 * link.depth
        self._buffers = itertools.cycle([np.full(link.size, 7, np.uint8) for _ in range(count)])
        self._copy = link.size < COPIED_BELOW

    def send(self, sequence: int, is_last: bool) -> None:
        """Wait for a place in the queue, stamp and send."""
        self._socket.poll(flags=zmq.POLLOUT)
        buffer: Any = next(self._buffers)
        sent_ns = now_ns()
        write(buffer, self.size, sequence, is_last, sent_ns)
        if self._copy:
            self._socket.send(buffer)
        else:
            self._socket.send(buffer, copy=False)

    def close(self) -> None:
        """Close socket and context."""
        self._context.destroy(linger=0)


class Pull:
    """Receives; as bytes below 64 KiB, else as a frame that is not copied again."""

    def __init__(self, link: Link) -> None:
        self.size = link.size
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.PULL)
        self._socket.setsockopt(zmq.RCVHWM, link.depth)
        self._socket.connect(link.address)
        self._shape = SHAPES[link.size]
        self._copy = link.size < COPIED_BELOW

    def receive(self) -> list[Arrival]:
        """The next message."""
        if self._copy:
            return [read(self._socket.recv(), self.size)]
        frame = self._socket.recv(copy=False)
        return [read(np.frombuffer(frame.buffer, np.uint8).reshape(self._shape), self.size)]

    def close(self) -> None:
        """Close socket and context."""
        self._context.destroy(linger=0)


def _offer(link: Link) -> Offer:
    end = Push(link)
    return Offer(end, end.address)


PEER = Peer(_offer, Pull)
