"""Series of a simulation: against the wire, the counters and the recording; it changes no byte."""

import math
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Annotated

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.runtime.exec.fakes import Watch, following, watching

from haihe import Graph, camera, node, unit
from haihe.pipelines.launch import Simulation, simulate
from haihe.pipelines.series import Series
from haihe.runtime.errors import HaiheError
from haihe.runtime.plan.codegen import CALLED, outcome_of
from haihe.runtime.record.format import FIRING
from haihe.runtime.record.recording import Recording
from haihe.runtime.types import Image, Message, Reading

GOAL = 42


class Mixed(Message):
    """Numbers of every kind, and what is none."""

    level: float
    several: tuple[float, float]
    ragged: NDArray[np.int32]
    grid: NDArray[np.float64]
    text: str = "-"
    maybe: float | None = None


@node
def mix(image: Image) -> Mixed:
    n = int(image.data[0, 0, 0])
    maybe = 4.0 if n else None
    return Mixed(0.5 * n, (1.0, 2.0), np.arange(n + 1, dtype=np.int32), np.eye(2), maybe=maybe)


@node
def level(image: Image) -> Annotated[Reading, unit("mg/L")]:
    return Reading(float(image.data[0, 0, 0]))


def mixing() -> Graph:
    with Graph("mixing") as graph:
        image = camera("front").image
        mix(image)
        level(image)
    return graph


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Simulation:
    path = tmp_path_factory.mktemp("series") / "run.mcap"
    return simulate(following(), "1500ms", unit="pan-tilt", world={"ideal": True}, record=path)


def test_the_names(run: Simulation) -> None:
    assert list(run) == [
        "truth.pan", "truth.tilt", "truth.azimuth", "truth.elevation", "truth.error",
        "neck.state.position", "neck.state.velocity", "neck.state.load", "neck.state.voltage",
        "neck.state.temperature_degc", "neck.state.ok", "age.pursue.neck",
        "neck.command.position", "neck.guard.state", "ideal_detector.count",
        "ideal_detector.score", "pursue.position", "fault.position", "age.pursue.parts",
    ]  # fmt: skip
    assert run._ipython_key_completions_() == list(run)
    assert "truth.error" in run
    assert "truth.eror" not in run


def test_states_are_what_the_plant_did_at_their_capture(run: Simulation) -> None:
    position, pan = run["neck.state.position"], run["truth.pan"]
    assert (position.unit, position.columns) == ("rad", ("pan", "tilt"))
    assert position.values.shape == (75, 2)
    wanted = np.interp(position.t, pan.t, pan.values)
    tick = 2 * math.pi / 4096
    assert np.abs(position.values[:, 0] - wanted).max() < 2 * tick
    assert run["truth.error"].values.tolist() == run.truth["error"]
    assert run["truth.error"].t.tolist() == run.times


def test_commands_are_the_goals_on_the_wire(run: Simulation) -> None:
    command = run["neck.command.position"]
    driven = command.values[~np.isnan(command.values[:, 0]), 0]
    data, at, goals = b"".join(sent for _, sent in run.world.bus.received), 0, []
    while at < len(data):
        size, code, body = data[at + 3], data[at + 4], data[at + 5 : at + 3 + data[at + 3]]
        if code == 0x83 and body[0] in (GOAL - 1, GOAL):
            first = 3 if body[0] == GOAL else 4
            assert body[2] == 1  # the pan servo
            goals.append(int.from_bytes(body[first : first + 2], "little"))
        at += size + 4
    wanted = [2048 + round(value / (2 * math.pi) * 4096) for value in driven.tolist()]
    assert goals == wanted
    assert run["neck.guard.state"].values[-1] == 3.0  # the stop tripped it


def test_outputs_and_ages_are_those_of_the_recording_and_the_counters(run: Simulation) -> None:
    assert run.recording is not None
    recording = Recording(run.recording)
    lane = next(ln for ln in recording.plan.lanes if ln.name == "every-20ms")
    place = 4 + len(lane.task.reads)
    clocks = [
        record.fixed[2] - run.executor.begin_ns
        for record in recording.lanes[lane.name]
        if record.kind == FIRING and outcome_of(record.fixed[place]) == CALLED
    ]
    assert run["pursue.position"].t.tolist() == [t * 1e-9 for t in clocks]
    for number, edge in enumerate(run.executor.plan.edges):
        if edge.fresh_ns is None:
            continue
        ages, stats = run[f"age.{edge.target}"], run.executor.assembly.edges[number]
        assert ages.unit == "s"
        assert len(ages) == stats.count
        assert round(ages.values.sum() * 1e9) == stats.total_ns
        assert round(ages.values.max() * 1e9) == stats.worst_ns


