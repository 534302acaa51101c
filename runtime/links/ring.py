"""A ring of slots in shared memory: large arrays cross from process to process without a copy.

    page 0..   magic, slots, stride, data offset, slot bytes; one generation counter per slot
    then       the slots, each on a page of its own

A slot is written by one process and read by any. Its generation is odd while it is being written,
and goes up by two with each use, so a reader sees that what it looks at has been written over.
Credits (channel.py) keep that from happening; the generation is the second line, for a reader
that was given up and lives on. Python has no memory barriers: between the writing of a slot and
its reading lie two system calls, which are.

Source of the layout: measured in bench/cases/links.py against iceoryx2 and ZeroMQ.
"""

import ctypes
import mmap
import os
import struct
from collections import deque
from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from haihe.runtime.errors import LinkError
from haihe.runtime.links.memory import reserve

MAGIC = int.from_bytes(b"haihe-r1", "little")
GEOMETRY = struct.Struct("<5Q")  # magic, slots, stride, offset of slot 0, bytes of a slot
CELL = 64  # a cache line for each generation counter
WORDS = CELL // 8
ALIGN = 64  # of arrays in a slot
U8 = np.dtype(np.uint8)


class _Anchor(np.ndarray[Any, np.dtype[np.uint8]]):
    """All bytes of a slot. A view of an array that is there costs half of a new array; and numpy
    keeps a view's base only if it is of another class than the view, so leases hang on this one."""


class Lease(np.ndarray[Any, np.dtype[np.uint8]]):
    """The base of the arrays that lie in a slot: when the last of them is gone, so is the lease,
    and the slot is given back, in whatever thread that is."""

    __slots__ = ("generation", "give_back", "headers", "slot", "used")

    slot: int
    used: int  # bytes of the slot
    generation: int
    headers: memoryview
    give_back: Callable[[int], None]

    def is_whole(self) -> bool:
        """Whether the slot still holds what was put there: nobody has written over it."""
        return bool(self.headers[WORDS + WORDS * self.slot] == self.generation)

    def __del__(self) -> None:
        try:
            give_back = self.give_back
        except AttributeError:  # a view that somebody made of the lease itself
            return
        give_back(self.slot)


def lease_of(array: NDArray[Any]) -> Lease | None:
    """The lease that an array hangs on, if it lies in a slot."""
    base: Any = array.base
    while base.__class__ is np.ndarray:
        base = base.base
    return base if base.__class__ is Lease else None


class Mapping:
    """The slots as one process sees them. Lives as long as an array that lies in one."""

    __slots__ = (
        "address",
        "anchors",
        "headers",
        "memory",
        "offset",
        "slot_bytes",
        "slots",
        "stride",
    )

    def __init__(self, source: str, fd: int, *, writable: bool) -> None:
        """Does not take the descriptor: mmap makes its own. Raises LinkError."""
        prot = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
        flags = mmap.MAP_SHARED | mmap.MAP_POPULATE
        try:
            size = os.fstat(fd).st_size
            self.memory = mmap.mmap(fd, size, flags, prot)
        except (OSError, ValueError) as exc:
            raise LinkError(
                f"shared memory of {source}: it cannot be mapped: {exc}. Look at ulimit -v, -n "
                "and -l of this process."
            ) from exc
        found = GEOMETRY.unpack_from(self.memory) if size >= GEOMETRY.size else (0,) * 5
        magic, self.slots, self.stride, self.offset, self.slot_bytes = found
        if magic != MAGIC or self.offset + self.slots * self.stride != size:
            raise LinkError(
                f"shared memory of {source}: descriptor {fd} ({size} bytes) is no ring of this "
                "version of haihe. Start all processes of a run from one installation."
            )
        self.headers = memoryview(self.memory)[: self.offset].cast("Q")
        self.address: int = np.frombuffer(self.memory, U8).__array_interface__["data"][0]
        self.anchors = [
            np.ndarray.__new__(_Anchor, (self.slot_bytes,), U8, self.memory, start)
            for start in range(self.offset, size, self.stride)
        ]

    def lease(self, slot: int, used: int, give_back: Callable[[int], None]) -> Lease:
        """A slot, as it is now."""
        lease = self.anchors[slot].view(Lease)
        lease.slot = slot
        lease.used = used
        lease.headers = headers = self.headers
        lease.generation = headers[WORDS + WORDS * slot]
        lease.give_back = give_back
        return lease


