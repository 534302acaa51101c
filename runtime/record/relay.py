"""Records of one process on their way to the recording of another: a ring of bytes in shared
memory, one writer and one reader. What was written before a kill -9 is read after it.

    u64 bytes written so far | u64 bytes read so far | u64 messages lost | ring
    message = u32 length of the rest, u16 length of the topic, u32 sequence, i64 log time,
              i64 publish time, topic, data

All little endian. The writer stores its count after the bytes, with a lock taken in between: its
release orders the two for the other process. Counts are stored as words, whole or not at all:
struct.pack_into clears a field before it fills it, and the other process, or the next after a
kill -9, would see that. When the ring is full, a message is lost and counted.
"""

import mmap
import os
import struct
import threading
from collections.abc import Iterator

from haihe.runtime.record.sink import Frames, Records

WRITTEN, READ, LOST = 0, 1, 2  # words
_HEAD = struct.Struct("<IHIqq")
START = 64  # of the ring, on a cache line of its own

Message = tuple[str, int, int, int, bytes]  # topic, sequence, log time, publish time, data


class _Ring:
    def __init__(self, fd: int) -> None:
        self.size = os.fstat(fd).st_size - START
        self._map = mmap.mmap(fd, self.size + START)
        self._counts = memoryview(self._map)[:START].cast("Q")

    def close(self) -> None:
        """Release the memory; safe to call twice."""
        self._counts.release()
        self._map.close()


class RelayWriter(_Ring, Records):
    """The writing process' end; every method may be called from any thread."""

    def __init__(self, fd: int, frames: Frames) -> None:
        Records.__init__(self, frames)
        _Ring.__init__(self, fd)
        self._lock, self._order = threading.Lock(), threading.Lock()
        self._written, self._lost = self._counts[WRITTEN], self._counts[LOST]

    def append(self, topic: str, sequence: int, log_ns: int, publish_ns: int, data: bytes) -> None:
        """One message, or a loss."""
        name = topic.encode()
        size = _HEAD.size + len(name) + len(data)
        with self._lock:
            if size > self.size - (self._written - self._counts[READ]):
                self._lost += 1
                self._counts[LOST] = self._lost
                return
            at = self._written
            head = _HEAD.pack(size - 4, len(name), sequence, log_ns, publish_ns)
            at = self._put(at, head + name)
            self._written = self._put(at, data)
            with self._order:
                pass
            self._counts[WRITTEN] = self._written

    def _put(self, at: int, data: bytes) -> int:
        place = at % self.size
        first = min(len(data), self.size - place)
        self._map[START + place : START + place + first] = data[:first]
        if first < len(data):
            self._map[START : START + len(data) - first] = data[first:]
        return at + len(data)


class RelayReader(_Ring):
    """The reading process' end, of one thread."""

    @property
    def lost(self) -> int:
        """Messages for which the ring had no room."""
        return self._counts[LOST]

    def take(self) -> Iterator[Message]:
        """What has been written since the last time; its room is given back message by message."""
        written, read = self._counts[WRITTEN], self._counts[READ]
        while read < written:
            head = self._get(read, _HEAD.size)
            rest, name_size, sequence, log_ns, publish_ns = _HEAD.unpack(head)
            body = self._get(read + _HEAD.size, rest + 4 - _HEAD.size)
            topic, data = body[:name_size].decode(), body[name_size:]
            read += rest + 4
            self._counts[READ] = read
            yield topic, sequence, log_ns, publish_ns, data

    def _get(self, at: int, size: int) -> bytes:
        place = at % self.size
        data = self._map[START + place : START + min(place + size, self.size)]
        if len(data) < size:
            data += self._map[START : START + size - len(data)]
        return data


def relay_memory(size: int) -> int:
    """A descriptor of the memory of a ring of that many bytes. Raises OSError."""
    fd = os.memfd_create("haihe-record")
    try:
        os.posix_fallocate(fd, 0, START + size)
    except OSError:
        os.close(fd)
        raise
    return fd
