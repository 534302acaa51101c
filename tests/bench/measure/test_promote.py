"""Cost files into the tree; published rows; the share of a run that holds the GIL."""

from pathlib import Path

import msgspec
import pytest

from haihe.bench.measure import promote as promotion
from haihe.bench.measure.costs import cost_of, gil_held
from haihe.bench.measure.promote import LEAST, main, promote
from haihe.bench.measure.protocol import Machine, Result, Series
from haihe.bench.report.result import text
from haihe.boards.compute_profile import all_profiles
from haihe.boards.measured import Cost, Costs, read_promoted
from haihe.boards.published import published, rows


def cost(**changes: object) -> Cost:
    one = Cost("a" * 64, 4e6, 5e6, 6e6, LEAST, 4e6, 1, [], False, "P", None, 0, 7.0, 0.25)
    return msgspec.structs.replace(one, **changes)


def write(
    folder: Path, one: Cost, board: str = "rpi5", more: dict[str, object] | None = None
) -> Path:
    machine = {"board": board, "cores": ["Cortex-A76"]} | (more or {})
    costs = Costs(board, Machine(**machine), {"part": [one]})  # type: ignore[arg-type]
    path = folder / "costs.json"
    path.write_bytes(msgspec.json.encode(costs))
    return path


def test_a_sound_file_is_promoted_and_reads_back(tmp_path: Path) -> None:
    path = promote(write(tmp_path, cost()), tmp_path)
    assert path == tmp_path / "rpi5.yaml"
    found = read_promoted(path)
    assert found.models == {"part": [cost()]}
    assert found.machine.cores == ["Cortex-A76"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"samples": LEAST - 1}, f"part, 1 threads on cores all, P: {LEAST - 1} samples"),
        ({"p99_ns": None}, "no p99"),
        ({"throttled": 100}, f"100 of {LEAST} samples were taken throttled"),
        ({"p50_ns": 9e6}, "are not in order"),
        ({"sha256": ""}, "no SHA-256"),
    ],
)
def test_rows_that_say_too_little(
    tmp_path: Path, changes: dict[str, object], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(write(tmp_path, cost(**changes)))]) == 1
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("board", "machine", "said"),
    [
        ("rpi5", {"is_emulated": True}, "an emulated machine has no costs"),
        ("rpi5", {"is_virtual": True}, "in a virtual machine"),
        ("rpi6", {}, "board 'rpi6' is not known"),
        ("generic-aarch64", {}, "any machine of its kind"),
        ("rpi5", {"board": "rpi4"}, "the file is of 'rpi5', its machine of 'rpi4'"),
    ],
)
def test_machines_that_are_no_board(
    tmp_path: Path, board: str, machine: dict[str, object], said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert main([str(write(tmp_path, cost(), board, machine))]) == 1
    assert said in capsys.readouterr().err


def test_no_made_up_costs_are_shipped() -> None:
    names = {path.stem for path in promotion.FOLDER.glob("*.yaml")}
    assert names == {"reference"}


def test_published_rows_belong_to_boards_and_say_where_from() -> None:
    boards = {profile.board for profile in all_profiles()[0]}
    assert {row.board for row in rows()} - {""} <= boards
    assert all(row.source and row.timed and row.caveat and row.value > 0 for row in rows())
    assert [row.value for row in published("rpi5", "mobilenet-v2")][:2] == [10.5, 16.4]
    assert [row.value for row in published("rk3568", "fastestdet")] == [28, 23.5, 70.6]
    assert published("rpi5", "part") == []
    assert published("") == []


def result(**counts: float) -> Result:
    series = [Series(s, [ns] * 500) for s, ns in (("infer", 3_000), ("total", 4_000))]
    settings = {
        "sha256": "a" * 64, "threads": 1, "cores": [], "spin": False, "provider": "P", "streams": 1,
    }  # fmt: skip
    counts = {"cpu_process_ns": 4e3, **counts}
    return Result("model fastestdet", "", settings, series, Machine(board="rk3568"), counts=counts)


def test_published_rows_stand_beside_the_users_result() -> None:
    said = text(result())
    assert "published FastestDet 352: 23.5 ms (RK3568 A55 2.0 GHz, ncnn 4" in said
    assert "published" not in text(msgspec.structs.replace(result(), machine=Machine("rpi5")))


def test_a_machine_is_named_only_when_asked() -> None:
    one = result()
    one.settings["host"] = "robot7"
    assert "on robot7: rk3568" in text(one)
    assert "on rk3568" in text(result())


def test_the_share_outside_the_session() -> None:
    assert gil_held(result(cpu_thread_ns=3_900.0)) == pytest.approx(0.225)
    assert gil_held(result(cpu_thread_ns=2_000.0)) == 0.0
    assert gil_held(result()) is None
    several = result(cpu_thread_ns=3_900.0)
    several.settings["threads"] = 2
    assert gil_held(several) is None
    found = cost_of(result(cpu_thread_ns=3_900.0))
    assert (found.samples, found.clock_khz) == (500, None)
