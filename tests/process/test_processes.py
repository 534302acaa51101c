"""Lanes in processes of their own: deaths, hangs and ends, judged by the bytes at the emulator."""

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from haihe.runtime.record.format import FIRING, RESTART
from haihe.runtime.record.recording import Recording
from haihe.testing import replay
from tests.process.wire import GOAL, MARK, TORQUE, Write, finish, live, received, start, writes

pytestmark = pytest.mark.process

LIMIT_NS = 250_000_000 + 250_000_000 + 20_000_000  # fresh + command_age + a period
SLACK_NS = 400_000_000  # pytest and four other processes share two cores


def wait_for(path: Path, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"{path} never came"
        time.sleep(0.02)


def pids(out: Path) -> dict[str, int]:
    found: dict[str, int] = json.loads((out / "pids.json").read_text())
    return found


def kill(out: Path, name: str, number: int = signal.SIGKILL) -> int:
    """Kill a process of the run; gives when."""
    pid = pids(out)[name]
    os.kill(pid, number)
    return time.monotonic_ns()


def wait_for_another(out: Path, name: str, old: int, seconds: float = 60) -> int:
    end = time.monotonic() + seconds
    while (pid := pids(out)[name]) in (0, old):
        assert time.monotonic() < end, f"{name} did not come back"
        time.sleep(0.02)
    return pid


def goals(out: Path) -> list[Write]:
    # a set-up writes one byte at 41, the acceleration; a goal goes on from there
    return [w for w in writes(out) if w.address == GOAL or (w.address == 41 and len(w.data) > 1)]


def is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as stream:
            return stream.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_a_killed_vision_process_comes_back_and_all_of_it_replays(tmp_path: Path) -> None:
    process = start(tmp_path, graph="ideal", safe="free", duration="60s", processes="both")
    wait_for(tmp_path / "armed")
    time.sleep(1.0)
    old = pids(tmp_path)["vision"]
    killed = kill(tmp_path, "vision")
    wait_for_another(tmp_path, "vision", old)
    time.sleep(1.0)
    process.send_signal(signal.SIGINT)
    result = finish(process, tmp_path)
    assert result["error"] == ""
    recording = Recording(tmp_path / "run.mcap")
    report = replay(recording)
    assert report.ok, report
    assert report.skipped == 0
    wire = received(tmp_path)
    assert hashlib.sha256(report.sent["neck"]).digest() == hashlib.sha256(wire).digest()
    records = recording.lanes["front"]
    assert [r.kind for r in records].count(RESTART) == 1
    begin = next(i for i, r in enumerate(records) if r.kind == RESTART)
    last, first = records[begin - 1], records[begin + 1]
    assert last.kind == first.kind == FIRING
    assert first.fixed[0] == last.fixed[0] + 1  # the count of firings goes on
    # backoff 100 ms, start 60 s at most: the imports of a fresh interpreter
    assert 100_000_000 <= first.fixed[2] - killed <= 60_000_000_000
    # no goal rests on a picture that is too old, and the joints moved again afterwards
    captures = [s.capture_ns for s in recording.streams["front.image"]]
    for w in goals(tmp_path):
        assert w.t_ns - max(c for c in captures if c <= w.t_ns) <= LIMIT_NS + SLACK_NS
    assert any(w.t_ns > first.fixed[2] for w in goals(tmp_path))


def test_a_killed_control_process_comes_back_armed_where_the_unit_says_so(tmp_path: Path) -> None:
    process = start(tmp_path, graph="ideal", duration="60s", processes="both")
    wait_for(tmp_path / "armed")
    time.sleep(1.0)
    old = pids(tmp_path)["control"]
    killed = kill(tmp_path, "control")
    wait_for_another(tmp_path, "control", old)
    time.sleep(1.0)
    process.send_signal(signal.SIGINT)
    assert finish(process, tmp_path)["error"] == ""
    recording = Recording(tmp_path / "run.mcap")
    report = replay(recording)
    assert report.ok, report
    # what was sent in the firing that the kill cut is on the wire and in no record
    wire, sent = received(tmp_path), report.sent["neck"]
    pairs = enumerate(zip(wire, sent, strict=False))
    cut = next((i for i, (a, b) in pairs if a != b), len(sent))
    assert wire.endswith(sent[cut:])
    assert 0 <= len(wire) - len(sent) <= 100
    assert any(w.t_ns > killed for w in goals(tmp_path))
    assert not [w for w in goals(tmp_path) if killed + 50_000_000 < w.t_ns < killed + 100_000_000]


def test_without_a_restart_the_run_ends_safely_and_says_why(tmp_path: Path) -> None:
    process = start(tmp_path, graph="ideal", safe="free", duration="30s", processes="vision")
    wait_for(tmp_path / "armed")
    time.sleep(0.5)
    killed = kill(tmp_path, "vision", signal.SIGSEGV)
    result = finish(process, tmp_path)
    assert result["error"] == (
        "HaiheError: process vision: it was killed by SIGSEGV; it is not to be restarted. The "
        "actuators were made safe; mend the cause, or allow more: `restart` of vision under "
        "`processes:` in the unit profile."
    )
    frees = [w for w in writes(tmp_path) if w.address == TORQUE and w.data == b"\x00"]
    after = [w for w in frees if w.t_ns > killed]
    assert {w.servo for w in after} == {1, 2}
    assert not [w for w in goals(tmp_path) if w.t_ns > after[0].t_ns]
    assert replay(Recording(tmp_path / "run.mcap")).ok


def test_an_exception_in_another_process_names_the_node_and_its_line(tmp_path: Path) -> None:
    result = live(
        tmp_path, graph="vision_raises", safe="free", duration="20s", processes="both",
        frames="none",
    )  # fmt: skip
    assert "live_app.py:" in result["error"]
    assert result["error"].endswith(
        "node stall: it raised ValueError: made to raise. The actuators were made safe; mend the "
        "node."
    )
    last = writes(tmp_path)[-1]
    assert (last.address, last.data) == (TORQUE, b"\x00")


def test_a_process_whose_lane_hangs_is_killed_and_started_again(tmp_path: Path) -> None:
    result = live(tmp_path, graph="vision_hangs", duration="9s", processes="hang", frames="none")
    assert result["error"] == ""
    records = Recording(tmp_path / "run.mcap").lanes["front"]
    assert [r.kind for r in records].count(RESTART) >= 1
    begin = next(i for i, r in enumerate(records) if r.kind == RESTART)
    assert records[begin - 1].fixed[0] == 59  # the 60th call never came back


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_from_outside_ends_every_process_and_leaves_nothing(
    tmp_path: Path, number: signal.Signals
) -> None:
    process = start(tmp_path, graph="ideal", duration="30s", processes="both")
    wait_for(tmp_path / "armed")
    time.sleep(0.5)
    children = list(pids(tmp_path).values())
    process.send_signal(number)
    result = finish(process, tmp_path)
    assert result["error"] == ""
    assert not any(is_alive(pid) for pid in children)
    report = replay(Recording(tmp_path / "run.mcap"))
    assert report.ok, report
    assert (
        hashlib.sha256(received(tmp_path)).digest() == hashlib.sha256(report.sent["neck"]).digest()
    )


def test_when_the_launcher_is_killed_the_others_make_safe_and_end(tmp_path: Path) -> None:
    process: subprocess.Popen[bytes] = start(
        tmp_path, graph="ideal", safe="free", duration="30s", processes="both"
    )
    wait_for(tmp_path / "armed")
    time.sleep(0.5)
    children: Any = list(pids(tmp_path).values())
    process.kill()
    process.communicate()
    end = time.monotonic() + 30
    while any(is_alive(pid) for pid in children) and time.monotonic() < end:
        time.sleep(0.05)
    assert not any(is_alive(pid) for pid in children)
    recording = Recording(tmp_path / "run.mcap")
    assert not recording.complete
    assert not replay(recording).differing


# --- what the next life may do --------------------------------------------------------------------


def post(out: Path, events: list[list[str]]) -> int:
    """Post events in the launcher; gives when they had been."""
    (out / "post.new").write_text(json.dumps(events))
    (out / "post.new").rename(out / "post.json")
    wait_for(out / "posted")
    return time.monotonic_ns()


@pytest.mark.parametrize(
    ("before", "after", "moves"),
    [
        ([["trip", "e-stop"]], [], False),
        ([["disarm"]], [], False),
        ([], [["trip", "e-stop"]], False),  # while it is started again
        ([["trip", "e-stop"], ["reset"]], [], False),
        ([["trip", "e-stop"], ["reset"], ["arm"]], [], True),
    ],
)
def test_what_the_user_stopped_does_not_move_after_a_restart(
    tmp_path: Path, before: list[list[str]], after: list[list[str]], moves: bool
) -> None:
    process = start(tmp_path, graph="ideal", duration="60s", processes="both")
    wait_for(tmp_path / "armed")
    time.sleep(0.5)
    if before:
        post(tmp_path, before)
        time.sleep(0.3)
    old = pids(tmp_path)["control"]
    since = kill(tmp_path, "control")
    if after:
        since = post(tmp_path, after)
    wait_for_another(tmp_path, "control", old)
    time.sleep(1.0)
    process.send_signal(signal.SIGINT)
    assert finish(process, tmp_path)["error"] == ""
    recording = Recording(tmp_path / "run.mcap")
    records = recording.lanes["every-20ms"]
    begin = next(i for i, r in enumerate(records) if r.kind == RESTART)
    assert sum(r.kind == FIRING for r in records[begin:]) > 10  # it did run
    moved = [w for w in goals(tmp_path) if w.t_ns > since and len(w.data) > 1]
    assert bool(moved) is moves
    report = replay(recording)
    assert report.differing == 0, report


def test_a_later_life_that_cannot_start_uses_its_restarts_up_and_ends_the_run(
    tmp_path: Path,
) -> None:
    mark = {MARK: str(tmp_path)}
    process = start(tmp_path, mark, graph="vision_holds", duration="60s", processes="both")
    wait_for(tmp_path / "armed")
    (tmp_path / "broken").touch()
    kill(tmp_path, "vision")
    result = finish(process, tmp_path)
    head, _, rest = result["error"].partition("live_app.py:")
    assert head.startswith("HaiheError: process vision: it could not start: ")
    line, _, text = rest.partition(": ")
    assert line.isdecimal()
    assert text.startswith(
        "node holder: what it holds is broken; 3 restarts within 60 s are used up (before: it was "
        "killed by SIGKILL, it could not start: "
    )


# --- ends that others hold, and what is left behind -----------------------------------------------


def descriptors(pid: int) -> list[str]:
    found = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            found.append(os.readlink(entry).split(":")[0])
    return sorted(found)


def zombies(parent: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                state, above = (entry / "stat").read_text().rsplit(")", 1)[1].split()[:2]
                if state == "Z" and int(above) == parent:
                    found.append(int(entry.name))
    return found


def test_restarts_leave_no_descriptor_and_no_zombie_in_the_launcher(tmp_path: Path) -> None:
    process = start(tmp_path, graph="ideal", duration="90s", processes="campaign")
    wait_for(tmp_path / "armed")
    time.sleep(0.5)
    before = descriptors(process.pid)
    for names in (("vision",), ("control",), ("vision", "control")):
        old = pids(tmp_path)
        for name in names:
            os.kill(old[name], signal.SIGKILL)
        for name in names:
            wait_for_another(tmp_path, name, old[name])
    end = time.monotonic() + 20
    while descriptors(process.pid) != before and time.monotonic() < end:
        time.sleep(0.1)
    assert descriptors(process.pid) == before
    assert zombies(process.pid) == []
    process.send_signal(signal.SIGINT)
    result = finish(process, tmp_path)
    assert result["error"] == ""
    assert [edge for edge in result["edges"] if (edge["in_flight"] or 0) < 0] == []
    report = replay(Recording(tmp_path / "run.mcap"))
    assert report.differing == 0, report


def test_a_process_that_a_node_forked_holds_no_restart_up(tmp_path: Path) -> None:
    mark = {MARK: str(tmp_path)}
    process = start(tmp_path, mark, graph="vision_forks", duration="60s", processes="both")
    wait_for(tmp_path / "armed")
    time.sleep(1.0)
    old = pids(tmp_path)["vision"]
    killed = kill(tmp_path, "vision")
    wait_for_another(tmp_path, "vision", old, 15)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    assert finish(process, tmp_path)["error"] == ""
    recording = Recording(tmp_path / "run.mcap")
    control = [r for r in recording.lanes["every-20ms"] if r.kind == FIRING]
    place = 4 + next(i for i, s in enumerate(lane_reads(recording)) if s == "holder")
    begun = next(r.fixed[1] for r in recording.lanes["front"] if r.kind == RESTART)
    before = max(r.fixed[place] for r in control if r.fixed[2] < begun)
    assert max(r.fixed[place] for r in control) > before  # detections arrive again
    assert begun > killed


def lane_reads(recording: Recording) -> tuple[str, ...]:
    lane = next(one for one in recording.plan.lanes if one.name == "every-20ms")
    return tuple(lane.task.reads)


def test_sigterm_to_one_process_ends_the_run_safely(tmp_path: Path) -> None:
    process = start(tmp_path, graph="ideal", safe="free", duration="60s", processes="both")
    wait_for(tmp_path / "armed")
    time.sleep(0.5)
    kill(tmp_path, "control", signal.SIGTERM)
    result = finish(process, tmp_path)
    assert (result["error"], result["reason"], result["hung"]) == ("", "SIGTERM", [])
    last = writes(tmp_path)[-1]
    assert (last.address, last.data) == (TORQUE, b"\x00")
    report = replay(Recording(tmp_path / "run.mcap"))
    assert report.differing == 0, report
    assert received(tmp_path) == report.sent["neck"]
