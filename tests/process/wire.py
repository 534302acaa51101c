"""An independent look at what an emulated servo bus received: frames by time, parsed here."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from haihe.pipelines.worlds.serve import read_wire

HERE = Path(__file__).parent
TORQUE, GOAL = 40, 42


class Write(NamedTuple):
    """One register write to one servo, by write or sync write."""

    t_ns: int
    servo: int
    address: int
    data: bytes


MARK = "HAIHE_TEST_RUN"  # in the environment of a run and of all that it starts


def start(
    out: Path, mark: dict[str, str] | None = None, **options: Any
) -> "subprocess.Popen[bytes]":
    """Start live_app."""
    command = [sys.executable, str(HERE / "live_app.py"), "--out", str(out)]
    for key, value in options.items():
        command += [f"--{key}"] if value is True else [f"--{key}", str(value)]
    environment = os.environ | (mark or {})
    return subprocess.Popen(command, stderr=subprocess.PIPE, env=environment)


def finish(process: "subprocess.Popen[bytes]", out: Path) -> dict[str, Any]:
    """Wait for it; give its result."""
    _, errors = process.communicate(timeout=180)
    assert process.returncode == 0, errors.decode()
    result: dict[str, Any] = json.loads((out / "result.json").read_text())
    return result


def live(out: Path, **options: Any) -> dict[str, Any]:
    """A whole live run."""
    return finish(start(out, **options), out)


def received(out: Path) -> bytes:
    """Every byte that the emulator received."""
    return b"".join(data for _, data in read_wire(out / "neck.wire"))


def writes(out: Path) -> list[Write]:
    """Every register write on the wire, in order."""
    found: list[Write] = []
    for t_ns, data in read_wire(out / "neck.wire"):
        at = 0
        while at < len(data):
            assert data[at : at + 2] == b"\xff\xff", data.hex()
            servo, size, code = data[at + 2 : at + 5]
            body = data[at + 5 : at + 3 + size]
            assert (~(servo + size + code + sum(body)) & 0xFF) == data[at + 3 + size]
            if code == 0x03:
                found.append(Write(t_ns, servo, body[0], body[1:]))
            elif code == 0x83:
                address, width = body[0], body[1]
                for i in range(2, len(body), width + 1):
                    found.append(Write(t_ns, body[i], address, body[i + 1 : i + 1 + width]))
            at += size + 4
    return found


def replay_in_process(mode: str, *recordings: Path, hash_seed: int) -> list[dict[str, Any]]:
    """Replay in a process of its own, with another hash seed."""
    environment = os.environ | {"PYTHONHASHSEED": str(hash_seed)}
    command = [sys.executable, str(HERE / "replay_app.py"), mode, *map(str, recordings)]
    done = subprocess.run(
        command, env=environment, capture_output=True, timeout=300, check=False, cwd=HERE
    )
    assert done.returncode == 0, done.stderr.decode()
    return [json.loads(line) for line in done.stdout.splitlines()]
