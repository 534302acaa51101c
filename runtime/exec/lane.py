"""A lane at run time: its compiled task, its state, its events and the record being written.

The same for every executor: real time, virtual time and replay differ in what they put behind the
clock, the buses' ports and the slots.
"""

import copy
import logging
import pickle
from collections import deque
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from haihe.runtime.clock import MILLISECOND, SECOND
from haihe.runtime.exec.bus import BusRunner
from haihe.runtime.exec.goals import GoalRunner
from haihe.runtime.exec.modes import Decider
from haihe.runtime.links.slot import Bounded
from haihe.runtime.node import set_state, state_of
from haihe.runtime.plan.model import LanePlan
from haihe.runtime.record.format import (
    RESTART,
    RESTART_LAYOUT,
    SETUP,
    SETUP_LAYOUT,
    STOP,
    STOP_LAYOUT,
    Event,
    Logged,
    pack_tail,
)
from haihe.runtime.telemetry.stats import EdgeStats

log = logging.getLogger(__name__)
BLOCK_NS = 100 * MILLISECOND  # of records, handed to the sink at once


class Sink(Protocol):
    """Where a lane's records go; see record/recorder.py."""

    def block(self, lane: str, data: bytes, firing: int, t_ns: int) -> None:
        """A block of a lane's records."""
        ...

    def output(self, source: str, sequence: int, t_ns: int, message: Any) -> None:
        """An output of a recorded node."""
        ...

    def stream(self, source: str, sequence: int, capture: int, delivered: int, m: Any) -> None:
        """A message of a stream device, at its delivery."""
        ...

    def keyframe(self, lane: str, firing: int, t_ns: int, state: bytes) -> None:
        """State between two firings."""
        ...

    def orphan(self, source: str, sample: tuple[int, Any, int, int]) -> None:
        """A message of a lane that died before it recorded how it made it."""
        ...


@dataclass
class Timing:
    """What stands behind time in a lane: the firing's clock reading, the present, and a clock for
    measuring execution times."""

    clock: Callable[[], int]
    now: Callable[[], int]
    mono: Callable[[], int]


@dataclass(frozen=True)
class Overrun:
    """A node took longer than its budget: what is computed from budgets is void meanwhile."""

    t_ns: int  # the end of its firing's nodes, or just before
    lane: str
    node: str
    firing: int
    took_ns: int
    budget_ns: int


