"""The files of a machine below a root, read so that no content of theirs can raise or block.

The root is `/`, a mounted image, or a folder that a test made. Below another root than `/`,
absolute links stay inside it, as for a process that is chrooted there. What is missing,
unreadable, a directory, a pipe, binary or endless reads as nothing, or as its first `LIMIT` bytes.
"""

import errno
import os
import stat
from pathlib import Path

LIMIT = 1 << 16
MAX_ENTRIES = 4096
MAX_LINKS = 40  # as the kernel follows


class RootFiles:
    """Reads below one root. Paths are absolute, as the machine itself would name them."""

    def __init__(self, root: str | Path = "/") -> None:
        self.root = os.path.abspath(root)
        self.is_live = self.root == "/"

    def path(self, name: str) -> str:
        """Where a path of the machine is on this one. Raises OSError for a loop of links."""
        if self.is_live:
            return name
        parts, done, links = name.split("/")[::-1], [""], 0
        while parts:
            part = parts.pop()
            if part in ("", "."):
                continue
            if part == "..":
                if len(done) > 1:
                    done.pop()
                continue
            here = self.root + "/".join([*done, part])
            try:
                target = os.readlink(here)
            except OSError as exc:
                if exc.errno == errno.ENAMETOOLONG:
                    raise
                done.append(part)  # no link, or not there: whoever opens it will see
                continue
            links += 1
            if links > MAX_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), name)
            parts += target.split("/")[::-1]
            done = [""] if target.startswith("/") else done
        return self.root + "/".join(done)

    def data(self, name: str, limit: int = LIMIT) -> bytes:
        """The first bytes of a regular file, empty when it cannot be read."""
        try:
            handle = os.open(self.path(name), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except (OSError, ValueError):  # ValueError: a zero byte in a path
            return b""
        try:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                return b""
            chunks = []
            while limit > 0 and (chunk := os.read(handle, limit)):
                chunks.append(chunk)
                limit -= len(chunk)
            return b"".join(chunks)
        except OSError:
            return b""
        finally:
            os.close(handle)

    def text(self, name: str, limit: int = LIMIT) -> str:
        """The text of a file without its ends of lines and trailing zeros."""
        return self.data(name, limit).decode("utf-8", "replace").strip("\0 \t\r\n")

    def number(self, name: str) -> int | None:
        """The whole number that a file of sysfs holds, None for anything else."""
        text = self.text(name, 64)
        try:
            return int(text)
        except ValueError:
            return None

    def exists(self, name: str) -> bool:
        """Whether there is something of any kind."""
        try:
            return os.path.exists(self.path(name))
        except (OSError, ValueError):
            return False

    def entries(self, name: str, start: str = "") -> list[str]:
        """Names in a folder that begin with `start`, in order; numbers at their end count."""
        try:
            with os.scandir(self.path(name)) as folder:
                found = [e.name for _, e in zip(range(MAX_ENTRIES), folder, strict=False)]
        except (OSError, ValueError):
            return []
        return sorted((n for n in found if n.startswith(start)), key=_natural)

    def matches(self, pattern: str) -> list[str]:
        """Paths for a pattern whose last part may end in `*`."""
        if not pattern.endswith("*"):
            return [pattern] if self.exists(pattern) else []
        folder, _, start = pattern[:-1].rpartition("/")
        return [f"{folder}/{name}" for name in self.entries(folder, start)]

    def link(self, name: str) -> str:
        """The target of a link as it is written, empty for anything else."""
        folder, _, last = name.rpartition("/")
        try:
            return os.readlink(f"{self.path(folder or '/')}/{last}")
        except (OSError, ValueError):
            return ""


def _natural(name: str) -> tuple[str, int, str]:
    stem = name.rstrip("0123456789")
    digits = name[len(stem) :]
    return (stem, int(digits) if digits.isascii() and 0 < len(digits) < 10 else -1, name)
