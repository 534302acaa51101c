"""The stepping code in virtual time: outcomes, ages, dt, lineage, feedback, counters, buses."""

from dataclasses import dataclass, field
from typing import Annotated, Any, NamedTuple

import numpy as np
import pytest

from haihe import (
    RNG,
    TICK,
    Age,
    Graph,
    Rng,
    Tick,
    age_of,
    feedback,
    fresh,
    node,
    silent,
    sometimes,
)
from haihe.runtime.clock import MILLISECOND, SECOND
from haihe.runtime.exec.virtual import SimBus, VirtualExecutor
from haihe.runtime.graph import DeviceKind
from haihe.runtime.io import Exchange, Reply, Transaction
from haihe.runtime.plan.build import DeviceTiming, make_plan
from haihe.runtime.plan.codegen import OUTCOMES, outcome_of, record_layout
from haihe.types import Message


class Num(Message):
    value: float


class Both(NamedTuple):
    even: Annotated[Num, sometimes]
    every: Num


STREAM = DeviceKind("numbers", {"num": Num}, stream=True)
BUS = DeviceKind("gauge", {"state": Num})


@dataclass
class Frames:
    """A stream device: frames by index; None is a dropped one."""

    period_ns: int = 10 * MILLISECOND
    first_ns: int = 0
    latency_ns: int = 0
    dropped: tuple[int, ...] = ()

    def capture(self, index: int, t_ns: int) -> tuple[Any, int]:
        return (None if index in self.dropped else Num(index)), self.latency_ns


@dataclass
class Gauge:
    """A bus device that is read only; the link is broken in the cycles of `broken`."""

    broken: tuple[int, ...] = ()
    cycle: int = 0

    def setup(self) -> Transaction[None]:
        yield Exchange(b"s")

    def read(self) -> Transaction[Message]:
        reply = yield Exchange(b"r", 1)
        return Num(len(reply.rx))

    def write(self, decision: Any) -> Transaction[None]:
        yield from ()

    def snapshot(self) -> tuple[Any, ...]:
        return (self.cycle,)

    def restore(self, state: tuple[Any, ...]) -> None:
        (self.cycle,) = state

    def tx_time_ns(self, exchange: Exchange) -> int:
        return 200_000

    def exchange_at(self, exchange: Exchange, t_ns: int) -> Reply:
        if exchange.tx == b"r":
            self.cycle += 1
        is_broken = exchange.tx == b"r" and self.cycle in self.broken
        return Reply(b"x", t_ns, t_ns + 1_000_000, "unplugged" if is_broken else "")


def source(graph: Graph, role: str = "source") -> Num:
    graph.use_device(role, STREAM)
    num: Num = graph.state(role, "num")
    return num


@dataclass
class Run:
    executor: VirtualExecutor
    rows: dict[str, list[tuple[Any, ...]]] = field(default_factory=dict)

    def outcomes(self, name: str) -> list[str]:
        lane = self.executor.assembly.lane_of(name)
        index = [step.name for step in lane.task.steps].index(name)
        at = 5 + len(lane.task.reads) + index
        return [OUTCOMES[outcome_of(row[at])] for row in self.rows[lane.name]]

    def edge(self, target: str) -> dict[str, int]:
        plan = self.executor.plan
        number = next(n for n, edge in enumerate(plan.edges) if edge.target == target)
        return self.executor.assembly.edges[number].as_dict()


def run(
    graph: Graph, ms: int, *, gauge: Gauge | None = None, seed: int = 0, **cameras: Frames
) -> Run:
    plan = make_plan(graph, {"gauge": DeviceTiming(10 * MILLISECOND)})
    buses = {"gauge": SimBus(gauge, None, gauge)} if gauge else {}
    done = Run(VirtualExecutor(graph, plan, buses, cameras, seed=seed))
    for lane in done.executor.assembly.lanes:
        rows = done.rows[lane.name] = []
        layout = record_layout(lane.task)

        def keep(data: bytes, rows=rows, layout=layout) -> None:
            if len(data) == layout.size:
                rows.append(layout.unpack(data))

        lane.on_log = keep
    done.executor.run(ms * MILLISECOND)
    return done


