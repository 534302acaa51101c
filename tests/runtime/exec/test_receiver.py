"""The receiving thread of a process: it is placed before it receives, and ends with its ends."""

import socket
import threading

import pytest

from haihe.runtime.exec.remote import Ends, Receiver
from haihe.runtime.links.channel import Outlet
from haihe.runtime.links.inlet import Inlet
from haihe.runtime.links.slot import Slot
from haihe.runtime.record.sink import Records
from haihe.runtime.types import Reading

WAIT_S = 30.0  # only catches hangs


def test_it_is_placed_by_its_own_thread_before_anything_arrives() -> None:
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    outlet = Outlet("sense", None)
    outlet.add(there, 3, name="main")
    arrived = threading.Event()
    order: list[str] = []

    class Told(Slot):
        def put(self, sample: tuple[int, object, int, int]) -> None:
            order.append(f"{sample[0]} in {threading.current_thread().name}")
            arrived.set()

    def place() -> None:
        order.append(f"placed in {threading.current_thread().name}")

    inlet = Inlet("sense", Reading, here, None)
    receiver = Receiver(Ends({}, {"sense": inlet}), {"sense": [Told()]}, None, place)
    try:
        outlet.put((1, Reading(0.5), 10, 20))
        receiver.start()
        assert arrived.wait(WAIT_S)
    finally:
        receiver.stop()
        outlet.close()
    assert order == ["placed in haihe-links", "1 in haihe-links"]


@pytest.mark.parametrize("is_held", [False, True])
def test_what_the_dead_had_sent_is_read_before_its_next_life_though_its_end_is_held(
    is_held: bool,
) -> None:
    class Orphans(Records):
        def __init__(self) -> None:
            super().__init__("none")
            self.found: list[tuple[str, int]] = []

        def append(self, topic: str, sequence: int, log: int, publish: int, data: bytes) -> None:
            self.found.append((topic, sequence))

    arrived = threading.Event()
    seen: list[int] = []

    class Seen(Slot):
        def put(self, sample: tuple[int, object, int, int]) -> None:
            seen.append(sample[0])
            if sample[0] == 3:
                arrived.set()

    ends = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(2)]
    inlets = [Inlet("sense", Reading, here, None) for here, _ in ends]
    outlets = [Outlet("sense", None) for _ in ends]
    # a process that the maker had forked lives on, and with it the maker's end
    held = [ends[0][1].dup()] if is_held else []
    for outlet, (_, there) in zip(outlets, ends, strict=True):
        outlet.add(there, 3, name="main")
    records = Orphans()
    receiver = Receiver(Ends({}, {"sense": inlets[0]}), {"sense": [Seen()]}, records)
    try:
        outlets[0].put((1, Reading(0.1), 10, 20))
        outlets[0].put((2, Reading(0.2), 11, 21))
        outlets[0].close()
        outlets[1].put((3, Reading(0.3), 12, 22))
        receiver.connect(inlets[1])
        receiver.start()
        assert arrived.wait(WAIT_S)
    finally:
        receiver.stop()
        outlets[1].close()
        for end in held:
            end.close()
    assert seen == [1, 2, 3]
    assert records.found == [("haihe/orphan/sense", 2)]
