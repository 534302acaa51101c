"""Overruns in a real run: recorded with what they void; `strict` stops safely."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from haihe.boards.measured import Cost, Costs, Machine, costs_path
from haihe.boards.recognise import recognise
from haihe.boards.unit import unit_from_text
from haihe.models.detector import detector
from haihe.models.manifest import find_manifest
from haihe.pipelines.launch import run
from haihe.pipelines.overruns import OverrunWatch
from haihe.runtime.clock import now_ns
from haihe.runtime.errors import NodeError
from haihe.runtime.exec.lane import Overrun
from haihe.runtime.graph import Graph
from haihe.runtime.node import node
from haihe.runtime.plan.build import make_plan
from haihe.runtime.plan.chains import chains_of
from haihe.runtime.record.recorder import Recorder
from haihe.runtime.record.recording import Recording
from haihe.runtime.types import Image, Reading

UNIT = unit_from_text("unit: bare\ndevices: {}\n", "unit.yaml")


@node(every="5ms", budget="1us")
def hasty() -> Reading:
    return Reading(float(sum(range(3000))))


@node
def passed(reading: Reading) -> Reading:
    return reading


def graph() -> Graph:
    with Graph("late") as g:
        g.thread("after", passed(hasty()))
    return g


def test_chains_end_where_nobody_reads() -> None:
    (chain,) = chains_of(make_plan(graph(), {}))
    assert str(chain) == "every-5ms → passed"
    assert chain.lanes == {"every-5ms", "passed"}


def test_every_overrun_is_in_the_recording_with_what_it_voids(tmp_path: Path) -> None:
    live = run(graph(), unit=UNIT, duration="300ms", record=tmp_path / "run.mcap")
    found = Recording(tmp_path / "run.mcap").note_log["overrun"]
    assert len(found) == live.executor.assembly.nodes["hasty"].overruns > 5
    assert live.overruns is not None
    assert live.overruns.worst["hasty"].took_ns == max(n["took_ns"] for n in found)
    for note in found:
        assert note["took_ns"] > note["budget_ns"] == 1000
        assert (note["lane"], note["node"]) == ("every-5ms", "hasty")
        assert note["void"] == ["every-5ms → passed"]


def test_in_another_process_it_voids_only_what_it_delays(tmp_path: Path) -> None:
    with Graph("split") as g:
        hasty()
        still()
        g.process("eye", "still")
    plan = make_plan(g, {})
    recorder = Recorder(tmp_path / "run.mcap", {"plan": msgspec.to_builtins(plan)})
    watch = OverrunWatch(g, plan, recorder, {}, strict=False)
    watch.overran(Overrun(now_ns(), "every-5ms", "hasty", 1, 2000, 1000))
    watch.overran(Overrun(now_ns(), "every-10ms", "still", 1, 2000, 1000))
    recorder.close()
    notes = Recording(tmp_path / "run.mcap").note_log["overrun"]
    assert [(note["node"], note["void"]) for note in notes] == [
        ("hasty", ["every-5ms → every-5ms"]), ("still", ["every-10ms → every-10ms"]),
    ]  # fmt: skip


def test_a_budget_that_is_given_counts_like_a_declared_one() -> None:
    live = run(graph(), unit=UNIT, duration="100ms", budgets={"hasty": 10**9})
    assert live.executor.assembly.nodes["hasty"].overruns == 0


def test_strict_stops_on_the_first_and_says_what_to_do() -> None:
    with pytest.raises(NodeError) as error:
        run(graph(), unit=UNIT, duration="20s", strict=True)
    text = str(error.value).partition(": node ")[2]
    start, _, rest = text.partition(" it took ")
    took, _, rest = rest.partition(" in firing ")
    firing, _, rest = rest.partition(", ")
    assert start == "hasty:"
    assert took.endswith(("µs", "ms"))
    assert int(firing) == 11
    assert rest == (
        "its budget is 1 µs: the bounds of every-5ms → passed are void. The actuators were made "
        "safe; give it a larger budget and check again, or run without --strict."
    )


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.name == "haihe.pipelines.overruns"]


def test_strict_names_once_what_it_cannot_judge(caplog: pytest.LogCaptureFixture) -> None:
    run(graph(), unit=UNIT, duration="50ms", budgets={"hasty": 10**9}, strict=True)
    assert said(caplog) == [
        "strict: no budget is known of passed: no overrun there stops the run. Declare one: "
        '@node(budget="2ms").'
    ]
    caplog.clear()
    run(graph(), unit=UNIT, duration="50ms", budgets={"hasty": 10**9, "passed": 10**9}, strict=True)
    assert not said(caplog)


@node(every="10ms")
def still() -> Image:
    return Image(np.zeros((96, 96, 3), np.uint8))


def test_a_model_is_judged_by_what_was_measured_on_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    board, model = recognise().board, find_manifest("part")
    file = costs_path(board)
    file.parent.mkdir(parents=True)
    cost = Cost(model.sha256, 1.0, 1.0, 1.0, 400, 1.0, 1, [], False, "", None, 0, 0.0)
    file.write_bytes(msgspec.json.encode(Costs(board, Machine(board), {"part": [cost]})))
    with Graph("look") as looking:
        detector("part")(still())
    live = run(looking, unit=UNIT, duration="100ms")
    part = live.executor.assembly.nodes["part"]
    assert part.overruns == part.called + part.silent > 0
    assert live.overruns is not None
    assert live.overruns.worst["part"].budget_ns == 1
    file.write_text("[]")
    live = run(looking, unit=UNIT, duration="50ms")
    assert live.executor.assembly.nodes["part"].overruns == 0
    assert said(caplog) == [
        f"{file}: not a cost file: Expected `object`, got `array`. Move it away. Nodes are judged "
        "by their declared budgets."
    ]