seen: list[Any] = []


@pytest.fixture(autouse=True)
def _nothing_seen():
    seen.clear()


@node(every="10ms")
def beat() -> Num:
    seen.append("beat")
    return Num(1.0)


@node(every="10ms")
def watch(num: Annotated[Num, fresh("25ms")], dt: Tick = TICK, age: Age = age_of("num")) -> Num:
    seen.append((num.value, round(dt * 1e3, 6), round(age * 1e3, 6)))
    return num


@node(every="10ms")
def watch_always(num: Annotated[Num | None, fresh("25ms", on_stale="call")]) -> Num:
    seen.append(num.value if num is not None else None)
    return Num(0.0)


@node
def follow(num: Num, age: Age = age_of("num")) -> Num:
    seen.append((num.value, round(age * 1e3, 6)))
    return num


@node
def odd(num: Num) -> Annotated[Num, sometimes]:
    return num if num.value % 2 else silent()


@node
def third_raises(num: Num) -> Num:
    if num.value == 2:
        raise KeyError("third")
    return num


def test_absent_called_stale():
    """Absent until the first message, stale when the stream ends; dt counts calls only."""
    with Graph("g") as g:
        watch(source(g))
    ran = run(g, 100, source=Frames(20 * MILLISECOND, 15 * MILLISECOND, dropped=(2, 3, 4)))
    ended = ran.outcomes("watch")
    assert ended == ["absent"] * 2 + ["called"] * 5 + ["stale"] * 3
    assert seen == [(0, 0, 5), (0, 10, 15), (1, 10, 5), (1, 10, 15), (1, 10, 25)]
    counted = ran.edge("watch.num")
    assert (counted["absent"], counted["stale"], counted["received"]) == (2, 3, 2)
    assert (counted["count"], counted["worst_ns"]) == (8, 55 * MILLISECOND)


def test_dt_bridges_the_firings_without_a_call():
    with Graph("g") as g:
        watch(source(g))
    run(g, 100, source=Frames(50 * MILLISECOND))
    assert [dt for _, dt, _ in seen] == [0, 10, 10, 30, 10, 10]


def test_dt_counts_from_the_clock_reading_not_from_the_release():
    """A lane that is late: its releases are 10 ms apart, its clock readings are not."""

    @node(on="num", budget="14ms")
    def late(num: Num, dt: Tick = TICK) -> Num:
        seen.append(round(dt * 1e3, 6))
        return num

    with Graph("g") as g:
        late(source(g))
    run(g, 45, source=Frames())
    assert seen == [0, 14, 14, 14]


def test_silent_and_not_triggered():
    with Graph("g") as g:
        follow(odd(source(g)))
    ran = run(g, 50, source=Frames())
    assert ran.outcomes("odd") == ["silent", "called", "silent", "called", "silent"]
    assert ran.outcomes("follow") == ["not triggered", "called"] * 2 + ["not triggered"]
    assert [value for value, _ in seen] == [1, 3]


def test_a_raise_is_recorded_and_ends_the_run():
    with Graph("g") as g:
        follow(third_raises(source(g)))
    ran = run(g, 1000, source=Frames())
    ended = ran.outcomes("third_raises")
    assert ended[:3] == ["called", "called", "raised"]
    assert len(ended) < 10
    assert ran.executor.assembly.nodes["third_raises"].raised == 1
    ((lane, name, error),) = ran.executor.outcome.failures
    line = g.nodes["third_raises"].line
    assert (lane, name) == ("source", "third_raises")
    assert str(error) == (
        f"{line}: node third_raises: it raised KeyError: 'third'. The actuators were made safe; "
        "mend the node."
    )
    assert isinstance(error.__cause__, KeyError)


