"""Slots: loans, generations, leases."""

import fcntl
import mmap
import os
import threading

import numpy as np
import pytest
from tests.runtime.links.ends import descriptors

from haihe.runtime.errors import LinkError
from haihe.runtime.links.memory import reserve
from haihe.runtime.links.ring import Mapping, Ring, create_ring, lease_of


def test_a_loan_lies_on_a_page_of_its_own_and_another_mapping_sees_it() -> None:
    ring = Ring.create("camera", 3, 5000)
    loan = ring.loan((20, 50), np.float32)
    assert loan is not None
    assert loan.flags.writeable
    assert loan.__array_interface__["data"][0] % mmap.PAGESIZE == 0
    loan[:] = np.arange(1000).reshape(20, 50)
    lease = lease_of(loan[3:7])
    assert lease is not None
    other = Mapping("camera", ring.fd, writable=False)
    ring.publish(lease.slot)
    read = other.lease(lease.slot, 4000, lambda slot: None)
    seen = read.view(np.ndarray)[:4000].view(np.float32)
    assert np.array_equal(seen, np.arange(1000, dtype=np.float32))
    with pytest.raises(ValueError, match="read-only"):
        read[0] = 1
    with pytest.raises(ValueError, match="WRITEABLE"):
        read.view(np.ndarray).flags.writeable = True
    ring.close()


def test_slots_run_out_and_come_back_with_the_last_view_in_whatever_thread() -> None:
    ring = Ring.create("camera", 2, 5000)
    first, second = ring.loan((5000,), np.uint8), ring.loan((10,), np.uint8)
    assert first is not None
    assert second is not None
    assert ring.loan((1,), np.uint8) is None
    assert (ring.free(), ring.loans) == (0, 2)
    views = [first[:100].reshape(10, 10)]
    del first
    assert ring.free() == 0  # a view of a view still shows it
    thread = threading.Thread(target=views.clear)
    thread.start()
    thread.join()
    assert (ring.free(), ring.loans) == (1, 1)
    assert ring.loan((1,), np.uint8) is not None
    ring.close()


def test_a_slot_in_use_again_is_not_whole() -> None:
    ring = Ring.create("camera", 1, 4096)
    loan = ring.loan((10,), np.uint8)
    assert loan is not None
    lease = lease_of(loan)
    assert lease is not None
    assert lease.generation % 2 == 1  # odd: being written
    generation = ring.publish(0)
    assert generation == lease.generation + 1
    reader = Mapping("camera", ring.fd, writable=False).lease(0, 10, lambda slot: None)
    assert reader.is_whole()
    del loan, lease
    again = ring.loan((10,), np.uint8)
    assert again is not None
    assert not reader.is_whole()  # being written over
    assert ring.publish(0) == generation + 2
    assert not reader.is_whole()  # written over
    ring.close()


def test_a_view_of_the_lease_itself_gives_nothing_back() -> None:
    ring = Ring.create("camera", 1, 4096)
    given: list[int] = []
    lease = ring.mapping.lease(0, 100, given.append)
    part = lease[10:20]
    del part
    assert given == []
    del lease
    assert given == [0]
    ring.close()


def test_arrays_outlive_the_ring_and_nothing_outlives_them() -> None:
    before = descriptors()
    ring = Ring.create("camera", 2, 4096)
    loan = ring.loan((100,), np.uint8)
    assert loan is not None
    loan[:] = 9
    ring.close()
    ring.close()
    assert np.all(loan == 9)
    del loan, ring
    assert descriptors() == before


def test_what_does_not_fit_is_refused() -> None:
    ring = Ring.create("camera", 2, 5000)
    with pytest.raises(LinkError) as error:
        ring.loan((100, 51), np.uint8)
    assert str(error.value) == (
        "source camera: arrays of 5100 bytes do not fit its slots in shared memory (5000 bytes). "
        "Say a larger size for the source, or make smaller arrays."
    )
    ring.close()


def test_the_memory_is_there_and_its_size_is_sealed() -> None:
    fd = create_ring("camera", 4, 100_000)
    state = os.fstat(fd)
    assert state.st_blocks * 512 == state.st_size  # every page is taken
    with pytest.raises(PermissionError):
        os.ftruncate(fd, 4096)
    with pytest.raises(PermissionError):
        os.ftruncate(fd, state.st_size * 2)
    assert fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    os.close(fd)


def test_another_memfd_is_no_ring() -> None:
    fd = reserve("camera", 8192)
    with pytest.raises(LinkError) as error:
        Mapping("camera", fd, writable=False)
    assert str(error.value) == (
        f"shared memory of camera: descriptor {fd} (8192 bytes) is no ring of this version of "
        "haihe. Start all processes of a run from one installation."
    )
    os.close(fd)
