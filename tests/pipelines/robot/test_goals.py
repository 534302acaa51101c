"""The head with modes and goals, in virtual time: judged at the emulator, recorded, replayed."""

import itertools
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.runtime.exec.fakes import writes

from haihe.drivers.roles import camera
from haihe.pipelines.draw.drawing import drawing_of
from haihe.pipelines.launch import Simulation, prepare, simulate
from haihe.pipelines.robot import goals
from haihe.pipelines.robot.goals import HomeRequest, InspectRequest, add_modes
from haihe.pipelines.worlds.ideal import ideal_detector
from haihe.runtime.errors import PlanError
from haihe.runtime.exec.goals import ENDS
from haihe.runtime.graph import Graph
from haihe.runtime.record.recording import Recording
from haihe.testing import replay

MS = 1_000_000
SECOND = 1000 * MS
TICK_RAD = 2 * math.pi / 4096
SLEW = math.radians(300.0)  # of the unit's guard, per second
TOUR = InspectRequest(((0.4, 0.0), (-0.3, 0.1)), 0.2)


def head(label: str = "washer") -> Graph:
    with Graph("goals") as g:
        add_modes(g, ideal_detector(camera("front").image), label)
    return g


def run(
    path: Path, duration: str, script: Callable[[Any], None], label: str = "washer"
) -> Simulation:
    return simulate(
        head(label),
        duration,
        unit="pan-tilt",
        seed=3,
        record=path,
        world={"ideal": True, "period_s": 8.0},
        prepare_run=lambda executor, world: script(executor),
    )


def switches(path: Path, lane: str = "every-20ms") -> list[str]:
    """The modes, as recorded in a lane."""
    records = Recording(path).lanes[lane]
    return [event[2] for record in records for event in record.events if event[0] == "mode"]


def sent(simulation: Simulation) -> dict[int, list[tuple[int, int]]]:
    """Per servo: when which goal position was received, in ticks."""
    found: dict[int, list[tuple[int, int]]] = {1: [], 2: []}
    for write in writes(simulation.world.bus.received):
        if write.goal is not None:
            found[write.servo].append((write.t_ns, write.goal))
    return found


def assert_no_jump(simulation: Simulation) -> None:
    """What was sent never moved faster than the guard allows, whatever the modes did."""
    for goals_sent in sent(simulation).values():
        assert len(goals_sent) > 100
        for (t, a), (later, b) in itertools.pairwise(goals_sent):
            allowed = SLEW * min(40 * MS, max(later - t, 20 * MS)) * 1e-9
            assert abs(b - a) * TICK_RAD <= allowed + 2 * TICK_RAD


def assert_replays(path: Path, label: str = "washer") -> None:
    """Whole, and from keyframes before and after what happened."""
    length_s = Recording(path).firings * 0.02 * 50 / 80  # of 50 ticks and 30 pictures a second
    for start_s in (0.0, 1.5, length_s - 1.0):
        report = replay(path, graph=head(label), start_s=start_s)
        assert report.ok, report


def torque_off(simulation: Simulation, after_ns: int, before_ns: int) -> list[int]:
    """When torque was switched off in between."""
    return [
        w.t_ns
        for w in writes(simulation.world.bus.received)
        if w.address == 40 and w.data == b"\0" and after_ns < w.t_ns < before_ns
    ]


def test_it_follows_by_itself_goes_home_when_asked_and_holds_there(tmp_path: Path) -> None:
    path, handles = tmp_path / "run.mcap", []

    def script(executor: Any) -> None:
        executor.after(2 * SECOND, lambda: handles.append(executor.goal("home", HomeRequest())))

    done = run(path, "4s", script)
    (home,) = handles
    assert (home.state, home.progress, home.is_over) == ("succeeded", 1.0, True)
    assert home.result(0.0) == "succeeded"
    # after the goal the part is still in view, but it did not come anew: the head stays idle
    assert switches(path)[:3] == ["follow", "home", "idle"]
    assert done.executor.requests.modes["drive"] == switches(path)[-1]
    assert_no_jump(done)
    begin = done.executor.begin_ns
    assert torque_off(done, begin + 100 * MS, begin + 4 * SECOND) == []
    assert_replays(path)


def test_idle_holds_the_last_position_and_no_guard_grows_stale(tmp_path: Path) -> None:
    path, handles = tmp_path / "run.mcap", []

    def script(executor: Any) -> None:
        ask = lambda: handles.append(executor.goal("home", HomeRequest(0.2, -0.1)))  # noqa: E731
        executor.after(1 * SECOND, ask)

    done = run(path, "5s", script, label="nothing like it")  # nothing to follow
    assert switches(path) == ["home", "idle"]
    ends = [goals_sent[-1][1] for goals_sent in sent(done).values()]
    assert [round((e - 2048) * TICK_RAD, 2) for e in ends] == [0.2, -0.1]
    last_change = max(t for s in sent(done).values() for ((t, _),) in zip(s[-1:], strict=True))
    assert last_change >= done.executor.begin_ns + 4900 * MS  # it is sent to the end
    counts = done.executor.assembly.lanes[0].buses[0].guard_counts()
    # of what is held nobody says how old the data behind it is
    plan, stats = done.executor.plan, done.executor.assembly.edges
    (command,) = (i for i, edge in enumerate(plan.edges) if edge.target == "neck.command")
    assert 0 < stats[command].worst_ns < 25 * MS
    assert counts["stale"] <= 1 * SECOND // (20 * MS) + 3  # before the goal only
    assert_replays(path, "nothing like it")


