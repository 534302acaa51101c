"""Modes at run time: a decider in the home lane, and requests from outside.

At the end of a firing the decider looks at the conditions that the firing's nodes gave, at goals
and at requests, and posts ("mode", group, name) to every lane of the group. Each applies it at the
start of its next firing and records it there; a replay applies what is recorded, and its own
decisions go nowhere.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence

from haihe.runtime.errors import PlanError
from haihe.runtime.exec.goals import ASKED, CANCELLED, FAILED, REFUSED, GoalHandle, GoalRunner, Told
from haihe.runtime.graph import Graph
from haihe.runtime.plan.model import GroupPlan, ModePlan, Plan
from haihe.runtime.record.format import Event
from haihe.runtime.types import Condition, Message, encode

log = logging.getLogger(__name__)

Post = Callable[[Event, tuple[str, ...]], None]  # an event, and the lanes that get it


class Decider:
    """Decides which mode of a group follows, in its home lane.

    current: modes of the lane, by group. It is always possible to leave a mode; to enter one its
    condition must hold. An `auto` mode is entered by itself from the initial one when its condition
    begins to hold: after a return it must have failed once, so that two modes do not flap. What it
    remembers is in no keyframe: a replay obeys the recorded switches.
    """

    def __init__(
        self,
        plan: GroupPlan,
        current: Mapping[str, str],
        goals: Mapping[str, GoalRunner],
        post: Callable[[Event], None],
        tell: Callable[[Told], None],
    ) -> None:
        self.plan, self.current, self.post, self.tell = plan, current, post, tell
        self.goals = {mode.name: goals[mode.goal] for mode in plan.modes if mode.goal}
        # where among the conditions those of a mode are
        self._modes = {mode.name: (2 * i, mode) for i, mode in enumerate(plan.modes)}
        self._enters = [(place, name) for name, (place, mode) in self._modes.items() if mode.enter]
        self._asked = ""
        self._has_failed = {name: True for _, name in self._enters}  # since its mode ended

    def ask(self, mode: str) -> None:
        """A request from outside, decided at the end of the firing; a later one replaces it."""
        self._asked = mode

    def decide(self, conditions: Sequence[Condition | None]) -> None:
        """conditions: of each mode its `enter` and `leave` as given in this firing, else None."""
        enter = {name: conditions[place] for place, name in self._enters}
        place, now = self._modes[self.current[self.plan.name]]
        leave = conditions[place + 1]
        following = self._asked_for(now, enter) if self._asked else ""
        if not following and self.goals:
            following = self._by_goals(now, enter, leave)
        if not following and not now.goal:
            following = now.then if _holds(leave) else self._by_itself(now, enter)
        for name, condition in enter.items():
            if not _holds(condition):
                self._has_failed[name] = True
            elif name == following or name == now.name:
                self._has_failed[name] = False
        if following:
            self.post(("mode", self.plan.name, following))

    def _asked_for(self, now: ModePlan, enter: Mapping[str, Condition | None]) -> str:
        asked, self._asked = self._asked, ""
        if not asked or asked == now.name:
            return ""
        reason = _refusal(self.plan.mode(asked), enter)
        if reason:
            self.tell(("refused", self.plan.name, asked, reason))
            return ""
        for goal in self.goals.values():
            goal.end(CANCELLED, f"mode {asked} was asked for")
        return asked

    def _by_goals(
        self, now: ModePlan, enter: Mapping[str, Condition | None], leave: Condition | None
    ) -> str:
        for name, goal in self.goals.items():
            if name == now.name:
                if goal.is_active and _holds(leave):
                    goal.end(FAILED, leave.reason if leave is not None else "")
                if not goal.is_active:
                    return now.then
            elif goal.is_active:
                reason = _refusal(self.plan.mode(name), enter)
                if not reason:
                    return name
                goal.end(REFUSED, reason)
        return ""

    def _by_itself(self, now: ModePlan, enter: Mapping[str, Condition | None]) -> str:
        if now.name != self.plan.initial:
            return ""
        for name, condition in enter.items():
            if _holds(condition) and self._has_failed[name]:
                _, mode = self._modes[name]
                if mode.auto and not mode.goal:
                    return name
        return ""

    def renew(self) -> None:
        """After a restart of its lane: as at the beginning."""
        self._asked = ""
        self._has_failed = {name: True for _, name in self._enters}


def _holds(condition: Condition | None) -> bool:
    return condition is not None and condition.holds


def _refusal(mode: ModePlan, enter: Mapping[str, Condition | None]) -> str:
    """Why a mode cannot be entered; "" if it can."""
    if not mode.enter:
        return ""
    condition = enter[mode.name]
    if _holds(condition):
        return ""
    if condition is None:
        return f"nothing is known of {mode.enter}"
    return condition.reason or f"{mode.enter} does not hold"


class Requests:
    """What may be asked of a run from outside, and what became of it. Calls may come from any
    thread; `hear` is called by the lanes, or by what brings their words from another process."""

    def __init__(self, graph: Graph, plan: Plan, post: Post) -> None:
        self.graph, self.plan, self.post = graph, plan, post
        self.modes = {group.name: group.initial for group in plan.groups}  # by group: now
        self.switches = {group.name: 0 for group in plan.groups}
        self.refused = {group.name: 0 for group in plan.groups}  # requests for a mode
        self.handles: dict[int, GoalHandle] = {}
        self._count = 0

    def mode(self, group: str, name: str) -> None:
        """Ask for a mode. Raises PlanError for what is not there; a condition that does not hold
        refuses it in the lane: counted in `refused`, and logged with the reason."""
        what = f"mode({group!r}, {name!r})"
        found = next((one for one in self.plan.groups if one.name == group), None)
        if found is None:
            known = ", ".join(self.modes) or "none"
            raise PlanError(f"{what}: no modes of that name. There are: {known}.")
        names = [mode.name for mode in found.modes]
        if name not in names:
            raise PlanError(f"{what}: {group} has no such mode. It has: {', '.join(names)}.")
        if found.ladder is not None:
            raise PlanError(f"{what}: the ladder of {group} decides it. Change its thresholds.")
        goal = found.mode(name).goal
        if goal:
            raise PlanError(f"{what}: it is the mode of a goal. Ask for that: goal({goal!r}, ...).")
        self.post(("ask", group, name), (found.home,))

    def goal(self, name: str, request: Message) -> GoalHandle:
        """Ask for a goal. Raises PlanError for an unknown goal or another type of request."""
        plan = next((one for one in self.plan.goals if one.name == name), None)
        if plan is None:
            known = ", ".join(goal.name for goal in self.plan.goals) or "none"
            raise PlanError(f"goal({name!r}): no goal of that name. There are: {known}.")
        kind = self.graph.goals[name].kind
        if not isinstance(request, kind):
            raise PlanError(
                f"goal({name!r}): a request of it is a {kind.__name__}, got a "
                f"{type(request).__name__}."
            )
        self._count += 1
        number = self._count
        data, lanes = encode(request), (plan.lane,)
        handle = GoalHandle(
            name,
            number,
            lambda: self.post(("goal", name, number, data), lanes),
            lambda: self.post(("cancel", name, number), lanes),
        )
        self.handles[number] = handle
        handle.ask()
        return handle

    def hear(self, told: Told) -> None:
        """What a lane tells: of a goal, of a mode that it is in, of a request that it refused."""
        if told[0] == "goal":
            _, name, number, state, progress, text = told
            handle = self.handles.get(number)
            if handle is not None:
                if handle.state != state:
                    log.info("goal %s: %s%s", name, state, f" ({text})" if text else "")
                handle.update(state, progress, text)
                if handle.is_over:
                    del self.handles[number]
        elif told[0] == "mode":
            _, group, name = told
            if self.modes[group] != name:
                self.switches[group] += 1
                log.info("modes %s: %s, was %s", group, name, self.modes[group])
                self.modes[group] = name
        else:
            _, group, name, reason = told
            self.refused[group] += 1
            log.warning("modes %s: %s is refused: %s", group, name, reason)

    def after_restart(self, lanes: Iterable[str]) -> None:
        """Lanes began anew, in their groups' initial modes: bring all of each group together. Where
        the home is among them the group begins anew, else they get its present mode."""
        begun = set(lanes)
        for group in self.plan.groups:
            if group.home in begun:
                self.hear(
                    ("mode", group.name, group.initial)
                )  # it is there already, and says nothing
                self.post(("mode", group.name, group.initial), group.lanes)
            elif begun & set(group.lanes):
                left = [lane for lane in group.lanes if lane in begun]
                self.post(("mode", group.name, self.modes[group.name]), tuple(left))
        for handle in list(self.handles.values()):
            goal = next(one for one in self.plan.goals if one.name == handle.name)
            if goal.lane not in begun:
                continue
            if handle.state == ASKED:  # whether it came, and was lost there, nobody knows
                handle.ask()
            else:
                why = "its lane was restarted"
                self.hear(("goal", goal.name, handle.request, FAILED, handle.progress, why))

    def close(self, reason: str) -> None:
        """The run ends: nobody waits for a result any longer."""
        for handle in list(self.handles.values()):
            handle.update(CANCELLED, handle.progress, reason)
        self.handles.clear()
