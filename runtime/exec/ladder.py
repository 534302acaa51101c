"""The degradation ladder: when a group of modes steps down to a cheaper one, and up again.

`Ladder` is a pure state machine; `LadderWatch` feeds it from an executor's counters and the
machine's state, and posts each step as an event, which the lanes record. What it goes by is not
recorded, and need not be.

Down: at once when a quantity is at its threshold, one mode at a time, the next not before `settle`
has passed. Up: one mode when for `hold` there was no miss and all was below the lower thresholds.
So in any time T it steps up at most T / hold + 1 times, and down as often and once per mode more.
"""

import logging
from collections import deque
from collections.abc import Callable, Mapping

import msgspec

from haihe.runtime.plan.model import LadderPlan, Plan
from haihe.runtime.record.format import Event
from haihe.runtime.telemetry.stats import NodeStats

log = logging.getLogger(__name__)

LOOK_NS = 100_000_000  # between two looks at the counters
COOLER_K = 3.0  # below its threshold a quantity must be, for a step up
LESS_LOAD = 0.1
MORE_BATTERY = 0.05


class Health(msgspec.Struct, frozen=True):
    """How the machine is: the hottest sensor in degC, the load of all cores 0..1 (above 1: more
    than they can do), the battery 0..1. None: not known, and then it decides nothing."""

    temperature_degc: float | None = None
    load: float | None = None
    battery: float | None = None


class Ladder:
    """Which mode a group shall be in: level 0 is the full one."""

    def __init__(self, plan: LadderPlan) -> None:
        self.plan = plan
        self.level = 0
        self.reason = ""  # of the last step
        self._misses: deque[tuple[int, int]] = deque()  # (time, total) at each look with new ones
        self._total: int | None = None
        self._stepped_down_ns: int | None = None
        self._well_since_ns: int | None = None

    def look(self, t_ns: int, misses: int, health: Health) -> int:
        """misses: of deadlines and budgets, ever. Gives the level."""
        plan = self.plan
        new = 0 if self._total is None else max(0, misses - self._total)
        self._total = misses
        if new:
            self._misses.append((t_ns, new))
        while self._misses and self._misses[0][0] <= t_ns - plan.window_ns:
            self._misses.popleft()
        stress = self._stress(health)
        if stress or new or not self._is_well(health):
            self._well_since_ns = None
        elif self._well_since_ns is None:
            self._well_since_ns = t_ns
        if stress:
            self._down(t_ns, stress)
        elif self._well_since_ns is not None and t_ns - self._well_since_ns >= plan.hold_ns:
            self._up(t_ns)
        return self.level

    def _stress(self, health: Health) -> str:
        """Why it is to step down; "" if nothing asks for it."""
        plan = self.plan
        missed = sum(count for _, count in self._misses)
        if plan.misses and missed >= plan.misses:
            return f"{missed} misses in {plan.window_ns * 1e-9:g} s"
        if plan.heat_degc and _at_least(health.temperature_degc, plan.heat_degc):
            return f"{health.temperature_degc:.0f} degC"
        if plan.load and _at_least(health.load, plan.load):
            return f"load {health.load:.0%}"
        if plan.battery and health.battery is not None and health.battery <= plan.battery:
            return f"battery at {health.battery:.0%}"
        return ""

    def _is_well(self, health: Health) -> bool:
        """Whether all is below what a step up needs."""
        plan = self.plan
        hot = plan.heat_degc and _at_least(health.temperature_degc, plan.heat_degc - COOLER_K)
        busy = plan.load and _at_least(health.load, plan.load - LESS_LOAD)
        low = plan.battery and health.battery is not None
        low = low and health.battery < plan.battery + MORE_BATTERY  # type: ignore[operator]
        return not (hot or busy or low)

    def _down(self, t_ns: int, stress: str) -> None:
        last = self._stepped_down_ns
        if self.level == len(self.plan.order) - 1:
            return
        if last is not None and t_ns - last < self.plan.settle_ns:
            return
        self.level, self.reason, self._stepped_down_ns = self.level + 1, stress, t_ns
        self._misses.clear()  # those led to this step; it shall show its effect

    def _up(self, t_ns: int) -> None:
        if self.level:
            self.level, self.reason = self.level - 1, f"well for {self.plan.hold_ns * 1e-9:g} s"
            self._well_since_ns = t_ns


def _at_least(value: float | None, threshold: float) -> bool:
    return value is not None and value >= threshold


class LadderWatch:
    """The ladders of a plan: call `look` every LOOK_NS or so."""

    def __init__(
        self,
        plan: Plan,
        nodes: Mapping[str, NodeStats],
        post: Callable[[Event, tuple[str, ...]], None],
        health: Callable[[], Health] = Health,
    ) -> None:
        """nodes: the counters whose misses and overruns count. health: how the machine is."""
        self._nodes, self._post, self.health = nodes, post, health
        self._groups = [group for group in plan.groups if group.ladder is not None]
        self.ladders = {g.name: Ladder(g.ladder) for g in self._groups if g.ladder is not None}

    def look(self, t_ns: int) -> None:
        """Step where it is due: an event for the lanes of the group."""
        if not self._groups:
            return
        misses = sum(stats.misses + stats.overruns for stats in self._nodes.values())
        health = self.health()
        for group in self._groups:
            ladder = self.ladders[group.name]
            before = ladder.level
            level = ladder.look(t_ns, misses, health)
            if level != before:
                mode = ladder.plan.order[level]
                log.warning("modes %s: %s, because of %s", group.name, mode, ladder.reason)
                self._post(("mode", group.name, mode), group.lanes)
