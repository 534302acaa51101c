"""Records on their way through shared memory, against a model; a writer that is killed."""

import contextlib
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from haihe.runtime.errors import RecordError
from haihe.runtime.record.relay import (
    START,
    WRITTEN,
    Message,
    RelayReader,
    RelayWriter,
    relay_memory,
)
from haihe.runtime.record.sink import Frames
from haihe.runtime.types import Detections, Image, decode

HEAD = 4 + 2 + 4 + 8 + 8
SIZE = 200


@contextlib.contextmanager
def relay(size: int = SIZE) -> Iterator[tuple[RelayWriter, RelayReader]]:
    fd = relay_memory(size)
    writer, reader = RelayWriter(fd, "lossless"), RelayReader(fd)
    try:
        yield writer, reader
    finally:
        writer.close()
        reader.close()
        writer.close()  # twice is once
        os.close(fd)


messages = st.tuples(
    st.text("abé/", max_size=9),
    st.integers(0, 2**32 - 1),
    st.integers(-(2**63), 2**63 - 1),
    st.integers(-(2**63), 2**63 - 1),
    st.binary(max_size=SIZE),
)
# a message, "read all", or "read one and look no further"
steps = st.lists(st.one_of(messages, st.just("all"), st.just("one")), max_size=60)


@given(steps)
@settings(max_examples=150, deadline=None)
def test_what_fits_is_read_in_order_and_the_rest_is_counted(taken: list[Message | str]) -> None:
    waiting: deque[Message] = deque()
    free, lost = SIZE, 0
    with relay() as (writer, reader):
        for step in [*taken, "all"]:
            if isinstance(step, tuple):
                size = HEAD + len(step[0].encode()) + len(step[4])
                if size <= free:
                    free -= size
                    waiting.append(step)
                else:
                    lost += 1
                writer.append(*step)
            else:
                count = len(waiting) if step == "all" else min(1, len(waiting))
                expected = [waiting.popleft() for _ in range(count)]
                found = list(reader.take()) if step == "all" else one_of(reader)
                assert found == expected
                free += sum(HEAD + len(m[0].encode()) + len(m[4]) for m in expected)
            assert reader.lost == lost
        assert list(reader.take()) == []


def one_of(reader: RelayReader) -> list[Message]:
    """The next message; the rest waits."""
    message = next(reader.take(), None)
    return [] if message is None else [message]


def test_the_ring_is_full_to_the_byte_and_one_more_is_lost() -> None:
    with relay() as (writer, reader):
        writer.append("t", 1, 2, 3, bytes(SIZE - HEAD - 1))
        writer.append("", 2, 2, 3, b"")
        assert reader.lost == 1
        assert [m[1] for m in reader.take()] == [1]
        writer.append("t", 3, 2, 3, bytes(SIZE - HEAD))  # a byte too long for any ring of that size
        assert reader.lost == 2
        assert list(reader.take()) == []


def test_another_writer_goes_on_where_the_last_one_was() -> None:
    fd = relay_memory(SIZE)
    with contextlib.closing(RelayReader(fd)) as reader:
        for number in range(1, 20):
            with contextlib.closing(RelayWriter(fd, "none")) as writer:
                writer.append("a", number, 0, 0, bytes(37))
                if number % 7 == 0:
                    writer.append("a", number, 0, 0, bytes(SIZE))
            assert [m[1] for m in reader.take()] == [number]
        assert reader.lost == 2
    os.close(fd)


WRITER = """
import sys
from haihe.runtime.record.relay import RelayWriter
writer = RelayWriter(int(sys.argv[1]), "none")
number = 0
while True:
    number += 1
    writer.append(f"lane/{number % 7}", number, number, -number, number.to_bytes(4, "little")
                  * (number % 50))
"""


def test_what_a_writer_had_written_is_read_after_its_kill() -> None:
    size = 4096
    fd = relay_memory(size)
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(fd)], pass_fds=[fd])
    with contextlib.closing(RelayReader(fd)) as reader:
        numbers: list[int] = []
        try:
            while len(numbers) < 3000:
                numbers += checked(reader)
                assert writer.poll() is None
        finally:
            writer.send_signal(signal.SIGKILL)
            writer.wait()
        numbers += checked(reader)
        assert checked(reader) == []
        assert numbers == sorted(set(numbers))
        assert numbers[-1] - len(numbers) <= reader.lost  # what is missing was counted
        memory = memoryview(os.pread(fd, START, 0)).cast("Q")
        assert memory[WRITTEN] == sum(HEAD + len(f"lane/{n % 7}") + 4 * (n % 50) for n in numbers)
    os.close(fd)


