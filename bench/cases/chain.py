"""What a checked tick costs: a five-node chain, compiled, beside a hand-written loop.

    python -m haihe.bench.cases.chain

Both do the same accounting: sequence numbers, lineage, ages against fresh(), deadlines, counters,
execution times. Interleaved short rounds in one process; the figures are the fastest rounds, since
whatever else runs on the machine can only make a round slower.
"""

from collections.abc import Callable
from typing import Annotated

from haihe.runtime.clock import now_ns
from haihe.runtime.contracts import fresh
from haihe.runtime.exec.assembly import Assembly
from haihe.runtime.exec.lane import Lane, Timing
from haihe.runtime.graph import Graph
from haihe.runtime.node import node
from haihe.runtime.plan.build import make_plan
from haihe.runtime.telemetry.stats import EdgeStats, NodeStats
from haihe.runtime.types import Message

LIMIT_NS, DEADLINE_NS = 50_000_000, 5_000_000


class Number(Message):
    """The message of the chain."""

    value: float


Aged = Annotated[Number, fresh("50ms")]


@node(every="1ms", deadline="5ms")
def source() -> Number:
    """The root of the chain."""
    return Number(1.0)


@node(on="x", deadline="5ms")
def add(x: Aged, amount: float = 1.0) -> Number:
    """One link of the chain."""
    return Number(x.value + amount)


def chain() -> Graph:
    """Five nodes in a row."""
    with Graph("chain") as graph:
        add(add(add(add(source()))))
    return graph


def plain_add(x: Number) -> Number:
    """The same work, undecorated."""
    return Number(x.value + 1.0)


class Baseline:
    """The hand-written loop, with the same accounting."""

    def __init__(self) -> None:
        self.edges = [EdgeStats() for _ in range(4)]
        self.nodes = [NodeStats() for _ in range(5)]
        self.sequences = [0] * 5

    def tick(self) -> None:
        """One firing of the whole chain."""
        release = now_ns()
        t = now_ns()
        value: Number | None = None
        origin = t
        for i in range(5):
            stats = self.nodes[i]
            if i:
                edge, sequence = self.edges[i - 1], self.sequences[i - 1]
                if sequence != edge.last:
                    edge.received += 1
                    edge.overwritten += sequence - edge.last - 1
                    edge.last = sequence
                age = t - origin
                edge.count += 1
                edge.total_ns += age
                if age > edge.worst_ns:
                    edge.worst_ns = age
                if age > LIMIT_NS:
                    edge.stale += 1
                    stats.stale += 1
                    break
            begun = now_ns()
            try:
                value = plain_add(value) if value is not None else Number(1.0)
            except ValueError:
                stats.raised += 1
                break
            taken = now_ns() - begun
            stats.total_ns += taken
            if taken > stats.worst_ns:
                stats.worst_ns = taken
            stats.called += 1
            self.sequences[i] += 1
        end = now_ns()
        for stats in self.nodes:
            if end - release > DEADLINE_NS:
                stats.misses += 1


def compiled() -> tuple[Assembly, Callable[[], None]]:
    """The chain as the runtime runs it, without a recorder."""
    graph = chain()
    timing = Timing(now_ns, now_ns, now_ns)
    assembly = Assembly(graph, make_plan(graph, {}), {}, lambda _: timing)
    lane: Lane = assembly.lanes[0]

    def tick() -> None:
        steps = lane.begin(now_ns())
        try:
            while True:
                steps.send(None)
        except StopIteration:
            pass

    return assembly, tick


def measure(rounds: int = 201, ticks: int = 300) -> tuple[float, float]:
    """(ns per tick compiled, ns per tick by hand): the fastest of interleaved rounds. Raises
    AssertionError when the two did not count the same."""
    assembly, tick = compiled()
    baseline = Baseline()
    mine: list[float] = []
    theirs: list[float] = []
    for _ in range(rounds):
        for function, times in ((tick, mine), (baseline.tick, theirs)):
            begun = now_ns()
            for _ in range(ticks):
                function()
            times.append((now_ns() - begun) / ticks)
    total = rounds * ticks
    for edge, other in zip(assembly.edges, baseline.edges, strict=True):
        assert edge.received == other.received == total, (edge.as_dict(), other.as_dict())
        assert edge.overwritten == other.overwritten == 0
    for stats, other_stats in zip(assembly.nodes.values(), baseline.nodes, strict=True):
        assert stats.called == other_stats.called == total
    return min(mine), min(theirs)


def main() -> None:
    """Print the figures."""
    mine, theirs = measure()
    print(
        f"five-node chain: {mine / 1000:.2f} µs per tick compiled, {theirs / 1000:.2f} µs by hand, "
        f"ratio {mine / theirs:.2f} (fastest of 201 interleaved rounds of 300 ticks; target 5 µs)"
    )


if __name__ == "__main__":
    main()
