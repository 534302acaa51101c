"""Control messages: nothing that was said is lost with a death, and nobody waits for a deaf one."""

import os
import socket
from collections.abc import Iterator

import pytest

from haihe.runtime.exec.control import receive, send

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    yield here, there
    here.close()
    there.close()


def test_last_words_are_heard_though_the_dead_did_not_listen(pair: Pair) -> None:
    here, there = pair
    send(here, ["post", ["arm"], []])  # never read: the kernel tells of it with ECONNRESET
    send(there, ["failed", "", "", "DeviceError", "gone"])
    send(there, ["done", []])
    there.close()
    assert receive(here) == (["failed", "", "", "DeviceError", "gone"], [])
    assert receive(here, wait=False) == (["done", []], [])
    with pytest.raises(EOFError):
        receive(here)
    assert send(here, ["stop", ""])  # says nothing, and raises nothing


def test_who_does_not_listen_makes_nobody_wait(pair: Pair) -> None:
    here, there = pair
    with pytest.raises(BlockingIOError):
        receive(there, wait=False)
    taken = 0
    while send(here, ["post", ["param", "node", "key", taken], []], wait=False):
        taken += 1
        assert taken < 100_000
    assert taken > 50
    heard = [receive(there)[0][1][3] for _ in range(taken)]
    assert heard == list(range(taken))


def test_what_a_socket_takes_is_received_whole(pair: Pair) -> None:
    here, there = pair
    size = here.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) // 2  # the kernel doubles it
    text = "x" * (min(size, 1 << 17) - 100)
    assert send(here, ["status", text])
    assert receive(there) == (["status", text], [])


def test_descriptors_that_arrive_are_not_for_what_is_started(pair: Pair) -> None:
    here, there = pair
    read, write = os.pipe()
    send(here, ["inlet", "source"], [read])
    os.close(read)
    _, (arrived,) = receive(there)
    assert not os.get_inheritable(arrived)
    os.write(write, b"it is the same")
    os.close(write)
    with os.fdopen(arrived, "rb") as stream:
        assert stream.read() == b"it is the same"
