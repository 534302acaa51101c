"""Messages of a run to other programs and boards, over ZeroMQ (see docs/links.md).

Each goes out as one multipart message of a PUB socket: topic, header, payload, as described in
`haihe.drivers.framing.published`; `camera.zmq` of another run reads pictures from it.
"""

import logging
import os
from dataclasses import dataclass, field
from pathlib import Path

from haihe.drivers.framing.published import Header, boot_id, pack
from haihe.drivers.ports.zmq_link import Endpoint, Link
from haihe.runtime.clock import SECOND, now_ns, wall_time_s
from haihe.runtime.contracts import Age, age_of
from haihe.runtime.errors import PlanError
from haihe.runtime.node import node
from haihe.runtime.types import Message

log = logging.getLogger(__name__)


class Published(Message):
    """Messages given to ZeroMQ so far; stalls: how often a subscriber's queue was found full."""

    sequence: int
    stalls: int


@node(recorded=True, blocking=True, on_error="skip")
@dataclass
class Publish:
    """`Publish("parts", "tcp://127.0.0.1:5556")(parts)`: every message, to whoever subscribes.

    It has a lane and a thread of its own, so what it costs is not at the expense of others, and
    never waits: a subscriber that is slow or gone misses messages once `queue` wait for it (counted
    at the first of them as a stall; it sees the rest by the sequence), the others miss none. A
    message that cannot be packed is counted as `raised` of the node. bind: others connect here;
    False: it connects to a subscriber that binds. secret, peers: files with CURVE keys, a must for
    an address beyond this machine. Raises PlanError for an address that it must not open.
    """

    topic: str
    address: str = "tcp://127.0.0.1:5556"
    bind: bool = True
    queue: int = 8
    secret: str = ""
    peers: str = ""
    _link: Link | None = field(default=None, init=False, repr=False, compare=False)
    _sender: str = field(default="", init=False, repr=False, compare=False)
    _sequence: int = field(default=0, init=False, repr=False, compare=False)
    _stalls: int = field(default=0, init=False, repr=False, compare=False)
    _told: int = field(default=0, init=False, repr=False, compare=False)  # when, of stalls

    def __post_init__(self) -> None:
        self._endpoint()
        if not 1 <= self.queue <= 10_000:
            raise PlanError(
                f"Publish({self.topic!r}): queue {self.queue}: from 1 to 10000, please."
            )

    @property
    def bound_address(self) -> str:
        """The address with the port that it got; empty when it is not open."""
        return self._link.address if self._link is not None else ""

    def open(self) -> None:
        """Bind or connect. Raises PlanError."""
        self.close()
        self._link = self._endpoint().open("PUB", self.queue)
        self._sender, self._sequence = os.urandom(6).hex(), 0
        log.info("Publish(%r): on %s", self.topic, self._link.address)

    def close(self) -> None:
        """Close the socket. Harmless if it is not open."""
        link, self._link = self._link, None
        if link is not None:
            link.close()

    def __call__(self, message: Message, message_age: Age = age_of("message")) -> Published:
        """Send it; what was sent so far."""
        now = now_ns()  # the lane is this node's: its clock was read just before
        if self._link is None:
            raise PlanError(
                f"Publish({self.topic!r}): called before open(). The runtime opens it; without "
                "one, call open() first."
            )
        age = max(0, round(message_age * 1e9))
        self._sequence += 1
        header = Header(
            type(message).__name__,
            self._sender,
            self._sequence,
            max(0, now - age),
            age,
            wall_time_s() - age * 1e-9,
            boot_id(),
        )
        self._send(self._link, pack(self.topic, header, message), now)
        return Published(self._sequence, self._stalls)

    def _send(self, link: Link, parts: list[bytes], now: int) -> None:
        """To all whose queue has room. Asked for once, ZeroMQ says whether one has none."""
        import zmq

        socket = link.socket
        socket.getsockopt(zmq.EVENTS)  # takes in what was read: a send does so once a ms at most
        socket.setsockopt(zmq.XPUB_NODROP, 1)
        try:
            socket.send_multipart(parts, zmq.NOBLOCK, copy=False)
        except zmq.Again:
            socket.setsockopt(zmq.XPUB_NODROP, 0)
            socket.send_multipart(parts, zmq.NOBLOCK, copy=False)
            self._stalls += 1
            if now - self._told > SECOND:
                self._told = now
                log.warning(
                    "Publish(%r): a subscriber of %s does not keep up and misses messages (%d "
                    "stalls so far)", self.topic, link.address, self._stalls,
                )  # fmt: skip

    def _endpoint(self) -> Endpoint:
        return Endpoint(
            f"Publish({self.topic!r})",
            self.address,
            self.bind,
            Path(self.secret) if self.secret else None,
            Path(self.peers) if self.peers else None,
            PlanError,
        )


NODE = Publish
