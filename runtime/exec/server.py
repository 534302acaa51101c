"""A server of virtual time: one job at a time, the most urgent first, preemptive.

It stands for what threads share while they compute: a core under SCHED_FIFO, or the interpreter.
"""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(eq=False)
class _Job:
    order: int
    left_ns: int
    done: Callable[[], None]


class Server:
    """Jobs by order, 0 the most urgent; the order of two that wait at once differs."""

    def __init__(
        self, now: Callable[[], int], at: Callable[[int, Callable[[], None]], None]
    ) -> None:
        """at: calls back at a time, as a completion."""
        self._now, self._at = now, at
        self._jobs: list[_Job] = []  # the first one is served
        self._since = 0

    def add(self, order: int, need_ns: int, done: Callable[[], None]) -> None:
        """A job arrives; `done` is called when it has been served for `need_ns`."""
        self._account()
        first = self._jobs[0] if self._jobs else None
        self._jobs.append(_Job(order, need_ns, done))
        self._jobs.sort(key=lambda job: job.order)
        if self._jobs[0] is not first:
            self._serve()

    def _account(self) -> None:
        now = self._now()
        if self._jobs:
            self._jobs[0].left_ns -= now - self._since
        self._since = now

    def _serve(self) -> None:
        job = self._jobs[0]
        end = self._now() + job.left_ns
        self._at(end, lambda: self._end(job, end))

    def _end(self, job: _Job, end: int) -> None:
        """The end of a service, unless it was preempted since: then it has more left, or less to
        go from a later start."""
        if not self._jobs or self._jobs[0] is not job or self._since + job.left_ns != end:
            return
        self._account()
        del self._jobs[0]
        if self._jobs:
            self._serve()
        job.done()