def test_every_kind_of_number_and_nothing_else() -> None:
    run = simulate(
        mixing(), "1s", unit="pan-tilt", world={"ideal": True, "drops": 0.3, "path": "circle"}
    )
    names = [name for name in run if not name.startswith("truth.")]
    assert set(names) == {"mix.level", "mix.several", "mix.ragged", "mix.maybe", "level.value"}
    assert run["level.value"].unit == "mg/L"
    counts = run["level.value"].values
    assert set(counts) == {1.0}
    assert run["mix.level"].values.tolist() == (0.5 * counts).tolist()
    assert run["mix.several"].values.tolist() == [[1.0, 2.0]] * len(counts)
    assert run["mix.ragged"].columns == ("0", "1")
    assert run["mix.maybe"].values.tolist() == [4.0] * len(counts)


@pytest.mark.parametrize("frames", ["lossless", "none"])
def test_a_recording_is_the_same_bytes_with_and_without(
    frames: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("haihe.runtime.record.recorder.wall_time_s", lambda: 0.0)
    found = []
    for capture in (True, False):
        path = tmp_path / f"{capture}.mcap"
        made = simulate(
            following(), "1s", unit="pan-tilt", world={"ideal": True, "drops": 0.1}, seed=3,
            record=path, frames=frames, capture=capture,  # type: ignore[arg-type]
        )  # fmt: skip
        found.append((path.read_bytes(), made.world.bus.received, made.truth))
    assert found[0] == found[1]
    assert len(found[0][0]) > 10_000


def test_a_name_that_is_none(run: Simulation) -> None:
    with pytest.raises(KeyError) as caught:
        run["nek.state.postion"]
    assert isinstance(caught.value, HaiheError)
    assert str(caught.value) == (
        "series 'nek.state.postion': this simulation has none of that name. Did you mean "
        "'neck.state.position' or 'neck.state.ok' or 'neck.state.load'?"
    )


def test_without_capture_there_is_the_truth_only() -> None:
    run = simulate(following(), "100ms", unit="pan-tilt", world={"ideal": True}, capture=False)
    assert [name.partition(".")[0] for name in run] == ["truth"] * 5
    with pytest.raises(HaiheError) as caught:
        run["zzz"]
    assert str(caught.value) == (
        "series 'zzz': this simulation has none of that name. It has: truth.pan, truth.tilt, "
        "truth.azimuth, truth.elevation, truth.error. It was simulated with capture=False, so it "
        "kept the truth only."
    )


class Page(HTMLParser):
    """Counts elements and keeps the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_notebook_shows_a_table_with_a_small_picture_of_each(run: Simulation) -> None:
    page = Page(run._repr_html_())
    assert page.tags.count("tr") == 1 + len(run.series)
    assert page.tags.count("svg") == len(run.series)
    assert page.tags.count("polyline") == sum(max(1, len(s.columns)) for s in run.series.values())
    assert "simulation: whole" in page.text
    assert "nan" not in run._repr_html_().split("points=")[1]


def test_a_notebook_shows_how_a_run_failed() -> None:
    run = simulate(watching(Watch(raise_at=5)), "1s", unit="pan-tilt", world={"ideal": True})
    page = Page(run._repr_html_())
    assert "simulation: node watch raised" in page.text
    assert "node watch: it raised ValueError: made to raise." in page.text
    times = run["watch.value"].t  # a tick without an output, and one more for the trip
    assert times.tolist() == pytest.approx([0.02, 0.04, 0.06, 0.08, 0.12])


def test_numpy_takes_a_series_as_it_is(run: Simulation) -> None:
    position = run["neck.state.position"]
    np.testing.assert_array_equal(np.asarray(position), position.values)
    assert np.array(position, np.float32).dtype == np.float32
    assert np.array(position) is not position.values
    assert np.degrees(position).shape == (75, 2)


def test_a_series_is_one_line(run: Simulation) -> None:
    assert repr(run["neck.state.position"]) == (
        "<series neck.state.position [rad]: 75 values, 0.000 s to 1.480 s, columns pan, tilt>"
    )
    empty = np.zeros(0)
    assert repr(Series(empty, empty, "", "truth.error")) == "<series truth.error: 0 values>"


def test_plot_without_matplotlib(run: Simulation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(HaiheError) as caught:
        run.plot("truth.error")
    assert str(caught.value) == (
        "plot() draws with matplotlib, which is not installed. Install it (pip install "
        "matplotlib), or use the arrays: r[name].t, r[name].values."
    )


def test_plot_draws_below_each_other(run: Simulation) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("svg")
    axes = run.plot("neck.state.position", "truth.error")
    assert [len(ax.lines) for ax in axes] == [2, 1]
    assert axes[0].get_ylabel() == "neck.state.position [rad]"
    assert axes[1].lines[0].get_ydata().tolist() == run["truth.error"].values.tolist()
    matplotlib.pyplot.close(axes[0].figure)