def test_a_second_goal_is_refused_while_one_is_active(tmp_path: Path) -> None:
    path, handles = tmp_path / "run.mcap", []

    def script(executor: Any) -> None:
        executor.after(SECOND, lambda: handles.append(executor.goal("inspect", TOUR)))
        executor.after(1200 * MS, lambda: handles.append(executor.goal("inspect", TOUR)))
        executor.after(1200 * MS, lambda: handles.append(executor.goal("home", HomeRequest())))

    run(path, "4s", script)
    tour, again, home = handles
    assert (tour.state, tour.text) == ("succeeded", "2 of 2 directions")
    assert (again.state, again.text) == ("refused", "goal inspect is running: cancel it first")
    assert (home.state, home.text) == ("refused", "goal inspect is running: cancel it first")
    assert repr(again) == "<goal inspect: refused, 0%: goal inspect is running: cancel it first>"
    assert_replays(path)


def test_a_cancelled_goal_leaves_its_mode_and_the_head_stops_there(tmp_path: Path) -> None:
    path, handles = tmp_path / "run.mcap", []

    def script(executor: Any) -> None:
        executor.set("Tour", "speed", 0.2)
        executor.after(SECOND, lambda: handles.append(executor.goal("inspect", TOUR)))
        executor.after(2 * SECOND, lambda: handles[0].cancel())
        executor.after(2500 * MS, lambda: handles[0].cancel())  # no effect any more

    done = run(path, "4s", script, label="nothing like it")
    assert (handles[0].state, handles[0].is_over) == ("cancelled", True)
    assert switches(path) == ["inspect", "idle"]
    pan = [(t - done.executor.begin_ns, goal) for t, goal in sent(done)[1]]
    rest = {goal for t, goal in pan if t > 2100 * MS}
    assert len(rest) == 1  # it holds
    moved = (rest.pop() - 2048) * TICK_RAD
    assert 0.15 < moved < 0.25  # 1 s at 0.2 rad/s, and far from 0.4
    assert_no_jump(done)
    assert_replays(path, "nothing like it")


def test_a_goal_that_takes_too_long_times_out_by_the_clock_of_its_firings(tmp_path: Path) -> None:
    path, handles = tmp_path / "run.mcap", []

    def script(executor: Any) -> None:
        executor.set("GoTo", "speed", 0.1)
        executor.after(SECOND, lambda: handles.append(executor.goal("home", HomeRequest(1.4))))

    run(path, "8s", script, label="nothing like it")
    assert (handles[0].state, handles[0].text) == ("timed out", "after 6 s")
    assert 0.3 < handles[0].progress < 0.6
    assert switches(path) == ["home", "idle"]
    lane = [r for r in Recording(path).lanes["every-20ms"] if r.kind == 1]
    begun = next(r.fixed[2] for r in lane if any(e[0] == "goal" for e in r.events))
    ended = next(r.fixed[2] for r in lane if ("mode", "drive", "idle") in r.events)
    assert 0 < ended - begun - 6 * SECOND <= 40 * MS + MS
    assert_replays(path, "nothing like it")


def test_a_goal_fails_by_what_its_node_says(tmp_path: Path) -> None:
    path, handles = tmp_path / "run.mcap", []

    def script(executor: Any) -> None:
        ask = lambda: handles.append(executor.goal("inspect", InspectRequest(())))  # noqa: E731
        executor.after(SECOND, ask)

    run(path, "2s", script)
    assert (handles[0].state, handles[0].text) == ("failed", "no directions to look in")
    assert_replays(path)


def test_a_mode_asked_for_ends_the_goal_of_another(tmp_path: Path) -> None:
    path, handles = tmp_path / "run.mcap", []

    def script(executor: Any) -> None:
        executor.after(SECOND, lambda: handles.append(executor.goal("inspect", TOUR)))
        executor.after(1300 * MS, lambda: executor.mode("drive", "idle"))

    run(path, "3s", script, label="nothing like it")
    assert (handles[0].state, handles[0].text) == ("cancelled", "mode idle was asked for")
    assert switches(path) == ["inspect", "idle"]
    assert_replays(path, "nothing like it")


