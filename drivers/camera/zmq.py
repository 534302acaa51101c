"""Pictures that another program or board publishes over ZeroMQ (see docs/links.md).

    topic | header | payload     by haihe's `Publish`: drivers/framing/published.py
    topic | JPEG or PNG          by any other program

The newest picture wins; `skipped` counts those that came before it in the same look, `lost` those
that the sender's numbers say are missing, `malformed` what was no picture, `by_arrival` those whose
stamp is not the sender's: it runs on another machine, or says none. Such a stamp is the moment
at which the picture was received, less its age when it was sent, if that is said. The far end is
`pipelines/nodes/publish.py`. ZeroMQ's CONFLATE is no help here: it takes single parts only.
"""

import logging
import math
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np

from haihe.drivers.device import DriverSpec, StreamTiming
from haihe.drivers.framing.published import (
    Header,
    Malformed,
    capture_stamp,
    decode_picture,
    read_header,
    read_image,
)
from haihe.drivers.ports.zmq_link import Endpoint, Link
from haihe.runtime.clock import now_ns
from haihe.runtime.errors import DeviceError
from haihe.runtime.io import Allocate
from haihe.runtime.types import Image, Intrinsics
from haihe.runtime.yaml_config import Si

log = logging.getLogger(__name__)

QUEUE = 4  # messages kept by ZeroMQ, besides those in the system's buffers
MOST = 64  # messages in one look, so that a sender that never pauses cannot hold it
CLOCK_DRIFT = 0.002


@dataclass(frozen=True)
class ZmqCameraOptions:
    """address: `tcp://HOST:PORT` or `ipc://PATH`. topic: of the pictures, exactly; "": any. bind:
    the senders connect here. secret, peers: files with CURVE keys, a must beyond this machine.
    timeout: a silence of the sender so long is logged, once. fps, latency_ms: from the stamp to
    delivery, at least and at most, as measured; only `haihe check` reads them. intrinsics: where
    the sender gives none."""

    address: str
    topic: str = ""
    bind: bool = False
    secret: Path | None = None
    peers: Path | None = None
    timeout: Annotated[float, Si("s")] = 2.0
    fps: float = 0.0
    latency_ms: tuple[float, float] | None = None
    intrinsics: Intrinsics | None = None

    def __post_init__(self) -> None:
        self.endpoint()
        least, most = self.latency_ms or (0.0, 0.0)
        if self.timeout <= 0 or self.fps < 0 or not 0 <= least <= most:
            raise DeviceError(
                f"camera.zmq: timeout {self.timeout:g} s, fps {self.fps:g}, latency_ms "
                f"{[least, most]}; expected a timeout above 0, nothing below 0, the least latency "
                "first. Correct the options."
            )

    def endpoint(self) -> Endpoint:
        """Where it listens. Raises DeviceError."""
        return Endpoint("camera.zmq", self.address, self.bind, self.secret, self.peers, DeviceError)


class _Candidate(NamedTuple):
    payload: Any
    header: Header | None


