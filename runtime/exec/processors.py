"""What the threads of a plan compute with in virtual time: cores, and interpreters that they share.

The rules are those of `runtime/plan/timing.py`: a core under SCHED_FIFO belongs to its most urgent
thread, an interpreter to one thread at a time, and who waits for it leaves its core to others.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from haihe.runtime.plan.model import ThreadPlan


@dataclass(frozen=True)
class Contention:
    """Interpreters in virtual time. process: by thread, the interpreter that it shares; a thread
    that is not named has its own. held_ns: by lane, how long a job needs it, from its start.

    first: the thread that comes first at its interpreter, in each slice of time, round and round;
    after it the others follow in the plan's order. keeps: a thread whose core is taken from it may
    have the interpreter all the same.
    """

    process: Mapping[str, str] = field(default_factory=dict)
    held_ns: Mapping[str, int] = field(default_factory=dict)
    first: tuple[str, ...] = ()
    slice_ns: int = 1
    keeps: bool = False


@dataclass(eq=False)
class _Work:
    left_ns: int
    held_ns: int  # of it, what still needs the interpreter
    done: Callable[[], None]


class Processors:
    """One piece of work per thread at a time."""

    def __init__(
        self,
        threads: Sequence[ThreadPlan],
        contention: Contention,
        now: Callable[[], int],
        at: Callable[[int, Callable[[], None]], None],
    ) -> None:
        """now: since the first release. at: calls back at a time, as a completion."""
        self._threads, self._now, self._at = threads, now, at
        self._contention = contention
        names = [thread.name for thread in threads]
        self._process = [contention.process.get(name, f"{name} alone") for name in names]
        self._first = [names.index(name) for name in contention.first] or [0]
        self._work: dict[int, _Work] = {}
        self._moving: list[int] = []
        self._since = 0
        self._version = 0

    def compute(self, thread: int, work_ns: int, held_ns: int, done: Callable[[], None]) -> None:
        """Begin a piece of work; `done` is called when it has been computed."""
        self._account()
        self._work[thread] = _Work(work_ns, min(held_ns, work_ns), done)
        self._decide()

    def remove(self, thread: int) -> tuple[int, int] | None:
        """Take a thread's work away; gives what is left of it, and of what it needs the
        interpreter for, in ns; None when there was none."""
        self._account()
        work = self._work.pop(thread, None)
        self._decide()
        return None if work is None else (work.left_ns, work.held_ns)

    def _account(self) -> None:
        now = self._now()
        for thread in self._moving:
            work = self._work[thread]
            work.left_ns -= now - self._since
            work.held_ns = max(0, work.held_ns - (now - self._since))
        self._since = now

    def _decide(self) -> None:
        """Who computes from now on, and when that may change."""
        waiting = self._waiting()
        self._moving = [
            thread
            for thread in sorted(self._work)
            if thread not in waiting
            and not any(o not in waiting and self._preempts(o, thread) for o in self._work)
        ]
        self._version += 1
        ends = [self._work[t].held_ns or self._work[t].left_ns for t in self._moving]
        ends += [0 for work in self._work.values() if not work.left_ns]  # it ends, preempted or not
        if waiting and len(self._first) > 1:
            ends.append(self._contention.slice_ns - self._since % self._contention.slice_ns)
        if ends:
            version = self._version
            self._at(self._since + min(ends), lambda: self._change(version))

    def _preempts(self, other: int, thread: int) -> bool:
        a, b = self._threads[other], self._threads[thread]
        return a.core == b.core and a.core >= 0 and a.rank > b.rank

    def _waiting(self) -> set[int]:
        """The threads that wait for their interpreter."""
        waiting: set[int] = set()
        served: set[str] = set()
        slice_number = self._since // self._contention.slice_ns
        first = self._first[slice_number % len(self._first)]
        order = [*range(first, len(self._threads)), *range(first)]
        wanting = [t for t in order if t in self._work and self._work[t].held_ns]
        found = True
        while found:
            found = False
            for thread in wanting:
                process = self._process[thread]
                taken = any(
                    self._preempts(other, thread)
                    and other not in waiting
                    and not (other in wanting and self._process[other] == process)
                    for other in self._work
                )
                if process in served or (taken and not self._contention.keeps):
                    continue
                found = True
                served.add(process)
                waiting |= {t for t in wanting if t != thread and self._process[t] == process}
        return waiting

    def _change(self, version: int) -> None:
        if version != self._version:
            return
        self._account()
        done = [(t, self._work[t]) for t in sorted(self._work) if not self._work[t].left_ns]
        for thread, _ in done:
            del self._work[thread]
        self._decide()
        for _, work in done:
            work.done()
