"""What a run puts into a recording, as messages on channels (their layout: format.py)."""

import json
from abc import ABC, abstractmethod
from typing import Any, Literal

from haihe.runtime.clock import now_ns
from haihe.runtime.errors import RecordError
from haihe.runtime.record.format import STAMPS
from haihe.runtime.types import Image, Message, encode

Frames = Literal["lossless", "jpeg", "none"]
FORM_NONE, FORM_MESSAGE, FORM_JPEG = 0, 1, 2
JPEG_QUALITY = 85


class Records(ABC):
    """Turns records into messages; `append` says where they go."""

    def __init__(self, frames: Frames) -> None:
        if frames not in ("lossless", "jpeg", "none"):
            raise RecordError(f'frames={frames!r}: expected "lossless", "jpeg" or "none".')
        self._frames = frames

    @abstractmethod
    def append(self, topic: str, sequence: int, log_ns: int, publish_ns: int, data: bytes) -> None:
        """One message on a channel; what cannot be kept is counted, never raised."""

    def block(self, lane: str, data: bytes, firing: int, t_ns: int) -> None:
        """A block of a lane's records."""
        self.append(f"haihe/lane/{lane}", firing, t_ns, t_ns, data)

    def output(self, source: str, sequence: int, t_ns: int, message: Message) -> None:
        """An output of a recorded node."""
        self.append(f"haihe/output/{source}", sequence, t_ns, t_ns, encode(message))

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
        self.append(f"haihe/stream/{source}", sequence, delivered, capture, data)

    def keyframe(self, lane: str, firing: int, t_ns: int, state: bytes) -> None:
        """State of a lane between two firings."""
        self.append(f"haihe/keyframe/{lane}", firing, t_ns, t_ns, state)

    def orphan(self, source: str, sample: tuple[int, Message, int, int]) -> None:
        """A message that was read from a lane which died before it recorded how it made it."""
        sequence, message, origin, fired = sample
        data = STAMPS.pack(origin, fired) + encode(message)
        self.append(f"haihe/orphan/{source}", sequence, fired, origin, data)

    def note(self, topic: str, data: dict[str, Any], t_ns: int | None = None) -> None:
        """Something about the run for reports: JSON on a channel `haihe/note/<topic>`."""
        now = now_ns() if t_ns is None else t_ns
        text = json.dumps(data, ensure_ascii=False).encode()
        self.append(f"haihe/note/{topic}", 0, now, now, text)


def jpeg(image: Image) -> bytes:
    """The picture as JPEG, for people."""
    import cv2

    ok, data = cv2.imencode(".jpg", image.data, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if not ok:
        raise RecordError(f"an image of shape {image.data.shape} cannot be encoded as JPEG.")
    return bytes(data.tobytes())
