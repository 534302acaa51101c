"""Modes, goals and a ladder in real time, over two processes; recorded and replayed."""

import hashlib
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from haihe.boards.unit import find_unit, load_unit, unit_from_text
from haihe.pipelines.graph_file import load_graph_file
from haihe.pipelines.launch import run
from haihe.pipelines.live import Live
from haihe.pipelines.robot.goals import HomeRequest, InspectRequest
from haihe.pipelines.worlds.process import WorldProcess
from haihe.runtime.exec.ladder import Health
from haihe.runtime.record.format import RESTART
from haihe.runtime.record.recording import Recording
from haihe.testing import replay
from tests.process.wire import received

NODES = "haihe.pipelines.robot.goals"
GRAPH = f"""\
graph: head
devices: {{front: camera, neck: servos}}
goals:
  home: {{request: {NODES}:HomeRequest, timeout: 6s, report: go.status}}
  inspect: {{request: {NODES}:InspectRequest, timeout: 20s, report: tour.status}}
modes:
  drive:
    initial: idle
    modes:
      home: {{goal: home}}
      inspect: {{goal: inspect}}
  vision:
    initial: full
    modes: {{small: {{}}}}
    ladder: {{order: [full, small], load: 0.9, hold: 500ms}}
nodes:
  full: {{model: part, in: front.image, mode: {{vision: full}}}}
  small: {{model: part, in: front.image, params: {{threshold: 0.4}}, mode: {{vision: small}}}}
  parts: {{select: [full, small]}}
  watch: {{node: {NODES}:Watch, in: parts}}
  go:
    node: {NODES}:GoTo
    in: {{request: home.request, neck: neck.state}}
    mode: {{drive: home}}
  tour:
    node: {NODES}:Tour
    in: {{request: inspect.request, neck: neck.state}}
    mode: {{drive: inspect}}
  command: {{select: [go.command, tour.command]}}
commands: {{neck: command}}
"""


@pytest.mark.process
@pytest.mark.parametrize(
    "processes", ["", "processes: {eye: {nodes: [parts]}}\n"], ids=["one", "two"]
)
def test_a_run_with_goals_a_cancel_and_a_ladder_replays(tmp_path: Path, processes: str) -> None:
    file, path = tmp_path / "head.yaml", tmp_path / "run.mcap"
    file.write_text(GRAPH + processes)
    handles: list[Any] = []
    script: dict[float, Callable[[Live], None]] = {
        0.5: lambda live: handles.append(live.goal("home", HomeRequest(0.3, 0.0))),
        0.6: lambda live: handles.append(live.goal("inspect", InspectRequest(((0.1, 0.0),)))),
        1.5: lambda live: set_health(live, Health(load=0.95)),
        2.0: lambda live: handles.append(live.goal("inspect", InspectRequest(((0.0, 0.0),), 9.0))),
        2.3: lambda live: set_health(live, Health(load=0.1)),
        2.6: lambda live: handles[2].cancel(),
    }

    def set_health(live: Live, health: Health) -> None:
        live.executor.ladders.health = lambda: health

    def tick(live: Live) -> None:
        if not live.executor.started_ns:
            return
        firings = sum(la.firing for la in live.executor.assembly.lanes if la.task.every_ns)
        for at in [at for at in script if at * 50 <= firings]:
            script.pop(at)(live)

    live = run(
        load_graph_file(file), unit="pan-tilt", sim=True, duration="5s", record=path, tick=tick,
        tick_s=0.02,
    )  # fmt: skip
    assert script == {}
    home, busy, cancelled = handles
    assert home.result(0.0) == "succeeded"
    assert busy.state == "refused"
    assert busy.text in [f"goal home is {s}: cancel it first" for s in ("accepted", "running")]
    assert cancelled.state == "cancelled"
    assert live.modes == {"drive": "idle", "vision": "full"}
    recording = Recording(path)
    events = {
        name: [e for r in records for e in r.events if e[0] == "mode"]
        for name, records in recording.lanes.items()
    }
    assert [e[2] for e in events["every-20ms"] if e[1] == "drive"] == [
        "home", "idle", "inspect", "idle",
    ]  # fmt: skip
    assert [e[2] for e in events["front"] if e[1] == "vision"] == ["small", "full"]
    report = replay(recording)
    assert report.ok, report


@pytest.mark.process
def test_a_death_in_the_middle_of_it_replays_to_the_bytes_of_the_wire(tmp_path: Path) -> None:
    """Process lanes, modes, a step of the ladder and a restart in one recording."""
    file, path = tmp_path / "head.yaml", tmp_path / "run.mcap"
    file.write_text(GRAPH + "processes: {eye: {nodes: [parts]}}\n")
    shipped = load_unit(find_unit("pan-tilt", None))
    unit = unit_from_text(
        shipped.text + "processes:\n  eye: {restart: 2, backoff: 100ms}\n", shipped.file
    )
    told: list[str] = []

    def tick(live: Live) -> None:
        executor: Any = live.executor
        eye = executor.household.children["eye"]
        seconds = live.snapshot().elapsed_s
        steps = {
            "home": seconds > 0.5,
            "load": seconds > 0.8,
            "kill": seconds > 1.3 and live.modes["vision"] == "small",
            "rest": "kill" in told and eye.lives == 2 and eye.supervision.state == "running",
            "inspect": "rest" in told and live.modes["vision"] == "full",
            "end": "inspect" in told and live.modes["drive"] == "idle" and seconds > 3.0,
        }
        step = next((name for name, is_due in steps.items() if name not in told and is_due), "")
        told.extend([step] if step else [])
        if step == "home":
            live.goal("home", HomeRequest(0.3, 0.0))
        elif step == "load":
            executor.ladders.health = lambda: Health(load=0.95)
        elif step == "kill":
            os.kill(eye.pid, signal.SIGKILL)
        elif step == "rest":
            executor.ladders.health = lambda: Health(load=0.1)
        elif step == "inspect":
            live.goal("inspect", InspectRequest(((0.0, 0.0),), 0.2))
        elif step == "end":
            executor.stopping.set()

    place = WorldProcess(unit, 0, None, tmp_path)
    try:
        live = run(
            load_graph_file(file), unit=unit, sim=True, attach=place, duration="60s",
            record=path, frames="none", tick=tick, tick_s=0.02,
        )  # fmt: skip
    finally:
        place.end()
    assert told == ["home", "load", "kill", "rest", "inspect", "end"]
    assert live.snapshot().processes[1].restarts == 1
    recording = Recording(path)
    assert [r.kind for r in recording.lanes["front"]].count(RESTART) == 1
    events = [e for r in recording.lanes["front"] for e in r.events if e[:2] == ("mode", "vision")]
    # after its restart it is brought back to the mode that the others are in
    assert len(events) >= 3
    assert [e[2] for e in events[:-1]] == ["small"] * (len(events) - 1)
    assert events[-1][2] == "full"
    report = replay(recording)
    assert report.ok, report
    assert report.skipped == 0
    wire = received(tmp_path)
    assert len(wire) > 2_000
    assert hashlib.sha256(report.sent["neck"]).digest() == hashlib.sha256(wire).digest()
