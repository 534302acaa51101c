from collections.abc import Iterable

import pytest
from tests.drivers import harness

from haihe.drivers.framing.ff_frames import Frame, encode, scan

VECTORS = harness.vectors("servo/sts")
FRAMES = [bytes.fromhex(vector["hex"]) for vector in VECTORS]


def feed(chunks: Iterable[bytes]) -> list[Frame]:
    frames: list[Frame] = []
    rest = b""
    for chunk in chunks:
        found = scan(rest + chunk)
        frames += found.frames
        rest = (rest + chunk)[found.consumed :]
    return frames + scan(rest, final=True).frames


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_a_vector_goes_both_ways(vector):
    data, decoded = bytes.fromhex(vector["hex"]), vector["decoded"]
    params = bytes.fromhex(decoded["params"])
    assert encode(decoded["id"], decoded["code"], params) == data
    found = scan(data)
    assert found == ([Frame(decoded["id"], decoded["code"], params)], len(data), 0, 0)


@pytest.mark.parametrize(
    "check",
    [
        harness.check_chunking,
        harness.check_chunked_noise,
        harness.check_garbage,
        harness.check_truncation,
        harness.check_bit_flips_loosely,
    ],
)
def test_stream_properties(check):
    check(feed, FRAMES)


def test_a_reader_that_knows_the_size_loses_one_frame_only():
    block = [bytes.fromhex(v["hex"]) for v in VECTORS if v["name"] == "status_block"]

    def feed_sized(chunks: Iterable[bytes]) -> list[Frame]:
        return scan(b"".join(chunks), True, 15).frames

    harness.check_bit_flips(feed_sized, 3 * block)
    harness.check_truncation(feed_sized, 3 * block)
    harness.check_garbage(feed_sized, 3 * block)


def test_a_length_two_too_long_adds_up():
    first, second = bytes.fromhex("ffff0104001805dd"), bytes.fromhex("ffff0204001805dc")
    spoilt = bytearray(first)
    spoilt[3] += 2
    swallowed = scan(bytes(spoilt) + second, final=True).frames
    assert swallowed == [Frame(1, 0, b"\x18\x05\xdd\xff")]
    assert scan(bytes(spoilt) + second, True, 2).frames == [Frame(2, 0, b"\x18\x05")]


def test_counts_do_not_depend_on_the_chunks():
    stream = b"\x00\xff" + FRAMES[0] + b"\xff\xff\xff" + FRAMES[1][:-1] + b"\x00" + FRAMES[2]
    whole = scan(stream)
    bad = skipped = 0
    rest = b""
    for i in range(len(stream)):
        rest += stream[i : i + 1]
        found = scan(rest)
        bad, skipped = bad + found.bad_checksum, skipped + found.skipped
        rest = rest[found.consumed :]
    assert (bad, skipped) == (whole.bad_checksum, whole.skipped)
    assert bad == 1
    assert skipped == len(stream) - len(FRAMES[0]) - len(FRAMES[2])


def test_a_wrong_sum_and_a_cut_frame():
    wrong = scan(bytes.fromhex("ffff010201fa"), final=True)
    assert (wrong.frames, wrong.bad_checksum, wrong.skipped) == ([], 1, 6)
    cut = bytes.fromhex("ffff01")
    assert scan(cut) == ([], 0, 0, 0)
    assert scan(cut, final=True) == ([], 3, 0, 3)


def test_a_length_that_promises_too_much_hides_nothing_at_the_end():
    greedy = b"\xff\xff\x01\xf0\x00" + FRAMES[2]
    assert scan(greedy).frames == []
    assert scan(greedy, final=True).frames == [Frame(1, 0, b"\x18\x05")]


def test_too_many_parameters_are_refused():
    with pytest.raises(ValueError, match="frame for id 7: 251 parameters, at most 250"):
        encode(7, 3, bytes(251))
