"""The same run in haihe itself: a graph with these lanes, planned and run in virtual time.

This ties the model, which judges the analysis, to the product. A node is a lane's only one; work
after publication is the write of a bus, whose port takes that long.
"""

from typing import Annotated, Any

import numpy as np
from tests.runtime.plan.scheduling.model import Ints, Run

from haihe.drivers.roles import camera, servos
from haihe.runtime.contracts import fifo, fresh
from haihe.runtime.exec.processors import Contention
from haihe.runtime.exec.virtual import SimBus, VirtualExecutor
from haihe.runtime.graph import Graph, named
from haihe.runtime.guard import Decision, JointRule, SafeAction
from haihe.runtime.guard.guard import Guard
from haihe.runtime.io import Exchange, Reply, Transaction
from haihe.runtime.node import node
from haihe.runtime.plan.build import DeviceTiming, Placement, make_plan
from haihe.runtime.plan.timing import LaneTiming, SourceTiming, Timing
from haihe.runtime.record.format import FIRING
from haihe.runtime.types import Image, JointCommand, JointState, Message

PICTURE = Image(np.zeros((1, 1, 3), np.uint8))
HELD = np.zeros(1)
RULES = (JointRule("only", -10, 10, 10**9, 0, SafeAction.HOLD),)


class _Camera:
    """A source as the run has it."""

    def __init__(self, timing: SourceTiming, phase: int, interval: Ints, latency: Ints) -> None:
        self.first_ns = phase
        self.period_ns = timing.period_max_ns
        self._interval, self._latency = interval, latency
        self._delivered = 0

    def capture(self, index: int, t_ns: int) -> tuple[Image, int]:
        self.period_ns = int(self._interval[index % len(self._interval)])
        latency = int(self._latency[index % len(self._latency)])
        self._delivered = max(self._delivered, t_ns + latency)  # in order of capture
        return PICTURE, self._delivered - t_ns


class _Joint:
    """A bus of one joint: reading it takes no time, a write as long as its port says."""

    joints = ("only",)

    def setup(self) -> Transaction[None]:
        yield from ()

    def read(self) -> Transaction[Message]:
        yield from ()
        return JointState(self.joints, HELD, HELD, HELD, HELD, HELD, np.ones(1, bool))

    def write(self, decision: Decision) -> Transaction[None]:
        yield Exchange(b"w")

    def snapshot(self) -> tuple[Any, ...]:
        return ()

    def restore(self, state: tuple[Any, ...]) -> None:
        pass


class _Port:
    """Takes the time of the job that writes."""

    def __init__(self, after: Ints, jobs: list[int]) -> None:
        self._after, self._jobs = after, jobs

    def tx_time_ns(self, exchange: Exchange) -> int:
        if not self._jobs:  # the stop, after the run
            return 0
        return int(self._after[(self._jobs[-1] - 1) % len(self._after)])

    def exchange_at(self, exchange: Exchange, t_ns: int) -> Reply:
        end = t_ns + self.tx_time_ns(exchange)
        return Reply(b"", t_ns, end)


def is_alone(timing: Timing, lane: LaneTiming) -> bool:
    """Whether its thread shares neither core nor interpreter: the write of a bus, which the
    analysis counts as work, neither computes nor holds an interpreter in the product."""
    own = timing.thread_of(lane.name)
    others = [thread for thread in timing.threads if thread is not own]
    return not any(
        (own.core and other.core == own.core) or (own.process and other.process == own.process)
        for other in others
    )


def graph_of(timing: Timing) -> Graph:
    """The lanes as nodes: each starts a lane."""
    values: dict[str, Any] = {}
    with Graph("timing") as g:
        for source in timing.sources:
            values[source.name] = camera(source.name).image
        for lane in timing.lanes:
            names = [n for n in (lane.trigger, *lane.reads) if n]
            values[lane.name] = named(lane.name, _node(lane))(*(values[n] for n in names))
            if lane.after_ns:
                servos(f"{lane.name}_").command(values[lane.name])
        for thread in timing.threads:
            g.thread(f"{thread.name}_", *thread.lanes, policy=thread.policy)
    return g


def _node(lane: LaneTiming) -> Any:
    """A node with this lane's inputs, of any message."""
    hints: dict[str, Any] = {}
    if lane.trigger:
        hints["trigger"] = Annotated[Message, fifo(lane.fifo)] if lane.fifo else Message
    for number in range(len(lane.reads)):
        # at the beginning nothing is there yet: the model runs and publishes all the same
        hints[f"read{number}"] = Annotated[Message | None, fresh("1000s", on_stale="call")]
    scope: dict[str, Any] = {"JointCommand": JointCommand, "held": HELD, "hints": hints}
    arguments = ", ".join(f"{name}: hints[{name!r}]" for name in hints)
    exec(f"def work({arguments}) -> JointCommand:\n    return JointCommand(held)\n", scope)
    every = f"{lane.period_ns}ns" if lane.period_ns else None
    made: Any = node(every=every, on=None if every else "trigger")(scope["work"])
    return made


def play(timing: Timing, run: Run, horizon: int) -> dict[str, list[int]]:
    """Run it in the virtual executor; the finish times of each lane's jobs, up to the horizon."""
    graph = graph_of(timing)
    cores = sorted({t.core for t in timing.threads if t.core})
    places = {
        f"{t.name}_": Placement(cores.index(t.core) if t.core else -1, t.rank)
        for t in timing.threads
    }
    written = {lane.name: lane for lane in timing.lanes if lane.after_ns}
    plan = make_plan(graph, {f"{name}_": DeviceTiming(1000) for name in written}, places)
    row = {lane.name: at for at, lane in enumerate(timing.lanes)}
    started: dict[str, list[int]] = {lane.name: [] for lane in timing.lanes}
    shares = {f"{t.name}_": t.process for t in timing.threads if t.process}

    def choice(rows: Ints, lane: str, number: int) -> int:
        return int(rows[row[lane]][number % rows.shape[1]])

    def execution(lane: str, firing: int, _: int) -> int:
        started[lane].append(firing)
        whole = choice(run.execution, lane, firing - 1)
        return whole - choice(run.after, lane, firing - 1) if lane in written else whole

    executor = VirtualExecutor(
        graph, plan,
        {
            f"{name}_": SimBus(
                _Joint(),
                Guard(RULES, 10**9, lane.period_ns),
                _Port(run.after[row[name]], started[name]),
            )
            for name, lane in written.items()
        },
        {
            s.name: _Camera(s, int(run.source_phase[at]), run.interval[at], run.latency[at])
            for at, s in enumerate(timing.sources)
        },
        execution=execution,
        offsets={name: int(run.lane_phase[at]) for name, at in row.items()},
        lateness=lambda lane, number: choice(run.late, lane, number),
        contention=Contention(
            shares,
            {lane.name: lane.held_ns for lane in timing.lanes},
            tuple(f"{timing.threads[int(at) % len(timing.threads)].name}_" for at in run.holders),
            run.slice,
            bool(run.keeps),
        ),
    )  # fmt: skip
    ends: dict[str, list[int]] = {lane.name: [] for lane in timing.lanes}
    for lane in executor.assembly.lanes:

        def ended(fixed: bytes, name: str = lane.name) -> None:
            if fixed[0] == FIRING and executor.now_ns - executor.begin_ns <= horizon:
                ends[name].append(executor.now_ns - executor.begin_ns)

        lane.on_log = ended
    executor.run(horizon + 1, arm=False)
    return ends
