"""Latest wins between two ends: credits, kept arrays, and what is told of them."""

import numpy as np
import pytest
from tests.runtime.links.ends import SHAPE, balance, channel, image, numbers, sample

from haihe.runtime.links.channel import Outlet, slots_needed
from haihe.runtime.links.ring import Lease, lease_of
from haihe.runtime.links.slot import Bounded, Sample, Slot
from haihe.runtime.types import Image, Reading


def test_an_outlet_stands_where_a_slot_does() -> None:
    outlet = Outlet("camera")
    assert isinstance(outlet, Slot)
    assert isinstance(outlet, Bounded)
    assert outlet.has_room()
    outlet.put(sample(1))  # without readers
    assert outlet.value == (1, None, 1_000_000, 1_000_005)
    outlet.close()


@pytest.mark.parametrize("in_place", [True, False])
def test_pictures_cross_whole(in_place: bool) -> None:
    with channel() as ends:
        _, inlet = ends.add()
        for number in range(1, 50):
            picture = image(number)
            if in_place:
                loan = ends.outlet.allocate(picture.data.shape, np.uint8)
                assert loan is not None
                loan[:] = picture.data
                picture = Image(loan)
                del loan
            ends.outlet.put(sample(number, picture))
            del picture
            got = inlet.receive()
            assert numbers(got) == [number]
            lease = lease_of(got[0][1].data)
            assert isinstance(lease, Lease)
            assert lease.is_whole()
            assert inlet.receive() == []
        assert (inlet.received, inlet.torn) == (49, 0)
        balance(ends, 49)


def test_a_message_without_large_arrays_needs_no_ring() -> None:
    with channel(slots=0) as ends:
        reader, inlet = ends.add(kind=Reading)
        for number in range(1, 20):
            ends.outlet.put(sample(number, Reading(number / 4)))
            got = inlet.receive()
            assert numbers(got) == [number]
            assert got[0][1].value == number / 4
        assert (reader.sent, reader.dropped) == (19, 0)
        assert ends.outlet.allocate((10,), np.uint8) is None


def test_a_reader_that_does_not_read_gets_its_quota_and_then_the_newest() -> None:
    with channel() as ends:
        reader, inlet = ends.add(quota=3)
        for number in range(1, 11):
            ends.outlet.put(sample(number))
        assert (reader.sent, reader.dropped, reader.credits) == (3, 6, 0)
        balance(ends, 10)
        assert numbers(inlet.receive()) == [1, 2, 3]
        ends.outlet.take_credits()
        assert numbers(inlet.receive()) == [10]  # not lost, though nothing was put since
        balance(ends, 10)


def test_it_delays_no_other_reader() -> None:
    with channel(slots=slots_needed([(3, False), (3, False)])) as ends:
        stuck, quick = ends.add(), ends.add()
        for number in range(1, 101):
            ends.outlet.put(sample(number))
            assert numbers(quick[1].receive()) == [number]
        assert (stuck[0].sent, stuck[0].dropped) == (3, 96)
        assert (quick[0].sent, quick[0].dropped) == (100, 0)
        balance(ends, 100)
        assert numbers(stuck[1].receive()) == [1, 2, 3]


def test_a_kept_array_keeps_its_slot_and_its_credit() -> None:
    with channel() as ends:
        reader, inlet = ends.add(quota=3)
        kept = []
        for number in range(1, 4):
            ends.outlet.put(sample(number))
            kept += inlet.receive()
        ends.outlet.put(sample(4))
        assert inlet.receive() == []
        assert reader.held == {_slot(one) for one in kept}
        part = kept[0][1].data[5:9]  # a view of it is enough
        second = _slot(kept[1])
        del kept[:2]
        ends.outlet.put(sample(5))
        assert numbers(inlet.receive()) == [5]
        assert _slot(inlet.last()) == second  # the one that was given back
        assert np.all(part == 1)
        balance(ends, 5)


def _slot(one: Sample | None) -> int:
    assert one is not None
    lease = lease_of(one[1].data)
    assert lease is not None
    return lease.slot


def test_keeping_all_of_them_is_told_once_with_the_cure(caplog: pytest.LogCaptureFixture) -> None:
    with channel() as ends:
        _, inlet = ends.add(quota=2)
        kept = []
        for number in range(1, 4000):
            ends.outlet.put(sample(number))
            kept += inlet.receive()
        assert numbers(kept) == [1, 2]
    assert caplog.messages == [
        "source camera: process reader0 has kept all its 2 messages for 1 s and gets no new one. "
        "A node there keeps arrays: copy what you keep, image.data.copy()."
    ]


def test_a_reader_that_is_stopped_is_no_reason_to_blame_a_node(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with channel() as ends:
        ends.add(quota=2)
        for number in range(1, 4000):
            ends.outlet.put(sample(number))
    assert caplog.messages == []


def test_what_does_not_fit_is_counted_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    with channel() as ends:
        reader, inlet = ends.add()
        for number in (1, 2):
            ends.outlet.put(sample(number, image(number, (100, 100, 3))))
        ends.outlet.put(sample(3))
        assert numbers(inlet.receive()) == [3]
        assert (reader.refused, reader.sent) == (2, 1)
        balance(ends, 3)
    assert caplog.messages == [
        "source camera: arrays of 30000 bytes do not fit its slots in shared memory (8192 bytes). "
        "Say a larger size for the source, or make smaller arrays. It and others like it are not "
        "sent."
    ]


def test_lanes_of_the_writer_that_keep_every_slot(caplog: pytest.LogCaptureFixture) -> None:
    with channel(slots=2) as ends:
        reader, inlet = ends.add(quota=1)
        kept = [ends.outlet.allocate((1000,), np.uint8) for _ in range(3)]
        assert [one is None for one in kept] == [False, False, True]
        ends.outlet.put(sample(1))
        assert inlet.receive() == []
        assert reader.pending is not None
        kept.clear()
        ends.outlet.put(sample(2))
        assert numbers(inlet.receive()) == [2]
        balance(ends, 2)
    assert caplog.messages == [
        "source camera: all 2 slots are in use: lanes of this process keep its arrays. Copy what "
        "you keep: image.data.copy()."
    ]


def test_an_array_in_use_at_the_writer_keeps_its_slot_after_all_readers_gave_it_back() -> None:
    with channel() as ends:
        _, inlet = ends.add()
        loan = ends.outlet.allocate(SHAPE, np.uint8)
        assert loan is not None
        loan[:] = 1
        ends.outlet.put(sample(1, Image(loan)))
        for number in range(2, 12):
            ends.outlet.put(sample(number))
            inlet.receive()
        assert np.all(loan == 1)
        assert ends.ring is not None
        ends.outlet.take_credits()
        assert ends.ring.free() == ends.ring.slots - 2  # this one, and the last one received
        del loan
        assert ends.ring.free() == ends.ring.slots - 1
