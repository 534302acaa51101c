"""Documents in and out: schema, cost file, pytest-benchmark, LoadGen, sweeps."""

import importlib.util
import json
from pathlib import Path

import pytest
from tests.bench.onnx_file import chain

from haihe.bench.measure import schema
from haihe.bench.measure.costs import write_costs
from haihe.bench.measure.imports import PROTOCOL, read_pytest_benchmark
from haihe.bench.measure.model import Settings, measure
from haihe.bench.measure.protocol import Machine, MachineState, Result, Series
from haihe.bench.measure.sweep import Point, combinations, mark_best, table
from haihe.boards.measured import costs_path, read_costs
from haihe.runtime.clock import SECOND
from haihe.runtime.errors import BoardError, HaiheError, ModelError

HAS_LOADGEN = importlib.util.find_spec("mlperf_loadgen") is not None


def result(threads: int = 1, load: str = "closed", **machine: object) -> Result:
    settings = {
        "sha256": "a" * 64, "threads": threads, "cores": [], "spin": False, "provider": "P",
        "load": load, "with": [], "streams": 1, "fps": 0.0,
    }  # fmt: skip
    counts = {"cpu_process_ns": 5e6 * threads, "rss_peak_bytes": 2.0**20, "rss_before_bytes": 0.0}
    return Result(
        "model part", "haihe bench model part", settings,
        [Series("total", [4_000_000 // threads] * 500, throttled=[3])],
        Machine(board="rpi5", **machine),  # type: ignore[arg-type]
        [MachineState(0, frequency_khz=[600_000, 2_400_000])], counts, started=7.0,
    )  # fmt: skip


def test_the_committed_schema_is_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    assert schema.FILE.read_text(encoding="utf-8") == schema.schema()
    assert schema.main(["--check"]) == 0
    assert "up to date" in capsys.readouterr().out
    body = json.loads(schema.schema())
    assert set(body["$defs"]["Series"]["required"]) == {"stage", "samples_ns"}


def test_costs_keep_one_entry_per_setting(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "rpi5.json"
    assert write_costs([result(1), result(2)], file) == file
    write_costs([result(2)], file)
    costs = read_costs(file)
    assert costs is not None
    assert [(c.threads, c.p50_ns, c.samples) for c in costs.models["part"]] == [
        (1, 4e6, 500), (2, 2e6, 500),
    ]  # fmt: skip
    cost = costs.models["part"][0]
    assert (cost.clock_khz, cost.p99_ns, cost.throttled) == (2_400_000, 4e6, 1)
    assert list(file.parent.iterdir()) == [file]


def test_costs_that_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "rpi5.json"
    with pytest.raises(HaiheError, match="an emulated machine has no costs"):
        write_costs([result(is_emulated=True)], file)
    with pytest.raises(HaiheError, match="costs are those of a closed loop"):
        write_costs([result(load="paced")], file)
    file.write_text("{}", encoding="utf-8")
    with pytest.raises(BoardError, match="not a cost file"):
        write_costs([result()], file)
    file.unlink()
    other = result()
    other.machine.board = "jetson"
    write_costs([other], file)
    with pytest.raises(BoardError, match="costs of jetson, this is rpi5"):
        write_costs([result()], file)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert costs_path("rpi5") == tmp_path / "haihe" / "costs" / "rpi5.json"


def test_pytest_benchmarks_come_in(tmp_path: Path) -> None:
    file = tmp_path / "b.json"
    one = {"fullname": "t.py::test_a", "stats": {"data": [1e-3, 2e-3], "mean": 1.5e-3}, "extra": 1}
    info = {"cpu": {"brand_raw": "Cortex", "count": 4}, "python_version": "3.12.1", "node": "my-pc"}
    document = {"benchmarks": [one], "version": "5.1.0", "machine_info": info}
    file.write_text(json.dumps(document), encoding="utf-8")
    found = read_pytest_benchmark(file)
    assert found.protocol == PROTOCOL
    assert [(s.stage, s.samples_ns) for s in found.series] == [
        ("t.py::test_a", [1_000_000, 2_000_000])
    ]
    assert found.machine.model == "Cortex"
    assert "my-pc" not in repr(found)
    one["stats"] = {"mean": 1.0}
    file.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(HaiheError, match=r"no samples of t\.py::test_a in it"):
        read_pytest_benchmark(file)
    file.write_text("[]", encoding="utf-8")
    with pytest.raises(HaiheError, match="not a result of pytest-benchmark"):
        read_pytest_benchmark(file)


@pytest.mark.skipif(HAS_LOADGEN, reason="mlcommons-loadgen is installed")
def test_loadgen_is_asked_for_by_name(tmp_path: Path) -> None:
    model = str(chain(tmp_path / "a.onnx", 1, 8))
    with pytest.raises(ModelError, match="pip install mlcommons-loadgen"):
        measure(Settings(model, loadgen=True, time_limit_ns=SECOND // 10))


@pytest.mark.skipif(not HAS_LOADGEN, reason="mlcommons-loadgen is not installed")
def test_loadgen_asks_for_the_runs(tmp_path: Path) -> None:
    model = str(chain(tmp_path / "a.onnx", 1, 8))
    found = measure(Settings(model, loadgen=True, time_limit_ns=SECOND // 2))
    assert found.settings["load"] == "loadgen"
    assert len(found.series[0].samples_ns) >= 64


def test_the_front_is_what_nothing_beats_in_both() -> None:
    points = [
        Point(Settings("a"), result(), p50, cpu)
        for p50, cpu in ((4.0, 4.0), (2.0, 4.4), (2.5, 9.0), (1.9, 4.39), (5.0, 3.99))
    ]
    mark_best(points)
    # the last is cheaper by less than noise; the second is beaten by the fourth
    assert [point.is_best for point in points] == [True, False, False, True, False]
    assert table(points).count("   *") == 2


def test_combinations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2, 3, 4, 5})
    monkeypatch.setattr("haihe.bench.measure.sweep.core_sets", lambda: [(), (4, 5)])
    found = [(s.provider, s.cores, s.threads, s.spin) for s in combinations(Settings("a"), ["cpu"])]
    assert found == [
        ("cpu", (), 1, False),
        *(("cpu", (), n, spin) for n in (2, 4, 6) for spin in (False, True)),
        ("cpu", (4, 5), 1, False), ("cpu", (4, 5), 2, False), ("cpu", (4, 5), 2, True),
    ]  # fmt: skip
    chosen = Settings("a", cores=(2,))
    assert [(s.cores, s.threads) for s in combinations(chosen)] == [((2,), 1)]
