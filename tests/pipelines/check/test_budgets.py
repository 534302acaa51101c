"""Where budgets come from: the command line, cost files, this machine, other boards, nowhere."""

from pathlib import Path
from typing import Annotated

import msgspec
import pytest
from tests.pipelines.check.graphs import aim, prepared

from haihe.boards.compute_profile import find_profile
from haihe.boards.measured import Cost, Costs, Machine, costs_path
from haihe.boards.published import published
from haihe.boards.recognise import recognise
from haihe.drivers.roles import camera, servos
from haihe.models.detector import detector
from haihe.models.manifest import find_manifest
from haihe.pipelines.check import budgets_of
from haihe.pipelines.check.budgets import Board, Here, clock_of, node_budgets
from haihe.pipelines.check.measure import Measured
from haihe.pipelines.check.report import Budget
from haihe.pipelines.launch import Prepared, prepare
from haihe.runtime.contracts import fresh
from haihe.runtime.errors import BoardError
from haihe.runtime.graph import Graph
from haihe.runtime.node import node
from haihe.runtime.types import JointCommand, JointState

RPI5 = Board("rpi5", 2_400_000)
ROCK = Board("rk3588", 1_200_000)


@pytest.fixture
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))


def with_model(model: str = "part") -> Prepared:
    with Graph("follow") as graph:
        cam, neck = camera("front"), servos("neck")
        neck.command(aim(detector(model)(cam.image), neck.state))
    return prepare(graph, "pan-tilt")


def write(board: str = "rpi5", *, samples: int = 4000, gil_held: float | None = 0.25) -> None:
    cost = Cost(
        find_manifest("part").sha256, 4e6, 5e6, 6e6, samples, 4e6, 1, [], False, "P", 2_400_000,
        0, 7.0, gil_held,
    )  # fmt: skip
    path = costs_path(board)
    path.parent.mkdir(parents=True, exist_ok=True)
    costs = Costs(board, Machine(board=board), {"part": [cost]})
    path.write_bytes(msgspec.json.encode(costs))


def part(board: Board, here: Here | None = None, **declared: int) -> Budget:
    return node_budgets(with_model(), board, declared, here)["part"]


@pytest.mark.usefixtures("_home")
def test_a_cost_file_of_the_board_is_a_measurement() -> None:
    write()
    assert part(RPI5) == Budget(
        "part", 6_000_000, "measured", "measured, max of 4k", 1_500_000, 4000
    )


@pytest.mark.usefixtures("_home")
def test_few_samples_and_an_unknown_hold_are_said() -> None:
    write(samples=297, gil_held=None)
    found = part(RPI5)
    assert (found.said, found.weakness) == ("measured, max of 297", "297 runs of part are few")
    assert found.held_ns == found.ns == 6_000_000
    assert found.note == "part holds the interpreter all its time, which nobody measured"
    write(samples=298)
    assert part(RPI5).weakness == ""


@pytest.mark.usefixtures("_home")
def test_another_board_s_cost_is_scaled_by_clock_and_says_so() -> None:
    write()
    assert part(ROCK) == Budget(
        "part", 12_000_000, "estimated", "rpi5 ×2.00 (e)", 3_000_000, 4000, "",
        "part: max of 4k on rpi5, scaled by clock alone (2.4 GHz to 1.2 GHz)",
    )  # fmt: skip
    assert part(Board("generic")).origin == "missing"  # its clock is not known


@pytest.mark.usefixtures("_home")
def test_a_published_row_is_a_mean_and_says_so() -> None:
    rows = [row for row in published("rpi4", "yunet") if row.unit == "ms"]
    assert [row.value for row in rows] == [6.23]
    from haihe.pipelines.check.budgets import _candidates, _Model

    found = _candidates(_Model("yunet", "0" * 64, 1), [], Board("rpi4", 1_500_000)).estimated
    assert found is not None
    assert found.origin == "estimated"
    assert "a mean, not a worst case" in found.note
    assert found.ns is not None
    assert found.ns >= 6_230_000


