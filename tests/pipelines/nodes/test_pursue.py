"""Pursue, called as the plain object that it is outside a graph."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from haihe.pipelines.nodes.pursue import Pursue, along_ray
from haihe.runtime.contracts import Age, Tick
from haihe.runtime.types import Detections, Intrinsics, JointState

CAMERA = Intrinsics(320, 240, 280.0, 280.0, 159.5, 119.5)
DT = Tick(0.02)
ANGLE = st.floats(-1.2, 1.2)


def state(pan: float = 0.0, tilt: float = 0.0) -> JointState:
    z = np.zeros(2)
    at = np.array([pan, tilt])
    return JointState(("pan", "tilt"), at, z, z, z, z, np.ones(2, bool))


def seen(*bearings: tuple[float, float], label: str = "washer") -> Detections:
    """Boxes whose centres are seen at those bearings."""
    boxes = []
    for azimuth, elevation in bearings:
        u = CAMERA.cx - CAMERA.fx * math.tan(azimuth)
        v = CAMERA.cy - CAMERA.fy * math.tan(elevation) / math.cos(azimuth)
        boxes.append((u - 5, v - 5, u + 5, v + 5))
    count = len(boxes)
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.linspace(0.9, 0.5, count).astype(np.float32),
        np.zeros(count, np.int64),
        (label,),
        CAMERA,
    )


def direction(azimuth: float, elevation: float) -> np.ndarray:
    c = math.cos(elevation)
    return np.array([c * math.cos(azimuth), c * math.sin(azimuth), math.sin(elevation)])


@given(ANGLE, ANGLE, st.floats(-0.6, 0.6), st.floats(-0.6, 0.6))
def test_along_ray_turns_by_tilt_then_by_pan(
    pan: float, tilt: float, azimuth: float, elevation: float
) -> None:
    ct, st_, cp, sp = math.cos(tilt), math.sin(tilt), math.cos(pan), math.sin(pan)
    turn_tilt = np.array([[ct, 0, -st_], [0, 1, 0], [st_, 0, ct]])
    turn_pan = np.array([[cp, -sp, 0], [sp, cp, 0], [0, 0, 1]])
    wanted = turn_pan @ turn_tilt @ direction(azimuth, elevation)
    found = direction(*along_ray((pan, tilt), (azimuth, elevation)))
    assert found == pytest.approx(wanted, abs=1e-9)


@given(ANGLE, ANGLE)
def test_a_part_in_the_middle_is_where_the_head_points(pan: float, tilt: float) -> None:
    assert along_ray((pan, tilt), (0.0, 0.0)) == pytest.approx((pan, tilt), abs=1e-9)


def test_without_a_part_the_head_holds() -> None:
    pursue = Pursue()
    for pan in (0.1, 0.2, -0.3):
        command = pursue(seen(), state(pan, 0.05), DT, Age(0.03), Age(0.001))
        assert command.position.tolist() == [pan, 0.05]


def test_a_resting_part_is_aimed_at_once_and_stays() -> None:
    pursue = Pursue("washer")
    for _ in range(20):
        command = pursue(seen((0.1, -0.05)), state(), DT, Age(0.03), Age(0.0))
        assert command.position == pytest.approx([0.1, -0.05], abs=1e-3)


def test_of_a_label_only_those_count() -> None:
    pursue = Pursue("nut")
    command = pursue(seen((0.1, 0.0)), state(0.2), DT, Age(0.03), Age(0.0))
    assert command.position.tolist() == [0.2, 0.0]
    any_label = Pursue("")
    command = any_label(seen((0.1, 0.0)), state(), DT, Age(0.03), Age(0.0))
    assert command.position[0] == pytest.approx(0.1, abs=1e-3)


def moving(pursue: Pursue, rate: float, steps: int = 60, age: float = 0.06) -> float:
    """A part at `rate` rad/s seen `age` s late by a head at rest: the last command minus truth."""
    for number in range(1, steps + 1):
        t = number * DT
        where = rate * (t - age)
        command = pursue(seen((where, 0.0)), state(), DT, Age(age), Age(0.0))
    return float(command.position[0] - rate * t)


def test_it_looks_ahead_by_the_age_and_its_own_lag() -> None:
    rate = 0.2
    assert moving(Pursue(lag_s=0.0), rate) == pytest.approx(0.0, abs=1e-3)
    assert moving(Pursue(lag_s=0.03), rate) == pytest.approx(0.03 * rate, abs=1e-3)
    assert moving(Pursue(predict=False), rate) == pytest.approx(-0.06 * rate, abs=2e-3)


def test_the_bearing_is_taken_where_the_head_was_at_the_capture() -> None:
    pursue = Pursue(predict=False)
    pan = 0.0
    for _ in range(10):  # the head turns at 1 rad/s past a part at 0.15; frames are 50 ms old
        pan += DT
        then = pan - 0.05
        command = pursue(seen((0.15 - then, 0.0)), state(pan), DT, Age(0.05), Age(0.0))
    assert command.position[0] == pytest.approx(0.15, abs=2e-3)


def test_the_same_detections_again_are_not_taken_twice() -> None:
    pursue = Pursue()
    found = seen((0.1, 0.0))
    pursue(found, state(), DT, Age(0.02), Age(0.0))
    before = (pursue._where, pursue._rate, pursue._at)
    pursue(found, state(), DT, Age(0.04), Age(0.0))
    assert (pursue._where, pursue._rate, pursue._at) == before


def test_outside_the_gate_is_another_part_until_patience_ends() -> None:
    pursue = Pursue(gate_rad=0.1, patience_s=0.3, coast_s=10.0)
    for _ in range(5):
        pursue(seen((0.0, 0.0)), state(), DT, Age(0.0), Age(0.0))
    for number in range(1, 25):
        command = pursue(seen((0.3, 0.0)), state(), DT, Age(0.0), Age(0.0))
        if number * DT < 0.29:
            assert command.position[0] == pytest.approx(0.0, abs=1e-6)
    assert command.position[0] == pytest.approx(0.3, abs=1e-3)


def test_of_several_the_nearest_to_the_prediction_is_the_part() -> None:
    pursue = Pursue(alpha=1.0, beta=0.0)
    pursue(seen((-0.1, 0.0)), state(), DT, Age(0.0), Age(0.0))
    command = pursue(seen((0.05, 0.0), (-0.09, 0.0)), state(), DT, Age(0.0), Age(0.0))
    assert command.position[0] == pytest.approx(-0.09, abs=1e-3)


def test_it_coasts_on_the_prediction_and_then_holds() -> None:
    pursue = Pursue(coast_s=0.1, lag_s=0.0, alpha=1.0, beta=1.0)
    for number in range(1, 11):
        pursue(seen((0.01 * number, 0.0)), state(), DT, Age(0.0), Age(0.0))
    coasted = []
    for _ in range(8):
        command = pursue(seen(), state(0.7), DT, Age(0.0), Age(0.0))
        coasted.append(float(command.position[0]))
    assert coasted[:4] == pytest.approx([0.11, 0.12, 0.13, 0.14], abs=2e-3)
    assert coasted[6:] == [0.7, 0.7]


def test_it_remembers_a_bounded_past() -> None:
    pursue = Pursue()
    for _ in range(500):
        pursue(seen(), state(), DT, Age(0.0), Age(0.0))
    assert len(pursue._joints) <= 32
