"""Replay of virtual runs: to the same bytes, with faults, from keyframes, cut, and changed."""

import os
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import pytest
from tests.runtime.exec.fakes import Fault, following

from haihe.drivers.roles import camera, servos
from haihe.pipelines.launch import simulate
from haihe.runtime.contracts import fresh, silent, sometimes
from haihe.runtime.errors import RecordError
from haihe.runtime.graph import Graph, named
from haihe.runtime.node import node
from haihe.runtime.record.recording import Recording
from haihe.runtime.record.replay import ReplayReport
from haihe.runtime.record.state import load_state
from haihe.runtime.traced import Ref, Traced
from haihe.runtime.types import Image, JointCommand, JointState, Reading
from haihe.testing import replay, replayer

MS = 1_000_000
CONTROL = "every-20ms"


def faults(executor: Any, world: Any) -> None:
    """Loss and garbage on the wire, a break of the bus, and every kind of event."""

    def spoil(share: float) -> None:
        world.bus.faults.drop = world.bus.faults.flip_bit = world.bus.faults.garbage = share

    executor.after(100 * MS, lambda: spoil(0.04))
    executor.after(590 * MS, lambda: spoil(0.0))  # a set-up asks three times, then it gives up
    executor.after(1700 * MS, lambda: spoil(0.04))
    bus = next(bus for lane in executor.assembly.lanes for bus in lane.buses)
    executor.after(600 * MS, bus.port.unplug)
    executor.after(700 * MS, bus.port.plug)
    executor.after(1900 * MS, lambda: executor.post(("trip", "e-stop")))
    executor.after(2000 * MS, lambda: executor.post(("reset",)))
    executor.after(2000 * MS, lambda: executor.post(("arm",)))
    executor.after(2300 * MS, lambda: executor.set("pursue", "alpha", 0.5))


def record(path: Path, graph: Graph, duration: str = "3500ms", **options: Any) -> Any:
    return simulate(
        graph, duration, unit="pan-tilt", seed=5, record=path,
        world={"ideal": True, "drops": 0.1}, **options,
    )  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("replay") / "run.mcap"
    return record(path, following(Fault(noise=0.001)), prepare_run=faults)


def again(run: Any, **options: Any) -> ReplayReport:
    return replay(run.recording, graph=following(Fault(noise=0.001)), **options)


def received(run: Any) -> bytes:
    return b"".join(data for _, data in run.world.bus.received)


def test_a_run_with_faults_replays_to_the_same_bytes(run: Any) -> None:
    report = again(run)
    assert report.ok, report
    assert report.skipped == 0
    assert report.firings == Recording(run.recording).firings
    assert report.sent["neck"] == received(run)
    assert report.bytes_equal >= len(received(run))
    assert str(report) == (
        f"decision replay of {run.recording}: {report.firings} firings, {report.bytes_equal} "
        "actuator bytes: equal"
    )


def test_perception_replay_gives_them_too(run: Any) -> None:
    report = again(run, perception=True)
    assert report.ok, report
    assert report.sent["neck"] == received(run)


def test_a_changed_node_gives_differences_by_lane_and_firing(run: Any) -> None:
    report = replay(run.recording, graph=following(Fault(noise=0.002)))
    assert not report.ok
    assert report.differing > 100
    assert len(report.differences) == 20  # the first ones
    first = report.differences[0]
    assert first.lane == CONTROL
    assert first.firing > 1
    assert first.what.startswith("neck sends ff")
    assert ", recorded: ff" in first.what
    assert str(first).startswith(f"lane {CONTROL}, firing {first.firing}: neck sends ")
    assert f"{report.differing} differences" in str(report)


@pytest.mark.parametrize("start_s", [0.5, 1.0, 1.1, 2.0, 2.9, 99.0])
def test_from_a_keyframe_the_rest_is_the_same(run: Any, start_s: float) -> None:
    report = again(run, start_s=start_s)
    assert report.ok, report
    whole = received(run)
    assert whole.endswith(report.sent["neck"])
    assert report.sent["neck"]
    if start_s >= 1.1:
        assert len(report.sent["neck"]) < len(whole)


