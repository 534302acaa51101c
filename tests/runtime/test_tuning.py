"""Constants that change while a graph runs: types, ranges, and what is refused."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pytest

from haihe import tunable
from haihe.drivers.roles import servos
from haihe.pipelines.launch import simulate
from haihe.runtime.contracts import Tunable, fresh
from haihe.runtime.errors import ContractError, PlanError, WiringError
from haihe.runtime.graph import Graph
from haihe.runtime.node import contract_of, node
from haihe.runtime.record.recording import Recording
from haihe.runtime.tuning import checked
from haihe.runtime.types import JointCommand, JointState
from haihe.testing import replay

MS = 1_000_000


@node(every="20ms")
@dataclass
class Steady:
    """Stays at `at`."""

    at: Annotated[float, tunable(-0.5, 0.5)] = 0.1
    count: int = 2
    name: str = "it"
    is_on: bool = True
    way: Literal["left", "right"] = "left"
    limit: float | None = None
    other: Any = ()

    def __call__(self, neck: Annotated[JointState, fresh("1s")]) -> JointCommand:
        return JointCommand(np.full(2, self.at))


@node(every="20ms")
def plain(
    neck: Annotated[JointState, fresh("1s")], at: Annotated[float, tunable(0.0, 1.0)] = 0.5
) -> JointCommand:
    return JointCommand(np.full(2, at))


def steady(**constants: Any) -> Graph:
    with Graph("steady") as g:
        neck = servos("neck")
        neck.command(Steady(**constants)(neck.state))
    return g


def test_ranges_are_part_of_the_contract_of_classes_and_functions() -> None:
    assert contract_of(Steady).tunables == {"at": Tunable(-0.5, 0.5)}
    assert contract_of(plain).tunables == {"at": Tunable(0.0, 1.0)}


@pytest.mark.parametrize(
    ("key", "given", "kept"),
    [
        ("at", 0.5, 0.5),
        ("at", 0, 0.0),
        ("count", 3, 3),
        ("name", "that", "that"),
        ("is_on", False, False),
        ("way", "right", "right"),
        ("limit", None, None),
        ("limit", 2, 2.0),
        ("other", [1, "x"], [1, "x"]),
    ],
)
def test_what_fits_is_taken(key: str, given: Any, kept: Any) -> None:
    value = checked(steady().nodes["Steady"], key, given)
    assert (value, type(value)) == (kept, type(kept))


@pytest.mark.parametrize(
    ("key", "given", "problem"),
    [
        ("at", 0.51, "0.51 is outside its range of -0.5 to 0.5"),
        ("at", float("nan"), "nan is outside its range of -0.5 to 0.5"),
        ("at", "0.3", "expected a number, found '0.3'"),
        ("at", True, "expected a number, found True"),
        ("at", None, "expected a number, found None"),
        ("count", 3.5, "expected a whole number, found 3.5"),
        ("count", False, "expected a whole number, found False"),
        ("name", 3, "expected a text, found 3"),
        ("is_on", 1, "expected true or false, found 1"),
        ("way", "up", "'up' is none of 'left', 'right'"),
    ],
)
def test_what_does_not_fit_is_refused(key: str, given: Any, problem: str) -> None:
    use = steady().nodes["Steady"]
    with pytest.raises(PlanError) as error:
        checked(use, key, given)
    assert str(error.value) == (
        f"set('Steady', {key!r}): {problem} (wired at {use.line}). Nothing was changed."
    )


def test_a_constant_outside_its_range_is_refused_where_it_is_wired() -> None:
    with pytest.raises(WiringError) as error:
        steady(at=2.0)
    assert str(error.value).endswith(
        ": node Steady: 2.0 is outside its range of -0.5 to 0.5. Choose one inside."
    )


def test_a_range_has_its_ends_in_order() -> None:
    with pytest.raises(ContractError, match=r": tunable\(2, 1\): the first is to be the smaller"):
        tunable(2, 1)


def test_a_change_is_an_event_of_the_recording_and_a_refused_one_is_none(tmp_path: Path) -> None:
    path = tmp_path / "run.mcap"

    def script(executor: Any, world: Any) -> None:
        with pytest.raises(PlanError):
            executor.set("Steady", "at", 0.6)
        executor.after(200 * MS, lambda: executor.set("Steady", "at", 0.25))

    done = simulate(
        steady(), "600ms", unit="pan-tilt", world={"ideal": True}, record=path, prepare_run=script
    )
    assert done.world.truth(done.executor.now_ns)["pan"] == pytest.approx(0.25, abs=0.01)
    events = [e for r in Recording(path).lanes["every-20ms"] for e in r.events]
    assert [e for e in events if e[0] == "param"] == [("param", "Steady", "at", 0.25)]
    report = replay(path, graph=steady())
    assert report.ok, report
