"""The case of many nodes: its graphs are what it says, and its figures those of the kernel."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from haihe.bench.cases import many, many_graph
from haihe.boards.unit import unit_from_text
from haihe.pipelines.launch import prepare


@pytest.mark.parametrize("apart", [True, False])
def test_the_graph_is_300_nodes_in_24_lanes(apart: bool) -> None:
    graph = many_graph.many
    plan = prepare(graph, unit_from_text(many.unit_text(apart=apart), "unit.yaml")).plan
    assert (len(graph.nodes), len(plan.lanes), len(plan.threads)) == (300, 24, 24)
    assert sum(len(lane.task.steps) for lane in plan.lanes) == 300
    assert plan.processes == (("group1", "group2", "group3") if apart else ())


@pytest.fixture
def family() -> Iterator["subprocess.Popen[str]"]:
    """A process with a child of its own; both end with its standard input."""
    app = (
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'input()'])\n"
        "print(child.pid, flush=True)\n"
        "child.wait()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", app], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True,
    ) as process:  # fmt: skip
        yield process
        assert process.stdin is not None
        process.stdin.close()


def test_descendants_are_found(family: "subprocess.Popen[str]") -> None:
    assert family.stdout is not None
    child = int(family.stdout.readline())
    assert list(many.descendants(family.pid)) == [child]
    assert {family.pid, child} <= set(many.descendants(os.getpid()))


def test_cpu_time_is_that_of_the_process() -> None:
    before = os.times()
    own = many.cpu_s([os.getpid()])
    after = os.times()
    tick = 1 / os.sysconf("SC_CLK_TCK")
    assert before.user + before.system - 2 * tick <= own <= after.user + after.system + 2 * tick