def checked(reader: RelayReader) -> list[int]:
    """The numbers that came, each message compared with what its number says."""
    found = []
    for topic, number, log_ns, publish_ns, data in reader.take():
        assert (topic, log_ns, publish_ns) == (f"lane/{number % 7}", number, -number)
        assert data == number.to_bytes(4, "little") * (number % 50)
        found.append(number)
    return found


COUNTER = """
import sys
from haihe.runtime.record.relay import RelayWriter
writer = RelayWriter(int(sys.argv[1]), "none")
while True:
    writer.append("", 1, 1, 1, bytes(100))
"""


def test_a_count_is_never_seen_half_written() -> None:
    fd = relay_memory(1 << 22)
    writer = subprocess.Popen([sys.executable, "-c", COUNTER, str(fd)], pass_fds=[fd])
    with contextlib.closing(RelayReader(fd)) as reader:
        try:
            last = 0
            while last < 1 << 21:
                seen = reader._counts[WRITTEN]
                assert seen >= last
                assert seen % (HEAD + 100) == 0
                last = seen
        finally:
            writer.kill()
            writer.wait()
    os.close(fd)


# --- what goes in (sink.py) -----------------------------------------------------------------------

FORMS: tuple[Frames, ...] = ("none", "jpeg")
PICTURE = Image(np.arange(4 * 4 * 3, dtype=np.uint8).reshape(4, 4, 3))


def test_every_kind_of_record_has_its_topic_and_times() -> None:
    with relay(1 << 16) as (writer, reader):
        writer.block("control", b"block", 7, 70)
        writer.output("part", 3, 30, Detections.none())
        writer.stream("front.image", 5, 50, 55, PICTURE)
        writer.keyframe("control", 8, 80, b"state")
        writer.orphan("number", (9, PICTURE, 90, 95))
        writer.note("truth", {"unit": "é"}, 100)
        found = list(reader.take())
    assert [m[:4] for m in found] == [
        ("haihe/lane/control", 7, 70, 70),
        ("haihe/output/part", 3, 30, 30),
        ("haihe/stream/front.image", 5, 55, 50),  # at its delivery; published at its capture
        ("haihe/keyframe/control", 8, 80, 80),
        ("haihe/orphan/number", 9, 95, 90),
        ("haihe/note/truth", 0, 100, 100),
    ]
    data = [m[4] for m in found]
    assert (data[0], data[3], data[5]) == (b"block", b"state", '{"unit": "é"}'.encode())
    stamps = (50).to_bytes(8, "little") + (55).to_bytes(8, "little")
    assert data[2][:17] == stamps + b"\1"
    assert np.array_equal(decode(Image, data[2][17:]).data, PICTURE.data)
    assert data[4][:16] == (90).to_bytes(8, "little") + (95).to_bytes(8, "little")
    assert np.array_equal(decode(Image, data[4][16:]).data, PICTURE.data)


def test_pictures_may_be_left_out_or_made_small_but_not_other_messages() -> None:
    fd = relay_memory(1 << 16)
    with contextlib.closing(RelayReader(fd)) as reader:
        for frames in FORMS:
            with contextlib.closing(RelayWriter(fd, frames)) as writer:
                writer.stream("front.image", 1, 2, 3, PICTURE)
                writer.stream("front.parts", 1, 2, 3, Detections.none())
        bare, parts, small, again = (m[4] for m in reader.take())
    os.close(fd)
    assert bare[16:] == b"\0"
    assert small[16:19] == b"\2\xff\xd8"  # the start of a JPEG
    assert parts == again
    assert len(decode(Detections, parts[17:]).scores) == 0


def test_other_ways_to_keep_pictures_are_refused() -> None:
    fd = relay_memory(64)
    with pytest.raises(RecordError) as error:
        RelayWriter(fd, "png")  # type: ignore[arg-type]
    assert str(error.value) == 'frames=\'png\': expected "lossless", "jpeg" or "none".'
    os.close(fd)
