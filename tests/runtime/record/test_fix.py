import os
import random
import tracemalloc
from pathlib import Path

import pytest
from mcap.reader import make_reader

from haihe.runtime.errors import RecordError
from haihe.runtime.record import fix
from haihe.runtime.record.fix import finish
from haihe.runtime.record.packer import McapPacker
from haihe.runtime.record.reader import ChannelInfo, McapReader, RawMessage


def record(path: Path, count: int = 3000, size: int = 200) -> list[RawMessage]:
    rng = random.Random(3)
    expected = []
    with McapPacker(path, profile="haihe-test") as packer:
        packer.add_metadata("plan", {"hash": "1"})
        packer.add_metadata("plan", {"hash": "2"})
        packer.add_channel("never used", metadata={"unit": "m"})
        joints = packer.add_channel("joints", schema_name="Joints", schema=b"s")
        image = packer.add_channel("image", "jpeg", "Image", "json", b"{}", {"lens": "3 mm"})
        for i in range(count):
            channel = image if i % 10 == 0 else joints
            message = RawMessage(channel, i, count - i, i, rng.randbytes(rng.randrange(size)))
            expected.append(message)
            packer.append(channel, i, count - i, i, message.data)
    return expected


def content(path: Path) -> tuple[list[RawMessage], dict[int, ChannelInfo], object, str]:
    with McapReader(path) as reader:
        messages = list(reader.messages())
        return messages, reader.channels, reader.metadata_records, reader.profile


@pytest.mark.parametrize("compression", ["zstd", "lz4", "none"])
def test_finish_keeps_everything_and_adds_indexes(tmp_path: Path, compression: str) -> None:
    path = tmp_path / "a.mcap"
    expected = record(path)
    before = content(path)
    size = path.stat().st_size
    path.chmod(0o640)
    report = finish(path, chunk_size=64 << 10, compression=compression)
    assert content(path) == before
    assert before[0] == expected
    assert report == fix.FixReport(
        str(path), 3000, size, path.stat().st_size, 0, rewritten=True, kept=""
    )
    assert path.stat().st_mode & 0o777 == 0o640
    assert os.listdir(tmp_path) == ["a.mcap"]
    with path.open("rb") as stream:
        summary = make_reader(stream).get_summary()
        assert summary is not None
        assert summary.statistics is not None
        assert summary.statistics.message_count == 3000
        assert len(summary.chunk_indexes) > 3
        assert all(index.message_index_offsets for index in summary.chunk_indexes)
        assert {index.compression for index in summary.chunk_indexes} == {
            "" if compression == "none" else compression
        }
        assert [c.topic for c in summary.channels.values()] == ["never used", "joints", "image"]
        assert len(summary.metadata_indexes) == 2
    with path.open("rb") as stream:
        stock = make_reader(stream, validate_crcs=True).iter_messages(topics=["image"])
        assert [m.sequence for _, _, m in stock] == list(range(2990, -1, -10))  # time order


def test_finish_twice_does_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.mcap"
    record(path)
    first = finish(path)
    data, inode = path.read_bytes(), path.stat().st_ino
    second = finish(path)
    assert (path.read_bytes(), path.stat().st_ino) == (data, inode)
    assert (second.rewritten, second.messages) == (False, 3000)
    assert second.bytes_in == second.bytes_out == first.bytes_out == len(data)
    third = finish(path, compression="lz4")
    assert (third.rewritten, third.messages) == (True, 3000)


def test_a_cut_recording_is_finished(tmp_path: Path) -> None:
    path = tmp_path / "a.mcap"
    expected = record(path)
    data = path.read_bytes()
    rng = random.Random(4)
    for cut in [0, 5, 8, 20, *rng.sample(range(len(data)), 12)]:
        path.write_bytes(data[:cut])
        with McapReader(path) as reader:
            dropped, count = reader.dropped_bytes, reader.message_count
        if not count and dropped:  # nothing would be left of it
            with pytest.raises(RecordError, match="nothing in it can be read"):
                finish(path)
            assert path.read_bytes() == data[:cut]
            continue
        report = finish(path)
        assert (report.dropped_bytes, report.messages, report.kept) == (dropped, count, "")
        assert content(path)[0] == expected[:count]
        assert finish(path).rewritten is False, cut


def test_a_cut_finished_recording_is_finished_again(tmp_path: Path) -> None:
    path = tmp_path / "a.mcap"
    expected = record(path)
    finish(path, chunk_size=32 << 10)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    report = finish(path)
    assert report.dropped_bytes > 0
    assert 1000 < report.messages < 2000
    assert content(path)[0] == expected[: report.messages]


def test_out_leaves_the_source(tmp_path: Path) -> None:
    path, out = tmp_path / "a.mcap", tmp_path / "b.mcap"
    record(path)
    data = path.read_bytes()
    report = finish(path, out)
    assert report.path == str(out)
    assert path.read_bytes() == data
    assert content(out) == content(path)


def test_a_recording_with_no_message_is_finished(tmp_path: Path) -> None:
    path = tmp_path / "a.mcap"
    expected = record(path, count=0)
    assert expected == []
    before = content(path)
    finish(path)
    assert content(path) == before
    assert len(before[1]) == 3
    assert finish(path).rewritten is False


def test_large_damage_keeps_the_original(tmp_path: Path) -> None:
    path = tmp_path / "a.mcap"
    record(path, count=20_000)
    data = bytearray(path.read_bytes())
    data[len(data) // 3 :] = bytes(len(data) - len(data) // 3)
    path.write_bytes(data)
    report = finish(path)
    assert report.dropped_bytes > 1 << 20
    assert report.kept == str(path) + ".damaged"
    assert Path(report.kept).read_bytes() == data


def test_a_live_recording_is_refused_but_can_be_copied(tmp_path: Path) -> None:
    path = tmp_path / "a.mcap"
    with McapPacker(path) as packer:
        packer.append(packer.add_channel("a"), 0, 0, 0, b"x")
        with pytest.raises(RecordError, match=r"a process still writes it. Stop the recorder"):
            finish(path)
        finish(path, tmp_path / "b.mcap")
    assert finish(path).messages == 1


def test_errors_leave_the_recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.mcap"
    record(path, count=10)
    data = path.read_bytes()
    with pytest.raises(RecordError, match=r"unknown compression 'gzip'. Use zstd, lz4 or none"):
        finish(path, compression="gzip")
    with pytest.raises(RecordError, match=r"cannot open: No such file"):
        finish(tmp_path / "none.mcap")
    with pytest.raises(RecordError, match=r"cannot write the finished file.*pass another out"):
        finish(path, tmp_path / "none" / "b.mcap")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(fix, "_copy", full)
    with pytest.raises(RecordError, match="No space left on device"):
        finish(path)
    monkeypatch.setattr(fix, "_copy", lambda *_: None)  # an empty file must not replace it
    with pytest.raises(RecordError, match="holds 0 messages, expected 10"):
        finish(path)
    assert path.read_bytes() == data
    assert os.listdir(tmp_path) == ["a.mcap"]


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.mcap"
    record(path, count=400, size=200_000)
    size = path.stat().st_size
    assert size > 30 << 20
    finish(path, tmp_path / "warm.mcap")  # imports
    tracemalloc.start()
    finish(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 12 << 20
