"""Chains of a plan: from a source to an actuator, or to a lane whose outputs nobody samples; and
which lanes can delay which."""

from collections.abc import Iterator, Mapping

import msgspec

from haihe.runtime.plan.model import Plan


class Chain(msgspec.Struct, frozen=True):
    """All ways from one source to one end. lanes: those on any of the ways."""

    source: str  # a stream device, "front", or the name of a periodic lane that starts it
    end: str  # an actuator, "neck", or the name of a lane
    lanes: frozenset[str]

    def __str__(self) -> str:
        return f"{self.source} → {self.end}"


def chains_of(plan: Plan) -> tuple[Chain, ...]:
    """Every chain. Only edges whose age counts, and commands, are part of one."""
    makers = {s: lane.name for lane in plan.lanes for s in lane.task.publishes}
    feeds: dict[str, set[str]] = {lane.name: set() for lane in plan.lanes}  # lane -> what it reads
    for lane in plan.lanes:
        numbers = [number for step in lane.task.steps for _, number in step.inputs]
        commands = [bus.command_edge for bus in lane.task.buses if bus.command_edge >= 0]
        read = [edge for edge in map(plan.edges.__getitem__, numbers) if edge.ages]
        for edge in [*read, *map(plan.edges.__getitem__, commands)]:
            if edge.source in lane.task.reads:
                feeds[lane.name].add(makers.get(edge.source, edge.source.split(".")[0]))
    after: dict[str, set[str]] = {}
    for name, sources in feeds.items():
        for source in sources:
            after.setdefault(source, set()).add(name)
    found = []
    for source in [*plan.streams, *(name for name, sources in feeds.items() if not sources)]:
        reached = _closure(source, after)
        for end, last in _ends(plan, after):
            if last in reached:
                on_the_way = reached & _closure(last, feeds)
                found.append(Chain(source, end, frozenset(on_the_way & feeds.keys())))
    return tuple(found)


def delayed_by(plan: Plan) -> dict[str, frozenset[str]]:
    """For each lane those that are late when one of its nodes takes longer than its budget, itself
    among them.

    They share its interpreter, come after it on its core, are triggered by such a lane, or are held
    back when its queue is full. A lane that only samples is not among them: it takes what is there,
    and its age is that of a chain.
    """
    threads = {name: thread for thread in plan.threads for name in thread.lanes}
    next_to: dict[str, set[str]] = {}
    for lane in plan.lanes:
        own = threads.get(lane.name)
        found = next_to.setdefault(lane.name, {lane.name})
        for other in plan.lanes:
            its = threads.get(other.name)
            is_beside = own is None or its is None or own.process == its.process
            if own is not None and its is not None and own.core == its.core >= 0:
                is_beside = is_beside or own.rank > its.rank
            is_held = lane.task.fifo and other.task.fifo
            is_held = is_held and lane.task.trigger in other.task.publishes
            if is_beside or is_held or other.task.trigger in lane.task.publishes:
                found.add(other.name)
    return {lane.name: frozenset(_closure(lane.name, next_to)) for lane in plan.lanes}


def _ends(plan: Plan, after: dict[str, set[str]]) -> Iterator[tuple[str, str]]:
    for lane in plan.lanes:
        actuators = [bus.role for bus in lane.task.buses if bus.command_edge >= 0]
        for role in actuators:
            yield role, lane.name
        if not actuators and not after.get(lane.name):
            yield lane.name, lane.name


def _closure(start: str, following: Mapping[str, set[str]]) -> set[str]:
    found, waiting = {start}, [start]
    while waiting:
        for name in following.get(waiting.pop(), ()):
            if name not in found:
                found.add(name)
                waiting.append(name)
    return found
