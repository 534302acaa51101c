"""Messages as datagrams and slots."""

from typing import Any

import numpy as np
import pytest
from tests.runtime.links.ends import Pair

from haihe.runtime.errors import LinkError
from haihe.runtime.links.ring import ALIGN, Mapping, Ring, lease_of
from haihe.runtime.links.wire import (
    BIG,
    DATAGRAM_LIMIT,
    HEADER,
    NoSlotError,
    Packer,
    RefusedError,
    Unpacker,
)
from haihe.runtime.types import Detections, Image, Intrinsics, Message, Reading


class Wire:
    """A packer and an unpacker around one ring."""

    def __init__(self, kind: type[Message], slots: int = 2, slot_bytes: int = 100_000) -> None:
        self.ring = Ring.create("camera", slots, slot_bytes) if slots else None
        self.packer = Packer("camera", self.ring)
        self.unpacker = Unpacker("camera", kind)
        self.slot = -1
        self.view = Mapping("camera", self.ring.fd, writable=False) if self.ring else None

    def cross(self, message: Message) -> Any:
        """Pack and unpack."""
        self.slot, generation = self.packer.pack(message)
        lease = None
        if self.slot >= 0 and self.view is not None:
            lease = self.view.lease(self.slot, self.view.slot_bytes, lambda slot: None)
            assert lease.generation == generation
        return self.unpacker.unpack(memoryview(self.packer.buffer)[HEADER.size :], lease)

    def __enter__(self) -> "Wire":
        return self

    def __exit__(self, *_: object) -> None:
        self.packer.close()
        self.unpacker.close()
        if self.ring is not None:
            self.ring.close()


def address(array: np.ndarray[Any, Any]) -> int:
    return int(array.__array_interface__["data"][0])


def same(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and np.array_equal(a, b)


def test_a_message_without_large_arrays_takes_no_slot() -> None:
    sent = Detections(
        np.array([[1, 2, 3, 4]], np.float32), np.array([0.5], np.float32), np.array([1]), ("a", "b")
    )
    with Wire(Detections) as wire:
        got = wire.cross(sent)
        assert wire.slot == -1
    assert same(got.boxes, sent.boxes)
    assert same(got.classes, sent.classes)
    assert (got.labels, got.camera) == (("a", "b"), None)


@pytest.mark.parametrize("slots", [2, 0])
def test_several_arrays_cross_whole_with_and_without_a_ring(slots: int) -> None:
    sent = Pair(
        np.random.default_rng(1).normal(size=(17, 31)),
        np.arange(3 * 701, dtype=np.int16).reshape(701, 3),
        7,
    )
    with Wire(Pair, slots) as wire:
        got = wire.cross(sent)
        assert (wire.slot >= 0) == bool(slots)
        assert same(got.left, sent.left)
        assert same(got.right, sent.right)
        assert got.number == 7
        assert not got.left.flags.writeable
        if slots:
            gap = address(got.right) - address(got.left)
            assert gap == -(-sent.left.nbytes // ALIGN) * ALIGN


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((40, 50, 3), np.uint8)[::2, ::-1],
        np.asfortranarray(np.arange(3000, dtype=">i4").reshape(50, 60)),
        np.broadcast_to(np.arange(100, dtype=np.int16), (50, 100)),
        np.zeros((BIG,), np.uint8),
        np.zeros((BIG - 1,), np.uint8),
        np.zeros((0, 7, 3), np.uint8),
        np.ones((600,), np.bool_),
        np.arange(2000, dtype=np.complex128),
    ],
)
def test_any_array_of_numbers_crosses(array: np.ndarray[Any, Any]) -> None:
    with Wire(Image) as wire:
        got = wire.cross(Image(array, Intrinsics(50, 40, 1.0, 2.0, 3.0, 4.0)))
        assert same(got.data, array)
        assert (wire.slot >= 0) == (array.nbytes >= BIG)
        assert got.camera == Intrinsics(50, 40, 1.0, 2.0, 3.0, 4.0)


