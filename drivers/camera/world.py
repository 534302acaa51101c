"""The camera of a simulated world in another process: frames over a Unix socket.

    index u32 | capture i64 (ns, monotonic) | height u16 | width u16 | channels u16
    | camera: width height u16, fx fy cx cy k1 k2 f64 | pixels

Little endian; the camera is all 0 where the world knows no intrinsics. What it knows goes before
the unit profile's, which are those of the real camera: the picture was rendered with the world's.
The world's clock is this machine's monotonic clock, so its stamps compare with ours.
"""

import socket
import struct
from dataclasses import dataclass

import msgspec
import numpy as np

from haihe.drivers.device import DriverSpec
from haihe.runtime.errors import DeviceError
from haihe.runtime.io import Allocate
from haihe.runtime.types import U8, Image, Intrinsics

HEAD = struct.Struct("<IqHHHHH6d")
REST_S = 5.0  # the rest of a frame follows its head at once


def pack_head(index: int, capture_ns: int, data: U8, camera: Intrinsics | None = None) -> bytes:
    """The head of a frame. camera: what it was rendered with."""
    height, width, channels = data.shape
    lens = msgspec.structs.astuple(camera) if camera is not None else (0,) * 8
    return HEAD.pack(index, capture_ns, height, width, channels, *lens)


@dataclass(frozen=True)
class WorldCameraOptions:
    """path: the socket of the world's camera. intrinsics: where the world gives none."""

    path: str
    intrinsics: Intrinsics | None = None


class WorldCamera:
    """A stream device; `lost` counts the frames that the world had to drop."""

    def __init__(self, options: WorldCameraOptions) -> None:
        self.options = options
        self.lost = 0
        self.allocate: Allocate | None = None
        self._socket: socket.socket | None = None
        self._head = bytearray()
        self._next = 0

    def open(self) -> None:
        """Connect. Raises DeviceError."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(self.options.path)
        except OSError as exc:
            connection.close()
            raise DeviceError(
                f"camera.world: {self.options.path}: {exc.strerror}. Is the world running?"
            ) from exc
        self._socket = connection

    def read(self, timeout_s: float) -> tuple[Image, int] | None:
        """Wait for the next frame: (image, capture stamp). EOFError when the world has ended."""
        connection = self._socket
        if connection is None:
            raise EOFError
        connection.settimeout(timeout_s)
        view: memoryview | None = None
        try:
            while len(self._head) < HEAD.size:
                part = connection.recv(HEAD.size - len(self._head))
                if not part:
                    raise EOFError
                self._head += part
            index, capture_ns, *rest = HEAD.unpack(self._head)
            self._head.clear()
            shape, lens = tuple(rest[:3]), rest[3:]
            data = self.allocate(shape, np.uint8) if self.allocate is not None else None
            if data is None:
                data = np.empty(shape, np.uint8)
            view = memoryview(data.reshape(-1).data)
            connection.settimeout(REST_S)
            while view:
                size = connection.recv_into(view)
                if not size:
                    raise EOFError
                view = view[size:]
        except (TimeoutError, BlockingIOError) as exc:
            if view is None:
                return None
            raise DeviceError(
                f"camera.world: {self.options.path}: a frame stopped half-way for {REST_S:g} s. Is "
                "the world hanging?"
            ) from exc
        except OSError as exc:
            raise EOFError from exc
        self.lost += index - self._next
        self._next = index + 1
        camera = Intrinsics(*lens) if lens[0] else self.options.intrinsics
        return Image(data, camera), capture_ns

    def close(self) -> None:
        """Disconnect."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


SPEC = DriverSpec(
    kind="camera",
    summary="camera of a simulated world",
    options=WorldCameraOptions,
    make=WorldCamera,
    link="stream",
)
