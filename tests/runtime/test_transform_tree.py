"""The tree of frames: ways through it, moments, what it refuses; as state in a run."""

import math
import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from haihe import TICK, Age, Graph, Tick, age_of, camera, fresh, node, servos
from haihe.pipelines.launch import simulate
from haihe.pipelines.worlds.ideal import ideal_detector
from haihe.runtime.errors import FrameError
from haihe.runtime.transform_tree import TransformTree
from haihe.runtime.transforms import Transform, between
from haihe.runtime.types import Detections, JointCommand, JointState
from haihe.testing import replay

ANGLE = st.floats(-3.0, 3.0)
PLACE = st.builds(Transform.from_rpy, ANGLE, ANGLE, ANGLE, st.tuples(*[st.floats(-10.0, 10.0)] * 3))


def at(x: float, y: float = 0.0, z: float = 0.0, yaw: float = 0.0) -> Transform:
    return Transform.from_rpy(0.0, 0.0, yaw, (x, y, z))


def robot(**options: float) -> TransformTree:
    """base - head (moves) - camera; base - arm (moves) - gripper."""
    tree = TransformTree(**options)  # type: ignore[arg-type]
    tree.fix("camera", "head", at(0.1))
    tree.fix("gripper", "arm", at(0.0, 0.0, 0.5))
    for i in range(5):
        tree.move("head", "base", at(0.0, 0.0, 1.0, yaw=0.1 * i), 0.1 * i)
        tree.move("arm", "base", at(0.2 * i), 0.1 * i + 0.05)
    return tree


def close(a: Transform | None, b: Transform) -> bool:
    assert a is not None
    return bool(np.allclose(a.matrix, b.matrix, rtol=0.0, atol=1e-12))


def test_along_the_tree_it_is_the_product() -> None:
    tree = robot()
    base_from_head = at(0.0, 0.0, 1.0, yaw=0.2)
    assert close(tree.find("base", "camera", 0.2), base_from_head @ at(0.1))
    assert close(tree.find("camera", "base", 0.2), (base_from_head @ at(0.1)).inverse)
    assert tree.find("head", "camera") == at(0.1)
    assert tree.find("base", "base") == Transform()
    assert tree.frames == ["arm", "base", "camera", "gripper", "head"]


def test_from_branch_to_branch_at_one_moment() -> None:
    found = robot().find("gripper", "camera", 0.25)
    base_from_camera = at(0.0, 0.0, 1.0, yaw=0.25) @ at(0.1)
    base_from_gripper = at(0.4) @ at(0.0, 0.0, 0.5)
    assert close(found, base_from_gripper.inverse @ base_from_camera)


@given(st.lists(PLACE, min_size=6, max_size=6), st.data())
def test_any_two_frames_agree_with_the_matrices(places: list[Transform], data) -> None:
    tree, world = TransformTree(), {"f0": np.eye(4)}
    for number, place in enumerate(places, start=1):
        parent = f"f{data.draw(st.integers(0, number - 1))}"
        tree.fix(f"f{number}", parent, place)
        world[f"f{number}"] = world[parent] @ place.matrix
    for target in world:
        for source in world:
            found = tree.find(target, source)
            assert found is not None
            wanted = np.linalg.inv(world[target]) @ world[source]
            assert found.matrix == pytest.approx(wanted, abs=1e-9)


def test_between_two_readings_it_is_interpolated() -> None:
    tree = TransformTree()
    first, second = at(0.0, yaw=3.0), at(1.0, yaw=-3.0)
    tree.move("head", "base", first, 10.0)
    tree.move("head", "base", second, 11.0)
    assert tree.find("base", "head", 10.0) == first
    assert tree.find("base", "head", 11.0) == second
    assert tree.find("base", "head", 10.25) == between(first, second, 0.25)
    assert close(tree.find("base", "head", 10.5), at(0.5, yaw=math.pi))


