"""What a plan is to its timing analysis: sources, lanes and threads, in integer ns.

This page is the contract between the analysis (`bounds.py`), the virtual executor and the model
that the tests search for counterexamples; the three share these records and no code.

Time is discrete, one tick is 1 ns. At one instant things happen in this order: completions (each
publishes its lane's outputs), deliveries of sources, releases of periodic lanes, dispatch.

- A *source* captures at a distance of `period_min_ns` to `period_max_ns` and delivers each message,
  in order, `latency_min_ns` to `latency_max_ns` after its capture.
- A *lane* is a job at a time: it reads its inputs at its start, publishes at its finish (or
  `after_ns` before it), and executes for `best_ns` to `worst_ns`. Slots hold the newest message.
- A *periodic* lane is released on its grid, up to `late_ns` after it. A release is skipped while
  its own job is pending or running.
- A *triggered* lane, latest wins: an arrival while its job is pending only replaces the message
  (the response counts from the first arrival); while it runs, the arrival makes the next job
  pending. With `fifo` n it runs a job per message, in order; a message is refused when n wait, and
  a lane with a queue of its own is held back while a queue that it feeds is full (neither happens
  while backlogs stay within their places).
- A *thread* runs its lanes' jobs to the end, one at a time. When it is idle it dispatches at once:
  `priority`: the pending lane that stands first in `lanes`; `fifo`: the earliest arrival, equal
  ones in the order of `lanes`. The start of a job is its dispatch.
- Threads on one `core`: the highest `rank` computes, and preempts; no two have the same rank.
- Threads of one `process` share its interpreter: the first `held_ns` of a job (all of it, if it
  executes shorter) advance only while its thread holds the interpreter. One thread holds it at
  a time, whoever needs it may take it at any instant, and it is never idle while one needs it. Who
  waits for it leaves its core to others; whether a thread whose core was taken from it keeps it is
  left open, and bounds hold either way.
- An actuator's lane acts at its finish on what it has read, until it acts again.
"""

from typing import Literal

import msgspec


class SourceTiming(msgspec.Struct, frozen=True):
    """A stream device. period_min: in load; period_max: in gaps (30 fps is 29.97)."""

    name: str
    period_min_ns: int
    period_max_ns: int
    latency_min_ns: int = 0
    latency_max_ns: int = 0


class LaneTiming(msgspec.Struct, frozen=True):
    """A lane. period_ns: 0 for a triggered one. trigger: the source, or the lane, whose messages
    trigger it. reads: the sources and lanes that it samples at its start (its trigger is not
    among them); only those whose age counts. after_ns: how much of its time, at most and at
    least, follows publication (an actuator's write). held_ns: of worst_ns, holding the
    interpreter."""

    name: str
    worst_ns: int
    best_ns: int
    period_ns: int = 0
    late_ns: int = 0
    trigger: str = ""
    fifo: int = 0  # places of the trigger's queue; 0: latest wins
    reads: tuple[str, ...] = ()
    held_ns: int = 0
    after_ns: int = 0
    after_best_ns: int = 0
    deadline_ns: int | None = None
    is_actuator: bool = False


class ThreadTiming(msgspec.Struct, frozen=True):
    """A thread with its lanes: most urgent first (`priority`), or in order of ties (`fifo`).
    core: "" is one of its own."""

    name: str
    lanes: tuple[str, ...]
    policy: Literal["priority", "fifo"] = "priority"
    core: str = ""
    rank: int = 0
    process: str = ""  # "": an interpreter of its own


class Timing(msgspec.Struct, frozen=True):
    """A plan for its analysis. lanes: every lane after what triggers it and, where the reads
    form no cycle, after what it reads."""

    sources: tuple[SourceTiming, ...]
    lanes: tuple[LaneTiming, ...]
    threads: tuple[ThreadTiming, ...]

    def lane(self, name: str) -> LaneTiming:
        """The lane of that name."""
        return next(lane for lane in self.lanes if lane.name == name)

    def thread_of(self, lane: str) -> ThreadTiming:
        """The thread that runs a lane."""
        return next(thread for thread in self.threads if lane in thread.lanes)


class LaneBound(msgspec.Struct, frozen=True):
    """What the analysis found of a lane. None: unbounded. response_ns: from arrival (release) to
    finish. elapsed_ns: from start to finish. load: of its thread, worst case, in the share of one
    (1.0: always busy). backlog: messages that wait at most, of a fifo trigger. starved_by: the
    lane or thread whose load leaves nothing, when it is unbounded."""

    name: str
    response_ns: int | None
    elapsed_ns: int | None
    load: float
    backlog: int | None = None
    starved_by: str = ""


class Term(msgspec.Struct, frozen=True):
    """A part of an age: what it is, of which lane or source, and how long.

    kind: `frame` (the wait for the next capture), `delivery`, `response` (of a triggered lane, or
    from the release of a periodic one), `gap` (the wait for the next tick of a sampling lane).
    """

    kind: Literal["frame", "delivery", "response", "gap"]
    subject: str
    ns: int


class ChainBound(msgspec.Struct, frozen=True):
    """Ages of a source's data at a lane, upper bounds; None: unbounded, `problem` says why.

    path: source, lanes on the worst way, the lane. fresh_ns: when the lane reads it. sent_ns: when
    the first byte of its command leaves (its publication, for other lanes). oldest_ns: the oldest
    that is still acted on = the slowest reaction to an event; the sum of `terms`.
    """

    source: str
    lane: str
    path: tuple[str, ...]
    fresh_ns: int | None
    sent_ns: int | None
    oldest_ns: int | None
    terms: tuple[Term, ...] = ()
    problem: str = ""


class Bounds(msgspec.Struct, frozen=True):
    """The analysis of a plan. chains: for every pair of a lane and a source that reaches it.
    published: (lane or source, source) -> the age of its newest published message is never above
    this (period of the source included); None: unbounded. A reader that samples it sees no
    older."""

    lanes: dict[str, LaneBound]
    chains: dict[tuple[str, str], ChainBound]  # (lane, source)
    published: dict[tuple[str, str], int | None]
    sweeps: int = 0  # over the plan until nothing changed
