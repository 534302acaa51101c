"""Messages: bytes and back, detections, and the bearing of a pixel."""

import inspect
import math
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from haihe.runtime import types
from haihe.runtime.types import (
    F64,
    Condition,
    Detection,
    Detections,
    GoalStatus,
    Image,
    Intrinsics,
    JointCommand,
    JointState,
    Message,
    Reading,
    decode,
    encode,
)

FLOATS = st.floats(allow_nan=True, allow_infinity=True)
NAMES = st.text(max_size=8)


def arrays(dtype: Any, shape: Any) -> st.SearchStrategy[np.ndarray]:
    return hnp.arrays(dtype, shape)


@st.composite
def cameras(draw):
    length = st.floats(100.0, 2000.0)
    k1, k2 = draw(st.floats(-0.3, 0.3)), draw(st.floats(-0.05, 0.05))
    return Intrinsics(640, 480, draw(length), draw(length), 320.0, 240.0, k1, k2)


@st.composite
def joint_states(draw):
    count = draw(st.integers(0, 4))
    a, b, c, d, e = (draw(arrays(np.float64, count)) for _ in range(5))
    names = tuple(draw(st.lists(NAMES, min_size=count, max_size=count)))
    return JointState(names, a, b, c, d, e, draw(arrays(np.bool_, count)))


@st.composite
def detections(draw):
    count = draw(st.integers(0, 5))
    return Detections(
        draw(arrays(np.float32, (count, 4))),
        draw(arrays(np.float32, count)),
        draw(arrays(np.int64, count)),
        tuple(draw(st.lists(NAMES, max_size=3))),
        draw(st.none() | cameras()),
    )


IMAGES = st.builds(
    Image,
    arrays(np.uint8, st.tuples(st.integers(0, 3), st.integers(0, 4), st.integers(1, 3))),
    st.none() | cameras(),
)
MESSAGES = {
    Image: IMAGES,
    Detection: st.builds(
        Detection, st.tuples(FLOATS, FLOATS, FLOATS, FLOATS), FLOATS, NAMES, st.none() | cameras()
    ),
    Detections: detections(),
    JointCommand: st.builds(JointCommand, arrays(np.float64, st.integers(0, 6))),
    JointState: joint_states(),
    Reading: st.builds(Reading, FLOATS, NAMES),
    Condition: st.builds(Condition, st.booleans(), NAMES),
    GoalStatus: st.builds(
        GoalStatus,
        st.sampled_from(["running", "succeeded", "failed"]),
        st.floats(0.0, 1.0),
        NAMES,
    ),
}


def same(one: object, other: object) -> bool:
    if isinstance(one, np.ndarray):
        return (
            isinstance(other, np.ndarray)
            and one.dtype == other.dtype
            and one.shape == other.shape
            and one.tobytes() == other.tobytes()
        )
    if isinstance(one, msgspec.Struct):
        return type(one) is type(other) and all(
            same(getattr(one, name), getattr(other, name)) for name in one.__struct_fields__
        )
    if isinstance(one, tuple):
        return (
            isinstance(other, tuple)
            and len(one) == len(other)
            and all(same(a, b) for a, b in zip(one, other, strict=True))
        )
    if isinstance(one, float) and math.isnan(one):
        return isinstance(other, float) and math.isnan(other)
    return type(one) is type(other) and one == other


def test_every_message_is_tested():
    defined = {
        kind
        for _, kind in inspect.getmembers(types, inspect.isclass)
        if issubclass(kind, Message) and kind is not Message
    }
    assert defined == set(MESSAGES), "add a strategy for the new message"


@pytest.mark.parametrize("kind", MESSAGES, ids=lambda kind: kind.__name__)
@given(data=st.data())
def test_bytes_and_back(kind, data):
    message = data.draw(MESSAGES[kind])
    back = decode(kind, encode(message))
    assert same(message, back)
    assert encode(back) == encode(message)
    for name in back.__struct_fields__:
        value = getattr(back, name)
        assert not (isinstance(value, np.ndarray) and value.flags.writeable and value.size)


class Own(Message):
    """A message of a user's."""

    matrix: F64
    image: Image | None = None
    scalar: float = 0.0
    maybe: F64 | None = None
    nested: tuple[Reading, ...] = ()


def test_a_users_message_with_views_scalars_and_messages():
    message = Own(
        np.arange(24.0).reshape(4, 6)[::2, ::-3].T,  # neither contiguous nor ordered
        Image(np.zeros((2, 2, 3), np.uint8)),
        np.float32(0.5),  # type: ignore[arg-type]
        np.array(3.0),
        (Reading(1.0), Reading(np.float64(2.0))),
    )
    back = decode(Own, encode(message))
    assert back.matrix.tolist() == message.matrix.tolist()
    assert back.maybe is not None
    assert (back.scalar, back.maybe.shape, back.nested[1].value) == (0.5, (), 2.0)
    assert back.image is not None
    assert back.image.data.shape == (2, 2, 3)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (object(), "a message holds a object: messages hold scalars and arrays"),
        (
            np.array([object()]),
            "a message holds an array of object: arrays hold plain numbers",
        ),
        (
            np.zeros(1, [("a", "i4")]),
            "a message holds an array of [('a', '<i4')]: arrays hold plain numbers",
        ),
    ],
)
def test_what_has_no_bytes_is_refused(value, text):
    with pytest.raises(TypeError) as caught:
        encode(Own(value))
    assert str(caught.value) == text


