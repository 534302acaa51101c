"""Edges between processes: which a plan has, and what is received when a maker died."""

import contextlib
import logging
import os
import socket
import threading
from collections.abc import Iterator
from typing import Annotated

import numpy as np
import pytest
from tests.runtime.links.ends import descriptors

from haihe.drivers.roles import camera
from haihe.runtime.contracts import aligned, fifo, fresh
from haihe.runtime.exec.remote import (
    Crossing,
    Ends,
    Outgoing,
    Receiver,
    crossings,
    receivers,
)
from haihe.runtime.graph import Graph
from haihe.runtime.links.inlet import Inlet
from haihe.runtime.links.ring import Ring
from haihe.runtime.links.slot import Queue, Sample, Slot
from haihe.runtime.node import node
from haihe.runtime.plan.build import Placement, make_plan
from haihe.runtime.record.relay import RelayReader, RelayWriter, relay_memory
from haihe.runtime.record.sink import Records
from haihe.runtime.types import Image, Reading, decode

WAIT_S = 30.0  # only catches hangs
MS = 1_000_000


@node
def see(image: Image) -> Reading:
    return Reading(0.0)


@node(every="50ms")
def look(image: Annotated[Image, fresh("1s")]) -> Reading:
    return Reading(0.0)


@node(every="10ms")
def latest(seen: Annotated[Reading, fresh("1s")]) -> Reading:
    return seen


@node
def each(seen: Annotated[Reading, fifo(5)]) -> Reading:
    return seen


@node(on="seen")
def near(seen: Reading, beat: Annotated[Reading, aligned("20ms", keep=8)]) -> Reading:
    return seen


@node(every="20ms")
def beat() -> Reading:
    return Reading(0.0)


# --- what a plan has ------------------------------------------------------------------------------


def test_a_latest_edge_has_three_messages_under_way() -> None:
    with Graph("g") as g:
        seen = see(camera("front").image)
        latest(seen)
        g.process("vision", seen)
    assert crossings(make_plan(g, {})) == [Crossing("see", "vision", "", 3, fifo=False)]


def test_a_stream_is_made_where_it_triggers_and_sent_to_who_samples_it() -> None:
    with Graph("g") as g:
        front = camera("front").image
        seen, _ = see(front), look(front)
        g.process("vision", seen)
    plan = make_plan(g, {})
    assert plan.maker_process("front.image") == "vision"
    assert crossings(plan) == [Crossing("front.image", "vision", "", 3, fifo=False)]


def test_a_stream_that_triggers_nothing_is_read_by_the_first_that_samples_it() -> None:
    with Graph("g") as g:
        made = look(camera("front").image)
        g.process("vision", made)
        beat()
    plan = make_plan(g, {})
    assert plan.maker_process("front.image") == "vision"
    assert crossings(plan) == []


def test_a_queue_crosses_with_its_places_and_one_more_reader_with_its_own() -> None:
    with Graph("g") as g:
        seen = see(camera("front").image)
        every = each(seen)
        latest(seen)
        g.thread("queue", every)
        g.process("vision", seen)
        g.process("far", every)
    assert crossings(make_plan(g, {})) == [
        Crossing("see", "vision", "", 3, fifo=False),
        Crossing("see", "vision", "far", 5, fifo=True),
    ]


def test_two_readers_in_one_process_share_the_larger_part() -> None:
    with Graph("g") as g:
        seen = see(camera("front").image)
        every = each(seen)
        g.thread("queue", every)
        g.process("far", every, latest(seen))
    assert crossings(make_plan(g, {})) == [Crossing("see", "", "far", 5, fifo=True)]


def test_an_aligned_edge_has_room_for_what_it_keeps() -> None:
    with Graph("g") as g:
        near(see(camera("front").image), beat())
        g.process("clock", "beat")
    assert crossings(make_plan(g, {})) == [Crossing("beat", "clock", "", 3 + 8, fifo=False)]


def test_a_graph_in_one_process_has_none_and_no_receiver() -> None:
    with Graph("g") as g:
        latest(see(camera("front").image))
    plan = make_plan(g, {})
    assert (plan.processes, crossings(plan), receivers(plan)) == ((), [], {})


def test_a_receiver_is_placed_just_below_the_most_urgent_thread() -> None:
    with Graph("g") as g:
        seen = see(camera("front").image)
        latest(seen)
        beat()
        g.process("vision", seen)
    places = {
        "front": Placement(core=2, rank=1),
        "every-10ms": Placement(core=1, rank=40),
        "every-20ms": Placement(core=1, rank=39),
    }
    found = receivers(make_plan(g, {}, places))
    assert {name: (t.name, t.core, t.rank, t.process) for name, t in found.items()} == {
        "": ("receiver of main", 1, 38, ""),  # 39 is taken
        "vision": ("receiver of vision", -1, 0, "vision"),  # there is nothing below 1
    }


def test_processes_of_a_plan_are_in_the_order_of_their_threads() -> None:
    with Graph("g") as g:
        seen = see(camera("front").image)
        latest(seen)
        g.process("z", "latest")
        g.process("a", seen)
    plan = make_plan(g, {})
    assert plan.processes == ("z", "a")
    by_lane = {lane.name: plan.process_of(lane.name) for lane in plan.lanes}
    assert by_lane == {"every-10ms": "z", "front": "a"}
    assert [plan.maker_process(source) for source in ("see", "front.image")] == ["a", "a"]
    assert plan.process_of("nowhere") == plan.maker_process("nothing") == ""


# --- what is received -----------------------------------------------------------------------------


