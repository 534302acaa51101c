"""Frames of the Dynamixel 1.0 kind, spoken by Feetech, Dynamixel AX/MX and their clones.

    FF FF | id | len | code | params ... | sum     len = params + 2, sum = ~(id + ... + params)
    0  1    2    3     4      5            len+3

`code` is the instruction of a request and the error byte of a status. id 0..252, 253 reserved,
254 broadcast; FF is never an id, so `FF FF FF 01 ...` starts at its second byte.
Source: ROBOTIS e-manual, "Protocol 1.0", sections 3 and 4.
"""

from typing import NamedTuple

HEADER = b"\xff\xff"
BROADCAST = 0xFE
OVERHEAD = 6  # header, id, len, code, sum
MAX_PARAMS = 250


class Frame(NamedTuple):
    """One frame whose checksum was right."""

    id: int
    code: int
    params: bytes


class Scan(NamedTuple):
    """What a buffer held; `buffer[consumed:]` is kept and put before the next bytes.

    bad_checksum: headers whose frame did not add up. skipped: bytes outside valid frames.
    """

    frames: list[Frame]
    consumed: int
    bad_checksum: int
    skipped: int


def encode(frame_id: int, code: int, params: bytes = b"") -> bytes:
    """One frame as bytes. Raises ValueError when the parameters do not fit."""
    if len(params) > MAX_PARAMS:
        raise ValueError(f"frame for id {frame_id}: {len(params)} parameters, at most {MAX_PARAMS}")
    body = bytes((frame_id, len(params) + 2, code)) + params
    return HEADER + body + bytes((~sum(body) & 0xFF,))


def scan(buffer: bytes, final: bool = False, params: int = -1) -> Scan:
    """Find the frames in a buffer; never raises, and any chunking finds the same frames.

    After a bad checksum the search goes on one byte further, so a damaged length cannot hide the
    frames behind it. final: nothing more will come (the exchange is over), so an incomplete frame
    is skipped in the same way instead of being waited for. params: the only number of parameters
    to believe, when the asker knows it. It matters: FF counts as -1 in the sum, so a length that is
    1 or 2 too long still adds up when it swallows the next header, and costs two frames.
    """
    frames: list[Frame] = []
    bad = skipped = at = 0
    size = len(buffer)
    while True:
        start = buffer.find(HEADER, at)
        if start < 0:
            end = size
            if not final and size > at and buffer[-1] == 0xFF:
                end -= 1  # may be the first half of a header
            return Scan(frames, end, bad, skipped + end - at)
        skipped += start - at
        at = start
        if size - at > 3:
            length = buffer[at + 3]
            end = at + 4 + length
            if buffer[at + 2] != 0xFF and (length == params + 2 if params >= 0 else length >= 2):
                if end <= size:
                    if sum(buffer[at + 2 : end]) & 0xFF == 0xFF:
                        frames.append(
                            Frame(buffer[at + 2], buffer[at + 4], buffer[at + 5 : end - 1])
                        )
                        at = end
                        continue
                    bad += 1
                elif not final:
                    return Scan(frames, at, bad, skipped)
        elif not final:
            return Scan(frames, at, bad, skipped)
        at += 1
        skipped += 1
