"""From a plan, its budgets and its devices to the records of the timing analysis.

Threads of one process share its interpreter; what goes to another process takes a hop (`hops.py`).
A bus is part of the lane that cycles it: read before the nodes, written after their outputs are
published.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from haihe.boards.binding import Binding
from haihe.drivers.device import StreamTiming
from haihe.pipelines.check.bus import BusTime
from haihe.pipelines.check.flow import Flow
from haihe.pipelines.check.hops import SEND_NS, hop_threads, hops_of, process_name, sends_of
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
    return with_hops(Timing(tuple(streams), tuple(lanes.values()), ()), plan)


def with_hops(timing: Timing, plan: Plan, was: Plan | None = None) -> Timing:
    """The timing with its threads and hops as the plan has them. was: the plan that the timing has
    them of now."""
    hops, sends = hops_of(plan), sends_of(plan)
    before = sends_of(was) if was is not None else {}
    states = {bus.state for lane in plan.lanes for bus in lane.task.buses}
    lanes = {lane.name: timing.lane(lane.name) for lane in plan.lanes}
    for lane in plan.lanes:
        ns = (sends[lane.name] - before.get(lane.name, 0)) * SEND_NS
        old = lanes[lane.name]
        lanes[lane.name] = msgspec.structs.replace(
            old, worst_ns=old.worst_ns + ns, held_ns=old.held_ns + ns
        )
        source = lane.task.trigger
        if source:
            owner = source if source in states else source.split(".")[0]
            hop = hops.get((owner, plan.process_of(lane.name)))
            trigger = hop.name if hop is not None else maker(plan, source)
            lanes[lane.name] = msgspec.structs.replace(lanes[lane.name], trigger=trigger)
    for hop in hops.values():
        lanes[hop.name] = hop.timing(maker(plan, hop.sources[0]))
    threads = (*_threads(plan), *hop_threads(plan))
    return Timing(timing.sources, tuple(_in_order(lanes)), threads)


def bound(timing: Timing, flow: Flow) -> Bounds:
    """The analysis: responses by lane; chains and what is published by node.

    Nodes fused in a lane read and publish at its times, but not each other's data: on the way from
    a fast node to a slow one and back, a lane stands twice, and that is no loop. So the ages are
    followed from node to node, and through hops. The states of buses that other lanes sample are
    further sources: captured after the release of the lane that cycles the bus, published by the
    end of its job.
    """
    lanes, reaches, sweeps = respond(timing)
    nodes, by_node = [], {}
    for hop in flow.hops.values():
        brought = msgspec.structs.replace(timing.lane(hop.name), trigger=hop.owner)
        nodes.append(brought)
        by_node[hop.name] = reaches[hop.name]._replace(lane=brought)
    for name, owner in flow.lane_of.items():
        lane = timing.lane(owner.name)
        trigger = ""
        if owner.task.trigger:
            trigger = flow.seen(flow.owner(owner.task.trigger), owner)
        seen = [flow.seen(writer, owner) for writer in flow.outside[name]]
        reads = tuple(writer for writer in seen if writer != trigger)
        node = msgspec.structs.replace(lane, name=name, trigger=trigger, reads=reads)
        nodes.append(node)
        by_node[name] = reaches[owner.name]._replace(lane=node)
    inside = {
        lane: tuple(name for name, owner in flow.lane_of.items() if owner.name == lane)
        for lane in lanes
    } | {name: (name,) for name in flow.hop_names}
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


def work(lane: LanePlan, budgets: Mapping[str, Budget]) -> tuple[int, int]:
    """What the nodes of a lane take in one firing, at most, and of it with the interpreter held.

    Of a group of modes one is active in a firing, so the longest counts; modes inside of modes
    count as if all were active.
    """
    ns = held_ns = 0
    modes: dict[str, dict[str, tuple[int, int]]] = {}
    for step in lane.task.steps:
        budget = budgets[step.name]
        if not step.modes:
            ns, held_ns = ns + (budget.ns or 0), held_ns + budget.held_ns
            continue
        group, mode = step.modes[0]
        was, was_held = modes.setdefault(group, {}).get(mode, (0, 0))
        modes[group][mode] = (was + (budget.ns or 0), was_held + budget.held_ns)
    for found in modes.values():
        ns += max(took for took, _ in found.values())
        held_ns += max(held for _, held in found.values())
    return ns, held_ns


def _lane(
    plan: Plan, lane: LanePlan, budgets: Mapping[str, Budget], buses: Mapping[str, BusTime]
) -> LaneTiming:
    task = lane.task
    before = sum(buses[bus.role].read_ns for bus in task.buses)
    after = sum(buses[bus.role].write_ns for bus in task.buses if bus.command_edge >= 0)
    nodes_ns, held_ns = work(lane, budgets)
    trigger = maker(plan, task.trigger) if task.trigger else ""
    deadlines = [step.deadline_ns for step in task.steps if step.deadline_ns is not None]
    return LaneTiming(
        lane.name,
        max(1, before + nodes_ns + after),
        0,  # a node that is not called takes no time
        task.every_ns,
        trigger=trigger,
        fifo=task.fifo,
        held_ns=held_ns,
        after_ns=after,
        deadline_ns=min(deadlines, default=None),
        is_actuator=any(bus.command_edge >= 0 for bus in task.buses),
    )


def _threads(plan: Plan) -> tuple[ThreadTiming, ...]:
    return tuple(
        ThreadTiming(
            thread.name, thread.lanes, thread.policy,
            str(thread.core) if thread.core >= 0 else "", thread.rank, process_name(thread.process),
        )
        for thread in threads_of(plan)
    )  # fmt: skip


def _in_order(lanes: dict[str, LaneTiming]) -> list[LaneTiming]:
    """Every lane after what triggers it."""

    def depth(name: str) -> int:
        trigger = lanes[name].trigger
        return 1 + depth(trigger) if trigger in lanes else 0

    return [lanes[name] for name in sorted(lanes, key=depth)]
