"""The warden as a process: what it sends, when, and when it sends nothing. The owner is a `sleep`
whose heartbeat the test stores; the port is a pty of which the test is the far end."""

import contextlib
import mmap
import os
import pty
import select
import signal
import socket
import subprocess
import sys
import time
import tty
from collections.abc import Iterator

import pytest

from haihe.runtime.guard import warden as w

MS = 1_000_000
FRAMES = b"\xff\xffSAFE"
LONGEST = 20
MESSAGE = bytes(LONGEST) + FRAMES
PATIENCE_S = 20.0


class Bench:
    """An owner, its warden, a pty."""

    def __init__(self, limit_ms: int = 100, stderr: int = subprocess.PIPE) -> None:
        self.owner = subprocess.Popen(["sleep", "600"])
        self.pidfd = os.pidfd_open(self.owner.pid)
        self.shared_fd = os.memfd_create("test")
        os.ftruncate(self.shared_fd, w.SIZE)
        self.shared = mmap.mmap(self.shared_fd, w.SIZE)
        self.words = memoryview(self.shared).cast("q")
        self.words[w.LIMIT], self.words[w.LONGEST] = limit_ms * MS, LONGEST
        self.frames(FRAMES, 0)
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        fds = (self.shared_fd, theirs.fileno(), self.pidfd)
        numbers = [str(n) for n in (*fds, self.owner.pid, 0)]
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-E", w.__file__, *numbers, "neck"],
            pass_fds=fds, stderr=stderr, start_new_session=True,
        )  # fmt: skip
        theirs.close()
        self.control.settimeout(PATIENCE_S)
        assert self.control.recv(16) == b"ready"
        self.far, self.near = pty.openpty()
        tty.setraw(self.near)
        os.set_blocking(self.far, False)

    def frames(self, frames: bytes, buffer: int) -> None:
        at = (1 + buffer) * w.PAGE
        self.shared[at : at + 8] = len(frames).to_bytes(8, sys.byteorder)
        self.shared[at + 8 : at + 8 + len(frames)] = frames

    def hand_over(self) -> None:
        socket.send_fds(self.control, [b"port"], [self.near])

    def beat(self, ahead_ns: int = 0) -> None:
        self.words[w.BEAT] = time.monotonic_ns() + ahead_ns

    def arm(self) -> None:
        self.beat()
        self.words[w.STATE] = w.ARMED

    def kill_owner(self) -> None:
        self.owner.kill()

    def said(self) -> str:
        """Its standard error, when it has ended by itself."""
        _, errors = self.process.communicate(timeout=PATIENCE_S)
        assert self.process.returncode == 0, errors
        return (errors or b"").decode()

    def sent(self) -> bytes:
        """All that arrives; the kernel takes a moment to carry it over."""
        data = b""
        while select.select([self.far], [], [], 0.1)[0]:
            data += os.read(self.far, 1 << 16)
        return data

    def close(self) -> None:
        for process in (self.owner, self.process):
            process.kill()
            process.wait()
            if process.stderr is not None:
                process.stderr.close()
        self.control.close()
        self.words.release()
        self.shared.close()
        for fd in (self.shared_fd, self.pidfd, self.far, self.near):
            os.close(fd)


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.close()


def test_it_is_silent_when_the_owner_dies_disarmed(bench: Bench) -> None:
    bench.hand_over()
    bench.arm()
    bench.words[w.STATE] = w.DISARMED
    bench.kill_owner()
    assert bench.said() == ""
    assert bench.sent() == b""
    assert bench.words[w.CAUSE] == 0


def test_it_is_silent_when_the_owner_has_finished(bench: Bench) -> None:
    bench.hand_over()
    bench.words[w.STATE] = w.FINISHED
    bench.control.close()  # wakes it
    assert bench.said() == ""
    assert bench.sent() == b""


def test_it_pads_and_sends_twice_when_the_owner_dies_armed(bench: Bench) -> None:
    bench.hand_over()
    bench.arm()
    bench.kill_owner()
    said = bench.said()
    words = bench.words
    assert bench.sent() == 2 * MESSAGE
    assert said.startswith(
        f"haihe: the warden of neck: process {bench.owner.pid} died while armed; safe actions sent "
    )
    assert said.endswith(f" ms later, {2 * len(MESSAGE)} bytes\n")
    assert (words[w.CAUSE], words[w.SENT]) == (w.DIED, 2 * len(MESSAGE))
    assert words[w.TRIGGERED] <= words[w.DEAD] <= words[w.FIRST] <= words[w.DONE]


