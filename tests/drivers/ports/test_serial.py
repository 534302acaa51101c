import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from haihe.drivers.ports import serial
from haihe.drivers.ports.pty_bridge import PtyBridge
from haihe.drivers.ports.serial import SerialPort
from haihe.drivers.ports.virtual import VirtualPort
from haihe.drivers.servo.sts import StsGroup, StsJoint, StsOptions
from haihe.drivers.servo.sts_emulator import StsEmulator
from haihe.runtime.clock import now_ns
from haihe.runtime.errors import LinkError
from haihe.runtime.io import Exchange, drive
from haihe.runtime.sim import Emulator
from haihe.runtime.types import JointState

SECOND = 1_000_000_000
OPTIONS = StsOptions((StsJoint("pan", 1), StsJoint("tilt", 2)), timeout_ms=2000.0)


class Mirror:
    """Sends everything back, then the tail."""

    def __init__(self, tail: bytes = b"") -> None:
        self.tail = tail
        self.heard = b""

    def receive(self, data: bytes, t_ns: int) -> list[tuple[int, bytes]]:
        self.heard += data
        return [(t_ns, data + self.tail)]


class Deaf:
    def receive(self, data: bytes, t_ns: int) -> list[tuple[int, bytes]]:
        return []


@contextmanager
def served(emulator: Emulator) -> Iterator[PtyBridge]:
    """A bridge with a thread that serves it."""
    bridge = PtyBridge(emulator)
    stop = threading.Event()
    thread = threading.Thread(target=bridge.serve, args=(stop.is_set,))
    thread.start()
    try:
        yield bridge
    finally:
        stop.set()
        thread.join()
        bridge.close()


@contextmanager
def opened(path: str) -> Iterator[SerialPort]:
    port = SerialPort(path)
    try:
        yield port
    finally:
        port.close()


def test_a_whole_servo_session_over_a_pty():
    bus = StsEmulator(OPTIONS)
    with served(bus) as bridge, opened(f"pty:{bridge.path}") as port:
        group = StsGroup(OPTIONS)
        drive(port, group.setup())
        state = drive(port, group.read())
        assert isinstance(state, JointState)
        assert state.ok.all()
        assert group.counters["missing"] == port.stats["timeouts"] == 0
    assert bridge.received is not None
    assert b"".join(data for _, data in bridge.received).startswith(b"\xff\xff\x01\x02\x01\xfb")
    assert bridge.stats["rx_bytes"] == port.stats["tx_bytes"]
    assert bridge.stats["tx_bytes"] == port.stats["rx_bytes"]


def test_the_same_script_gives_the_same_on_a_pty_and_in_virtual_time():
    # what an exchange leaves over is there before the next: the bridge writes an answer at once
    script = [(b"abc", 3), (b"abc", 8), (b"xy", 4), (b"pq", 7)]

    def run(port: SerialPort | VirtualPort) -> list[tuple[bytes, str]]:
        replies = []
        for tx, size in script:
            reply = port.exchange(Exchange(tx, size, 2 * SECOND))
            replies.append((reply.rx, reply.error))
            if isinstance(port, VirtualPort):
                port.now_ns += SECOND
        return replies

    virtual = VirtualPort(Mirror(b"=tail"))
    with served(Mirror(b"=tail")) as bridge, opened(bridge.path) as port:
        assert run(port) == run(virtual)
        for key in ("tx_bytes", "rx_bytes", "stale_bytes", "timeouts", "errors", "exchanges"):
            assert port.stats[key] == virtual.stats[key]
        assert port.stats["stale_bytes"] == 5 + 3


def test_stamps_and_time_out():
    with served(Deaf()) as bridge, opened(bridge.path) as port:
        before = now_ns()
        reply = port.exchange(Exchange(b"abc", 3, 3_000_000))
        assert before <= reply.t_sent_ns
        assert reply.t_done_ns - reply.t_sent_ns >= 3_000_000
        assert (reply.rx, reply.error, port.stats["timeouts"]) == (b"", "", 1)
        written = port.exchange(Exchange(b"abc"))
        assert written.t_done_ns >= written.t_sent_ns
        assert port.stats["timeouts"] == 1


def test_every_byte_value_passes_unchanged():
    data = bytes(range(256)) * 2
    with served(Mirror()) as bridge, opened(bridge.path) as port:
        assert port.exchange(Exchange(data, len(data), 2 * SECOND)).rx == data


