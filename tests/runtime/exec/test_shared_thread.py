"""Lanes that share a thread of real time: opened, placed, stopped and closed together."""

import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated

import pytest
from tests.runtime.exec.fakes import (
    LIMIT_S,
    FakePort,
    Frames,
    Joints,
    Kept,
    guard,
    number,
    steady,
    until,
)

from haihe.drivers.roles import camera, servos
from haihe.runtime.contracts import fifo, fresh
from haihe.runtime.errors import LinkError, ModelError
from haihe.runtime.exec.realtime import LiveBus, RealtimeExecutor
from haihe.runtime.graph import Graph, named
from haihe.runtime.io import Exchange, Port, Reply
from haihe.runtime.node import node
from haihe.runtime.plan.build import Placement, make_plan
from haihe.runtime.types import Image, JointCommand, JointState, Reading

SAID: list[str] = []


@pytest.fixture(autouse=True)
def nothing_said() -> None:
    SAID.clear()


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert [t.name for t in threading.enumerate() if t not in before] == []


@node(every="5ms", recorded=True)
@dataclass
class Holder:
    """Holds a resource, and notes where it is opened and called."""

    name: str
    problem: str = ""

    def open(self) -> None:
        if self.problem == "open":
            raise ModelError(f"{self.name}: broken. Fetch it again.")
        SAID.append(f"{self.name} opened on {sorted(os.sched_getaffinity(0))}")

    def __call__(self) -> Reading:
        if len(SAID) < 2:
            SAID.append(f"{self.name} called on {sorted(os.sched_getaffinity(0))}")
        return Reading(0.0)

    def close(self) -> None:
        SAID.append(f"{self.name} closed")
        if self.problem == "close":
            raise LinkError(f"{self.name}: gone")


def test_a_thread_is_placed_after_its_models_are_open() -> None:
    """What a model starts while it opens would inherit the core and the priority."""
    cores = sorted(os.sched_getaffinity(0))
    with Graph("placed") as g:
        g.thread("work", named("one", Holder("one"))())
    executor = RealtimeExecutor(g, make_plan(g, {}, {"work": Placement(cores[0])}), {}, {})
    executor.start(arm=False)
    until(lambda: len(SAID) == 2)
    executor.stop("over")
    assert list(SAID) == [f"one opened on {cores}", f"one called on [{cores[0]}]", "one closed"]


def test_when_the_second_lane_does_not_open_the_first_is_closed() -> None:
    with Graph("broken") as g:
        one, two = Holder("one", "close"), Holder("two", "open")
        g.thread("work", named("one", one)(), named("two", two)())
    executor = RealtimeExecutor(g, make_plan(g, {}), {}, {})
    with pytest.raises(ModelError) as error:
        executor.start(arm=False)
    assert str(error.value) == (f"{g.nodes['two'].line}: node two: two: broken. Fetch it again.")
    assert SAID[1:] == ["one closed", "two closed"]
    assert [(lane, what) for lane, what, _ in executor.outcome.failures] == [
        ("two", "opening two"),
        ("one", "closing"),
    ]


def test_a_close_that_raises_keeps_no_other_lane_from_its_safe_actions() -> None:
    log: list[str] = []
    with Graph("shared") as g:
        neck = servos("neck")
        command = steady(neck.state)
        neck.command(command)
        g.thread("work", named("one", Holder("one", "close"))(), command)
    buses = {"neck": LiveBus(Joints(), guard(), lambda: FakePort(log))}
    executor = RealtimeExecutor(g, make_plan(g, {}), buses, {})
    executor.start(arm=True)
    until(lambda: any(line.startswith("sent W") for line in log))
    outcome = executor.stop("over")
    assert log[-2:] == ["sent W[2, 2]", "port closed"]  # free
    assert [(lane, what) for lane, what, _ in outcome.failures] == [("one", "closing")]


def test_idle_lanes_beside_a_periodic_one_hand_their_records_over() -> None:
    class Two(Frames):
        """Two frames, and no end: the first record is handed over at once."""

        def read(self, timeout_s: float) -> tuple[Image, int] | None:
            if self.left:
                return super().read(timeout_s)
            self._pace.wait(0.001)
            return None

    with Graph("idle") as g:
        seen = number(camera("front").image)
        g.thread("work", named("one", Holder("one"))(), seen)
    sink = Kept()
    executor = RealtimeExecutor(g, make_plan(g, {}), {}, {"front": Two([], 2)}, sink)

    def last() -> int:
        return int(sink.firings(executor.plan, "number")[-1][4])

    executor.start(arm=False)
    try:
        until(lambda: "number" in sink.blocks and last() == 2)
    finally:
        executor.stop("over")


def test_at_the_end_of_a_stream_its_queue_is_worked_off() -> None:
    ended = threading.Event()

    @node
    def patient(image: Annotated[Image, fifo(8)]) -> Reading:
        ended.wait(LIMIT_S)
        return Reading(0.0)

    with Graph("queue") as g:
        patient(camera("front").image)
    executor = RealtimeExecutor(g, make_plan(g, {}), {}, {"front": Frames([], 5)})
    executor.start(arm=False)
    until(lambda: executor.counts["front.image"].ended)
    threading.Event().wait(0.05)  # the reader has looked at what is under way
    ended.set()
    assert executor.wait(LIMIT_S)
    executor.stop("over")
    assert executor.assembly.nodes["patient"].called == 5


def test_two_actuators_on_a_thread_are_made_safe_in_turns() -> None:
    """The second does not wait until the first is at rest."""
    order: list[str] = []

    class Port_(FakePort):
        def __init__(self, role: str) -> None:
            super().__init__([])
            self.role = role

        def exchange(self, exchange: Exchange) -> Reply:
            if stopping and exchange.tx[:1] == b"R":
                order.append(self.role)
            return super().exchange(exchange)

    def port(role: str) -> Callable[[], Port]:
        return lambda: Port_(role)

    stopping: list[bool] = []

    @node(every="20ms")
    def other(arm: Annotated[JointState, fresh("1s")]) -> JointCommand:
        return JointCommand(arm.position)

    with Graph("two") as g:
        neck, arm = servos("neck"), servos("arm")
        first, second = steady(neck.state), other(arm.state)
        neck.command(first)
        arm.command(second)
        g.thread("work", first, second)
    buses = {role: LiveBus(Joints(), guard(), port(role)) for role in ("neck", "arm")}
    executor = RealtimeExecutor(g, make_plan(g, {}), buses, {})
    executor.start(arm=True)
    stopping.append(True)
    executor.stop("over")
    assert order[-4:] == ["neck", "arm", "neck", "arm"]
