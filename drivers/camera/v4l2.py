"""V4L2/UVC cameras through OpenCV. Unproven on hardware: no camera on the machines it was made on.

The reader thread takes every frame, so the newest one wins; the stamp is the kernel's (monotonic,
as OpenCV's V4L2 backend gives it in CAP_PROP_POS_MSEC) when it is plausible, else the moment of
the grab. Source: OpenCV videoio cap_v4l.cpp; V4L2 buffer timestamps are CLOCK_MONOTONIC by default.
"""

import contextlib
import threading
from dataclasses import dataclass
from typing import Any

import numpy as np

from haihe.drivers.device import DriverSpec, StreamTiming
from haihe.runtime.clock import SECOND, now_ns, sleep
from haihe.runtime.errors import DeviceError
from haihe.runtime.io import Allocate
from haihe.runtime.types import Image, Intrinsics


@dataclass(frozen=True)
class V4l2Options:
    """device: number or path. size (width, height) and fps are requests; format is a FourCC.
    intrinsics: from a calibration, for bearings. latency_ms: from the stamp to delivery, at least
    and at most, as measured; only `haihe check` reads it."""

    device: str = "0"
    size: tuple[int, int] | None = None
    fps: float = 0.0
    format: str = ""
    intrinsics: Intrinsics | None = None
    latency_ms: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.latency_ms is not None and not 0 <= self.latency_ms[0] <= self.latency_ms[1]:
            raise DeviceError(
                f"camera.v4l2: latency_ms {list(self.latency_ms)}: expected the least and the "
                "most, such as [18, 26]. Correct the options."
            )


CLOCK_DRIFT = 0.002  # 30 fps is 29.97 with many cameras


def stream_timing(options: V4l2Options) -> StreamTiming | None:
    """By the frame rate that is asked for; exposure may make it slower in the dark."""
    if not options.fps:
        return None
    period = 1e9 / options.fps
    latency = options.latency_ms
    return StreamTiming(
        round(period * (1 - CLOCK_DRIFT)),
        round(period * (1 + CLOCK_DRIFT)),
        (round(latency[0] * 1e6), round(latency[1] * 1e6)) if latency else None,
    )


class V4l2Camera:
    """A stream device; a camera that fails while running is opened again after a second."""

    def __init__(self, options: V4l2Options) -> None:
        self.options = options
        self.failures = 0
        self.allocate: Allocate | None = None
        self._shape: tuple[int, ...] = ()  # of the last picture
        self._capture: Any = None
        self._is_closed = False
        self._lock = threading.Lock()

    def open(self) -> None:
        """Open it. Raises DeviceError."""
        import cv2

        options = self.options
        device: Any = int(options.device) if options.device.isdecimal() else options.device
        capture = cv2.VideoCapture(device, cv2.CAP_V4L2)
        if not capture.isOpened():
            capture.release()
            raise DeviceError(
                f"camera.v4l2: {options.device} cannot be opened. Is it there (ls /dev/video*), "
                "may you read it (group video), is another program using it?"
            )
        if options.format:
            capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*options.format))
        if options.size is not None:
            capture.set(cv2.CAP_PROP_FRAME_WIDTH, options.size[0])
            capture.set(cv2.CAP_PROP_FRAME_HEIGHT, options.size[1])
        if options.fps:
            capture.set(cv2.CAP_PROP_FPS, options.fps)
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        self._capture = capture
        self._is_closed = False

    def read(self, timeout_s: float) -> tuple[Image, int] | None:
        """Wait for the next frame: (image, capture stamp)."""
        import cv2

        with self._lock:
            if self._is_closed:  # by another thread, while this one waited: do not open it again
                return None
            if self._capture is None or not self._capture.grab():
                self.failures += 1
                self._reopen()
                return None
            stamp = now_ns()
            kernel = round(self._capture.get(cv2.CAP_PROP_POS_MSEC) * 1e6)
            if 0 <= stamp - kernel < SECOND:
                stamp = kernel
            place = None
            if self.allocate is not None and self._shape:
                place = self.allocate(self._shape, np.uint8)
            ok, data = self._capture.retrieve(*(() if place is None else (place,)))
            if not ok:
                self.failures += 1
                return None
            self._shape = data.shape
        return Image(data, self.options.intrinsics), stamp

    def _reopen(self) -> None:
        if self._capture is not None:
            self._capture.release()
            self._capture = None
        sleep(1.0)
        with contextlib.suppress(DeviceError):  # counted; the next read tries again
            self.open()

    def close(self) -> None:
        """Release it."""
        with self._lock:
            self._is_closed = True
            if self._capture is not None:
                self._capture.release()
                self._capture = None


SPEC = DriverSpec(
    kind="camera",
    summary="V4L2/UVC camera (unproven on hardware)",
    options=V4l2Options,
    make=V4l2Camera,
    link="stream",
    timing=stream_timing,
)
