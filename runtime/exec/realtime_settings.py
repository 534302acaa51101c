"""What a running executor asks of the operating system and of the interpreter, and what it got.

Of the interpreter: a short switch interval, and a heap without what the imports left. Of the C
library: memory that stays with the process. Of the system, for each thread of the plan: timers
that wake in time, its core, its SCHED_FIFO priority; and, where a thread has a priority, memory
that is not paged out. Whatever is refused is kept as a `Setting` with its cure, logged once, and
the run goes on; `haihe check` counts on none of it. The process-wide settings are put back when the
last executor of the process ends.

Measured on an x86-64 guest of two cores, Linux 6.18, glibc 2.36, Python 3.11. Malloc: the usual
letterbox to 640x640 in numpy and OpenCV takes 1.1 ms (6 page faults), 3.0 ms (680) with glibc's own
thresholds. Memory: `MCL_CURRENT` without `MCL_ONFAULT` fills in every page that is merely mapped:
60 MB of onnxruntime, OpenCV and numpy became 479 MB resident in 0.4 s; so pages are locked as they
are touched. Garbage: a recorded 1 kHz lane beside one of 200 Hz set off no collection in 20 s, and
a full one took 0.07 ms after the freeze; so the thresholds stay, since what is never collected
grows until the board is out of memory.
"""

import ctypes
import gc
import logging
import os
import resource
import sys
import threading
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from haihe.runtime.plan.model import ThreadPlan

log = logging.getLogger(__name__)

SWITCH_INTERVAL_S = 1e-4  # a lane waits at most so long for the interpreter
TIMER_SLACK_NS = 1  # Linux lets timers of ordinary threads fire up to 50 µs late
PR_SET_TIMERSLACK = 29
MCL_CURRENT, MCL_FUTURE, MCL_ONFAULT = 1, 2, 4  # of every machine that haihe has a profile for
CAP_IPC_LOCK = 14
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
MMAP_BYTES, TRIM_BYTES = (
    32 << 20,
    64 << 20,
)  # a 4K frame; what is freed and kept, at most, in each arena
GLIBC_BYTES = 128 << 10  # its defaults; that it adapts them by itself cannot be put back
MALLOC_VARIABLES = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")
CURE = "`haihe doctor` says how to allow it"


class Setting(msgspec.Struct, frozen=True):
    """One thing that was asked. thread: "" for the whole process. problem: why it was refused, ""
    when it was granted."""

    name: str
    thread: str
    asked: str
    problem: str = ""


class Settings:
    """What one executor asked for; `rows` is for reports, snapshots and the recording's note."""

    def __init__(self) -> None:
        self.rows: list[Setting] = []
        self._has_rank = False
        self._is_said = False

    def enter(self, threads: Iterable[ThreadPlan]) -> None:
        """Before models and devices are opened. threads: those that run in this process."""
        self._has_rank = any(thread.rank > 0 for thread in threads)
        self.rows += _process.enter(has_rank=self._has_rank)

    def place(self, thread: ThreadPlan) -> None:
        """Set the calling thread's timers, core and priority, as the plan says."""
        rows = []

        def ask(name: str, asked: str, problem: str) -> None:
            rows.append(Setting(name, thread.name, asked, problem))

        ask("timer slack", f"{TIMER_SLACK_NS} ns", _prctl(PR_SET_TIMERSLACK, TIMER_SLACK_NS))
        if thread.core >= 0:
            ask("core", str(thread.core), _pin(thread.core))
        if thread.rank > 0:
            # what a node starts from here, such as a library's pool of threads, is ordinary again
            policy = os.SCHED_FIFO | os.SCHED_RESET_ON_FORK
            parameter = os.sched_param(thread.rank)
            problem = _refusal(lambda: os.sched_setscheduler(0, policy, parameter))
            ask("priority", f"SCHED_FIFO {thread.rank}", problem)
        self.rows += rows
        if self._is_said:  # a thread that begins later than the lanes
            _say(rows)

    def freeze(self) -> None:
        """When all is open: a full collection of what the imports left would cost tens of ms
        later. Says what was refused."""
        gc.collect()
        gc.freeze()
        self._is_said = True
        _say(self.rows)

    def leave(self) -> None:
        """The last executor of the process restores."""
        _process.leave(has_rank=self._has_rank)

    def note(self, process: str) -> dict[str, Any]:
        """For a recording: what each process asked for, and what of it was refused."""
        return {"process": process, "settings": msgspec.to_builtins(self.rows)}

    def refused(self) -> list[str]:
        """A line for each kind of refusal, with the threads that it meets."""
        return _refusals(self.rows)


