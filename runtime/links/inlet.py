"""The reader's end of an edge between two processes; see channel.py."""

import os
import select
import socket
from collections import deque
from collections.abc import Callable
from threading import Lock

from haihe.runtime.errors import LinkError
from haihe.runtime.links.ring import Lease, Mapping
from haihe.runtime.links.slot import Sample
from haihe.runtime.links.wire import (
    CREDIT,
    CREDITS_LIMIT,
    DATAGRAM_LIMIT,
    HEADER,
    TAKEN,
    Unpacker,
)
from haihe.runtime.types import Message

ONE = CREDIT.pack(TAKEN)


class Inlet:
    """What one source of another process sends to this one.

    `receive` is for one thread. Arrays may end in any thread; their slots and credits go back then.
    """

    def __init__(
        self,
        source: str,
        kind: type[Message],
        end: socket.socket,
        memfd: int | None = None,
        *,
        fifo: bool = False,
    ) -> None:
        """end, memfd: owned from here on. fifo: see `done`. Raises LinkError."""
        self.source, self.fifo = source, fifo
        self.received = 0
        self.torn = 0  # written over before they were read: not delivered
        self._socket = end
        self._mapping: Mapping | None = None
        if memfd is not None:
            try:
                self._mapping = Mapping(source, memfd, writable=False)
            except LinkError:
                end.close()
                raise
            finally:
                os.close(memfd)
        end.setblocking(False)
        self._more = select.poll()
        self._more.register(end, select.POLLIN)
        self._unpacker = Unpacker(source, kind)
        self._buffer = bytearray(DATAGRAM_LIMIT)
        self._view = memoryview(self._buffer)
        self._last: Sample | None = None
        self._before: Sample | None = None
        self._holds = False
        self._unpaid = 0  # credits of messages without a slot, until `settle`
        self._owed: deque[bytes] = deque()
        self._taken: list[int] = []  # by local queue
        self._taking = Lock()
        slots = self._mapping.slots if self._mapping is not None else 0
        before = b"" if fifo else ONE
        self._returns = [before + CREDIT.pack(slot) for slot in range(slots)]

    def fileno(self) -> int:
        """To wait for: it is readable when a message, or the end, is there."""
        return self._socket.fileno()

    def receive(self, *, hold: bool = False) -> list[Sample]:
        """What has come, oldest first; never waits. hold: see `settle`. Raises EOFError when the
        writer is gone and all that it sent is read, LinkError for a message of another type."""
        self._holds = hold
        samples: list[Sample] = []
        while True:
            try:
                size = self._socket.recv_into(self._buffer)
            except BlockingIOError:
                return samples
            except ConnectionResetError:
                continue  # said once when the writer died; what it sent is still there
            if not size:
                if samples:
                    return samples
                raise EOFError(f"source {self.source}: its process is gone")
            sample = self._take(size)
            if sample is not None:
                samples.append(sample)
            if not self._more.poll(0):  # cheaper than to try once more and fail
                return samples

    def settle(self) -> None:
        """After `receive(hold=True)`, when what came is handed on: let go of the message before
        it. So credits go back when the new one is on its way, not ahead of it."""
        self._before = None
        while self._unpaid:
            count = min(self._unpaid, CREDITS_LIMIT)
            self._unpaid -= count
            self._give(ONE * count)

    def done(self) -> None:
        """fifo: a message has left the local queue, its credit goes back. See `taker`."""
        self._give(ONE)

    def taker(self) -> Callable[[], None]:
        """fifo, with several local queues: what each calls when a message leaves it, from a thread
        of its own. A credit goes back when all have taken the message."""
        place = len(self._taken)
        self._taken.append(0)

        def take() -> None:
            with self._taking:
                low = min(self._taken)
                self._taken[place] += 1
                is_last = min(self._taken) > low
            if is_last:
                self._give(ONE)

        return take

    def last(self) -> Sample | None:
        """The sample received last; it keeps its slot until the next one is."""
        return self._last

    def close(self) -> None:
        """End: the writer finds the socket closed. Arrays that live keep their memory."""
        self._socket.close()
        self._unpacker.close()
        self._last = self._before = None
        self._mapping = None

    def _take(self, size: int) -> Sample | None:
        sequence, origin, fired, generation, slot = HEADER.unpack_from(self._buffer)
        lease: Lease | None = None
        if slot >= 0 and self._mapping is not None:
            lease = self._mapping.lease(slot, self._mapping.slot_bytes, self._end)
            if lease.generation != generation:
                self.torn += 1
                if self.fifo:
                    self._give(ONE)
                return None
        message = self._unpacker.unpack(self._view[HEADER.size : size], lease)
        if lease is None and not self.fifo:
            if self._holds:
                self._unpaid += 1
            else:
                self._give(ONE)
        if lease is not None and not lease.is_whole():  # while it was unpacked
            self.torn += 1
            if self.fifo:
                self._give(ONE)
            return None
        self.received += 1
        if self._holds:
            self._before = self._last
        self._last = sample = (sequence, message, origin, fired)
        return sample

    def _end(self, slot: int) -> None:
        entry = self._returns[slot]
        if not self._owed:  # as nearly always
            try:
                self._socket.send(entry)
                return
            except BlockingIOError:
                pass
            except OSError:
                return
        self._give(entry)

    def _give(self, entry: bytes) -> None:
        """Send credits; called from any thread, also inside any statement, so it takes no lock."""
        owed = self._owed
        owed.append(entry)
        while owed:
            try:
                entry = owed.popleft()
            except IndexError:  # another thread took it
                return
            try:
                self._socket.send(entry)
            except BlockingIOError:
                owed.appendleft(entry)
                return
            except OSError:
                return  # the writer is gone, or this end closed: nobody counts any more
