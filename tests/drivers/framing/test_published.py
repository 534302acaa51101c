"""Published messages: the bytes as another program writes and reads them, and what is refused."""

import struct
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from haihe.drivers.framing.published import (
    Header,
    Malformed,
    boot_id,
    capture_stamp,
    decode_picture,
    pack,
    read_header,
    read_image,
)
from haihe.runtime.types import Image, Intrinsics, Message, Reading

PICTURE = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
CAMERA = Intrinsics(3, 2, 10.0, 11.0, 1.0, 0.5)
# by the MessagePack specification, by hand
PAYLOAD = b"\x82\xa4data\x93\xa3|u1\x93\x02\x03\x03\xc4\x12" + PICTURE.tobytes() + b"\xa6camera\xc0"
HEADER = (
    b"\x87\xa4type\xa5Image\xa6sender\xa2ab\xa8sequence\x07\xabcaptured_ns\xcd\x03\xe8"
    b"\xa6age_ns\x05\xa6wall_s\xcb" + struct.pack(">d", 12.5) + b"\xa4boot\xa1x"
)


def malformed(call: Any, data: bytes) -> str:
    with pytest.raises(Malformed) as caught:
        call(data)
    return str(caught.value)


def test_the_parts_are_these_bytes() -> None:
    header = Header("Image", "ab", 7, 1000, 5, 12.5, "x")
    assert pack("front", header, Image(PICTURE)) == [b"front", HEADER, PAYLOAD]


def test_these_bytes_are_read() -> None:
    assert read_header(HEADER) == Header("Image", "ab", 7, 1000, 5, 12.5, "x")
    image = read_image(memoryview(PAYLOAD))
    assert (image.data == PICTURE).all()
    assert image.camera is None
    assert read_image(PAYLOAD, CAMERA).camera is CAMERA
    own = pack("", Header("Image"), Image(PICTURE, CAMERA))[2]
    assert read_image(own, Intrinsics(1, 1, 1.0, 1.0, 0.0, 0.0)).camera == CAMERA


def test_a_program_may_say_little_and_more() -> None:
    assert read_header(b"\x82\xa4type\xa5Image\xa4more\x01") == Header("Image")


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "the header is none (Input data was truncated)"),
        (b"\xa5Image", "the header is none (Expected `object`, got `str`)"),
        (b"\x80", "the header is none (Object missing required field `type`)"),
        (
            b"\x82\xa4type\xa1x\xa6age_ns\xff",
            "the header is none (Expected `int` >= 0 - at `$.age_ns`)",
        ),
    ],
)
def test_what_is_no_header(data: bytes, why: str) -> None:
    assert malformed(read_header, data) == why


def picture(dtype: str, shape: tuple[int, ...], size: int, camera: Any = None) -> bytes:
    return msgspec.msgpack.encode({"data": (dtype, shape, bytes(size)), "camera": camera})


LENS = {"width": 3, "height": 2, "fx": 1.0, "fy": 1.0, "cx": 0.0, "cy": 0.0}


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (picture("<f4", (1, 2), 8), "an array of <f4 (1, 2) is no picture: expected uint8, 2 or 3 "
         "axes"),
        (picture("|u1", (8,), 8), "an array of |u1 (8,) is no picture: expected uint8, 2 or 3 "
         "axes"),
        (picture("|u1", (2, 3, 3), 17), "a picture of (2, 3, 3) in 17 bytes"),
        (picture("|u1", (0, 3, 3), 0), "a picture of (0, 3, 3) in 0 bytes"),
        (picture("|u1", (-1, -1), 1), "a picture of (-1, -1) in 1 bytes"),
        (picture("|u1", (2, 3), 6, LENS | {"fx": 0.0}),
         "no camera has the intrinsics (3, 2, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0)"),
        (picture("|u1", (2, 3), 6, LENS | {"k1": float("nan")}),
         "no camera has the intrinsics (3, 2, 1.0, 1.0, 0.0, 0.0, nan, 0.0)"),
        (b"\x80", "the payload is no Image (Object missing required field `data`)"),
    ],
)  # fmt: skip
def test_what_is_no_picture(data: bytes, why: str) -> None:
    assert malformed(read_image, data) == why


def test_a_picture_of_another_program() -> None:
    grey = np.full((16, 24, 3), 90, np.uint8)
    for suffix in (".jpg", ".png"):
        data = cv2.imencode(suffix, grey)[1].tobytes()
        image = decode_picture(data, CAMERA)
        assert image.data.shape == grey.shape
        assert np.abs(image.data.astype(int) - 90).max() <= 1
        assert image.camera is CAMERA
    why = "the payload is no picture that OpenCV can decode"
    assert malformed(decode_picture, b"") == why
    assert malformed(decode_picture, b"\xff\xd8nothing") == why


def test_whose_stamp_it_is() -> None:
    own = Header("Image", captured_ns=1000, age_ns=50, boot=boot_id())
    assert capture_stamp(own, 2000) == (1000, True)
    assert capture_stamp(own, 999) == (949, False)  # it cannot be captured later than it came
    other = Header("Image", captured_ns=1000, age_ns=50, boot="another")
    assert capture_stamp(other, 2000) == (1950, False)
    assert capture_stamp(Header("Image", boot=boot_id()), 2000) == (2000, False)
    assert capture_stamp(Header("Image", captured_ns=1000), 2000) == (2000, False)
    assert capture_stamp(None, 2000) == (2000, False)


def test_what_cannot_travel() -> None:
    class Odd(Message):
        value: Any

    with pytest.raises(TypeError, match=r"^a message holds a object: messages hold scalars"):
        pack("", Header("Odd"), Odd(object()))
    assert pack("t", Header("Reading"), Reading(1.0))[0] == b"t"


@given(st.data())
def test_spoilt_bytes_are_read_or_refused(data: st.DataObject) -> None:
    """Nothing but Malformed is raised, and what is read has the size that it says."""
    spoilt = bytearray(data.draw(st.sampled_from([HEADER, PAYLOAD])))
    for _ in range(data.draw(st.integers(1, 4))):
        spoilt[data.draw(st.integers(0, len(spoilt) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(spoilt[: data.draw(st.integers(0, len(spoilt)))])
    for part in (bytes(spoilt), cut):
        for call in (read_header, read_image, decode_picture):
            try:
                found = call(part)
            except Malformed:
                continue
            if isinstance(found, Image):
                assert found.data.size > 0
            else:
                assert isinstance(found, Header)
                struct.pack("<qqq", found.sequence, found.captured_ns, found.age_ns)