def test_on_stale_call_gives_none():
    with Graph("g") as g:
        watch_always(source(g))
    ran = run(g, 80, source=Frames(20 * MILLISECOND, 10 * MILLISECOND, dropped=(1, 2, 3)))
    assert seen == [None, 0, 0, 0, None, None, None, None]
    assert set(ran.outcomes("watch_always")) == {"called"}
    counted = ran.edge("watch_always.num")
    assert (counted["absent"], counted["stale"]) == (1, 4)


def test_lineage_is_the_oldest_of_trigger_and_aged_inputs():
    @node(on="num")
    def fuse(num: Num, other: Annotated[Num, fresh("1s")], constant: int = 3) -> Num:
        return num

    with Graph("g") as g:
        fused = fuse(source(g, "quick"), source(g, "slow"))
        follow(fused)
    slow = Frames(40 * MILLISECOND, latency_ns=3 * MILLISECOND)
    run(g, 45, quick=Frames(latency_ns=MILLISECOND), slow=slow)
    # at 11 ms: quick is 1 ms old, slow 11 ms; absent at 1 ms; at 41 ms slow's second is under way
    assert seen == [(1, 11), (2, 21), (3, 31), (4, 41)]


def test_lineage_of_a_node_without_aged_inputs_is_its_own_time():
    with Graph("g") as g:
        follow(beat())
    run(g, 30)
    assert [entry for entry in seen if entry != "beat"] == [(1, 0)] * 3


def test_named_outputs_trigger_each_for_itself():
    @node
    def sort(num: Num) -> Both:
        return Both(num if num.value % 2 == 0 else silent(), num)

    @node
    def evens(num: Num) -> Num:
        seen.append(num.value)
        return num

    @node
    def all_of_them(num: Num) -> Num:
        return num

    with Graph("g") as g:
        even, every = sort(source(g))
        evens(even)
        all_of_them(every)
    ran = run(g, 60, source=Frames())
    assert seen == [0, 2, 4]
    assert ran.outcomes("sort") == ["called"] * 6  # silent only when nothing was published
    assert ran.outcomes("all_of_them") == ["called"] * 6


def test_feedback_starts_with_its_initial_and_keeps_what_was_fed_last():
    @node(on="num")
    def add(before: Num, num: Num) -> Annotated[Num, sometimes]:
        seen.append(before.value)
        return Num(before.value + num.value) if num.value != 2 else silent()

    with Graph("g") as g:
        before, feed = feedback(Num(100.0))
        feed(add(before, source(g)))
    run(g, 50, source=Frames())
    assert seen == [100, 100, 101, 101, 104]


def test_randomness_is_keyed_by_seed_node_and_firing():
    def draws(seed: int) -> list[float]:
        seen.clear()

        @node(every="10ms")
        def one(rng: Rng = RNG) -> Num:
            seen.append(float(rng.random()))
            return Num(0.0)

        @node(every="10ms")
        def two(rng: Rng = RNG) -> Num:
            seen.append(float(rng.random()))
            return Num(0.0)

        with Graph("g") as g:
            one()
            two()
        run(g, 30, seed=seed)
        return list(seen)

    first = draws(1)
    assert draws(1) == first
    assert len({*first, *draws(2)}) == 12


def test_state_lives_in_the_lane_not_in_the_users_instance():
    @node
    @dataclass
    class Sum:
        scale: float = 2.0
        _sum: float = 0.0

        def __call__(self, num: Num) -> Num:
            self._sum += self.scale * num.value
            seen.append(self._sum)
            return num

    mine = Sum()
    with Graph("g") as g:
        mine(source(g))
    run(g, 30, source=Frames())
    assert seen == [0, 2, 6]
    assert mine._sum == 0.0
    run(g, 30, source=Frames())
    assert seen[3:] == [0, 2, 6]


