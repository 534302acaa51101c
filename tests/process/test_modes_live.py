"""Modes, goals and a ladder in real time, over two processes; recorded and replayed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from haihe.pipelines.graph_file import load_graph_file
from haihe.pipelines.launch import run
from haihe.pipelines.live import Live
from haihe.pipelines.robot.goals import HomeRequest, InspectRequest
from haihe.runtime.exec.ladder import Health
from haihe.runtime.record.recording import Recording
from haihe.testing import replay

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
