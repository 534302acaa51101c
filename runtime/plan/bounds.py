"""The timing analysis of a plan: responses of lanes, and ages of the data along its chains.

`analyse` finds a fixed point: the responses on a thread depend on how evenly its messages come,
and that on the responses before them. `busy.py` has the windows of one thread, `ages.py` the ages,
`timing.py` the semantics and the records. Every bound holds while no lane exceeds its `worst_ns`.

The latency of a triggered chain is counted from the root's nominal grid and not added up from
jitters and responses (Tindell & Clark 1994). Threads that take a core or an interpreter from
others enter as the work that they do in a window.
"""

from collections.abc import Sequence
from typing import NamedTuple

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
        self.holding = timing.held_ns  # from start to the end of what needs the interpreter
        self.backlog = 0
        self.latest = 0  # from the root's nominal arrival to the finish
        self.earliest = 0  # ... to the publication
        self.is_widened = False
        self.before: _Lane | None = None  # the lane that triggers it
        self.after: list[_Lane] = []  # those that it triggers

    @property
    def held_rate(self) -> float:
        """Share of time that it needs the interpreter in the long run."""
        return self.timing.held_ns / max(self.load.period, self.load.distance)

    @property
    def held_back_by(self) -> "_Lane | None":
        """The lane whose full queue may keep this one, which has a queue too, from starting."""
        if not self.timing.fifo:
            return None
        return next((lane for lane in self.after if lane.is_refusing), None)

    def is_fed_by(self, busy: Sequence["_Lane"]) -> bool:
        """Whether its messages come from one of these lanes, directly or through others."""
        before = self.before
        return before is not None and (before in busy or before.is_fed_by(busy))

    @property
    def carried(self) -> int:
        """Jobs that may be unfinished when a window starts: those that wait, and one that runs."""
        return 1 if self.load.is_periodic else self.load.places + 1

    @property
    def is_refusing(self) -> bool:
        """Whether its queue may be full when a message comes."""
        return bool(self.timing.fifo) and self.backlog > self.timing.fifo


class _Row(NamedTuple):
    """What of another thread's lane counts in a window, or of a lane that leads to one.

    before: the row of the lane that triggers it, -1: none. most: messages that come meanwhile, at
    most (-1: any number). carried: jobs that may be unfinished when the window starts. unfinished:
    how long before it those arrived, at most; unheld: ... of those whose part that needs the
    interpreter is not over. cost, held: counted of a job. tail: what it executes after that part,
    at least.
    """

    name: str
    load: Load
    before: int
    most: int
    carried: int
    unfinished: int
    unheld: int
    cost: int
    held: int
    tail: int