def test_a_condition_that_does_not_hold_refuses_a_mode_with_its_reason(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "run.mcap"
    done = run(
        path, "2s", lambda e: e.after(SECOND, lambda: e.mode("drive", "follow")), label="nothing"
    )
    assert switches(path) == []
    assert done.executor.requests.refused == {"drive": 1}
    warnings = [r.message for r in caplog.records if r.levelname == "WARNING"]
    assert warnings == ["modes drive: follow is refused: nothing seen for 0.0 s"]
    assert_replays(path, "nothing")


def test_an_end_of_the_run_ends_what_is_asked_for(tmp_path: Path) -> None:
    handles: list[Any] = []

    def script(executor: Any) -> None:
        executor.after(900 * MS, lambda: handles.append(executor.goal("inspect", TOUR)))

    run(tmp_path / "run.mcap", "1s", script)
    assert (handles[0].state, handles[0].text) == ("cancelled", "the run has ended")


def test_requests_that_cannot_be_are_errors_at_once(tmp_path: Path) -> None:
    said = []

    def script(executor: Any) -> None:
        asked: list[Callable[[], Any]] = [
            lambda: executor.mode("arm", "idle"),
            lambda: executor.mode("drive", "dance"),
            lambda: executor.mode("drive", "home"),
            lambda: executor.goal("dance", HomeRequest()),
            lambda: executor.goal("home", TOUR),
        ]
        for ask in asked:
            with pytest.raises(PlanError) as error:
                ask()
            said.append(str(error.value))

    run(tmp_path / "run.mcap", "100ms", script)
    assert said == [
        "mode('arm', 'idle'): no modes of that name. There are: drive.",
        "mode('drive', 'dance'): drive has no such mode. It has: idle, follow, home, inspect.",
        "mode('drive', 'home'): it is the mode of a goal. Ask for that: goal('home', ...).",
        "goal('dance'): no goal of that name. There are: home, inspect.",
        "goal('home'): a request of it is a HomeRequest, got a InspectRequest.",
    ]


def test_the_ready_pipeline_has_a_plan() -> None:
    plan = prepare(goals.build(), "pan-tilt").plan
    (group,) = plan.groups
    assert (group.home, group.lanes) == ("every-20ms", ("every-20ms",))
    (bus,) = (bus for lane in plan.lanes for bus in lane.task.buses)
    assert (bus.held_by, bus.idle) == (("drive",), (("drive", "idle"),))
    assert (
        "  modes drive         idle · follow · home · inspect  (at first idle, decided in "
        "every-20ms)\n  goal home           in every-20ms, within 6 s\n"
    ) in plan.describe()


@pytest.mark.parametrize("seed", range(6))
def test_whatever_is_asked_when_nothing_jumps_and_a_replay_agrees(
    tmp_path: Path, seed: int
) -> None:
    path, rng = tmp_path / "run.mcap", random.Random(seed)
    handles: list[Any] = []

    def ask(executor: Any) -> None:
        what = rng.choice(["home", "inspect", "cancel", "idle", "follow", "speed", "trip", "arm"])
        where = (rng.uniform(-0.8, 0.8), rng.uniform(-0.4, 0.4))
        if what == "home":
            handles.append(executor.goal("home", HomeRequest(*where)))
        elif what == "inspect":
            handles.append(executor.goal("inspect", InspectRequest((where, (0.0, 0.0)), 0.1)))
        elif what == "cancel" and handles:
            rng.choice(handles).cancel()
        elif what in ("idle", "follow"):
            executor.mode("drive", what)
        elif what == "speed":
            executor.set("GoTo", "speed", rng.uniform(0.1, 3.0))
        elif what == "trip":
            executor.post(("trip", "e-stop"))
        elif what == "arm":
            for event in (("reset",), ("arm",)):
                executor.post(event)

    def script(executor: Any) -> None:
        for _ in range(40):
            executor.after(rng.randrange(5900 * MS), lambda: ask(executor))

    done = run(path, "6s", script)
    assert done.outcome.failures == []
    assert all(handle.is_over for handle in handles)
    assert {handle.state for handle in handles} <= set(ENDS)
    assert_no_jump(done)
    assembly = done.executor.assembly
    for number, edge in enumerate(done.executor.plan.edges):
        waiting, stats = assembly.in_flight(number), assembly.edges[number]
        assert 0 <= waiting <= 1 or edge.kind == "goal", edge
        owner = edge.source.split(".")[0]
        if owner in assembly.nodes:  # what it made is counted apart, at its calls
            made = assembly.nodes[owner].called
            assert stats.received + stats.overwritten + waiting == made, edge
    assert_replays(path)


def test_a_drawing_says_modes_and_what_is_asked() -> None:
    prepared = prepare(goals.build(), "pan-tilt")
    boxes = {box.key: box for box in drawing_of(prepared.graph, prepared.plan).boxes()}
    assert boxes["GoTo"].facts == ("asked: home.request", "in drive: home")
    assert [edge.source for edge in boxes["GoTo"].inputs] == ["neck.state"]
    assert [(e.source, e.how) for e in boxes["drive_select"].inputs] == [
        ("Pursue", "triggers"),
        ("GoTo.command", "triggers"),
        ("Tour.command", "triggers"),
    ]
