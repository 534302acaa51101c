"""Writes a live recording: unchunked MCAP that is readable after a kill -9.

    magic | Header | (Schema | Channel | Metadata | Message)* | DataEnd | Footer | magic
    record = opcode u8, length u64, body; message body = channel u16, sequence u32, log time u64,
    publish time u64, data; strings and maps carry a u32 byte length; all little-endian

`append` only queues a tuple; a daemon thread packs and writes every 50 ms, a second one calls
fdatasync every second, so that a slow card delays no write. What is lost (budget, disk) is
counted per channel. `fix.finish` turns the file into a chunked, compressed, indexed one.
Source: MCAP format specification 0 (mcap.dev/spec).
"""

import contextlib
import fcntl
import logging
import os
import struct
import threading
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Self

from haihe.runtime.errors import RecordError

log = logging.getLogger(__name__)

MAGIC = b"\x89MCAP0\r\n"
HEADER, FOOTER, SCHEMA, CHANNEL, MESSAGE, CHUNK = 1, 2, 3, 4, 5, 6
CHUNK_INDEX, ATTACHMENT, METADATA, DATA_END = 8, 9, 12, 15

CUT = "haihe.cut"  # metadata of a file whose end is missing

_WRITE_PERIOD_S = 0.05
_SYNC_PERIOD_S = 1.0
_BLOCK_SIZE = 1 << 20  # one write; also what a failed write can hold up at most
_COPY_LIMIT = 1 << 16  # larger messages are written from their own memory
_TAIL_SIZE = 1 << 14  # more than what `close` adds
_ITEM_COST = 256  # of a queued message besides its data: tuple, integers, record header
_HEAD = struct.Struct("<BQ")
_MESSAGE_HEAD = struct.Struct("<BQHIQQ")
_NO_BYTES = b""

_Item = tuple[int, int, int, int, bytes | memoryview]  # channel 0: a packed record of another kind


def pack_record(opcode: int, body: bytes) -> bytes:
    """One whole record."""
    return _HEAD.pack(opcode, len(body)) + body


def pack_string(text: str) -> bytes:
    """A string with its length before it."""
    data = text.encode()
    return struct.pack("<I", len(data)) + data


def pack_map(items: dict[str, str]) -> bytes:
    """A map of strings with its byte length before it."""
    data = b"".join(pack_string(key) + pack_string(value) for key, value in items.items())
    return struct.pack("<I", len(data)) + data


