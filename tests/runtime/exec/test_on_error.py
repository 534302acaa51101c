"""What follows when a node raises: the run ends, it is skipped, or it begins anew."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pytest

from haihe.drivers.roles import camera
from haihe.pipelines.launch import Simulation, simulate
from haihe.runtime.contracts import TICK, Tick, fresh
from haihe.runtime.errors import ContractError
from haihe.runtime.graph import Graph
from haihe.runtime.node import node
from haihe.runtime.record.recording import Recording
from haihe.runtime.types import Image, Reading
from haihe.testing import replay

MS = 1_000_000


@node(on_error="skip")
@dataclass
class Skips:
    """Raises at every third call."""

    _calls: int = 0

    def __call__(self, image: Image) -> Reading:
        self._calls += 1
        if self._calls % 3 == 0:
            raise ValueError("the third")
        return Reading(float(self._calls))


@node(every="20ms", on_error="restart")
@dataclass
class Restarts:
    """Raises at its fifth call since it began."""

    _calls: int = 0

    def __call__(
        self, value: Annotated[Reading | None, fresh("1s", on_stale="call")], dt: Tick = TICK
    ) -> Reading:
        self._calls += 1
        self._more = self._calls  # an attribute that it did not have when it was wired
        if self._calls == 5:
            raise RuntimeError("the fifth")
        return Reading(self._calls + dt)


@node(recorded=True, on_error="restart")
@dataclass
class Model:
    """Holds something that breaks at its tenth use; `uses` is what a model would not record."""

    uses: int = 0
    opened: int = 0

    def open(self) -> None:
        self.uses, self.opened = 0, self.opened + 1

    def close(self) -> None:
        self.uses = -100

    def __call__(self, image: Image) -> Reading:
        self.uses += 1
        if self.uses == 10:
            raise OSError("the device is gone")
        return Reading(float(self.uses))


def careless() -> Graph:
    with Graph("careless") as g:
        image = camera("front").image
        Restarts()(Skips()(image))
        Model()(image)
    return g


def run(path: Path, **options: Any) -> Simulation:
    return simulate(
        careless(), "1s", unit="pan-tilt", world={"ideal": True}, record=path, **options
    )


def test_it_goes_on_counted_and_recorded_and_a_replay_agrees(tmp_path: Path) -> None:
    path = tmp_path / "run.mcap"
    done = run(path)
    assert (done.outcome.reason, done.outcome.failures) == ("", [])
    nodes = done.executor.assembly.nodes
    assert (nodes["Skips"].called, nodes["Skips"].raised) == (20, 10)
    assert (nodes["Restarts"].called, nodes["Restarts"].raised) == (40, 10)
    assert (nodes["Model"].called, nodes["Model"].raised) == (27, 3)
    (model,) = (i for lane in done.executor.assembly.lanes for i in lane.instances
                if isinstance(i, Model))  # fmt: skip
    assert model.opened == 4
    for start_s in (0.0, 0.9):
        report = replay(path, graph=careless(), start_s=start_s)
        assert report.ok, report
    assert Recording(path).firings == 80


def test_it_is_said_once_a_second_and_how_often(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    simulate(careless(), "1500ms", unit="pan-tilt", world={"ideal": True})
    said = [r.getMessage() for r in caplog.records if "Skips" in r.getMessage()]
    line = careless().nodes["Skips"].line
    start = (
        f"{line}: node Skips: it raised ValueError: the third. No output in this firing; it goes on"
    )
    assert said == [
        f"{start} (on_error=skip). 1 times so far",
        f"{start} (on_error=skip). 12 times so far",
    ]
    restarts = [r.getMessage() for r in caplog.records if "Restarts" in r.getMessage()]
    line = careless().nodes["Restarts"].line
    assert restarts[0] == (
        f"{line}: node Restarts: it raised RuntimeError: the fifth. No output in this firing; it "
        "begins anew (on_error=restart). 1 times so far"
    )


@node(recorded=True, on_error="restart")
@dataclass
class Broken:
    """Cannot be opened a second time."""

    opened: int = 0

    def open(self) -> None:
        self.opened += 1
        if self.opened > 1:
            raise OSError("no such device")

    def close(self) -> None:
        pass

    def __call__(self, image: Image) -> Reading:
        raise ValueError("broken")


def test_what_cannot_be_opened_again_ends_the_run() -> None:
    with Graph("broken") as g:
        Broken()(camera("front").image)
    done = simulate(g, "1s", unit="pan-tilt", world={"ideal": True})
    lane, name, error = done.outcome.failures[0]
    assert (lane, name, done.outcome.reason) == ("front", "Broken", "node Broken raised")
    assert str(error) == (
        f"{g.nodes['Broken'].line}: node Broken: it raised OSError: no such device. The actuators "
        "were made safe; mend the node."
    )


def test_another_word_is_refused() -> None:
    with pytest.raises(ContractError, match=r": node\(on_error='retry'\): say stop, skip or res"):
        node(on_error="retry")  # type: ignore[call-overload]
