"""A world as a process of its own: it serves, and ends with whoever started it."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from haihe.boards.unit import UnitFile, find_unit, load_unit, unit_from_text
from haihe.drivers.camera.world import WorldCamera, WorldCameraOptions
from haihe.drivers.ports.serial import SerialPort
from haihe.pipelines.worlds.pan_tilt import CAMERA
from haihe.pipelines.worlds.process import WorldProcess
from haihe.pipelines.worlds.serve import read_wire
from haihe.runtime.errors import HaiheError
from haihe.runtime.io import Exchange

PING = bytes.fromhex("ffff010201fb")
LIMIT = 3000  # times 10 ms: a hang of the test, no measure of speed


def unit() -> UnitFile:
    return load_unit(find_unit("pan-tilt", None))


def is_alive(pid: int) -> bool:
    """A process that runs; one that is dead and unclaimed does not count."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] != "Z"


def gone(pid: int) -> bool:
    pause = threading.Event()
    return any(not is_alive(pid) or pause.wait(0.01) for _ in range(LIMIT))


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Temporary folders are made here, so that what is left is seen."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


def test_it_serves_bytes_frames_and_the_truth_and_leaves_nothing(temporary: Path) -> None:
    with WorldProcess(unit(), 3, {"ideal": True}) as place:
        port = SerialPort(place.ports["neck"])
        reply = port.exchange(Exchange(PING, 6, 5_000_000_000))
        assert reply.rx[:3] == b"\xff\xff\x01"
        port.close()
        camera = WorldCamera(WorldCameraOptions(place.cameras["front"]))
        camera.open()
        frames = []
        for _ in range(LIMIT):
            found = camera.read(0.01)
            if found is not None:
                frames.append(found)
            if len(frames) == 3:
                break
        camera.close()
        assert {image.camera for image, _ in frames} == {CAMERA}
        stamps = [stamp for _, stamp in frames]
        assert stamps == sorted(set(stamps))
        assert len(stamps) == 3
        pid, folder = place.pid, place.folder
        assert is_alive(pid)
        assert place.truth_names == ["t_ns", "azimuth", "elevation", "error", "pan", "tilt"]
        assert set(place.newest()) == set(place.truth_names)
        place.end()
        times = [row[0] for row in place.truth()]
        assert times == sorted(times)
        assert times
        assert b"".join(data for _, data in read_wire(folder / "neck.wire")) == PING
        place.end()
    assert not is_alive(pid)
    assert not folder.exists()
    assert list(temporary.iterdir()) == []


def serve(folder: Path) -> "subprocess.Popen[bytes]":
    profile = folder / "unit.yaml"
    profile.write_text(unit().text, encoding="utf-8")
    command = [sys.executable, "-m", "haihe.pipelines.worlds.serve", "--unit", str(profile)]
    command += ["--dir", str(folder), "--set", '{"ideal": true}']
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline().startswith(b'{"ports"')
    return process


def test_it_ends_when_its_input_ends(tmp_path: Path) -> None:
    process = serve(tmp_path)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    assert process.wait(60) == 0
    process.stdout.close()
    assert (tmp_path / "truth.bin").stat().st_size > 0  # a folder that is not its own stays


OWNER = """\
import sys
from haihe.boards.unit import find_unit, load_unit
from haihe.pipelines.worlds.process import WorldProcess
place = WorldProcess(load_unit(find_unit("pan-tilt", None)), 0, {"ideal": True})
print(place.pid, place.folder, flush=True)
sys.stdin.read()
"""


def test_it_ends_when_its_owner_is_killed(temporary: Path) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout is not None
    assert owner.stdin is not None
    pid_text, _, folder = owner.stdout.readline().strip().partition(" ")
    pid = int(pid_text)
    assert Path(folder).parent == temporary
    assert is_alive(pid)
    os.kill(owner.pid, signal.SIGKILL)
    owner.wait()
    assert gone(pid)
    owner.stdin.close()
    owner.stdout.close()
    assert list(temporary.iterdir()) == []  # it removed its files: nobody else is left to


def test_a_world_that_does_not_start_is_said_and_leaves_nothing(
    temporary: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    text = unit().text.replace("path: circle", "path: cirkle")
    with pytest.raises(HaiheError) as caught:
        WorldProcess(unit_from_text(text, "unit.yaml"))
    assert str(caught.value) == (
        "unit.yaml:34:11: sim.options.path: found 'cirkle', expected 'circle' or 'eight' or "
        "'rest'. Did you mean 'circle'?"
    )
    assert capfd.readouterr().err == ""  # no traceback of a child: it was never started
    assert list(temporary.iterdir()) == []