# --- detections -----------------------------------------------------------------------------------


def some() -> Detections:
    boxes = np.array([[0, 0, 10, 20], [5, 5, 6, 6], [1, 2, 3, 4]], np.float32)
    return Detections(
        boxes, np.array([0.9, 0.8, 0.7], np.float32), np.array([1, 0, 7]), ("cat", "dog")
    )


def test_best_is_the_first_of_its_label():
    assert some().best().label == "dog"
    assert some().best().score == pytest.approx(0.9)
    assert some().best("cat").box == (5.0, 5.0, 6.0, 6.0)
    assert some().best("7").score == pytest.approx(0.7)  # a class without a label
    assert [part.label for part in some()] == ["dog", "cat", "7"]
    assert (len(some()), some()[-1].label, some()[0].centre) == (3, "7", (5.0, 10.0))


def test_best_of_none_says_what_to_do():
    with pytest.raises(ValueError, match=r"best\('cow'\) of 3 detections: none\. Test len\(\)"):
        some().best("cow")
    with pytest.raises(ValueError, match=r"best\(''\) of 0 detections: none\. Test len\(\)"):
        Detections.none().best()


def test_bearing_without_intrinsics_says_what_to_do():
    with pytest.raises(ValueError, match=r"no camera intrinsics\. Give the camera a calibration"):
        _ = some().best().bearing


def test_towards_turns_by_gain_of_the_bearing():
    camera = Intrinsics(640, 480, 500.0, 500.0, 320.0, 240.0)
    target = Detection((0.0, 0.0, 140.0, 480.0), 1.0, "part", camera)  # centre 70, 240: 250 left
    zeros = np.zeros(2)
    neck = JointState(("tilt", "pan"), zeros, zeros, zeros, zeros, zeros, zeros == 0.0)
    wanted = neck.towards(target, 0.5).position
    assert wanted.tolist() == pytest.approx([0.0, 0.5 * math.atan2(250.0, 500.0)])
    assert neck.position.tolist() == [0.0, 0.0], "the state must not change"
    assert neck.hold().position is not neck.position


def test_image_size():
    image = Image(np.zeros((48, 64, 3), np.uint8))
    assert (image.width, image.height) == (64, 48)


# --- bearing --------------------------------------------------------------------------------------


@given(
    cameras(),
    st.floats(-0.6, 0.6),
    st.floats(-0.45, 0.45),
)
def test_the_ray_of_a_distorted_pixel_is_found_again(camera, left, up):
    """Brown's model forward, in the test; the inverse under test."""
    r2 = left * left + up * up
    slope = 1.0 + r2 * (3.0 * camera.k1 + 5.0 * camera.k2 * r2)
    scale = 1.0 + r2 * (camera.k1 + r2 * camera.k2)
    u, v = camera.cx - camera.fx * left * scale, camera.cy - camera.fy * up * scale
    if slope < 0.1:  # near the fold the inverse is ill-conditioned
        return
    assert camera.ray(u, v) == pytest.approx((left, up), abs=1e-9)
    azimuth, elevation = camera.bearing(u, v)
    assert azimuth == pytest.approx(math.atan(left), abs=1e-9)
    assert elevation == pytest.approx(math.atan(up / math.hypot(1.0, left)), abs=1e-9)


def test_signs_of_the_bearing():
    camera = Intrinsics(640, 480, 500.0, 400.0, 320.0, 240.0)
    assert camera.bearing(320.0, 240.0) == (0.0, 0.0)
    azimuth, elevation = camera.bearing(0.0, 0.0)  # top left corner
    assert azimuth == pytest.approx(math.atan(0.64))
    assert elevation > 0
    assert camera.bearing(640.0, 480.0)[0] == -azimuth


@given(cameras(), st.floats(-1e4, 1e4), st.floats(-1e4, 1e4))
def test_any_pixel_has_a_finite_bearing(camera, u, v):
    assert all(map(math.isfinite, camera.bearing(u, v)))


def test_a_goal_status_is_one_of_three_with_a_progress_in_its_range():
    with pytest.raises(
        ValueError, match=r"^GoalStatus\('done'\): say running, succeeded or failed\.$"
    ):
        GoalStatus("done")
    with pytest.raises(ValueError, match=r"^GoalStatus: progress 1\.5 is not within 0\.\.1\.$"):
        GoalStatus("running", 1.5)
