"""One end of a link in a process of its own: does what it is told over a control socket.

    python -m haihe.bench.cases.links_peers.worker PEER send|receive SOCKET

Orders and answers are JSON, one a datagram; descriptors travel beside them.
"""

import array
import gc
import os
import socket
import sys
import time
from importlib import import_module

import msgspec

from haihe.bench.cases.links_peers.payload import Arrival, Link, Peer, Receiving, Sending
from haihe.runtime.clock import now_ns, sleep_until
from haihe.runtime.errors import LinkError

LONGEST = 1 << 16  # bytes of an order or answer


class Hello(msgspec.Struct, tag=True):
    """A worker's first word."""

    role: str
    pid: int


class Open(msgspec.Struct, tag=True):
    """Make your end of a link (`payload.Link` without descriptors)."""

    size: int
    in_place: bool
    folder: str
    address: str = ""


class Opened(msgspec.Struct, tag=True):
    """Made; the sender says where."""

    address: str = ""


class Burst(msgspec.Struct, tag=True):
    """Send (or receive) messages: at most `count`, `gap_ns` apart (0: as fast as there is room),
    for `limit_ns` at most."""

    size: int
    count: int
    gap_ns: int
    limit_ns: int


class Ready(msgspec.Struct, tag=True):
    """The receiver waits for the burst."""


class Sent(msgspec.Struct, tag=True):
    """All is sent."""

    count: int


class Received(msgspec.Struct, tag=True):
    """The last message is in. latency_ns: of each; span_ns: first sent to last received; cpu_ns: of
    this process during the burst."""

    latency_ns: list[int]
    span_ns: int
    cpu_ns: int
    is_in_order: bool


class Account(msgspec.Struct, tag=True):
    """Say how much CPU time the burst took of you: asked when the receiver is done, so that what
    other threads of the sender still did is in it."""


class Cpu(msgspec.Struct, tag=True):
    """CPU time of this process since the burst began."""

    cpu_ns: int


Word = Hello | Open | Opened | Burst | Ready | Sent | Received | Account | Cpu
_encoder, _decoder = msgspec.json.Encoder(), msgspec.json.Decoder(Word)


class Control:
    """The control socket, at either end."""

    def __init__(self, end: socket.socket) -> None:
        self.socket = end

    def tell(self, word: Word, descriptors: tuple[int, ...] = ()) -> None:
        """Send a word; the descriptors are duplicated on the way."""
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]
        self.socket.sendmsg([_encoder.encode(word)], rights if descriptors else [])

    def hear(self) -> tuple[Word, tuple[int, ...]]:
        """The next word and its descriptors. Raises EOFError when the other end is closed."""
        data, descriptors, _, _ = socket.recv_fds(self.socket, LONGEST * 8, 16)
        if not data:
            raise EOFError
        return _decoder.decode(data), tuple(descriptors)


class Sender:
    """Serves the sending ends of one peer."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._ends: dict[int, Sending] = {}
        self._next: dict[int, int] = {}
        self._cpu_ns = 0

    def do(self, order: Word, descriptors: tuple[int, ...], control: Control) -> None:
        """Carry out one order."""
        if isinstance(order, Open):
            offer = self._peer.offer(_link(order, descriptors))
            self._ends[order.size], self._next[order.size] = offer.end, 0
            control.tell(Opened(offer.address), offer.descriptors)
        elif isinstance(order, Burst):
            control.tell(Sent(self._send(order)))
        elif isinstance(order, Account):
            control.tell(Cpu(time.process_time_ns() - self._cpu_ns))

    def _send(self, burst: Burst) -> int:
        send, first = self._ends[burst.size].send, self._next[burst.size]
        self._cpu_ns = time.process_time_ns()
        begun = now_ns()
        due, end, index = begun, begun + burst.limit_ns, 0
        is_last = False
        while not is_last:
            if burst.gap_ns:
                due += burst.gap_ns
                sleep_until(due)
            is_last = index + 1 == burst.count or now_ns() >= end
            send(first + index, is_last)
            index += 1
        self._next[burst.size] += index
        return index

    def close(self) -> None:
        """Close all ends."""
        for end in self._ends.values():
            end.close()


class Receiver:
    """Serves the receiving ends of one peer."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._ends: dict[int, Receiving] = {}

    def do(self, order: Word, descriptors: tuple[int, ...], control: Control) -> None:
        """Carry out one order."""
        if isinstance(order, Open):
            self._ends[order.size] = self._peer.accept(_link(order, descriptors))
            control.tell(Opened())
        elif isinstance(order, Burst):
            control.tell(Ready())
            control.tell(self._receive(order))

    def _receive(self, burst: Burst) -> Received:
        receive = self._ends[burst.size].receive
        cpu_ns = time.process_time_ns()
        arrivals: list[Arrival] = []
        while not arrivals or not arrivals[-1].is_last:
            got = receive()
            if not got:
                break
            arrivals += got
        cpu_ns = time.process_time_ns() - cpu_ns
        if not arrivals:
            raise LinkError(f"bench link: none of {burst.count} messages arrived.")
        first = arrivals[0].sequence
        return Received(
            [arrival.received_ns - arrival.sent_ns for arrival in arrivals],
            arrivals[-1].received_ns - arrivals[0].sent_ns,
            cpu_ns,
            all(arrival.sequence == first + index for index, arrival in enumerate(arrivals)),
        )

    def close(self) -> None:
        """Close all ends."""
        for end in self._ends.values():
            end.close()


def _link(order: Open, descriptors: tuple[int, ...]) -> Link:
    return Link(order.size, order.in_place, order.folder, order.address, descriptors)


def serve(peer_name: str, role: str, path: str) -> None:
    """Work until the control socket closes."""
    peer: Peer = import_module(f"haihe.bench.cases.links_peers.{peer_name}").PEER
    if peer.join is not None:
        peer.join()
    worker = Sender(peer) if role == "send" else Receiver(peer)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as end:
        end.connect(path)
        control = Control(end)
        control.tell(Hello(role, os.getpid()))
        try:
            while True:
                order, descriptors = control.hear()
                gc.collect()
                gc.freeze()
                worker.do(order, descriptors, control)
        except EOFError:
            worker.close()


if __name__ == "__main__":
    serve(*sys.argv[1:])