def test_an_array_on_loan_is_not_copied_and_is_read_only_from_then_on() -> None:
    with Wire(Pair) as wire:
        assert wire.ring is not None
        loan = wire.ring.loan((700, 3), np.int16)
        assert loan is not None
        loan[:] = 5
        left = np.ones((10, 40))  # encoded first, and still placed beside the loan
        got = wire.cross(Pair(left, loan))
        assert address(loan) == address(wire.ring.mapping.lease(wire.slot, 0, lambda slot: None))
        lease = lease_of(got.right)
        assert lease is not None
        assert address(got.right) == address(lease)  # at the front of the slot, as the loan is
        assert np.all(got.right == 5)
        assert same(got.left, left)
        with pytest.raises(ValueError, match="read-only"):
            loan[0, 0] = 1
        assert wire.ring.free() == 1  # the second slot was never touched
        assert wire.ring.loans == 0


def test_a_part_of_a_loan_travels_where_it_is() -> None:
    with Wire(Image) as wire:
        assert wire.ring is not None
        loan = wire.ring.loan((100, 100, 3), np.uint8)
        assert loan is not None
        loan[:] = np.arange(100, dtype=np.uint8)[:, None, None]
        got = wire.cross(Image(loan[20:60]))
        assert np.array_equal(got.data[:, 0, 0], np.arange(20, 60))
        lease = lease_of(got.data)
        assert lease is not None
        assert address(got.data) - address(lease) == address(loan[20:60]) - address(loan)


def test_a_loan_turned_around_is_copied_beside_itself_in_its_order() -> None:
    with Wire(Image) as wire:
        assert wire.ring is not None
        loan = wire.ring.loan((50, 60), np.uint8)
        assert loan is not None
        loan[:] = np.arange(60, dtype=np.uint8)
        turned = loan.T
        got = wire.cross(Image(turned))
        assert same(got.data, turned)


def test_a_loan_that_was_put_already_is_copied_into_another_slot() -> None:
    with Wire(Image) as wire:
        assert wire.ring is not None
        loan = wire.ring.loan((50, 50, 3), np.uint8)
        assert loan is not None
        loan[:] = 3
        wire.cross(Image(loan))
        first = wire.slot
        got = wire.cross(Image(loan))
        assert wire.slot not in (first, -1)
        assert np.all(got.data == 3)


def test_what_cannot_cross_is_refused_and_holds_nothing() -> None:
    with Wire(Pair, slots=2, slot_bytes=10_000) as wire:
        assert wire.ring is not None
        with pytest.raises(RefusedError) as error:
            wire.packer.pack(Pair(np.zeros(1000), np.zeros(4000, np.int16)))
        assert str(error.value) == (
            "source camera: arrays of 16000 bytes do not fit its slots in shared memory (10000 "
            "bytes). Say a larger size for the source, or make smaller arrays."
        )
        with pytest.raises(RefusedError) as error:
            wire.packer.pack(Pair(np.zeros(1000), np.array(["x"] * 2000, dtype=object)))
        assert str(error.value) == (
            "source camera: a message holds an array of object: arrays hold plain numbers"
        )
        with pytest.raises(RefusedError) as error:
            wire.packer.pack(Pair(np.zeros(1000), np.zeros(10, np.int16), 1 << 70))
        assert str(error.value).startswith("source camera: ")
        assert wire.ring.free() == 2


def test_a_message_that_fits_no_datagram_is_refused() -> None:
    with Wire(Image, slots=0) as wire, pytest.raises(RefusedError) as error:
        wire.packer.pack(Image(np.zeros((300, 300, 3), np.uint8)))
    size = len(wire.packer.buffer)
    assert size > 270_000 > DATAGRAM_LIMIT
    assert str(error.value) == (
        f"source camera: a message of {size} bytes besides its large arrays; at most 131072 cross "
        "between processes. Make it smaller, put the data into arrays, or run both nodes in one "
        "process."
    )


def test_without_a_free_slot_nothing_is_held() -> None:
    with Wire(Image, slots=1) as wire:
        assert wire.ring is not None
        kept = wire.ring.loan((5000,), np.uint8)
        with pytest.raises(NoSlotError):
            wire.packer.pack(Image(np.zeros((50, 50, 3), np.uint8)))
        del kept
        assert wire.packer.pack(Image(np.zeros((50, 50, 3), np.uint8)))[0] == 0


def test_a_message_of_another_type_is_named() -> None:
    with Wire(Image) as wire:
        with pytest.raises(LinkError) as error:
            wire.cross(Reading(1.5))
        assert str(error.value) == (
            "source camera: what came is no Image: Object missing required field `data`. Start all "
            "processes of a run from one installation and one graph file."
        )
