"""`haihe run --sim --watch` as a person uses it: real files, real children, real Ctrl-C."""

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from haihe.boards.unit import find_unit
from haihe.runtime.record.recording import Recording

LIMIT_S = 120.0  # a start takes 2 s on an idle machine
APP = """\
from haihe import Graph, camera, servos
from haihe.pipelines.nodes.pursue import Pursue
from haihe.pipelines.worlds.ideal import ideal_detector
from helper_of_watch import ALPHA

with Graph("follow") as g:
    front, neck = camera("front"), servos("neck")
    neck.command(Pursue(alpha=ALPHA)(ideal_detector(front.image), neck.state))
print(f"wired with {ALPHA}", flush=True)
"""


class Watched:
    """The command under test, in a session of its own, and what it has said."""

    def __init__(self, folder: Path, *options: str) -> None:
        command = [sys.executable, "-m", "haihe", "run", "app_of_watch.py", "--sim", "--watch"]
        environment = {k: v for k, v in os.environ.items() if k != "HAIHE_UNIT"}
        self.process = subprocess.Popen(
            [*command, *options], cwd=folder, env=environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        self.text = ""

    def wait_for(self, what: str) -> str:
        """Read on until a text was said; gives all that came before it, and forgets it."""
        stream = self.process.stdout
        assert stream is not None
        deadline = time.monotonic() + LIMIT_S
        while what not in self.text:
            left = deadline - time.monotonic()
            assert left > 0, f"{what!r} was not said:\n{self.text}"
            if select.select([stream], [], [], left)[0]:
                data = os.read(stream.fileno(), 1 << 16)
                assert data, f"it ended before it said {what!r}:\n{self.text}"
                self.text += data.decode()
        before, _, self.text = self.text.partition(what)
        return before

    def end(self, number: signal.Signals) -> str:
        """Signal it, wait for it; gives the rest of what it said."""
        self.process.send_signal(number)
        rest, _ = self.process.communicate(timeout=LIMIT_S)
        return self.text + rest.decode()


def family(pid: int) -> set[int]:
    """The processes that descend from one."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                stat = (entry / "stat").read_text()
                parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
    found = {pid}
    while more := {p for p, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {pid}


def alive(pids: set[int]) -> set[int]:
    """Those that are still there and no zombies of a far parent."""
    left = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
                left.add(pid)
    return left


def wait_for_family(pid: int, count: int) -> set[int]:
    deadline = time.monotonic() + LIMIT_S
    while len(found := family(pid)) < count:
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
    return found


def wait_for_file(path: Path, size: int) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not path.exists() or path.stat().st_size < size:
        assert time.monotonic() < deadline, path
        time.sleep(0.05)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app_of_watch.py").write_text(APP)
    (tmp_path / "helper_of_watch.py").write_text("ALPHA = 0.8\n")
    text = find_unit("pan-tilt", None).read_text("utf-8")
    (tmp_path / "unit.yaml").write_text(
        text.replace("latency_ms: 15", "latency_ms: 15\n    ideal: true")
    )
    return tmp_path


@pytest.fixture
def watched(folder: Path) -> Iterator[Watched]:
    made = Watched(folder, "--record", "run.mcap", "--frames", "lossless")
    yield made
    if made.process.poll() is None:
        made.process.kill()
        made.process.communicate()


@pytest.mark.process
def test_each_change_starts_a_fresh_run_and_an_error_is_waited_out(
    folder: Path, watched: Watched
) -> None:
    helper, unit = folder / "helper_of_watch.py", folder / "unit.yaml"
    watched.wait_for("wired with 0.8")
    first = wait_for_family(watched.process.pid, 2)  # the run and its world
    helper.write_text("ALPHA = 0.7\n")  # the same size
    watched.wait_for("helper_of_watch.py changed: run 2")
    assert not alive(first)
    watched.wait_for("wired with 0.7")
    helper.write_text("ALPHA = = 1\n")
    watched.wait_for("helper_of_watch.py changed: run 3")
    said = watched.wait_for("the run failed; waiting for a change (Ctrl-C ends)")
    assert "SyntaxError: invalid syntax (helper_of_watch.py, line 1)" in said
    helper.write_text("ALPHA = 0.6\n")
    watched.wait_for("helper_of_watch.py changed: run 4")
    watched.wait_for("wired with 0.6")
    wait_for_family(watched.process.pid, 2)  # the world is there: the unit has been read
    text = unit.read_text("utf-8")
    unit.write_text(text.replace("command_age", "comand_age"))
    watched.wait_for("unit.yaml changed: run 5")
    said = watched.wait_for("the run failed; waiting for a change (Ctrl-C ends)")
    assert "unknown key 'comand_age'. Did you mean 'command_age'?" in said
    unit.write_text(text)
    watched.wait_for("unit.yaml changed: run 6")
    watched.wait_for("wired with 0.6")
    watched.end(signal.SIGINT)
    assert watched.process.returncode == 0


@pytest.mark.process
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_the_child_by_its_own_safe_stop(
    number: signal.Signals, folder: Path, watched: Watched
) -> None:
    wait_for_file(folder / "run.mcap", 20_000)
    children = wait_for_family(watched.process.pid, 2)
    said = watched.end(number)
    assert watched.process.returncode == 0
    assert not alive(children)
    assert "Traceback" not in said
    recording = Recording(folder / "run.mcap")
    assert recording.complete  # its end was written, and the stop firings with it
    command = [sys.executable, "-m", "haihe", "replay", str(folder / "run.mcap")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.process
def test_the_child_stops_when_the_watcher_is_killed(folder: Path, watched: Watched) -> None:
    wait_for_file(folder / "run.mcap", 20_000)
    children = wait_for_family(watched.process.pid, 2)
    watched.end(signal.SIGKILL)
    deadline = time.monotonic() + LIMIT_S
    while alive(children):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert Recording(folder / "run.mcap").complete


STUBBORN = """\
import time
print("here", flush=True)
while True:
    try:
        time.sleep(60)
    except KeyboardInterrupt:
        print("swallowed", flush=True)
"""


@pytest.mark.process
def test_a_child_that_does_not_stop_is_killed_by_a_second_ctrl_c(
    folder: Path, watched: Watched
) -> None:
    (folder / "app_of_watch.py").write_text(STUBBORN)
    watched.wait_for("here")
    children = wait_for_family(watched.process.pid, 1)
    watched.process.send_signal(signal.SIGINT)
    watched.wait_for("swallowed")
    assert alive(children)
    watched.end(signal.SIGINT)
    assert watched.process.returncode == 0
    assert not alive(children)
