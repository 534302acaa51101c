"""What an I/O thread waits for: descriptors that are ready, each with what to do then."""

import os
import select
from collections.abc import Callable

READ = select.EPOLLIN
HANG_UP = 0  # only the end of the other side, which epoll always reports


class Poller:
    """`poll` is for one thread; everything else for any."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callable[[], object]] = {}
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.add(self._bell, lambda: os.eventfd_read(self._bell))

    def add(self, fd: int, callback: Callable[[], object], events: int = READ) -> None:
        """Call `callback` from `poll` when the descriptor is ready."""
        self._callbacks[fd] = callback
        self._epoll.register(fd, events)

    def modify(self, fd: int, events: int) -> None:
        """Wait for other events of a descriptor; nothing happens if it is not known."""
        if fd in self._callbacks:
            self._epoll.modify(fd, events)

    def remove(self, fd: int) -> None:
        """Forget a descriptor, before it is closed; nothing happens if it is not known."""
        if self._callbacks.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def poll(self, timeout_s: float | None = None) -> int:
        """Wait, then call what is ready: gives how many were."""
        ready = self._epoll.poll(timeout_s)
        for fd, _ in ready:
            callback = self._callbacks.get(fd)
            if callback is not None:  # else it was removed meanwhile
                callback()
        return len(ready)

    def wake(self) -> None:
        """Make `poll` return."""
        os.eventfd_write(self._bell, 1)

    def close(self) -> None:
        """Forget everything. The descriptors stay open; they belong to who added them."""
        if not self._epoll.closed:
            self._epoll.close()
            os.close(self._bell)
            self._callbacks.clear()
