"""The camera of a simulated world in another process: frames over a Unix socket.

    index u32 | capture i64 (ns, monotonic) | height u16 | width u16 | channels u16 | pixels

Little endian. The world's clock is this machine's monotonic clock, so its stamps compare with ours.
"""

import socket
import struct
from dataclasses import dataclass

import numpy as np

from haihe.drivers.device import DriverSpec
from haihe.runtime.errors import DeviceError
from haihe.runtime.types import U8, Image, Intrinsics

HEAD = struct.Struct("<IqHHH")
REST_S = 5.0  # the rest of a frame follows its head at once


def pack_head(index: int, capture_ns: int, data: U8) -> bytes:
    """The head of a frame."""
    height, width, channels = data.shape
    return HEAD.pack(index, capture_ns, height, width, channels)


@dataclass(frozen=True)
class WorldCameraOptions:
    """path: the socket of the world's camera."""

    path: str
    intrinsics: Intrinsics | None = None


class WorldCamera:
    """A stream device; `lost` counts the frames that the world had to drop."""

    def __init__(self, options: WorldCameraOptions) -> None:
        self.options = options
        self.lost = 0
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
            index, capture_ns, *shape = HEAD.unpack(self._head)
            self._head.clear()
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
        return Image(data, self.options.intrinsics), capture_ns

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
