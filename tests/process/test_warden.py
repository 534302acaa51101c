"""The owner of a servo bus dies or hangs: judged by the bytes on the wire, decoded here by hand.

700 real owners on real ptys, see haihe/bench/measure/host_death.py; the far end is the strictest
receiver: a frame that was cut waits for its rest for ever, and swallows what follows.
"""

import json
import os
import pickle
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from haihe.bench.measure.host_death import CLEAN, FAULTS, LONGEST, Trial
from haihe.pipelines.worlds.serve import read_wire
from tests.process.wire import start

TRIALS = 100
DECLARED_NS = 500_000_000
LIMIT_MS = 250  # of the heartbeat: pytest, six owners and their wardens share two cores
CODE = """
import pickle, sys
from haihe.bench.measure.host_death import trials
sys.stdout.buffer.write(pickle.dumps(trials(sys.argv[2:], sys.argv[1], at_once=6)))
"""


def trials(causes: list[str], limit_ms: int = LIMIT_MS) -> list[Trial]:
    """Run in a process without threads: it forks."""
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", CODE, f"{limit_ms}ms", *causes],
        env=environment, capture_output=True, check=False, timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    found: list[Trial] = pickle.loads(done.stdout)
    return found


def goals_of_pan(wire: bytes) -> tuple[list[int], int]:
    """The goals of servo 1 in whole frames, and how many bytes of a cut one are left over."""
    goals, at = [], 0
    while at + 4 <= len(wire) and (end := at + 4 + wire[at + 3]) <= len(wire):
        frame = wire[at:end]
        assert frame[:2] == b"\xff\xff", frame.hex()
        assert sum(frame[2:]) & 0xFF == 0xFF, frame.hex()
        if frame[4] == 0x83 and frame[5] in (41, 42) and frame[7] == 1:
            place = 9 if frame[5] == 41 else 8
            goals.append(int.from_bytes(frame[place : place + 2], "little"))
        at = end
    return goals, len(wire) - at


def framed(body: bytes) -> bytes:
    return b"\xff\xff" + body + bytes((~sum(body) & 0xFF,))


def safe_frames(pan: int) -> bytes:
    """pan holds at 300 deg/s at most, tilt goes to 0.3 rad (195.6 ticks) at 90 deg/s, grip free."""
    hold = bytes((1, 0)) + pan.to_bytes(2, "little") + b"\x00\x00" + (3413).to_bytes(2, "little")
    go = bytes((2, 0)) + (2244).to_bytes(2, "little") + b"\x00\x00" + (1023).to_bytes(2, "little")
    return framed(b"\xfe\x14\x83\x29\x07" + hold + go) + framed(
        b"\xfe\x0a\x83\x28\x01" + b"\x01\x01" + b"\x02\x01" + b"\x03\x00"
    )


SAID = (
    r"haihe: the warden of arm: (?:process {pid} died while armed|no heartbeat for \d+ ms \(limit "
    r"250 ms\): process {pid} was killed); safe actions sent \d+\.\d ms later, 140 bytes"
    r"(?:; it was not dead 20 ms later)?"
)


@pytest.mark.process
@pytest.mark.parametrize("fault", FAULTS)
def test_the_joints_get_their_safe_actions_and_nothing_of_the_owner_follows(fault: str) -> None:
    found = trials([fault] * TRIALS)
    exact = cut = 0
    for trial in found:
        assert trial.is_over
        wire = trial.received
        start = wire.find(bytes(LONGEST))
        assert start > 0, (trial.errors, wire[-80:].hex())
        goals, rest = goals_of_pan(wire[:start])
        held = trial.goal["pan"]
        # padding and safe frames, twice, to the end: nothing of the owner came after
        assert wire[start:] == 2 * (bytes(LONGEST) + safe_frames(held)), wire[start:].hex()
        # a kill can fall between the write and the note of what it wrote: then it is one step back
        assert held in goals[-2:], (held, goals[-3:])
        exact += held == goals[-1]
        cut += rest > 0
        assert 0 < trial.reaction_ns <= DECLARED_NS
        assert trial.torque == {"pan": 1, "tilt": 1, "grip": 0}
        assert (trial.goal["tilt"], trial.speed["tilt"], trial.speed["pan"]) == (2244, 1023, 3413)
        number = signal.SIGSEGV if fault.startswith("segfault") else signal.SIGKILL
        assert os.WTERMSIG(trial.status) == number
        last = trial.errors.decode().splitlines()[-1]
        assert re.fullmatch(SAID.format(pid=trial.pid), last), last
        assert ("no heartbeat" in last) == (fault.split(" in a ")[0] in ("stop", "hang"))
    assert len(found) == TRIALS
    assert sum(trial.starts for trial in found) <= TRIALS + 5  # began anew: see Trial.starts
    if "frame" in fault:
        assert cut > TRIALS // 2  # the others were cut between two frames
    else:
        assert exact > TRIALS - 10


@pytest.mark.process
@pytest.mark.parametrize("how", CLEAN)
def test_a_stop_in_order_needs_no_warden(how: str) -> None:
    for trial in trials([how] * 10, limit_ms=3000):
        assert trial.is_over
        assert (trial.status, trial.errors) == (0, b"")
        assert trial.pad_at == -1
        goals, rest = goals_of_pan(trial.received)
        assert rest == 0
        assert trial.goal["pan"] == goals[-1]
        assert trial.torque["grip"] == 0  # the guard's own safe action


PING = bytes.fromhex("ffff010201fb")


@pytest.mark.process
def test_a_control_process_that_is_killed_is_made_safe_and_then_drives_again(
    tmp_path: Path,
) -> None:
    """The warden lets go of the port in time for the next life of its owner."""
    options: dict[str, Any] = {
        "graph": "ideal",
        "safe": "go",
        "processes": "both",
        "frames": "none",
    }
    process = start(tmp_path, duration="8s", warden=True, **options)
    deadline = time.monotonic() + 60
    while not (tmp_path / "armed").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(1.0)
    pid = json.loads((tmp_path / "pids.json").read_text())["control"]
    killed = time.monotonic_ns()
    os.kill(pid, signal.SIGKILL)
    _, errors = process.communicate(timeout=180)
    assert process.returncode == 0, errors.decode()
    assert f"the warden of neck: process {pid} died while armed" in errors.decode()
    chunks = read_wire(tmp_path / "neck.wire")
    wire = b"".join(data for _, data in chunks)
    ticks = (2081).to_bytes(2, "little")  # 0.05 rad are 32.6
    tail = b"\x00\x00\x55\x0d"  # time 0, 3413 ticks/s
    goal = framed(b"\xfe\x14\x83\x29\x07" + b"\x01\x00" + ticks + tail + b"\x02\x00" + ticks + tail)
    message = bytes(24) + goal + framed(b"\xfe\x08\x83\x28\x01" + b"\x01\x01" + b"\x02\x01")
    at = wire.find(2 * message)
    assert at > 0
    after = wire[at + 2 * len(message) :]
    assert after.startswith(PING)  # the next owner's set-up, and nothing before it
    assert b"\xff\xff\xfe\x14\x83\x29" in after  # which drives again
    assert wire.count(bytes(24)) == 2  # once in the whole run, and not at its end
    for t_ns, data in chunks:
        at -= len(data)
        if at < 0:
            assert 0 < t_ns - killed <= DECLARED_NS
            break