def test_stepping_shows_what_was_consumed_and_how_nodes_ended(run: Any) -> None:
    runner = replayer(run.recording, graph=following(Fault(noise=0.001)))
    steps = list(runner.steps())
    firings = [s for s in steps if s.lane == CONTROL and s.outcomes]
    assert len(firings) + len([s for s in steps if s.lane == "front"]) == runner.report.firings
    assert firings[50].outcomes["pursue"] in ("called", "stale", "absent")
    assert set(firings[50].consumed) == {"ideal_detector"}
    assert firings[0].events == [("arm",)]


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8, 0.97])
def test_a_truncated_recording_replays_without_differences(
    share: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # as a killed process leaves it: not rewritten
    monkeypatch.setattr("haihe.runtime.record.fix.finish", lambda path: None)
    path = tmp_path / "a.mcap"
    made = record(path, following(), duration="1500ms")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    recording = Recording(path)
    assert not recording.complete
    report = replay(recording, graph=following())
    assert report.differing == 0, report
    assert report.firings + report.skipped == recording.firings
    assert received(made).startswith(report.sent["neck"])
    if report.skipped:
        assert f"{report.skipped} firings lie beyond the end of the file" in str(report)


# --- a recorded node with several outputs, one of them silent at times ----------------------------


class Two(NamedTuple):
    """One output at every frame, one at every third."""

    every: Reading
    third: Annotated[Reading, sometimes]


@node(recorded=True)
@dataclass
class Model:
    """Stands for a model: it holds a resource, and its outputs are recorded."""

    _calls: int = 0

    def open(self) -> None:
        pass

    def __call__(self, image: Image) -> Two:
        self._calls += 1
        value = Reading(self._calls / 100)
        return Two(value, value if self._calls % 3 == 0 else silent())

    def close(self) -> None:
        pass


@node(every="20ms")
def point(
    every: Annotated[Reading, fresh("200ms")],
    third: Annotated[Reading, fresh("300ms")],
    neck: Annotated[JointState, fresh("45ms")],
) -> JointCommand:
    return JointCommand(np.array([every.value, third.value]))


def pointing() -> Graph:
    with Graph("pointing") as graph:
        neck = servos("neck")
        every, third = named("model", Model())(camera("front").image)
        neck.command(point(every, third, neck.state))
    return graph


@pytest.mark.parametrize("start_s", [0.0, 1.2])
def test_a_recorded_node_with_a_silent_output_replays_from_the_file(
    start_s: float, tmp_path: Path
) -> None:
    made = record(tmp_path / "a.mcap", pointing(), duration="2500ms", frames="none")
    recording = Recording(tmp_path / "a.mcap")
    counts = {source: len(stored) for source, stored in recording.outputs.items()}
    assert counts["model.third"] == counts["model.every"] // 3 > 10
    report = replay(recording, graph=pointing(), start_s=start_s)
    assert report.ok, report
    assert received(made).endswith(report.sent["neck"])


def test_a_node_that_needs_frames_says_that_they_were_not_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.mcap"
    record(path, following(), duration="300ms", frames="jpeg")
    with pytest.raises(RecordError) as caught:
        replay(path, graph=following())
    assert str(caught.value) == (
        f"{path}: node ideal_detector needs the frames of front.image, which were not kept as "
        "captured. Record with frames=lossless."
    )


# --- two lanes that depend on each other ----------------------------------------------------------


@node(every="20ms")
@dataclass
class Fast:
    """Adds what the slow lane said."""

    _sum: float = 0.0

    def __call__(
        self,
        neck: Annotated[JointState, fresh("45ms")],
        slow: Annotated[Reading | None, fresh("1s", on_stale="call")] = None,
    ) -> Reading:
        self._sum += 0.001 + (slow.value if slow is not None else 0.0)
        return Reading(self._sum)


@node(every="50ms")
@dataclass
class Slow:
    """Adds what the fast lane said."""

    _last: float = 0.0

    def __call__(self, fast: Annotated[Reading, fresh("1s")]) -> Reading:
        self._last = 0.9 * self._last + 1e-5 * fast.value
        return Reading(self._last)


@node
def turn(fast: Reading) -> JointCommand:
    return JointCommand(np.array([fast.value % 0.5, 0.0]))


def mutual() -> Graph:
    with Graph("mutual") as graph:
        neck = servos("neck")
        later: Any = Traced(graph, Ref("slow", "out", "node"), Reading)  # wired further down
        fast = named("fast", Fast())(neck.state, later)
        named("slow", Slow())(fast)
        neck.command(turn(fast))
    return graph


@pytest.mark.parametrize("start_s", [0.0, 1.3, 2.6])
def test_two_lanes_that_depend_on_each_other(start_s: float, tmp_path: Path) -> None:
    path = tmp_path / "a.mcap"
    made = record(path, mutual(), duration="4s")
    recording = Recording(path)
    tasks = {lane.name: lane.task for lane in recording.plan.lanes}
    assert tasks["every-20ms"].reads == ("slow",)
    assert tasks["every-50ms"].reads == ("fast",)
    report = replay(recording, graph=mutual(), start_s=start_s)
    assert report.ok, report
    assert received(made).endswith(report.sent["neck"])


# --- keyframes are data from a file ---------------------------------------------------------------


class Evil:
    """What an attacker would put into a keyframe."""

    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> Any:
        return self.call[0], self.call[1:]


@pytest.mark.parametrize(
    ("call", "name"),
    [
        ((os.system, "false"), "posix.system"),
        ((eval, "1"), "builtins.eval"),
        ((getattr, "x", "upper"), "builtins.getattr"),
        ((np.load, "x"), "numpy.load"),
    ],
)
def test_a_keyframe_that_calls_something_is_refused(call: Any, name: str) -> None:
    with pytest.raises(RecordError) as caught:
        load_state(pickle.dumps(Evil(*call), 5), following())
    said = str(caught.value)
    assert said.startswith("the keyframe wants ")
    assert name.split(".")[1] in said
    assert said.endswith(
        ": not a class of the graph's modules. Replay from the beginning, or look where the "
        "recording came from."
    )


def test_a_keyframe_reaches_nothing_through_dotted_names() -> None:
    names = [b"haihe.runtime.record.recorder", b"os.system"]
    data = b"\x80\x04" + b"".join(b"\x8c" + bytes([len(n)]) + n for n in names) + b"\x93."
    with pytest.raises(RecordError, match=r"the keyframe wants haihe\S+os\.system: not a class"):
        load_state(data, following())


def test_state_of_the_graphs_own_kind_is_loaded() -> None:
    state = {"firing": 3, "a": np.arange(4.0), "b": {1, 2}, "c": Reading(2.0), "d": np.float32(1)}
    loaded = load_state(pickle.dumps(state, 5), following())
    assert loaded["firing"] == 3
    assert loaded["a"].tolist() == [0.0, 1.0, 2.0, 3.0]
    assert (loaded["b"], loaded["c"].value, loaded["d"]) == ({1, 2}, 2.0, 1.0)
