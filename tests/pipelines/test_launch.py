"""Prepare and simulate: what is asked for, what is refused, and what is left behind."""

import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.runtime.exec.fakes import following

from haihe.boards.unit import UnitFile, find_unit, load_unit, unit_from_text
from haihe.pipelines.launch import prepare, run, simulate
from haihe.runtime.errors import BoardError, ContractError, PlanError, RecordError
from haihe.runtime.plan.model import Plan

IDEAL = {"ideal": True}


def unit(old: str, new: str) -> UnitFile:
    shipped = load_unit(find_unit("pan-tilt", None))
    assert old in shipped.text
    return unit_from_text(shipped.text.replace(old, new), "unit.yaml")


def without(start: str, end: str) -> UnitFile:
    text = load_unit(find_unit("pan-tilt", None)).text
    return unit_from_text(text[: text.index(start)] + text[text.index(end) :], "unit.yaml")


def test_prepare_binds_plans_and_describes_itself() -> None:
    graph = following()
    prepared = prepare(graph, "pan-tilt")
    assert [lane.name for lane in prepared.plan.lanes] == ["every-20ms", "front"]
    header = prepared.header(3, "virtual time", True)
    assert header["plan_hash"] == prepared.plan.hash
    assert msgspec.convert(header["plan"], Plan).hash == prepared.plan.hash
    assert header["source"]["file"] == graph.file
    assert header["unit"]["text"] == prepared.binding.unit.text
    assert (header["graph"], header["seed"], header["sim"]) == ("following", 3, True)
    assert prepare(following(), "pan-tilt").plan.hash == prepared.plan.hash


def test_the_same_seed_is_the_same_run_and_another_is_not() -> None:
    runs = [
        simulate(following(), "600ms", unit="pan-tilt", seed=seed, world=IDEAL)
        for seed in (4, 4, 5)
    ]
    wires = [made.world.bus.received for made in runs]
    assert wires[0] == wires[1] != wires[2]
    assert runs[0].truth == runs[1].truth


def test_the_truth_is_looked_at_every_5_ms_and_rms_leaves_the_beginning_out() -> None:
    made = simulate(following(), "1s", unit="pan-tilt", world=IDEAL)
    assert len(made.times) == 200
    assert made.times == pytest.approx([i * 0.005 for i in range(200)])
    errors = made.truth["error"][100:]
    wanted = (sum(e * e for e in errors) / len(errors)) ** 0.5
    assert made.rms("error", 0.5) == pytest.approx(wanted)
    assert made.rms("error", 99.0) == 0.0
    assert made.recording is None


def test_the_world_may_be_changed_and_budgets_cost_time() -> None:
    quick = simulate(following(), "2s", unit="pan-tilt", world=IDEAL)
    slow = simulate(
        following(), "2s", unit="pan-tilt", world=IDEAL | {"latency_ms": 80.0},
        budgets={"ideal_detector": "20ms"},
    )  # fmt: skip
    ages = [
        next(b for ln in made.executor.assembly.lanes for b in ln.buses) for made in (quick, slow)
    ]
    mean = [bus.reaction_total_ns / bus.first_bytes * 1e-6 for bus in ages]
    assert mean[1] - mean[0] == pytest.approx(85.0, abs=11.0)


NO_GUARD = ("    guard:", "sim:")


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"unit": without(*NO_GUARD)}, BoardError, "neck is commanded but has no guard"),
        ({"duration": "10 parsecs"}, ContractError, "'parsecs' is not a unit"),
        ({"duration": "0s"}, ContractError, "duration '0s' is not a positive duration"),
        ({"world": {"idael": True}}, BoardError, "world pan_tilt: it has no option 'idael'"),
        ({"frames": "all"}, RecordError, "frames='all': expected"),
        ({"prepare_run": lambda ex, w: ex.set("x", "y", 1)}, PlanError, "has no node 'x'"),
        ({"budgets": {"purse": "1ms"}}, PlanError, "graph following has no node 'purse'. It has: "),
        ({"budgets": {"pursue": "fast"}}, ContractError, "'fast' is not a quantity"),
    ],
)
def test_what_cannot_run_is_said_and_leaves_no_thread(
    options: dict[str, Any], error: type[Exception], said: str, tmp_path: Path
) -> None:
    before = set(threading.enumerate())
    whole = {"duration": "100ms", "unit": "pan-tilt", "world": IDEAL} | options
    whole["record"] = tmp_path / "run.mcap"
    with pytest.raises(error) as caught:
        simulate(following(), **whole)
    assert said in str(caught.value)
    left = [t.name for t in threading.enumerate() if t not in before]
    assert left == []


def test_a_device_without_a_port_is_refused_before_anything_is_opened(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    profile = unit("    port: /dev/ttyUSB0\n", "")
    with pytest.raises(BoardError) as caught:
        run(following(), unit=profile, duration="1s", record=tmp_path / "run.mcap")
    assert str(caught.value) == (
        "unit.yaml:14:5: devices.neck: device neck has no port. Give `port: /dev/...`, or run it "
        "simulated with --sim."
    )
    assert list(tmp_path.iterdir()) == []
    assert [t.name for t in threading.enumerate() if t not in before] == []
