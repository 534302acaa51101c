"""What is asked of system and interpreter: judged by the kernel's and the C library's own words."""

import ctypes
import gc
import logging
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from tests.runtime.exec.fakes import FakePort, Joints, Kept, guard, holding, watching
from tests.runtime.exec.test_realtime import executor

from haihe.runtime.exec.realtime import LiveBus, RealtimeExecutor
from haihe.runtime.exec.realtime_settings import Setting, Settings
from haihe.runtime.plan.build import Placement, make_plan
from haihe.runtime.plan.model import ThreadPlan
from haihe.runtime.record.recorder import Recorder
from haihe.runtime.record.recording import Recording

PR_GET_TIMERSLACK = 30
NO_CPU = 1023  # of a mask of 1024; no machine of ours has it
LIMIT_S = 60.0  # a hang, no measure of speed
PLAIN = ThreadPlan("plain", ("plain",))


class MallInfo(ctypes.Structure):
    """struct mallinfo2 of glibc 2.33 and newer; hblkhd: bytes in blocks of their own."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks",
            "fordblks", "keepcost",
        )
    ]  # fmt: skip


@pytest.fixture(autouse=True)
def all_is_put_back() -> Iterator[None]:
    """Whatever a test does, the process is as before."""
    before = (sys.getswitchinterval(), gc.get_threshold(), locked_kb())
    yield
    assert (sys.getswitchinterval(), gc.get_threshold(), locked_kb()) == before
    assert gc.get_freeze_count() == 0


def locked_kb() -> int:
    """Memory of this process that the kernel has locked."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmLck:"))


def in_thread(call: Callable[[], Any]) -> Any:
    """What it gives in a thread of its own, whose settings die with it."""
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(call()))
    thread.start()
    thread.join(LIMIT_S)
    return found[0]


def placed(thread: ThreadPlan) -> tuple[list[Setting], tuple[int, set[int], int]]:
    """What `place` said, and what the kernel says of the thread then."""

    def run() -> Any:
        settings = Settings()
        settings.place(thread)
        slack = ctypes.CDLL(None).prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0)
        return settings.rows, (slack, os.sched_getaffinity(0), os.sched_getscheduler(0))

    found: tuple[list[Setting], tuple[int, set[int], int]] = in_thread(run)
    return found


def test_a_thread_gets_timers_that_wake_in_time() -> None:
    rows, (slack, cores, policy) = placed(PLAIN)
    assert rows == [Setting("timer slack", "plain", "1 ns")]
    assert (slack, cores, policy) == (1, os.sched_getaffinity(0), os.SCHED_OTHER)
    assert ctypes.CDLL(None).prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0) > 1  # of this thread: as it was


def test_a_thread_gets_its_core() -> None:
    core = max(os.sched_getaffinity(0))
    rows, (_, cores, _) = placed(ThreadPlan("pinned", ("a",), core=core))
    assert rows[1:] == [Setting("core", "pinned", str(core))]
    assert cores == {core}


def test_a_core_that_is_offline_is_told_and_the_priority_is_asked_all_the_same() -> None:
    rows, (_, cores, policy) = placed(ThreadPlan("lost", ("a",), core=NO_CPU, rank=1))
    assert rows[1] == Setting("core", "lost", "1023", "CPU 1023 is offline or not for this process")
    assert cores == os.sched_getaffinity(0)
    assert (rows[2].name, rows[2].asked) == ("priority", "SCHED_FIFO 1")
    wanted = os.SCHED_FIFO | os.SCHED_RESET_ON_FORK
    assert policy == (os.SCHED_OTHER if rows[2].problem else wanted)


def test_what_a_thread_with_a_priority_starts_is_ordinary() -> None:
    def run() -> int:
        Settings().place(ThreadPlan("urgent", ("a",), rank=1))
        found: int = in_thread(lambda: os.sched_getscheduler(0))
        return found

    assert in_thread(run) == os.SCHED_OTHER


def test_the_interpreter_is_put_back_by_the_last_executor() -> None:
    before = sys.getswitchinterval()
    first, second = Settings(), Settings()
    first.enter([PLAIN])
    second.enter([PLAIN])
    assert sys.getswitchinterval() == pytest.approx(1e-4)
    assert first.rows == second.rows == [
        Setting("switch interval", "", "0.1 ms"),
        Setting("malloc", "", "keep blocks up to 32 MB"),
    ]  # fmt: skip
    first.freeze()
    assert gc.get_freeze_count() > 0
    first.leave()
    assert sys.getswitchinterval() == pytest.approx(1e-4)
    second.leave()
    assert sys.getswitchinterval() == before


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="not glibc 2.33")
def test_large_arrays_come_from_memory_that_the_process_has() -> None:
    mallinfo = ctypes.CDLL(None).mallinfo2
    mallinfo.restype = MallInfo

    def own_block(size: int) -> bool:
        before = mallinfo().hblkhd
        array = np.empty(size, np.uint8)
        return bool(mallinfo().hblkhd - before >= array.nbytes)

    settings = Settings()
    settings.enter([PLAIN])
    inside = [own_block(size << 20) for size in (1, 8, 20, 40)]
    settings.leave()
    assert inside == [False, False, False, True]
    assert own_block(31 << 20)  # more than what the test has freed and the heap may have kept


