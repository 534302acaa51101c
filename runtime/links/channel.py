"""An edge between two processes: an outlet at the writer, an inlet at the reader.

A Unix SEQPACKET socket carries each message (wire.py), large arrays lie in a ring (ring.py). A
reader has `quota` credits: each message takes one, and the reader gives it back, so a reader that
is stopped costs the writer nothing and the other readers nothing.

- Latest wins: the credit is back when the message's arrays are gone, or at once if it had none in
  the ring. Without a credit the newest sample waits at the writer, and a newer one takes its place.
- fifo: the credit is back when the message is taken from the local queue (`done`), so at most
  `quota` messages are under way or waiting; the slot is back when its arrays are gone.
"""

import errno
import fcntl
import logging
import select
import socket
import struct
import termios
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from threading import Lock
from typing import Any

from numpy.typing import DTypeLike, NDArray

from haihe.runtime.clock import SECOND
from haihe.runtime.errors import LinkError
from haihe.runtime.links.poller import HANG_UP, READ, Poller
from haihe.runtime.links.ring import Ring
from haihe.runtime.links.slot import Sample, Slot
from haihe.runtime.links.wire import CREDIT, CREDITS_LIMIT, NoSlotError, Packer, RefusedError

log = logging.getLogger(__name__)
QUOTA_LIMIT = 128  # credits under way at once fit the socket buffer of every Linux


def slots_needed(readers: Iterable[tuple[int, bool]], at_writer: int = 2) -> int:
    """Slots of a ring for readers of (quota, fifo): what each may hold, one that is being written
    and `at_writer - 1` that live in the writer's process: the newest, and what lanes there keep."""
    return at_writer + sum(quota + fifo for quota, fifo in readers)


class Reader:
    """The other end of an outlet. puts = sent + dropped + refused + (1 if one is pending)."""

    def __init__(self, end: socket.socket, quota: int, fifo: bool, name: str) -> None:
        self.socket = end
        self.fileno = end.fileno()
        self.ready = select.poll()  # cheaper to ask than to read and fail
        self.ready.register(end, select.POLLIN)
        self.quota, self.credits = quota, quota
        self.fifo = fifo
        self.name = name
        self.slot_limit = quota + fifo  # of a fifo, one is out of the queue and in use
        self.held: set[int] = set()
        self.backlog: deque[bytes] = deque()  # has a credit, but the socket is full of long ones
        self.pending: Sample | None = None  # latest wins: the newest, waits for a credit
        self.sent = 0
        self.dropped = 0  # no credit: a newer one took its place, or a fifo was full
        self.refused = 0  # cannot cross; see the log
        self.is_gone = False
        self.starved_ns = 0  # since when it has no credit
        self.is_told = False

    @property
    def may_get(self) -> bool:
        """Whether it has a credit, and may hold another slot."""
        return self.credits > 0 and len(self.held) < self.slot_limit


