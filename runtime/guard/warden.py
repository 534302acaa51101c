"""The warden: a tiny process that sends the safe actions when the owner of a port dies or hangs.

    python -I -S -E warden.py SHARED CONTROL OWNER PID RANK ROLE

SHARED: a memfd, see below; CONTROL: a SEQPACKET socket on which the owner hands its port over
(`port` with the descriptor, `release`); OWNER: a pidfd of PID; RANK: its SCHED_FIFO priority, 0:
none. The other side is runtime/exec/wardens.py. Few and built-in modules: 9 MB, started in 50 ms.

The owner's death while ARMED, or no heartbeat for longer than the limit while ARMED: the owner is
killed *first* and its death waited for, so nothing of it comes after. Then a long output queue is
flushed, padding as long as the longest frame ends a frame that was cut, and the safe frames go
out, twice. Disarmed or finished: it ends without a byte.

Not covered: power loss, a hung kernel, an owner that is PID 1 of a container (it takes us along).
"""

import _socket
import fcntl
import mmap
import posix
import select
import signal
import sys
import termios
import time

# SHARED: words (int64) in the first page, then two buffers of safe frames. VALID is the one to use;
# the other is written first, then VALID changes, so a half-written update is never sent.
STATE, BEAT, LIMIT, NEAR, VALID, LONGEST = range(6)  # the owner's
CAUSE, TRIGGERED, DEAD, FIRST, DONE, SENT = range(8, 14)  # the warden's report; times in ns
DISARMED, ARMED, FINISHED = range(3)
DIED, HUNG = 1, 2
PAGE = 4096
SIZE = 3 * PAGE
CAPACITY = PAGE - 8  # bytes of safe frames: a length word, then the frames

MILLISECOND = 1_000_000
DEATH_NS = 20 * MILLISECOND  # for the owner's death; a process in a driver's hands takes longer
SEND_NS = 200 * MILLISECOND  # for the port to take the bytes
AGAIN_NS = 10 * MILLISECOND  # before the second time: an answer under way may have spoilt the first
ROUNDS = 2

now_ns = time.monotonic_ns


