"""The timing analysis of a plan: responses of lanes, and ages of the data along its chains.

`analyse` finds a fixed point: the responses on a thread depend on how evenly its messages come,
and that on the responses before them. `busy.py` has the windows of one thread, `ages.py` the ages,
`timing.py` the semantics and the records. Every bound holds while no lane exceeds its `worst_ns`.

The latency of a triggered chain is counted from the root's nominal grid and not added up from
jitters and responses (Tindell & Clark 1994). Threads that take a core or an interpreter from
others enter as the work that they do in a window.
"""

from collections.abc import Callable

import msgspec

from haihe.runtime.plan.ages import Reach, ages, certain_after
from haihe.runtime.plan.busy import (
    NO_DELAY,
    UNBOUNDED,
    Delay,
    Load,
    Window,
    arrivals,
    demand,
    earliest,
    fifo_slots,
    fifo_windows,
    priority_slots,
    priority_window,
    settle,
)
from haihe.runtime.plan.timing import Bounds, LaneBound, LaneTiming, ThreadTiming, Timing

WIDEN_AFTER = 30  # sweeps; then chains that still grow count as unbounded


class _Lane:
    """A lane and what is known of it so far; all times grow from sweep to sweep."""

    def __init__(self, timing: LaneTiming) -> None:
        self.timing = timing
        self.load = Load(timing.worst_ns, max(1, timing.period_ns), 0, 0)
        self.response = self.nominal = self.elapsed = timing.worst_ns
        self.holding = (
            timing.held_ns
        )  # from start to the end of the part that needs the interpreter
        self.backlog = 0
        self.latest = 0  # from the root's nominal arrival to the finish
        self.earliest = 0  # ... to the publication
        self.is_widened = False

    @property
    def carried(self) -> int:
        """Jobs that may be unfinished when a window starts: those that wait, and one that runs."""
        return 1 if self.load.is_periodic else self.load.places + 1

    @property
    def is_refusing(self) -> bool:
        """Whether its queue may be full when a message comes."""
        return bool(self.timing.fifo) and self.backlog > self.timing.fifo

    def jobs_within(self, w: int) -> int:
        """Its jobs that may be unfinished at some time in a window of w."""
        late = arrivals(self.load, w) + self.carried
        if self.response >= UNBOUNDED:
            return late
        return min(late, arrivals(self.load, w + self.response - 1))

    def holds_within(self, w: int) -> int:
        """Its jobs that may need the interpreter at some time in a window of w."""
        jobs = self.jobs_within(w)
        best = self.timing.best_ns
        if not best or self.holding >= UNBOUNDED:
            return jobs
        return min(jobs, -(-(w + self.holding - 1) // best))  # starts are `best` apart


class _Thread:
    """A thread and the threads that can keep it from computing."""

    def __init__(self, timing: ThreadTiming, lanes: list[_Lane]) -> None:
        self.timing = timing
        self.lanes = lanes
        self.above: list[_Thread] = []  # more urgent on its core
        self.mates: list[_Thread] = []  # need its interpreter too
        self.takers: list[_Thread] = []  # may compute while it waits, directly or through others
        self.holders: list[_Thread] = []  # ... with the part that needs an interpreter
        self.is_contended = False  # an interpreter is involved
        self.seen: object = None  # what the last windows were computed from

    @property
    def needs_interpreter(self) -> bool:
        """Whether a lane of it declares a part that does."""
        return any(lane.timing.held_ns for lane in self.lanes)

    def delay(self) -> Delay:
        """The work of others in a window in which this thread waits for its core or interpreter.

        Without an interpreter the window is counted from when the more urgent threads were idle.
        Else their jobs, and those of holders, may be under way when it starts.
        """
        if not self.takers and not self.holders:
            return NO_DELAY
        takers = [lane for thread in self.takers for lane in thread.lanes]
        holders = [lane for thread in self.holders for lane in thread.lanes if lane.timing.held_ns]
        loads = [lane.load for lane in takers]
        held = [lane.load._replace(cost=lane.timing.held_ns) for lane in holders]
        rate = sum(load.rate for load in loads + held)
        if not self.is_contended:
            return Delay(lambda w: demand(loads, w), rate)

        def within(w: int) -> int:
            preempted = sum(lane.jobs_within(w) * lane.load.cost for lane in takers)
            interpreter = sum(lane.holds_within(w) * lane.timing.held_ns for lane in holders)
            return preempted + interpreter

        return Delay(within, rate)

    def state(self) -> object:
        """What its windows depend on."""
        others = [
            (lane.load.jitter, lane.response, lane.holding)
            for thread in self.takers + self.holders
            for lane in thread.lanes
        ]
        return [lane.load for lane in self.lanes], others


def _join(threads: list[_Thread]) -> None:
    """Who can keep whom from computing: closed over those who keep the keepers."""
    for one in threads:
        for other in threads:
            if other is one:
                continue
            core, process = one.timing.core, one.timing.process
            if core and core == other.timing.core and other.timing.rank > one.timing.rank:
                one.above.append(other)
            if process and process == other.timing.process and one.needs_interpreter:
                one.mates += [other] if other.needs_interpreter else []
    for one in threads:
        todo = [one]
        for thread in todo:
            for other in thread.above:
                if other is not one and other not in one.takers:
                    one.takers.append(other)
                    todo.append(other)
            for other in thread.mates:
                if other is not one and other not in one.holders:
                    one.holders.append(other)
                    todo.append(other)
        one.is_contended = any(thread.mates for thread in todo)
        one.holders = [thread for thread in one.holders if thread not in one.takers]


def _occupy(thread: _Thread, delay: Delay) -> None:
    """How long its jobs take from start to finish."""
    for lane in thread.lanes:
        timing = lane.timing
        if delay.rate >= 1:
            lane.elapsed = lane.holding = UNBOUNDED
            continue
        if timing.held_ns and thread.is_contended:
            lane.holding = settle(lambda w: timing.held_ns + delay.within(w), timing.held_ns)  # noqa: B023
        if thread.above:
            lane.elapsed = settle(lambda w: timing.worst_ns + delay.within(w), timing.worst_ns)  # noqa: B023
        elif lane.holding >= UNBOUNDED:
            lane.elapsed = UNBOUNDED
        else:  # alone on its core: it computes but for what it waits for the interpreter
            lane.elapsed = lane.holding + timing.worst_ns - timing.held_ns


def _windows(thread: _Thread, loads: list[Load], delay: Delay) -> list[Window]:
    """Each lane's window on a thread, with the one-slot bound where it is the smaller."""
    if thread.timing.policy == "fifo":
        slots = fifo_slots(loads, delay)
        return [_least(window, slots) for window in fifo_windows(loads, delay)]
    windows = []
    for at, load in enumerate(loads):
        higher, lower = loads[:at], loads[at + 1 :]
        slots = priority_slots(load, higher, lower, delay)
        windows.append(_least(priority_window(load, higher, lower, delay), slots))
    return windows


def _least(window: Window, slots: int) -> Window:
    """The smaller of both."""
    return Window(min(window.response, slots), min(window.nominal, slots), window.backlog)


def _respond(thread: _Thread) -> None:
    """The windows of a thread from the loads as known now."""
    delay = thread.delay()
    _occupy(thread, delay)
    loads = [lane.load for lane in thread.lanes]
    windows = _windows(thread, loads, delay)
    elapsed = [lane.elapsed for lane in thread.lanes]
    if thread.holders and not thread.above and max(elapsed) < UNBOUNDED:
        longer = [
            load._replace(cost=cost) for load, cost in zip(loads, elapsed, strict=True)
        ]  # or: every job waits for the interpreter by itself
        windows = [
            Window(*map(min, one, other))
            for one, other in zip(windows, _windows(thread, longer, NO_DELAY), strict=True)
        ]
    for lane, window in zip(thread.lanes, windows, strict=True):
        lane.response, lane.nominal, lane.backlog = window


def _arrive(lane: _Lane, timing: Timing, lanes: dict[str, _Lane]) -> None:
    """How a lane's messages or releases come, from what is known of its trigger."""
    own = lane.timing
    compute = max(0, own.best_ns - own.after_ns)  # before publication, at least
    if own.period_ns:
        distance = max(0, own.period_ns - own.late_ns)
        lane.load = Load(own.worst_ns, own.period_ns, own.late_ns, distance, 1, True)
        latest, first = own.late_ns, 0
    elif own.trigger in lanes:
        before = lanes[own.trigger]
        latest, first = before.latest, before.earliest
        jitter = latest - first
        if latest >= UNBOUNDED:  # no more than what came to it, and what it had not finished
            jitter = before.load.jitter + before.carried * before.load.period
        distance = max(0, before.timing.best_ns - before.timing.after_ns)
        distance += certain_after(before.timing)
        places = max(1, own.fifo)
        lane.load = Load(own.worst_ns, before.load.period, jitter, distance, places)
    else:
        source = next(source for source in timing.sources if source.name == own.trigger)
        latest, first = source.latency_max_ns, source.latency_min_ns
        jitter = latest - first
        distance = max(0, source.period_min_ns - jitter)
        places = max(1, own.fifo)
        lane.load = Load(own.worst_ns, source.period_min_ns, jitter, distance, places)
    lane.latest = min(UNBOUNDED, latest + lane.nominal)
    if lane.is_widened:
        lane.latest = UNBOUNDED
    lane.earliest = first + compute


def analyse(timing: Timing) -> Bounds:
    """Upper bounds of a plan: response times of its lanes, ages of its chains."""
    found, reaches, sweeps = respond(timing)
    chains, published = ages(timing, reaches)
    return Bounds(found, chains, published, sweeps)


def respond(timing: Timing) -> tuple[dict[str, LaneBound], dict[str, Reach], int]:
    """The responses of a plan's lanes, what `ages` needs of them, and the number of sweeps."""
    lanes = {lane.name: _Lane(lane) for lane in timing.lanes}
    threads = [_Thread(each, [lanes[name] for name in each.lanes]) for each in timing.threads]
    _join(threads)
    sweeps, is_settled = 0, False
    while not is_settled:
        sweeps += 1
        is_settled = True
        before = {name: lane.latest for name, lane in lanes.items()}
        for lane in lanes.values():
            _arrive(lane, timing, lanes)
        for thread in threads:
            state = thread.state()
            if state != thread.seen:
                thread.seen = state
                is_settled = False
                _respond(thread)
        if sweeps > WIDEN_AFTER:
            for name, lane in lanes.items():
                lane.is_widened = lane.is_widened or lane.latest != before[name]
    found = {}
    for thread in threads:
        load = sum(lane.load.rate for lane in thread.lanes)
        for lane in thread.lanes:
            found[lane.timing.name] = LaneBound(
                lane.timing.name,
                _known(lane.response),
                _known(lane.elapsed),
                load,
                _known(lane.backlog) if lane.timing.fifo else None,
                _starver(lane, thread) if lane.response >= UNBOUNDED else "",
            )
    reaches = {name: _reach(lane, found[name]) for name, lane in lanes.items()}
    return {lane.name: found[lane.name] for lane in timing.lanes}, reaches, sweeps


def _known(ns: int) -> int | None:
    """None for what has no bound."""
    return None if ns >= UNBOUNDED else ns


def _starver(lane: _Lane, thread: _Thread) -> str:
    """The lane or thread that takes most of what this lane would need."""
    rates = {other.timing.name: sum(x.load.rate for x in other.lanes) for other in thread.takers}
    for other in thread.holders:
        held = [x.load._replace(cost=x.timing.held_ns).rate for x in other.lanes]
        rates[other.timing.name] = sum(held)
    if thread.timing.policy == "priority":
        higher = thread.lanes[: thread.lanes.index(lane)]
        rates |= {other.timing.name: other.load.rate for other in higher}
    return max(rates, key=lambda name: rates[name], default=thread.timing.name)


def _reach(lane: _Lane, bound: LaneBound) -> Reach:
    """What the ages need of a lane."""
    name, timing = lane.timing.name, lane.timing
    problem = ""
    if bound.response_ns is None:
        problem = f"{name} is starved by {bound.starved_by}"
    elif lane.is_refusing and bound.backlog is None:
        problem = f"{name} refuses messages: its fifo({timing.fifo}) never catches up"
    elif lane.is_refusing:
        problem = f"{name} refuses messages: its fifo({timing.fifo}) needs {lane.backlog} places"
    elif lane.latest >= UNBOUNDED and lane.is_widened:
        problem = f"{name} has no bound: its chain comes back to its own thread and grows"
    return Reach(
        timing,
        lane.response,
        lane.nominal,
        lane.elapsed,
        lane.latest,
        lane.earliest,
        earliest(lane.load, 2),
        problem,
    )


class Headroom(msgspec.Struct, frozen=True):
    """How far the budget of a lane may grow.

    largest_ns: up to it the contract held at every budget that was tried; None: at none. is_limit:
    it held up to the greatest that is tried. cliff_ns: a little above this budget (at `beyond_ns`)
    the oldest age of the chain jumps; `beyond` are the bounds there. None: no jump was found.
    """

    lane: str
    worst_ns: int
    largest_ns: int | None
    is_limit: bool = False
    cliff_ns: int | None = None
    beyond_ns: int | None = None
    beyond: Bounds | None = None


def headroom(
    timing: Timing,
    lane: str,
    holds: Callable[[Bounds], bool],
    chain: tuple[str, str] | None = None,
    resolution_ns: int = 10_000,
) -> Headroom:
    """The largest `worst_ns` of a lane for which `holds`, to a resolution, and the next cliff.

    The bounds jump where a job gets longer than a period, so budgets beside every period are tried
    too. chain: (lane, source) whose oldest age is watched for the cliff; None: that of every
    actuator.
    """
    now = timing.lane(lane).worst_ns
    bounds: dict[int, Bounds] = {}

    def at(worst_ns: int) -> Bounds:
        if worst_ns not in bounds:
            bounds[worst_ns] = analyse(with_budget(timing, lane, worst_ns))
        return bounds[worst_ns]

    edges = sorted(_edges(timing, lane))
    tried = sorted({*(edge + step for edge in edges for step in (0, 1)), now, 2 * max(edges)})
    good, bad = 0, None
    for budget in tried:
        if not holds(at(budget)):
            bad = budget
            break
        good = budget
    while bad is not None and bad - good > resolution_ns:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if holds(at(middle)) else (good, middle)
    watched = [chain] if chain else _acting(at(now), timing)
    beside = {(edge, edge + 1) for edge in edges if edge >= now}
    if bad is not None and good >= now:
        beside.add((good, bad))
    for below, above in sorted(beside):
        if any(_jumps(at(below), at(above), each, above - below) for each in watched):
            return Headroom(lane, now, good or None, bad is None, below, above, at(above))
    return Headroom(lane, now, good or None, bad is None)


def with_budget(timing: Timing, lane: str, worst_ns: int) -> Timing:
    """The plan with another budget of a lane. What it holds and does after stays within it."""
    old = timing.lane(lane)
    new = msgspec.structs.replace(
        old,
        worst_ns=worst_ns,
        best_ns=min(old.best_ns, worst_ns),
        held_ns=min(old.held_ns, worst_ns),
        after_ns=min(old.after_ns, worst_ns),
        after_best_ns=min(old.after_best_ns, worst_ns),
    )
    lanes = tuple(new if each.name == lane else each for each in timing.lanes)
    return msgspec.structs.replace(timing, lanes=lanes)


def _edges(timing: Timing, lane: str) -> set[int]:
    """Budgets at which a job of the lane, alone or with its thread, gets longer than a period."""
    periods = {each.period_ns for each in timing.lanes if each.period_ns}
    periods |= {each.period_min_ns for each in timing.sources}
    periods |= {each.period_max_ns for each in timing.sources}
    others = sum(
        timing.lane(each).worst_ns for each in timing.thread_of(lane).lanes if each != lane
    )
    return {edge for period in periods for edge in (period, period - others) if edge > 0}


def _acting(bounds: Bounds, timing: Timing) -> list[tuple[str, str]]:
    """The chains that end at an actuator."""
    return [each for each in bounds.chains if timing.lane(each[0]).is_actuator]


def _jumps(below: Bounds, above: Bounds, chain: tuple[str, str], step_ns: int) -> bool:
    """Whether an age grows out of all proportion to the step of the budget."""
    before, after = below.chains[chain].oldest_ns, above.chains[chain].oldest_ns
    if before is None or after is None:
        return before is not None
    return after - before > 100 * step_ns