class Outlet(Slot):
    """The writer's end of one source, with any number of readers; `put` never waits.

    It stands where the slot of a local reader would. `freed` is called, by whatever thread finds
    it, when a fifo that was full has room again.
    """

    __slots__ = (
        "_is_full",
        "_lock",
        "_packer",
        "_poller",
        "_told",
        "freed",
        "readers",
        "ring",
        "source",
    )

    def __init__(self, source: str, ring: Ring | None = None) -> None:
        """ring: for arrays; without it they travel in the socket. Owned from here on."""
        super().__init__()
        self.source, self.ring = source, ring
        self.readers: tuple[Reader, ...] = ()
        self.freed: Callable[[], None] | None = None
        self._lock = ring.lock if ring is not None else Lock()
        self._packer = Packer(source, ring)
        self._poller: Poller | None = None
        self._is_full = False
        self._told: set[str] = set()

    # --- readers --------------------------------------------------------------------------------

    def add(self, end: socket.socket, quota: int, *, fifo: bool = False, name: str = "") -> Reader:
        """A new reader at the other end of that socket, owned from here on. Raises LinkError."""
        if not 1 <= quota <= QUOTA_LIMIT:
            raise LinkError(
                f"source {self.source}: {quota} messages for the reader {name}: between processes "
                f"1 to {QUOTA_LIMIT}. Use a smaller fifo(), or run both nodes in one process."
            )
        end.setblocking(False)
        reader = Reader(end, quota, fifo, name)
        with self._lock:
            self.readers = (*self.readers, reader)
            if self._poller is not None:
                self._poller.add(reader.fileno, self.take_credits, HANG_UP)
        return reader

    def remove(self, reader: Reader) -> None:
        """Give a reader up (it died, or is started anew): what it holds is free again."""
        with self._lock:
            self._give_up(reader)

    def watch(self, poller: Poller) -> None:
        """Let an I/O thread look after what waits for a credit, and for the end of readers."""
        with self._lock:
            self._poller = poller
            for reader in self.readers:
                poller.add(reader.fileno, self.take_credits, HANG_UP)
                self._arm(reader)

    def close(self) -> None:
        """End all readers and let go of the ring."""
        with self._lock:
            for reader in self.readers:
                self._give_up(reader)
            self._packer.close()
        if self.ring is not None:
            self.ring.close()

    # --- the writer -----------------------------------------------------------------------------

    def allocate(self, shape: Sequence[int], dtype: DTypeLike) -> NDArray[Any] | None:
        """A writable array in shared memory, to produce in place: no copy is made when a message
        with it is put. None when every slot is in use, or there is no ring: use an array of your
        own. Raises LinkError when it does not fit."""
        if self.ring is None:
            return None
        with self._lock:
            for reader in self.readers:  # now, so that `put` need not; and slots in the cache first
                if reader.credits < reader.quota - 1:
                    self._collect(reader)
            array = self.ring.loan_locked(shape, dtype)
            if array is None and self._collect_all():
                array = self.ring.loan_locked(shape, dtype)
            return array

    def put(self, sample: Sample) -> None:
        """Send to every reader that has a credit; never waits, never raises for a message."""
        with self._lock:
            self.value = (sample[0], None, sample[2], sample[3])  # the message would hold its slot
            ready = []
            for reader in self.readers:
                is_ready = (  # written out, like `_send`: after a pause each call costs some us
                    reader.credits > 0
                    and reader.pending is None
                    and not reader.backlog
                    and len(reader.held) < reader.slot_limit
                )
                if is_ready or self._is_ready(reader, sample):
                    ready.append(reader)
            if ready:
                self._send(sample, ready)

    def has_room(self) -> bool:
        """Whether every fifo reader would take another sample."""
        with self._lock:
            self._is_full = not self._room()
            return not self._is_full

    def take_credits(self) -> None:
        """What readers gave back; sends what waited for it. For the I/O thread."""
        with self._lock:
            for reader in self.readers:
                self._drain(reader)
                sample = reader.pending
                if sample is not None and reader.may_get and not reader.is_gone:
                    reader.pending = None
                    self._send(sample, [reader])
                self._arm(reader)
            is_freed = self._is_full and self._room()
            if is_freed:
                self._is_full = False
        if is_freed and self.freed is not None:
            self.freed()

    # --- with the lock --------------------------------------------------------------------------

    def _room(self) -> bool:
        is_full = False
        for reader in self.readers:
            if reader.fifo:
                while not reader.may_get and self._collect(reader):
                    pass
                if not reader.may_get and not reader.is_gone:
                    is_full = True
                    self._arm(reader, is_wanted=True)
        return not is_full

    def _is_ready(self, reader: Reader, sample: Sample) -> bool:
        """Whether a sample can be sent now; if not, it is seen to."""
        if reader.backlog:
            self._drain(reader)
        while not reader.may_get and self._collect(reader):
            pass
        if reader.is_gone:
            return False
        if reader.pending is not None:  # this one is newer
            reader.pending = None
            reader.dropped += 1
        if reader.may_get:
            return True
        self._wait(reader, sample)
        return False

    def _send(self, sample: Sample, ready: list[Reader]) -> None:
        packer = self._packer
        try:
            try:
                slot, generation = packer.pack(sample[1])
            except NoSlotError:
                if not self._collect_all():
                    raise
                slot, generation = packer.pack(sample[1])
        except RefusedError as exc:
            for reader in ready:
                reader.refused += 1
            self._tell_once("refused", "%s It and others like it are not sent.", exc)
            return
        except NoSlotError:
            for reader in ready:
                self._wait(reader, sample)
            self._tell_once(
                "slots",
                "source %s: all %d slots are in use: lanes of this process keep its arrays. "
                "Copy what you keep: image.data.copy().",
                self.source,
                self.ring.slots if self.ring is not None else 0,
            )
            return
        buffer, ring = packer.buffer, self.ring
        packer.pack_header(sample, slot, generation)
        for reader in ready:  # accounts first: a reader on this core runs when we are through
            reader.sent += 1
            reader.credits -= 1
            if slot >= 0 and ring is not None:
                reader.held.add(slot)
                ring.hold(slot)
        if slot >= 0 and ring is not None:
            ring.release(slot)
        for reader in ready:
            if reader.backlog:
                reader.backlog.append(bytes(buffer))
                continue
            try:
                reader.socket.send(buffer)
            except OSError as exc:
                self._not_sent(reader, slot, exc)

    def _not_sent(self, reader: Reader, slot: int, exc: OSError) -> None:
        """The socket did not take a message: it is full, or cannot take one as large, or closed."""
        if isinstance(exc, BlockingIOError):
            reader.backlog.append(bytes(self._packer.buffer))
            self._arm(reader)
            return
        reader.sent -= 1
        if exc.errno in (errno.EMSGSIZE, errno.ENOBUFS, errno.ENOMEM):
            reader.credits += 1
            reader.refused += 1
            if slot in reader.held and self.ring is not None:
                reader.held.remove(slot)
                self.ring.release(slot)
            self._tell_once("send", "source %s: %s", self.source, exc)
        else:
            self._give_up(reader)

    def _wait(self, reader: Reader, sample: Sample) -> None:
        """There is no credit for a sample: it waits, or a fifo drops it."""
        if reader.fifo:
            reader.dropped += 1
            return
        reader.pending = sample
        self._arm(reader)
        if not reader.starved_ns:
            reader.starved_ns = sample[3]
        is_long = not reader.may_get and sample[3] - reader.starved_ns > SECOND
        # what it has not received: then it is stopped or slow, and no node there is to blame
        if is_long and not reader.is_told and _unread(reader.socket) == 0:
            reader.is_told = True
            log.warning(
                "source %s: process %s has kept all its %d messages for 1 s and gets no new one. "
                "A node there keeps arrays: copy what you keep, image.data.copy().",
                self.source,
                reader.name,
                reader.quota,
            )

    def _collect_all(self) -> bool:
        found = False
        for reader in self.readers:
            while self._collect(reader):
                found = True
        return found

    def _collect(self, reader: Reader) -> bool:
        """One datagram of credits: whether there was one."""
        if reader.is_gone:
            return False
        try:
            data = reader.socket.recv(CREDIT.size * CREDITS_LIMIT)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self._give_up(reader)
            return False
        reader.starved_ns = 0
        for entry in memoryview(data).cast("i"):
            if entry < 0:
                reader.credits = min(reader.quota, reader.credits + 1)
            elif entry in reader.held and self.ring is not None:
                reader.held.remove(entry)
                self.ring.release(entry)
        return True

    def _drain(self, reader: Reader) -> None:
        """All credits that came, and what the socket takes of the backlog."""
        while reader.ready.poll(0) and self._collect(reader):
            pass
        if not reader.backlog:
            return
        try:
            while reader.backlog:
                reader.socket.send(reader.backlog[0])
                reader.backlog.popleft()
        except BlockingIOError:
            pass
        except OSError:
            self._give_up(reader)

    def _give_up(self, reader: Reader) -> None:
        if reader.is_gone:
            return
        reader.is_gone = True
        self.readers = tuple(one for one in self.readers if one is not reader)
        if self._poller is not None:
            self._poller.remove(reader.fileno)
        reader.socket.close()
        for slot in reader.held:
            if self.ring is not None:
                self.ring.release(slot)
        reader.held.clear()
        reader.backlog.clear()
        reader.pending = None

    def _arm(self, reader: Reader, *, is_wanted: bool = False) -> None:
        """Have the I/O thread wait for credits while something waits for one, and not else."""
        if self._poller is None or reader.is_gone:
            return
        is_held_back = self._is_full and reader.fifo and not reader.may_get
        is_wanted |= is_held_back or reader.pending is not None or bool(reader.backlog)
        self._poller.modify(reader.fileno, READ if is_wanted else HANG_UP)

    def _tell_once(self, what: str, text: str, *args: object) -> None:
        if what not in self._told:
            self._told.add(what)
            log.error(text, *args)


def _unread(end: socket.socket) -> int:
    """Bytes that were sent and not received by the other side."""
    answer = fcntl.ioctl(end.fileno(), termios.TIOCOUTQ, b"\0\0\0\0")
    return int(struct.unpack("i", answer)[0])