class Lane:
    """One lane: its compiled task, state, inbox of events, and the record being written."""

    def __init__(self, index: int, plan: LanePlan, sink: Sink | None) -> None:
        self.index = index
        self.name = plan.name
        self.task = plan.task
        self.sink = sink
        self.inbox: deque[Event] = deque()
        self.firing = 0
        self.stops = 0
        self.buses: list[BusRunner] = []
        self.exchanges: list[Logged] = []
        self.applied: list[Event] = []
        self.functions: list[Callable[..., Any]] = []
        self.constants: list[dict[str, Any]] = []
        self.instances: list[Any] = []
        self.states: list[dict[str, Any]] = []  # of each instance, as it was wired
        self.counts: dict[str, int] = {}  # outputs of recorded nodes so far
        self.on_raise: Callable[[Lane, str, BaseException], None] = lambda lane, node, exc: None
        self.on_overrun: Callable[[Overrun], None] = lambda overrun: None
        self.outlets: list[Bounded] = []  # of a lane with a queue: the queues that it feeds
        self.on_log: Callable[[bytes], None] | None = None
        self.progress = ""  # what is being opened, for reports of hangs
        every = plan.task.every_ns
        self.keyframe_every = max(1, SECOND // every) if every else 30
        self._resting: dict[int, tuple[int, ...]] = {}
        self.block_ns = BLOCK_NS
        self._block = bytearray()
        self._flushed_at = 0
        self.tick: Any = None
        self.snapshot_held: Any = None
        self.restore_held: Any = None
        self.timing: Timing | None = None
        self.ids: dict[str, int] = {}
        self.held: tuple[str, ...] = ()
        self.bases: dict[str, int] = {}  # of each source, made before its last restart
        self.rewire: Callable[[], None] = lambda: None  # nodes and held values as at the start
        self.modes: dict[str, str] = {}  # by group that concerns the lane: the active one
        self.initial_modes: dict[str, str] = {}
        self.speaks: set[str] = set()  # groups of whose modes it tells outside
        self.goals: dict[str, GoalRunner] = {}
        self.deciders: dict[str, Decider] = {}  # by group whose home it is
        self.post: Callable[[Event, tuple[str, ...]], None] = lambda event, lanes: None
        self.is_live = False  # not a replay
        self.tell: Callable[[tuple[Any, ...]], None] = lambda told: None  # outside

    # --- firing -------------------------------------------------------------------------------

    def begin(self, release: int) -> Generator[Any, Any, None]:
        """Start a firing: events apply now, and are recorded in it."""
        self.firing += 1
        if self.inbox:
            self._apply_events()
        tick: Generator[Any, Any, None] = self.tick(release, self.firing)
        return tick

    def may_start(self) -> bool:
        """Whether there is room for what a job of it makes: else it is held back, and what waits
        for it waits in its own queue, up to the entrance of the chain."""
        return all(queue.has_room() for queue in self.outlets)

    def _apply_events(self) -> None:
        for _ in range(min(len(self.inbox), 200)):
            event = self.inbox.popleft()
            self.apply(event)
            self.applied.append(event)

    def apply(self, event: Event) -> None:
        """Carry one event out."""
        kind = event[0]
        if kind == "param":
            _, node, key, value = event
            index = next(i for i, step in enumerate(self.task.steps) if step.name == node)
            self._set_constant(index, key, value)
        elif kind == "mode":
            self._switch(event[1], event[2])
        elif kind == "ask":
            self.deciders[event[1]].ask(event[2])
        elif kind == "goal":
            self.goals[event[1]].ask(event[2], event[3])
        elif kind == "cancel":
            self.goals[event[1]].cancel(event[2])
        else:
            for bus in self.buses:
                bus.apply(event)

    def _switch(self, group: str, mode: str) -> None:
        """Into another mode: its nodes begin anew, actuators that obeyed one of the group hold."""
        if self.modes.get(group, mode) == mode:
            return
        self.modes[group] = mode
        for index, step in enumerate(self.task.steps):
            if (group, mode) in step.modes:
                self.begin_anew(index)
        for bus, plan in zip(self.buses, self.task.buses, strict=True):
            if group in plan.held_by:
                bus.hold(is_lasting=(group, mode) in plan.idle)
        if group in self.speaks:
            self.tell(("mode", group, mode))

    def begin_anew(self, index: int) -> None:
        """Give a node the state that it was wired with; its next `dt` is 0. One that holds
        something (open()) has no state that a replay could know, and goes on."""
        instance = self.instances[index]
        if instance is not None and not hasattr(instance, "open"):
            for name in state_of(instance).keys() - self.states[index].keys():
                delattr(instance, name)
            set_state(instance, copy.deepcopy(self.states[index]))
        if f"l{index}" in self.held:
            values = list(self.snapshot_held())
            values[self.held.index(f"l{index}")] = 0
            self.restore_held(values)

    def _set_constant(self, index: int, key: str, value: Any) -> None:
        self.constants[index][key] = value
        instance = self.instances[index]
        if instance is not None and hasattr(instance, key):
            object.__setattr__(instance, key, value)  # frozen dataclasses too

    def log(self, fixed: bytes) -> None:
        """End the record of a firing, set-up or stop: its fixed part is given."""
        if self.on_log is not None:
            self.on_log(fixed)
        if self.sink is not None:
            self._block += fixed
            self._block += pack_tail(self.applied, self.exchanges)
        if self.exchanges or self.applied:
            self.exchanges.clear()
            self.applied.clear()
        if self.sink is not None:
            self.flush_due(self.timing.now())  # type: ignore[union-attr]

    @property
    def has_records(self) -> bool:
        """Whether some wait to be handed to the sink."""
        return bool(self._block)

    def flush_due(self, now: int) -> None:
        """Flush, if the last time is long enough ago."""
        if now - self._flushed_at >= self.block_ns:
            self.flush(now)

    def flush(self, now: int) -> None:
        """Hand the block to the sink."""
        if self._block and self.sink is not None:
            self.sink.block(self.name, bytes(self._block), self.firing, now)
            self._block.clear()
        self._flushed_at = now

    def after_firing(self, now: int) -> None:
        """Between two firings: a keyframe when one is due."""
        if self.sink is None or self.firing % self.keyframe_every:
            return
        try:
            state = pickle.dumps(self.snapshot(), 5)
        except Exception as exc:  # noqa: BLE001 - pickle raises anything; a run goes on without
            log.warning("lane %s: no keyframes from here on: %s", self.name, exc)
            self.keyframe_every = 1 << 62
            return
        self.sink.keyframe(self.name, self.firing, now, state)

    # --- set-up and stop ----------------------------------------------------------------------

    def setup(self) -> Generator[Any, Any, None]:
        """Set every bus device up; recorded. Raises DeviceError."""
        for index, bus in enumerate(self.buses):
            try:
                yield from bus.setup()
            finally:
                self.log(SETUP_LAYOUT.pack(SETUP, index))

    def stop(self, clock: Callable[[], int], reason: str) -> Generator[Any, Any, bool]:
        """One stop firing: trip the guards and send the safe actions; recorded. Gives whether
        every joint has come to rest (a safe position may take several)."""
        at_rest = True
        self.stops += 1
        for index, bus in enumerate(self.buses):
            if bus.guard is None:
                continue
            if self.stops == 1:
                event: Event = ("trip", reason)
                bus.guard.trip(reason)
                self.applied.append(event)
            state = yield from bus.last_look()
            if not bus.online and self.stops == 1:
                why = f"{bus.role} is offline ({bus.problem})"
                log.error("%s: no safe action could be sent", why)
            t = clock()
            decision = bus.decide(t, None, 0, state)
            yield from bus.write(decision, 0, EdgeStats(), 0)
            at_rest &= decision.positions == self._resting.get(index)
            self._resting[index] = decision.positions
            self.log(STOP_LAYOUT.pack(STOP, self.stops, t, index))
        return at_rest

    # --- state --------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, Any]:
        """Everything the next firing depends on, for a keyframe."""
        states = {
            step.name: state_of(instance)
            for step, instance in zip(self.task.steps, self.instances, strict=True)
            if instance is not None and not step.recorded
        }
        return {
            "firing": self.firing,
            "held": self.snapshot_held(),
            "nodes": states,
            "constants": [dict(c) for c in self.constants],
            "buses": [bus.snapshot() for bus in self.buses],
            "counts": dict(self.counts),
            "bases": dict(self.bases),
            "modes": dict(self.modes),
            "goals": {name: goal.snapshot() for name, goal in self.goals.items()},
        }

    def sequence_of(self, source: str) -> int:
        """The number of the last message that a source of this lane has made."""
        return self.numbers()[source]

    def numbers(self) -> dict[str, int]:
        """By source of this lane: the number of the last message that it has made."""
        values = dict(zip(self.held, self.snapshot_held(), strict=True))
        bases = self.bases
        return {
            source: bases.get(source, 0) + values[f"q{i}"]
            for source, i in self.ids.items()
            if f"q{i}" in values
        }

    def renew(self, firing: int, made: Mapping[str, int], t_ns: int) -> None:
        """Begin anew after a death: nodes, values and devices are as at the start, the numbers go
        on after `firing` and what was `made` by each source; recorded."""
        self.firing, self.stops = firing, 0
        self.bases = dict(made)
        self.counts.update(made)
        self.inbox.clear()
        self.rewire()
        for bus in self.buses:
            bus.restore(bus.initial)
        self.modes.update(self.initial_modes)
        for goal in self.goals.values():
            goal.renew()
        for decider in self.deciders.values():
            decider.renew()
        self.exchanges.clear()
        self.applied[:] = [("restart", dict(made))]
        self.log(RESTART_LAYOUT.pack(RESTART, firing, t_ns))

    def restore(self, state: dict[str, Any]) -> None:
        """Restore what `snapshot` gave."""
        self.firing = state["firing"]
        self.bases = dict(state.get("bases", {}))
        if self.bases:
            self.rewire()
        self.restore_held(state["held"])
        for step, instance in zip(self.task.steps, self.instances, strict=True):
            if step.name in state["nodes"]:
                set_state(instance, state["nodes"][step.name])
        for index, constants in enumerate(state["constants"]):
            for key, value in constants.items():
                self._set_constant(index, key, value)
        for bus, bus_state in zip(self.buses, state["buses"], strict=True):
            bus.restore(bus_state)
        self.counts.clear()
        self.counts.update(state["counts"])
        self.modes.update(state.get("modes", {}))
        for name, goal in state.get("goals", {}).items():
            self.goals[name].restore(goal)
