"""Readers and writers that come, go and die; the threads around them."""

import logging
import os
import socket
import threading

import numpy as np
import pytest
from tests.runtime.links.ends import (
    balance,
    channel,
    descriptors,
    numbers,
    sample,
)

from haihe.runtime.errors import LinkError
from haihe.runtime.links.channel import slots_needed
from haihe.runtime.links.inlet import Inlet
from haihe.runtime.links.poller import Poller
from haihe.runtime.links.ring import lease_of
from haihe.runtime.types import Image


def test_a_reader_that_is_gone_frees_its_slots() -> None:
    with channel() as ends:
        reader, inlet = ends.add()
        for number in (1, 2, 3):
            ends.outlet.put(sample(number))
        inlet.close()
        assert ends.ring is not None
        assert ends.ring.free() == 2
        ends.outlet.put(sample(4))
        assert reader.is_gone
        assert ends.outlet.readers == ()
        assert ends.ring.free() == 5
        _, again = ends.add()
        ends.outlet.put(sample(5))
        assert numbers(again.receive()) == [5]


def test_a_reader_given_up_that_lives_on_is_told_when_it_is_written_over() -> None:
    with channel(slots=3) as ends:
        reader, inlet = ends.add(quota=3)
        ends.outlet.put(sample(1))
        ends.outlet.put(sample(2))
        first = _one(inlet)
        lease = lease_of(first[1].data)
        assert lease is not None
        ends.outlet.remove(reader)
        ends.outlet.remove(reader)  # twice is once
        assert lease.is_whole()
        _, other = ends.add(quota=3)
        for number in (3, 4, 5):
            ends.outlet.put(sample(number))
        assert numbers(other.receive()) == [3, 4, 5]
        assert not lease.is_whole()
        with pytest.raises(EOFError, match="source camera: its process is gone"):
            inlet.receive()  # not 2, which is torn
        assert (inlet.received, inlet.torn) == (1, 1)


def _one(inlet: Inlet) -> tuple[int, Image, int, int]:
    """The first of the messages that wait: the others stay in the socket."""
    size = inlet._socket.recv_into(inlet._buffer)
    got = inlet._take(size)
    assert got is not None
    return got


def test_when_the_writer_is_gone_what_it_sent_is_read_and_kept() -> None:
    with channel() as ends:
        _, inlet = ends.add()
        for number in (1, 2):
            ends.outlet.put(sample(number))
        got = inlet.receive()
        inlet._give(b"\xff\xff\xff\xff")  # unread by the writer: the kernel says RESET first
        ends.outlet.put(sample(3))
        ends.outlet.close()
        got += inlet.receive()
        assert numbers(got) == [1, 2, 3]
        with pytest.raises(EOFError):
            inlet.receive()
        last = inlet.last()
        assert last is got[-1]
        assert last is not None
        assert np.all(last[1].data == 3)


def test_a_credit_can_wait_until_the_newest_message_is_handed_on() -> None:
    with channel() as ends:
        reader, inlet = ends.add(quota=3)
        for number in (1, 2):
            ends.outlet.put(sample(number))
            assert numbers(inlet.receive(hold=True)) == [number]
        ends.outlet.take_credits()
        assert reader.credits == 1
        inlet.settle()
        ends.outlet.take_credits()
        assert reader.credits == 2


def test_nothing_was_received_yet() -> None:
    with channel() as ends:
        _, inlet = ends.add()
        assert inlet.last() is None


def test_descriptors_and_memory_end_with_both_ends() -> None:
    before = descriptors()
    with channel() as ends:
        for _ in range(3):
            ends.add()
        for number in range(1, 9):
            ends.outlet.put(sample(number))
            for inlet in ends.inlets:
                inlet.receive()
        # ring, its mapping and one mapping for each inlet; a socket pair each
        assert len(descriptors()) == len(before) + 2 + 3 + 6
    assert descriptors() == before


def test_an_inlet_for_something_else_closes_what_it_was_given() -> None:
    before = descriptors()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    memfd = os.memfd_create("other")
    os.ftruncate(memfd, 10_000)
    with ours, pytest.raises(LinkError, match="is no ring of this version"):
        Inlet("camera", Image, theirs, memfd)
    assert descriptors() == before


def test_arrays_end_in_other_threads_while_the_writer_goes_on() -> None:
    with channel() as ends:
        reader, inlet = ends.add()
        poller = Poller()
        ends.outlet.watch(poller)
        got: list[int] = []
        stop = threading.Event()

        def write() -> None:
            for number in range(1, 3001):
                ends.outlet.put(sample(number))
            stop.set()

        def look_after() -> None:
            while not (stop.is_set() and reader.pending is None):
                poller.poll(0.01)

        threads = [threading.Thread(target=write), threading.Thread(target=look_after)]
        for thread in threads:
            thread.start()
        while not got or got[-1] < 3000:
            got += numbers(inlet.receive())
        for thread in threads:
            thread.join()
        assert got == sorted(set(got))
        assert (inlet.received, inlet.torn) == (len(got), 0)
        assert reader.sent == len(got)
        balance(ends, 3000)
        poller.close()


def test_the_io_thread_sends_the_newest_and_frees_the_held_back_and_sees_the_end() -> None:
    with channel(slots=slots_needed([(1, False), (2, True)])) as ends:
        latest, fifo = ends.add(quota=1), ends.add(quota=2, fifo=True)
        poller = Poller()
        ends.outlet.watch(poller)
        freed: list[int] = []
        ends.outlet.freed = lambda: freed.append(1)
        for number in (1, 2):
            ends.outlet.put(sample(number))
        assert poller.poll(0) == 0
        assert not ends.outlet.has_room()
        assert numbers(latest[1].receive()) == [1]
        assert latest[0].pending is not None
        assert numbers(fifo[1].receive()) == [1, 2]
        poller.poll(0)  # slot 1 of the fifo
        assert (freed, latest[0].sent) == ([], 1)  # the last one received keeps its credit
        fifo[1].done()
        assert poller.poll(0) == 1
        assert freed == [1]
        assert ends.outlet.has_room()
        assert poller.poll(0) == 0  # nothing is waited for: no wake-ups
        latest[1].close()
        assert poller.poll(0) == 1
        assert latest[0].is_gone
        assert ends.outlet.readers == (fifo[0],)
        poller.close()


def test_the_io_thread_looks_after_a_reader_that_comes_later() -> None:
    with channel() as ends:
        poller = Poller()
        ends.outlet.watch(poller)
        reader, inlet = ends.add(quota=2)
        for number in range(1, 5):
            ends.outlet.put(sample(number))
        assert numbers(inlet.receive()) == [1, 2]
        assert poller.poll(0) == 1
        assert numbers(inlet.receive()) == [4]
        inlet.close()
        poller.poll(0)
        assert reader.is_gone
        assert poller.poll(0) == 0
        poller.close()


def test_log_levels(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), channel() as ends:
        _, inlet = ends.add()
        ends.outlet.put(sample(1))
        inlet.receive()
        inlet.close()
        ends.outlet.put(sample(2))
    assert caplog.messages == []  # ends are told by the supervisor, which knows why
