"""Which looks at the guards of a run make it write what it keeps in memory."""

import os
import signal
from pathlib import Path

import pytest
from tests.runtime.exec.fakes import following

from haihe.pipelines.incidents import Incidents, Latch
from haihe.pipelines.launch import prepare, run
from haihe.pipelines.recorders import recorder_of
from haihe.runtime.errors import BoardError, RecordError
from haihe.runtime.record.recorder import Recorder
from haihe.runtime.record.recording import Recording
from haihe.runtime.record.ring_recorder import RingRecorder

SECOND = 1_000_000_000


@pytest.fixture
def ring(tmp_path: Path) -> RingRecorder:
    prepared = prepare(following(), "pan-tilt")
    header = prepared.header(1, "virtual time", sim=True)
    made = recorder_of(
        tmp_path / "a.mcap", header, prepared.plan, "none", keep="1s", start_ns=SECOND
    )
    assert isinstance(made, RingRecorder)
    return made


def reasons(ring: RingRecorder) -> list[list[str]]:
    ring.close()
    return [Recording(path).header["ring"]["reasons"] for path in ring.saved]


def test_a_trip_is_told_once_and_again_after_a_reset(ring: RingRecorder) -> None:
    incidents = Incidents(ring)
    for latched, is_safe in [(0, False), (3, True), (9, True), (9, False), (9, False), (12, True)]:
        incidents.look([Latch("neck", latched, is_safe, "e-stop")])
    assert reasons(ring) == [["the guard of neck tripped: e-stop"] * 2]


def test_a_trip_that_was_reset_before_the_look_counts(ring: RingRecorder) -> None:
    incidents = Incidents(ring)
    incidents.look([Latch("neck", 0, False, ""), Latch("arm", 0, False, "")])
    incidents.look([Latch("neck", 2, False, ""), Latch("arm", 0, False, "")])
    assert reasons(ring) == [["the guard of neck tripped"]]


def test_a_guard_at_work_writes_nothing(ring: RingRecorder) -> None:
    incidents = Incidents(ring)
    for _ in range(5):
        incidents.look([Latch("neck", 0, False, "")])
    assert reasons(ring) == []


def test_a_signal_is_heard_at_the_next_look_and_the_handler_is_put_back(
    ring: RingRecorder,
) -> None:
    incidents = Incidents(ring)
    before = signal.getsignal(signal.SIGUSR1)
    with incidents.on_signal():
        os.kill(os.getpid(), signal.SIGUSR1)
        incidents.look([])
        incidents.look([])
    assert signal.getsignal(signal.SIGUSR1) is before
    assert reasons(ring) == [["SIGUSR1"]]


def test_what_recorder_is_made(tmp_path: Path) -> None:
    prepared = prepare(following(), "pan-tilt")
    header = prepared.header(1, "virtual time", sim=True)
    assert recorder_of(None, header, prepared.plan, "none") is None
    whole = recorder_of(tmp_path / "a.mcap", header, prepared.plan, "none", quota="1GB")
    assert isinstance(whole, Recorder)
    whole.close()
    for options in ({"keep": "1s"}, {"quota": "1GB"}):
        (name, value) = next(iter(options.items()))
        with pytest.raises(RecordError) as caught:
            recorder_of(None, header, prepared.plan, "none", **options)  # type: ignore[arg-type]
        assert str(caught.value) == (
            f"{name}={value!r}: nothing is recorded. Say where to: record=FILE (--record)."
        )


def test_a_run_that_never_began_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(BoardError):
        run(following(), unit="no such unit", record=tmp_path / "a.mcap", keep="1s")
    assert list(tmp_path.iterdir()) == []
