"""Faults end in the guard's safe action, judged by the bytes at the emulator."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from haihe.runtime.record.reader import McapReader
from haihe.runtime.record.recording import Recording
from haihe.testing import replay
from tests.process.wire import GOAL, TORQUE, finish, live, start, writes

PERIOD_NS = 20_000_000
COMMAND_AGE_NS = 250_000_000
FRESH_NS = 250_000_000
# pytest and two other processes share two cores: how late a tick may be here
SLACK_NS = 400_000_000


@pytest.mark.process
@pytest.mark.parametrize("graph", ["vision_raises", "control_raises"])
def test_an_exception_in_a_node_frees_the_joints(graph: str, tmp_path: Path) -> None:
    result = live(tmp_path, graph=graph, safe="free", duration="20s", frames="none")
    assert "made to raise" in result["error"]
    assert "live_app.py:" in result["error"]
    on_wire = writes(tmp_path)
    goals = [w for w in on_wire if w.address == GOAL or w.address == 41]
    frees = [w for w in on_wire if w.address == TORQUE and w.data == b"\x00"]
    after = [w for w in frees if w.t_ns > goals[-1].t_ns]
    assert {w.servo for w in after} == {1, 2}
    assert after[0].t_ns - goals[-1].t_ns <= PERIOD_NS + SLACK_NS
    assert on_wire[-1].address == TORQUE
    assert on_wire[-1].data == b"\x00"


@pytest.mark.process
def test_a_hang_in_the_vision_lane_frees_the_joints_while_the_run_goes_on(tmp_path: Path) -> None:
    result = live(tmp_path, graph="vision_hangs", safe="free", duration="5s", frames="none")
    assert result["hung"] == ["front"]
    on_wire = writes(tmp_path)
    recording = Recording(tmp_path / "run.mcap")
    # call 60 hangs: the last detections that went out are those of call 59
    last = recording.streams["front.image"][58].capture_ns
    goals = [w for w in on_wire if w.address in (GOAL, 41)]
    frees = [w for w in on_wire if w.address == TORQUE and w.data == b"\x00" and w.t_ns > last]
    assert goals[-1].t_ns - last <= FRESH_NS + COMMAND_AGE_NS + PERIOD_NS + SLACK_NS
    assert frees[0].t_ns > goals[-1].t_ns
    assert frees[-1].t_ns - frees[0].t_ns > 1_000_000_000  # the lane went on, and stayed safe
    assert not [w for w in goals if w.t_ns > frees[0].t_ns]


@pytest.mark.process
def test_a_stop_drives_to_the_declared_safe_position(tmp_path: Path) -> None:
    result = live(tmp_path, graph="ideal", safe="go", duration="3s", frames="none")
    assert result["error"] == ""
    for servo in (1, 2):
        last = [w for w in writes(tmp_path) if w.servo == servo and w.address in (GOAL, 41)][-1]
        ticks = int.from_bytes(last.data[-2:] if last.address == GOAL else last.data[1:3], "little")
        assert ticks == 2048 + round(0.05 / (2 * 3.141592653589793) * 4096)


@pytest.mark.process
def test_after_a_kill_the_recording_opens_and_replays(tmp_path: Path) -> None:
    process = start(tmp_path, graph="ideal", duration="30s")
    deadline = time.monotonic() + 60
    while not (tmp_path / "armed").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(1.5)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    recording = Recording(tmp_path / "run.mcap")
    assert not recording.complete
    assert recording.firings > 60
    report = replay(recording)
    assert not report.differing, report
    sent = recording.sent_bytes("neck")
    received = b"".join(data for _, data in _wire(tmp_path))
    assert received.startswith(sent)  # the newest blocks were still in memory
    fixed = subprocess.run(
        [sys.executable, "-m", "haihe", "rec", "fix", str(tmp_path / "run.mcap")],
        capture_output=True,
        check=False,
    )
    assert fixed.returncode == 0, fixed.stderr
    with McapReader(tmp_path / "run.mcap") as reader:
        assert reader.complete  # the file is whole now
    again = Recording(tmp_path / "run.mcap")
    assert not again.complete  # what it tells of was cut
    assert not replay(again).differing


def _wire(out: Path) -> list[tuple[int, bytes]]:
    from haihe.pipelines.worlds.serve import read_wire

    return read_wire(out / "neck.wire")


@pytest.mark.process
def test_ctrl_c_leaves_the_servos_safe_and_the_recording_whole(tmp_path: Path) -> None:
    process = start(tmp_path, graph="ideal", safe="free", duration="60s")
    deadline = time.monotonic() + 60
    while not (tmp_path / "armed").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(1.0)
    process.send_signal(signal.SIGINT)
    result = finish(process, tmp_path)
    assert result["reason"] == "Ctrl-C"
    assert writes(tmp_path)[-1].address == TORQUE
    assert Recording(tmp_path / "run.mcap").complete
