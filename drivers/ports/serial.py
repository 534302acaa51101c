"""A serial port for request/response buses: own descriptor, poll, monotonic deadlines.

pyserial is not in the path (measured on a pty: the CPU of an exchange x0.6); it is asked only for
a baud rate that termios has no name for. Works on /dev/tty* and on pseudo terminals.
"""

import contextlib
import errno
import fcntl
import logging
import os
import select
import struct
import termios

from haihe.runtime.clock import now_ns
from haihe.runtime.errors import LinkError
from haihe.runtime.io import Exchange, Reply

log = logging.getLogger(__name__)

BACKOFF_FIRST_NS = 100_000_000
BACKOFF_LAST_NS = 2_000_000_000
_TIOCGSERIAL, _TIOCSSERIAL, _ASYNC_LOW_LATENCY = 0x541E, 0x541F, 0x2000
_DRAIN_MOST = 65536  # a babbling device must not hold the lane
_GONE = select.POLLHUP | select.POLLERR | select.POLLNVAL


class SerialPort:
    """One tty, exclusively ours; used by one lane only.

    state: `open`, `lost` (unplugged: each exchange fails at once and, at most every 0.1 to 2 s,
    tries to open it again), `closed`. After a reopening one exchange still fails without sending,
    so that the owner sees the break and sets the device up anew; `generation` counts openings.
    `stats` are counters. Raises LinkError from the constructor only.
    """

    def __init__(self, url: str, baud: int = 1_000_000) -> None:
        self.name = url
        self.path = url.partition(":")[2] if url.startswith(("pty:", "serial:")) else url
        self.baud = baud
        self.state = "closed"
        self.generation = 0
        self.stats = dict.fromkeys(
            ("exchanges", "tx_bytes", "rx_bytes", "stale_bytes", "timeouts", "short_writes",
             "errors", "lost", "reopen_tries"), 0
        )  # fmt: skip
        self._fd = -1
        self._poll = select.poll()
        self._byte_ns = 10_000_000_000 // baud
        self._backoff_ns = BACKOFF_FIRST_NS
        self._retry_ns = 0
        self._problem = ""
        try:
            self._open()
        except (OSError, termios.error) as exc:
            raise LinkError(f"{url}: cannot be opened: {exc}. {_cure(exc)}") from exc

    def fileno(self) -> int:
        """The open descriptor, -1 when there is none: for the warden's duplicate."""
        return self._fd

    def exchange(self, exchange: Exchange) -> Reply:
        """Drop what came unasked, send, gather up to `rx_size` bytes or the time-out."""
        t_sent = now_ns()
        if self._fd < 0:
            return self._reopen(t_sent)
        stats = self.stats
        stats["exchanges"] += 1
        try:
            if self._poll.poll(0):
                self._drain()
                t_sent = now_ns()
            if exchange.tx and not self._send(exchange.tx, t_sent + exchange.timeout_ns):
                stats["errors"] += 1
                return Reply(b"", t_sent, now_ns(), f"{self.name}: takes no more bytes")
            if not exchange.rx_size:
                return Reply(b"", t_sent, now_ns())
            wire_ns = len(exchange.tx) * self._byte_ns
            return self._gather(exchange.rx_size, t_sent, wire_ns + exchange.timeout_ns)
        except OSError as exc:
            return self._lose(exc, t_sent)

    def close(self) -> None:
        """Release the port; safe to call twice."""
        self._release()
        self.state = "closed"

    def _send(self, tx: bytes, deadline_ns: int) -> bool:
        sent = 0
        while True:
            try:
                part = os.write(self._fd, tx[sent:] if sent else tx)
            except BlockingIOError:
                part = 0
            sent += part
            self.stats["tx_bytes"] += part
            if sent == len(tx):
                return True
            self.stats["short_writes"] += 1
            left_ms = (deadline_ns - now_ns() + 999_999) // 1_000_000
            if left_ms <= 0:
                return False
            self._wait_writable(left_ms)

    def _gather(self, size: int, t_sent: int, timeout_ns: int) -> Reply:
        """Poll counts in milliseconds: a time-out ends up to 1 ms late."""
        deadline_ns = now_ns() + timeout_ns
        rx = b""
        while True:
            left_ms = (deadline_ns - now_ns() + 999_999) // 1_000_000
            if left_ms <= 0 or not self._poll.poll(left_ms):
                self.stats["timeouts"] += 1
                break
            try:
                part = os.read(self._fd, size - len(rx))
            except BlockingIOError:
                continue  # said to be ready, and was not
            if not part:
                raise OSError(errno.EIO, "ready to read, but no data: unplugged")
            rx = rx + part if rx else part
            if len(rx) == size:
                break
        self.stats["rx_bytes"] += len(rx)
        return Reply(rx, t_sent, now_ns())

    def _drain(self) -> None:
        dropped = 0
        while dropped < _DRAIN_MOST and (events := self._poll.poll(0)):
            if events[0][1] & _GONE:
                raise OSError(errno.EIO, "hung up")
            part = os.read(self._fd, 4096)
            if not part:
                raise OSError(errno.EIO, "ready to read, but no data: unplugged")
            dropped += len(part)
        self.stats["stale_bytes"] += dropped

    def _wait_writable(self, left_ms: int) -> None:
        self._poll.modify(self._fd, select.POLLOUT)
        try:
            self._poll.poll(left_ms)
        finally:
            self._poll.modify(self._fd, select.POLLIN)

    def _lose(self, exc: OSError, t_sent: int) -> Reply:
        self._problem = f"{self.name}: {exc.strerror or exc}"
        log.warning("%s; trying to open it again", self._problem)
        self.stats["lost"] += 1
        self.stats["errors"] += 1
        self._release()
        self.state = "lost"
        self._backoff_ns = BACKOFF_FIRST_NS
        self._retry_ns = t_sent + self._backoff_ns
        return Reply(b"", t_sent, now_ns(), self._problem)

    def _reopen(self, t_ns: int) -> Reply:
        self.stats["errors"] += 1
        if self.state == "closed":
            return Reply(b"", t_ns, t_ns, f"{self.name}: closed")
        if t_ns >= self._retry_ns:
            self.stats["reopen_tries"] += 1
            try:
                self._open()
            except (OSError, termios.error) as exc:
                self._problem = f"{self.name}: {exc}"
                self._retry_ns = t_ns + self._backoff_ns
                self._backoff_ns = min(2 * self._backoff_ns, BACKOFF_LAST_NS)
            else:
                log.info("%s: open again", self.name)
                return Reply(b"", t_ns, now_ns(), f"{self.name}: opened again")
        return Reply(b"", t_ns, now_ns(), self._problem)

    def _open(self) -> None:
        fd = os.open(self.path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._configure(fd)
            if not os.path.realpath(self.path).startswith("/dev/pts/"):
                # a pty keeps the flag while its far end holds it open, past our own death
                fcntl.ioctl(fd, termios.TIOCEXCL)
                with contextlib.suppress(OSError):  # not every driver knows it
                    _lower_latency(fd)
            termios.tcflush(fd, termios.TCIFLUSH)
        except (OSError, termios.error):
            os.close(fd)
            raise
        self._fd = fd
        self._poll = select.poll()
        self._poll.register(fd, select.POLLIN)
        self.state = "open"
        self.generation += 1

    def _configure(self, fd: int) -> None:
        attributes = termios.tcgetattr(fd)
        control = attributes[6]
        control[termios.VMIN], control[termios.VTIME] = 0, 0
        keep = attributes[2] & termios.HUPCL
        cflag = keep | termios.CS8 | termios.CREAD | termios.CLOCAL
        rate = getattr(termios, f"B{self.baud}", None)
        speed = termios.B38400 if rate is None else rate
        termios.tcsetattr(fd, termios.TCSANOW, [0, 0, cflag, 0, speed, speed, control])
        if rate is None:
            import serial

            with contextlib.closing(serial.Serial(self.path, self.baud, exclusive=False)):
                pass  # the rate stays with the tty, which our descriptor keeps open

    def _release(self) -> None:
        if self._fd < 0:
            return
        fd, self._fd = self._fd, -1
        with contextlib.suppress(OSError):  # the device may be gone already
            fcntl.ioctl(fd, termios.TIOCNXCL)
        os.close(fd)


def _lower_latency(fd: int) -> None:
    """FTDI adapters hold bytes back for 16 ms unless told otherwise."""
    settings = bytearray(fcntl.ioctl(fd, _TIOCGSERIAL, bytes(128)))
    flags = struct.unpack_from("i", settings, 16)[0]
    struct.pack_into("i", settings, 16, flags | _ASYNC_LOW_LATENCY)
    fcntl.ioctl(fd, _TIOCSSERIAL, bytes(settings))


def _cure(exc: Exception) -> str:
    code = exc.errno if isinstance(exc, OSError) else 0
    if code in (errno.EACCES, errno.EPERM):
        return "Give yourself the right: sudo usermod -aG dialout $USER, then log in again."
    if code in (errno.EBUSY, errno.EAGAIN):
        return "Another process holds it: stop that one (fuser -v shows it)."
    if code in (errno.ENOENT, errno.ENXIO, errno.ENODEV):
        return "Check the plug and the name: ls -l /dev/serial/by-id"
    return "Check that it is a serial port."
