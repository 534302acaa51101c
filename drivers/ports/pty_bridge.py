"""An emulator behind a pseudo terminal, in real time: what the world process serves.

The bridge keeps the client's side open itself, so a client that hangs up or is killed does not end
it, and writes without blocking, so a client that does not read cannot stop it.
"""

import fcntl
import heapq
import os
import pty
import select
import termios
import tty
from collections.abc import Callable

from haihe.runtime.clock import now_ns
from haihe.runtime.sim import Emulator


class PtyBridge:
    """Carries bytes between a pty (`path` is what a client opens) and an emulator.

    baud: paces the client's bytes as a wire would (10 bits each); 0: they arrive at once. Replies
    are paced by the emulator and written when they are due. received: (arrival of the last byte
    in ns, bytes) of everything that came, None with record=False.
    """

    def __init__(self, emulator: Emulator, baud: int = 0, record: bool = True) -> None:
        self.emulator = emulator
        self.received: list[tuple[int, bytes]] | None = [] if record else None
        self.stats = dict.fromkeys(("rx_bytes", "tx_bytes", "dropped_bytes", "replies"), 0)
        self._byte_ns = 10_000_000_000 // baud if baud else 0
        self._wire_free_ns = 0
        self._due: list[tuple[int, int, bytes]] = []  # (time, order, reply)
        self._order = 0
        self._master, self._slave = pty.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        for fd in (self._master, self._slave):
            fcntl.fcntl(fd, fcntl.F_SETFD, fcntl.FD_CLOEXEC)
        self.path = os.ttyname(self._slave)

    def fileno(self) -> int:
        """The bridge's side, readable when a client has written."""
        return self._master

    def serve_once(self, now: int) -> int | None:
        """Take what has come, write the replies due; the time of the next one in ns, or None."""
        try:
            data = os.read(self._master, 4096)
        except BlockingIOError:
            data = b""
        if data:
            self._take(data, now)
        while self._due and self._due[0][0] <= now:
            self._write(heapq.heappop(self._due)[2])
        return self._due[0][0] if self._due else None

    def serve(self, is_stopped: Callable[[], bool], tick_s: float = 0.02) -> None:
        """Serve until told to stop: a loop for a thread; `is_stopped` is asked every `tick_s`."""
        next_ns: int | None = None
        while not is_stopped():
            wait_s = tick_s if next_ns is None else max(0.0, (next_ns - now_ns()) * 1e-9)
            # select, not poll: replies are due within less than a millisecond
            select.select([self._master], [], [], min(wait_s, tick_s))
            next_ns = self.serve_once(now_ns())

    def close(self) -> None:
        """Hang up; safe to call twice."""
        for fd in (self._master, self._slave):
            if fd >= 0:
                os.close(fd)
        self._master = self._slave = -1

    def _take(self, data: bytes, now: int) -> None:
        self.stats["rx_bytes"] += len(data)
        self._wire_free_ns = max(now, self._wire_free_ns) + len(data) * self._byte_ns
        if self.received is not None:
            self.received.append((self._wire_free_ns, data))
        for due_ns, reply in self.emulator.receive(data, self._wire_free_ns):
            heapq.heappush(self._due, (due_ns, self._order, reply))
            self._order += 1

    def _write(self, reply: bytes) -> None:
        try:
            sent = os.write(self._master, reply)
        except BlockingIOError:
            sent = 0  # the client has not read for 4 KB
        self.stats["replies"] += 1
        self.stats["tx_bytes"] += sent
        self.stats["dropped_bytes"] += len(reply) - sent

    def flush_input(self) -> None:
        """Forget what no client has read yet: as unplugging the adapter would."""
        termios.tcflush(self._slave, termios.TCIFLUSH)
