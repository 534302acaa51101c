"""fifo between two ends: nothing is lost, and the writer is held back."""

import socket

import pytest
from tests.runtime.links.ends import balance, channel, image, numbers, sample

from haihe.runtime.errors import LinkError
from haihe.runtime.links.channel import QUOTA_LIMIT, slots_needed
from haihe.runtime.links.slot import Queue, Sample
from haihe.runtime.types import Reading


def test_a_fifo_has_n_under_way_or_waiting_and_holds_its_writer_back() -> None:
    with channel(slots=slots_needed([(3, True)])) as ends:
        reader, inlet = ends.add(quota=3, fifo=True)
        queue = Queue(3)
        queue.freed = inlet.done
        freed: list[int] = []
        ends.outlet.freed = lambda: freed.append(1)
        taken: list[Sample] = []
        number = 0
        for _ in range(20):
            while ends.outlet.has_room():
                number += 1
                ends.outlet.put(sample(number))
            for one in inlet.receive():
                queue.put(one)
            assert len(queue.items) == 3  # received, and no credit for it before it is taken
            assert not ends.outlet.has_room()
            oldest = queue.take()
            assert oldest is not None
            taken = [oldest]  # in use while the queue is full: one slot more
            ends.outlet.take_credits()
            assert len(freed) == number - 2
        assert (reader.sent, reader.dropped, number) == (22, 0, 22)
        assert numbers([*taken, *queue.items]) == [20, 21, 22]


def test_with_two_queues_a_credit_goes_back_when_both_have_taken_the_message() -> None:
    with channel(slots=0) as ends:
        reader, inlet = ends.add(quota=3, fifo=True, kind=Reading)
        takers = [inlet.taker(), inlet.taker()]
        for number in (1, 2, 3):
            ends.outlet.put(sample(number, Reading(1.0)))
        inlet.receive()
        credits = []
        for place in (0, 0, 1, 1, 1, 0):
            takers[place]()
            ends.outlet.take_credits()
            credits.append(reader.credits)
        assert credits == [0, 0, 1, 2, 2, 3]


def test_a_fifo_without_room_drops_and_counts() -> None:
    with channel(slots=0) as ends:
        reader, inlet = ends.add(quota=2, fifo=True, kind=Reading)
        for number in range(1, 6):
            ends.outlet.put(sample(number, Reading(float(number))))
        assert numbers(inlet.receive()) == [1, 2]
        assert (reader.sent, reader.dropped, reader.pending) == (2, 3, None)
        balance(ends, 5)
        inlet.done()
        ends.outlet.put(sample(6, Reading(6.0)))
        ends.outlet.put(sample(7, Reading(7.0)))
        assert numbers(inlet.receive()) == [6]


def test_long_messages_wait_for_the_socket_in_order() -> None:
    with channel(slots=0) as ends:
        reader, inlet = ends.add(quota=20, fifo=True)
        for number in range(1, 21):  # 60 kB each: the socket takes two or three
            assert ends.outlet.has_room()
            ends.outlet.put(sample(number, image(number, (200, 100, 3))))
        assert not ends.outlet.has_room()
        assert len(reader.backlog) > 10
        found: list[int] = []
        while len(found) < 20:
            got = inlet.receive()
            assert got
            found += numbers(got)
            for _ in got:
                inlet.done()
            ends.outlet.take_credits()
        assert found == list(range(1, 21))
        assert (reader.sent, reader.dropped, len(reader.backlog)) == (20, 0, 0)


def test_a_short_message_does_not_overtake_a_long_one() -> None:
    with channel(slots=0) as ends:
        reader, inlet = ends.add(quota=20, fifo=True)
        for number in range(1, 10):
            shape = (10, 10, 3) if reader.backlog else (200, 200, 3)
            ends.outlet.put(sample(number, image(number, shape)))
        assert 0 < len(reader.backlog) < 9
        found: list[int] = []
        while len(found) < 9:
            got = inlet.receive()
            assert got
            found += numbers(got)
            inlet.done()
            ends.outlet.take_credits()
        assert found == list(range(1, 10))


def test_a_quota_beyond_the_socket_is_refused() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with channel(slots=0) as ends, ours, theirs:
        with pytest.raises(LinkError) as error:
            ends.outlet.add(ours, 200, fifo=True, name="vision")
        assert str(error.value) == (
            "source camera: 200 messages for the reader vision: between processes 1 to 128. Use a "
            "smaller fifo(), or run both nodes in one process."
        )


def test_the_largest_quota_loses_no_credit() -> None:
    with channel(slots=0) as ends:
        reader, inlet = ends.add(quota=QUOTA_LIMIT, fifo=True, kind=Reading)
        for start in (0, QUOTA_LIMIT):
            for number in range(start + 1, start + QUOTA_LIMIT + 1):
                assert ends.outlet.has_room()
                ends.outlet.put(sample(number, Reading(1.0)))
            assert len(inlet.receive()) == QUOTA_LIMIT
            for _ in range(QUOTA_LIMIT):
                inlet.done()
        ends.outlet.take_credits()
        assert reader.credits == QUOTA_LIMIT
