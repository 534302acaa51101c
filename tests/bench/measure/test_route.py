"""Stage times against virtual time, where they are known by construction."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from haihe.bench.measure.analysis import Analysis, analyse
from haihe.bench.measure.route import find_paths
from haihe.drivers.roles import camera, servos
from haihe.pipelines.launch import Simulation, simulate
from haihe.pipelines.nodes.pursue import Pursue
from haihe.pipelines.worlds.ideal import ideal_detector
from haihe.runtime.contracts import TICK, Tick
from haihe.runtime.graph import Graph
from haihe.runtime.guard.rules import Flag
from haihe.runtime.node import node
from haihe.runtime.plan.model import EdgePlan, Plan
from haihe.runtime.record.recording import Recording
from haihe.runtime.types import JointCommand, JointState

MS = 1_000_000
BIT_NS = 1_000  # at 1 Mbaud, the unit's


def follow() -> Graph:
    with Graph("follow") as g:
        cam, neck = camera("front"), servos("neck")
        neck.command(Pursue()(ideal_detector(cam.image), neck.state))
    return g


@node(every="20ms")
def sweep(neck: JointState, dt: Tick = TICK) -> JointCommand:
    return JointCommand(neck.position + 0.1 * dt)


def sweeping() -> Graph:
    with Graph("sweep") as g:
        neck = servos("neck")
        neck.command(sweep(neck.state))
    return g


def record(path: Path, graph: Graph, model: str = "10ms", **world: Any) -> Simulation:
    budgets = {"ideal_detector": model} if "ideal_detector" in graph.nodes else {}
    return simulate(
        graph, "4s", unit="pan-tilt", world={"ideal": True, "latency_ms": 50.0} | world,
        budgets=budgets, record=path / "run.mcap", frames="lossless",
    )  # fmt: skip


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> tuple[Simulation, Analysis]:
    folder = tmp_path_factory.mktemp("usual")
    simulation = record(folder, follow())
    return simulation, analyse(Recording(folder / "run.mcap"))


@pytest.fixture(scope="module")
def strained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Simulation, Analysis]:
    """A model slower than the camera, frames lost, ages beyond what is fresh."""
    folder = tmp_path_factory.mktemp("strained")
    simulation = record(folder, follow(), "40ms", latency_ms=90.0, drops=0.3)
    return simulation, analyse(Recording(folder / "run.mcap"))


def test_every_stage_is_what_virtual_time_says(usual: tuple[Simulation, Analysis]) -> None:
    _, run = usual
    (route,) = run.routes
    assert route.describes == "front.image → ideal_detector → Pursue → neck"
    stages = {stage.kind: stage.ns for stage in route.stages}
    assert [stage.kind for stage in route.stages] == [
        "delivery", "queue", "nodes", "wait", "command", "write",
    ]  # fmt: skip
    assert len(route.reaction) == 118
    assert (stages["delivery"] == 50 * MS).all()
    assert (stages["queue"] == 0).all()
    assert (stages["nodes"] == 10 * MS).all()
    assert (stages["command"] == 0).all()  # no budget: it takes no time
    assert (stages["write"] == 14 * 10 * BIT_NS).all()  # one short sync-write for two servos
    # the rest is the wait for the grid of 20 ms and the reading of the bus: 10 bytes, 42 back
    ready = route.capture + 60 * MS - run.start_ns
    reading = 52 * 10 * BIT_NS
    assert np.array_equal(stages["wait"], -ready % (20 * MS) + reading)


def test_the_stages_add_up(usual: tuple[Simulation, Analysis]) -> None:
    (route,) = usual[1].routes
    before = sum(stage.ns for stage in route.stages if not stage.is_after)
    assert np.array_equal(before, route.reaction)
    assert [stage.is_after for stage in route.stages].count(True) == 1


@pytest.mark.parametrize("which", ["usual", "strained"])
def test_it_agrees_with_the_counters_of_the_run(which: str, request: Any) -> None:
    simulation, run = request.getfixturevalue(which)
    assembly = simulation.executor.assembly
    (bus,) = assembly.lanes[0].buses
    (route,) = run.routes
    assert len(route.reaction) == bus.first_bytes
    assert route.reaction.sum() == bus.reaction_total_ns
    assert route.reaction.max() == bus.reaction_worst_ns
    for found, live in zip(run.edges, assembly.edges, strict=True):
        assert found.received == live.received, found.edge
        assert found.overwritten == live.overwritten, found.edge
        assert found.stale == live.stale, found.edge
        ages = route.ages if found.edge.target == "neck.command" else found.ages
        assert (len(ages), int(ages.sum())) == (live.count, live.total_ns), found.edge
    for figures in run.nodes:
        stats = assembly.nodes[figures.name]
        for outcome in ("called", "silent", "stale", "absent", "raised"):
            assert figures.outcomes.get(outcome, 0) == getattr(stats, outcome)
        assert figures.misses == stats.misses


def test_strain_is_seen(strained: tuple[Simulation, Analysis]) -> None:
    _, run = strained
    (stream,) = run.streams
    assert stream.unread > 0
    assert stream.missing > 10
    assert any(node.outcomes.get("stale") for node in run.nodes)
    assert any(i.kind == "blind" and i.end_s > i.start_s > 0 for i in run.intervals)


def test_happenings_have_their_times(usual: tuple[Simulation, Analysis]) -> None:
    first, last = usual[1].happenings
    assert (first.kind, last.kind) == ("arm", "trip")
    assert first.t_s == pytest.approx(0.52e-3)
    assert last.text == "end of the simulation"
    assert last.t_s == pytest.approx(4.0, abs=0.03)


def test_the_bus_is_counted(usual: tuple[Simulation, Analysis]) -> None:
    (bus,) = usual[1].buses
    assert (bus.reads, bus.writes, bus.timeouts, bus.errors) == (200, 200, 0, 0)
    assert (bus.trips == 52 * 10 * BIT_NS).all()


def test_silent_servos_are_time_outs_and_the_guard_holds(tmp_path: Path) -> None:
    def prepare(executor: Any, world: Any) -> None:
        executor.after(1_000 * MS, lambda: world.bus.faults.silent.update((1, 2)))
        executor.after(1_800 * MS, lambda: world.bus.faults.silent.clear())

    simulation = simulate(
        follow(), "3s", unit="pan-tilt", world={"ideal": True}, record=tmp_path / "run.mcap",
        prepare_run=prepare,
    )  # fmt: skip
    run = analyse(Recording(tmp_path / "run.mcap"))
    assert run.buses[0].timeouts == 40
    (bus,) = simulation.executor.assembly.lanes[0].buses
    held = sum(number for flags, number in bus.flags.items() if Flag.STALE & flags)
    stale = [i for i in run.intervals if i.kind == "stale"]
    assert [round(i.start_s, 1) for i in stale] == [0.0, 1.3]
    firings = sum((i.end_s - i.start_s) / 20e-3 for i in stale)
    assert held - 2 <= firings <= held + 1  # a stop holds too, and is no firing


def test_tracking_leaves_the_beginning_out(tmp_path: Path) -> None:
    simulation = record(tmp_path, follow())
    recording = Recording(tmp_path / "run.mcap")
    begin = simulation.executor.begin_ns
    rows = [
        [begin + round(t * 1e9), error]
        for t, error in zip(simulation.times, simulation.truth["error"], strict=True)
    ]
    rows.append([begin + 9_000 * MS, 1.0])  # after the run: nothing of it
    recording.notes["truth"] = {"names": ["t_ns", "error"], "rows": rows}
    tracking = analyse(recording).tracking
    assert tracking is not None
    assert tracking.rms == pytest.approx(np.degrees(simulation.rms("error")), rel=0.02)
    assert tracking.error_deg.max() > tracking.judged.max()
    assert tracking.within == 1.0


def test_without_a_camera_the_route_begins_at_the_state(tmp_path: Path) -> None:
    record(tmp_path, sweeping())
    run = analyse(Recording(tmp_path / "run.mcap"))
    (route,) = run.routes
    assert route.describes == "neck.state → sweep → neck"
    assert len(route.reaction) == 200
    assert (route.reaction == 26 * 10 * BIT_NS).all()  # half of the reading, then at once
    assert run.tracking is not None  # the head swept away from the part
    assert run.tracking.rms > 10.0
    assert run.streams == []


def test_paths_lead_to_every_stream_and_stop_at_loops() -> None:
    plan = Plan("none", (), (), ("left", "right"))
    command = EdgePlan("left.image", "arm.command", "slot")
    assert find_paths(plan, command) == [[command]]
    looped = EdgePlan("previous", "arm.command", "loop")
    assert find_paths(plan, looped) == []