class McapPacker:
    """A recording being written; every method may be called from any thread.

    lost: messages not recorded, per channel. error: the write error that ended the recording,
    or None; from then on messages are dropped and counted, and `close` raises.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        profile: str = "haihe",
        library: str = "haihe.runtime.record",
        budget_bytes: int = 256 << 20,
        room: Callable[[int], int] | None = None,
    ) -> None:
        """Create the file and start writing. Raises RecordError; never overwrites a file.

        room: asked by the writing thread, with a size in bytes, how large the file may become;
        when that is less, the recording ends there and what comes after is counted as lost.
        """
        self.path = os.fspath(path)
        self.error: Exception | None = None
        self.lost: dict[int, int] = {}
        self._topics: dict[int, str] = {}
        self._schemas: dict[tuple[str, str, bytes], int] = {}
        self._budget = budget_bytes
        self._room, self._granted = room, 0
        self._queue: deque[_Item] = deque()
        self._queued_bytes = 0
        self._size = 0
        self._closed = False
        self._lost_logged = 0
        self._lock = threading.Lock()
        self._close_lock = threading.Lock()
        self._stop = threading.Event()
        header = pack_record(HEADER, pack_string(profile) + pack_string(library))
        try:
            self._file = open(self.path, "xb", buffering=0)  # noqa: SIM115 - closed by close()
        except OSError as exc:
            raise RecordError(
                f"recording {self.path}: cannot create the file: {exc.strerror}, expected a new "
                "file in a writable directory. Choose another name or directory."
            ) from exc
        try:
            with contextlib.suppress(OSError):  # file systems without locks: fix cannot check
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._put(MAGIC + header)
        except OSError as exc:
            self._file.close()
            raise RecordError(
                f"recording {self.path}: cannot write the header: {exc.strerror}. "
                "Free space on the disk, or record to another one."
            ) from exc
        self._writer = threading.Thread(target=self._write_loop, name="haihe-record", daemon=True)
        self._syncer = threading.Thread(target=self._sync_loop, name="haihe-sync", daemon=True)
        self._writer.start()
        self._syncer.start()

    def add_channel(
        self,
        topic: str,
        encoding: str = "msgpack",
        schema_name: str = "",
        schema_encoding: str = "",
        schema: bytes = b"",
        metadata: dict[str, str] | None = None,
    ) -> int:
        """Declare a channel and give its id (1, 2, ...). Raises RecordError when closed."""
        tail = pack_string(topic) + pack_string(encoding) + pack_map(metadata or {})
        key = (schema_name, schema_encoding, schema)
        with self._lock:
            self._refuse_when_closed()
            channel = len(self._topics) + 1
            if channel > 0xFFFF:
                raise RecordError(
                    f"recording {self.path}: channel {topic}: 65535 channels exist, MCAP allows "
                    "no more. Put several signals into one message."
                )
            schema_id = self._schemas.get(key, 0)
            if not schema_id and (schema_name or schema_encoding or schema):
                schema_id = self._schemas[key] = len(self._schemas) + 1
                names = pack_string(schema_name) + pack_string(schema_encoding)
                body = struct.pack("<H", schema_id) + names + struct.pack("<I", len(schema))
                self._enqueue(pack_record(SCHEMA, body + schema))
            self._topics[channel] = topic
            self.lost[channel] = 0
            self._enqueue(pack_record(CHANNEL, struct.pack("<HH", channel, schema_id) + tail))
        return channel

    def add_metadata(self, name: str, items: dict[str, str]) -> None:
        """Add a named map of strings. Raises RecordError when closed."""
        record = pack_record(METADATA, pack_string(name) + pack_map(items))
        with self._lock:
            self._refuse_when_closed()
            self._enqueue(record)

    def append(
        self,
        channel: int,
        sequence: int,
        log_ns: int,
        publish_ns: int,
        data: bytes | memoryview,
    ) -> None:
        """Queue one message; it is lost and counted when over budget, failed or closed.

        The memory behind a memoryview must not change until it is written: pass bytes when the
        buffer is used again. Raises RecordError only for a channel that was never added.
        """
        if type(data) is not bytes:
            view = memoryview(data)
            data = view.cast("B") if view.nbytes else _NO_BYTES
        cost = len(data) + _ITEM_COST
        with self._lock:
            if channel not in self.lost:
                raise RecordError(
                    f"recording {self.path}: message on channel {channel}: only channels 1 to "
                    f"{len(self.lost)} were added. Use the id that add_channel gave."
                )
            if self._queued_bytes + cost > self._budget or self.error or self._closed:
                self.lost[channel] += 1
                return
            self._queued_bytes += cost
            self._queue.append((channel, sequence, log_ns, publish_ns, data))

    def close(self) -> None:
        """Write what is queued and end the file; safe to call twice.

        Raises RecordError with the losses when the disk failed. Messages refused for the budget
        are logged and kept in the file as metadata `haihe.lost` (topic: count).
        """
        with self._close_lock:
            if self._file.closed:
                return
            with self._lock:
                self._closed = True
            self._stop.set()
            self._writer.join()
            self._syncer.join()
            try:
                if self.error is None:
                    self._put(self._tail())
                    os.fsync(self._file.fileno())
            except OSError as exc:
                self._fail(exc)
            finally:
                self._file.close()
            self._log_losses()
            if self.error is not None:
                raise RecordError(
                    f"recording {self.path}: writing failed after {self._size} bytes: "
                    f"{self.error}; lost: {self._losses()}. The file opens up to there: free "
                    "space on the disk or replace it, then run: haihe rec fix " + self.path
                ) from self.error

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._size

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _refuse_when_closed(self) -> None:
        if self._closed:
            raise RecordError(
                f"recording {self.path}: it is closed, nothing can be added. Start a new one."
            )

    def _enqueue(self, record: bytes) -> None:
        """Queue a record of the file's own structure: the budget never refuses these."""
        self._queued_bytes += len(record) + _ITEM_COST
        self._queue.append((0, 0, 0, 0, record))

    def _tail(self) -> bytes:
        lost: dict[str, int] = {}
        for channel, count in self.lost.items():
            if count:
                topic = self._topics[channel]
                lost[topic] = lost.get(topic, 0) + count
        counts = {topic: str(count) for topic, count in lost.items()}
        items = pack_string("haihe.lost") + pack_map(counts)
        cut = pack_string(CUT) + pack_map({"why": "quota"})
        return (
            (pack_record(METADATA, items) if lost else b"")
            + (pack_record(METADATA, cut) if self._budget < 0 else b"")
            + pack_record(DATA_END, bytes(4))
            + pack_record(FOOTER, bytes(20))
            + MAGIC
        )

    def _losses(self) -> str:
        lost = [f"{self._topics[ch]} {count}" for ch, count in self.lost.items() if count]
        return ", ".join(lost) or "no message"

    def _log_losses(self) -> None:
        with self._lock:
            total = sum(self.lost.values())
            text = self._losses() if total > self._lost_logged else ""
        if text:
            log.warning("recording %s: messages lost so far: %s", self.path, text)
            self._lost_logged = total

    def _sync_loop(self) -> None:
        synced = 0
        while not self._stop.wait(_SYNC_PERIOD_S):
            size = self._size
            try:
                if size != synced and self.error is None:
                    os.fdatasync(self._file.fileno())
            except OSError as exc:
                self._fail(exc)
            synced = size
            self._log_losses()

    def _write_loop(self) -> None:
        stopping = False
        while not stopping:
            stopping = self._stop.wait(_WRITE_PERIOD_S)  # when set, all is queued: drain it once
            while batch := self._take():
                before = self._size
                if self._room is not None and not self._has_room(batch):
                    self._drop(batch)
                    continue
                try:
                    if self.error is None:
                        self._store(batch)
                except (OSError, MemoryError) as exc:
                    self._fail(exc)
                self._settle(batch, before)

    def _has_room(self, batch: list[_Item]) -> bool:
        """Whether the file may grow by that; if not, the recording ends before it."""
        if self._budget < 0:
            return False
        wanted = self._size + _TAIL_SIZE
        wanted += sum(len(item[4]) + _MESSAGE_HEAD.size for item in batch)
        if wanted > self._granted:
            self._granted = self._room(wanted) if self._room is not None else wanted
        if wanted <= self._granted:
            return True
        with self._lock:
            self._budget = -1
        log.error(
            "recording %s: it ends here, at %d bytes: it may have %d by the quota of its folder. "
            "What comes is counted as lost; raise the quota, or record less.",
            self.path, self._size, self._granted,
        )  # fmt: skip
        return False

    def _drop(self, batch: list[_Item]) -> None:
        with self._lock:
            for channel, _, _, _, data in batch:
                self._queued_bytes -= len(data) + _ITEM_COST
                if channel:
                    self.lost[channel] += 1

    def _take(self) -> list[_Item]:
        """The oldest queued items, about one block of them."""
        batch: list[_Item] = []
        size = 0
        while self._queue and size < _BLOCK_SIZE:
            batch.append(self._queue.popleft())
            size += len(batch[-1][4])
        return batch

    def _store(self, batch: list[_Item]) -> None:
        block = bytearray()
        for index, (channel, sequence, log_ns, publish_ns, data) in enumerate(batch):
            if channel:
                size = 22 + len(data)
                try:
                    block += _MESSAGE_HEAD.pack(
                        MESSAGE, size, channel, sequence, log_ns, publish_ns
                    )
                except (struct.error, TypeError) as exc:
                    self._reject(batch, index, exc)
                    continue
            if len(data) > _COPY_LIMIT:
                self._put(block)
                self._put(data)
                block = bytearray()
            else:
                block += data
        self._put(block)

    def _reject(self, batch: list[_Item], index: int, exc: Exception) -> None:
        """Drop a message whose numbers do not fit the format (negative time, sequence > u32)."""
        channel, _, _, _, data = batch[index]
        batch[index] = (0, 0, 0, 0, _NO_BYTES)
        with self._lock:
            self.lost[channel] += 1
            self._queued_bytes -= len(data)
            first = self.lost[channel] == 1
        if first:
            log.error("recording %s: message on %s: %s", self.path, self._topics[channel], exc)

    def _settle(self, batch: list[_Item], before: int) -> None:
        """Give the batch's budget back, and count the messages that a failed write cost."""
        landed = self._size - before
        with self._lock:
            for channel, _, _, _, data in batch:
                self._queued_bytes -= len(data) + _ITEM_COST
                landed -= len(data) + (_MESSAGE_HEAD.size if channel else 0)
                if landed < 0 and channel:
                    self.lost[channel] += 1

    def _put(self, data: bytes | bytearray | memoryview) -> None:
        view = memoryview(data)
        while view:
            count = self._file.write(view)
            self._size += count
            view = view[count:]

    def _fail(self, exc: Exception) -> None:
        if self.error is None:
            self.error = exc
            log.error("recording %s: stopped, all further messages are lost: %s", self.path, exc)
