"""History: a value at a moment in the past."""

import math
import pickle
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from haihe.runtime.history import SAME_S, History, blend, wrap

TIMES = st.lists(st.integers(0, 10_000), min_size=2, max_size=60, unique=True).map(sorted)
VALUE = st.floats(-1e6, 1e6)
ANGLE = st.floats(-30.0, 30.0)


def of(*pairs: tuple[float, float], **options: float) -> History[float]:
    history = History[float](**options)  # type: ignore[arg-type]
    for t, value in pairs:
        assert history.add(t, value)
    return history


def plain(pairs: list[tuple[float, float]], t: float) -> float | None:
    """The straight line, found by looking at every interval."""
    for (t0, v0), (t1, v1) in pairwise(pairs):
        if t0 <= t <= t1:
            return v0 * (t1 - t) / (t1 - t0) + v1 * (t - t0) / (t1 - t0)
    return None


@given(TIMES, st.data())
def test_between_two_values_it_is_a_straight_line(times: list[int], data: st.DataObject) -> None:
    pairs = [(t * 0.001, data.draw(VALUE)) for t in times]
    history = of(*pairs)
    t = data.draw(st.floats(pairs[0][0], pairs[-1][0]))
    wanted = plain(pairs, t)
    assert wanted is not None
    assert history.at(t) == pytest.approx(wanted, rel=1e-9, abs=1e-5)
    for stamp, value in pairs:
        assert history.at(stamp) == value  # exactly


@given(TIMES, st.integers(2, 8))
def test_it_holds_the_newest_and_forgets_the_rest(times: list[int], keep: int) -> None:
    history = of(*((t * 0.001, float(t)) for t in times), keep=keep)
    kept = times[-keep:]
    assert len(history) == len(kept)
    assert (history.oldest_s, history.newest_s) == (kept[0] * 0.001, kept[-1] * 0.001)
    assert len(history.times) == len(history.values) <= 2 * keep
    assert history.at(kept[0] * 0.001) == kept[0]
    for gone in times[:-keep]:
        assert history.at(gone * 0.001) is None


def test_outside_nothing_is_known() -> None:
    history = of((1.0, 10.0), (2.0, 20.0))
    assert [history.at(t) for t in (0.999, 2.001, math.nan, math.inf, -math.inf)] == [None] * 5
    assert History[float]().at(0.0) is None
    assert (History[float]().oldest_s, History[float]().newest_s) == (None, None)
    assert of((1.0, 10.0)).at(1.0) == 10.0


def test_a_gap_is_not_bridged() -> None:
    history = of((0.0, 0.0), (0.1, 1.0), (0.4, 4.0), (0.5, 5.0), max_gap_s=0.2)
    assert history.at(0.05) == pytest.approx(0.5)
    assert history.at(0.25) is None
    assert [history.at(t) for t in (0.1, 0.4)] == [1.0, 4.0]  # its ends are known
    assert history.at(0.45) == pytest.approx(4.5)


def test_what_is_older_is_not_taken_but_counted() -> None:
    history = of((1.0, 1.0), (2.0, 2.0))
    assert not history.add(1.5, 9.0)
    assert not history.add(2.0 - 2 * SAME_S, 9.0)
    assert (history.late, history.repeated) == (2, 0)
    assert not history.add(2.0, 9.0)
    assert not history.add(2.0 + SAME_S / 2, 9.0)
    assert not history.add(2.0 - SAME_S / 2, 9.0)
    assert (history.late, history.repeated) == (2, 3)
    assert history.add(2.0 + 2 * SAME_S, 3.0)
    assert history.values == [1.0, 2.0, 3.0]


def test_arrays_are_blended_element_by_element() -> None:
    history = History[np.ndarray]()
    history.add(0.0, np.array([0.0, 10.0]))
    history.add(1.0, np.array([1.0, 30.0]))
    found = history.at(0.25)
    assert found is not None
    assert found.tolist() == [0.25, 15.0]


@given(ANGLE, ANGLE, st.floats(0.0, 1.0))
def test_an_angle_goes_the_shorter_way_round(a: float, b: float, share: float) -> None:
    found = blend(a, b, share, is_angle=True)
    assert -math.pi - 1e-9 <= found <= math.pi + 1e-9
    turn = math.atan2(math.sin(b - a), math.cos(b - a))  # another way to wrap
    wanted = a + share * turn
    if abs(abs(turn) - math.pi) > 1e-9:  # half a turn has no shorter way
        assert math.cos(found - wanted) == pytest.approx(1.0, abs=1e-12)
    array = blend(np.array([a]), np.array([b]), share, is_angle=True)
    assert array.tolist() == [found]


def test_an_angle_across_pi() -> None:
    history = of((0.0, 3.0), (1.0, -3.0), is_angle=True)
    assert history.at(0.5) == pytest.approx(math.pi)
    assert history.at(0.75) == pytest.approx(3.0 + 0.75 * (math.tau - 6.0) - math.tau)
    assert of((0.0, 3.0), (1.0, -3.0)).at(0.5) == 0.0  # a length does not wrap
    assert wrap(math.tau + 0.5) == pytest.approx(0.5)
    assert wrap(np.array([-4.0])).tolist() == [pytest.approx(math.tau - 4.0)]


@pytest.mark.parametrize("values", [("a", "b"), (1, 2), (np.array([1, 2]), np.array([3, 4]))])
def test_of_anything_else_the_nearer_is_taken(values: tuple[object, object]) -> None:
    history = History[object]()
    history.add(0.0, values[0])
    history.add(1.0, values[1])
    assert history.at(0.49) is values[0]
    assert history.at(0.5) is values[1]


def test_neighbours_are_given_for_a_blend_of_ones_own() -> None:
    history = of((0.0, 1.0), (0.5, 2.0), (1.0, 3.0), max_gap_s=0.5)
    assert history.around(0.625) == (2.0, 3.0, 0.25)
    assert history.around(0.5) == (2.0, 2.0, 0.0)
    assert history.around(1.5) is None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: History[float](keep=1),
            "History(keep=1, max_gap_s=inf): two values at least, and a gap above 0 s, please.",
        ),
        (
            lambda: History[float](max_gap_s=0.0),
            "History(keep=256, max_gap_s=0.0): two values at least, and a gap above 0 s, please.",
        ),
        (
            lambda: History[float]().add(math.nan, 1.0),
            "History.add(nan, ...): the time must be a finite number of s.",
        ),
        (
            lambda: History[str](is_angle=True).add(0.0, "north"),
            "History.add: an angle is a float or an array of floats in rad, got str.",
        ),
        (
            lambda: [h := History[np.ndarray](), h.add(0.0, np.ones(2)), h.add(1.0, np.ones(3))],
            "History.add: shape (3,) after shape (2,). Keep a history for each.",
        ),
    ],
)
def test_misuse_is_refused(make, message: str) -> None:
    with pytest.raises(ValueError, match="History") as caught:
        make()
    assert str(caught.value) == message


def test_two_histories_do_not_share_their_values() -> None:
    one, other = History[float](), History[float]()
    one.add(0.0, 1.0)
    assert (len(one), len(other)) == (1, 0)


def test_it_pickles_with_everything() -> None:
    history = of(*((i * 0.1, float(i)) for i in range(23)), keep=8, max_gap_s=0.5)
    history.add(0.0, 0.0)
    again: History[float] = pickle.loads(pickle.dumps(history))
    assert again == history
    assert [again.at(t) for t in (1.55, 2.2, 2.21)] == [history.at(t) for t in (1.55, 2.2, 2.21)]
    assert again.late == 1
