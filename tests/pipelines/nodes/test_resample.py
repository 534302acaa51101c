"""Resampling: on a ramp every value is known beforehand."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.runtime.exec.fakes import MS, PERIOD, GridCamera, Kept, number

from haihe import Graph, camera, named, node
from haihe.pipelines.nodes.resample import AtRateOf, Resample, message_between
from haihe.runtime.contracts import SILENT, Age, Tick
from haihe.runtime.exec.virtual import VirtualExecutor
from haihe.runtime.node import contract_of
from haihe.runtime.plan.build import make_plan
from haihe.runtime.types import JointCommand, Message, Reading


@node(recorded=True)
def kept(value: Reading) -> Reading:
    """Passes on, so that the sink gets it."""
    return value


class Outputs(Kept):
    """Keeps the outputs of recorded nodes, with the clock of their firing."""

    def __init__(self) -> None:
        super().__init__()
        self.values: list[tuple[int, float]] = []

    def output(self, source: str, sequence: int, t_ns: int, message: Any) -> None:
        self.values.append((t_ns, message.value))


def run(graph: Graph, frames: GridCamera, duration_ns: int = 600 * MS) -> list[tuple[float, float]]:
    """What `kept` got: (s since the beginning, value). Frame n is captured at n - 1 periods."""
    sink = Outputs()
    executor = VirtualExecutor(graph, make_plan(graph, {}), {}, {"front": frames}, sink=sink)
    executor.run(duration_ns)
    assert executor.outcome.failures == []
    return [((t - executor.begin_ns) * 1e-9, value) for t, value in sink.values]


def ramp(t: float) -> float:
    """The number of the frame that is captured at a moment, between frames too."""
    return 1.0 + t / (PERIOD * 1e-9)


def resampled(delay_s: float = 0.0, reach_s: float = 0.1) -> Graph:
    with Graph("ramp") as graph:
        kept(named("fine", Resample(delay_s, reach_s))(number(camera("front").image)))
    return graph


def test_with_a_delay_it_is_the_line_between_two_values() -> None:
    # the newest value is never older than a period and the latency: 27 ms
    got = run(resampled(delay_s=0.03, reach_s=0.0), GridCamera(PERIOD, 7 * MS))
    assert [round(t * 100) for t, _ in got] == list(range(3, 60))  # 100 times a second
    assert [v for _, v in got] == pytest.approx([ramp(t - 0.03) for t, _ in got])


def test_without_a_delay_it_runs_ahead_of_the_newest() -> None:
    got = run(resampled(), GridCamera(PERIOD, 7 * MS))
    assert [round(t * 100) for t, _ in got] == list(range(3, 60))  # from the second frame on
    assert [v for _, v in got] == pytest.approx([ramp(t) for t, _ in got])


def test_so_far_ahead_as_is_allowed_and_then_it_is_silent() -> None:
    got = run(resampled(reach_s=0.0451), GridCamera(PERIOD, 7 * MS, count=5), duration_ns=200 * MS)
    assert got[-1][0] == pytest.approx(0.12)  # frame 5 is captured at 80 ms
    assert got[-1][1] == pytest.approx(ramp(0.12))


def test_never_ahead_and_too_little_delay_leave_gaps() -> None:
    got = run(resampled(delay_s=0.015, reach_s=0.0), GridCamera(PERIOD, 7 * MS))
    assert [v for _, v in got] == pytest.approx([ramp(t - 0.015) for t, _ in got])
    # a frame is known from 10 to 30 ms after its capture: 15 ms ago is behind it in every second
    assert [round(t * 100) for t, _ in got] == list(range(3, 60, 2))


def test_at_the_rate_of_another_message() -> None:
    @node(every="5ms")
    def beat() -> Reading:
        return Reading(0.0)

    with Graph("beats") as graph:
        value = number(camera("front").image)
        kept(named("fine", AtRateOf(delay_s=0.03, reach_s=0.0))(beat(), value))
    got = run(graph, GridCamera(PERIOD, 7 * MS))
    assert [round(t * 200) for t, _ in got] == list(range(6, 120))
    assert [v for _, v in got] == pytest.approx([ramp(t - 0.03) for t, _ in got])


def test_no_line_over_a_gap() -> None:
    fine = Resample(delay_s=0.05, max_gap_s=0.1)
    said: list[Any] = [
        fine(Reading(0.0), Tick(0.0), Age(0.0)),
        fine(Reading(3.0), Tick(0.3), Age(0.0)),
        fine(Reading(3.5), Tick(0.05), Age(0.0)),
        fine(Reading(3.75), Tick(0.025), Age(0.0)),
    ]
    assert said[:2] == [SILENT, SILENT]
    assert said[2].value == 3.0
    assert said[3].value == pytest.approx(3.25)


def test_it_gives_the_kind_that_it_takes() -> None:
    with Graph("kinds") as graph:
        named("fine", Resample())(number(camera("front").image))
    assert graph.nodes["fine"].outputs[0].kind is Reading
    assert contract_of(Resample).every_ns == 10 * MS


class Mixed(Message):
    position: np.ndarray
    speed: float
    name: str
    count: int
    mask: np.ndarray


@given(st.floats(-2.0, 3.0))
def test_floats_are_on_the_line_and_the_rest_is_from_the_nearer(share: float) -> None:
    a = Mixed(np.array([0.0, 1.0]), 2.0, "a", 1, np.array([True]))
    b = Mixed(np.array([1.0, -1.0]), 4.0, "b", 2, np.array([False]))
    found = message_between(a, b, share)
    assert found.position == pytest.approx([share, 1.0 - 2.0 * share])
    assert found.speed == pytest.approx(2.0 + 2.0 * share)
    nearer = a if share < 0.5 else b
    assert (found.name, found.count, found.mask) == (nearer.name, nearer.count, nearer.mask)


def test_arrays_of_other_shapes_are_from_the_nearer() -> None:
    a, b = JointCommand(np.zeros(2)), JointCommand(np.zeros(3))
    assert message_between(a, b, 0.4).position is a.position
