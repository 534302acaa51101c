"""Overruns in a real run: recorded with what they void; `strict` stops safely."""

from pathlib import Path

import pytest

from haihe.boards.unit import unit_from_text
from haihe.pipelines.launch import run
from haihe.runtime.errors import NodeError
from haihe.runtime.graph import Graph
from haihe.runtime.node import node
from haihe.runtime.plan.build import make_plan
from haihe.runtime.plan.chains import chains_of
from haihe.runtime.record.recording import Recording
from haihe.runtime.types import Reading

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