class Arrivals(Slot):
    """A local reader's place, which keeps the numbers of all that came."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers: list[int] = []
        self.changed = threading.Condition()

    def put(self, sample: Sample) -> None:
        super().put(sample)
        with self.changed:
            self.numbers.append(sample[0])
            self.changed.notify()

    def wait_for(self, number: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: number in self.numbers, WAIT_S), self.numbers


class Maker:
    """A life of the process that makes a source."""

    def __init__(self, quota: int = 8, *, fifo: bool = False, ring: Ring | None = None) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.outlet = Outgoing("sense", ring)
        self.outlet.table = None
        self.reader = self.outlet.add(ours, quota, fifo=fifo, name="main")
        kind = Image if ring is not None else Reading
        fd = os.dup(ring.fd) if ring is not None else None
        self.inlet = Inlet("sense", kind, theirs, fd, fifo=fifo)

    def send(self, *numbers: int) -> None:
        for number in numbers:
            self.outlet.put((number, Reading(number / 2), number * MS, number * MS + 5))


@contextlib.contextmanager
def receiving(
    slots: list[Slot], first: Maker, records: Records | None = None
) -> Iterator[Receiver]:
    receiver = Receiver(Ends({}, {"sense": first.inlet}), {"sense": slots}, records)
    try:
        yield receiver
    finally:
        receiver.stop()
        receiver.stop()  # twice is once


@contextlib.contextmanager
def recorded() -> Iterator[tuple[RelayWriter, RelayReader]]:
    fd = relay_memory(1 << 16)
    writer, reader = RelayWriter(fd, "lossless"), RelayReader(fd)
    try:
        yield writer, reader
    finally:
        writer.close()
        reader.close()
        os.close(fd)


@pytest.mark.parametrize("is_started_before", [False, True])
@pytest.mark.parametrize("says_end", [False, True])
def test_what_a_dead_maker_sent_comes_before_what_the_next_one_sends(
    is_started_before: bool, says_end: bool
) -> None:
    before = descriptors()
    place, first, second = Arrivals(), Maker(), Maker()
    with recorded() as (writer, reader), receiving([place], first, writer) as receiver:
        if is_started_before:
            receiver.start()
        first.send(1, 2, 3)
        if says_end:  # else something that it started has its descriptors, and lives on
            first.outlet.close()
        receiver.connect(second.inlet)
        second.send(5, 6)
        if not is_started_before:
            receiver.start()
        place.wait_for(6)
        assert place.numbers == [1, 2, 3, 5, 6]
        ((topic, number, fired, origin, data),) = reader.take()
    assert (topic, number) == ("haihe/orphan/sense", 3)
    assert (fired, origin) == (3 * MS + 5, 3 * MS)
    assert decode(Reading, data[16:]).value == 1.5
    first.outlet.close()
    second.outlet.close()
    assert descriptors() == before


def test_a_maker_that_died_before_it_sent_anything_leaves_no_orphan() -> None:
    place, makers = Arrivals(), [Maker() for _ in range(4)]
    with recorded() as (writer, reader), receiving([place], makers[0], writer) as receiver:
        receiver.start()
        for number, maker in enumerate(makers[1:]):
            makers[number].outlet.close()
            receiver.connect(maker.inlet)
        makers[-1].send(1)
        place.wait_for(1)
        assert list(reader.take()) == []
    makers[-1].outlet.close()


def test_a_picture_of_a_dead_maker_is_recorded_from_its_ring() -> None:
    ring = Ring.create("sense", 6, 1 << 14)
    place, maker = Arrivals(), Maker(ring=ring)
    picture = Image(np.full((40, 30, 3), 7, np.uint8))
    with recorded() as (writer, reader), receiving([place], maker, writer) as receiver:
        receiver.start()
        maker.outlet.put((4, picture, 40, 45))
        place.wait_for(4)
        maker.outlet.close()  # and its ring: its memory lives as long as what lies in it
        second = Maker()
        receiver.connect(second.inlet)
        second.send(5)
        place.wait_for(5)
        ((topic, number, *_, data),) = reader.take()
    assert (topic, number) == ("haihe/orphan/sense", 4)
    assert np.array_equal(decode(Image, data[16:]).data, picture.data)
    second.outlet.close()


def test_after_a_restart_a_queue_gives_credits_to_the_new_maker() -> None:
    place, queue = Arrivals(), Queue(8)
    first, second = Maker(2, fifo=True), Maker(2, fifo=True)
    with receiving([queue, place], first) as receiver:
        receiver.start()
        first.send(1, 2)
        place.wait_for(2)
        first.outlet.close()
        receiver.connect(second.inlet)
        second.send(3, 4)
        place.wait_for(4)
        assert not second.outlet.has_room()
        taken = [queue.take() for _ in range(4)]
        assert [one[0] for one in taken if one is not None] == [1, 2, 3, 4]
        second.outlet.take_credits()
        assert second.reader.credits == 2  # never more than it had
        second.send(5)
        place.wait_for(5)
    second.outlet.close()


def test_what_is_no_message_of_the_source_ends_it_and_is_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.ERROR)
    place, first, second = Arrivals(), Maker(), Maker()
    with recorded() as (writer, reader), receiving([place], first, writer) as receiver:
        receiver.start()
        first.send(1)
        place.wait_for(1)
        first.outlet.put((2, Image(np.zeros((1, 1, 3), np.uint8)), 0, 0))
        receiver.connect(second.inlet)
        second.send(3)
        place.wait_for(3)
        assert place.numbers == [1, 3]
        assert [message[1] for message in reader.take()] == [1]
    assert caplog.messages == [
        "source sense: nothing more is received of it: source sense: what came is no Reading: "
        "Object missing required field `value`. Start all processes of a run from one "
        "installation and one graph file."
    ]
    first.outlet.close()
    second.outlet.close()
