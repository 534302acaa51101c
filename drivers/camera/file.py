"""Frames from a video file, an image file or a folder of images, at a fixed rate.

The capture stamp of a frame is the moment on the frame grid at which it would have been exposed;
in real time a reader that comes late is given the newest frame that is due and the others are
counted in `late`. The same object serves virtual time. Formats: whatever this OpenCV decodes.
"""

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from haihe.drivers.device import DriverSpec, StreamTiming
from haihe.runtime.clock import now_ns, sleep_until
from haihe.runtime.errors import DeviceError
from haihe.runtime.io import Allocate
from haihe.runtime.types import Image, Intrinsics

IMAGES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm"}


@dataclass(frozen=True)
class FileOptions:
    """path: a video, an image or a folder (in the order of names). fps: 0 takes the video's own
    (folders: 10). size: resized to (width, height) if given. loop: begin again at the end.
    latency_ms: from exposure to delivery. limit: at most so many frames (0: all). intrinsics are
    scaled to the picture's size."""

    path: Path
    fps: float = 0.0
    size: tuple[int, int] | None = None
    loop: bool = False
    latency_ms: float = 0.0
    limit: int = 0
    intrinsics: Intrinsics | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.fps <= 10_000 or self.latency_ms < 0 or self.limit < 0:
            raise DeviceError(
                f"camera.file: fps {self.fps:g}, latency_ms {self.latency_ms:g}, limit "
                f"{self.limit}; expected 0 to 10000, and nothing below 0. Correct the options."
            )


class FileCamera:
    """Implements StreamDevice (real time) and SimCamera (virtual time)."""

    def __init__(self, options: FileOptions) -> None:
        self.options = options
        self.late = 0  # frames that were due and not read in time
        self.first_ns = 0
        self.period_ns = 0
        self.allocate: Allocate | None = None
        self._shape: tuple[int, ...] = ()  # of the last picture
        self._capture: Any = None
        self._paths: list[Path] = []
        self._index = 0
        self._start_ns = 0
        self._position = 0
        self._lock = threading.Lock()  # releasing a capture under its reader crashes OpenCV

    def open(self) -> None:
        """Open it. Raises DeviceError."""
        import cv2

        path = Path(self.options.path)
        fps = self.options.fps
        if path.is_dir():
            self._paths = sorted(p for p in path.iterdir() if p.suffix.lower() in IMAGES)
            if not self._paths:
                known = ", ".join(sorted(IMAGES))
                raise DeviceError(f"camera.file: {path} holds no images ({known}). Check the path.")
        elif not path.exists():
            raise DeviceError(f"camera.file: {path} does not exist. Check the path.")
        elif path.suffix.lower() in IMAGES:
            self._paths = [path]
        if self._paths:
            fps = fps or 10.0
        else:
            self._capture = cv2.VideoCapture(str(path))
            if not self._capture.isOpened():
                raise DeviceError(f"camera.file: {path} is no video that this OpenCV can decode.")
            fps = fps or self._capture.get(cv2.CAP_PROP_FPS) or 25.0
        self.period_ns = round(1e9 / fps)
        self._start_ns = now_ns()

    def read(self, timeout_s: float) -> tuple[Image, int] | None:
        """The next frame at its time: (image, capture stamp)."""
        latency = round(self.options.latency_ms * 1e6)
        due = self._start_ns + self._index * self.period_ns
        now = now_ns()
        if due + latency > now + round(timeout_s * 1e9):
            sleep_until(now + round(timeout_s * 1e9))
            return None
        behind = (now - due - latency) // self.period_ns
        if behind > 0:  # newest frame wins
            self.late += behind
            self._index += behind
            due += behind * self.period_ns
        sleep_until(due + latency)
        frame = self._frame(self._index)
        self._index += 1
        return frame, due

    def capture(self, index: int, t_ns: int) -> tuple[Image | None, int]:
        """Virtual time: the frame of that number and its delivery latency in ns."""
        return self._frame(index), round(self.options.latency_ms * 1e6)

    def _frame(self, index: int) -> Image:
        import cv2

        limit = self.options.limit
        if limit and index >= limit:
            raise EOFError
        if self._paths:
            if index >= len(self._paths) and not self.options.loop:
                raise EOFError
            path = self._paths[index % len(self._paths)]
            data = cv2.imread(str(path), cv2.IMREAD_COLOR)
            if data is None:
                raise DeviceError(f"camera.file: {path} cannot be decoded as an image.")
        else:
            with self._lock:
                data = self._video_frame(index)
        if self.options.size is not None:
            data = cv2.resize(data, self.options.size, interpolation=cv2.INTER_AREA)
        return Image(data, self._intrinsics(data.shape[1], data.shape[0]))

    def _intrinsics(self, width: int, height: int) -> Intrinsics | None:
        given = self.options.intrinsics
        if given is None or (given.width, given.height) == (width, height):
            return given
        x, y = width / given.width, height / given.height
        # pixel middles are whole numbers, so the edges at -0.5 are what scales
        cx, cy = (given.cx + 0.5) * x - 0.5, (given.cy + 0.5) * y - 0.5
        return Intrinsics(width, height, given.fx * x, given.fy * y, cx, cy, given.k1, given.k2)

    def _video_frame(self, index: int) -> Any:
        import cv2

        if self._capture is None:
            raise DeviceError(f"camera.file: {self.options.path} is closed.")
        while self._position < index:  # skipping is cheaper than decoding
            if not self._capture.grab():
                break
            self._position += 1
        place = None  # a picture that is made smaller afterwards is not the one that crosses
        if self.allocate is not None and self._shape and self.options.size is None:
            place = self.allocate(self._shape, np.uint8)
        ok, data = self._capture.read(place)
        self._position += 1
        if not ok and self.options.loop and index:
            self._capture.set(cv2.CAP_PROP_POS_FRAMES, 0)
            ok, data = self._capture.read(place)
        if not ok:
            raise EOFError
        self._shape = data.shape
        return data

    def close(self) -> None:
        """Release it."""
        with self._lock:
            if self._capture is not None:
                self._capture.release()
                self._capture = None


def stream_timing(options: FileOptions) -> StreamTiming:
    """The file is looked at where the options leave the rate to it. Raises DeviceError."""
    period = round(1e9 / options.fps) if options.fps else 0
    if not period:
        camera = FileCamera(options)
        camera.open()
        period = camera.period_ns
        camera.close()
    latency = round(options.latency_ms * 1e6)
    return StreamTiming(period, period, (latency, latency))


SPEC = DriverSpec(
    kind="camera",
    summary="video file, image file or folder of images",
    options=FileOptions,
    make=FileCamera,
    link="stream",
    timing=stream_timing,
)
