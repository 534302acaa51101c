"""The V4L2 camera against a fake of OpenCV's capture: its contract, not the hardware."""

from typing import Any

import cv2
import numpy as np
import pytest

from haihe.drivers.camera import v4l2 as module
from haihe.drivers.camera.v4l2 import SPEC, V4l2Camera, V4l2Options
from haihe.runtime.errors import DeviceError
from haihe.runtime.types import Intrinsics

MS = 1_000_000
NOW = 90_000 * MS
CAMERA = Intrinsics(4, 2, 5.0, 5.0, 1.5, 0.5)


class Bench:
    """The captures that were made, what the next ones can do, and the time."""

    def __init__(self) -> None:
        self.captures: list[Capture] = []
        self.openings: list[bool] = []  # of the next captures; afterwards they open
        self.stamp_ms = 0.0
        self.slept: list[float] = []

    def make(self, device: Any, api: int) -> "Capture":
        capture = Capture(self, device, api, self.openings.pop(0) if self.openings else True)
        self.captures.append(capture)
        return capture


class Capture:
    """What `cv2.VideoCapture` is to the driver."""

    def __init__(self, bench: Bench, device: Any, api: int, opens: bool) -> None:
        self.bench, self.device, self.api, self.opens = bench, device, api, opens
        self.settings: list[tuple[int, float]] = []
        self.fails = self.spoilt = self.released = False

    def isOpened(self) -> bool:
        return self.opens

    def set(self, key: int, value: float) -> bool:
        self.settings.append((key, value))
        return True

    def get(self, key: int) -> float:
        assert key == cv2.CAP_PROP_POS_MSEC
        return self.bench.stamp_ms

    def grab(self) -> bool:
        return not self.fails

    def retrieve(self) -> tuple[bool, Any]:
        return not self.spoilt, None if self.spoilt else np.zeros((2, 4, 3), np.uint8)

    def release(self) -> None:
        self.released = True


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    made = Bench()
    monkeypatch.setattr(cv2, "VideoCapture", made.make)
    monkeypatch.setattr(module, "now_ns", lambda: NOW)
    monkeypatch.setattr(module, "sleep", made.slept.append)
    return made


def opened(**options: Any) -> V4l2Camera:
    camera = SPEC.make(V4l2Options(**options))
    assert isinstance(camera, V4l2Camera)
    camera.open()
    return camera


def test_it_asks_for_what_the_profile_says_format_first(bench: Bench) -> None:
    opened(device="2", size=(640, 480), fps=30.0, format="MJPG")
    (capture,) = bench.captures
    assert (capture.device, capture.api) == (2, cv2.CAP_V4L2)
    assert capture.settings == [
        (cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG")),
        (cv2.CAP_PROP_FRAME_WIDTH, 640),
        (cv2.CAP_PROP_FRAME_HEIGHT, 480),
        (cv2.CAP_PROP_FPS, 30.0),
        (cv2.CAP_PROP_BUFFERSIZE, 1),
    ]


def test_a_device_may_be_a_path(bench: Bench) -> None:
    opened(device="/dev/v4l/by-id/cam")
    (capture,) = bench.captures
    assert capture.device == "/dev/v4l/by-id/cam"
    assert capture.settings == [(cv2.CAP_PROP_BUFFERSIZE, 1)]


@pytest.mark.parametrize(
    ("kernel_ms", "stamp"),
    [
        (NOW / MS - 12.0, NOW - 12 * MS),
        (NOW / MS, NOW),
        (NOW / MS - 999.0, NOW - 999 * MS),
        (0.0, NOW),  # this backend gives none
        (NOW / MS + 1.0, NOW),  # of another clock
        (NOW / MS - 1000.0, NOW),  # too old to be this frame's
        (1.6e12, NOW),  # wall time
        (-1.0, NOW),
    ],
)
def test_the_kernels_stamp_is_taken_when_it_is_plausible(
    bench: Bench, kernel_ms: float, stamp: int
) -> None:
    camera = opened(intrinsics=CAMERA)
    bench.stamp_ms = kernel_ms
    found = camera.read(0.1)
    assert found is not None
    assert found[1] == stamp
    assert found[0].data.shape == (2, 4, 3)
    assert found[0].camera is CAMERA
    assert camera.failures == 0


def test_after_a_failure_it_is_opened_again(bench: Bench) -> None:
    camera = opened()
    bench.captures[0].fails = True
    bench.openings = [False, True]  # not back yet at the first try
    assert camera.read(0.1) is None
    assert (camera.failures, len(bench.captures)) == (1, 2)
    assert bench.captures[0].released
    assert bench.captures[1].released  # what did not open is let go
    assert camera.read(0.1) is None
    assert (camera.failures, len(bench.captures)) == (2, 3)
    assert camera.read(0.1) is not None
    assert camera.failures == 2
    assert bench.slept == [1.0, 1.0]


def test_a_frame_that_cannot_be_decoded_is_counted_and_left_out(bench: Bench) -> None:
    camera = opened()
    bench.captures[0].spoilt = True
    assert camera.read(0.1) is None
    assert camera.failures == 1
    assert len(bench.captures) == 1


def test_close_releases_once_and_may_be_repeated(bench: Bench) -> None:
    camera = opened()
    camera.close()
    camera.close()
    assert bench.captures[0].released


def test_after_close_it_does_not_open_again(bench: Bench) -> None:
    camera = opened()
    camera.close()
    assert camera.read(0.1) is None
    assert len(bench.captures) == 1
    assert bench.slept == []


def test_a_camera_that_is_not_there_is_named_with_what_to_look_at() -> None:
    with pytest.raises(DeviceError) as caught:
        SPEC.make(V4l2Options("/dev/video99")).open()
    assert str(caught.value) == (
        "camera.v4l2: /dev/video99 cannot be opened. Is it there (ls /dev/video*), may you read "
        "it (group video), is another program using it?"
    )


def test_its_timing_is_the_rate_asked_for_and_the_latency_that_was_measured() -> None:
    timing = SPEC.timing(V4l2Options(fps=50, latency_ms=(18, 26)))
    assert timing is not None
    assert (timing.period_min_ns, timing.period_max_ns) == (19_960_000, 20_040_000)
    assert timing.latency_ns == (18 * MS, 26 * MS)
    unmeasured = SPEC.timing(V4l2Options(fps=50))
    assert unmeasured is not None
    assert unmeasured.latency_ns is None
    assert SPEC.timing(V4l2Options()) is None
    with pytest.raises(DeviceError) as caught:
        V4l2Options(latency_ms=(26, 18))
    assert str(caught.value) == (
        "camera.v4l2: latency_ms [26, 18]: expected the least and the most, such as [18, 26]. "
        "Correct the options."
    )
