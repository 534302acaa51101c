import errno
import io
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from mcap.reader import NonSeekingReader
from mcap.records import Message
from mcap.stream_reader import StreamReader

from haihe.runtime.errors import RecordError
from haihe.runtime.record.packer import McapPacker
from haihe.runtime.record.reader import McapReader, RawMessage


def write_sample(path: Path, count: int = 200) -> list[RawMessage]:
    expected = []
    with McapPacker(path) as packer:
        packer.add_metadata("haihe.plan", {"hash": "ab12", "unit": "小车"})
        joints = packer.add_channel("joints", metadata={"unit": "rad"})
        image = packer.add_channel("camera/front", "jpeg", "Image", "jsonschema", b"{}")
        for i in range(count):
            channel = image if i % 7 == 3 else joints
            data = bytes([i % 256]) * (90_000 if i % 50 == 3 else i)
            # Times run backwards now and then: only the order of appending counts.
            expected.append(RawMessage(channel, i, 10**18 + (i ^ 5), 10**18 + i, data))
            packer.append(channel, i, 10**18 + (i ^ 5), 10**18 + i, data)
    return expected


def stock_messages(data: bytes) -> list[RawMessage]:
    return [
        RawMessage(r.channel_id, r.sequence, r.log_time, r.publish_time, r.data)
        for r in StreamReader(io.BytesIO(data), validate_crcs=True).records
        if isinstance(r, Message)
    ]


def test_our_reader_gives_what_was_appended(tmp_path: Path) -> None:
    expected = write_sample(tmp_path / "a.mcap")
    with McapReader(tmp_path / "a.mcap") as reader:
        assert list(reader.messages()) == expected
        assert (reader.complete, reader.dropped_bytes, reader.is_finished) == (True, 0, False)
        assert reader.message_count == len(expected)
        assert (reader.profile, reader.library) == ("haihe", "haihe.runtime.record")
        assert reader.metadata() == {"haihe.plan": {"hash": "ab12", "unit": "小车"}}
        joints, image = reader.channels[1], reader.channels[2]
        assert (joints.topic, joints.encoding, joints.metadata) == (
            "joints",
            "msgpack",
            {"unit": "rad"},
        )
        assert (image.topic, image.encoding, image.schema_name, image.schema_encoding) == (
            "camera/front",
            "jpeg",
            "Image",
            "jsonschema",
        )
        assert image.schema == b"{}"
        only = [m for m in expected if m.channel == 2]
        assert list(reader.messages({"camera/front", "unknown"})) == only


def test_two_iterators_do_not_disturb_each_other(tmp_path: Path) -> None:
    expected = write_sample(tmp_path / "a.mcap")
    with McapReader(tmp_path / "a.mcap") as reader:
        pairs = list(zip(reader.messages(), reader.messages(), strict=True))
    assert pairs == [(m, m) for m in expected]


def test_the_stock_readers_agree(tmp_path: Path) -> None:
    expected = write_sample(tmp_path / "a.mcap")
    data = (tmp_path / "a.mcap").read_bytes()
    assert stock_messages(data) == expected
    reader = NonSeekingReader(io.BytesIO(data))
    rows = list(reader.iter_messages(log_time_order=False))
    assert [m.data for _, _, m in rows] == [m.data for m in expected]
    assert {(c.id, c.topic, c.message_encoding) for _, c, _ in rows} == {
        (1, "joints", "msgpack"),
        (2, "camera/front", "jpeg"),
    }
    schemas = [(s.name, s.encoding, s.data) for s, c, _ in rows if c.id == 2 and s]
    assert set(schemas) == {("Image", "jsonschema", b"{}")}
    metadata = [(m.name, m.metadata) for m in NonSeekingReader(io.BytesIO(data)).iter_metadata()]
    assert metadata == [("haihe.plan", {"hash": "ab12", "unit": "小车"})]


def test_equal_schemas_are_written_once(tmp_path: Path) -> None:
    with McapPacker(tmp_path / "a.mcap") as packer:
        assert [packer.add_channel(t, schema_name="Pose") for t in "abc"] == [1, 2, 3]
    with McapReader(tmp_path / "a.mcap") as reader:
        assert list(reader.schemas) == [1]
        assert {c.schema_id for c in reader.channels.values()} == {1}


