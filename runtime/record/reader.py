"""Reads any haihe recording: live, cut off anywhere, or finished (chunked and compressed).

Opening scans the file once up to the cut, which is the first record that is not whole: its
length runs over the end of the file, or its opcode is 0 (blocks that a power loss left empty).
A whole record that cannot be used (broken chunk, malformed body, message without a channel) is
skipped. Both are counted in `dropped_bytes`. Messages come in the order they were appended.
Layout: see packer.py. A chunk is: start, end u64, size u64, crc u32, compression, u64, records.
"""

import os
import struct
import zlib
from collections.abc import Iterator
from types import TracebackType
from typing import Self

import msgspec

from haihe.runtime.errors import RecordError
from haihe.runtime.record.packer import (
    ATTACHMENT,
    CHANNEL,
    CHUNK,
    CHUNK_INDEX,
    FOOTER,
    HEADER,
    MAGIC,
    MESSAGE,
    METADATA,
    SCHEMA,
)

_BLOCK_SIZE = 1 << 18
_CHUNK_LIMIT = 1 << 30  # a larger size in a chunk's head is damage, not data
_HEAD = struct.Struct("<BQ")
_MESSAGE = struct.Struct("<HIQQ")
_CHUNK = struct.Struct("<QQQI")
_U16 = struct.Struct("<H")
_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")


class SchemaInfo(msgspec.Struct, frozen=True):
    """How the messages of a channel are described."""

    id: int
    name: str
    encoding: str
    data: bytes


class ChannelInfo(msgspec.Struct, frozen=True):
    """A channel of a recording; schema_id is 0 when it has no schema."""

    id: int
    topic: str
    encoding: str
    schema_name: str
    metadata: dict[str, str]
    schema_id: int = 0
    schema_encoding: str = ""
    schema: bytes = b""


class RawMessage(msgspec.Struct, frozen=True, gc=False):
    """One message as it was appended, times in ns."""

    channel: int
    sequence: int
    log_ns: int
    publish_ns: int
    data: bytes


class Attachment(msgspec.Struct, frozen=True, gc=False):
    """A file inside the recording, times in ns."""

    log_ns: int
    create_ns: int
    name: str
    media_type: str
    data: bytes


class _Damaged(Exception):
    """The body of a record does not parse."""


