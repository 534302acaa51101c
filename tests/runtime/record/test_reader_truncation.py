import random
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mcap.writer import CompressionType, Writer

from haihe.runtime.errors import RecordError
from haihe.runtime.record.packer import McapPacker
from haihe.runtime.record.reader import McapReader

Row = tuple[int, int, int, int, bytes]


def parse_live(data: bytes) -> tuple[list[Row], list[int], int]:
    """Independent of our reader: whole messages, where each record starts, bytes left over."""
    rows: list[Row] = []
    starts: list[int] = []
    position = 8
    while position + 9 <= len(data):
        (length,) = struct.unpack("<Q", data[position + 1 : position + 9])
        if position + 9 + length > len(data):
            break
        body = data[position + 9 : position + 9 + length]
        if data[position] == 5:
            channel, sequence = struct.unpack("<HI", body[:6])
            log_ns, publish_ns = struct.unpack("<QQ", body[6:22])
            rows.append((channel, sequence, log_ns, publish_ns, body[22:]))
        starts.append(position)
        position += 9 + length
        if data[position - 29] == 2 and length == 20:  # the footer; the magic follows
            position += 8 if data[position : position + 8] == data[:8] else 0
            break
    return rows, starts, len(data) - position if len(data) >= 8 else len(data)


def read(path: Path) -> tuple[list[Row], McapReader]:
    with McapReader(path) as reader:
        rows = [(m.channel, m.sequence, m.log_ns, m.publish_ns, m.data) for m in reader.messages()]
        assert reader.message_count == len(rows)
        list(reader.attachments())
        reader.metadata()
        return rows, reader


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("live") / "live.mcap"
    rng = random.Random(7)
    with McapPacker(path) as packer:
        packer.add_metadata("plan", {"hash": "77"})
        channels = [packer.add_channel(t, schema_name=t) for t in ("joints", "camera")]
        for i in range(300):
            big = i % 30 == 0
            data = rng.randbytes(3000 if big else rng.randrange(80))
            packer.append(channels[big], i, 1000 - i, i, data)
    return path.read_bytes()


def write_chunked(path: Path, compression: CompressionType) -> None:
    """By the stock writer: chunks of about 2 KB, a channel that appears late."""
    rng = random.Random(8)
    with path.open("wb") as stream:
        writer = Writer(stream, chunk_size=2000, compression=compression)
        writer.start("haihe", "test")
        writer.add_metadata("plan", {"hash": "77"})
        writer.add_attachment(1, 2, "calibration.yaml", "text/yaml", b"a: 1")
        channels = [writer.register_channel("joints", "msgpack", 0)]
        for i in range(300):
            if i == 150:
                channels.append(writer.register_channel("late", "msgpack", 0))
            channel = channels[-1 if i % 3 == 0 else 0]
            writer.add_message(channel, 1000 - i, rng.randbytes(rng.randrange(80)), i, i)
        writer.finish()


@pytest.fixture(scope="module", params=list(CompressionType), ids=lambda c: c.name)
def chunked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("chunked") / "chunked.mcap"
    write_chunked(path, request.param)
    return path.read_bytes()


def check_live_cut(data: bytes, cut: int, path: Path) -> None:
    path.write_bytes(data[:cut])
    expected, _, left = parse_live(data[:cut])
    rows, reader = read(path)
    assert rows == expected, cut
    assert reader.complete == (cut == len(data)), cut
    assert reader.dropped_bytes == left, cut


def test_cut_at_every_offset_of_the_last_records(live: bytes, tmp_path: Path) -> None:
    rows, starts, left = parse_live(live)
    assert (len(rows), left) == (300, 0)
    assert [live[start] for start in starts[-4:]] == [5, 5, 15, 2]
    for cut in range(starts[-4], len(live) + 1):
        check_live_cut(live, cut, tmp_path / "cut.mcap")


def test_cut_at_every_offset_of_the_first_records(live: bytes, tmp_path: Path) -> None:
    _, starts, _ = parse_live(live)
    for cut in range(starts[7]):
        check_live_cut(live, cut, tmp_path / "cut.mcap")


