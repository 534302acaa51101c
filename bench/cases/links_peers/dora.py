"""dora-rs: two nodes of a dataflow under `dora run`, Arrow arrays, shared memory from 4 KiB on.

`dora run` starts the nodes, so the workers are its children; it is the daemon between them as well,
and its CPU time counts. The frame is written into dora's own buffer (`send_output_raw`). A full
queue drops the oldest, so a burst flat out may lose messages.
"""

import functools
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from haihe.bench.cases.links_peers.payload import SHAPES, Arrival, Link, Offer, Peer, read, write
from haihe.runtime.clock import now_ns

try:
    from dora import Node
except ModuleNotFoundError:  # the case is left out, see `missing` in links.py
    Node = None


@functools.cache
def _node() -> Any:
    """Waits until both nodes have been made."""
    return Node()


class Output:
    """Sends."""

    def __init__(self, link: Link) -> None:
        self.size = link.size
        self._node = _node()

    def send(self, sequence: int, is_last: bool) -> None:
        """Take a buffer, stamp it, send it."""
        with self._node.send_output_raw(f"frames{self.size}", self.size) as buffer:
            sent_ns = now_ns()
            write(buffer, self.size, sequence, is_last, sent_ns)

    def close(self) -> None:
        """The node ends with its process."""


class Input:
    """Receives."""

    def __init__(self, link: Link) -> None:
        self.size = link.size
        self._shape = SHAPES[link.size]
        self._input = f"frames{link.size}"
        self._node = _node()

    def receive(self) -> list[Arrival]:
        """The next message; nothing after a second of silence: the last ones may be lost."""
        while True:
            event = self._node.next(timeout=1.0)
            if event is None or event["type"] == "ERROR":  # time is up
                return []
            if event["type"] == "INPUT" and event["id"] == self._input:
                return [read(event["value"].to_numpy().reshape(self._shape), self.size)]

    def close(self) -> None:
        """The node ends with its process."""


def _start(path: str, folder: str) -> "subprocess.Popen[bytes]":
    names = [f"frames{size}" for size in (64, 921_600, 6_220_800)]
    module = "haihe.bench.cases.links_peers.worker"
    nodes: list[dict[str, Any]] = [
        {"id": "send", "outputs": names},
        {"id": "receive", "inputs": {n: {"source": f"send/{n}", "queue_size": 64} for n in names}},
    ]
    for node in nodes:
        node |= {"path": sys.executable, "args": f"-m {module} dora {node['id']} {path}"}
    flow = Path(folder, "flow.yml")
    flow.write_text(yaml.safe_dump({"nodes": nodes}), "utf-8")
    dora = Path(sys.executable).with_name("dora")
    command = [str(dora) if dora.exists() else shutil.which("dora") or "dora", "run", str(flow)]
    with Path(folder, "errors.txt").open("ab") as output:
        return subprocess.Popen(command, stdout=output, stderr=output, cwd=folder)


PEER = Peer(lambda link: Offer(Output(link)), Input, _start, _node)
