"""Shared memory without a name: reserved when it is made, gone with the last process that has it.

A memfd stands in no file system, so nothing is left behind after kill -9. Its pages are taken at
once: memory that is short is an error at the start, not a SIGBUS in the middle of a run.
"""

import fcntl
import os
from pathlib import Path

from haihe.runtime.errors import LinkError


def reserve(source: str, size: int) -> int:
    """A memfd with `size` bytes of memory behind it, and its size sealed: the caller owns the
    descriptor. Raises LinkError when the memory is not there."""
    free = available()
    if size > free:
        raise LinkError(
            f"shared memory of {source}: {size} bytes are asked for, {free} are free on this "
            "machine (/proc/meminfo, cgroup memory.max). Use smaller arrays, fewer readers or "
            "smaller fifo() places, or end other programs."
        )
    try:
        fd = os.memfd_create(f"haihe:{source}", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    except OSError as exc:
        raise _shortage(source, size, "memfd_create", exc) from exc
    try:
        os.posix_fallocate(fd, 0, size)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
    except OSError as exc:
        os.close(fd)
        raise _shortage(source, size, "posix_fallocate", exc) from exc
    return fd


def _shortage(source: str, size: int, call: str, exc: OSError) -> LinkError:
    return LinkError(
        f"shared memory of {source}: {call} of {size} bytes: {exc.strerror}. Look at the limits of "
        "this process (ulimit -f, -n, -v; cgroup memory.max), or use smaller arrays, fewer "
        "readers or smaller fifo() places."
    )


def available() -> int:
    """Bytes that can be had without ending anything: the machine's, or what the control group
    leaves if that is less."""
    with open("/proc/meminfo", encoding="ascii") as lines:
        fields = dict(line.split(":") for line in lines)
    free = int(fields["MemAvailable"].split()[0]) * 1024
    return min([free, *_group_limits()])


def _group_limits(
    root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")
) -> list[int]:
    """What each cgroup v2 above this process leaves, where one has a limit."""
    try:
        lines = own.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    path = next((line[3:] for line in lines if line.startswith("0::")), "")
    group, limits = root / path.strip("/"), []
    while path and group.is_relative_to(root):
        try:
            limit = (group / "memory.max").read_text(encoding="ascii").strip()
            if limit != "max":
                used = int((group / "memory.current").read_text(encoding="ascii"))
                limits.append(max(0, int(limit) - used + _file_cache(group)))
        except (OSError, ValueError):
            pass  # no memory controller at this level
        group = group.parent
    return limits


def _file_cache(group: Path) -> int:
    """Bytes of cached files that count as used and are given back when asked for."""
    lines = (group / "memory.stat").read_text(encoding="ascii").splitlines()
    fields = dict(line.split() for line in lines)
    return int(fields.get("inactive_file", 0))
