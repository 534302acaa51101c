"""Transforms: group laws, round trips, interpolation; against matrices made in another way."""

import math
import pickle

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from haihe.runtime.transforms import Quaternion, Transform, Vector, between
from haihe.runtime.types import decode, encode

NUMBER = st.floats(-100.0, 100.0)
VECTOR = st.tuples(NUMBER, NUMBER, NUMBER)
PART = st.floats(-1.0, 1.0)
SHARE = st.floats(0.0, 1.0)


@st.composite
def transforms(draw: st.DrawFn) -> Transform:
    parts = draw(st.tuples(PART, PART, PART, PART))
    norm = math.hypot(*parts)
    assume(norm > 1e-3)
    w, x, y, z = (part / norm for part in parts)
    return Transform((w, x, y, z), draw(VECTOR))


def cross(k: Vector) -> np.ndarray:
    x, y, z = k
    return np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])


def rodrigues(q: Quaternion) -> np.ndarray:
    """The rotation matrix by axis and angle: 1 + sin K + (1 - cos) K^2."""
    w, x, y, z = q
    sine = math.hypot(x, y, z)
    if sine < 1e-300:
        return np.eye(3)
    angle = 2.0 * math.atan2(sine, w)
    k = cross((x / sine, y / sine, z / sine))
    turned: np.ndarray = np.eye(3) + math.sin(angle) * k + (1.0 - math.cos(angle)) * (k @ k)
    return turned


def homogeneous(t: Transform) -> np.ndarray:
    m = np.eye(4)
    m[:3, :3] = rodrigues(t.rotation)
    m[:3, 3] = t.translation
    return m


def close(a: Transform, b: Transform, tolerance: float = 1e-9) -> bool:
    """The same motion; the sign of a quaternion says nothing."""
    return bool(np.allclose(a.matrix, b.matrix, rtol=0.0, atol=tolerance))


# --- against another formula ----------------------------------------------------------------------


@given(transforms())
def test_the_matrix_is_that_of_axis_and_angle(t: Transform) -> None:
    assert t.matrix == pytest.approx(homogeneous(t), abs=1e-12)


@given(transforms(), transforms())
def test_composition_is_the_product_of_matrices(a: Transform, b: Transform) -> None:
    assert (a @ b).matrix == pytest.approx(homogeneous(a) @ homogeneous(b), abs=1e-10)


@given(transforms(), st.lists(VECTOR, max_size=5))
def test_points_are_turned_and_moved(t: Transform, points: list[Vector]) -> None:
    many = np.array(points, np.float64).reshape(-1, 3)
    wanted = many @ rodrigues(t.rotation).T
    assert t.rotate(many) == pytest.approx(wanted, abs=1e-10)
    assert t.apply(many) == pytest.approx(wanted + np.array(t.translation), abs=1e-10)
    for index, point in enumerate(many):  # one point: the same bits as among many
        assert t.apply(point).tolist() == t.apply(many)[index].tolist()


@given(*[st.floats(-3.1, 3.1)] * 3)
def test_roll_pitch_yaw_turn_about_fixed_axes(roll: float, pitch: float, yaw: float) -> None:
    def about(axis: int, angle: float) -> np.ndarray:
        c, s = math.cos(angle), math.sin(angle)
        i, j = (axis + 1) % 3, (axis + 2) % 3
        m = np.eye(3)
        m[i, i], m[i, j], m[j, i], m[j, j] = c, -s, s, c
        return m

    wanted = about(2, yaw) @ about(1, pitch) @ about(0, roll)
    assert Transform.from_rpy(roll, pitch, yaw).matrix[:3, :3] == pytest.approx(wanted, abs=1e-12)


def test_signs_that_are_easily_mistaken() -> None:
    left = Transform.from_rpy(0.0, 0.0, math.pi / 2, (1.0, 0.0, 0.0))
    assert left.apply(np.array([1.0, 0.0, 0.0])) == pytest.approx([1.0, 1.0, 0.0])
    down = Transform.from_rpy(0.0, math.pi / 2, 0.0)  # REP-103: pitch positive is down
    assert down.apply(np.array([1.0, 0.0, 0.0])) == pytest.approx([0.0, 0.0, -1.0])
    base_from_head = Transform((1.0, 0.0, 0.0, 0.0), (0.0, 0.0, 1.2))
    assert (base_from_head @ left).translation == (1.0, 0.0, 1.2)
    assert (left @ base_from_head).translation == pytest.approx((1.0, 0.0, 1.2))


# --- group laws -----------------------------------------------------------------------------------


@given(transforms(), transforms(), transforms())
def test_it_is_a_group(a: Transform, b: Transform, c: Transform) -> None:
    assert close((a @ b) @ c, a @ (b @ c))
    assert close(a @ Transform(), a)
    assert close(Transform() @ a, a)
    assert close(a @ a.inverse, Transform())
    assert close(a.inverse @ a, Transform())
    assert close((a @ b).inverse, b.inverse @ a.inverse)


@given(st.lists(transforms(), min_size=1, max_size=30))
def test_a_long_chain_stays_a_rotation(chain: list[Transform]) -> None:
    product = Transform()
    for one in chain * 5:
        product = product @ one
    assert math.hypot(*product.rotation) == pytest.approx(1.0, abs=4e-16)


# --- round trips ----------------------------------------------------------------------------------


@given(transforms())
def test_through_a_matrix_and_back(t: Transform) -> None:
    again = Transform.from_matrix(t.matrix)
    assert close(again, t, 1e-12)
    assert again.rotation[0] >= 0.0
    assert again.translation == t.translation