def _taken(rows: Sequence[_Row], threads: Sequence[Sequence[int]], w: int) -> int:
    """What the lanes of `rows` may take in a window of w: all their jobs, of takers; the parts that
    need the interpreter, of holders. threads: the rows of each holder, least tail per part first.

    It is the inner loop of the analysis, hence in one piece.
    """
    total = 0
    jobs: list[int] = []  # that may be unfinished at some time in the window
    for row in rows:
        load = row.load
        come = arrivals(load, w)
        if 0 <= row.most < come:
            come = row.most
        if row.before >= 0 and jobs[row.before] < come:
            come = jobs[row.before]
        count = come + row.carried
        if row.unfinished < UNBOUNDED:
            count = min(count, arrivals(load, w + row.unfinished))
        jobs.append(count)
        total += count * row.cost
    for at in threads:  # one job at a time, and each but the last goes on after its part
        room, used = w + max([rows[each].tail for each in at]), 0
        for each in at:
            row = rows[each]
            count = jobs[each]
            if row.unheld < UNBOUNDED:  # the part comes first: what else it executes comes after
                count = min(count, arrivals(row.load, w + row.unheld))
            whole = row.held + row.tail
            if count * whole <= room:
                room -= count * whole
                used += count * row.held
            else:
                used += -(-room * row.held // whole)
                break
        total += min(used, w)
    return total


def _row(
    lane: _Lane, at: dict[str, int], busy: Sequence[_Lane], *, taker: bool, held: bool
) -> _Row:
    """The row of a lane. at: the rows that are there.

    busy: lanes of a thread that runs a job throughout the window: what those trigger gets no
    message from them, but one that is published before the finish.
    """
    timing, before = lane.timing, lane.before
    is_fed = before is not None and before in busy
    is_bounded = lane.response < UNBOUNDED
    later = timing.worst_ns - timing.held_ns
    return _Row(
        name=timing.name,
        load=lane.load,
        before=-1 if before is None or is_fed else at[before.timing.name],
        most=int(before.timing.after_ns > 0) if before is not None and is_fed else -1,
        carried=lane.carried,
        unfinished=lane.response - 1 if is_bounded else UNBOUNDED,
        unheld=lane.response - later - 1 if is_bounded else UNBOUNDED,
        cost=lane.load.cost if taker else 0,
        held=timing.held_ns if held else 0,
        tail=max(0, timing.best_ns - timing.held_ns),
    )


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

    @property
    def is_stuck(self) -> bool:
        """Whether one of its jobs may wait while it is idle: then its windows say nothing."""
        return any(lane.held_back_by for lane in self.lanes)

    def delay(self, *, is_running: bool = False) -> Delay:
        """The work of others in a window in which this thread waits for its core or interpreter.

        is_running: in which a job of it runs. Without an interpreter the window is counted from
        when the more urgent threads were idle. Else their jobs, and those of holders, may be under
        way when it starts.
        """
        if not self.takers and not self.holders:
            return NO_DELAY
        busy = self.lanes if is_running else ()
        takers = [lane for thread in self.takers for lane in thread.lanes]
        holders = [lane for thread in self.holders for lane in thread.lanes if lane.timing.held_ns]
        rate = sum(lane.load.rate for lane in takers if not lane.is_fed_by(busy))
        rate += sum(lane.held_rate for lane in holders if not lane.is_fed_by(busy))
        if not self.is_contended and not any(thread.is_stuck for thread in self.takers):
            loads = [lane.load for lane in takers]
            return Delay(lambda w: demand(loads, w), rate)
        rows = self.rows(takers, holders, busy)
        threads = [
            sorted(
                (at for at, row in enumerate(rows) if row.held and row.name in thread.timing.lanes),
                key=lambda at: rows[at].tail / rows[at].held,
            )
            for thread in self.holders
        ]
        known: dict[int, int] = {}

        def within(w: int) -> int:
            if w not in known:
                known[w] = _taken(rows, threads, w)
            return known[w]

        return Delay(within, rate)

    @staticmethod
    def rows(
        takers: Sequence[_Lane], holders: Sequence[_Lane], busy: Sequence[_Lane] = ()
    ) -> list[_Row]:
        """The rows of these lanes, each after those of the lanes that lead to it."""
        rows: list[_Row] = []
        at: dict[str, int] = {}
        for lane in [*takers, *holders]:
            way = [lane]
            while way[-1].before is not None and way[-1].before not in busy:
                way.append(way[-1].before)
            for each in reversed(way):
                name = each.timing.name
                if name not in at:
                    at[name] = len(rows)
                    row = _row(each, at, busy, taker=each in takers, held=each in holders)
                    rows.append(row)
        return rows

    def state(self) -> object:
        """What its windows depend on."""
        takers = [lane for thread in self.takers for lane in thread.lanes]
        holders = [lane for thread in self.holders for lane in thread.lanes if lane.timing.held_ns]
        stuck = [thread.is_stuck for thread in [self, *self.takers, *self.holders]]
        return [lane.load for lane in self.lanes], self.rows(takers, holders), stuck


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
    _occupy(thread, thread.delay(is_running=True))
    if thread.is_stuck:
        for lane in thread.lanes:
            lane.response = lane.nominal = lane.backlog = UNBOUNDED
        return
    delay = thread.delay()
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
    for lane in lanes.values():
        lane.before = lanes.get(lane.timing.trigger)
        if lane.before is not None:
            lane.before.after.append(lane)
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
    stuck = next((each for each in thread.lanes if each.held_back_by), None)
    if stuck is not None:
        return stuck.timing.name
    rates = {other.timing.name: sum(x.load.rate for x in other.lanes) for other in thread.takers}
    for other in thread.holders:
        rates[other.timing.name] = sum(x.held_rate for x in other.lanes)
    if thread.timing.policy == "priority":
        higher = thread.lanes[: thread.lanes.index(lane)]
        rates |= {other.timing.name: other.load.rate for other in higher}
    return max(rates, key=lambda name: rates[name], default=thread.timing.name)


def _reach(lane: _Lane, bound: LaneBound) -> Reach:
    """What the ages need of a lane."""
    name, timing = lane.timing.name, lane.timing
    problem = ""
    full = lane.held_back_by
    if full is not None:
        places = f"fifo({full.timing.fifo})"
        problem = f"{name} is held back when the {places} of {full.timing.name} is full"
    elif bound.response_ns is None:
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
