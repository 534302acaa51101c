"""Replay of aligned inputs: the choice is a number in the record, and may go back."""

from itertools import pairwise
from pathlib import Path
from typing import Annotated

import msgspec
from tests.runtime.exec.fakes import MS, GridCamera

from haihe.drivers.roles import camera
from haihe.runtime.contracts import aligned
from haihe.runtime.exec.virtual import START_NS, VirtualExecutor
from haihe.runtime.graph import Graph
from haihe.runtime.node import node
from haihe.runtime.plan.build import make_plan
from haihe.runtime.record.recorder import Recorder
from haihe.runtime.record.recording import Recording
from haihe.runtime.record.replay import Replayer
from haihe.runtime.types import Image, Reading


class Overtaking(GridCamera):
    """Every other frame arrives after its successor."""

    def capture(self, index: int, t_ns: int) -> tuple[Image | None, int]:
        image, _ = super().capture(index, t_ns)
        return image, (5 if index % 2 else 50) * MS


@node(on="left")
def pair(left: Image, right: Annotated[Image, aligned("4ms", keep=16)]) -> Reading:
    return Reading(float(right.data[0, 0, 0]))


def pairs() -> Graph:
    with Graph("pairs") as g:
        pair(camera("left").image, camera("right").image)
    return g


def test_a_choice_that_goes_back_is_made_again(tmp_path: Path) -> None:
    graph, path = pairs(), tmp_path / "run.mcap"
    plan = make_plan(graph, {})
    recorder = Recorder(path, {"plan": msgspec.to_builtins(plan)}, "lossless", START_NS)
    right = GridCamera(7 * MS, 1 * MS)
    right.first_ns = 30 * MS  # nothing to choose at first
    executor = VirtualExecutor(
        graph, plan, {}, {"left": Overtaking(20 * MS), "right": right}, sink=recorder
    )
    executor.run(400 * MS)
    recorder.close()
    recording = Recording(path)
    chosen = [r.fixed[5] for r in recording.lanes["left"]]
    assert chosen[0] == 0
    assert any(b and b < a for a, b in pairwise(chosen))
    report = Replayer(recording, pairs(), {}, perception=True).run()
    assert report.ok, report
    assert (report.firings, report.skipped) == (len(chosen), 0)