def test_outside_and_in_gaps_nothing_is_known() -> None:
    tree = robot(max_gap_s=0.15)
    tree.move("head", "base", at(0.0), 1.0)
    assert tree.find("base", "head", -0.001) is None
    assert tree.find("base", "head", 1.001) is None
    assert tree.find("base", "head", 0.7) is None
    assert tree.find("base", "head", 1.0) == at(0.0)
    assert tree.find("gripper", "camera", 0.02) is None  # the head was known, the arm not yet
    assert tree.find("camera", "gripper", 0.02) is None
    assert tree.span("gripper", "camera") == (0.05, 0.45)
    assert tree.span("head", "camera") == (-math.inf, math.inf)


def test_a_frame_that_has_not_been_seen_yet_is_not_known() -> None:
    tree = TransformTree()
    tree.fix("camera", "head", at(0.1))
    tree.moving("head", "base")
    assert tree.find("base", "camera", 0.0) is None
    assert tree.span("base", "camera") is None
    tree.move("head", "base", at(0.0, yaw=0.3), 0.0)
    assert tree.find("base", "camera", 0.0) == at(0.0, yaw=0.3) @ at(0.1)


def test_where_histories_do_not_overlap_there_is_no_span() -> None:
    tree = TransformTree()
    tree.move("a", "base", at(0.0), 1.0)
    tree.move("b", "base", at(0.0), 2.0)
    assert tree.span("a", "b") is None


def test_the_history_is_bounded_and_ordered() -> None:
    tree = TransformTree(keep=3)
    for i in range(20):
        assert tree.move("head", "base", at(float(i)), 0.1 * i)
    assert not tree.move("head", "base", at(99.0), 0.5)
    assert tree.edges["head"].history.late == 1
    assert tree.span("base", "head") == (0.1 * 17, 0.1 * 19)
    assert len(tree.edges["head"].history.times) <= 6


def test_it_pickles_and_goes_on_to_the_same_bits() -> None:
    tree = robot()
    again: TransformTree = pickle.loads(pickle.dumps(tree))
    for one in (tree, again):
        one.move("head", "base", at(0.3, yaw=1.3), 0.5)
    for t in (0.01, 0.123, 0.4444, 0.5):
        assert again.find("base", "camera", t) == tree.find("base", "camera", t)
    assert TransformTree().edges == {}  # trees share nothing


def test_the_same_said_twice_is_nothing() -> None:
    tree = robot()
    tree.fix("camera", "head", at(0.1))
    assert tree.find("head", "camera") == at(0.1)


MISUSES: list[tuple[Callable[[TransformTree], object], str]] = [
    (
        lambda t: t.find("base", "camrea", 0.0),
        "find('base', 'camrea'): no frame 'camrea'. Known: arm, base, camera, gripper, head. Did "
        "you mean 'camera'?",
    ),
    (
        lambda t: t.find("moon", "camera", 0.0),
        "find('moon', 'camera'): no frame 'moon'. Known: arm, base, camera, gripper, head.",
    ),
    (
        lambda t: t.move("lid", "box", at(0.0), 0.0) and t.find("camera", "lid", 0.0),
        "find('camera', 'lid'): nothing joins them: 'lid' belongs to the tree of 'box', 'camera' "
        "to that of 'base'. Place one of these in the other tree, with fix() or move().",
    ),
    (
        lambda t: t.find("base", "camera"),
        "find: head moves in base: give the moment, find(target, source, t_s).",
    ),
    (
        lambda t: t.fix("base", "camera", at(0.0)),
        "frame 'base' in 'camera': that would be a circle, base in camera in head in base. A "
        "frame has its place in one parent: use the inverse of the transform that is known.",
    ),
    (
        lambda t: t.move("base", "base", at(0.0), 0.0),
        "frame 'base' in 'base': that would be a circle, base in base. A frame has its place in "
        "one parent: use the inverse of the transform that is known.",
    ),
    (
        lambda t: t.fix("camera", "base", at(0.1)),
        "fix('camera', 'base'): 'camera' is fixed in 'head' already, and a frame has one place. "
        "Drop one of the two, or name another frame.",
    ),
    (
        lambda t: t.fix("camera", "head", at(0.2)),
        "fix('camera', 'head'): 'camera' is fixed in 'head' already, and a frame has one place. "
        "Drop one of the two, or name another frame.",
    ),
    (
        lambda t: t.move("camera", "head", at(0.1), 9.0),
        "move('camera', 'head'): 'camera' is fixed in 'head' already, and a frame has one place. "
        "Drop one of the two, or name another frame.",
    ),
    (
        lambda t: t.move("head", "arm", at(0.1), 9.0),
        "move('head', 'arm'): 'head' moves in 'base' already, and a frame has one place. Drop one "
        "of the two, or name another frame.",
    ),
    (
        lambda t: t.fix("", "base", at(0.1)),
        "frame '' in 'base': a frame needs a name.",
    ),
]


