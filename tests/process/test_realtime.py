"""What a process lane with a priority is, by the kernel's word, and what its recording says."""

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from haihe.bench.cases.many import descendants
from haihe.runtime.record.recording import Recording

APP = Path(__file__).with_name("realtime_app.py")
PRIORITY = 20
UNIT = f"""unit: bare
devices: {{}}
threads:
  control: {{core: big, priority: {PRIORITY}}}
processes:
  urgent: {{threads: [control]}}
"""
LIMIT_S = 60.0  # a hang, no measure of speed


@pytest.fixture
def run(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    (tmp_path / "unit.yaml").write_text(UNIT)
    command = [
        sys.executable, "-m", "haihe", "run", str(APP), "--unit", str(tmp_path / "unit.yaml"),
        "--record", str(tmp_path / "run.mcap"),
    ]  # fmt: skip
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            yield process
        finally:
            process.terminate()
            process.communicate(timeout=LIMIT_S)


def until(is_so: Callable[[], bool]) -> None:
    """Wait for something that comes, however long it takes."""
    pause = threading.Event()
    for _ in range(int(LIMIT_S / 0.05)):
        if is_so():
            return
        pause.wait(0.05)
    raise AssertionError("it never came")


def priorities(pid: int) -> list[int]:
    """Of the threads of a process under SCHED_FIFO."""
    found = []
    for entry in Path(f"/proc/{pid}/task").iterdir():
        thread = int(entry.name)
        with contextlib.suppress(ProcessLookupError):  # it has ended
            if os.sched_getscheduler(thread) & ~os.SCHED_RESET_ON_FORK == os.SCHED_FIFO:
                found.append(os.sched_getparam(thread).sched_priority)
    return found


def locked_kb(pid: int) -> int:
    """Memory that the kernel has locked."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmLck:"))


@pytest.mark.process
def test_a_lane_with_a_priority_has_it_in_its_process_alone(
    run: "subprocess.Popen[str]", tmp_path: Path
) -> None:
    if not in_a_thread_fifo_is_allowed():
        pytest.skip("SCHED_FIFO is refused here")
    until(lambda: any(priorities(pid) for pid in descendants(run.pid)))
    (child,) = descendants(run.pid)
    assert priorities(child) == [PRIORITY]
    assert priorities(run.pid) == []
    assert locked_kb(run.pid) == 0
    locked = locked_kb(child)
    run.terminate()
    run.communicate(timeout=LIMIT_S)
    notes = {n["process"]: n["settings"] for n in
             Recording(tmp_path / "run.mcap").note_log["settings"]}  # fmt: skip
    asked = {name: [(row["name"], row["thread"]) for row in rows] for name, rows in notes.items()}
    assert asked == {
        "": [("switch interval", ""), ("malloc", ""), ("timer slack", "every-50ms")],
        "urgent": [
            ("switch interval", ""), ("malloc", ""), ("memory", ""), ("timer slack", "control"),
            ("core", "control"), ("priority", "control"),
        ],
    }  # fmt: skip
    refused = [row["name"] for row in notes["urgent"] if row["problem"]]
    assert refused == (["memory"] if not locked else [])


def in_a_thread_fifo_is_allowed() -> bool:
    """Whether this session may: asked for in a thread that ends at once."""
    found = []

    def ask() -> None:
        try:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))
            found.append(True)
        except PermissionError:
            found.append(False)

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    return found[0]
