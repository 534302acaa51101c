"""Frames from files: order, rate, stamps, loss, intrinsics, errors; on a clock of its own."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from haihe.drivers.camera import file as module
from haihe.drivers.camera.file import SPEC, FileCamera, FileOptions
from haihe.runtime.errors import DeviceError
from haihe.runtime.types import Image, Intrinsics

MS = 1_000_000
SHADES = [20, 60, 100, 140, 180]


class Clock:
    """The time of the module under test: it passes only by sleeping and by `wait`."""

    def __init__(self) -> None:
        self.t = 5_000 * MS

    def now_ns(self) -> int:
        return self.t

    def sleep_until(self, t: int) -> None:
        self.t = max(self.t, t)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(module, "now_ns", made.now_ns)
    monkeypatch.setattr(module, "sleep_until", made.sleep_until)
    return made


def plain(shade: int, width: int = 32, height: int = 24) -> Any:
    return np.full((height, width, 3), shade, np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images whose names sort otherwise than they were made."""
    made = tmp_path / "images"
    made.mkdir()
    for index in reversed(range(len(SHADES))):
        assert cv2.imwrite(str(made / f"{index:03}.png"), plain(SHADES[index]))
    (made / "notes.txt").write_text("no image")
    return made


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "road.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 20.0, (32, 24))
    assert writer.isOpened()
    for shade in SHADES:
        writer.write(plain(shade))
    writer.release()
    return path


def opened(path: Path, **options: Any) -> FileCamera:
    camera = SPEC.make(FileOptions(path, **options))
    assert isinstance(camera, FileCamera)
    camera.open()
    return camera


def shade(image: Image | None) -> int:
    """Which of the shades a picture shows; JPEG moves it by a little."""
    assert image is not None
    mean = float(image.data.mean())
    nearest = min(SHADES, key=lambda s: abs(s - mean))
    assert abs(nearest - mean) < 3
    return nearest


def read_all(camera: FileCamera) -> list[tuple[int, int]]:
    """(shade, stamp) of every frame up to the end."""
    frames: list[tuple[int, int]] = []
    while len(frames) < 100:
        try:
            found = camera.read(1.0)
        except EOFError:
            return frames
        assert found is not None
        frames.append((shade(found[0]), found[1]))
    raise AssertionError("it never ends")


@pytest.mark.parametrize("kind", ["folder", "video"])
def test_every_frame_comes_in_order_on_the_frame_grid(
    kind: str, clock: Clock, request: pytest.FixtureRequest
) -> None:
    start = clock.t
    camera = opened(request.getfixturevalue(kind), latency_ms=7.0)
    period = (100 if kind == "folder" else 50) * MS  # a folder's default, the video's own rate
    assert camera.period_ns == period
    assert read_all(camera) == [(s, start + i * period) for i, s in enumerate(SHADES)]
    assert camera.late == 0
    assert clock.t == start + 5 * period + 7 * MS  # the end shows when the sixth was due
    camera.close()
    camera.close()


@pytest.mark.parametrize("kind", ["folder", "video"])
def test_fps_is_what_is_asked_for(kind: str, clock: Clock, request: pytest.FixtureRequest) -> None:
    camera = opened(request.getfixturevalue(kind), fps=40.0)
    stamps = [stamp for _, stamp in read_all(camera)]
    assert [b - a for a, b in pairwise(stamps)] == [25 * MS] * 4
    camera.close()


@pytest.mark.parametrize("kind", ["folder", "video"])
def test_limit_ends_it(kind: str, clock: Clock, request: pytest.FixtureRequest) -> None:
    camera = opened(request.getfixturevalue(kind), limit=3)
    assert [s for s, _ in read_all(camera)] == SHADES[:3]
    with pytest.raises(EOFError):
        camera.capture(3, 0)
    camera.close()


@pytest.mark.parametrize("kind", ["folder", "video"])
def test_loop_begins_again_and_limit_ends_that(
    kind: str, clock: Clock, request: pytest.FixtureRequest
) -> None:
    camera = opened(request.getfixturevalue(kind), loop=True, limit=13)
    assert [s for s, _ in read_all(camera)] == (SHADES * 3)[:13]
    camera.close()


def test_one_image_is_one_frame_or_for_ever(folder: Path, clock: Clock) -> None:
    camera = opened(folder / "002.png")
    assert [s for s, _ in read_all(camera)] == [SHADES[2]]
    camera = opened(folder / "002.png", loop=True, limit=4)
    assert [s for s, _ in read_all(camera)] == [SHADES[2]] * 4