def test_cut_at_random_offsets(live: bytes, tmp_path: Path) -> None:
    rng = random.Random(1)
    for cut in rng.sample(range(len(live)), 200):
        check_live_cut(live, cut, tmp_path / "cut.mcap")


def test_zeros_after_a_power_loss_are_the_cut(live: bytes, tmp_path: Path) -> None:
    _, starts, _ = parse_live(live)
    (tmp_path / "a.mcap").write_bytes(live[: starts[100]] + bytes(4096))
    rows, reader = read(tmp_path / "a.mcap")
    assert rows == parse_live(live[: starts[100]])[0]
    assert (reader.dropped_bytes, reader.complete) == (4096, False)


@pytest.mark.parametrize("length", [2**64 - 1, 2**63, 2**40, 2**31])
def test_a_huge_length_is_the_cut(live: bytes, tmp_path: Path, length: int) -> None:
    _, starts, _ = parse_live(live)
    at = starts[100]
    damaged = live[: at + 1] + struct.pack("<Q", length) + live[at + 9 :]
    (tmp_path / "a.mcap").write_bytes(damaged)
    rows, reader = read(tmp_path / "a.mcap")
    assert rows == parse_live(live[:at])[0]
    assert reader.dropped_bytes == len(live) - at


def test_bytes_after_the_end_are_counted(live: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.mcap").write_bytes(live + b"garbage")
    rows, reader = read(tmp_path / "a.mcap")
    assert len(rows) == 300
    assert (reader.complete, reader.dropped_bytes) == (True, 7)


def test_messages_of_an_undeclared_channel_are_counted(live: bytes, tmp_path: Path) -> None:
    _, starts, _ = parse_live(live)
    alien = struct.pack("<BQHIQQ", 5, 25, 99, 0, 0, 0) + b"abc"
    short = struct.pack("<BQ", 5, 3) + b"abc"
    at = starts[100]
    (tmp_path / "a.mcap").write_bytes(live[:at] + alien + short + live[at:])
    rows, reader = read(tmp_path / "a.mcap")
    assert len(rows) == 300
    assert (reader.complete, reader.dropped_bytes) == (True, len(alien) + len(short))


def chunk_places(data: bytes) -> list[tuple[int, int]]:
    """Start and end of each chunk, by the independent walk."""
    places, position = [], 8
    while position + 9 <= len(data) - 8:
        (length,) = struct.unpack("<Q", data[position + 1 : position + 9])
        if data[position] == 6:
            places.append((position, position + 9 + length))
        position += 9 + length
    return places


def chunk_counts(data: bytes) -> list[int]:
    """Messages in each chunk, from the message indexes (16 bytes an entry) behind it."""
    counts: list[int] = []
    position = 8
    while position + 9 <= len(data) - 8:
        (length,) = struct.unpack("<Q", data[position + 1 : position + 9])
        if data[position] == 6:
            counts.append(0)
        elif data[position] == 7:
            (octets,) = struct.unpack("<I", data[position + 11 : position + 15])
            counts[-1] += octets // 16
        position += 9 + length
    return counts


def test_chunked_file_cut_anywhere_gives_all_whole_chunks(chunked: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.mcap"
    path.write_bytes(chunked)
    everything, reader = read(path)
    assert [row[1] for row in everything] == list(range(300))  # the order of appending
    assert (reader.complete, reader.dropped_bytes, reader.is_finished) == (True, 0, True)
    ends, counts = [end for _, end in chunk_places(chunked)], chunk_counts(chunked)
    assert len(ends) > 5
    assert sum(counts) == 300
    rng = random.Random(2)
    edges = [end + d for end in ends for d in (-1, 0, 1)]
    for cut in [*rng.sample(range(len(chunked)), 200), *edges]:
        path.write_bytes(chunked[:cut])
        rows, reader = read(path)
        assert (
            rows == everything[: sum(n for n, end in zip(counts, ends, strict=True) if end <= cut)]
        )
        assert not reader.complete


def test_a_broken_chunk_is_skipped_and_counted(chunked: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.mcap"
    path.write_bytes(chunked)
    everything, _ = read(path)
    counts = chunk_counts(chunked)
    for broken, (start, end) in enumerate(chunk_places(chunked)):
        damaged = bytearray(chunked)
        damaged[end - 5] ^= 0x10
        path.write_bytes(damaged)
        rows, reader = read(path)
        before = sum(counts[:broken])
        # Channels declared in the broken chunk come from the summary.
        assert rows == everything[:before] + everything[before + counts[broken] :]
        assert (reader.complete, reader.dropped_bytes) == (True, end - start)
        assert not reader.is_finished


def test_no_mcap_file_says_so(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"hello world")
    with pytest.raises(RecordError) as caught:
        McapReader(path)
    assert str(caught.value) == (
        f"recording {path}: not an MCAP file: it begins with 68 65 6c 6c 6f 20 77 6f, "
        "expected 89 4d 43 41 50 30 0d 0a. Check the path."
    )
    with pytest.raises(RecordError, match=r"cannot open: No such file.*Check the path"):
        McapReader(tmp_path / "none.mcap")
    with pytest.raises(RecordError, match=r"cannot open: Is a directory"):
        McapReader(tmp_path)


def test_a_closed_reader_says_so(live: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.mcap").write_bytes(live)
    _, reader = read(tmp_path / "a.mcap")
    with pytest.raises(RecordError, match="the reader is closed"):
        next(reader.messages())


def test_a_file_cut_while_it_is_read_says_so(live: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.mcap"
    path.write_bytes(live)
    with McapReader(path) as reader:
        path.write_bytes(live[:5000])
        with pytest.raises(RecordError, match="cut while it was read"):
            list(reader.messages())


def test_a_growing_file_is_read_as_it_was_when_opened(live: bytes, tmp_path: Path) -> None:
    _, starts, _ = parse_live(live)
    path = tmp_path / "a.mcap"
    path.write_bytes(live[: starts[50] + 3])
    with McapReader(path) as reader:
        path.write_bytes(live)
        assert len(list(reader.messages())) == reader.message_count < 50


def read_or_record_error(data: bytes, path: Path) -> None:
    path.write_bytes(data)
    try:
        rows, reader = read(path)
    except RecordError:
        return
    assert reader.dropped_bytes >= 0
    assert all(row[0] in reader.channels for row in rows)


GARBAGE = settings(max_examples=300, deadline=None)


@GARBAGE
@given(st.binary(max_size=400), st.booleans())
def test_garbage_raises_only_record_errors(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, with_magic: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / "garbage.mcap"
    read_or_record_error((b"\x89MCAP0\r\n" if with_magic else b"") + data, path)


RECORDS = st.lists(st.tuples(st.integers(0, 20), st.binary(max_size=60)), max_size=12)


@GARBAGE
@given(RECORDS)
def test_garbage_in_well_framed_records(
    tmp_path_factory: pytest.TempPathFactory, records: list[tuple[int, bytes]]
) -> None:
    data = b"".join(struct.pack("<BQ", op, len(body)) + body for op, body in records)
    chunk = struct.pack("<QQQI", 0, 0, len(data), 0) + bytes(4) + struct.pack("<Q", len(data))
    framed = struct.pack("<BQ", 6, len(chunk) + len(data)) + chunk + data
    path = tmp_path_factory.getbasetemp() / "framed.mcap"
    read_or_record_error(b"\x89MCAP0\r\n" + data + framed, path)


FLIPS = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=8)


@GARBAGE
@given(FLIPS)
def test_damaged_live_file(
    tmp_path_factory: pytest.TempPathFactory, live: bytes, flips: list[tuple[float, int]]
) -> None:
    damaged = bytearray(live)
    for where, value in flips:
        damaged[int(where * len(damaged))] = value
    read_or_record_error(bytes(damaged), tmp_path_factory.getbasetemp() / "damaged.mcap")


@GARBAGE
@given(FLIPS)
def test_damaged_chunked_file(
    tmp_path_factory: pytest.TempPathFactory, chunked: bytes, flips: list[tuple[float, int]]
) -> None:
    damaged = bytearray(chunked)
    for where, value in flips:
        damaged[int(where * len(damaged))] = value
    read_or_record_error(bytes(damaged), tmp_path_factory.getbasetemp() / "damaged.mcap")