def test_parameters_change_at_the_start_of_a_firing():
    @node
    @dataclass
    class Scale:
        by: float = 2.0

        def __call__(self, num: Num, plus: float = 0.0) -> Num:
            seen.append(self.by * num.value + plus)
            return num

    with Graph("g") as g:
        Scale()(source(g), plus=0.5)
    executor = VirtualExecutor(g, make_plan(g, {}), {}, {"source": Frames()})
    executor.after(15 * MILLISECOND, lambda: executor.set("Scale", "by", 10.0))
    executor.after(25 * MILLISECOND, lambda: executor.set("Scale", "plus", 1.0))
    executor.run(40 * MILLISECOND)
    assert seen == [0.5, 2.5, 20.5, 31.0]


def test_deadlines_are_judged_at_publication():
    @node(every="10ms", deadline="3ms", budget="4ms")
    def heavy() -> Num:
        return Num(0.0)

    @node(every="20ms", deadline="5ms", budget="4ms")
    def light() -> Num:
        return Num(0.0)

    with Graph("g") as g:
        heavy()
        light()
    nodes = run(g, 40).executor.assembly.nodes
    assert (nodes["heavy"].misses, nodes["light"].misses) == (4, 0)
    assert (nodes["heavy"].called, nodes["light"].called) == (4, 2)


def test_a_slower_lane_counts_what_it_did_not_read():
    @node(every="50ms")
    def slow(num: Annotated[Num, fresh("1s")]) -> Num:
        return num

    with Graph("g") as g:
        slow(follow(source(g)))
    ran = run(g, 175, source=Frames())
    counted = ran.edge("slow.num")
    # on equal times the periodic lane comes first: it sees what was made before
    assert (counted["received"], counted["overwritten"], counted["absent"]) == (3, 12, 1)
    assert ran.executor.assembly.in_flight(0) == 3
    newest = ran.executor.assembly.slots["follow"][0].value
    assert newest is not None
    assert newest[0] == 18


# --- buses ----------------------------------------------------------------------------------------


def test_a_bus_state_triggers_and_is_absent_while_the_link_is_broken():
    with Graph("g") as g:
        g.use_device("gauge", BUS)
        state: Num = g.state("gauge", "state")
        follow(state)
        watch(state)
    ran = run(g, 60, gauge=Gauge(broken=(3,)))
    task = ran.executor.assembly.lanes[0].task
    was_read = [row[5 + len(task.reads) + len(task.steps)] for row in ran.rows["every-10ms"]]
    assert was_read[:3] == [1, 1, 0]
    assert ran.outcomes("follow") == [
        "called" if is_read else "not triggered" for is_read in was_read
    ]
    # the stamp is the middle of the exchange (0.5 ms after its start), the clock is read at its end
    ages = [entry[-1] for entry in seen]
    assert ages[:2] == [0.5, 0.5]
    assert max(ages) > 10  # the last state grew old, and was still fresh
    assert "absent" not in ran.outcomes("watch")


def test_the_held_state_is_restored():
    @node(every="10ms")
    def add(before: Num, dt: Tick = TICK) -> Num:
        seen.append((before.value, round(dt, 9)))
        return Num(before.value + 1)

    with Graph("g") as g:
        before, feed = feedback(Num(0.0))
        feed(add(before))
    ran = run(g, 50)
    lane = ran.executor.assembly.lanes[0]
    assert lane.sequence_of("add") == 5
    again = VirtualExecutor(g, ran.executor.plan, {}, {})
    other = again.assembly.lanes[0]
    other.restore(lane.snapshot())
    seen.clear()
    again.now_ns = SECOND + 50 * MILLISECOND
    assert list(other.begin(again.now_ns)) == [0]
    assert seen == [(5, 0.01)]
    assert (other.firing, other.sequence_of("add")) == (6, 6)
    assert other.held == lane.held


class Big(Message):
    data: np.ndarray


DATA = np.zeros(4)


@node(every="10ms")
def make() -> Big:
    return Big(DATA)


@node
def take(big: Big) -> Num:
    seen.append(big.data is DATA)
    return Num(0.0)


def test_arrays_pass_by_reference():
    with Graph("g") as g:
        take(make())
    run(g, 10)
    assert seen == [True]