@pytest.mark.parametrize("q", [(0.0, 1.0, 0.0, 0.0), (0.0, 0.0, 1.0, 0.0), (0.0, 0.0, 0.0, 1.0)])
def test_half_a_turn_through_a_matrix(q: Quaternion) -> None:
    assert Transform.from_matrix(Transform(q).matrix).rotation == q


@given(st.floats(-3.1, 3.1), st.floats(-1.57, 1.57), st.floats(-3.1, 3.1))
def test_through_angles_and_back(roll: float, pitch: float, yaw: float) -> None:
    found = Transform.from_rpy(roll, pitch, yaw).rpy
    assert found == pytest.approx((roll, pitch, yaw), abs=1e-9 / math.cos(pitch))


@pytest.mark.parametrize("pitch", [math.pi / 2, -math.pi / 2])
def test_straight_up_the_angles_still_give_the_rotation(pitch: float) -> None:
    t = Transform.from_rpy(0.4, pitch, -0.9)
    assert t.rpy[0] == 0.0
    assert close(Transform.from_rpy(*t.rpy), t, 1e-8)


@given(transforms())
def test_it_travels_and_pickles_to_the_same_bits(t: Transform) -> None:
    assert decode(Transform, encode(t)) == t
    assert pickle.loads(pickle.dumps(t)) == t


# --- interpolation --------------------------------------------------------------------------------


@given(transforms(), transforms(), SHARE)
def test_between_turns_at_constant_speed(a: Transform, b: Transform, share: float) -> None:
    whole = (a.inverse @ b).angle
    middle = between(a, b, share)
    assert (a.inverse @ middle).angle == pytest.approx(share * whole, abs=1e-7)
    assert (middle.inverse @ b).angle == pytest.approx((1.0 - share) * whole, abs=1e-7)
    wanted = (1.0 - share) * np.array(a.translation) + share * np.array(b.translation)
    assert middle.translation == pytest.approx(tuple(wanted), abs=1e-11)


@given(transforms(), transforms())
def test_the_ends_of_between_are_the_two_themselves(a: Transform, b: Transform) -> None:
    assert between(a, b, 0.0) is a
    assert between(a, b, 1.0) is b


@given(transforms(), transforms(), SHARE)
def test_the_sign_of_a_quaternion_changes_nothing(a: Transform, b: Transform, share: float) -> None:
    assume(math.pi - (a.inverse @ b).angle > 1e-3)  # half a turn has no shorter way
    w, x, y, z = b.rotation
    turned = Transform((-w, -x, -y, -z), b.translation)
    assert close(turned, b)
    assert close(between(a, turned, share), between(a, b, share))


@given(st.floats(-3.1, 3.1), st.floats(1e-12, 3.1), SHARE)
def test_about_one_axis_the_angle_is_linear(yaw: float, turn: float, share: float) -> None:
    a, b = Transform.from_rpy(0.0, 0.0, yaw), Transform.from_rpy(0.0, 0.0, yaw + turn)
    assert close(between(a, b, share), Transform.from_rpy(0.0, 0.0, yaw + share * turn), 1e-12)


# --- misuse ---------------------------------------------------------------------------------------


def scaled(factor: float) -> np.ndarray:
    m = np.eye(4)
    m[0, 0] = factor
    return m


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Transform((1.0, 1.0, 0.0, 0.0)),
            "Transform: the quaternion (1.0, 1.0, 0.0, 0.0) (w, x, y, z) has the norm 1.41421356, "
            "expected 1. Divide it by its norm.",
        ),
        (
            lambda: Transform((math.nan, 0.0, 0.0, 0.0)),
            "Transform: the quaternion (nan, 0.0, 0.0, 0.0) (w, x, y, z) has the norm nan, "
            "expected 1. Divide it by its norm.",
        ),
        (
            lambda: Transform(translation=(0.0, math.inf, 0.0)),
            "Transform: the translation (0.0, inf, 0.0) is not finite.",
        ),
        (
            lambda: Transform.from_matrix(np.eye(3)),
            "Transform.from_matrix: shape (3, 3), expected (4, 4).",
        ),
        (
            lambda: Transform.from_matrix(np.ones((4, 4))),
            "Transform.from_matrix: last row [1.0, 1.0, 1.0, 1.0], expected [0, 0, 0, 1].",
        ),
        (
            lambda: Transform.from_matrix(scaled(-1.0)),  # a mirror
            "Transform.from_matrix: the 3x3 part is no rotation: its columns are off by 0, "
            "determinant -1, expected 0 and 1.",
        ),
        (
            lambda: Transform.from_matrix(scaled(2.0)),
            "Transform.from_matrix: the 3x3 part is no rotation: its columns are off by 3, "
            "determinant 2, expected 0 and 1.",
        ),
        (
            lambda: Transform().apply(np.ones((3, 2))),
            "Transform: points of shape (3, 2), expected (3,) or (n, 3).",
        ),
        (
            lambda: between(Transform(), Transform(), 1.5),
            "between: share 1.5, expected 0 to 1: nothing is extrapolated.",
        ),
    ],
)
def test_misuse_is_refused(make, message: str) -> None:
    with pytest.raises(ValueError, match=r"Transform|between") as caught:
        make()
    assert str(caught.value) == message


def test_it_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        Transform().rotation = (0.0, 1.0, 0.0, 0.0)  # type: ignore[misc]
