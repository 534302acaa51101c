"""The joints at the capture of a picture: as a plain object, and in a simulated run."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from haihe import Graph, camera, named, node, servos
from haihe.pipelines.launch import simulate
from haihe.pipelines.nodes.at_stamp import AtStamp
from haihe.pipelines.nodes.pursue import Pursue
from haihe.pipelines.worlds.ideal import ideal_detector
from haihe.runtime.contracts import SILENT, Age, Tick
from haihe.runtime.plan.codegen import has_published
from haihe.runtime.record.format import FIRING
from haihe.runtime.record.recording import Recording
from haihe.runtime.types import Detections, JointState, decode
from haihe.testing import replay

DT = 0.02
CONTROL = "every-20ms"


def state(pan: float, ok: bool = True) -> JointState:
    at = np.array([pan, -pan])
    return JointState(
        ("pan", "tilt"), at, 2 * at, 3 * at, 4 * at, 5 * at, np.array([ok, True], np.bool_)
    )


def feed(stamp: AtStamp, *steps: tuple[float, float | None]) -> list[Any]:
    """(pan, age of the picture or None) per tick of 20 ms, joints without an age."""
    return [
        stamp(
            state(pan), None if age is None else Detections.none(),
            Tick(DT if number else 0.0), Age(0.0), Age(age or 0.0),
        )
        for number, (pan, age) in enumerate(steps)
    ]  # fmt: skip


def test_it_speaks_once_for_a_picture_with_all_that_was_measured() -> None:
    said = feed(AtStamp(), (0.0, None), (1.0, 0.015), (2.0, 0.035), (3.0, 0.055))
    assert [one is SILENT for one in said] == [True, False, True, True]
    then = said[1]
    assert then.position == pytest.approx([0.25, -0.25])
    assert then.velocity == pytest.approx([0.5, -0.5])
    assert then.load == pytest.approx([0.75, -0.75])
    assert then.voltage == pytest.approx([1.0, -1.0])
    assert then.temperature_degc == pytest.approx([1.25, -1.25])
    assert then.names == ("pan", "tilt")


def test_a_picture_of_long_ago_is_found_in_the_history() -> None:
    said = feed(AtStamp(), *[(float(i), None) for i in range(20)], (20.0, 0.25))
    assert said[-1].position[0] == pytest.approx(20.0 - 0.25 / DT)


def test_a_picture_newer_than_the_joints_waits_for_the_next_reading() -> None:
    stamp = AtStamp()
    stamp(state(0.0), None, Tick(0.0), Age(0.005), Age(0.0))
    first = stamp(state(1.0), Detections.none(), Tick(DT), Age(0.005), Age(0.001))
    second = stamp(state(2.0), Detections.none(), Tick(DT), Age(0.005), Age(0.021))
    assert first is SILENT  # type: ignore[comparison-overlap]
    assert second.position[0] == pytest.approx(1.0 + 0.004 / DT)


def test_before_the_first_reading_and_in_a_gap_it_is_silent_and_counts() -> None:
    stamp = AtStamp(max_gap_s=0.03)
    assert feed(stamp, (0.0, 0.5)) == [SILENT]
    assert stamp._missed == 1
    said = stamp(state(1.0), Detections.none(), Tick(0.05), Age(0.0), Age(0.01))
    assert said is SILENT  # type: ignore[comparison-overlap]
    assert stamp._missed == 2


def test_a_joint_that_did_not_answer_is_not_ok() -> None:
    stamp = AtStamp()
    stamp(state(0.0, ok=False), None, Tick(0.0), Age(0.0), Age(0.0))
    then = stamp(state(1.0), Detections.none(), Tick(DT), Age(0.0), Age(0.01))
    assert then.ok.tolist() == [False, True]


# --- in a run -------------------------------------------------------------------------------------


@node(recorded=True)
def kept(joints: JointState) -> JointState:
    """Passes on, so that the recording has it."""
    return joints


@node(recorded=True, every="20ms")
def latest(joints: JointState) -> JointState:
    return joints


def stamping() -> Graph:
    with Graph("stamping") as graph:
        front, neck = camera("front"), servos("neck")
        parts = ideal_detector(front.image)
        neck.command(named("pursue", Pursue("washer"))(parts, neck.state))
        kept(named("then", AtStamp())(neck.state, parts))
        latest(neck.state)
    return graph


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stamp") / "run.mcap"
    made = simulate(
        stamping(), "4s", unit="pan-tilt", seed=2, record=path,
        world={"ideal": True, "latency_ms": 31}, budgets={"ideal_detector": "9ms"},
    )  # fmt: skip
    assert made.outcome.failures == []
    return path


def test_in_a_run_it_is_where_the_head_was_when_the_picture_was_taken(path: Path) -> None:
    recording = Recording(path)
    captures = {r.sequence: r.capture_ns for r in recording.streams["front.image"]}
    task = next(lane.task for lane in recording.plan.lanes if lane.name == CONTROL)
    parts = task.reads.index("ideal_detector")
    places = {step.name: 4 + len(task.reads) + i for i, step in enumerate(task.steps)}
    firings = [r.fixed for r in recording.lanes[CONTROL] if r.kind == FIRING]
    truth = recording.notes["truth"]
    rows = np.array(truth["rows"])
    t, pan = rows[:, 0], rows[:, truth["names"].index("pan")]

    def errors(name: str) -> np.ndarray:
        """What was said, less the truth at the capture, for every new picture after 1 s."""
        spoke = [f for f in firings if has_published(f[places[name]], 0)]
        said = [decode(JointState, data) for data in recording.outputs[name].values()]
        assert len(said) == len(spoke)
        seen: dict[int, float] = {}
        for firing, joints in zip(spoke, said, strict=True):
            number = firing[4 + parts]  # of the detections; no frame was overwritten or dropped
            if number and captures[number] > t[0] + 1_000_000_000:
                seen.setdefault(number, float(joints.position[0]) - float(
                    np.interp(captures[number], t, pan)
                ))  # fmt: skip
        assert len(seen) == pytest.approx(90, abs=3)
        return np.abs(list(seen.values()))

    tick = math.tau / 4096  # the servo's encoder
    assert errors("kept").max() < 1.5 * tick
    assert errors("latest").max() > 8 * tick  # the head moves: the age of the picture counts


def test_the_run_replays(path: Path) -> None:
    assert replay(path, graph=stamping()).ok
    assert replay(path, graph=stamping(), start_s=2.5).ok  # its history is in the keyframe