@pytest.mark.parametrize("kind", ["folder", "video"])
def test_a_late_reader_gets_the_newest_and_the_others_are_counted(
    kind: str, clock: Clock, request: pytest.FixtureRequest
) -> None:
    start = clock.t
    camera = opened(request.getfixturevalue(kind), fps=20.0)
    first = camera.read(1.0)
    clock.t = start + 3 * 50 * MS + 1
    third = camera.read(1.0)
    assert first is not None
    assert third is not None
    assert (shade(first[0]), shade(third[0])) == (SHADES[0], SHADES[3])
    assert third[1] == start + 3 * 50 * MS
    assert camera.late == 2
    assert [s for s, _ in read_all(camera)] == SHADES[4:]
    assert camera.late == 2
    camera.close()


def test_a_frame_that_is_not_due_within_the_time_out_is_not_waited_for(
    folder: Path, clock: Clock
) -> None:
    start = clock.t
    camera = opened(folder, fps=2.0)
    assert camera.read(0.1) is not None
    assert camera.read(0.1) is None
    assert clock.t == start + 100 * MS
    for _ in range(3):
        assert camera.read(0.1) is None
    found = camera.read(0.1)
    assert found is not None
    assert found[1] == start + 500 * MS
    assert camera.late == 0


def test_virtual_time_takes_frames_by_number(video: Path) -> None:
    camera = opened(video, latency_ms=12.5)
    for index in range(5):
        image, latency = camera.capture(index, index * 50 * MS)
        assert (shade(image), latency) == (SHADES[index], 12_500_000)
    with pytest.raises(EOFError):
        camera.capture(5, 0)
    camera.close()


def test_intrinsics_follow_the_size(folder: Path, clock: Clock) -> None:
    given = Intrinsics(64, 48, 70.0, 71.0, 31.5, 23.5, 0.1, 0.02)
    camera = opened(folder, intrinsics=given)
    image, _ = camera.capture(0, 0)
    assert image is not None
    # pixel middles are whole numbers: the middle of 64 columns is 31.5, of 32 it is 15.5
    assert image.camera == Intrinsics(32, 24, 35.0, 35.5, 15.5, 11.5, 0.1, 0.02)
    ends = given.bearing(63.5, 24.0), image.camera.bearing(31.5, 11.75)
    assert ends[0] == pytest.approx(ends[1])
    camera = opened(folder, intrinsics=given, size=(64, 48))
    image, _ = camera.capture(0, 0)
    assert image is not None
    assert image.camera is given
    assert image.data.shape == (48, 64, 3)
    camera = opened(folder)
    image, _ = camera.capture(0, 0)
    assert image is not None
    assert image.camera is None


def refusal(path: Path) -> str:
    camera = SPEC.make(FileOptions(path))
    with pytest.raises(DeviceError) as caught:
        camera.open()
    return str(caught.value)


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.avi") == (
        f"camera.file: {tmp_path}/none.avi does not exist. Check the path."
    )
    assert refusal(tmp_path / "none.png") == (
        f"camera.file: {tmp_path}/none.png does not exist. Check the path."
    )


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    assert refusal(tmp_path) == (
        f"camera.file: {tmp_path} holds no images (.bmp, .jpeg, .jpg, .pgm, .png, .ppm, .tif, "
        ".tiff, .webp). Check the path."
    )


def test_what_is_no_video_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "text.avi"
    path.write_text("not a video")
    assert refusal(path) == f"camera.file: {path} is no video that this OpenCV can decode."


def test_an_image_that_cannot_be_decoded_is_named(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "broken.png"
    path.write_text("not an image")
    camera = opened(path)
    with pytest.raises(DeviceError) as caught:
        camera.read(1.0)
    assert str(caught.value) == f"camera.file: {path} cannot be decoded as an image."


def test_a_video_cut_short_gives_what_it_holds_or_is_refused(video: Path, clock: Clock) -> None:
    data = video.read_bytes()
    video.write_bytes(data[: len(data) * 6 // 10])
    camera = SPEC.make(FileOptions(video))
    try:
        camera.open()
    except DeviceError:
        return  # this OpenCV wants the index at its end
    found = [s for s, _ in read_all(camera)]
    assert found == SHADES[: len(found)]
    assert len(found) < len(SHADES)
    camera.close()


def test_after_close_it_does_not_read(video: Path, clock: Clock) -> None:
    camera = opened(video)
    camera.close()
    with pytest.raises(DeviceError) as caught:
        camera.read(1.0)
    assert str(caught.value) == f"camera.file: {video} is closed."


def test_its_timing_is_exact_and_a_video_s_own_where_none_is_asked_for(video: Path) -> None:
    asked = SPEC.timing(FileOptions(video, fps=50, latency_ms=15))
    assert asked is not None
    assert (asked.period_min_ns, asked.period_max_ns) == (20_000_000, 20_000_000)
    assert asked.latency_ns == (15_000_000, 15_000_000)
    own, camera = SPEC.timing(FileOptions(video)), opened(video)
    assert own is not None
    assert own.period_min_ns == own.period_max_ns == camera.period_ns
    camera.close()
