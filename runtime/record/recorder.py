"""The recorder: where an executor's records become MCAP messages (layout: format.py)."""

import json
import logging
import os
import platform
import sys
from functools import partial
from pathlib import Path
from typing import Any

from haihe.runtime.clock import now_ns, wall_time_s
from haihe.runtime.errors import RecordError
from haihe.runtime.record.packer import McapPacker
from haihe.runtime.record.quota import Quota
from haihe.runtime.record.sink import Frames, Records

log = logging.getLogger(__name__)
FORMAT = 1  # of the recording; a reader refuses a newer one


class Recorder(Records):
    """A recording under way. Readable after kill -9; `close` leaves it whole.

    frames: "lossless" keeps every image as captured (perception replay needs it), "jpeg" for
    viewing, "none" only their stamps. Decision replay needs no images.
    """

    def __init__(
        self,
        path: str | Path,
        header: dict[str, Any],
        frames: Frames = "jpeg",
        start_ns: int | None = None,
        quota: Quota | None = None,
    ) -> None:
        """Begin the file. start_ns: the beginning in the run's clock, where that is virtual.
        quota: of the recordings in its folder."""
        start_ns = now_ns() if start_ns is None else start_ns
        super().__init__(frames)
        self.path, self._quota = Path(path), quota
        data = header_json(self.path, header)
        make_folder(self.path)
        room = partial(quota.grant, self.path) if quota is not None else None
        self._packer = McapPacker(self.path, room=room)
        self._channels: dict[str, int] = {}
        self.append("haihe/run", 1, start_ns, start_ns, data)

    def append(self, topic: str, sequence: int, log_ns: int, publish_ns: int, data: bytes) -> None:
        """One message on a channel; safe from any thread."""
        channel = self._channels.get(topic)
        if channel is None:
            encoding = "json" if topic.startswith(("haihe/note/", "haihe/run")) else "haihe"
            channel = self._channels[topic] = self._packer.add_channel(topic, encoding)
        self._packer.append(channel, sequence, log_ns, publish_ns, data)

    @property
    def lost(self) -> int:
        """Messages that could not be recorded so far."""
        return sum(self._packer.lost.values())

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._packer.size

    def close(self, *, finish: bool = True) -> None:
        """End the recording and rewrite it chunked, compressed and indexed (where a quota leaves
        room for that). Raises RecordError when the disk failed."""
        self._packer.close()
        if finish:
            finish_within(self.path, self._quota)


def finish_within(path: Path, quota: Quota | None) -> None:
    """Rewrite a recording; leave it as it is where both would not fit into the quota."""
    from haihe.runtime.record.fix import finish

    if quota is not None and not quota.has_room(path, path.stat().st_size):
        log.info(
            "recording %s: left as it was written, not compressed and indexed: the quota has no "
            "room for both. Move it, then run: haihe rec fix %s", path, path.name,
        )  # fmt: skip
        return
    finish(path)


def header_json(path: Path, header: dict[str, Any]) -> bytes:
    """What stands on `haihe/run`. Raises RecordError."""
    try:
        return json.dumps(header | environment(), ensure_ascii=False).encode()
    except (TypeError, ValueError) as exc:
        raise RecordError(
            f"recording {path}: its header cannot be written ({exc}). Parameters of a "
            "pipeline are numbers, text, lists and maps."
        ) from exc


def make_folder(path: Path) -> None:
    """The folder of a recording. Raises RecordError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise RecordError(
            f"recording {path}: its folder cannot be made: {exc.strerror}. Record to another place."
        ) from exc


def environment() -> dict[str, Any]:
    """What a replay may have to know of this machine: versions, CPU, hash seed."""
    from importlib.metadata import PackageNotFoundError, version

    versions: dict[str, str] = {}
    for package in ("haihe", "numpy", "msgspec", "onnxruntime", "opencv-python-headless", "numba"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "format": FORMAT,
        "started": wall_time_s(),
        "python": sys.version.split()[0],
        "machine": platform.machine(),
        "cpu": _cpu("flags", "Features"),
        "cpu_name": _cpu("model name", "Model"),
        "cores": os.cpu_count(),
        "hash_seed": os.environ.get("PYTHONHASHSEED", "random"),
        "versions": versions,
    }


def _cpu(*keys: str) -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
    for line in text.splitlines():
        if line.startswith(keys):
            return line.partition(":")[2].strip()
    return ""
