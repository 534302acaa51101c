"""`haihe run` as a process: metrics are asked for, a ring is saved by a signal, logs are lines."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from haihe.boards.unit import find_unit, load_unit, unit_from_text
from haihe.pipelines.launch import run
from haihe.pipelines.live import Live
from haihe.pipelines.load import load_graph
from haihe.runtime.errors import NodeError
from haihe.runtime.record.format import RESTART
from haihe.runtime.record.recording import Recording
from haihe.runtime.telemetry.snapshot import Snapshot
from haihe.testing import replay
from tests.runtime.exec.fakes import Fault, following

LIMIT_S = 120.0  # only catches hangs

pytestmark = pytest.mark.process


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def until(found: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    pause = threading.Event()
    for _ in range(int(LIMIT_S / 0.05)):
        if found():
            return
        assert process.poll() is None, process.communicate()
        pause.wait(0.05)
    pytest.fail("it never came")


def test_a_run_is_asked_for_metrics_and_saves_its_last_seconds(tmp_path: Path) -> None:
    port, log = free_port(), tmp_path / "log.jsonl"
    process = subprocess.Popen(
        [
            sys.executable, "-m", "haihe", "run", "robot.follow", "--unit", "pan-tilt", "--sim",
            "--record", str(tmp_path / "run.mcap"), "--keep", "3s", "--quota", "1GB",
            "--metrics", str(port), "--log", str(log), "--duration", "100s",
        ],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={k: v for k, v in os.environ.items() if k != "HAIHE_LOG"},
    )  # fmt: skip
    try:

        def metrics() -> dict[str, float]:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as page:
                    text = page.read().decode()
            except OSError:
                return {}
            rows = (line.rpartition(" ") for line in text.splitlines() if line[0] != "#")
            return {name: float(value) for name, _, value in rows}

        firings = 'haihe_lane_firings_total{lane="every-20ms",process="main"}'
        until(lambda: metrics().get(firings, 0) > 300, process)
        assert metrics()['haihe_guard_state{role="neck",lane="every-20ms",state="armed"}'] == 1
        assert list(tmp_path.glob("*.mcap")) == []
        process.send_signal(signal.SIGUSR1)
        saved = tmp_path / "run-1.mcap"
        until(lambda: saved.exists() and "SIGUSR1" in log.read_text(), process)
        assert metrics()[firings] > 300  # and it goes on
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=LIMIT_S)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 0, err
    assert f"recording  {saved}  (haihe replay {saved} --verify)\n" in out
    recording = Recording(saved)
    assert recording.header["ring"]["reasons"] == ["SIGUSR1"]
    report = replay(recording)
    assert report.ok, report
    assert 100 < report.firings < 600
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert any(line["message"] == f"metrics: http://127.0.0.1:{port}/metrics" for line in lines)
    assert f"recording {saved}: SIGUSR1" in [line["message"] for line in lines]


def test_lanes_of_other_processes_are_in_the_snapshot_and_in_the_ring(tmp_path: Path) -> None:
    text = load_unit(find_unit("pan-tilt", None)).text
    text += "processes:\n  vision: {threads: [front], restart: 1}\n"
    seen: list[Snapshot] = []
    files: list[Path] = []

    def look(live: Live) -> None:
        seen.append(live.snapshot())
        firings = {lane.name: lane.firings for lane in seen[-1].lanes}
        if not files and firings.get("front", 0) > 150:
            files.append(live.save("enough"))

    live = run(
        load_graph("robot.follow"), unit=unit_from_text(text, "unit.yaml"), sim=True,
        duration="12s", record=tmp_path / "run.mcap", keep="2s", tick=look,
    )  # fmt: skip
    assert [p.name for p in seen[-1].processes] == ["", "vision"]
    assert seen[-1].processes[1].state == "running"
    assert seen[-1].processes[1].pid not in (0, os.getpid())
    assert {lane.name: lane.process for lane in seen[-1].lanes} == {
        "every-20ms": "", "front": "vision"
    }  # fmt: skip
    (crossing,) = [e for e in seen[-1].edges if e.source == "part" and e.kind == "slot"]
    assert crossing.received > 100
    for found in (*seen, live.snapshot()):
        # what the reader accounts for, against the calls that the other process counted: its
        # status is up to some periods older
        part = next((node for node in found.nodes if node.name == "part"), None)
        edges = [e for e in found.edges if e.source == "part" and e.kind == "slot" and e.ends]
        if part is not None:
            (arrived,) = [e.received + e.overwritten + e.refused for e in edges]
            assert part.called - 30 <= arrived <= part.called + 30
        inside = [e for e in found.edges if e.source in ("neck.state", "Pursue")]
        assert inside
        assert all(e.in_flight is not None and e.in_flight >= 0 for e in inside)
    assert live.saved == files == [tmp_path / "run-1.mcap"]
    report = replay(files[0], graph=load_graph("robot.follow"))
    assert report.ok, report
    assert report.firings > 100


def test_a_run_that_fails_leaves_its_last_seconds(tmp_path: Path) -> None:
    with pytest.raises(NodeError, match="it raised ValueError: made to raise"):
        run(
            following(Fault(raise_at=120)), unit="pan-tilt", sim=True, world={"ideal": True},
            duration="100s", record=tmp_path / "run.mcap", keep="1s", frames="lossless",
        )  # fmt: skip
    (path,) = tmp_path.iterdir()
    recording = Recording(path)
    assert recording.header["ring"]["reasons"][-1].startswith("the run failed: ")
    report = replay(recording, graph=following(Fault(raise_at=120)))
    assert report.ok, report
    assert recording.sent_bytes("neck").endswith(report.sent["neck"])  # the safe actions, too


def test_a_process_that_died_and_came_back_is_in_both(tmp_path: Path) -> None:
    text = load_unit(find_unit("pan-tilt", None)).text
    text += "processes:\n  vision: {threads: [front], restart: 1}\n"
    seen: list[Snapshot] = []
    killed: list[int] = []
    files: list[Path] = []

    def look(live: Live) -> None:
        seen.append(live.snapshot())
        vision = next(p for p in seen[-1].processes if p.name == "vision")
        front = next((lane for lane in seen[-1].lanes if lane.name == "front"), None)
        if front is None:
            return
        if not killed and front.firings > 60:
            os.kill(vision.pid, signal.SIGKILL)
            killed.append(front.firings)
        elif killed and not files and vision.restarts and front.firings > killed[0] + 60:
            files.append(live.save("it came back"))
        elif files and live.saved:
            live.executor.stopping.set()

    live = run(
        load_graph("robot.follow"), unit=unit_from_text(text, "unit.yaml"), sim=True,
        duration="100s", record=tmp_path / "run.mcap", keep="30s", tick=look,
    )  # fmt: skip
    last = live.snapshot()
    assert [(p.name, p.restarts) for p in last.processes] == [("", 0), ("vision", 1)]
    assert "SIGKILL" in last.processes[1].problem
    (crossing,) = [e for e in last.edges if e.source == "part" and e.kind == "slot"]
    part = next(node for node in last.nodes if node.name == "part")
    arrived = crossing.received + crossing.overwritten + crossing.refused
    assert part.called > 120  # of both lives
    assert part.called - 30 <= arrived <= part.called + 30
    recording = Recording(files[0])
    assert [r.kind for r in recording.lanes["front"]].count(RESTART) == 1
    report = replay(recording, graph=load_graph("robot.follow"))
    assert report.ok, report


def test_with_json_on_stderr_every_line_of_it_is_json(tmp_path: Path) -> None:
    text = load_unit(find_unit("pan-tilt", None)).text
    (tmp_path / "unit.yaml").write_text(text + "processes:\n  vision: {threads: [front]}\n")
    done = subprocess.run(
        [
            sys.executable, "-m", "haihe", "run", "robot.follow", "--unit", "unit.yaml", "--sim",
            "--duration", "3s",
        ],
        cwd=tmp_path, env=os.environ | {"HAIHE_LOG": "json"}, capture_output=True, text=True,
        timeout=LIMIT_S, check=True,
    )  # fmt: skip
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert lines
    assert all(line["process"] in ("main", "vision") for line in lines)