@pytest.mark.usefixtures("_home")
def test_the_order_is_declared_measured_here_estimated_missing() -> None:
    here = Here("rpi5", 2_400_000, {"part": Measured(7_000_000, 500, 0.5)})
    assert part(RPI5).origin == "missing"
    found = part(Board("rpi5", 2_400_000, is_here=True), here)
    assert (found.ns, found.said, found.held_ns) == (
        7_000_000, "measured here, max of 500", 3_500_000,
    )  # fmt: skip
    scaled = part(ROCK, here)
    assert (scaled.ns, scaled.origin, scaled.note) == (
        14_000_000, "estimated",
        "part: measured here, max of 500, scaled by clock alone (2.4 GHz to 1.2 GHz)",
    )  # fmt: skip
    write()
    assert part(RPI5, here).ns == 6_000_000
    assert part(RPI5, here, part=9_000_000) == Budget(
        "part", 9_000_000, "declared", "declared here", 4_500_000
    )


def test_what_is_missing_says_what_to_do() -> None:
    nodes = prepared()
    found = node_budgets(nodes, RPI5, {})
    assert found["aim"] == Budget(
        "aim", None, "missing", "no budget",
        cure='add --measure 5s to measure it here, or declare it: @node(budget="2ms"), or '
        "--budget NODE=2ms",
    )  # fmt: skip
    here = Here("generic-x86_64", 0, {"face": Measured(1, 9)})
    found = node_budgets(nodes, RPI5, {}, here)
    assert found["aim"].cure.startswith("it was never called here: measure longer, or declare it")
    assert found["face"].cure.startswith(
        "what it takes here cannot be scaled, because the clock of rpi5 or of this machine is not"
    )


@pytest.mark.usefixtures("_home")
def test_a_damaged_cost_file_is_an_error() -> None:
    write()
    costs_path("rpi5").write_text("{")
    with pytest.raises(BoardError, match=r"not a cost file: .*Move it away"):
        part(RPI5)


def test_the_clock_of_a_board_is_the_slowest_of_its_fastest_cores() -> None:
    assert clock_of(find_profile("rk3588")) == 2_400_000
    assert clock_of(find_profile("rpi4")) == 1_500_000  # sold with 1.5 and with 1.8 GHz
    assert clock_of(find_profile("generic")) == 0


def test_a_node_may_say_how_long_it_holds_the_interpreter() -> None:
    @node(every="20ms", budget="4ms", held="500us")
    def quick(neck: Annotated[JointState, fresh("25ms")]) -> JointCommand:
        return neck.hold()

    with Graph("hold") as graph:
        neck = servos("neck")
        neck.command(quick(neck.state))
    budgets = node_budgets(prepare(graph, "pan-tilt"), ROCK, {})
    assert budgets["quick"] == Budget("quick", 4_000_000, "declared", "declared", 500_000)
    shorter = node_budgets(prepare(graph, "pan-tilt"), ROCK, {"quick": 300_000})
    assert shorter["quick"].held_ns == 300_000


@pytest.mark.usefixtures("_home")
def test_a_run_is_judged_by_what_was_measured_on_this_machine_only() -> None:
    assert budgets_of(with_model()) == {}
    write("another")
    assert budgets_of(with_model()) == {}  # an estimate is no yardstick
    write(recognise().board)
    assert budgets_of(with_model()) == {"part": 6_000_000}


@pytest.mark.usefixtures("_home")
def test_declared_budgets_go_before_measured_ones() -> None:
    @node(every="20ms", budget="4ms")
    def quick(neck: Annotated[JointState, fresh("25ms")]) -> JointCommand:
        return neck.hold()

    with Graph("hold") as graph:
        neck = servos("neck")
        neck.command(quick(neck.state))
    write(recognise().board)
    assert budgets_of(prepare(graph, "pan-tilt")) == {"quick": 4_000_000}
