"""A lane with an actuator after deaths: what its record says, its guard, and its command's edge."""

import contextlib
import os
from collections.abc import Generator, Iterator
from typing import Any

import pytest
from tests.runtime.exec.fakes import MS, FakePort, Joints, Kept, guard, holding

from haihe.runtime.exec.assembly import Assembly
from haihe.runtime.exec.lane import Timing
from haihe.runtime.exec.table import Table
from haihe.runtime.guard import GuardState
from haihe.runtime.plan.build import Placement, make_plan
from haihe.runtime.record.format import FIRING, RESTART, SETUP

GRAPH = holding()
LANE = "every-20ms"
PLAN = make_plan(GRAPH, {}, {LANE: Placement(process="near")})
(COMMAND,) = [i for i, edge in enumerate(PLAN.edges) if edge.target == "neck.command"]
(STATE,) = [i for i, edge in enumerate(PLAN.edges) if edge.target == "steady.neck"]


@pytest.fixture
def fd() -> Iterator[int]:
    made = os.memfd_create("table")
    os.ftruncate(made, Table.size(PLAN, "near"))
    yield made
    os.close(made)


class Life:
    """A life of the process: opened, and fired by hand at 20 ms."""

    now = 0  # goes on from life to life

    def __init__(self, fd: int, sink: Kept, *, is_first: bool) -> None:
        self.log: list[str] = []
        timing = Timing(lambda: Life.now, lambda: Life.now, lambda: Life.now)
        self.guard = guard()
        self.assembly = Assembly(
            GRAPH, PLAN, {"neck": (Joints(), self.guard)}, lambda index: timing,
            sink=sink, process="near",
        )  # fmt: skip
        (self.lane,) = self.assembly.lanes
        self.lane.block_ns = 0
        self.lane.buses[0].port = FakePort(self.log)
        self.table = Table(fd, PLAN, "near")
        if not is_first:
            self.table.go_on(self.assembly, self.lane, Life.now)
        self.table.watch(self.assembly, self.lane)
        self._drive(self.lane.setup())

    def fire(self, times: int = 1) -> None:
        for _ in range(times):
            Life.now += 20 * MS
            self._drive(self.lane.begin(Life.now))

    @staticmethod
    def _drive(steps: Generator[Any, Any, Any]) -> None:
        reply = None
        with contextlib.suppress(StopIteration):
            while True:
                item = steps.send(reply)
                reply = None if item.__class__ is int else item.port.exchange(item.pending)

    def check_edges(self, firings: int) -> None:
        """Every firing reads the state and makes a command, and both are taken in it."""
        for edge in (COMMAND, STATE):
            stats = self.assembly.edges[edge]
            assert (stats.received, stats.overwritten) == (firings, 0)
            assert self.assembly.in_flight(edge) == 0
        assert self.assembly.nodes["steady"].called == firings

    def die(self) -> None:
        self.table.close()


def test_deaths_of_a_lane_with_an_actuator(fd: int) -> None:
    Life.now = 0
    sink = Kept()
    assert [PLAN.edges[i].kind for i in (COMMAND, STATE)] == ["local", "local"]
    for number, firings in enumerate((4, 3, 0, 2)):
        before = sum((4, 3, 0, 2)[:number])
        life = Life(fd, sink, is_first=not number)
        life.check_edges(before)
        assert life.guard.state is GuardState.DISARMED
        assert life.log[:2] == ["port opened", "sent S"]  # set up anew, nothing sent before
        life.lane.inbox.append(("arm",))
        life.fire(firings)
        armed = GuardState.ARMED if firings else GuardState.DISARMED
        assert str(life.guard.state) == str(armed)
        life.check_edges(before + firings)
        assert life.lane.numbers() == {"neck.state": before + firings, "steady": before + firings}
        assert life.table.firings(LANE) == before + firings
        life.die()
    records = sink.records(PLAN, LANE)
    kinds = [(r.kind, r.fixed[0]) for r in records]
    assert kinds == [
        (SETUP, 0),
        *((FIRING, n) for n in (1, 2, 3, 4)),
        (RESTART, 4),
        (SETUP, 0),
        *((FIRING, n) for n in (5, 6, 7)),
        (RESTART, 7),
        (SETUP, 0),
        (RESTART, 7),
        (SETUP, 0),
        *((FIRING, n) for n in (8, 9)),
    ]
    restarts = [r for r in records if r.kind == RESTART]
    assert [r.fixed for r in restarts] == [(4, 80 * MS), (7, 140 * MS), (7, 140 * MS)]
    assert [r.events for r in restarts] == [
        [("restart", {"neck.state": n, "steady": n})] for n in (4, 7, 7)
    ]


def test_a_tripped_guard_is_seen_from_outside_while_its_process_lives(fd: int) -> None:
    Life.now = 0
    outside = Table(fd, PLAN, "near")
    life = Life(fd, Kept(), is_first=True)
    life.lane.inbox.append(("arm",))
    life.fire()
    assert not outside.is_latched(LANE)
    life.lane.inbox.append(("trip", "e-stop"))
    life.fire()
    assert outside.is_latched(LANE)
    life.die()  # nobody is asked any more: it is read
    assert outside.is_latched(LANE)
    again = Life(fd, Kept(), is_first=False)
    again.fire()
    assert (again.guard.state, outside.is_latched(LANE)) == (GuardState.DISARMED, False)
    again.die()
    outside.close()
