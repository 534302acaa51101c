"""What an I/O thread waits for."""

import os
import threading

from tests.runtime.links.ends import descriptors

from haihe.runtime.links.poller import HANG_UP, READ, Poller


def test_callbacks_wake_and_remove() -> None:
    before = descriptors()
    poller = Poller()
    end, other = os.pipe()
    called: list[str] = []
    poller.add(end, lambda: called.append("pipe"))
    assert poller.poll(0) == 0
    os.write(other, b"x")
    assert poller.poll(0) == 1
    poller.modify(end, HANG_UP)
    assert poller.poll(0) == 0
    os.close(other)
    assert poller.poll(0) == 1
    assert called == ["pipe", "pipe"]
    poller.remove(end)
    poller.remove(end)
    poller.modify(end, READ)  # not known any more: nothing
    assert poller.poll(0) == 0
    os.close(end)
    poller.close()
    poller.close()
    assert descriptors() == before


def test_another_thread_wakes_it() -> None:
    poller = Poller()
    thread = threading.Thread(target=poller.wake)
    thread.start()
    assert poller.poll() == 1
    thread.join()
    assert poller.poll(0) == 0
    poller.close()
