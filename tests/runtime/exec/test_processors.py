"""Processors in virtual time: what happens at one instant."""

import heapq
from collections.abc import Callable

from haihe.runtime.exec.processors import Contention, Processors
from haihe.runtime.plan.model import ThreadPlan


def test_work_that_ends_when_a_more_urgent_thread_begins_has_ended() -> None:
    threads = [
        ThreadPlan("low", ("low",), core=0, rank=1),
        ThreadPlan("high", ("high",), core=0, rank=2),
    ]
    now, order = 0, 0
    heap: list[tuple[int, int, Callable[[], None]]] = []
    ends: list[tuple[str, int]] = []

    def at(t: int, action: Callable[[], None]) -> None:
        nonlocal order
        order += 1
        heapq.heappush(heap, (t, order, action))

    processors = Processors(threads, Contention(), lambda: now, at)
    # an answer on the bus that comes at 10, before what low does ends there
    at(10, lambda: processors.compute(1, 5, 0, lambda: ends.append(("high", now))))
    processors.compute(0, 10, 0, lambda: ends.append(("low", now)))
    while heap:
        now, _, action = heapq.heappop(heap)
        action()
    assert ends == [("low", 10), ("high", 15)]
