"""Messages as datagrams between processes.

    0  u64 sequence   8  i64 origin   16  i64 fired   24  u64 generation   32  i32 slot, or -1
    36 the message as MessagePack

An array is (dtype, shape, bytes), as in a recording, or, from BIG bytes on where there is a ring,
(dtype, shape, offset in the slot). The other way come credits: i32 each, a slot that is given back
or TAKEN for one message that is.
"""

import struct
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from haihe.runtime.errors import LinkError
from haihe.runtime.links.ring import ALIGN, Lease, Ring, lease_of
from haihe.runtime.types import Message, encode_array

HEADER = struct.Struct("<QqqQi")
BIG = 1024  # bytes from which on an array goes into a slot
DATAGRAM_LIMIT = 128 * 1024  # below the socket buffer of every Linux (net.core.wmem_default)
TAKEN = -1
CREDIT = struct.Struct("<i")
CREDITS_LIMIT = 16  # in one datagram


class RefusedError(LinkError):
    """A message cannot cross: it is too large, or holds what no message may hold."""


class NoSlotError(LinkError):
    """No slot is free now."""


class Packer:
    """The writer's end of one source: messages into `buffer` and slots."""

    def __init__(self, source: str, ring: Ring | None) -> None:
        self.source = source
        self.buffer = bytearray(HEADER.size)
        self._ring = ring
        self._slot = -1
        self._used = 0  # bytes of the slot
        self._loan: Lease | None = None  # the slot came with an array of the message
        self._message: Message | None = None
        self._encoder: msgspec.msgpack.Encoder | None = msgspec.msgpack.Encoder(
            enc_hook=self._array
        )

    def pack(self, message: Message) -> tuple[int, int]:
        """Put a message into the buffer and, if it has large arrays, a slot, published: gives the
        slot, to be released once by the caller, and its generation, or (-1, 0). Raises RefusedError
        and NoSlotError; nothing is held then."""
        assert self._encoder is not None
        ring, self._slot, self._used, self._loan = self._ring, -1, 0, None
        self._message = message
        try:
            self._encoder.encode_into(message, self.buffer, HEADER.size)
            if len(self.buffer) > DATAGRAM_LIMIT:
                raise RefusedError(
                    f"source {self.source}: a message of {len(self.buffer)} bytes besides its "
                    f"large arrays; at most {DATAGRAM_LIMIT} cross between processes. Make it "
                    "smaller, put the data into arrays, or run both nodes in one process."
                )
        except BaseException as exc:
            if ring is not None and self._slot >= 0 and self._loan is None:
                ring.release(self._slot)
            self._loan = None
            if isinstance(exc, (TypeError, ValueError, OverflowError)):
                raise RefusedError(f"source {self.source}: {exc}") from exc
            raise
        finally:
            self._message = None
        if ring is None or self._slot < 0:
            return -1, 0
        generation = ring.publish(self._slot)
        if self._loan is not None:
            self._loan.generation = generation
            self._loan = None
            ring.loans -= 1
            ring.hold(self._slot)
        return self._slot, generation

    def pack_header(self, sample: tuple[int, Any, int, int], slot: int, generation: int) -> None:
        """The sample's numbers in front of the message that was packed last."""
        HEADER.pack_into(self.buffer, 0, sample[0], sample[2], sample[3], generation, slot)

    def close(self) -> None:
        """Break the circle of packer and encoder: the ring's memory hangs on it."""
        self._encoder = None
        self._ring = None

    def _find_loan(self, message: Message, ring: Ring) -> None:
        """The first array of the message that was produced in a slot: others go beside it."""
        for name in message.__struct_fields__:
            value = getattr(message, name)
            if value.__class__ is np.ndarray and value.flags.c_contiguous:
                lease = lease_of(value)
                if lease is not None and lease.headers is ring.headers and lease.generation & 1:
                    self._slot, self._loan, self._used = lease.slot, lease, lease.used
                    return

    def _array(self, value: Any) -> Any:
        ring = self._ring
        if ring is not None and ring.loans and value.__class__ is np.ndarray:
            lease = value.base
            if (
                lease.__class__ is Lease
                and self._slot < 0
                and lease.headers is ring.headers
                and lease.generation & 1
                and value.nbytes == lease.used
                and value.flags.c_contiguous
            ):  # the whole of a loan, as nearly always
                self._slot, self._loan, self._used = lease.slot, lease, lease.used
                value.setflags(write=False)
                return value.dtype.str, value.shape, 0
        if ring is None or not isinstance(value, np.ndarray) or value.nbytes < BIG:
            return encode_array(value)
        if value.dtype.hasobject or value.dtype.names:
            return encode_array(value)  # raises
        offset = self._place(value, ring)
        return value.dtype.str, value.shape, offset

    def _place(self, value: NDArray[Any], ring: Ring) -> int:
        if self._slot < 0 and ring.loans and self._message is not None:
            self._find_loan(self._message, ring)
        loan = self._loan
        if loan is not None and value.flags.c_contiguous and lease_of(value) is loan:
            value.setflags(write=False)
            start: int = loan.__array_interface__["data"][0]
            return int(value.__array_interface__["data"][0]) - start
        offset = -(-self._used // ALIGN) * ALIGN
        if offset + value.nbytes > ring.slot_bytes:
            raise RefusedError(ring.too_large(offset + value.nbytes))
        if self._slot < 0:
            self._slot = ring.acquire()
            if self._slot < 0:
                raise NoSlotError(f"source {self.source}: no slot is free")
        ring.fill(self._slot, offset, value)
        self._used = offset + value.nbytes
        return offset


class Unpacker:
    """The reader's end of one source."""

    def __init__(self, source: str, kind: type[Message]) -> None:
        self.source, self.kind = source, kind
        self._lease: Lease | None = None
        self._dtypes: dict[str, np.dtype[Any]] = {}
        self._decoder: msgspec.msgpack.Decoder[Any] | None = msgspec.msgpack.Decoder(
            kind, dec_hook=self._array
        )

    def unpack(self, payload: memoryview, lease: Lease | None) -> Any:
        """The message back; its large arrays lie in the lease. Raises LinkError."""
        assert self._decoder is not None
        self._lease = lease
        try:
            return self._decoder.decode(payload)
        except (msgspec.MsgspecError, TypeError, ValueError) as exc:
            raise LinkError(
                f"source {self.source}: what came is no {self.kind.__name__}: {exc}. Start all "
                "processes of a run from one installation and one graph file."
            ) from exc
        finally:
            self._lease = None

    def close(self) -> None:
        """Break the circle of unpacker and decoder."""
        self._decoder = None

    def _array(self, kind: Any, value: Any) -> NDArray[Any]:
        name, shape, place = value
        dtype = self._dtypes.get(name)
        if dtype is None:
            dtype = self._dtypes[name] = np.dtype(name)
        if place.__class__ is int:
            if self._lease is None:
                raise ValueError("an array without its slot")
            return np.ndarray(shape, dtype, self._lease, place)
        return np.frombuffer(place, dtype).reshape(shape)
