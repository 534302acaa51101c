"""Messages of a run as the parts of a ZeroMQ message: topic, header, payload.

    topic    bytes, UTF-8
    header   MessagePack, a map: see `Header`
    payload  MessagePack, a map of the message's fields; an array is [dtype, shape, bytes], the
             dtype as numpy writes it ("|u1", "<f4"), the bytes in C order

Two parts are a program's that is not haihe: topic, and a picture as JPEG or PNG. Source: our own.
"""

import functools
import math
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np

from haihe.runtime.types import U8, Image, Intrinsics, Message, encode

Part = bytes | memoryview
Natural = Annotated[int, msgspec.Meta(ge=0, le=1 << 62)]  # a record holds 64 bits with a sign


class Header(msgspec.Struct, frozen=True, gc=False):
    """What travels with a message.

    type: its name, such as `Image`. sender: another text at each start of the sender. sequence:
    from 1 on, also of those that were lost. captured_ns: on the sender's monotonic clock, which is
    that of every process with the same `boot`. age_ns: since the capture, when it was sent.
    wall_s: of the capture by the sender's wall clock, s since 1970. All but `type` may be left out.
    """

    type: str
    sender: str = ""
    sequence: Natural = 0
    captured_ns: Natural = 0
    age_ns: Natural = 0
    wall_s: float = 0.0
    boot: str = ""


class Malformed(ValueError):
    """Parts that are no message: why."""


class _Picture(msgspec.Struct, gc=False):
    data: tuple[str, tuple[int, ...], memoryview]
    camera: Intrinsics | None = None


_pack = msgspec.msgpack.Encoder().encode
_headers = msgspec.msgpack.Decoder(Header)
_pictures = msgspec.msgpack.Decoder(_Picture)


@functools.cache
def boot_id() -> str:
    """Of the kernel that runs now: the same in all processes that share its monotonic clock; ""
    where it is not told."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return ""


def pack(topic: str, header: Header, message: Message) -> list[bytes]:
    """The three parts. Raises TypeError for a message that holds what cannot travel."""
    return [topic.encode(), _pack(header), encode(message)]


def read_header(data: Part) -> Header:
    """The second of three parts. Raises Malformed."""
    try:
        return _headers.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError) as exc:
        raise Malformed(f"the header is none ({exc})") from exc


def capture_stamp(header: Header | None, arrived_ns: int) -> tuple[int, bool]:
    """On this machine's monotonic clock, and whether it is the sender's own: it runs on this
    machine. Else the arrival, less the age that the message had when it was sent."""
    if header is None:
        return arrived_ns, False
    if header.boot and header.boot == boot_id() and 0 < header.captured_ns <= arrived_ns:
        return header.captured_ns, True
    return arrived_ns - header.age_ns, False


def read_image(payload: Part, otherwise: Intrinsics | None = None) -> Image:
    """The picture in a payload, a view of its bytes. otherwise: where it has no intrinsics.
    Raises Malformed."""
    try:
        found = _pictures.decode(payload)
    except (msgspec.MsgspecError, ValueError, RecursionError) as exc:
        raise Malformed(f"the payload is no Image ({exc})") from exc
    dtype, shape, data = found.data
    if dtype not in ("|u1", "u1", "uint8") or len(shape) not in (2, 3):
        raise Malformed(f"an array of {dtype} {shape} is no picture: expected uint8, 2 or 3 axes")
    if min(shape) <= 0 or math.prod(shape) != len(data):
        raise Malformed(f"a picture of {shape} in {len(data)} bytes")
    camera = found.camera
    if camera is not None:
        values = msgspec.structs.astuple(camera)
        if not (all(map(math.isfinite, values)) and camera.fx > 0 and camera.fy > 0):
            raise Malformed(f"no camera has the intrinsics {values}")
    return Image(np.frombuffer(data, np.uint8).reshape(shape), camera or otherwise)


def decode_picture(payload: Part, intrinsics: Intrinsics | None = None) -> Image:
    """A JPEG or PNG as a BGR picture. Raises Malformed."""
    import cv2

    data = np.frombuffer(payload, np.uint8)
    try:
        found: Any = cv2.imdecode(data, cv2.IMREAD_COLOR) if len(data) else None
    except cv2.error as exc:
        raise Malformed(f"the picture cannot be decoded ({str(exc).strip()})") from exc
    if found is None:
        raise Malformed("the payload is no picture that OpenCV can decode")
    picture: U8 = found
    return Image(picture, intrinsics)