def test_the_port_is_ours_alone():
    with served(Mirror()) as bridge:
        with opened(bridge.path) as port:
            with pytest.raises(LinkError) as caught:
                SerialPort(bridge.path)
            assert "Another process holds it: stop that one" in str(caught.value)
            assert port.exchange(Exchange(b"a", 1, 2 * SECOND)).rx == b"a"
        with opened(bridge.path) as port:
            assert port.exchange(Exchange(b"b", 1, 2 * SECOND)).rx == b"b"


def test_what_cannot_be_opened_says_what_to_do(tmp_path: Path):
    with pytest.raises(LinkError, match=r"ttyNone: cannot be opened.*ls -l /dev/serial/by-id"):
        SerialPort("/dev/ttyNone")
    (tmp_path / "file").write_text("")
    with pytest.raises(LinkError, match="Check that it is a serial port"):
        SerialPort(str(tmp_path / "file"))


def test_unplugged_and_plugged_in_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    ahead = 0
    monkeypatch.setattr(serial, "now_ns", lambda: now_ns() + ahead)
    link = tmp_path / "servo"
    with served(Mirror()) as bridge:
        link.symlink_to(bridge.path)
        port = SerialPort(str(link))
        assert port.exchange(Exchange(b"a", 1, 2 * SECOND)).rx == b"a"
    reply = port.exchange(Exchange(b"a", 1, 2 * SECOND))
    assert reply.error.startswith(f"{link}: ")
    assert (port.state, port.fileno(), port.generation) == ("lost", -1, 1)
    link.unlink()
    assert port.exchange(Exchange(b"a", 1)).error == reply.error, "too early to try"
    assert port.stats["reopen_tries"] == 0
    for tries in range(1, 8):
        ahead += 3 * SECOND
        assert "No such file" in port.exchange(Exchange(b"a", 1)).error
        assert port.stats["reopen_tries"] == tries
    mirror = Mirror()
    with served(mirror) as bridge:
        link.symlink_to(bridge.path)
        ahead += 3 * SECOND
        assert port.exchange(Exchange(b"n", 1)).error == f"{link}: opened again"
        assert (port.state, port.generation) == ("open", 2)
        assert port.exchange(Exchange(b"b", 1, 2 * SECOND)).rx == b"b"
        assert mirror.heard == b"b", "the exchange that opened it again sent nothing"
        port.close()
        port.close()
        assert port.exchange(Exchange(b"b", 1)).error == f"{link}: closed"
    assert port.stats["lost"] == 1


def test_a_write_only_exchange_notices_the_loss_too():
    with served(Mirror()) as bridge:
        port = SerialPort(bridge.path)
    assert port.exchange(Exchange(b"a")).error
    assert port.state == "lost"
    port.close()


def test_a_port_that_takes_no_more_bytes():
    bridge = PtyBridge(Deaf())  # nobody serves it
    try:
        with opened(bridge.path) as port:
            full = port.exchange(Exchange(bytes(100_000), 0, 5_000_000))
            assert full.error == f"{bridge.path}: takes no more bytes"
            assert port.state == "open"
            assert port.stats["short_writes"] > 0
    finally:
        bridge.close()


def test_the_bridge_outlives_its_clients_and_never_blocks():
    bridge = PtyBridge(Mirror(bytes(3000)))
    try:
        for _ in range(3):
            with opened(bridge.path) as port:
                port.exchange(Exchange(b"a"))
            assert bridge.serve_once(now_ns()) is None
        fd = os.open(bridge.path, os.O_RDWR | os.O_NOCTTY)
        for _ in range(40):
            os.write(fd, b"x")
            bridge.serve_once(now_ns())
        os.close(fd)
        assert bridge.stats["dropped_bytes"] > 0
        assert bridge.stats["replies"] == 43
    finally:
        bridge.close()
        bridge.close()


def test_the_bridge_sends_a_reply_when_it_is_due():
    bridge = PtyBridge(StsEmulator(OPTIONS), baud=1_000_000)
    try:
        with opened(bridge.path) as port:
            port.exchange(Exchange(bytes.fromhex("ffff010201fb")))
            due = bridge.serve_once(1000)
            assert due == 1000 + 6 * 10_000 + 500_000 + 6 * 10_000  # request, delay, status
            assert bridge.serve_once(due - 1) == due
            assert bridge.stats["replies"] == 0
            assert bridge.serve_once(due) is None
            assert bridge.stats["replies"] == 1
            assert bridge.received == [(61_000, bytes.fromhex("ffff010201fb"))]
    finally:
        bridge.close()


def test_an_unusual_baud_rate_needs_pyserial_only():
    bridge = PtyBridge(Mirror())
    try:
        port = SerialPort(bridge.path, 128_000)
        assert port.state == "open"
        port.close()
    finally:
        bridge.close()