class Ring:
    """The writer's end: slots that are free, on loan, and held by readers.

    A slot is held by this process while it is written or an array of it lives here, and by each
    reader that has not given it back. `lock` guards everything but what leases do when they end;
    the outlet of the source shares it.
    """

    def __init__(self, source: str, fd: int) -> None:
        """fd: from `create_ring`; owned from here on. Raises LinkError."""
        self.source = source
        self.fd = fd
        try:
            self.mapping = Mapping(source, fd, writable=True)
        except LinkError:
            os.close(fd)
            raise
        self.lock = Lock()
        self.slots, self.slot_bytes = self.mapping.slots, self.mapping.slot_bytes
        self.loans = 0  # arrays on loan that are not published yet
        self.headers = self.mapping.headers
        self._free = list(range(self.slots - 1, -1, -1))
        self._holders = [0] * self.slots
        self._ended: deque[int] = deque()  # slots of leases that have ended

    @classmethod
    def create(cls, source: str, slots: int, slot_bytes: int) -> "Ring":
        """A new ring. Raises LinkError when the memory is not there."""
        return cls(source, create_ring(source, slots, slot_bytes))

    def loan(self, shape: Sequence[int], dtype: DTypeLike) -> NDArray[Any] | None:
        """A writable array in a free slot, to produce in place; None when no slot is free. It
        becomes read-only when a message with it is put. Raises LinkError when it does not fit."""
        with self.lock:
            return self.loan_locked(shape, dtype)

    def loan_locked(self, shape: Sequence[int], dtype: DTypeLike) -> NDArray[Any] | None:
        """`loan` for who has the lock."""
        kind = dtype if isinstance(dtype, np.dtype) else np.dtype(dtype)
        size = kind.itemsize
        for length in shape:
            size *= length
        if size > self.slot_bytes:
            raise LinkError(self.too_large(size))
        slot = self.acquire()
        if slot < 0:
            return None
        self.loans += 1
        lease = self.mapping.lease(slot, size, self._ended.append)
        return np.ndarray(shape, kind, lease)

    def too_large(self, size: int) -> str:
        """What to say of arrays that do not fit a slot."""
        return (
            f"source {self.source}: arrays of {size} bytes do not fit its slots in shared memory "
            f"({self.slot_bytes} bytes). Say a larger size for the source, or make smaller arrays."
        )

    # --- for the outlet, which has the lock -----------------------------------------------------

    def acquire(self) -> int:
        """A free slot, held once and marked as being written; -1 when there is none."""
        if self._ended:
            self._reap()
        if not self._free:
            return -1
        slot = self._free.pop()
        self._holders[slot] = 1
        self.headers[WORDS + WORDS * slot] |= 1
        return slot

    def fill(self, slot: int, offset: int, value: NDArray[Any]) -> None:
        """Copy an array to that place in a slot. Other threads run meanwhile."""
        mapping = self.mapping
        start = mapping.offset + slot * mapping.stride + offset
        if value.flags.c_contiguous:
            source = value.__array_interface__["data"][0]
            ctypes.memmove(mapping.address + start, source, value.nbytes)
        else:
            np.copyto(np.ndarray(value.shape, value.dtype, mapping.memory, start), value)

    def publish(self, slot: int) -> int:
        """Mark a slot as written; gives its generation."""
        cell = WORDS + WORDS * slot
        generation: int = self.headers[cell] + 1
        self.headers[cell] = generation
        return generation

    def hold(self, slot: int) -> None:
        """One more holder of a slot."""
        self._holders[slot] += 1

    def release(self, slot: int) -> None:
        """One holder less; the slot is free when there is none."""
        self._holders[slot] -= 1
        if not self._holders[slot]:
            self._free.append(slot)

    def free(self) -> int:
        """How many slots are free."""
        self._reap()
        return len(self._free)

    def _reap(self) -> None:
        """What ended leases held. A lease may end inside any statement, so it takes no lock."""
        while self._ended:
            slot = self._ended.popleft()
            if self.headers[WORDS + WORDS * slot] & 1:  # never published
                self.loans -= 1
            self.release(slot)

    def close(self) -> None:
        """Let go of the memory, as far as no array here lies in it."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
            del self.mapping, self.headers


def create_ring(source: str, slots: int, slot_bytes: int) -> int:
    """The memory of a ring; the caller owns the descriptor. Raises LinkError."""
    page = mmap.PAGESIZE
    stride = -(-slot_bytes // page) * page
    offset = -(-(CELL + CELL * slots) // page) * page
    fd = reserve(source, offset + slots * stride)
    os.pwrite(fd, GEOMETRY.pack(MAGIC, slots, stride, offset, slot_bytes), 0)
    return fd
