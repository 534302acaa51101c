"""Chains of a plan: which sources reach which ends, and which lanes an overrun delays."""

from typing import Annotated

import msgspec
import numpy as np

from haihe.drivers.roles import camera, servos
from haihe.runtime.contracts import fifo, fresh
from haihe.runtime.graph import Graph, named
from haihe.runtime.node import node
from haihe.runtime.plan.build import DeviceTiming, make_plan
from haihe.runtime.plan.chains import chains_of, delayed_by
from haihe.runtime.plan.model import Plan
from haihe.runtime.types import Image, JointCommand, Reading


@node
def aim(image: Image) -> JointCommand:
    return JointCommand(np.zeros(2))


def test_a_command_to_a_bus_of_its_own_cycle_is_part_of_a_chain() -> None:
    with Graph("far") as g:
        servos("neck").command(aim(camera("front").image))
    (chain,) = chains_of(make_plan(g, {"neck": DeviceTiming(20_000_000)}))
    assert str(chain) == "front → neck"
    assert chain.lanes == {"front", "every-20ms"}


@node(every="10ms")
def fast() -> Reading:
    return Reading(0.0)


@node(every="50ms")
def slow(value: Annotated[Reading, fresh("1s")]) -> Reading:
    return value


@node(every="100ms")
def last(value: Annotated[Reading, fresh("1s")]) -> Reading:
    return value


@node
def then(value: Reading) -> Reading:
    return value


@node
def each(value: Annotated[Reading, fifo(4)]) -> Reading:
    return value


def plan_of(**processes: str) -> Plan:
    """fast -> slow -> last, each sampling; process by node."""
    with Graph("three") as g:
        last(slow(fast()))
        for name, process in processes.items():
            g.process(process, name)
    return make_plan(g, {})


def test_an_overrun_delays_every_lane_of_its_process() -> None:
    plan = plan_of()
    everyone = {lane.name for lane in plan.lanes}
    assert delayed_by(plan) == dict.fromkeys(everyone, everyone)
    assert delayed_by(plan_of(fast="a")) == {
        "every-10ms": {"every-10ms"},
        "every-50ms": {"every-50ms", "every-100ms"},
        "every-100ms": {"every-50ms", "every-100ms"},
    }


def test_a_more_urgent_thread_of_a_core_delays_other_processes() -> None:
    plan = plan_of(fast="a", slow="b", last="c")
    assert delayed_by(plan) == {lane.name: {lane.name} for lane in plan.lanes}
    places = {"every-10ms": (1, 50), "every-50ms": (1, 40), "every-100ms": (2, 30)}
    threads = tuple(
        msgspec.structs.replace(t, core=places[t.name][0], rank=places[t.name][1])
        for t in plan.threads
    )
    assert delayed_by(msgspec.structs.replace(plan, threads=threads)) == {
        "every-10ms": {"every-10ms", "every-50ms"},
        "every-50ms": {"every-50ms"},
        "every-100ms": {"every-100ms"},
    }


def test_a_lane_delays_what_it_triggers_and_what_shares_an_interpreter_with_that() -> None:
    with Graph("far") as g:
        g.thread("after", then(fast()))
        slow(fast())
        g.process("a", "then", "slow")
    delayed = delayed_by(make_plan(g, {}))
    assert delayed["every-10ms"] == {"every-10ms", "then", "every-50ms"}
    assert delayed["then"] == {"then", "every-50ms"}


def test_a_full_queue_holds_its_writer_back_across_processes() -> None:
    with Graph("queues") as g:
        one = each(then(fast()))
        two = named("two", each)(one)
        g.thread("first", one)
        g.thread("second", two)
        g.process("a", one)
        g.process("b", two)
    assert delayed_by(make_plan(g, {})) == {
        "every-10ms": {"every-10ms", "each", "two"},
        "each": {"each", "two"},
        "two": {"each", "two"},
    }
