"""Two worker processes that send each other messages over one peer's links, and what that took."""

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib import import_module, metadata
from pathlib import Path
from types import TracebackType

import numpy as np

from haihe.bench.cases.links_peers import worker
from haihe.bench.cases.links_peers.payload import Peer
from haihe.bench.measure.stats import I64
from haihe.runtime.clock import MILLISECOND, SECOND
from haihe.runtime.errors import LinkError

PATIENCE_S = 60.0  # for a worker's answer, some hundred times what it takes: only hangs end here
LIMIT_NS = 250 * MILLISECOND  # of a burst flat out
PACED_LIMIT_NS = 10 * SECOND
PLAN = {64: (60, 2), 921_600: (25, 8), 6_220_800: (15, 20)}  # paced messages and ms between them
FLAT_OUT = 5000  # messages at most
SHARED = Path("/dev/shm")
PACKAGES = {  # distributions that a peer needs
    "pyzmq": ("pyzmq",),
    "iceoryx2": ("iceoryx2",),
    "zenoh_shm": ("eclipse-zenoh",),
    "dora": ("dora-rs", "dora-rs-cli"),
}
MODULE = "haihe.bench.cases.links_peers"


@dataclass(frozen=True)
class Figures:
    """One burst paced and one flat out. CPU time is of both processes whole, a message."""

    latency_ns: I64
    paced_cpu_ns: float
    cpu_ns: float
    per_second: float
    lost: int

    @property
    def median_ns(self) -> float:
        """The median of the paced latencies."""
        return float(np.median(self.latency_ns))


def missing(module: str) -> str:
    """Why this peer cannot run here, or nothing."""
    for package in PACKAGES.get(module, ()):
        try:
            metadata.version(package)
        except metadata.PackageNotFoundError:
            return f"{package} is not installed: pip install {package}"
    return ""


class Pair:
    """Both workers of a peer, with a link for each size."""

    def __init__(self, module: str, in_place: bool, sizes: list[int]) -> None:
        self._name = module
        self._peer: Peer = import_module(f"{MODULE}.{module}").PEER
        self._processes: list[subprocess.Popen[bytes]] = []
        self._ends: dict[str, worker.Control] = {}
        self.pids: dict[str, int] = {}  # of the workers, by role
        self._folder = tempfile.TemporaryDirectory(prefix="haihe-link-")
        folder = Path(self._folder.name)
        self._errors = folder / "errors.txt"
        path = str(folder / "control")
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            listener.bind(path)
            listener.listen()
            listener.settimeout(PATIENCE_S)
            try:
                self._start(path, folder)
                for _ in range(2):
                    self._meet(listener)
                for size in sizes:
                    self._open(size, in_place, str(folder))
                    self.burst(size)  # connects, warms up; not measured
            except BaseException:
                self.close()
                raise

    def _start(self, path: str, folder: Path) -> None:
        if self._peer.start is not None:
            self._processes = [self._peer.start(path, str(folder))]
            return
        with self._errors.open("ab") as errors:
            for role in ("receive", "send"):
                command = [sys.executable, "-m", f"{MODULE}.worker", self._name, role, path]
                self._processes.append(subprocess.Popen(command, stderr=errors))

    def _meet(self, listener: socket.socket) -> None:
        end, _ = listener.accept()
        end.settimeout(PATIENCE_S)
        control = worker.Control(end)
        hello, _ = control.hear()
        assert isinstance(hello, worker.Hello)
        self._ends[hello.role] = control
        self.pids[hello.role] = hello.pid

    def _open(self, size: int, in_place: bool, folder: str) -> None:
        order = worker.Open(size, in_place, folder)
        opened, descriptors = self._ask("send", order)
        assert isinstance(opened, worker.Opened)
        order.address = opened.address
        self._ask("receive", order, descriptors)
        for descriptor in descriptors:
            os.close(descriptor)

    def _ask(
        self, role: str, order: worker.Word, descriptors: tuple[int, ...] = ()
    ) -> tuple[worker.Word, tuple[int, ...]]:
        with contextlib.suppress(BrokenPipeError):  # then it will not answer either
            self._ends[role].tell(order, descriptors)
        return self._answer(role)

    def _answer(self, role: str) -> tuple[worker.Word, tuple[int, ...]]:
        try:
            return self._ends[role].hear()
        except (EOFError, TimeoutError, ConnectionError) as exc:
            said = self._errors.read_text("utf-8", "replace") if self._errors.exists() else ""
            raise LinkError(
                f"bench link {self._name}: its {role} worker "
                + ("did not answer" if isinstance(exc, TimeoutError) else "ended")
                + f"; it said: {said.strip() or 'nothing'}"
            ) from exc

    def burst(self, size: int) -> Figures:
        """One burst paced, one flat out. Raises LinkError when a worker ends or does not answer."""
        count, gap_ms = PLAN[size]
        paced, paced_cpu_ns, lost = self._run(size, count, gap_ms * MILLISECOND)
        flat, cpu_ns, also_lost = self._run(size, FLAT_OUT, 0)
        return Figures(
            np.array(paced.latency_ns, np.int64),
            paced_cpu_ns,
            cpu_ns,
            len(flat.latency_ns) * SECOND / flat.span_ns,
            lost + also_lost,
        )

    def _run(self, size: int, count: int, gap_ns: int) -> tuple[worker.Received, float, int]:
        order = worker.Burst(size, count, gap_ns, LIMIT_NS if not gap_ns else PACED_LIMIT_NS)
        helper_ns = self._helper_ns()
        self._ask("receive", order)
        sent, _ = self._ask("send", order)
        received, _ = self._answer("receive")
        cpu, _ = self._ask("send", worker.Account())
        helper_ns = self._helper_ns() - helper_ns
        assert isinstance(sent, worker.Sent)
        assert isinstance(received, worker.Received)
        assert isinstance(cpu, worker.Cpu)
        arrived = len(received.latency_ns)
        total_ns = received.cpu_ns + cpu.cpu_ns + helper_ns
        return received, total_ns / arrived, sent.count - arrived

    def _helper_ns(self) -> int:
        """CPU time so far of the process between the workers, if the peer has one."""
        if self._peer.start is None:
            return 0
        tasks = Path(f"/proc/{self._processes[0].pid}/task").glob("*/schedstat")
        return sum(int(task.read_text().split()[0]) for task in tasks)

    def close(self) -> None:
        """End the workers, and remove what peers leave in /dev/shm."""
        name = Path(self._folder.name).name
        left = [path for process in self._processes for path in _shared_files(process.pid)]
        for control in self._ends.values():
            control.socket.close()
        for process in self._processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10.0)
            process.kill()
            process.wait()
        self._folder.cleanup()
        for path in (*left, *SHARED.glob(f"{name}*")):
            path.unlink(missing_ok=True)

    def __enter__(self) -> "Pair":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, at: TracebackType | None
    ) -> None:
        self.close()


def _shared_files(pid: int) -> set[Path]:
    """The files of /dev/shm that a process of ours maps: its peer's, whose names are random."""
    try:
        lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    except OSError:
        return set()
    paths = {Path(line.split(maxsplit=5)[5]) for line in lines if f"{SHARED}/" in line}
    return {path for path in paths if path.parent == SHARED and path.exists()}
