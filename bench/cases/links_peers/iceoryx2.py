"""iceoryx2's Python binding: publish-subscribe of byte slices, woken by its event service.

In place a loan is stamped and sent; else a frame is copied into the loan with memmove. A picture is
made of the binding's own view of a sample (`payload().as_memory_view()`), as its users do. Its
files lie in the run's own folder, its shared memory under a prefix of its own.
"""

import ctypes
from pathlib import Path
from typing import Any

import numpy as np

from haihe.bench.cases.links_peers.payload import SHAPES, Arrival, Link, Offer, Peer, read, write
from haihe.runtime.clock import now_ns

try:
    import iceoryx2 as iox2
except ModuleNotFoundError:  # the case is left out, see `missing` in links.py
    iox2 = None


class _Services:
    """A node with the two services of a link, opened the same way by both ends."""

    def __init__(self, link: Link, name: str) -> None:
        iox2.set_log_level(iox2.LogLevel.Error)
        config = iox2.config.global_config()
        config.global_cfg.root_path = iox2.Path.new(f"{link.folder}/iox2")
        config.global_cfg.prefix = iox2.FileName.new(f"{Path(link.folder).name}_")
        self.node = iox2.NodeBuilder.new().config(config).create(iox2.ServiceType.Ipc)
        self.samples = (
            self.node.service_builder(iox2.ServiceName.new(name))
            .publish_subscribe(iox2.Slice[ctypes.c_uint8])
            .enable_safe_overflow(False)
            .subscriber_max_buffer_size(link.depth)
            .open_or_create()
        )
        self.events = self.node.service_builder(iox2.ServiceName.new(name)).event().open_or_create()


class Publisher:
    """Sends; waits in iceoryx2's own way while the reader's buffer is full."""

    def __init__(self, link: Link) -> None:
        self.size, self._in_place = link.size, link.in_place
        self.address = f"frames-{link.size}-{link.in_place}"
        self._services = _Services(link, self.address)
        self._publisher: Any = (
            self._services.samples.publisher_builder()
            .initial_max_slice_len(link.size)
            .backpressure_strategy(iox2.BackpressureStrategy.RetryUntilDelivered)
            .create()
        )
        self._notifier: Any = self._services.events.notifier_builder().create()
        self._shape = SHAPES[link.size]
        self._source = np.full(self._shape, 7, np.uint8)
        self._from = self._source.ctypes.data

    def send(self, sequence: int, is_last: bool) -> None:
        """Loan and stamp, or stamp, loan and copy; send and notify."""
        if self._in_place:
            loan = self._publisher.loan_slice_uninit(self.size)
            raw = loan.payload().as_memory_view()
            picture = np.frombuffer(raw, np.uint8).reshape(self._shape)
            sent_ns = now_ns()
            write(picture, self.size, sequence, is_last, sent_ns)
        else:
            sent_ns = now_ns()
            write(self._source, self.size, sequence, is_last, sent_ns)
            loan = self._publisher.loan_slice_uninit(self.size)
            ctypes.memmove(loan.payload_ptr, self._from, self.size)
        loan.assume_init().send()
        self._notifier.notify()

    def close(self) -> None:
        """Delete the ports."""
        self._publisher.delete()
        self._notifier.delete()
        del self._services


class Subscriber:
    """Waits for an event, then takes what is there."""

    def __init__(self, link: Link) -> None:
        self.size, self._shape = link.size, SHAPES[link.size]
        self._services = _Services(link, link.address)
        self._subscriber: Any = self._services.samples.subscriber_builder().create()
        self._listener: Any = self._services.events.listener_builder().create()

    def receive(self) -> list[Arrival]:
        """What has come."""
        arrivals: list[Arrival] = []
        while not arrivals:
            self._listener.blocking_wait()
            while (sample := self._subscriber.receive()) is not None:
                raw = sample.payload().as_memory_view()
                picture = np.frombuffer(raw, np.uint8).reshape(self._shape)
                arrivals.append(read(picture, self.size))
                sample.delete()
        return arrivals

    def close(self) -> None:
        """Delete the ports."""
        self._subscriber.delete()
        self._listener.delete()
        del self._services


def _offer(link: Link) -> Offer:
    end = Publisher(link)
    return Offer(end, end.address)


PEER = Peer(_offer, Subscriber)