def test_it_kills_an_owner_whose_heartbeat_stops_and_then_sends(bench: Bench) -> None:
    bench.hand_over()
    bench.arm()
    said = bench.said()
    assert bench.owner.wait(PATIENCE_S) == -signal.SIGKILL
    assert bench.sent() == 2 * MESSAGE
    assert "(limit 100 ms): process" in said
    words = bench.words
    assert words[w.CAUSE] == w.HUNG
    assert words[w.TRIGGERED] - words[w.BEAT] > 100 * MS
    assert words[w.BEAT] < words[w.DEAD] <= words[w.FIRST]


def test_a_stopped_owner_is_killed_too(bench: Bench) -> None:
    bench.hand_over()
    bench.owner.send_signal(signal.SIGSTOP)
    bench.arm()
    bench.said()
    assert bench.owner.wait(PATIENCE_S) == -signal.SIGKILL
    assert bench.sent() == 2 * MESSAGE


def test_a_heartbeat_in_the_future_does_not_put_it_to_sleep(bench: Bench) -> None:
    bench.hand_over()
    bench.words[w.STATE] = w.ARMED
    bench.beat(ahead_ns=3_600_000 * MS)
    time.sleep(0.15)  # it looks, and waits again
    bench.beat()
    bench.said()
    assert bench.sent() == 2 * MESSAGE


def test_the_frames_are_those_of_the_valid_buffer(bench: Bench) -> None:
    bench.hand_over()
    bench.frames(b"OTHER", 1)
    bench.words[w.VALID] = 1
    bench.arm()
    bench.frames(b"HALF WRITTEN", 0)
    bench.kill_owner()
    bench.said()
    assert bench.sent() == 2 * (bytes(LONGEST) + b"OTHER")


def test_a_port_handed_over_in_the_last_moment_counts(bench: Bench) -> None:
    bench.process.send_signal(signal.SIGSTOP)
    bench.arm()
    bench.hand_over()
    bench.control.close()
    bench.kill_owner()
    bench.process.send_signal(signal.SIGCONT)
    bench.said()
    assert bench.sent() == 2 * MESSAGE


def test_a_port_that_was_lost_is_told(bench: Bench) -> None:
    bench.hand_over()
    bench.control.send(b"release")
    bench.arm()
    bench.kill_owner()
    assert bench.said() == (
        f"haihe: the warden of neck: process {bench.owner.pid} died while armed; no safe action "
        "was sent; its port was lost before\n"
    )
    assert bench.sent() == b""


def test_a_queue_that_nobody_takes_is_flushed_before(bench: Bench) -> None:
    os.set_blocking(bench.near, False)
    stale, last = 0, -1
    while stale != last:  # the kernel moves it on, until nothing has room any more
        last = stale
        with contextlib.suppress(BlockingIOError):
            while True:
                stale += os.write(bench.near, b"old " * 64)
        time.sleep(0.05)
    assert stale > 1000
    bench.hand_over()
    bench.arm()
    bench.kill_owner()
    bench.said()
    data = bench.sent()
    assert data.endswith(2 * MESSAGE)
    assert len(data) < stale


def test_a_hung_up_port_is_told(bench: Bench) -> None:
    bench.hand_over()
    far, bench.far = bench.far, os.open("/dev/null", os.O_RDONLY)
    os.close(far)
    bench.arm()
    bench.kill_owner()
    said = bench.said()
    assert said.endswith("; no safe action was sent; the port failed (Input/output error)\n")


def test_no_signal_of_a_terminal_or_a_service_ends_it(bench: Bench) -> None:
    bench.hand_over()
    bench.arm()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE):
        bench.process.send_signal(number)
    bench.kill_owner()
    bench.said()
    assert bench.sent() == 2 * MESSAGE
    assert os.getsid(os.getpid()) != bench.process.pid  # and it has a session of its own


def test_a_standard_error_that_nobody_reads_does_not_keep_it() -> None:
    unread, full = os.pipe()
    os.set_blocking(full, False)
    try:
        while True:
            os.write(full, bytes(65536))
    except BlockingIOError:
        pass
    os.set_blocking(full, True)
    bench = Bench(stderr=full)
    bench.hand_over()
    bench.arm()
    bench.kill_owner()
    assert bench.said() == ""
    assert bench.sent() == 2 * MESSAGE
    bench.close()
    os.close(unread)
    os.close(full)


@pytest.mark.slow
def test_held_up_itself_it_gives_the_owner_a_chance() -> None:
    bench = Bench(limit_ms=1000)
    bench.hand_over()
    bench.arm()
    bench.process.send_signal(signal.SIGSTOP)
    time.sleep(1.5)
    bench.process.send_signal(signal.SIGCONT)
    time.sleep(0.1)  # it is awake, and has seen an old heartbeat
    bench.beat()
    select.select([bench.pidfd], [], [], 0.7)  # half a limit, and some
    assert bench.owner.poll() is None
    bench.said()  # the next silence is the owner's own
    assert bench.owner.wait(PATIENCE_S) == -signal.SIGKILL
    bench.close()
