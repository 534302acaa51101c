"""What the recorder writes, the recording gives again."""

from pathlib import Path
from typing import Any, get_args

import msgspec
import numpy as np
import pytest
from tests.runtime.exec.fakes import following

from haihe.pipelines.launch import prepare
from haihe.runtime.errors import RecordError
from haihe.runtime.record.format import SETUP, SETUP_LAYOUT, pack_tail
from haihe.runtime.record.packer import McapPacker
from haihe.runtime.record.recorder import FORMAT, Recorder, environment
from haihe.runtime.record.recording import Recording
from haihe.runtime.record.sink import Frames
from haihe.runtime.types import Detections, Image, Intrinsics, decode

CAMERA = Intrinsics(8, 6, 10.0, 10.0, 3.5, 2.5)
PICTURE = Image(np.arange(144, dtype=np.uint8).reshape(6, 8, 3), CAMERA)


def header(**changes: Any) -> dict[str, Any]:
    return prepare(following(), "pan-tilt").header(7, "virtual time", True) | changes


@pytest.mark.parametrize("frames", get_args(Frames))
def test_everything_comes_back(frames: Frames, tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "sub" / "a.mcap", header(), frames)
    for number in range(1, 4):
        recorder.stream("front.image", number, 100 * number, 100 * number + 15, PICTURE)
    recorder.output("part", 1, 5, Detections.none())
    recorder.keyframe("front", 30, 900, b"state")
    recorder.block("front", SETUP_LAYOUT.pack(SETUP, 0) + pack_tail([], []), 0, 1)
    recorder.block("front", SETUP_LAYOUT.pack(SETUP, 1) + pack_tail([("arm",)], []), 0, 2)
    recorder.note("truth", {"names": ["t_ns"], "rows": [[1]]})
    assert recorder.lost == 0
    recorder.close()
    read = Recording(tmp_path / "sub" / "a.mcap")
    assert (read.complete, read.dropped_bytes, read.firings) == (True, 0, 0)
    assert read.header["seed"] == 7
    assert read.header["format"] == FORMAT
    assert set(environment()) <= set(read.header)
    assert read.header["plan_hash"] == read.plan.hash
    assert [(r.sequence, r.capture_ns, r.delivered_ns) for r in read.streams["front.image"]] == [
        (n, 100 * n, 100 * n + 15) for n in (1, 2, 3)
    ]
    record = read.streams["front.image"][0]
    message, picture = record.message(Image), record.picture()
    if frames == "lossless":
        assert message is not None
        assert message.camera == CAMERA  # type: ignore[attr-defined]
        assert picture.tobytes() == PICTURE.data.tobytes()
    else:
        assert message is None
        assert (picture is None) is (frames == "none")
        assert picture is None or picture.shape == (6, 8, 3)
    assert len(decode(Detections, read.outputs["part"][1])) == 0
    assert read.keyframes == {"front": [(30, b"state")]}
    assert [(r.fixed, r.events) for r in read.lanes["front"]] == [((0,), []), ((1,), [("arm",)])]
    assert read.notes == {"truth": {"names": ["t_ns"], "rows": [[1]]}}


def test_an_unknown_way_to_keep_frames_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordError) as caught:
        Recorder(tmp_path / "a.mcap", {}, "raw")  # type: ignore[arg-type]
    assert str(caught.value) == 'frames=\'raw\': expected "lossless", "jpeg" or "none".'
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_there_is_not_written_over(tmp_path: Path) -> None:
    path = tmp_path / "a.mcap"
    path.write_text("mine")
    with pytest.raises(RecordError, match="File exists"):
        Recorder(path, header())
    assert path.read_text() == "mine"


def test_a_newer_format_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("haihe.runtime.record.recorder.FORMAT", FORMAT + 1)
    path = tmp_path / "a.mcap"
    Recorder(path, header()).close()
    with pytest.raises(RecordError) as caught:
        Recording(path)
    assert str(caught.value) == (
        f"{path}: format {FORMAT + 1}, this haihe reads up to {FORMAT}. Install a newer haihe."
    )


@pytest.mark.parametrize("topic", ["chatter", "camera/lane", "a/run/b", ""])
def test_a_file_of_others_is_refused(topic: str, tmp_path: Path) -> None:
    path = tmp_path / "a.mcap"
    with McapPacker(path) as packer:
        packer.append(packer.add_channel(topic), 0, 0, 0, b"hello")
    with pytest.raises(RecordError) as caught:
        Recording(path)
    assert str(caught.value) == (
        f"{path}: no header of haihe in it. Is it a recording made by haihe?"
    )


def test_the_plan_of_a_header_is_the_plan(tmp_path: Path) -> None:
    plan = prepare(following(), "pan-tilt").plan
    Recorder(tmp_path / "a.mcap", header()).close()
    assert msgspec.to_builtins(Recording(tmp_path / "a.mcap").plan) == msgspec.to_builtins(plan)
