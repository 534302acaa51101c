"""Chains of a plan: from a source to an actuator, or to a lane whose outputs nobody samples."""

from collections.abc import Iterator

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


def _ends(plan: Plan, after: dict[str, set[str]]) -> Iterator[tuple[str, str]]:
    for lane in plan.lanes:
        actuators = [bus.role for bus in lane.task.buses if bus.command_edge >= 0]
        for role in actuators:
            yield role, lane.name
        if not actuators and not after.get(lane.name):
            yield lane.name, lane.name


def _closure(start: str, following: dict[str, set[str]]) -> set[str]:
    found, waiting = {start}, [start]
    while waiting:
        for name in following.get(waiting.pop(), ()):
            if name not in found:
                found.add(name)
                waiting.append(name)
    return found
