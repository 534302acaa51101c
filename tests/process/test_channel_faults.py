"""A channel between real processes that are killed, stopped, slow and started anew.

Loss is judged from the numbers that source and sink logged, tearing from every byte of every
picture, and what is left behind from /proc.
"""

import json
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from haihe.runtime.links.channel import slots_needed
from haihe.runtime.links.ring import create_ring

APP = Path(__file__).parent / "channel_app.py"
RECORD = struct.Struct("<qq")
WHOLE, TOLD = 0, 1
FRAME = 480 * 640 * 3
HANG_S = 60.0  # starting takes 0.3 s, the longest wait for progress 0.5 s
QUOTA, FIFO = 3, 4
SEEDS = int(os.environ.get("HAIHE_CHANNEL_SEEDS", "24"))  # each scenario three times


class End:
    """A process at one end, and its log."""

    def __init__(self, process: "subprocess.Popen[str]", log: Path) -> None:
        self.process, self.log = process, log

    def records(self) -> list[tuple[int, int]]:
        data = self.log.read_bytes()
        return list(RECORD.iter_unpack(data[: len(data) // RECORD.size * RECORD.size]))

    def numbers(self) -> list[int]:
        return [number for number, _ in self.records()]

    def count(self) -> int:
        return self.log.stat().st_size // RECORD.size

    def signal(self, which: signal.Signals) -> None:
        self.process.send_signal(which)

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=HANG_S)

    def result(self) -> dict[str, Any]:
        out, errors = self.process.communicate(timeout=HANG_S)
        assert self.process.returncode == 0, errors
        found: dict[str, Any] = json.loads(out)
        return found

    def sockets(self) -> int:
        fds = Path(f"/proc/{self.process.pid}/fd")
        return sum(os.readlink(fd).startswith("socket:") for fd in fds.iterdir())


class Stage:
    """A writer, its readers, and the descriptors that restarts need."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.chance = folder, random.Random(seed)
        self.source = f"{os.getpid()}-{seed}"
        slots = slots_needed([(QUOTA, False), (QUOTA, False), (FIFO, True)])
        self.ring = create_ring(self.source, slots, FRAME)
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.ends: list[End] = []
        self.readers: list[End] = []
        options = {"ring": self.ring, "control": theirs.fileno(), "source": self.source}
        self.writer = self._start("write", [self.ring, theirs.fileno()], options)
        theirs.close()

    def _start(self, role: str, fds: list[int], options: dict[str, Any], *flags: str) -> End:
        path = self.folder / f"{role}{len(self.ends)}.log"
        log = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        command = [sys.executable, str(APP), role, "--log", str(log), *flags]
        for key, value in options.items():
            command += [f"--{key}", str(value)]
        process = subprocess.Popen(
            command,
            pass_fds=[*fds, log],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        os.close(log)
        end = End(process, path)
        self.ends.append(end)
        return end

    def read(self, *, fifo: bool = False, slow_ms: float = 0.0) -> End:
        """Start a reader."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        quota = FIFO if fifo else QUOTA
        options = {
            "ring": self.ring,
            "socket": theirs.fileno(),
            "quota": quota,
            "seed": self.chance.randrange(1 << 30),
            "slow-ms": slow_ms,
        }
        flags = ["--fifo"] if fifo else []
        end = self._start("read", [self.ring, theirs.fileno()], options, *flags)
        word = f"add {quota} {'fifo' if fifo else 'latest'}"
        socket.send_fds(self.control, [word.encode()], [ours.fileno()])
        ours.close()
        theirs.close()
        self.readers.append(end)
        return end

    def tell(self, word: str) -> None:
        self.control.send(word.encode())

    def until(self, what: Callable[[], bool], why: str) -> None:
        """Wait for it; the limit catches hangs only."""
        deadline = time.monotonic() + HANG_S
        while not what():
            assert time.monotonic() < deadline, why
            for end in self.ends:  # one that failed says so
                assert end.process.poll() in (None, 0, -9), end.process.communicate()
            time.sleep(0.002)

    def go(self, *readers: End) -> None:
        """The first message is put when all readers are there."""
        self.tell("go")
        self.until(lambda: all(reader.count() for reader in readers), "no start")

    def progress(self, end: End, low: int, high: int) -> None:
        """Until it has made so many messages more, and a moment longer, whatever it does then."""
        wanted = end.count() + self.chance.randint(low, high)
        self.until(lambda: end.count() >= wanted, f"{end.log.name} makes no progress")
        time.sleep(self.chance.uniform(0, 0.002))

    def finish(self) -> dict[str, Any]:
        """Stop the writer; gives its result."""
        self.tell("stop")
        return self.writer.result()

    def close(self) -> None:
        for end in self.ends:
            if end.process.poll() is None:
                end.process.kill()
            end.process.communicate()
        self.control.close()
        os.close(self.ring)
        assert holders(self.source) == []


def holders(source: str) -> list[str]:
    """Processes that have the memory of that source open or mapped."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                fds = [os.readlink(fd) for fd in (process / "fd").iterdir()]
                maps = (process / "maps").read_text()
            except OSError:
                continue  # it has ended meanwhile
            if f"memfd:haihe:{source} " in " ".join([*fds, maps]) + " ":
                found.append(process.name)
    return found


def judge(reader: End, puts: int, since: int = 1) -> int:
    """Nothing torn, nothing twice, nothing out of order, nothing made up: gives what is lost."""
    assert [flag for _, flag in reader.records() if flag != WHOLE] == []
    numbers = reader.numbers()
    assert numbers == sorted(set(numbers))
    assert not numbers or (numbers[0] >= since and numbers[-1] <= puts)
    return puts - since + 1 - len(numbers)


def whole(stage: Stage, reader: End, index: int, result: dict[str, Any]) -> None:
    """A reader that was there from the first to the last message: loss is what was counted."""
    end = reader.result()
    sent, dropped, refused, is_gone = result["readers"][index]
    assert judge(reader, result["puts"]) == dropped
    assert (len(reader.numbers()), end["torn"], refused, is_gone) == (sent, 0, 0, 0)
    assert end["received"] == sent
    assert reader.numbers()[-1] == result["puts"]  # the newest always comes through


def kill_reader(stage: Stage) -> None:
    healthy, victim = stage.read(), stage.read()
    stage.go(victim)
    stage.progress(victim, 1, 150)
    sockets = stage.writer.sockets()
    victim.kill()
    stage.until(lambda: stage.writer.sockets() == sockets - 1, "its socket stays open")
    stage.progress(healthy, 10, 50)
    made = stage.writer.count()
    again = stage.read()
    stage.until(lambda: again.count() > 0, "no start")
    stage.progress(again, 10, 50)
    result = stage.finish()
    whole(stage, healthy, 0, result)
    judge(victim, result["puts"])
    assert result["readers"][1][3] == 1
    first = again.numbers()[0]
    assert first > made
    again.result()
    assert judge(again, result["puts"], first) == result["readers"][2][1]
    assert result["slots"] == 0


def kill_fifo_reader(stage: Stage) -> None:
    victim, healthy = stage.read(fifo=True), stage.read()
    stage.go(victim)
    stage.progress(victim, 1, 150)
    victim.kill()
    stage.progress(healthy, 10, 50)  # the writer that it held back goes on
    result = stage.finish()
    assert victim.numbers() == list(range(1, len(victim.numbers()) + 1))
    judge(victim, result["puts"])
    whole(stage, healthy, 1, result)
    assert result["slots"] == 0


def kill_writer(stage: Stage) -> None:
    readers = [stage.read(), stage.read(fifo=stage.chance.random() < 0.5)]
    stage.go(*readers)
    stage.progress(stage.writer, 1, 150)
    stage.writer.kill()
    puts, packed = stage.writer.records()[-1]
    for index, reader in enumerate(readers):
        end = reader.result()
        judge(reader, puts + 1)
        # all that the writer logged as sent, and at most the put and the credit it died in
        sent = packed >> 20 * index & 0xFFFFF
        assert sent <= len(reader.numbers()) <= sent + 2
        assert (end["received"], end["torn"]) == (len(reader.numbers()), 0)


def stop_reader(stage: Stage) -> None:
    healthy, victim = stage.read(), stage.read()
    stage.go(victim)
    stage.progress(victim, 1, 100)
    victim.signal(signal.SIGSTOP)
    stage.progress(healthy, 50, 150)
    seen = victim.count()
    made = stage.writer.count()
    victim.signal(signal.SIGCONT)
    stage.progress(victim, 10, 50)
    result = stage.finish()
    whole(stage, healthy, 0, result)
    whole(stage, victim, 1, result)
    old = [number for number in victim.numbers()[seen:] if number < made - 3]
    assert len(old) <= QUOTA + 1


def stop_fifo_reader(stage: Stage) -> None:
    victim = stage.read(fifo=True)
    stage.go(victim)
    stage.progress(victim, 1, 100)
    victim.signal(signal.SIGSTOP)
    time.sleep(0.02)
    seen, made = victim.count(), stage.writer.count()
    time.sleep(0.05)
    assert victim.count() == seen
    assert stage.writer.count() <= seen + FIFO + 1  # held back
    assert made <= seen + FIFO + 1
    victim.signal(signal.SIGCONT)
    stage.progress(victim, 10, 50)
    result = stage.finish()
    whole(stage, victim, 0, result)
    assert victim.numbers() == list(range(1, result["puts"] + 1))  # nothing is lost


def stop_writer(stage: Stage) -> None:
    readers = [stage.read(), stage.read()]
    stage.go(*readers)
    stage.progress(stage.writer, 1, 100)
    stage.writer.signal(signal.SIGSTOP)
    time.sleep(0.02)
    stage.writer.signal(signal.SIGCONT)
    stage.progress(stage.writer, 10, 50)
    result = stage.finish()
    for index, reader in enumerate(readers):
        whole(stage, reader, index, result)


def slow_reader(stage: Stage) -> None:
    healthy, slow = stage.read(), stage.read(slow_ms=10.0)
    stage.go(slow)
    stage.progress(healthy, 100, 200)
    result = stage.finish()
    whole(stage, healthy, 0, result)
    whole(stage, slow, 1, result)


def give_up(stage: Stage) -> None:
    healthy, victim = stage.read(), stage.read()
    stage.go(victim)
    stage.progress(victim, 1, 100)
    victim.signal(signal.SIGSTOP)
    stage.tell("remove 1")
    stage.progress(healthy, 20, 60)  # its slots are written over
    victim.signal(signal.SIGCONT)
    victim.result()
    numbers = victim.numbers()
    assert {flag for _, flag in victim.records()} <= {WHOLE, TOLD}
    assert numbers == sorted(set(numbers))
    result = stage.finish()
    whole(stage, healthy, 0, result)
    assert result["slots"] == 0


SCENARIOS = [
    kill_reader,
    kill_fifo_reader,
    kill_writer,
    stop_reader,
    stop_fifo_reader,
    stop_writer,
    slow_reader,
    give_up,
]


@pytest.mark.process
@pytest.mark.parametrize("seed", range(SEEDS))
def test_nothing_is_torn_and_what_is_lost_is_counted(seed: int, tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    stage = Stage(tmp_path, seed)
    try:
        SCENARIOS[seed % len(SCENARIOS)](stage)
    finally:
        stage.close()
    assert len(os.listdir("/proc/self/fd")) == before
