import math

import numpy as np
import pytest

from haihe.models.training.parts import CLASSES, make_shape
from haihe.models.training.pinhole import (
    HEAD_CAMERA,
    Pinhole,
    camera_axes,
    plane_projection,
    project,
    turn,
)
from haihe.models.training.render import TableView


@pytest.fixture(scope="module")
def view() -> TableView:
    return TableView(3)


def test_equal_seeds_give_equal_bytes(view: TableView) -> None:
    again = TableView(3)
    pose = (0.21, -0.1, 60.0, -30.0, 0.7)
    assert view.render(*pose).tobytes() == again.render(*pose).tobytes()
    assert view.render(*pose).tobytes() == view.render(*pose).tobytes()
    assert TableView(4).render(*pose).tobytes() != view.render(*pose).tobytes()


def test_frame_number_changes_only_the_noise(view: TableView) -> None:
    first = view.render(0.1, 0.1, 50.0, 50.0, 0.0, frame=0).astype(int)
    others = [view.render(0.1, 0.1, 50.0, 50.0, 0.0, frame=i).astype(int) for i in range(1, 6)]
    assert any((first != other).any() for other in others)
    assert max(np.abs(first - other).max() for other in others) < 20


def test_picture_has_the_camera_size() -> None:
    small = Pinhole(160, 120, 140.0, 140.0, 79.5, 59.5)
    picture = TableView(1, camera=small).render(0.0, 0.0, 0.0, 0.0, 0.0)
    assert picture.shape == (120, 160, 3)
    assert picture.dtype == np.uint8


@pytest.mark.parametrize("pan", [-0.4, 0.0, 0.3])
@pytest.mark.parametrize("tilt", [-0.3, 0.0, 0.25])
@pytest.mark.parametrize("part", ["washer", "nut"])
def test_box_middle_is_the_projected_truth_point(pan: float, tilt: float, part: str) -> None:
    view = TableView(5, part=part)
    # A point near the middle of the picture: aim, then look 0.08 rad beside it.
    y, z = 500 * math.tan(pan), 500 / math.cos(pan) * math.tan(tilt)
    for angle in (0.0, 0.4, 2.0):
        truth = view.truth(pan + 0.08, tilt - 0.05, y, z, angle)
        middle = (truth.box[:2] + truth.box[2:]) / 2
        assert truth.inside
        assert np.abs(middle - truth.center).max() < 1.5


def test_aimed_part_is_centred(view: TableView) -> None:
    for y, z in ((0.0, 0.0), (160.0, 0.0), (-90.0, 140.0), (30.0, -170.0)):
        pan, tilt = view.aim(y, z)
        truth = view.truth(pan, tilt, y, z, 0.3)
        np.testing.assert_allclose(truth.center, (HEAD_CAMERA.cx, HEAD_CAMERA.cy), atol=1e-6)
        assert truth.bearing_pan == pytest.approx(pan)
        assert truth.bearing_tilt == pytest.approx(tilt)


def test_left_is_left_and_up_is_up(view: TableView) -> None:
    assert view.truth(0.0, 0.0, 50.0, 0.0, 0.0).center[0] < HEAD_CAMERA.cx
    assert view.truth(0.0, 0.0, 0.0, 50.0, 0.0).center[1] < HEAD_CAMERA.cy
    np.testing.assert_allclose(
        camera_axes(0.5, 0.3)[:, 0],
        [math.cos(0.3) * math.cos(0.5), math.cos(0.3) * math.sin(0.5), math.sin(0.3)],
    )


def test_positive_angle_turns_counter_clockwise_as_seen() -> None:
    point = turn(np.array([[10.0, 0.0]]), 0.0, 0.0, math.pi / 2)
    pixel = project(plane_projection(HEAD_CAMERA, 0.0, 0.0, 0.5), point, 0.0)[0]
    assert pixel[1] < HEAD_CAMERA.cy - 5


@pytest.mark.parametrize("part", CLASSES)
def test_pixels_change_where_the_truth_says(part: str) -> None:
    view = TableView(8, part=part, resting=0, noise=0.0)
    empty = view.render(0.1, 0.0, 5000.0, 0.0, 0.0).astype(int)
    seen = view.render(0.1, 0.0, 40.0, 20.0, 0.9).astype(int)
    changed = np.abs(seen - empty).max(axis=2) > 25
    x1, y1, x2, y2 = view.truth(0.1, 0.0, 40.0, 20.0, 0.9).box
    rows, columns = np.nonzero(changed)
    # The part fills its box (a shadow may reach beyond, a faint edge may fall short).
    assert columns.min() < x1 + 4
    assert columns.max() > x2 - 4
    assert rows.min() < y1 + 4
    assert rows.max() > y2 - 4
    inside = changed[round(y1) : round(y2) + 1, round(x1) : round(x2) + 1]
    assert inside.sum() > 0.5 * changed.sum()


def test_part_behind_the_camera_is_not_drawn(view: TableView) -> None:
    assert view.render(2.5, 0.0, 0.0, 0.0, 0.0).shape == (240, 320, 3)
    assert np.isnan(view.truth(2.5, 0.0, 0.0, 0.0, 0.0).box).all()


def test_resting_parts_leave_the_ring_free() -> None:
    view = TableView(11, resting=("nut", "bolt"), keep_free_mm=(0.0, 250.0))
    assert [truth.label for truth in view.resting_truth(0.0, 0.0)] == ["nut", "bolt"]
    for part in view.resting:
        assert math.hypot(part.a_mm, part.b_mm) > 250.0


def test_shapes_are_centred_and_have_the_asked_size() -> None:
    rng = np.random.default_rng(0)
    for name in CLASSES:
        outline = make_shape(name, 50.0, rng).outline
        low, high = outline.min(axis=0), outline.max(axis=0)
        np.testing.assert_allclose(low + high, 0.0, atol=1e-9)
        assert max(high - low) == pytest.approx(50.0 * (2 / math.sqrt(3) if name == "nut" else 1))
