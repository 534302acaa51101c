"""Counters that outlive their process: what is stored is loaded; after a death the numbers go on,
and every local edge balances, judged by what the nodes themselves counted."""

import contextlib
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Annotated, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.runtime.exec.fakes import MS
from tests.runtime.plan.interpreter import PipelineSpec, as_graph
from tests.runtime.plan.test_codegen_random import pipelines

from haihe.runtime.contracts import fresh, sometimes
from haihe.runtime.exec.assembly import Assembly
from haihe.runtime.exec.lane import Timing
from haihe.runtime.exec.remote import Outgoing
from haihe.runtime.exec.table import Table
from haihe.runtime.exec.virtual import VirtualExecutor
from haihe.runtime.graph import Graph
from haihe.runtime.node import node
from haihe.runtime.plan.build import Placement, make_plan
from haihe.runtime.plan.model import Plan
from haihe.runtime.telemetry.stats import EdgeStats, NodeStats
from haihe.runtime.types import Reading


@contextlib.contextmanager
def memory(plan: Plan, process: str) -> Iterator[int]:
    fd = os.memfd_create("table")
    os.ftruncate(fd, Table.size(plan, process))
    try:
        yield fd
    finally:
        os.close(fd)


@settings(max_examples=30, deadline=None)
@given(pipelines(), st.lists(st.sampled_from(["", "near", "far"]), min_size=9, max_size=9))
def test_what_a_process_stored_is_loaded_by_its_next_life(
    pipeline: PipelineSpec, processes: list[str]
) -> None:
    graph, _ = as_graph(pipeline)
    names = [thread.name for thread in make_plan(graph, {}).threads]
    placements = {
        name: Placement(process=process) for name, process in zip(names, processes, strict=False)
    }
    plan = make_plan(graph, {}, placements)
    cameras: dict[str, Any] = {stream.name: stream for stream in pipeline.streams}
    executor = VirtualExecutor(graph, plan, {}, cameras)
    here = executor.assembly
    loaded = Assembly(graph, plan, {}, lambda index: here.lanes[index].timing)  # type: ignore[arg-type,return-value]
    with contextlib.ExitStack() as stack:
        tables = {}
        for process in {plan.process_of(lane.name) for lane in plan.lanes}:
            fd = stack.enter_context(memory(plan, process))
            tables[process] = table = Table(fd, plan, process)
            stack.callback(table.close)
            for lane in here.lanes:
                if plan.process_of(lane.name) == process:
                    table.watch(here, lane)
        executor.run(60 * MS)
        for lane in here.lanes:
            table = tables[plan.process_of(lane.name)]
            assert table.firings(lane.name) == lane.firing
            firing, made = table.load(loaded, lane.name)
            assert firing == lane.firing
            own = lane.numbers().keys() - set(lane.task.reads) - graph.feedbacks.keys()
            assert made == {source: lane.numbers()[source] for source in own}
    assert [e.as_dict() for e in loaded.edges] == [e.as_dict() for e in here.edges]
    assert loaded.nodes.keys() == here.nodes.keys()
    for name, stats in here.nodes.items():
        assert loaded.nodes[name].as_dict() == stats.as_dict()


# --- deaths ---------------------------------------------------------------------------------------

SAYS: set[str] = set()  # nodes that give something in the firing under way
CALLS: list[str] = []  # of that firing: what was made


@node(every="10ms")
def often() -> Annotated[Reading, sometimes]:
    return say("often")


@node(every="10ms")
def side() -> Annotated[Reading, sometimes]:
    return say("side")


@node(on="often")
def both(often: Reading, side: Annotated[Reading, fresh("1s")]) -> Annotated[Reading, sometimes]:
    return say("both")


@node(on="both")
def after(both: Reading) -> Reading:
    CALLS.append("after")
    return both


@node(every="20ms")
def far(both: Annotated[Reading, fresh("1s")]) -> Reading:
    return both


def say(name: str) -> Reading:
    if name not in SAYS:
        return None  # type: ignore[return-value]
    CALLS.append(name)
    return Reading(0.0)


with Graph("two lives") as GRAPH:
    made_by_both = both(often(), side())
    after(made_by_both)
    far(made_by_both)
    GRAPH.process("near", made_by_both)