def _say(rows: Iterable[Setting]) -> None:
    for line in _refusals(rows):
        log.warning("%s", line)


def _refusals(asked_for: Iterable[Setting]) -> list[str]:
    met: dict[tuple[str, str], list[Setting]] = {}
    for row in asked_for:
        if row.problem:
            met.setdefault((row.name, row.problem), []).append(row)
    lines = []
    for (name, problem), rows in met.items():
        asked = " and ".join(dict.fromkeys(row.asked for row in rows))
        threads = ", ".join(row.thread for row in rows if row.thread)
        whose = f" of {threads}" if threads else ""
        lines.append(f"{name}{whose}: {asked} refused: {problem}. The run goes on without; {CURE}.")
    return lines


class _Process:
    """Settings of the whole process, while at least one executor runs in it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._ranked = 0
        self._interval = 0.0
        self._malloc = Setting("malloc", "", "")
        self._memory = Setting("memory", "", "")

    def enter(self, *, has_rank: bool) -> list[Setting]:
        with self._lock:
            self._users += 1
            self._ranked += has_rank
            if self._users == 1:
                self._interval = sys.getswitchinterval()
                sys.setswitchinterval(SWITCH_INTERVAL_S)
                self._malloc = _keep_memory()
            if has_rank and self._ranked == 1:
                self._memory = Setting("memory", "", "locked", _lock_memory())
            interval = Setting("switch interval", "", f"{SWITCH_INTERVAL_S * 1e3:g} ms")
            return [interval, self._malloc, *([self._memory] if has_rank else [])]

    def leave(self, *, has_rank: bool) -> None:
        with self._lock:
            self._users -= 1
            self._ranked -= has_rank
            if has_rank and not self._ranked and not self._memory.problem:
                _libc().munlockall()
            if not self._users:
                gc.unfreeze()
                sys.setswitchinterval(self._interval)
                if self._malloc.asked.startswith("keep") and not self._malloc.problem:
                    _libc().mallopt(M_MMAP_THRESHOLD, GLIBC_BYTES)
                    _libc().mallopt(M_TRIM_THRESHOLD, GLIBC_BYTES)


_process = _Process()


@cache
def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]
    return libc


def _prctl(option: int, value: int) -> str:
    """Of the calling thread: "" or why not."""
    return "" if _libc().prctl(option, value, 0, 0, 0) == 0 else os.strerror(ctypes.get_errno())


def _pin(core: int) -> str:
    problem = _refusal(lambda: os.sched_setaffinity(0, {core}))
    return f"CPU {core} is offline or not for this process" if problem else ""


def _refusal(call: Callable[[], None]) -> str:
    try:
        call()
    except OSError as exc:
        return exc.strerror or str(exc)
    return ""


def _keep_memory() -> Setting:
    """Large arrays come from memory that the process has, not from the kernel page by page."""
    chosen = next((name for name in MALLOC_VARIABLES if name in os.environ), "")
    if not chosen and "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        chosen = "GLIBC_TUNABLES"
    if chosen:
        return Setting("malloc", "", f"as {chosen} says")
    asked = f"keep blocks up to {MMAP_BYTES >> 20} MB"
    try:
        mallopt = _libc().mallopt
    except AttributeError:
        return Setting("malloc", "", asked, "this C library is not glibc")
    is_set = mallopt(M_MMAP_THRESHOLD, MMAP_BYTES) and mallopt(M_TRIM_THRESHOLD, TRIM_BYTES)
    return Setting("malloc", "", asked, "" if is_set else "glibc does not take the thresholds")


def _lock_memory() -> str:
    """Pages stay once they are touched: "" or why not."""
    limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    if limit != resource.RLIM_INFINITY and not _may_lock():
        # it may succeed now, and the next allocation beyond the limit would fail
        return f"the limit of locked memory is {limit >> 10} kB"
    if _libc().mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) == 0:
        return ""
    return os.strerror(ctypes.get_errno())


def _may_lock() -> bool:
    """Whether the limit does not bind this process."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return False
    effective = next((line.split()[1] for line in lines if line.startswith("CapEff:")), "0")
    return bool(int(effective, 16) >> CAP_IPC_LOCK & 1)