@pytest.mark.parametrize("name", ["MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"])
def test_what_the_environment_says_of_malloc_stays(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "glibc.malloc.trim_threshold=1")
    settings = Settings()
    settings.enter([PLAIN])
    settings.leave()
    assert settings.rows[1] == Setting("malloc", "", f"as {name} says")


def test_memory_is_locked_while_a_thread_with_a_priority_runs() -> None:
    before = locked_kb()
    with_rank, without = Settings(), Settings()
    with_rank.enter([PLAIN, ThreadPlan("urgent", ("a",), rank=2)])
    without.enter([PLAIN])
    memory = with_rank.rows[2]
    assert (memory.name, memory.thread, memory.asked) == ("memory", "", "locked")
    assert [row.name for row in without.rows] == ["switch interval", "malloc"]
    assert (locked_kb() > before) == (not memory.problem)
    with_rank.leave()
    assert locked_kb() == before
    without.leave()


def test_refusals_without_any_right_are_one_line_each_and_the_run_goes_on() -> None:
    """A process without capabilities and limits, as most users' are."""
    app = textwrap.dedent(
        """
        import ctypes, logging, resource, struct, sys, threading
        logging.basicConfig(stream=sys.stdout, format="%(levelname)s %(message)s")
        resource.setrlimit(resource.RLIMIT_RTPRIO, (0, 0))
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (8 << 20, 8 << 20))
        header = struct.pack("<Ii", 0x20080522, 0)  # capset: version 3, this thread
        assert ctypes.CDLL(None).capset(header, bytes(24)) == 0
        from haihe.runtime.exec.realtime_settings import Settings
        from haihe.runtime.plan.model import ThreadPlan
        threads = [ThreadPlan(name, ("a",), core=1023, rank=50) for name in ("control", "bus")]
        settings = Settings()
        settings.enter(threads)
        for thread in threads:
            worker = threading.Thread(target=settings.place, args=(thread,))
            worker.start()
            worker.join()
        settings.freeze()
        settings.leave()
        """
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", app], capture_output=True, text=True,
        timeout=LIMIT_S, check=False,
    )  # fmt: skip
    assert done.stderr == ""
    after = "The run goes on without; `haihe doctor` says how to allow it."
    assert done.stdout.splitlines() == [
        f"WARNING memory: locked refused: the limit of locked memory is 8192 kB. {after}",
        "WARNING core of control, bus: 1023 refused: CPU 1023 is offline or not for this process. "
        f"{after}",
        "WARNING priority of control, bus: SCHED_FIFO 50 refused: Operation not permitted. "
        f"{after}",
    ]


def test_a_thread_that_begins_after_the_lanes_says_its_refusals_itself(
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings = Settings()
    settings.enter([PLAIN])
    in_thread(lambda: settings.place(ThreadPlan("early", ("a",), core=NO_CPU)))
    settings.freeze()
    in_thread(lambda: settings.place(ThreadPlan("late", ("a",), core=NO_CPU)))
    settings.leave()
    assert caplog.messages == [
        f"core of {name}: 1023 refused: CPU 1023 is offline or not for this process. The run goes "
        "on without; `haihe doctor` says how to allow it."
        for name in ("early", "late")
    ]


def test_an_executor_keeps_what_it_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    log: list[str] = []
    made = executor(holding(), log, sink=Kept())
    with caplog.at_level(logging.WARNING, "haihe.runtime.exec.realtime_settings"):
        made.start(arm=False)
        made.stop("end")
    assert [(row.name, row.thread, row.problem) for row in made.settings.rows] == [
        ("switch interval", "", ""), ("malloc", "", ""), ("timer slack", "every-20ms", ""),
    ]  # fmt: skip
    assert caplog.text == ""


def test_a_recording_says_what_was_granted_and_refused(tmp_path: Path) -> None:
    graph = holding()
    plan = make_plan(graph, {}, {"every-20ms": Placement(core=NO_CPU)})
    recorder = Recorder(tmp_path / "run.mcap", {"plan": msgspec.to_builtins(plan)})
    buses = {"neck": LiveBus(Joints(), guard(), lambda: FakePort([]))}
    made = RealtimeExecutor(graph, plan, buses, {}, recorder)
    made.start(arm=False)
    made.stop("end")
    recorder.close(finish=False)
    note = Recording(recorder.path).notes["settings"]
    assert note["process"] == ""
    assert [tuple(row.values()) for row in note["settings"]] == [
        ("switch interval", "", "0.1 ms", ""),
        ("malloc", "", "keep blocks up to 32 MB", ""),
        ("timer slack", "every-20ms", "1 ns", ""),
        ("core", "every-20ms", "1023", "CPU 1023 is offline or not for this process"),
    ]


def test_a_start_that_fails_puts_all_back() -> None:
    log: list[str] = []
    made = executor(watching(), log)
    made._streams["front"].open = raises  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match=r"^made to raise$"):
        made.start(arm=False)


def raises() -> None:
    raise RuntimeError("made to raise")