class Warden:
    """Watches one owner and holds a duplicate of its port."""

    def __init__(self, words: memoryview, control: _socket.socket, owner: int) -> None:
        self.words, self.control, self.owner = words, control, owner
        self.port, self._begun = -1, now_ns()
        self.trouble: list[str] = []
        self._poll = select.poll()
        self._poll.register(owner, select.POLLIN)
        self._poll.register(control, select.POLLIN)

    def watch(self) -> int:
        """Until there is something to do (DIED, HUNG), or nothing any more: 0."""
        words, spared, now = self.words, -1, self._begun
        while True:
            wait = words[LIMIT]
            if words[STATE] == ARMED:  # capped: a heartbeat in the future must not put us to sleep
                wait = min(max(self._beat() + wait - now, 0) + MILLISECOND, wait)
            due = now + wait  # from the last look on: we may be held up anywhere
            ready = {fd for fd, _ in self._poll.poll(max(0, -(-(due - now_ns()) // MILLISECOND)))}
            if ready - {self.owner}:
                self.listen()
            if self.owner in ready:
                self.listen()  # a port handed over in the last moment
                return DIED if words[STATE] == ARMED else 0
            if words[STATE] == FINISHED:
                return 0
            now = now_ns()  # before the heartbeat is read: being held up in between is no alarm
            beat = self._beat()
            if words[STATE] != ARMED or now - beat <= words[LIMIT]:
                continue
            if now - due > words[LIMIT] // 4 and beat != spared:
                spared = beat  # we were held up too: the machine was, and the owner gets a chance
                self._poll.poll(words[LIMIT] // 2 // MILLISECOND)
                continue
            return HUNG

    def _beat(self) -> int:
        """A 32-bit machine stores the word in two halves: read until it stands still."""
        beat = self.words[BEAT]
        while beat != (again := self.words[BEAT]):
            beat = again
        return int(beat)

    def listen(self) -> None:
        """Take what the owner hands over."""
        while self.control.fileno() >= 0:
            try:
                data, extra, _, _ = self.control.recvmsg(64, 64)
            except BlockingIOError:
                return
            except OSError:
                data, extra = b"", []
            if not data:  # the owner is dying, or done: its pidfd and STATE tell which
                self._poll.unregister(self.control)
                self.control.close()
                return
            self.release()
            for _, _, descriptors in extra:
                self.port = int.from_bytes(descriptors[:4], sys.byteorder)

    def release(self) -> None:
        """Let go of the port: its lock is free when every duplicate is closed."""
        if self.port >= 0:
            posix.close(self.port)
        self.port = -1

    def act(self, cause: int, shared: mmap.mmap) -> None:
        """Fence the owner, then send."""
        words = self.words
        words[CAUSE], words[TRIGGERED] = cause, now_ns()
        if cause == HUNG:
            try:
                signal.pidfd_send_signal(self.owner, signal.SIGKILL)
            except OSError as exc:
                self.trouble.append(f"it could not be killed ({exc.strerror})")
        if _wait(self.owner, select.POLLIN, now_ns() + DEATH_NS):
            words[DEAD] = now_ns()
        else:
            self.trouble.append(f"it was not dead {DEATH_NS // MILLISECOND} ms later")
        if self.port < 0:
            self.trouble.append("its port was lost before")
            return
        try:
            self._send_rounds(bytes(words[LONGEST]) + frames_in(shared, words[VALID]))
        except (OSError, termios.error) as exc:
            self.trouble.append(f"the port failed ({exc.args[-1]})")

    def _send_rounds(self, message: bytes) -> None:
        words, port = self.words, self.port
        flags = fcntl.fcntl(port, fcntl.F_GETFL)
        fcntl.fcntl(port, fcntl.F_SETFL, flags | posix.O_NONBLOCK)
        if queued(port) > words[LONGEST] or not _wait(port, select.POLLOUT, now_ns()):
            termios.tcflush(port, termios.TCOFLUSH)  # old commands; cuts one, hence before the pad
        for index in range(ROUNDS):
            if index:
                _drain(port, now_ns() + SEND_NS)
                select.poll().poll(AGAIN_NS // MILLISECOND)
            else:
                words[FIRST] = now_ns()
            sent = _send(port, message, now_ns() + SEND_NS)
            words[SENT] += sent
            if sent < len(message):
                self.trouble.append(f"the port took {sent} of {len(message)} bytes")
                break
        _drain(port, now_ns() + SEND_NS)
        words[DONE] = now_ns()

    def report(self, role: str, pid: int) -> str:
        """One line."""
        words = self.words
        limit = words[LIMIT] / 1e6
        if words[CAUSE] == DIED:
            why = f"process {pid} died while armed"
        else:
            age = (words[TRIGGERED] - words[BEAT]) / 1e6
            why = f"no heartbeat for {age:.0f} ms (limit {limit:g} ms): process {pid} was killed"
        done = "no safe action was sent"
        if words[SENT]:
            took = (words[FIRST] - words[TRIGGERED]) / 1e6
            done = f"safe actions sent {took:.1f} ms later, {words[SENT]} bytes"
        return f"haihe: the warden of {role}: {'; '.join([why, done, *self.trouble])}\n"


def queued(port: int) -> int:
    """Bytes that the port has taken and not sent yet (a pty always says 0)."""
    count = fcntl.ioctl(port, termios.TIOCOUTQ, bytes(4))
    return int.from_bytes(count, sys.byteorder)


def _wait(fd: int, event: int, deadline: int) -> bool:
    poll = select.poll()
    poll.register(fd, event)
    left = max(0, -(-(deadline - now_ns()) // MILLISECOND))
    return any(found & event for _, found in poll.poll(left))


def _send(port: int, data: bytes, deadline: int) -> int:
    """How much of it the port has taken by the deadline; a short write goes on."""
    sent = 0
    while sent < len(data) and _wait(port, select.POLLOUT, deadline):
        try:
            sent += posix.write(port, data[sent:])
        except BlockingIOError:
            select.poll().poll(1)
    return sent


def _drain(port: int, deadline: int) -> None:
    while queued(port) and now_ns() < deadline:
        select.poll().poll(1)


def frames_in(shared: mmap.mmap, valid: int) -> bytes:
    """The safe frames in one of the two buffers."""
    at = (1 + valid) * PAGE
    size = int.from_bytes(shared[at : at + 8], sys.byteorder)
    return shared[at + 8 : at + 8 + size]


def _say(line: str) -> None:
    """A standard error that nobody reads must not keep us."""
    try:
        if _wait(2, select.POLLOUT, now_ns()):
            posix.write(2, line.encode())
    except OSError:
        pass


def _place(rank: int) -> None:
    """Not the first to be sacrificed, and not behind the lane that hangs; as far as allowed."""
    for score in (b"-1000", b"0"):
        try:
            fd = posix.open("/proc/self/oom_score_adj", posix.O_WRONLY)
        except OSError:
            break
        try:
            posix.write(fd, score)
            break
        except OSError:
            continue
        finally:
            posix.close(fd)
    if rank:
        try:  # noqa: SIM105 - contextlib would be one more module
            posix.sched_setscheduler(0, posix.SCHED_FIFO, posix.sched_param(rank))
        except OSError:
            pass


def main(arguments: list[str]) -> None:
    """The process."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    shared_fd, control_fd, owner, pid, rank = map(int, arguments[:5])
    _place(rank)
    shared = mmap.mmap(shared_fd, SIZE)
    control = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, control_fd)
    control.setblocking(False)
    words = memoryview(shared).cast("q")
    warden = Warden(words, control, owner)
    control.send(b"ready")
    cause = warden.watch()
    if cause:
        warden.act(cause, shared)
        warden.release()
        _say(warden.report(arguments[5], pid))


if __name__ == "__main__":
    main(sys.argv[1:])
