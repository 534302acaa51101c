"""Modes at run time: who decides, what a switch does to nodes, lanes and actuators."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest
from tests.runtime.exec.fakes import Joints, guard, writes

from haihe.boards.unit import UnitFile, find_unit, load_unit, unit_from_text
from haihe.drivers.roles import camera, servos
from haihe.pipelines.launch import Simulation, simulate
from haihe.runtime.contracts import TICK, Tick, fresh, silent, sometimes
from haihe.runtime.exec.bus import BusRunner
from haihe.runtime.exec.goals import GoalRunner
from haihe.runtime.exec.modes import Decider, Requests
from haihe.runtime.graph import Graph, named
from haihe.runtime.guard.rules import GuardState
from haihe.runtime.node import node
from haihe.runtime.plan.build import DeviceTiming, make_plan
from haihe.runtime.plan.model import GoalPlan, GroupPlan, ModePlan
from haihe.runtime.record.recording import Recording
from haihe.runtime.types import (
    Condition,
    Detections,
    GoalStatus,
    Image,
    JointCommand,
    JointState,
    Message,
    Reading,
    encode,
)
from haihe.testing import replay

MS = 1_000_000
SECOND = 1000 * MS
YES, NO = Condition(True, "it is"), Condition(False, "it is not")


class Ask(Message):
    """A request."""

    value: float = 0.0


# --- the decider alone ----------------------------------------------------------------------------


class Home:
    """A decider with its goals, and what it posts and tells."""

    def __init__(self, *modes: ModePlan) -> None:
        group = GroupPlan("g", "idle", (ModePlan("idle", then="idle"), *modes), "lane", ("lane",))
        self.current = {"g": "idle"}
        self.told: list[Any] = []
        plans = [GoalPlan(mode.goal, "lane", "", "", SECOND) for mode in modes if mode.goal]
        self.goals = {plan.name: GoalRunner(plan, Ask, self.told.append) for plan in plans}
        self.posted: list[Any] = []
        self.decider = Decider(
            group, self.current, self.goals, self.posted.append, self.told.append
        )

    def decide(self, **conditions: Condition) -> str:
        """One firing with these conditions (`walk`, `leave_walk`); applied at once."""
        given: list[Condition | None] = []
        for mode in self.decider.plan.modes:
            given += [conditions.get(mode.name), conditions.get(f"leave_{mode.name}")]
        self.decider.decide(given)
        for _, _, name in self.posted:
            self.current["g"] = name
        self.posted.clear()
        return self.current["g"]


WALK = ModePlan("walk", "ok", True, "tired", "idle")
PERMITTED = ModePlan("walk", "ok", False, "", "idle")
FETCH = ModePlan("fetch", "ok", True, "tired", "idle", "fetch")


def test_a_mode_is_entered_when_its_condition_begins_to_hold_and_not_again_while_it_does() -> None:
    home = Home(WALK)
    assert home.decide(walk=NO) == "idle"
    assert home.decide(walk=YES) == "walk"
    assert home.decide(walk=YES) == "walk"
    assert home.decide(walk=NO) == "walk"  # to enter it is one thing, to leave it another
    assert home.decide(walk=YES, leave_walk=YES) == "idle"
    assert home.decide(walk=YES) == "idle"  # it has not failed since
    assert home.decide(walk=NO) == "idle"
    assert home.decide(walk=YES) == "walk"


def test_a_condition_that_was_not_given_in_the_firing_does_not_hold() -> None:
    home = Home(WALK)
    assert home.decide() == "idle"
    assert home.decide(walk=YES) == "walk"
    assert home.decide() == "walk"


@pytest.mark.parametrize(
    ("condition", "told"),
    [
        ({"walk": NO}, [("refused", "g", "walk", "it is not")]),
        ({"walk": Condition(False)}, [("refused", "g", "walk", "ok does not hold")]),
        ({}, [("refused", "g", "walk", "nothing is known of ok")]),
    ],
)
def test_a_mode_that_is_only_permitted_wants_a_request(condition: Any, told: list[Any]) -> None:
    home = Home(PERMITTED)
    assert home.decide(walk=YES) == "idle"
    home.decider.ask("walk")
    assert home.decide(**condition) == "idle"
    assert home.told == told
    assert home.decide(walk=YES) == "idle"  # a refused request is over
    home.decider.ask("walk")
    assert home.decide(walk=YES) == "walk"
    home.decider.ask("walk")
    assert home.decide(walk=NO) == "walk"  # it is in it already
    home.decider.ask("idle")
    assert home.decide() == "idle"


def test_a_goal_leads_into_its_mode_and_out_of_it() -> None:
    home = Home(FETCH, WALK)
    fetch = home.goals["fetch"]
    assert home.decide(fetch=YES, walk=YES) == "walk"  # a condition alone leads to no goal
    fetch.ask(1, encode(Ask(2.0)))
    number, request, origin, fired = fetch.sample(100)
    assert (number, request.value, origin, fired) == (1, 2.0, 100, 100)
    assert home.decide(fetch=YES) == "fetch"
    fetch.report(GoalStatus("running", 0.5))
    assert home.decide(fetch=NO, walk=YES) == "fetch"
    fetch.report(GoalStatus("succeeded", 1.0, "got it"))
    assert home.decide() == "idle"
    assert home.told == [
        ("goal", "fetch", 1, "accepted", 0.0, ""),
        ("goal", "fetch", 1, "running", 0.5, ""),
        ("goal", "fetch", 1, "succeeded", 1.0, "got it"),
    ]
    assert fetch.sample(200) == (0, None, 0, 0)


def test_a_goal_is_refused_or_fails_by_its_modes_conditions() -> None:
    home = Home(FETCH)
    fetch = home.goals["fetch"]
    fetch.ask(1, encode(Ask()))
    assert home.decide(fetch=NO) == "idle"
    fetch.ask(2, encode(Ask()))
    assert home.decide(fetch=YES) == "fetch"
    assert home.decide(leave_fetch=Condition(True, "the gripper slipped")) == "idle"
    assert [told[2:] for told in home.told] == [
        (1, "accepted", 0.0, ""),
        (1, "refused", 0.0, "it is not"),
        (2, "accepted", 0.0, ""),
        (2, "failed", 0.0, "the gripper slipped"),
    ]


def test_progress_is_told_when_it_has_changed() -> None:
    home = Home(FETCH)
    fetch = home.goals["fetch"]
    fetch.ask(1, encode(Ask()))
    home.told.clear()
    for progress in (0.0, 0.001, 0.002, 0.01, 0.01, 0.5):
        fetch.report(GoalStatus("running", progress))
    assert [told[4] for told in home.told] == [0.0, 0.01, 0.5]


def test_a_goal_goes_through_a_keyframe() -> None:
    one, other = Home(FETCH), Home(FETCH)
    one.goals["fetch"].ask(3, encode(Ask(4.0)))
    one.goals["fetch"].sample(7)
    other.goals["fetch"].restore(one.goals["fetch"].snapshot())
    number, request, origin, fired = other.goals["fetch"].sample(8)
    assert (number, request.value, origin, fired) == (1, 4.0, 7, 7)
    other.goals["fetch"].cancel(3)
    assert other.told == [("goal", "fetch", 3, "cancelled", 0.0, "")]


# --- an actuator over a switch --------------------------------------------------------------------


def runner() -> BusRunner:
    return BusRunner("neck", Joints(), guard(), [])


def state(position: float) -> JointState:
    z = np.zeros(2)
    at = np.full(2, position)
    return JointState(("pan", "tilt"), at, z, z, z, z, np.ones(2, bool))


def drive(bus: BusRunner, times: Sequence[int], command: Any, command_t: int) -> list[Any]:
    return [bus.decide(t * MS, command, command_t * MS, state(0.1)) for t in times]


def test_over_a_switch_the_last_position_stays_until_a_command_comes() -> None:
    bus = runner()
    bus.apply(("arm",))
    drive(bus, range(0, 100, 20), (300_000, 300_000), 0)
    before = drive(bus, [100], (300_000, 300_000), 100)[0].positions
    bus.hold(is_lasting=True)
    held = drive(bus, range(120, 3000, 20), (300_000, 300_000), 100)
    assert {d.positions for d in held} == {before}
    assert {d.state for d in held} == {GuardState.ARMED}  # though the command is long too old
    after = drive(bus, [3000], (900_000, 900_000), 3000)[0].positions
    assert before < after < tuple(p + 101_000 for p in before)  # 5 rad/s for 20 ms


def test_where_the_new_mode_should_command_the_hold_grows_old_like_a_command() -> None:
    bus = runner()
    bus.apply(("arm",))
    drive(bus, range(0, 120, 20), (300_000, 300_000), 100)
    bus.hold(is_lasting=False)
    held = drive(bus, range(120, 1000, 20), (300_000, 300_000), 100)
    states = [d.state for d in held]
    assert states.count(GuardState.ARMED) == 1 + 250 // 20
    assert set(states[13:]) == {GuardState.STALE}


def test_what_obeys_no_command_is_not_made_to_hold() -> None:
    bus = runner()
    bus.apply(("arm",))
    assert drive(bus, [0, 20], None, 0)[-1].state is GuardState.STALE
    bus.hold(is_lasting=True)
    assert drive(bus, [40], None, 0)[-1].state is GuardState.STALE


@pytest.mark.parametrize("event", [("disarm",), ("trip", "e-stop")])
def test_what_is_armed_again_does_not_go_back_to_where_it_held(event: Any) -> None:
    bus = runner()
    bus.apply(("arm",))
    drive(bus, range(0, 120, 20), (300_000, 300_000), 100)
    bus.hold(is_lasting=True)
    drive(bus, [120], (300_000, 300_000), 100)
    bus.apply(event)
    drive(bus, [500], (300_000, 300_000), 100)
    for again in (("reset",), ("arm",)):
        bus.apply(again)
    decision = bus.decide(520 * MS, (300_000, 300_000), 100 * MS, state(-0.4))
    assert decision.state is GuardState.STALE


def test_a_hold_is_in_the_keyframe() -> None:
    bus, other = runner(), runner()
    bus.apply(("arm",))
    drive(bus, range(0, 120, 20), (300_000, 300_000), 100)
    bus.hold(is_lasting=True)
    other.restore(bus.snapshot())
    times = range(120, 800, 20)
    args = ((300_000, 300_000), 100)
    assert drive(bus, times, *args) == drive(other, times, *args)
    other.restore(bus.snapshot()[:5])  # as older recordings have it


# --- in runs --------------------------------------------------------------------------------------


@node(every="20ms")
@dataclass
class Count:
    """Counts its calls and the time since it began."""

    _calls: int = 0
    _s: float = 0.0

    def __call__(self, neck: Annotated[JointState, fresh("1s")], dt: Tick = TICK) -> Reading:
        self._calls += 1
        self._s += dt
        return Reading(self._calls + self._s)


@node
def dear(image: Image) -> Detections:
    return Detections.none()


@node
def cheap(image: Image) -> Detections:
    return Detections.none()


@node(every="20ms")
def still(neck: Annotated[JointState, fresh("1s")], at: float = 0.2) -> JointCommand:
    return JointCommand(np.full(2, at))


def two_lanes() -> Graph:
    """One group with nodes in a control lane and in a vision lane."""
    with Graph("two-lanes") as g:
        neck, image = servos("neck"), camera("front").image
        run = g.modes("run", initial="slow")
        with run.mode("slow"):
            one = cheap(image)
            first = named("first", still)(neck.state, 0.1)
        with run.mode("fast"):
            other = dear(image)
            second = named("second", still)(neck.state, 0.3)
            Count()(neck.state)
        run.select(one, other)
        neck.command(run.select(first, second))
    return g


def test_a_group_over_several_lanes_switches_in_each_at_its_own_firing(tmp_path: Path) -> None:
    path = tmp_path / "run.mcap"

    def script(executor: Any, world: Any) -> None:
        executor.after(500 * MS, lambda: executor.mode("run", "fast"))
        executor.after(1000 * MS, lambda: executor.mode("run", "slow"))
        executor.after(1200 * MS, lambda: executor.mode("run", "fast"))

    done = simulate(
        two_lanes(), "1500ms", unit="pan-tilt", world={"ideal": True}, record=path,
        prepare_run=script,
    )  # fmt: skip
    recording = Recording(path)
    (group,) = recording.plan.groups
    assert (group.home, group.lanes) == ("every-20ms", ("every-20ms", "front"))
    for lane in group.lanes:
        found = [e for r in recording.lanes[lane] for e in r.events if e[0] == "mode"]
        assert found == [("mode", "run", m) for m in ("fast", "slow", "fast")]
    nodes = done.executor.assembly.nodes
    assert nodes["dear"].called + nodes["cheap"].called == done.executor.assembly.lanes[1].firing
    assert nodes["dear"].off == nodes["cheap"].called
    edges = zip(done.executor.plan.edges, done.executor.assembly.edges, strict=True)
    for number, (edge, stats) in enumerate(edges):
        if edge.source == "front.image":  # 45 came
            waiting = done.executor.assembly.in_flight(number)
            assert waiting <= 1  # what comes for a node that is off does not wait for it
            assert stats.received + stats.overwritten + waiting == 45
    report = replay(path, graph=two_lanes())
    assert report.ok, report


def test_a_node_begins_anew_each_time_its_mode_is_entered(tmp_path: Path) -> None:
    values: list[tuple[str, int, float]] = []

    def script(executor: Any, world: Any) -> None:
        lane = executor.assembly.lanes[0]
        index = next(i for i, s in enumerate(lane.task.steps) if s.name == "Count")

        def look() -> None:
            count = lane.instances[index]
            values.append((lane.modes["run"], count._calls, round(count._s, 9)))

        executor.after(300 * MS, lambda: executor.mode("run", "fast"))
        executor.after(600 * MS - 1, look)
        executor.after(600 * MS, lambda: executor.mode("run", "slow"))
        executor.after(900 * MS, lambda: executor.mode("run", "fast"))
        executor.after(1000 * MS - 1, look)

    simulate(two_lanes(), "1100ms", unit="pan-tilt", world={"ideal": True}, prepare_run=script)
    # asked for at 300, decided at the end of that firing, active from the next: 320 to 580
    # and the first call gets no time, whenever the last one was
    assert values == [("fast", 14, 0.26), ("fast", 4, 0.06)]


def test_the_commands_of_a_mode_reach_the_wire_and_no_other(tmp_path: Path) -> None:
    def script(executor: Any, world: Any) -> None:
        executor.after(500 * MS, lambda: executor.mode("run", "fast"))

    done: Simulation = simulate(
        two_lanes(), "1s", unit="pan-tilt", world={"ideal": True}, prepare_run=script
    )
    begin = done.executor.begin_ns
    pan = [
        (w.t_ns - begin, w.goal) for w in writes(done.world.bus.received) if w.servo == 1 and w.goal
    ]
    ticks = [round(2048 + at * 4096 / (2 * np.pi)) for at in (0.1, 0.3)]
    assert {g for t, g in pan if 200 * MS < t < 520 * MS} == {ticks[0]}
    assert {g for t, g in pan if 700 * MS < t < 1000 * MS} == {ticks[1]}


def test_after_a_restart_the_lanes_of_a_group_are_brought_together() -> None:
    graph = two_lanes()
    plan = make_plan(graph, {"neck": DeviceTiming(20 * MS)})
    posted: list[Any] = []
    requests = Requests(graph, plan, lambda event, lanes: posted.append((event, lanes)))
    requests.hear(("mode", "run", "fast"))
    requests.after_restart(["front"])
    requests.after_restart(["every-20ms", "front"])
    assert posted == [
        (("mode", "run", "fast"), ("front",)),
        (("mode", "run", "slow"), ("every-20ms", "front")),
    ]


@node(every="20ms")
def tick(neck: Annotated[JointState, fresh("1s")]) -> Reading:
    return Reading(1.0)


@node(every="20ms")
def late(neck: Annotated[JointState, fresh("1s")]) -> Annotated[Reading, sometimes]:
    return Reading(2.0) if neck.position[0] > 0.1 else silent()


@node
def keep(value: Reading) -> Reading:
    return value


def test_of_several_that_publish_the_first_is_selected_and_the_others_are_lost() -> None:
    with Graph("both") as g:
        neck = servos("neck")
        run = g.modes("run", initial="idle")
        with run.mode("idle"):
            one, other = late(neck.state), tick(neck.state)
            neck.command(still(neck.state, 0.3))
        keep(run.select(one, other))
    done = simulate(g, "500ms", unit="pan-tilt", world={"ideal": True})
    nodes = done.executor.assembly.nodes
    edges = dict(zip([e.target for e in done.executor.plan.edges], done.executor.assembly.edges,
                     strict=True))  # fmt: skip
    first, second = edges["run_select.in_1"], edges["run_select.in_2"]
    assert (first.received, first.overwritten) == (nodes["late"].called, 0)
    assert 5 < first.received < 24
    assert (second.received, second.overwritten) == (25 - first.received, first.received)
    assert nodes["run_select"].called == nodes["keep"].called == 25


def apart(vision: str, control: str) -> tuple[Graph, UnitFile]:
    """The two lanes in processes, with a unit that restarts them."""
    names = {"front": vision, "every-20ms": control}
    lines = [
        f"  {name}: {{threads: [{thread}], restart: 3, backoff: 100ms}}\n"
        for thread, name in names.items()
        if name
    ]
    pan_tilt = load_unit(find_unit("pan-tilt", Path()))
    return two_lanes(), unit_from_text(pan_tilt.text + "processes:\n" + "".join(lines), "u.yaml")


@pytest.mark.parametrize(("vision", "control", "dies"), [("eye", "", "eye"), ("", "arm", "arm")])
def test_a_process_that_lives_again_is_in_the_groups_mode(
    tmp_path: Path, vision: str, control: str, dies: str
) -> None:
    graph, unit = apart(vision, control)
    path, modes = tmp_path / "run.mcap", []

    def script(executor: Any, world: Any) -> None:
        look = lambda: modes.append({la.name: la.modes["run"] for la in executor.assembly.lanes})  # noqa: E731
        executor.after(300 * MS, lambda: executor.mode("run", "fast"))
        executor.after(700 * MS, lambda: executor.processes.kill(dies))
        executor.after(1900 * MS, look)

    done = simulate(graph, "2s", unit=unit, world={"ideal": True}, record=path, prepare_run=script)
    assert done.outcome.failures == []
    # where the home died the group begins anew, else what lives again follows it
    mode = "slow" if dies == "arm" else "fast"
    assert modes == [{"every-20ms": mode, "front": mode}]
    assert done.executor.requests.modes == {"run": mode}
    report = replay(path, graph=two_lanes(), unit=None)
    assert report.ok, report


def test_what_was_asked_of_a_lane_that_died_is_asked_again_and_what_ran_has_failed() -> None:
    with Graph("g") as graph:
        neck = servos("neck")
        goals = [graph.goal(name, Ask, "1s") for name in ("one", "two")]
        for goal in goals:
            goal.report(named(f"do_{goal.name}", do)(goal.request, neck.state))
    plan = make_plan(graph, {"neck": DeviceTiming(20 * MS)})
    posted: list[Any] = []
    requests = Requests(graph, plan, lambda event, lanes: posted.append(event))
    one, two = requests.goal("one", Ask(1.0)), requests.goal("two", Ask(2.0))
    requests.hear(("goal", "two", 2, "running", 0.5, ""))
    first, _ = posted
    requests.after_restart(["every-20ms"])
    assert posted[2:] == [first]
    assert (one.state, two.state, two.text) == ("asked", "failed", "its lane was restarted")
    told: list[Any] = []
    runner = GoalRunner(plan.goals[0], Ask, told.append)
    for _ in range(2):  # both have come after all
        runner.ask(*first[2:])
    assert told == [("goal", "one", 1, "accepted", 0.0, "")]


@node(every="20ms")
def do(request: Ask, neck: Annotated[JointState, fresh("1s")]) -> GoalStatus:
    return GoalStatus("running")
