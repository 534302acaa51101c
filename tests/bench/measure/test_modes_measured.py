"""A recording with modes, in numbers: the same as the run's own counters and guard."""

from pathlib import Path
from typing import Any

import pytest
from tests.pipelines.robot.test_goals import TOUR, head

from haihe.bench.measure.causes import causes
from haihe.bench.measure.evidence import gather
from haihe.bench.measure.incidents import find_incidents
from haihe.bench.measure.lineage import Lineage
from haihe.bench.measure.witness import witness
from haihe.pipelines.launch import Simulation, simulate
from haihe.pipelines.robot.goals import HomeRequest
from haihe.runtime.guard import GuardState
from haihe.runtime.record.recording import Recording

MS = 1_000_000
SECOND = 1000 * MS


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Simulation, list[Any]]:
    """Follow, home, idle, inspect, idle; and what the guard was given and decided."""
    seen: list[Any] = []

    def script(executor: Any, world: Any) -> None:
        executor.after(SECOND, lambda: executor.goal("home", HomeRequest(0.1, 0.0)))
        executor.after(2 * SECOND, lambda: executor.goal("inspect", TOUR))
        (bus,) = (bus for lane in executor.assembly.lanes for bus in lane.buses)
        step = bus.guard.step

        class Watched(type(bus.guard)):  # type: ignore[misc]
            __slots__ = ()

            def step(self, t: int, *args: Any) -> Any:
                decision = step(t, *args)
                seen.append((t, decision.state))
                return decision

        bus.guard.__class__ = Watched

    path = tmp_path_factory.mktemp("modes") / "run.mcap"
    done = simulate(
        head(), "5s", unit="pan-tilt", seed=3, record=path, world={"ideal": True},
        prepare_run=script,
    )  # fmt: skip
    return done, seen


def test_edges_count_as_the_run_did(run: tuple[Simulation, list[Any]]) -> None:
    done, _ = run
    assert done.recording is not None
    figures = Lineage(Recording(done.recording)).edges()
    live = done.executor.assembly.edges
    for figure, stats in zip(figures, live, strict=True):
        if figure.edge.kind == "goal" or figure.edge.target == "neck.command":
            continue  # a bus counts no absence
        assert (figure.edge.target, figure.received, figure.stale, figure.absent) == (
            figure.edge.target, stats.received, stats.stale, stats.absent,
        )  # fmt: skip
    by_target = {figure.edge.target: figure for figure in figures}
    assert by_target["drive_select.in_2"].received > 0
    assert by_target["drive_select.in_3"].received > 0


def test_what_is_selected_is_as_old_as_what_was_taken(run: tuple[Simulation, list[Any]]) -> None:
    done, _ = run
    assert done.recording is not None
    lineage = Lineage(Recording(done.recording))
    lane = lineage.lanes["every-20ms"]
    command = lineage.samples("every-20ms", "drive_select")
    for name in ("Pursue", "GoTo.command", "Tour.command"):
        fired = lane.fired(name)
        assert fired.any()
        one = lineage.samples("every-20ms", name)
        assert (command.origin[fired] == one.origin[fired]).all()


def test_the_guards_states_follow_from_the_record_alone(run: tuple[Simulation, list[Any]]) -> None:
    done, seen = run
    assert done.recording is not None
    recording = Recording(done.recording)
    account = witness(recording, Lineage(recording), replay=False)
    steps = [(step.t_ns, step.state) for step in account.guards["neck"].steps]
    assert steps == seen
    states = [state for _, state in seen]
    assert states.count(GuardState.STALE) < 20  # before the first command only


def test_the_causes_of_a_stop_lead_through_a_select_to_the_active_mode(tmp_path: Path) -> None:
    """The bus is silent from 1.2 s to 1.8 s, while the head is on its way home."""
    path = tmp_path / "run.mcap"

    def script(executor: Any, world: Any) -> None:
        executor.after(SECOND, lambda: executor.goal("home", HomeRequest(0.3, 0.0)))
        executor.after(1200 * MS, lambda: setattr(world.bus.faults, "drop", 1.0))
        executor.after(1800 * MS, lambda: setattr(world.bus.faults, "drop", 0.0))

    simulate(
        head("nothing like it"), "3s", unit="pan-tilt", seed=3, record=path,
        world={"ideal": True}, prepare_run=script,
    )  # fmt: skip
    evidence = gather(Recording(path), replay=False)
    (safe,) = (i for i in find_incidents(evidence) if i.kind == "safe" and not i.is_usual)
    said = [f"{evidence.at(cause.t_ns)} {cause.text}" for cause in causes(evidence, safe)]
    assert said == [
        "1.200 s neck gave no state until 1.801 s (30 firings, tried in 30): no whole answer",
        "1.265 s last output of GoTo.command, in firing 64 of lane every-20ms",
        "1.265 s last output of drive_select, in firing 64 of lane every-20ms",
        "1.285 s GoTo not called: neck 104.8 ms old, limit 100 ms",
        "1.285 s drive_select had nothing to take over (13 firings up to then)",
        "1.525 s command of neck 260 ms old, limit 250 ms",
        "1.525 s guard of neck: ARMED -> STALE; pan hold, tilt hold (14 firings, 275.4 ms)",
        "1.801 s guard of neck: STALE -> ARMED",
    ]
    kinds = {incident.subject for incident in find_incidents(evidence)}
    assert not any(subject.startswith("drive_select") for subject in kinds)
