"""From a plan, its budgets and its devices to the records of the timing analysis.

Today every thread belongs to one process, so all of them share its interpreter. A bus is part of
the lane that cycles it: read before the nodes, written after their outputs are published.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from haihe.boards.binding import Binding
from haihe.drivers.device import StreamTiming
from haihe.pipelines.check.bus import BusTime
from haihe.pipelines.check.flow import Flow
from haihe.pipelines.check.report import Budget
from haihe.runtime.plan.ages import ages
from haihe.runtime.plan.bounds import respond
from haihe.runtime.plan.model import LanePlan, Plan, ThreadPlan
from haihe.runtime.plan.timing import (
    Bounds,
    LaneBound,
    LaneTiming,
    SourceTiming,
    ThreadTiming,
    Timing,
)

PROCESS = "main"


class Source(msgspec.Struct, frozen=True):
    """A stream device's timing; assumed: what was supposed of it, for people. timing: None where
    nothing is known of its period."""

    role: str
    timing: SourceTiming | None
    assumed: str = ""


def sources_of(binding: Binding, plan: Plan, world: Any, *, sim: bool) -> dict[str, Source]:
    """The timing of every stream device: of its driver, or (sim) of the unit's world. A latency
    that the driver does not know is taken from the world, else supposed to be a period at most."""
    return {role: _source(binding, role, world, sim) for role in plan.streams}


def _source(binding: Binding, role: str, world: Any, sim: bool) -> Source:
    simulated = world.cameras.get(role) if world is not None else None
    latency = getattr(simulated, "latency_ns", None)
    bound = binding.devices[role]
    if sim and simulated is not None and latency is not None:
        period = simulated.period_ns
        return Source(role, SourceTiming(role, period, period, *latency))
    timing: StreamTiming | None = bound.spec.timing(bound.options)
    assumed = ""
    if timing is None and bound.profile.cycle:
        cycle = round(bound.profile.cycle * 1e9)
        timing = StreamTiming(cycle, cycle)
    if timing is None and simulated is not None:
        timing = StreamTiming(simulated.period_ns, simulated.period_ns)
        assumed = f"{role} has the period of its simulated world. "
    if timing is None:
        return Source(role, None)
    given = timing.latency_ns
    if given is None and latency is not None:
        given = latency
        assumed += (
            f"{role} delivers {_span(*latency)} ms after capture, as its simulated world does: "
            "measure it and write latency_ms"
        )
    elif given is None:
        given = (0, timing.period_min_ns)
        assumed += (
            f"{role} delivers within a period ({given[1] / 1e6:.1f} ms) after capture: measure "
            "it and write latency_ms"
        )
    source = SourceTiming(role, timing.period_min_ns, timing.period_max_ns, *given)
    return Source(role, source, assumed)


def _span(least: int, most: int) -> str:
    return f"{most / 1e6:.1f}" if least == most else f"{least / 1e6:.1f} to {most / 1e6:.1f}"


def maker(plan: Plan, source: str) -> str:
    """The lane that publishes a source, or the role of the stream device, as the analysis calls
    them."""
    for lane in plan.lanes:
        if source in lane.task.publishes:
            return lane.name
    return source_name(plan, source.split(".")[0])


def source_name(plan: Plan, role: str) -> str:
    """Streams and lanes share one space of names in the analysis: a lane may be called like the
    stream that triggers it."""
    taken = {lane.name for lane in plan.lanes}
    return f"{role}." if role in taken else role


def threads_of(plan: Plan) -> tuple[ThreadPlan, ...]:
    """The threads of a plan; a lane without one has its own."""
    named = {name for thread in plan.threads for name in thread.lanes}
    rest = [ThreadPlan(lane.name, (lane.name,)) for lane in plan.lanes if lane.name not in named]
    return (*plan.threads, *rest)


def timing_of(
    plan: Plan,
    budgets: Mapping[str, Budget],
    buses: Mapping[str, BusTime],
    sources: Mapping[str, Source],
) -> Timing:
    """The analysis' view of a plan, everything of which is known."""
    streams = []
    for role, source in sources.items():
        assert source.timing is not None
        name = source_name(plan, role)
        streams.append(msgspec.structs.replace(source.timing, name=name))
    lanes = {lane.name: _lane(plan, lane, budgets, buses) for lane in plan.lanes}
    return Timing(tuple(streams), tuple(_in_order(lanes)), _threads(plan))


