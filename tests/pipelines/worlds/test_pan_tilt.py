"""The pan-tilt world: its truth, its ideal detections and its plants agree."""

import math
from typing import Any

import numpy as np
import pytest

from haihe.boards.unit import find_unit, load_unit
from haihe.pipelines.nodes.pursue import along_ray
from haihe.pipelines.worlds.ideal import ideal_detector, write_truth
from haihe.pipelines.worlds.pan_tilt import CAMERA, PanTiltWorld, angle_between
from haihe.pipelines.worlds.serve import make_world
from haihe.runtime.types import Detections, Image

MS = 1_000_000
UNIT = load_unit(find_unit("pan-tilt", None))


def world(seed: int = 1, **options: Any) -> PanTiltWorld:
    made = make_world(UNIT, seed, {"ideal": True, "noise_px": 0.0, **options})
    assert isinstance(made, PanTiltWorld)
    return made


def point(made: PanTiltWorld, pan: float, tilt: float) -> None:
    for name, angle in (("pan", pan), ("tilt", tilt)):
        made.plants[name]._x = made.plants[name]._input = angle


@pytest.mark.parametrize("path", ["circle", "eight", "rest"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_aimed_at_the_part_the_error_is_zero(path: str, seed: int) -> None:
    made = world(seed, path=path)
    for t in range(0, 4000 * MS, 333 * MS):
        truth = made.truth(t)
        point(made, truth["azimuth"], truth["elevation"])
        now = made.truth(t)
        assert now["error"] == pytest.approx(0.0, abs=1e-9)
        assert (now["pan"], now["tilt"]) == (truth["azimuth"], truth["elevation"])
        point(made, truth["azimuth"], truth["elevation"] + 0.02)
        assert made.truth(t)["error"] == pytest.approx(0.02, abs=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_ideal_detections_agree_with_the_truth(seed: int) -> None:
    made = world(seed, path="eight")
    found = 0
    for index in range(60):
        t = index * 67 * MS
        truth = made.truth(t)
        point(made, 0.8 * truth["azimuth"], 0.7 * truth["elevation"])
        truth = made.truth(t)
        image, latency = made.camera.capture(index, t)
        assert image is not None
        assert latency == 15 * MS
        parts: Detections = ideal_detector(image)
        for part in parts:
            found += 1
            seen = along_ray((truth["pan"], truth["tilt"]), part.bearing)
            there = truth["azimuth"], truth["elevation"]
            assert angle_between(seen, there) < 1e-5
    assert found == 60


def test_a_part_out_of_view_is_not_seen() -> None:
    made = world(path="rest")
    made.truth(0)
    for pan in (1.4, -1.4, 3.0):
        point(made, pan, 0.0)
        image, _ = made.camera.capture(0, 0)
        assert image is not None
        assert len(ideal_detector(image)) == 0


def test_drops_are_frames_that_do_not_come() -> None:
    made = world(drops=0.3)
    frames = [made.camera.capture(i, i * 33 * MS)[0] for i in range(300)]
    assert 60 < frames.count(None) < 120


def test_a_seed_is_a_world() -> None:
    def frames(seed: int) -> list[bytes]:
        made = world(seed, noise_px=0.7)
        images = (made.camera.capture(i, i * 33 * MS)[0] for i in range(30))
        return [image.data.tobytes() for image in images if image is not None]

    assert frames(4) == frames(4)
    assert frames(4) != frames(5)


def test_the_circle_has_its_radius_and_its_period() -> None:
    made = world(path="circle", period_s=2.0, radius_deg=20.0)
    first = made.place(0)
    assert made.place(2000 * MS)[:2] == pytest.approx(first[:2], abs=1e-6)
    assert made.place(1000 * MS)[:2] == pytest.approx((-first[0], -first[1]), abs=1e-6)
    for t in range(0, 2000 * MS, 171 * MS):
        y, z, _ = made.place(t)
        assert math.atan2(math.hypot(y, z), 500.0) == pytest.approx(math.radians(20.0))


def test_boxes_go_through_a_frame_unchanged() -> None:
    boxes = np.array([[1.5, 2.25, 30.0, 40.5], [0.0, 0.0, 5.0, 5.0]], np.float32)
    parts: Detections = ideal_detector(Image(write_truth(320, boxes), CAMERA), "nut")
    assert parts.boxes.tolist() == boxes.tolist()
    assert [part.label for part in parts] == ["nut", "nut"]
    assert parts.camera is CAMERA


def test_angles_between_directions() -> None:
    assert angle_between((0.3, 0.0), (-0.2, 0.0)) == pytest.approx(0.5)
    assert angle_between((1.0, math.pi / 2), (-1.0, math.pi / 2)) == pytest.approx(0.0, abs=1e-9)
    assert angle_between((0.0, 0.0), (math.pi, 0.0)) == pytest.approx(math.pi)