PLAN = make_plan(GRAPH, {})
SOURCES = ("often", "side", "both", "after")
LOCAL = {"both.often": "often", "both.side": "side", "after.both": "both"}


class Dead(BaseException):
    pass


class Life:
    """A life of the process: its lane, fired by hand, and the way to the reader elsewhere."""

    def __init__(self, fd: int, number: int) -> None:
        self.table = Table(fd, PLAN, "near")
        outlet = Outgoing("both")
        outlet.table = self.table
        timing = Timing(lambda: 0, lambda: 0, lambda: 0)
        self.assembly = Assembly(
            GRAPH, PLAN, {}, lambda index: timing, process="near", outlets={"both": outlet}
        )
        (self.lane,) = self.assembly.lanes
        self.outlet = outlet
        if number:
            self.table.go_on(self.assembly, self.lane, 0)
        self.table.watch(self.assembly, self.lane)

    def fire(self, said: frozenset[str], *, dies: bool) -> None:
        SAYS.clear()
        SAYS.update(said)
        CALLS.clear()
        store = self.lane.on_log
        assert store is not None

        def log(fixed: bytes) -> None:
            if dies:
                raise Dead
            store(fixed)

        self.lane.on_log = log
        for _ in self.lane.begin(0):
            pass
        self.lane.on_log = store

    def end(self) -> None:
        self.table.close()
        self.outlet.close()


said = st.frozensets(st.sampled_from(["often", "side", "both"]))
steps = st.lists(
    st.one_of(
        said.map(lambda what: ("fire", what)),
        said.map(lambda what: ("dies in it", what)),
        st.just(("dies", frozenset())),
    ),
    max_size=30,
)


@settings(max_examples=80, deadline=None)
@given(steps)
def test_after_a_death_numbers_go_on_and_local_edges_balance(
    taken: list[tuple[str, frozenset[str]]],
) -> None:
    made: Counter[str] = Counter()
    read: Counter[str] = Counter()
    sent: list[int] = []
    firings = lives = 0
    is_new = False  # side's last message is not read yet
    with memory(PLAN, "near") as fd:
        life = Life(fd, lives)
        for what, said in [*taken, ("dies", frozenset())]:
            is_dead = what != "fire"
            if what != "dies":
                before = life.outlet.value
                with contextlib.suppress(Dead):
                    life.fire(said, dies=is_dead)
                if life.outlet.value is not before:
                    assert life.outlet.value is not None
                    sent.append(life.outlet.value[0])
                if not is_dead:
                    firings += 1
                if is_dead:
                    made["both"] += "both" in CALLS  # it was sent, the rest died with the firing
                else:
                    made.update(CALLS)
                    is_new |= "side" in CALLS
                    read["after.both"] += "both" in CALLS
                    if "often" in CALLS:  # then both's inputs are read, called or not
                        read.update({"both.often": 1, "both.side": int(is_new)})
                        is_new = False
            if is_dead:
                life.end()
                lives += 1
                is_new = False
                life = Life(fd, lives)
                assert all(life.assembly.in_flight(edge) == 0 for edge in local_edges().values())
            assert life.lane.firing == firings
            assert life.lane.numbers() == {name: made[name] for name in SOURCES}
            assert life.table.sent("both") == made["both"]
            for target, edge in local_edges().items():
                stats = life.assembly.edges[edge]
                assert stats.received == read[target]
                left = stats.overwritten + stats.refused + life.assembly.in_flight(edge)
                assert left == made[LOCAL[target]] - read[target], target
        life.end()
    assert sent == list(range(1, made["both"] + 1))  # no number twice, none left out


def local_edges() -> dict[str, int]:
    return {edge.target: n for n, edge in enumerate(PLAN.edges) if edge.target in LOCAL}


def test_what_a_table_holds_is_said_by_the_plan() -> None:
    assert [edge.kind for edge in PLAN.edges if edge.target in LOCAL] == ["local"] * 3
    pages = 1 + 2 * 4 + 3 * len(EdgeStats.__slots__) + 4 * len(NodeStats.__slots__) + 1
    assert Table.size(PLAN, "near") == 8 + 8 + 2 * 8 * pages
    assert Table.size(PLAN, "nobody") == 8  # a map must have a size
    with memory(PLAN, "near") as fd, contextlib.closing(Table(fd, PLAN, "near")) as table:
        table.sending("often", 3)  # nobody elsewhere reads it
        assert (table.sent("often"), table.sent("both"), table.firings("every-10ms")) == (0, 0, 0)
        with pytest.raises(KeyError):
            table.firings("every-20ms")


