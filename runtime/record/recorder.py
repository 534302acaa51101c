"""The recorder: where an executor's records become MCAP messages (layout: format.py)."""

import json
import os
import platform
import sys
from pathlib import Path
from typing import Any, Literal

from haihe.runtime.clock import now_ns, wall_time_s
from haihe.runtime.errors import RecordError
from haihe.runtime.record.format import STAMPS
from haihe.runtime.record.packer import McapPacker
from haihe.runtime.types import Image, Message, encode

Frames = Literal["lossless", "jpeg", "none"]
FORM_NONE, FORM_MESSAGE, FORM_JPEG = 0, 1, 2
FORMAT = 1  # of the recording; a reader refuses a newer one
JPEG_QUALITY = 85


class Recorder:
    """A recording under way. Readable after kill -9; `close` leaves it whole.

    frames: "lossless" keeps every image as captured (perception replay needs it), "jpeg" for
    viewing, "none" only their stamps. Decision replay needs no images.
    """

    def __init__(
        self,
        path: str | Path,
        header: dict[str, Any],
        frames: Frames = "jpeg",
        start_ns: int | None = None,
    ) -> None:
        """Begin the file. start_ns: the beginning in the run's clock, where that is virtual."""
        start_ns = now_ns() if start_ns is None else start_ns
        if frames not in ("lossless", "jpeg", "none"):
            raise RecordError(f'frames={frames!r}: expected "lossless", "jpeg" or "none".')
        self.path = Path(path)
        self._frames = frames
        try:
            data = json.dumps(header | environment(), ensure_ascii=False).encode()
        except (TypeError, ValueError) as exc:
            raise RecordError(
                f"recording {self.path}: its header cannot be written ({exc}). Parameters of a "
                "pipeline are numbers, text, lists and maps."
            ) from exc
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise RecordError(
                f"recording {self.path}: its folder cannot be made: {exc.strerror}. Record to "
                "another place."
            ) from exc
        self._packer = McapPacker(self.path)
        self._channels: dict[str, int] = {}
        run = self._packer.add_channel("haihe/run", "json")
        self._packer.append(run, 1, start_ns, start_ns, data)

    def _channel(self, topic: str, encoding: str = "haihe") -> int:
        channel = self._channels.get(topic)
        if channel is None:
            channel = self._channels[topic] = self._packer.add_channel(topic, encoding)
        return channel

    def block(self, lane: str, data: bytes, firing: int, t_ns: int) -> None:
        """A block of a lane's records."""
        self._packer.append(self._channel(f"haihe/lane/{lane}"), firing, t_ns, t_ns, data)

    def output(self, source: str, sequence: int, t_ns: int, message: Message) -> None:
        """An output of a recorded node."""
        channel = self._channel(f"haihe/output/{source}")
        self._packer.append(channel, sequence, t_ns, t_ns, encode(message))

    def stream(self, source: str, sequence: int, capture: int, delivered: int, m: Message) -> None:
        """A message of a stream device."""
        stamps = STAMPS.pack(capture, delivered)
        if isinstance(m, Image) and self._frames != "lossless":
            if self._frames == "jpeg":
                data = stamps + bytes([FORM_JPEG]) + jpeg(m)
            else:
                data = stamps + bytes([FORM_NONE])
        else:
            data = stamps + bytes([FORM_MESSAGE]) + encode(m)
        channel = self._channel(f"haihe/stream/{source}")
        self._packer.append(channel, sequence, delivered, capture, data)

    def keyframe(self, lane: str, firing: int, t_ns: int, state: bytes) -> None:
        """State of a lane between two firings."""
        self._packer.append(self._channel(f"haihe/keyframe/{lane}"), firing, t_ns, t_ns, state)

    def note(self, topic: str, data: dict[str, Any], t_ns: int | None = None) -> None:
        """Something about the run for reports: JSON on a channel `haihe/note/<topic>`."""
        now = now_ns() if t_ns is None else t_ns
        channel = self._channel(f"haihe/note/{topic}", "json")
        self._packer.append(channel, 0, now, now, json.dumps(data, ensure_ascii=False).encode())

    @property
    def lost(self) -> int:
        """Messages that could not be recorded so far."""
        return sum(self._packer.lost.values())

    def close(self, *, finish: bool = True) -> None:
        """End the recording and rewrite it chunked, compressed and indexed. Raises RecordError
        when something was lost."""
        self._packer.close()
        if finish:
            from haihe.runtime.record.fix import finish as rewrite

            rewrite(self.path)


def jpeg(image: Image) -> bytes:
    """The picture as JPEG, for people."""
    import cv2

    ok, data = cv2.imencode(".jpg", image.data, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if not ok:
        raise RecordError(f"an image of shape {image.data.shape} cannot be encoded as JPEG.")
    return bytes(data.tobytes())


def environment() -> dict[str, Any]:
    """What a replay may have to know of this machine: versions, CPU, hash seed."""
    from importlib.metadata import PackageNotFoundError, version

    versions: dict[str, str] = {}
    for package in ("haihe", "numpy", "msgspec", "onnxruntime", "opencv-python-headless", "numba"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "format": FORMAT,
        "started": wall_time_s(),
        "python": sys.version.split()[0],
        "machine": platform.machine(),
        "cpu": _cpu("flags", "Features"),
        "cpu_name": _cpu("model name", "Model"),
        "cores": os.cpu_count(),
        "hash_seed": os.environ.get("PYTHONHASHSEED", "random"),
        "versions": versions,
    }


def _cpu(*keys: str) -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
    for line in text.splitlines():
        if line.startswith(keys):
            return line.partition(":")[2].strip()
    return ""