class _Body:
    """Fields of one record's body, in order; raises _Damaged past its end."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = 0

    def number(self, form: struct.Struct) -> int:
        value: int = form.unpack(self.take(form.size))[0]
        return value

    def take(self, size: int) -> bytes:
        end = self.position + size
        if end > len(self.data):
            raise _Damaged
        part = self.data[self.position : end]
        self.position = end
        return part

    def string(self) -> str:
        try:
            return self.take(self.number(_U32)).decode()
        except UnicodeDecodeError as exc:
            raise _Damaged from exc

    def map(self) -> dict[str, str]:
        inner = _Body(self.take(self.number(_U32)))
        items: dict[str, str] = {}
        while inner.position < len(inner.data):
            key = inner.string()
            items[key] = inner.string()
        return items


class _Window:
    """Buffered reading at any place of a file that others read too (no shared position)."""

    def __init__(self, path: str, fd: int) -> None:
        self._path = path
        self._fd = fd
        self._start = 0
        self._block = b""

    def at(self, position: int, size: int) -> bytes:
        """`size` bytes at `position`, which lie inside the file as it was opened."""
        offset = position - self._start
        if offset < 0 or offset + size > len(self._block):
            try:
                block = os.pread(self._fd, max(size, _BLOCK_SIZE), position)
            except OSError as exc:
                raise RecordError(
                    f"recording {self._path}: cannot read at byte {position}: {exc.strerror}. "
                    "Copy what the disk still gives (ddrescue), then open the copy."
                ) from exc
            if len(block) < size:
                raise RecordError(
                    f"recording {self._path}: {len(block)} bytes at byte {position}, expected "
                    f"{size}: the file was cut while it was read. Open it again."
                )
            if size > _BLOCK_SIZE:
                return block
            self._start, self._block, offset = position, block, 0
        return self._block[offset : offset + size]


class McapReader:
    """An opened recording; the file is read as it was at this moment, also when it still grows.

    channels, schemas: by id. complete: the recorder closed the file. dropped_bytes: bytes that
    could not be used (of a broken chunk: compressed). size: of the file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Open and scan. Raises RecordError when it cannot be read or is no MCAP file."""
        self.path = os.fspath(path)
        self.profile = ""
        self.library = ""
        self.channels: dict[int, ChannelInfo] = {}
        self.schemas: dict[int, SchemaInfo] = {}
        self.metadata_records: list[tuple[str, dict[str, str]]] = []
        self.message_count = 0
        self.complete = False
        self.dropped_bytes = 0
        self.compressions: set[str] = set()
        self._loose_messages = 0
        self._chunk_indexes = 0
        self._summary_start = 0
        self._chunks: set[int] = set()
        self._foreign: dict[int, list[int]] = {}  # channel: messages, bytes; until declared
        try:
            self._file = open(self.path, "rb", buffering=0)  # noqa: SIM115 - closed by close()
            self.size = os.fstat(self._file.fileno()).st_size
        except OSError as exc:
            raise RecordError(
                f"recording {self.path}: cannot open: {exc.strerror}. Check the path."
            ) from exc
        try:
            self._scan()
        except BaseException:
            self.close()
            raise

    @property
    def is_finished(self) -> bool:
        """Whether `fix.finish` has nothing to do: chunked, indexed and undamaged."""
        whole = self.complete and not self.dropped_bytes and not self._loose_messages
        return whole and self._summary_start > 0 and self._chunk_indexes == len(self._chunks)

    def metadata(self) -> dict[str, dict[str, str]]:
        """Named maps of strings; the last one where a name came twice."""
        return dict(self.metadata_records)

    def messages(self, topics: set[str] | None = None) -> Iterator[RawMessage]:
        """All messages (of these topics) in the order they were appended."""
        wanted = {
            info.id for info in self.channels.values() if topics is None or info.topic in topics
        }
        window = self._window()
        for opcode, start, size in self._records(window):
            if opcode == MESSAGE and size >= _MESSAGE.size:
                channel, sequence, log_ns, publish_ns = _MESSAGE.unpack(
                    window.at(start, _MESSAGE.size)
                )
                if channel in wanted:
                    data = window.at(start + _MESSAGE.size, size - _MESSAGE.size)
                    yield RawMessage(channel, sequence, log_ns, publish_ns, data)
            elif opcode == CHUNK and start in self._chunks:
                yield from _chunk_messages(self._unpack(window.at(start, size)), wanted)

    def attachments(self) -> Iterator[Attachment]:
        """All attachments, in file order."""
        window = self._window()
        for opcode, start, size in self._records(window):
            if opcode == ATTACHMENT:
                try:
                    yield _attachment(window.at(start, size))
                except _Damaged:
                    continue  # counted by the scan

    def close(self) -> None:
        """Close the file; safe to call twice."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            self._file.close()

    def _window(self) -> _Window:
        if self._file.closed:
            raise RecordError(f"recording {self.path}: the reader is closed. Open it again.")
        return _Window(self.path, self._file.fileno())

    def _records(self, window: _Window) -> Iterator[tuple[int, int, int]]:
        """Opcode, place and size of the body of every whole record up to the cut."""
        position = len(MAGIC)
        opcode = 0
        while opcode != FOOTER:
            if self.size - position < _HEAD.size:
                return
            opcode, size = _HEAD.unpack(window.at(position, _HEAD.size))
            position += _HEAD.size
            if opcode == 0 or size > self.size - position:
                return
            yield opcode, position, size
            position += size

    def _scan(self) -> None:
        window = self._window()
        magic = window.at(0, min(self.size, len(MAGIC)))
        if magic != MAGIC[: len(magic)]:
            raise RecordError(
                f"recording {self.path}: not an MCAP file: it begins with {magic.hex(' ')}, "
                f"expected {MAGIC.hex(' ')}. Check the path."
            )
        end = len(magic) if magic == MAGIC else 0
        for opcode, start, size in self._records(window):
            end = start + size
            try:
                self._note(window, opcode, start, size)
            except _Damaged:
                self.dropped_bytes += _HEAD.size + size
            if opcode == FOOTER and self._is_magic(window, end):
                self.complete = True
                end += len(MAGIC)
        self.dropped_bytes += self.size - end
        for channel, (count, octets) in self._foreign.items():
            if channel not in self.channels:
                self.message_count -= count
                self.dropped_bytes += octets
        self._add_schemas()

    def _is_magic(self, window: _Window, position: int) -> bool:
        return self.size - position >= len(MAGIC) and window.at(position, len(MAGIC)) == MAGIC

    def _note(self, window: _Window, opcode: int, start: int, size: int) -> None:
        if opcode == MESSAGE:
            if size < _MESSAGE.size:
                raise _Damaged
            self._loose_messages += 1
            self._count(_U16.unpack(window.at(start, 2))[0], size)
        elif opcode == CHUNK:
            data = self._unpack(window.at(start, size))
            records = list(_chunk_records(data))  # all whole, or it raises before any is noted
            for inner, place, length in records:
                if inner in (SCHEMA, CHANNEL):
                    self._declare(inner, data[place : place + length])
            for inner, place, length in records:
                if inner == MESSAGE:
                    self._count(_U16.unpack_from(data, place)[0], length)
            self._chunks.add(start)
        elif opcode == ATTACHMENT:
            _attachment(window.at(start, size))
        elif opcode == CHUNK_INDEX:
            self._chunk_indexes += 1
        elif opcode in (HEADER, FOOTER, SCHEMA, CHANNEL, METADATA):
            self._declare(opcode, window.at(start, size))

    def _count(self, channel: int, size: int) -> None:
        self.message_count += 1
        if channel not in self.channels:
            foreign = self._foreign.setdefault(channel, [0, 0])
            foreign[0] += 1
            foreign[1] += _HEAD.size + size

    def _declare(self, opcode: int, data: bytes) -> None:
        body = _Body(data)
        if opcode == CHANNEL:
            channel, schema_id = body.number(_U16), body.number(_U16)
            topic, encoding = body.string(), body.string()
            info = ChannelInfo(channel, topic, encoding, "", body.map(), schema_id)
            self.channels.setdefault(channel, info)
        elif opcode == SCHEMA:
            schema_id, name, encoding = body.number(_U16), body.string(), body.string()
            schema = SchemaInfo(schema_id, name, encoding, body.take(body.number(_U32)))
            if schema_id:  # 0 means no schema
                self.schemas.setdefault(schema_id, schema)
        elif opcode == METADATA:
            self.metadata_records.append((body.string(), body.map()))
        elif opcode == HEADER:
            self.profile, self.library = body.string(), body.string()
        elif opcode == FOOTER:
            self._summary_start = body.number(_U64)

    def _add_schemas(self) -> None:
        for channel, info in self.channels.items():
            schema = self.schemas.get(info.schema_id)
            if schema is not None:
                self.channels[channel] = msgspec.structs.replace(
                    info,
                    schema_name=schema.name,
                    schema_encoding=schema.encoding,
                    schema=schema.data,
                )

    def _unpack(self, chunk: bytes) -> bytes:
        """The records of a chunk. Raises _Damaged."""
        body = _Body(chunk)
        _, _, size, crc = _CHUNK.unpack(body.take(_CHUNK.size))
        compression = body.string()
        packed = body.take(body.number(_U64))
        if size > _CHUNK_LIMIT:
            raise _Damaged
        try:
            data = _decompress(packed, compression, size)
        except ImportError as exc:
            raise RecordError(
                f"recording {self.path}: it is compressed with {compression}, and {exc.name} is "
                "not installed. Run: pip install zstandard lz4"
            ) from exc
        if len(data) != size or (crc and zlib.crc32(data) != crc):
            raise _Damaged
        self.compressions.add(compression)
        return data