@pytest.mark.parametrize(("do", "message"), MISUSES)
def test_misuse_is_refused(do: Callable[[TransformTree], object], message: str) -> None:
    with pytest.raises(FrameError) as caught:
        do(robot())
    assert str(caught.value) == message


def test_an_empty_tree_knows_nothing() -> None:
    with pytest.raises(FrameError) as caught:
        TransformTree().find("base", "head")
    assert str(caught.value) == "find('base', 'head'): no frame 'base'. Known: none."
    with pytest.raises(ValueError, match=r"^History\(keep=1, max_gap_s=inf\): two values at least"):
        TransformTree(keep=1)


# --- as the state of a node -----------------------------------------------------------------------


def head() -> TransformTree:
    tree = TransformTree(keep=64, max_gap_s=0.1)
    tree.fix("camera", "head", Transform())
    tree.moving("head", "base")
    return tree


@node(every="20ms")
@dataclass
class Gaze:
    """Looks where the part was seen, by frames alone."""

    _now: float = 0.0
    _tree: TransformTree = field(default_factory=head)

    def __call__(
        self,
        parts: Annotated[Detections, fresh("250ms")],
        neck: Annotated[JointState, fresh("45ms")],
        dt: Tick = TICK,
        parts_age: Age = age_of("parts"),
        neck_age: Age = age_of("neck"),
    ) -> JointCommand:
        self._now += dt
        pan, tilt = neck.position.tolist()
        place = Transform.from_rpy(0.0, -tilt, pan)
        self._tree.move("head", "base", place, self._now - neck_age)
        base_from_camera = self._tree.find("base", "camera", self._now - parts_age)
        if base_from_camera is None or not len(parts):
            return neck.hold()
        left, up = (math.tan(angle) for angle in parts.best().bearing)
        x, y, z = base_from_camera.rotate(np.array([1.0, left, up * math.hypot(1.0, left)]))
        return JointCommand(np.array([math.atan2(y, x), math.atan2(z, math.hypot(x, y))]))


def gazing() -> Graph:
    with Graph("gazing") as graph:
        neck = servos("neck")
        neck.command(Gaze()(ideal_detector(camera("front").image), neck.state))
    return graph


def test_in_a_run_it_finds_the_part_and_replays_to_the_same_bytes(tmp_path: Path) -> None:
    made = simulate(
        gazing(), "4s", unit="pan-tilt", seed=4, record=tmp_path / "a.mcap", world={"ideal": True}
    )
    assert made.outcome.failures == []
    assert math.degrees(made.rms("error")) < 3.0  # without the pose of the head it is above 9
    report = replay(tmp_path / "a.mcap", graph=gazing())
    assert report.ok, report
    assert report.sent["neck"] == b"".join(data for _, data in made.world.bus.received)
    assert replay(tmp_path / "a.mcap", graph=gazing(), start_s=2.5).ok
