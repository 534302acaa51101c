"""The recorder: where an executor's records become MCAP messages (layout: format.py)."""

import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

from haihe.runtime.clock import now_ns, wall_time_s
from haihe.runtime.errors import RecordError
from haihe.runtime.record.packer import McapPacker
from haihe.runtime.record.sink import Frames, Records

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
    ) -> None:
        """Begin the file. start_ns: the beginning in the run's clock, where that is virtual."""
        start_ns = now_ns() if start_ns is None else start_ns
        super().__init__(frames)
        self.path = Path(path)
        try:
            data = json.dumps(header | environment(), ensure_ascii=False).encode()
        except (TypeError, ValueError) as exc:
            raise RecordError(
                f"recording {self.path}: its header cannot be written ({exc}). Parameters of a "
                "pipeline are numbers, text, lists and maps."
            ) from exc
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise RecordError(
                f"recording {self.path}: its folder cannot be made: {exc.strerror}. Record to "
                "another place."
            ) from exc
        self._packer = McapPacker(self.path)
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

    def close(self, *, finish: bool = True) -> None:
        """End the recording and rewrite it chunked, compressed and indexed. Raises RecordError
        when something was lost."""
        self._packer.close()
        if finish:
            from haihe.runtime.record.fix import finish as rewrite

            rewrite(self.path)


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