def bound(timing: Timing, flow: Flow) -> Bounds:
    """The analysis: responses by lane; chains and what is published by node.

    Nodes fused in a lane read and publish at its times, but not each other's data: on the way from
    a fast node to a slow one and back, a lane stands twice, and that is no loop. So the ages are
    followed from node to node. The states of buses that other lanes sample are further sources:
    captured after the release of the lane that cycles the bus, published by the end of its job.
    """
    lanes, reaches, sweeps = respond(timing)
    nodes, by_node = [], {}
    for name, owner in flow.lane_of.items():
        lane = timing.lane(owner.name)
        trigger = ""
        if owner.task.trigger:
            trigger = flow.owner(owner.task.trigger)
        reads = tuple(writer for writer in flow.outside[name] if writer != trigger)
        node = msgspec.structs.replace(lane, name=name, trigger=trigger, reads=reads)
        nodes.append(node)
        by_node[name] = reaches[owner.name]._replace(lane=node)
    inside = {
        lane: tuple(name for name, owner in flow.lane_of.items() if owner.name == lane)
        for lane in lanes
    }
    threads = tuple(
        msgspec.structs.replace(
            thread, lanes=tuple(n for lane in thread.lanes for n in inside[lane])
        )
        for thread in timing.threads
    )
    streams = [msgspec.structs.replace(s, name=s.name.removesuffix(".")) for s in timing.sources]
    sources = (*streams, *_states(flow, lanes))
    view = Timing(sources, tuple(nodes), threads)
    return Bounds(lanes, *ages(view, by_node), sweeps)


def _states(flow: Flow, lanes: Mapping[str, LaneBound]) -> list[SourceTiming]:
    found = []
    for state, owner in flow.states.items():
        response, every = lanes[owner.name].response_ns, owner.task.every_ns
        if response is not None and every:
            skips = max(1, -(-response // every))
            found.append(SourceTiming(state, every, skips * every, 0, response))
    return found


def _lane(
    plan: Plan, lane: LanePlan, budgets: Mapping[str, Budget], buses: Mapping[str, BusTime]
) -> LaneTiming:
    task = lane.task
    before = sum(buses[bus.role].read_ns for bus in task.buses)
    after = sum(buses[bus.role].write_ns for bus in task.buses if bus.command_edge >= 0)
    nodes = [budgets[step.name] for step in task.steps]
    trigger = maker(plan, task.trigger) if task.trigger else ""
    deadlines = [step.deadline_ns for step in task.steps if step.deadline_ns is not None]
    return LaneTiming(
        lane.name,
        max(1, before + sum(node.ns or 0 for node in nodes) + after),
        0,  # a node that is not called takes no time
        task.every_ns,
        trigger=trigger,
        fifo=task.fifo,
        held_ns=sum(node.held_ns for node in nodes),
        after_ns=after,
        deadline_ns=min(deadlines, default=None),
        is_actuator=any(bus.command_edge >= 0 for bus in task.buses),
    )


def _threads(plan: Plan) -> tuple[ThreadTiming, ...]:
    return tuple(
        ThreadTiming(
            thread.name, thread.lanes, thread.policy,
            str(thread.core) if thread.core >= 0 else "", thread.rank, PROCESS,
        )
        for thread in threads_of(plan)
    )  # fmt: skip


def _in_order(lanes: dict[str, LaneTiming]) -> list[LaneTiming]:
    """Every lane after what triggers it."""

    def depth(name: str) -> int:
        trigger = lanes[name].trigger
        return 1 + depth(trigger) if trigger in lanes else 0

    return [lanes[name] for name in sorted(lanes, key=depth)]
