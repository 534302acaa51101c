"""The degradation ladder: at once down, later up, never to and fro; as events in a recording."""

import itertools
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from haihe.drivers.roles import camera
from haihe.pipelines.launch import simulate
from haihe.runtime.contracts import fresh
from haihe.runtime.exec.ladder import LOOK_NS, Health, Ladder
from haihe.runtime.graph import Graph
from haihe.runtime.node import node
from haihe.runtime.plan.model import LadderPlan
from haihe.runtime.record.recording import Recording
from haihe.runtime.types import Image, Reading
from haihe.testing import replay

SECOND = 1_000_000_000
ORDER = ("full", "small", "coast")
PLAN = LadderPlan(ORDER, 3, SECOND, 80.0, 0.9, 0.2, SECOND, 5 * SECOND)
WELL = Health(40.0, 0.1, 1.0)


def levels(looks: list[tuple[int, Health]], plan: LadderPlan = PLAN) -> list[int]:
    """The level after each look, 100 ms apart: (new misses, health)."""
    ladder, total, found = Ladder(plan), 0, []
    for number, (new, health) in enumerate(looks):
        total += new
        found.append(ladder.look(number * LOOK_NS, total, health))
    return found


def test_three_misses_in_a_second_step_down_at_once_and_the_window_begins_anew() -> None:
    assert levels([(0, WELL), (1, WELL), (1, WELL), (1, WELL), (1, WELL)]) == [0, 0, 0, 1, 1]


def test_the_misses_that_led_to_a_step_do_not_lead_to_another() -> None:
    plan = msgspec.structs.replace(PLAN, window_ns=4 * SECOND)
    assert levels([(0, WELL), (3, WELL)] + 30 * [(0, WELL)], plan)[-1] == 1


def test_misses_further_apart_than_the_window_do_nothing() -> None:
    looks = [(0, WELL)] + ([(1, WELL)] + 5 * [(0, WELL)]) * 8
    assert set(levels(looks)) == {0}


@pytest.mark.parametrize(
    ("health", "why"),
    [
        (Health(80.0, 0.1, 1.0), "80 degC"),
        (Health(40.0, 0.95, 1.0), "load 95%"),
        (Health(40.0, 0.1, 0.2), "battery at 20%"),
    ],
)
def test_each_quantity_steps_down_and_once_more_after_settling(health: Health, why: str) -> None:
    ladder = Ladder(PLAN)
    assert ladder.look(0, 0, health) == 1
    assert ladder.reason == why
    assert ladder.look(SECOND - 1, 0, health) == 1
    assert ladder.look(SECOND, 0, health) == 2
    assert ladder.look(9 * SECOND, 0, health) == 2  # there is no cheaper one


def test_what_is_not_known_decides_nothing() -> None:
    assert set(levels([(0, Health())] * 100)) == {0}


def test_up_only_after_the_hold_well_below_the_thresholds() -> None:
    ladder = Ladder(PLAN)
    ladder.look(0, 0, Health(85.0))
    assert [ladder.look(t * SECOND, 0, Health(78.0)) for t in range(1, 20)] == [1] * 19  # not well
    assert ladder.look(20 * SECOND, 0, Health(76.0)) == 1
    assert ladder.look(25 * SECOND - 1, 0, Health(76.0)) == 1
    assert ladder.look(25 * SECOND, 0, Health(76.0)) == 0
    assert ladder.reason == "well for 5 s"


HEALTH = st.builds(
    Health,
    st.none() | st.floats(20.0, 100.0),
    st.none() | st.floats(0.0, 1.5),
    st.none() | st.floats(0.0, 1.0),
)


@given(st.lists(st.tuples(st.integers(0, 2), HEALTH), max_size=300))
def test_it_steps_by_one_and_never_flaps(looks: list[tuple[int, Health]]) -> None:
    found = [0, *levels(looks)]
    steps = [(i, b - a) for i, (a, b) in enumerate(itertools.pairwise(found)) if a != b]
    assert all(abs(step) == 1 for _, step in steps)
    assert all(0 <= level < len(ORDER) for level in found)
    downs = [i for i, step in steps if step == 1]
    ups = [i for i, step in steps if step == -1]
    settle, hold = PLAN.settle_ns // LOOK_NS, PLAN.hold_ns // LOOK_NS
    assert all(b - a >= settle for a, b in itertools.pairwise(downs))
    assert all(b - a >= hold for a, b in itertools.pairwise(ups))
    assert all(i - max((d for d in downs if d < i), default=0) >= hold for i in ups)


@given(st.lists(st.tuples(st.integers(0, 2), HEALTH), max_size=200), st.integers(0, 3))
def test_more_misses_never_mean_a_dearer_mode_at_the_first_step(
    looks: list[tuple[int, Health]], more: int
) -> None:
    one = levels(looks)
    other = levels([(new + more, health) for new, health in looks])
    first = next((i for i, level in enumerate(one) if level), len(one))
    assert all(b >= a for a, b in zip(one[: first + 1], other[: first + 1], strict=True))


# --- in a run -------------------------------------------------------------------------------------


@node(budget="60ms", deadline="50ms")
def whole(image: Image) -> Reading:
    return Reading(1.0)


@node(budget="5ms", deadline="50ms")
def quick(image: Image) -> Reading:
    return Reading(2.0)


@node(every="100ms")
def use(value: Annotated[Reading, fresh("1s")]) -> Reading:
    return value


def watching() -> Graph:
    with Graph("ladder") as g:
        image = camera("front").image
        vision = g.modes("vision", initial="full")
        with vision.mode("full"):
            one = whole(image)
        with vision.mode("small"):
            other = quick(image)
        vision.ladder(("full", "small"), misses="3 in 1s", heat="80degc", hold="2s")
        use(vision.select(one, other))
    return g


def test_misses_step_down_calm_steps_up_and_a_replay_agrees(tmp_path: Path) -> None:
    path = tmp_path / "run.mcap"

    def hot(executor: Any, world: Any) -> None:
        executor.after(6 * SECOND, lambda: setattr(executor.ladders, "health", lambda: Health(90)))
        executor.after(7 * SECOND, lambda: setattr(executor.ladders, "health", Health))

    run = simulate(
        watching(), "8s", unit="pan-tilt", world={"ideal": True}, record=path, prepare_run=hot
    )
    assert run.outcome.failures == []
    recording = Recording(path)
    steps = [e for r in recording.lanes["front"] for e in r.events if e[0] == "mode"]
    # full misses every deadline, small none: down after three, up after 2 s, and down again
    names = [name for _, _, name in steps]
    assert names[:3] == ["small", "full", "small"]
    assert all(a != b for a, b in itertools.pairwise(names))
    nodes = run.executor.assembly.nodes
    assert nodes["whole"].called + nodes["whole"].off == nodes["quick"].called + nodes["quick"].off
    assert nodes["quick"].called > 4 * nodes["whole"].called > 0
    assert nodes["quick"].misses == 0
    assert run.executor.requests.modes == {"vision": names[-1]}
    assert run.executor.requests.switches == {"vision": len(names)}
    report = replay(path, graph=watching())
    assert report.ok, report
