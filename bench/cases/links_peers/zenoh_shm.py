"""Zenoh's Python binding with its shared-memory provider, peer to peer over loopback.

The payload is taken to be in the provider's buffer already, as in place; the receiving side of the
binding gives bytes only as a copy, so one copy is in the figure.
"""

import functools
import json
import socket
from typing import Any

import numpy as np

from haihe.bench.cases.links_peers.payload import SHAPES, Arrival, Link, Offer, Peer, header, read
from haihe.runtime.clock import now_ns, sleep

try:
    import zenoh
except ModuleNotFoundError:  # the case is left out, see `missing` in links.py
    zenoh = None


@functools.cache
def _session(role: str, endpoint: str) -> Any:
    zenoh.init_log_from_env_or("error")
    config = zenoh.Config()
    config.insert_json5("mode", '"peer"')
    config.insert_json5("scouting/multicast/enabled", "false")
    config.insert_json5("transport/shared_memory/enabled", "true")
    config.insert_json5(f"{role}/endpoints", json.dumps([endpoint]))
    if role == "connect":
        config.insert_json5("listen/endpoints", "[]")
    return zenoh.open(config)


@functools.cache
def _endpoint() -> str:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return f"tcp/127.0.0.1:{probe.getsockname()[1]}"


class Publisher:
    """Sends buffers of a provider."""

    def __init__(self, link: Link) -> None:
        self.size = link.size
        session = _session("listen", _endpoint())
        self._publisher = session.declare_publisher(
            f"frames/{link.size}", congestion_control=zenoh.CongestionControl.BLOCK
        )
        room = max(1 << 20, (2 * link.depth + 2) * link.size)
        self._provider = zenoh.shm.ShmProvider.default_backend(room)
        self._policy = zenoh.shm.BlockOn(zenoh.shm.GarbageCollect())

    def send(self, sequence: int, is_last: bool) -> None:
        """Allocate, stamp, put."""
        while not self._publisher.matching_status.matching:
            sleep(0.01)
        buffer = self._provider.alloc(self.size, self._policy)
        sent_ns = now_ns()
        buffer[:16] = header(sequence, is_last, sent_ns)
        buffer[self.size - 1 :] = bytes((sequence & 255,))
        self._publisher.put(buffer)

    def close(self) -> None:
        """Undeclare, and close the session."""
        self._publisher.undeclare()
        del self._provider
        _session("listen", _endpoint()).close()


class Subscriber:
    """Receives, as bytes."""

    def __init__(self, link: Link) -> None:
        self.size, self._shape = link.size, SHAPES[link.size]
        self._session = _session("connect", link.address)
        self._subscriber = self._session.declare_subscriber(
            f"frames/{link.size}", zenoh.handlers.FifoChannel(2 * link.depth)
        )

    def receive(self) -> list[Arrival]:
        """The next message."""
        data = self._subscriber.recv().payload.to_bytes()
        return [read(np.frombuffer(data, np.uint8).reshape(self._shape), self.size)]

    def close(self) -> None:
        """Undeclare, and close the session."""
        self._subscriber.undeclare()
        self._session.close()


def _offer(link: Link) -> Offer:
    return Offer(Publisher(link), _endpoint())


PEER = Peer(_offer, Subscriber)
