"""Processes in a unit profile: which threads run where, and what is refused."""

import pytest

from haihe.boards.unit import ProcessProfile, unit_from_text
from haihe.pipelines.launch import prepare
from haihe.runtime.errors import BoardError
from haihe.runtime.graph import Graph
from haihe.runtime.node import node
from haihe.runtime.plan.model import Plan
from haihe.runtime.types import Reading


@node(every="20ms")
def beat() -> Reading:
    return Reading(0.0)


@node(every="50ms")
def slow() -> Reading:
    return Reading(0.0)


with Graph("two") as graph:
    beat()
    slow()


def plan_of(processes: str) -> Plan:
    unit = unit_from_text(f"unit: bare\ndevices: {{}}\nprocesses:\n  {processes}\n", "unit.yaml")
    return prepare(graph, unit).plan


def test_a_thread_runs_in_the_process_that_names_it() -> None:
    plan = plan_of("far: {threads: [every-50ms], restart: 3, window: 30s}")
    assert {t.name: t.process for t in plan.threads} == {"every-20ms": "", "every-50ms": "far"}
    assert plan.processes == ("far",)


def test_what_a_process_does_at_a_death_has_units_and_defaults() -> None:
    text = "unit: u\ndevices: {}\nprocesses: {a: {threads: [x], backoff: 0.5s, hang: 2s}}\n"
    found = unit_from_text(text, "unit.yaml").unit.processes["a"]
    assert (found.restart, found.window, found.backoff, found.start, found.hang, found.rearm) == (
        0, 60.0, 0.5, 60.0, 2.0, False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("processes", "message"),
    [
        (
            "a: {threads: [every-20ms]}\n  b: {threads: [every-20ms]}",
            "unit.yaml:5:7: processes.b.threads: thread every-20ms is in process a already. A "
            "thread runs in one process.",
        ),
        (
            "a: {threads: [every-2ms]}",
            "unit.yaml:4:7: processes.a.threads: the plan of two has no thread 'every-2ms'. It "
            "has: every-20ms, every-50ms.",
        ),
        (
            "a: {restart: 1}",
            "unit.yaml:4:6: processes.a: no thread of two runs in process 'a'. Name its threads "
            "(`threads: [front]`), or its nodes in the graph (g.process).",
        ),
        (
            "main: {threads: [every-20ms]}",
            "unit.yaml:4:9: processes.main: main is the launcher's own process: what no other "
            "names runs in it. Choose another name, or leave it out.",
        ),
        (
            "a: {thread: [every-20ms]}",
            "unit.yaml:4:7: processes.a: unknown key 'thread'. Did you mean 'threads'?",
        ),
    ],
)
def test_what_is_refused(processes: str, message: str) -> None:
    with pytest.raises(BoardError) as error:
        plan_of(processes)
    assert str(error.value) == message


@pytest.mark.parametrize(
    "wrong", [{"restart": -1}, {"window": 0.0}, {"start": 0.0}, {"backoff": -0.1}, {"hang": -1.0}]
)
def test_numbers_that_make_no_sense(wrong: dict[str, float]) -> None:
    with pytest.raises(BoardError, match="expected 0 or more, and a window and a start"):
        ProcessProfile(**wrong)  # type: ignore[arg-type]
