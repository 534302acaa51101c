"""A quota for the recordings in a folder: the oldest go when a new one needs their place.

Only files that haihe made are counted and removed (`*.mcap`, and the header says so), only in the
folder itself, and never one that a process is writing: a recorder holds a lock on its file.
"""

import contextlib
import fcntl
import logging
import os
import re
import stat
import struct
from dataclasses import dataclass
from pathlib import Path

from haihe.runtime.errors import ContractError
from haihe.runtime.record.packer import HEADER, MAGIC, pack_string

log = logging.getLogger(__name__)

STEP = 4 << 20  # bytes that are granted at once: the folder is looked through that rarely
PROFILE = pack_string("haihe")
_SIZES = {"": 0, "k": 1, "M": 2, "G": 3, "T": 4}


def size_bytes(text: str, what: str = "size") -> int:
    """Bytes of "500MB" (powers of 1000) or "2GiB" (of 1024). Raises ContractError."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kMGT]?)(i?)B\s*", text)
    value = 0
    if found and (found[2] or not found[3]):
        value = round(float(found[1]) * (1024 if found[3] else 1000) ** _SIZES[found[2]])
    if value <= 0:
        raise ContractError(f"{what} {text!r} is not a size. Write a number and a unit, as in 2GB.")
    return value


@dataclass(frozen=True)
class Stored:
    """A recording in the folder."""

    path: Path
    size: int
    changed_ns: int


class Quota:
    """What the recordings of one folder may take together, in bytes."""

    def __init__(self, folder: str | Path, limit_bytes: int) -> None:
        self.folder, self.limit_bytes = Path(folder), limit_bytes

    def grant(self, path: str | Path, wanted: int) -> int:
        """The size that a recording may grow to, at least `wanted` if the quota allows it. Others
        are removed for it, the oldest first. Called by the thread that writes it."""
        others = self._others(path)
        taken = sum(one.size for one in others)
        for one in others:
            if taken + wanted <= self.limit_bytes:
                break
            if _remove(one.path):
                taken -= one.size
                log.warning(
                    "recording %s removed (%d bytes): the quota of %s is %d bytes",
                    one.path, one.size, self.folder, self.limit_bytes,
                )  # fmt: skip
        return max(0, min(self.limit_bytes - taken, wanted + STEP))

    def has_room(self, path: str | Path, extra: int) -> bool:
        """Whether `extra` bytes more fit beside all that is there, without removing anything."""
        own = Path(path).stat().st_size
        return sum(one.size for one in self._others(path)) + own + extra <= self.limit_bytes

    def _others(self, path: str | Path) -> list[Stored]:
        """Every other recording of the folder, the oldest first."""
        found = [one for one in recordings_in(self.folder) if one.path.name != Path(path).name]
        return sorted(found, key=lambda one: (one.changed_ns, one.path))


def recordings_in(folder: Path) -> list[Stored]:
    """The recordings that haihe made in a folder."""
    found = []
    try:
        names = sorted(os.listdir(folder))
    except FileNotFoundError:
        return []
    for name in names:
        if not name.endswith(".mcap"):
            continue
        path = folder / name
        with contextlib.suppress(OSError):  # gone, or not ours to read: then not ours at all
            status = path.lstat()
            if stat.S_ISREG(status.st_mode) and _is_ours(path):
                found.append(Stored(path, status.st_size, status.st_mtime_ns))
    return found


def _is_ours(path: Path) -> bool:
    with open(path, "rb") as file:
        head = file.read(len(MAGIC) + 9 + len(PROFILE))
    opcode = struct.pack("<B", HEADER)
    return head[:9] == MAGIC + opcode and head[len(MAGIC) + 9 :] == PROFILE


def _remove(path: Path) -> bool:
    """Remove a recording unless it is being written, or that cannot be known."""
    try:
        with open(path, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
    except OSError as exc:
        if not isinstance(exc, BlockingIOError):
            log.warning("recording %s: cannot be removed for the quota: %s", path, exc.strerror)
        return False
    return True