class ZmqCamera:
    """A stream device; a sender that is silent or gone may come back at any time."""

    def __init__(self, options: ZmqCameraOptions) -> None:
        self.options = options
        self.skipped = self.lost = self.malformed = self.by_arrival = 0
        self.allocate: Allocate | None = None
        self._topic = options.topic.encode()
        self._link: Link | None = None
        self._sender = ""
        self._next = 0  # the number that is expected of that sender
        self._heard_ns = 0
        self._is_silent = False
        self._said: set[str] = set()
        self._lock = threading.Lock()  # a ZeroMQ socket is for one thread at a time

    def open(self) -> None:
        """Bind or connect; that nobody is there yet is no error. Raises DeviceError."""
        self.close()
        self._link = link = self.options.endpoint().open("SUB", QUEUE)
        link.socket.subscribe(self._topic)
        self._heard_ns = now_ns()

    def read(self, timeout_s: float) -> tuple[Image, int] | None:
        """Wait for the next picture: (image, capture stamp), None after the time-out. Raises
        EOFError after `close`."""
        with self._lock:
            if self._link is None:
                raise EOFError
            has_some = self._link.socket.poll(math.ceil(timeout_s * 1e3))
            arrived = now_ns()
            found = self._newest(self._receive(self._link), arrived) if has_some else None
            self._watch(found is not None, arrived)
            return found

    def close(self) -> None:
        """Release it."""
        with self._lock:
            link, self._link = self._link, None
            if link is not None:
                link.close()

    def _receive(self, link: Link) -> list[_Candidate]:
        """All that has come, the oldest first."""
        import zmq

        found = []
        for _ in range(MOST):
            try:
                parts = link.socket.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                break
            topic, *rest = (part.buffer for part in parts)
            if self._topic and topic != self._topic:
                continue  # ZeroMQ's subscription is to all that begin so
            try:
                found.append(self._candidate(rest))
            except Malformed as exc:
                self._refuse(exc)
        return found

    def _candidate(self, parts: list[Any]) -> _Candidate:
        if len(parts) not in (1, 2):
            raise Malformed(f"{len(parts) + 1} parts; expected topic, header and payload")
        if len(parts) == 1:
            return _Candidate(parts[0], None)
        header = read_header(parts[0])
        if header.type != "Image":
            raise Malformed(f"it is of type {header.type[:40]!r}; a camera takes Image")
        if header.sequence:
            if header.sender == self._sender and header.sequence >= self._next:
                self.lost += header.sequence - self._next
            self._sender, self._next = header.sender, header.sequence + 1
        return _Candidate(parts[1], header)

    def _newest(self, found: list[_Candidate], arrived: int) -> tuple[Image, int] | None:
        while found:
            payload, header = found.pop()
            try:
                image = self._image(payload, header)
            except Malformed as exc:
                self._refuse(exc)
                continue
            self.skipped += len(found)
            stamp, is_own = capture_stamp(header, arrived)
            if not is_own:
                self.by_arrival += 1
                self._say("stamped when they arrive: the sender is not on this machine, or says no "
                          "capture")  # fmt: skip
            return image, stamp
        return None

    def _image(self, payload: Any, header: Header | None) -> Image:
        intrinsics = self.options.intrinsics
        if header is not None:
            image = read_image(payload, intrinsics)
        else:
            image = decode_picture(payload, intrinsics)
        place = None
        if self.allocate is not None:
            place = self.allocate(image.data.shape, np.uint8)
        if place is None:
            return image
        np.copyto(place, image.data)
        return Image(place, image.camera)

    def _refuse(self, why: Malformed) -> None:
        self.malformed += 1
        self._say(f"refused: {why}", logging.WARNING)

    def _say(self, what: str, level: int = logging.INFO) -> None:
        """Once, of ten kinds at most: the counters have the rest."""
        if what not in self._said and len(self._said) < 10:
            self._said.add(what)
            log.log(level, "camera.zmq: %s: pictures are %s", self.options.address, what)

    def _watch(self, is_heard: bool, now: int) -> None:
        """Say when the sender falls silent, and when it is back."""
        if is_heard:
            if self._is_silent:
                log.info("camera.zmq: %s: pictures come again", self.options.address)
            self._heard_ns, self._is_silent = now, False
        elif not self._is_silent and now - self._heard_ns > self.options.timeout * 1e9:
            self._is_silent = True
            log.warning(
                "camera.zmq: %s: no picture of topic %r for %g s. Is the sender running, are topic "
                "and keys right?",
                self.options.address, self.options.topic, self.options.timeout,
            )  # fmt: skip


def stream_timing(options: ZmqCameraOptions) -> StreamTiming | None:
    """By the sender's rate, as the options say it."""
    if not options.fps:
        return None
    period, latency = 1e9 / options.fps, options.latency_ms
    return StreamTiming(
        round(period * (1 - CLOCK_DRIFT)),
        round(period * (1 + CLOCK_DRIFT)),
        (round(latency[0] * 1e6), round(latency[1] * 1e6)) if latency else None,
    )


SPEC = DriverSpec(
    kind="camera",
    summary="pictures published over ZeroMQ by another program or board",
    options=ZmqCameraOptions,
    make=ZmqCamera,
    link="stream",
    timing=stream_timing,
)