def _decompress(packed: bytes, compression: str, size: int) -> bytes:
    """Never gives (nor asks memory for) more than `size` bytes. Raises _Damaged."""
    if compression == "":
        return packed
    if compression == "zstd":
        import zstandard

        try:
            if zstandard.frame_content_size(packed) not in (-1, size):
                raise _Damaged
            return zstandard.ZstdDecompressor().decompress(packed, max_output_size=size)
        except zstandard.ZstdError as exc:
            raise _Damaged from exc
    if compression == "lz4":
        import lz4.frame  # type: ignore[import-untyped]

        try:
            data: bytes = lz4.frame.LZ4FrameDecompressor().decompress(packed, max_length=size)
        except RuntimeError as exc:
            raise _Damaged from exc
        return data
    raise _Damaged


def _chunk_records(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Opcode, place and size of the body of the records in a chunk. Raises _Damaged."""
    position, end = 0, len(data)
    while position < end:
        if end - position < _HEAD.size:
            raise _Damaged
        opcode, size = _HEAD.unpack_from(data, position)
        position += _HEAD.size
        if opcode == 0 or size > end - position or (opcode == MESSAGE and size < _MESSAGE.size):
            raise _Damaged
        yield opcode, position, size
        position += size


def _chunk_messages(data: bytes, wanted: set[int]) -> Iterator[RawMessage]:
    for opcode, start, size in _chunk_records(data):
        if opcode == MESSAGE:
            channel, sequence, log_ns, publish_ns = _MESSAGE.unpack_from(data, start)
            if channel in wanted:
                payload = data[start + _MESSAGE.size : start + size]
                yield RawMessage(channel, sequence, log_ns, publish_ns, payload)


def _attachment(data: bytes) -> Attachment:
    body = _Body(data)
    log_ns, create_ns = body.number(_U64), body.number(_U64)
    name, media_type = body.string(), body.string()
    return Attachment(log_ns, create_ns, name, media_type, body.take(body.number(_U64)))
