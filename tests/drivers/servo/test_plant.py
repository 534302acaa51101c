import math
import random

import pytest

from haihe.drivers.servo.plant import AxisPlant, ServoPlant

MS = 1_000_000


def driven(plant: AxisPlant, stops: list[int]) -> list[tuple[float, float]]:
    """Goals at fixed times, looked at every 10 ms, with other looks in between."""
    goals = {20 * MS: 1.0, 300 * MS + 400_000: -0.5, 900 * MS: 0.2}
    looks = set(range(0, 2000 * MS, 10 * MS))
    seen = []
    for t in sorted({*goals, *looks, *stops}):
        plant.step(t)
        if t in goals:
            plant.set_torque(True)
            plant.set_goal(goals[t])
        if t in looks:
            seen.append((plant.position, plant.velocity))
    return seen


def test_the_same_goals_give_the_same_trajectory_however_it_is_stepped():
    rng = random.Random(4)
    expected = driven(AxisPlant(), [])
    for count in (3, 100, 5000):
        stops = [rng.randrange(2000 * MS) for _ in range(count)]
        assert driven(AxisPlant(), stops) == expected


def test_it_gets_there_within_its_limits():
    plant: ServoPlant = AxisPlant()
    plant.step(0)
    plant.set_torque(True)
    plant.set_goal(1.5, 0.0, 0.0)
    speeds, last = [], 0.0
    for t in range(MS, 1500 * MS, MS):
        plant.step(t)
        speeds.append(plant.velocity)
        assert abs(plant.velocity - last) <= math.radians(1500) * 1e-3 + 1e-9
        last = plant.velocity
    assert max(speeds) == pytest.approx(math.radians(300))
    assert min(speeds) > -0.01, "no overshoot worth the name"
    assert plant.position == pytest.approx(1.5, abs=1e-6)
    moving = next(i for i in range(len(speeds) - 1, 0, -1) if speeds[i] > 0.01)
    # at full speed all the way, and once v/a for speeding up and braking
    trapeze = 1.5 / math.radians(300) + math.radians(300) / math.radians(1500)
    assert moving * 1e-3 == pytest.approx(trapeze, abs=0.02)


def test_the_lag_is_first_order_for_small_steps():
    plant = AxisPlant(acceleration=1e6, speed=1e3)
    plant.step(0)
    plant.set_torque(True)
    plant.set_goal(0.01)
    plant.step(15 * MS)
    assert plant.position == pytest.approx(0.01 * (1 - math.exp(-1)), rel=0.06)


def test_speed_and_acceleration_of_a_goal_are_kept():
    plant = AxisPlant()
    plant.step(0)
    plant.set_torque(True)
    plant.set_goal(2.0, speed=1.0, acceleration=4.0)
    plant.step(100 * MS)
    assert plant.velocity <= 0.4 + 1e-9
    plant.step(1000 * MS)
    assert plant.velocity == pytest.approx(1.0)


def test_without_torque_it_coasts_and_a_goal_waits():
    plant = AxisPlant()
    plant.step(0)
    plant.set_goal(1.0)
    plant.step(500 * MS)
    assert plant.position == 0.0
    plant.set_torque(True)
    plant.step(700 * MS)
    assert plant.position > 0.1
    plant.set_torque(False)
    plant.step(2000 * MS)
    assert plant.velocity == 0.0
    assert 0.1 < plant.position < 1.0


def test_hard_stops_and_load():
    plant = AxisPlant(low=-0.2, high=0.2)
    plant.step(0)
    plant.set_torque(True)
    plant.set_goal(5.0)
    plant.step(50 * MS)
    assert plant.load > 0.1
    plant.step(1000 * MS)
    assert plant.position == pytest.approx(0.2)
    plant.outer_load = -2.0
    assert plant.load == -1.0


def test_a_past_time_is_ignored():
    plant = AxisPlant()
    plant.step(5 * MS)
    plant.set_torque(True)
    plant.set_goal(1.0)
    plant.step(100 * MS)
    there = plant.position
    plant.step(50 * MS)
    assert plant.position == there
