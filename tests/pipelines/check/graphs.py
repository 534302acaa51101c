"""The graph of the design's example, and what is known of it, for the tests of `check`."""

from typing import Annotated

import msgspec
import numpy as np

from haihe.boards.compute_profile import find_profile
from haihe.drivers.roles import camera, servos
from haihe.pipelines.check.bus import BusTime
from haihe.pipelines.check.examine import report
from haihe.pipelines.check.report import Budget, ChainReport, Report
from haihe.pipelines.check.timing_of import Source
from haihe.pipelines.launch import Prepared, prepare, simulate
from haihe.runtime.contracts import fresh
from haihe.runtime.graph import Graph
from haihe.runtime.node import node
from haihe.runtime.plan.timing import SourceTiming
from haihe.runtime.types import Detections, Image, JointCommand, JointState

MS = 1_000_000
NECK = BusTime(540_000, 360_000, 680_000, 24, 42)
FRONT = SourceTiming("front", 33_333_333, 33_333_333, 18 * MS, 26 * MS)


@node
def face(image: Image) -> Detections:
    nothing = np.zeros(0, np.float32)
    return Detections(nothing.reshape(0, 4), nothing, np.zeros(0, np.int64), ("washer",), None)


@node(every="20ms", deadline="5ms")
def aim(
    faces: Annotated[Detections, fresh("120ms")], neck: Annotated[JointState, fresh("25ms")]
) -> JointCommand:
    return neck.hold()


def following() -> Graph:
    with Graph("follow") as graph:
        cam, neck = camera("front"), servos("neck")
        neck.command(aim(face(cam.image), neck.state))
    return graph


def prepared() -> Prepared:
    return prepare(following(), "pan-tilt")


def measured(name: str, ms: float, held_ms: float, samples: int = 4000) -> Budget:
    ns = round(ms * MS)
    return Budget(name, ns, "measured", "measured, max of 4k", round(held_ms * MS), samples)


def reported(
    budgets: list[Budget],
    *,
    made: Prepared | None = None,
    front: SourceTiming = FRONT,
    board: str = "rk3588",
    findings: bool = False,
) -> Report:
    """The report of the example with these budgets; without findings, which have their tests."""
    made = made or prepared()
    found = report(
        made, find_profile(board), {budget.name: budget for budget in budgets}, {"neck": NECK},
        {"front": Source("front", front)}, None,
    )  # fmt: skip
    return found if findings else msgspec.structs.replace(found, findings=[])


def assert_within(made: Prepared, chain: ChainReport) -> None:
    """A run in virtual time comes near the bounds of its chain, and never above them."""
    run = simulate(
        made.graph, "4s", unit="pan-tilt", world={"ideal": True},
        budgets={"face": "27ms", "aim": "1ms"},
    )  # fmt: skip
    edges = zip(made.plan.edges, run.executor.assembly.edges, strict=True)
    worst = {edge.target: stats.worst_ns for edge, stats in edges}
    assert chain.reading_ns is not None
    assert chain.sent_ns is not None
    assert 0.9 * chain.reading_ns < worst["aim.faces"] <= chain.reading_ns
    assert 0.9 * chain.sent_ns < worst["neck.command"] <= chain.sent_ns