def test_the_copy_that_is_whole_is_left_alone_in_every_life() -> None:
    with memory(PLAN, "near") as fd:
        size = os.fstat(fd).st_size
        copy = (size - 16) // 2
        for number in range(6):  # of firings in that life
            life = Life(fd, number)
            for _ in range(number):
                before = os.pread(fd, size, 0)
                whole = 16 + (before[8] & 1) * copy
                life.fire(frozenset({"often", "side", "both"}), dies=False)
                after = os.pread(fd, size, 0)
                assert after[whole : whole + copy] == before[whole : whole + copy]
                assert int.from_bytes(after[8:16], "little") == before[8] + 1
            life.end()


class Meanwhile:
    """A table's memory, whose writer stores a page and a half after the reader's first look."""

    def __init__(self, table: Table, fd: int) -> None:
        self.words, self.table, self.fd, self.looks = table._memory, table, fd, 0

    def release(self) -> None:
        self.words.release()

    def __getitem__(self, at: int) -> int:
        found: int = self.words[at]
        self.looks += 1
        if self.looks == 1:
            start, layout = self.table._pages[LANE]
            for number, part in ((found + 1, layout.size), (found + 2, layout.size // 2)):
                row = layout.pack(*(number,) * (layout.size // 8))[:part]
                os.pwrite(self.fd, row, start + 8 + (number & 1) * layout.size)
            self.words[at] = found + 1
        return found


def test_a_page_whose_writer_comes_round_while_it_is_read_is_read_again() -> None:
    with memory(PLAN, "near") as fd, contextlib.closing(Table(fd, PLAN, "near")) as table:
        table._memory = Meanwhile(table, fd)  # type: ignore[assignment]
        assert row_of(table) == 1
        assert table.firings(LANE) == 1


# --- a kill ---------------------------------------------------------------------------------------

LANE, KILLS = "every-10ms", 30
FORKS = """
import os
import sys
from tests.runtime.exec.test_table import LANE, SOURCES, Life

def write(fd):
    life = Life(fd, 1)
    lane = life.lane
    counters = [life.assembly.edges[edge] for edge in range(len(life.assembly.edges))]
    counters += life.assembly.nodes.values()
    number = life.table.firings(LANE)
    while True:
        number += 1
        lane.firing = number
        lane.bases = dict.fromkeys(SOURCES, number)
        lane.numbers = lambda: lane.bases
        for one in counters:
            for name in one.__slots__:
                setattr(one, name, number)
        life.table.sending("both", number)
        lane.on_log(b"")

while True:
    pid = os.fork()
    if not pid:
        write(int(sys.argv[1]))
    print(pid, flush=True)
    os.waitpid(pid, 0)
    print("dead", flush=True)
    if not sys.stdin.readline():
        break
"""


def test_a_page_is_never_torn_by_a_kill_nor_by_its_writer_going_on() -> None:
    with memory(PLAN, "near") as fd, contextlib.closing(Table(fd, PLAN, "near")) as table:
        last = 0
        with subprocess.Popen(
            [sys.executable, "-c", FORKS, str(fd)],
            pass_fds=[fd],
            stdout=subprocess.PIPE,
            stdin=subprocess.PIPE,
        ) as forks:
            assert forks.stdin is not None
            assert forks.stdout is not None
            for number in range(KILLS):
                if number:
                    forks.stdin.write(b"next\n")
                    forks.stdin.flush()
                pid = int(forks.stdout.readline())
                try:
                    while table.firings(LANE) < last + 3:
                        pass
                    for _ in range(20):  # while it goes on
                        last = row_of(table)
                finally:
                    os.kill(pid, signal.SIGKILL)
                assert forks.stdout.readline() == b"dead\n"
                last = row_of(table)
                assert table.sent("both") in (last, last + 1)
            forks.stdin.close()
        assert forks.returncode == 0
        assert last >= 3 * KILLS


def row_of(table: Table) -> int:
    """The number that all of a page was written with, but for its count of tripped guards."""
    (number,) = set(table._page(LANE)[:-1])
    return number
