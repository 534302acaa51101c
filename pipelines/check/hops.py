"""Hops between processes, as the analysis sees them: a lane of the thread that receives.

What a lane says to another process goes through a socket, its pictures through shared memory. In
the reader's process one thread receives for all its lanes; it shares the interpreter with them. So
a hop is a job of that thread, triggered by what it brings, and readers see what it publishes. To
send is part of the writer's lane.
"""

from collections.abc import Iterable

import msgspec

from haihe.runtime.exec.remote import receivers
from haihe.runtime.plan.model import LanePlan, Plan
from haihe.runtime.plan.timing import LaneTiming, ThreadTiming

MAIN = "main"  # how the launcher's own process is called in texts
# measured on x86-64, CPython 3.11, 2 virtual cores, both ends at SCHED_FIFO 40, detections and
# pictures of 0.9 MB made in place, one every 5 ms, 6,000 in all: from before the send until the
# message is received 0.21 ms p50, 0.37 p99, 0.66 at most; of the sender's time 0.08, 0.18 and
# 0.33; of the receiver's 0.07, 0.15 and 0.29
HOP_NS = 700_000
HOP_HELD_NS = 300_000
SEND_NS = 350_000


class Hop(msgspec.Struct, frozen=True):
    """What one process receives of one node, bus or stream of another one.

    owner: the node, the stream's role or the bus state. sources: its outputs that are received.
    process: of the reader. fifo: places of the reader's queue, 0: latest wins.
    """

    owner: str
    sources: tuple[str, ...]
    process: str
    fifo: int = 0

    @property
    def name(self) -> str:
        """In the analysis, beside lanes and nodes."""
        return f"{self.owner}→{process_name(self.process)}"

    def timing(self, trigger: str) -> LaneTiming:
        """As a lane. trigger: what it brings, as the analysis calls it."""
        number = len(self.sources)
        return LaneTiming(
            self.name, number * HOP_NS, 0, trigger=trigger, fifo=self.fifo,
            held_ns=number * HOP_HELD_NS,
        )  # fmt: skip


def process_name(process: str) -> str:
    """For people."""
    return process or MAIN


def hops_of(plan: Plan) -> dict[tuple[str, str], Hop]:
    """Every hop by (owner, process of the readers)."""
    states = {bus.state for lane in plan.lanes for bus in lane.task.buses}
    found: dict[tuple[str, str], Hop] = {}
    for lane in plan.lanes:
        process = plan.process_of(lane.name)
        for source in lane.task.reads:
            if plan.maker_process(source) == process:
                continue
            owner = source if source in states else source.split(".")[0]
            old = found.get((owner, process), Hop(owner, (), process))
            places = lane.task.fifo if source == lane.task.trigger else 0
            sources = tuple(dict.fromkeys([*old.sources, source]))
            found[owner, process] = Hop(owner, sources, process, max(old.fifo, places))
    return found


def sends_of(plan: Plan) -> dict[str, int]:
    """By lane, how many sources it sends to other processes; each is packed once."""
    sent = {source for hop in hops_of(plan).values() for source in hop.sources}
    return {lane.name: len(sent & set(lane.task.publishes)) for lane in plan.lanes}


def hop_threads(plan: Plan) -> list[ThreadTiming]:
    """The receiving thread of each process that has hops."""
    by_process: dict[str, list[str]] = {}
    for hop in hops_of(plan).values():
        by_process.setdefault(hop.process, []).append(hop.name)
    return [
        ThreadTiming(
            thread.name, tuple(by_process[process]), "fifo",
            str(thread.core) if thread.core >= 0 else "", thread.rank, process_name(process),
        )
        for process, thread in receivers(plan).items() if process in by_process
    ]  # fmt: skip


def stream_readers(plan: Plan, processes: Iterable[str]) -> list[str]:
    """The streams that are read in these processes."""
    inside = set(processes)
    return [role for role in plan.streams if _reader_process(plan, role) in inside]


def _reader_process(plan: Plan, role: str) -> str:
    def reads(lane: LanePlan) -> list[str]:
        return [source for source in lane.task.reads if source.split(".")[0] == role]

    read = [source for lane in plan.lanes for source in reads(lane)]
    return plan.maker_process(read[0]) if read else ""