def test_views_are_written_without_a_copy_of_their_own(tmp_path: Path) -> None:
    array = memoryview(bytes(range(256)) * 4).cast("B", (32, 32))
    with McapPacker(tmp_path / "a.mcap") as packer:
        channel = packer.add_channel("frame")
        packer.append(channel, 0, 1, 1, array)
        packer.append(channel, 1, 2, 2, memoryview(b""))
    with McapReader(tmp_path / "a.mcap") as reader:
        assert [m.data for m in reader.messages()] == [array.tobytes(), b""]


def test_four_threads_lose_nothing_and_keep_each_channels_order(tmp_path: Path) -> None:
    count = 5000
    packer = McapPacker(tmp_path / "a.mcap")
    shared = packer.add_channel("shared")

    def lane(number: int) -> None:
        own = packer.add_channel(f"lane{number}")
        for i in range(count):
            packer.append(own, i, i, i, b"x" * (i % 40))
            packer.append(shared, i, number, i, b"")

    threads = [threading.Thread(target=lane, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    packer.close()
    assert set(packer.lost.values()) == {0}
    with McapReader(tmp_path / "a.mcap") as reader:
        assert reader.dropped_bytes == 0
        rows: dict[tuple[int, int], list[int]] = {}
        for m in reader.messages():
            key = (m.channel, m.log_ns if m.channel == shared else -1)
            rows.setdefault(key, []).append(m.sequence)
    assert len(rows) == 8
    assert all(sequences == list(range(count)) for sequences in rows.values())
    assert len(stock_messages((tmp_path / "a.mcap").read_bytes())) == 8 * count


def test_over_budget_is_refused_counted_and_kept_in_the_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    packer = McapPacker(tmp_path / "a.mcap", budget_bytes=12_000)
    small = packer.add_channel("small")
    big = packer.add_channel("big")
    for i in range(3):
        packer.append(big, i, i, i, bytes(9000 if i == 2 else 20_000))
    packer.append(small, 0, 0, 0, b"fits")
    with caplog.at_level(logging.WARNING):
        packer.close()
    assert packer.error is None
    assert packer.lost == {small: 0, big: 2}
    assert "messages lost so far: big 2" in caplog.text
    with McapReader(tmp_path / "a.mcap") as reader:
        assert [(m.channel, m.sequence) for m in reader.messages()] == [(big, 2), (small, 0)]
        assert reader.metadata() == {"haihe.lost": {"big": "2"}}


def test_the_budget_comes_back_once_written(tmp_path: Path) -> None:
    with McapPacker(tmp_path / "a.mcap", budget_bytes=10_000) as packer:
        channel = packer.add_channel("a")
        for i in range(20):
            while packer._queued_bytes:
                threading.Event().wait(0.005)
            packer.append(channel, i, i, i, bytes(9000))
        assert packer.lost == {channel: 0}


def test_numbers_that_do_not_fit_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with McapPacker(tmp_path / "a.mcap") as packer:
        channel = packer.add_channel("a")
        for sequence, t_ns in ((1, 5), (1 << 32, 5), (2, -1), (3, 6)):
            packer.append(channel, sequence, t_ns, t_ns, b"abc")
    assert packer.lost == {channel: 2}
    assert packer._queued_bytes == 0
    assert "message on a: " in caplog.text
    with McapReader(tmp_path / "a.mcap") as reader:
        assert [m.sequence for m in reader.messages()] == [1, 3]
        assert reader.dropped_bytes == 0


def test_misuse_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "a.mcap"
    packer = McapPacker(path)
    packer.add_channel("a")
    with pytest.raises(RecordError, match="channel 9: only channels 1 to 1 were added"):
        packer.append(9, 0, 0, 0, b"")
    packer.close()
    packer.close()
    packer.append(1, 0, 0, 0, b"late")
    assert packer.lost == {1: 1}
    with pytest.raises(RecordError, match="it is closed, nothing can be added"):
        packer.add_channel("b")
    with pytest.raises(RecordError, match="it is closed, nothing can be added"):
        packer.add_metadata("b", {})
    with pytest.raises(RecordError, match="cannot create the file: File exists"):
        McapPacker(path)
    with pytest.raises(RecordError, match=r"No such file or directory.*Choose another"):
        McapPacker(tmp_path / "none" / "a.mcap")


class FullDisk:
    """A file whose disk is full after some bytes; the last write is a partial one."""

    def __init__(self, file: Any, room: int) -> None:
        self.file, self.room = file, room

    def write(self, data: memoryview) -> int:
        if not self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        count = min(len(data), self.room)
        self.room -= count
        return int(self.file.write(data[:count]))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


def test_full_disk_is_counted_exactly_and_close_says_it(tmp_path: Path) -> None:
    for room in (0, 1, 999, 1000, 50_000, 199_000):
        path = tmp_path / f"{room}.mcap"
        packer = McapPacker(path)
        channel = packer.add_channel("imu")
        while packer._queued_bytes:
            threading.Event().wait(0.005)
        packer._file = FullDisk(packer._file, room)  # type: ignore[assignment]
        for i in range(200):
            packer.append(channel, i, i, i, bytes(969))  # 1000 bytes a record
        while packer.error is None:
            threading.Event().wait(0.005)
        packer.append(channel, 200, 200, 200, b"after")
        with pytest.raises(RecordError, match="No space left on device") as caught:
            packer.close()
        assert packer.lost == {channel: 201 - room // 1000}
        assert f"lost: imu {201 - room // 1000}. " in str(caught.value)
        assert packer._queued_bytes == 0
        with McapReader(path) as reader:
            assert [m.sequence for m in reader.messages()] == list(range(room // 1000))
            assert reader.dropped_bytes == room % 1000
            assert not reader.complete


LIMITED = """
import resource, sys
from haihe.runtime.errors import RecordError
from haihe.runtime.record.packer import McapPacker
packer = McapPacker(sys.argv[1])
channel = packer.add_channel("imu")
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
for i in range(100):
    packer.append(channel, i, i, i, bytes(969))
try:
    packer.close()
except RecordError as exc:
    print(packer.lost[channel], exc)
"""


def test_a_real_write_error_of_the_kernel(tmp_path: Path) -> None:
    path = tmp_path / "a.mcap"
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(path)], capture_output=True, text=True, check=True
    )
    assert "File too large" in done.stdout
    with McapReader(path) as reader:
        assert int(done.stdout.split()[0]) + reader.message_count == 100
        assert 40 < reader.message_count < 50


KILLED = """
import sys, threading, time
from haihe.runtime.record.packer import McapPacker
packer = McapPacker(sys.argv[1])
channel = packer.add_channel("joints")
for i in range(1_000_000):
    now = time.monotonic_ns()
    packer.append(channel, i, now, now, bytes(144))
    threading.Event().wait(0.0002)
    if i % 100 == 0:
        print(i, flush=True)
"""


@pytest.mark.parametrize("after", [1, 1500, 3100])
def test_kill_9_loses_less_than_the_last_200_ms(tmp_path: Path, after: int) -> None:
    path = tmp_path / "a.mcap"
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, text=True
    )
    printed: list[tuple[int, int]] = []  # (message, when we saw that it was appended)
    with process:
        assert process.stdout is not None
        for line in process.stdout:
            printed.append((int(line), time.monotonic_ns()))
            if printed[-1][0] >= after:
                break
        killed_ns = time.monotonic_ns()
        process.send_signal(signal.SIGKILL)
        rest = process.stdout.read()
    assert process.returncode == -signal.SIGKILL
    assert len(rest) < 10_000
    due = [message for message, seen_ns in printed if killed_ns - seen_ns > 200_000_000]
    with McapReader(path) as reader:
        found = list(reader.messages())
        assert not reader.complete
    assert [m.sequence for m in found] == list(range(len(found)))
    assert not due or len(found) > due[-1]
    assert after == 1 or due
