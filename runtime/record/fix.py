"""Turns a live or cut recording into a chunked, compressed, indexed one.

Off the hot path, at the end of a recording or by `haihe rec fix`: streams our reader into the
stock `mcap` writer, checks the result, then replaces the file in one step.
"""

import contextlib
import dataclasses
import fcntl
import logging
import os
import tempfile
from collections.abc import Iterator
from typing import IO, Any

from haihe.runtime.errors import RecordError
from haihe.runtime.record.packer import CUT
from haihe.runtime.record.reader import McapReader

log = logging.getLogger(__name__)

_KEEP_ABOVE = 1 << 16  # bytes: more than a cut last record; the damaged original is kept


@dataclasses.dataclass(frozen=True)
class FixReport:
    """What `finish` did; `kept` names the damaged original, empty when it was replaced."""

    path: str
    messages: int
    bytes_in: int
    bytes_out: int
    dropped_bytes: int
    rewritten: bool
    kept: str = ""


def finish(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    chunk_size: int = 1 << 18,
    compression: str = "zstd",
) -> FixReport:
    """Rewrite a recording, in place unless `out` is given; does nothing to a finished one.

    Compression is zstd, lz4 or none. Raises RecordError and leaves the file as it was when it
    is still being written (only in place), is no recording, or the disk is full.
    """
    source = os.fspath(path)
    target = os.path.realpath(source if out is None else out)
    in_place = target == os.path.realpath(source)
    if compression not in ("zstd", "lz4", "none"):
        raise RecordError(
            f"recording {source}: unknown compression {compression!r}. Use zstd, lz4 or none."
        )
    with _locked(source) if in_place else contextlib.nullcontext(), McapReader(source) as reader:
        wanted = "" if compression == "none" else compression
        if in_place and reader.is_finished and reader.compressions <= {wanted}:
            count, size = reader.message_count, reader.size
            return FixReport(source, count, size, size, 0, rewritten=False)
        if in_place and not reader.message_count and reader.dropped_bytes:
            raise RecordError(
                f"recording {source}: nothing in it can be read ({reader.size} bytes). It is left "
                "as it is."
            )
        try:
            bytes_out, kept = _rewrite(reader, target, in_place, chunk_size, compression)
        except OSError as exc:
            raise RecordError(
                f"recording {source}: cannot write the finished file beside {target}: {exc}. "
                "The recording is as it was: free space on the disk, or pass another out."
            ) from exc
        dropped = reader.dropped_bytes
        if dropped:
            log.warning("recording %s: %d bytes unusable", source, dropped)
        return FixReport(target, reader.message_count, reader.size, bytes_out, dropped, True, kept)


@contextlib.contextmanager
def _locked(path: str) -> Iterator[None]:
    """Hold the recorder's lock. Raises RecordError while a recorder holds it."""
    try:
        file = open(path, "rb")  # noqa: SIM115 - the next statement closes it
    except OSError as exc:
        raise RecordError(
            f"recording {path}: cannot open: {exc.strerror}. Check the path."
        ) from exc
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise RecordError(
                f"recording {path}: a process still writes it. Stop the recorder first, or "
                "write a copy: pass another out."
            ) from exc
        except OSError as exc:
            log.warning("recording %s: no locks here (%s), not known if in use", path, exc)
        yield


def _rewrite(
    reader: McapReader, target: str, in_place: bool, chunk_size: int, compression: str
) -> tuple[int, str]:
    """Write beside the target, check, replace; size of the new file, name of a kept original."""
    directory, name = os.path.split(target)
    handle, temporary = tempfile.mkstemp(prefix=f".{name}.", suffix=".part", dir=directory)
    try:
        with open(handle, "wb") as stream:
            os.fchmod(stream.fileno(), os.stat(reader.path).st_mode & 0o777)
            _copy(reader, stream, chunk_size, compression)
            stream.flush()
            os.fsync(stream.fileno())
        bytes_out = _check(temporary, reader)
        kept = _keep(reader) if in_place else ""
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    _sync_directory(directory)
    return bytes_out, kept


def _copy(reader: McapReader, stream: IO[Any], chunk_size: int, compression: str) -> None:
    from mcap.writer import CompressionType, Writer

    writer = Writer(stream, chunk_size=chunk_size, compression=CompressionType[compression.upper()])
    writer.start(profile=reader.profile, library=reader.library)
    for name, items in reader.metadata_records:
        writer.add_metadata(name, items)
    if not reader.complete:  # the new file is whole, what it tells of is not
        writer.add_metadata(CUT, {"dropped_bytes": str(reader.dropped_bytes)})
    for item in reader.attachments():
        writer.add_attachment(item.create_ns, item.log_ns, item.name, item.media_type, item.data)
    # The stock writer numbers from 1 on: in id order, ids given by McapPacker stay the same.
    schemas = {0: 0}
    for schema_id, schema in sorted(reader.schemas.items()):
        schemas[schema_id] = writer.register_schema(schema.name, schema.encoding, schema.data)
    channels = {
        channel: writer.register_channel(
            info.topic, info.encoding, schemas.get(info.schema_id, 0), info.metadata
        )
        for channel, info in sorted(reader.channels.items())
    }
    for message in reader.messages():
        writer.add_message(
            channels[message.channel],
            message.log_ns,
            message.data,
            message.publish_ns,
            message.sequence,
        )
    writer.finish()


def _check(temporary: str, reader: McapReader) -> int:
    """Size of the new file, once it is known to be whole: it replaces the only copy."""
    with McapReader(temporary) as written:
        if not written.is_finished or written.message_count != reader.message_count:
            raise RecordError(
                f"recording {reader.path}: the finished file holds {written.message_count} "
                f"messages, expected {reader.message_count}. The recording is as it was: check "
                "the disk, or pass another out."
            )
    return os.stat(temporary).st_size


def _keep(reader: McapReader) -> str:
    """Keep an original with more damage than a cut last record: later tools may get more."""
    if reader.dropped_bytes <= _KEEP_ABOVE:
        return ""
    kept = reader.path + ".damaged"
    try:
        os.link(os.path.realpath(reader.path), kept)
    except OSError as exc:
        raise RecordError(
            f"recording {reader.path}: {reader.dropped_bytes} bytes are unusable, and the original "
            f"cannot be kept as {kept}: {exc.strerror}. Pass another out."
        ) from exc
    return kept


def _sync_directory(path: str) -> None:
    directory = os.open(path, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
