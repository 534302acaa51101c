"""What a running executor asks of the interpreter and of the operating system for its threads."""

import gc
import logging
import os
import sys
import threading

from haihe.runtime.plan.model import ThreadPlan

log = logging.getLogger(__name__)


class Interpreter:
    """Settings of the whole interpreter, while at least one executor runs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._interval = 0.0

    def enter(self) -> None:
        """A control lane waits at most 0.1 ms for the interpreter."""
        with self._lock:
            self._users += 1
            if self._users == 1:
                self._interval = sys.getswitchinterval()
                sys.setswitchinterval(1e-4)

    def freeze(self) -> None:
        """A full collection of what the imports left would cost tens of ms later."""
        gc.collect()
        gc.freeze()

    def leave(self) -> None:
        """The last one restores."""
        with self._lock:
            self._users -= 1
            if not self._users:
                gc.unfreeze()
                sys.setswitchinterval(self._interval)


interpreter = Interpreter()


def place(thread: ThreadPlan) -> None:
    """Pin the calling thread to its core and give it its real-time priority, as the plan says. A
    refusal is a warning: the run goes on, and `haihe check` counts on neither."""
    try:
        if thread.core >= 0:
            os.sched_setaffinity(0, {thread.core})
        if thread.rank > 0:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(thread.rank))
    except OSError as exc:
        log.warning(
            "thread %s: core %d, SCHED_FIFO priority %d refused: %s. It runs unpinned or without "
            "priority; allow it with `ulimit -r`, or leave it out of the unit profile.",
            thread.name, thread.core, thread.rank, exc.strerror,
        )  # fmt: skip


def where(thread: threading.Thread) -> str:
    """`file:line in function` of what a thread executes: of its innermost frame outside haihe's
    runtime, so a hanging node is named."""
    frame = sys._current_frames().get(thread.ident or 0)
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if not module.startswith(("haihe.runtime", "threading")):
            break
        frame = frame.f_back
    if frame is None:
        return ""
    return f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_qualname}"
