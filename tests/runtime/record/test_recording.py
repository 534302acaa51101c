"""A recording by its devices: buses by role, what was sent."""

from pathlib import Path

import pytest
from tests.runtime.exec.fakes import following

from haihe.pipelines.launch import simulate
from haihe.runtime.errors import RecordError
from haihe.runtime.record.recording import Recording


def test_what_was_sent_is_what_the_emulator_received(tmp_path: Path) -> None:
    path = tmp_path / "a.mcap"
    run = simulate(following(), "1s", unit="pan-tilt", world={"ideal": True}, record=path)
    recording = Recording(path)
    assert recording.sent_bytes("neck") == b"".join(data for _, data in run.world.bus.received)
    assert recording.find_bus("neck") == ("every-20ms", 0)
    assert recording.firings == sum(ln.firing for ln in run.executor.assembly.lanes)
    with pytest.raises(RecordError) as caught:
        recording.sent_bytes("arm")
    assert str(caught.value) == f"{path}: no device 'arm' in it."


def test_what_is_no_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"none.mcap: cannot open: No such file"):
        Recording(tmp_path / "none.mcap")
