"""The text of a report, whole; that it keeps its width; its colours; the report as JSON."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import msgspec
import pytest
from tests.pipelines.check.graphs import measured, prepared, reported

from haihe.drivers.roles import camera
from haihe.pipelines.check import check
from haihe.pipelines.check.finding import Finding
from haihe.pipelines.check.report import Report, Verdict
from haihe.pipelines.check.text import WIDTH, text
from haihe.pipelines.launch import prepare
from haihe.runtime.contracts import fresh
from haihe.runtime.graph import Graph, named
from haihe.runtime.node import node
from haihe.runtime.types import Image, Reading

WELL = """\
follow on rk3588 · unit pan-tilt · 2 lanes             verdict  expected (not pinned, no SCHED_FIFO)

lane        node         budget  from                    response  deadline  load
every-20ms  3 together   1.9 ms                            1.9 ms      5 ms  10 %
            read neck    0.5 ms  wire at 1,000,000 baud
            aim          1.0 ms  measured, max of 4k
            write neck   0.4 ms  wire at 1,000,000 baud
front       face        27.0 ms  measured, max of 4k      28.7 ms         —  81 %

front → face → aim → neck                           bound  contract
  age of faces when aim reads                     86.3 ms  120 ms    expected  33.7 ms spare
  age when the first byte leaves                  88.2 ms  —
  oldest data neck still acts on                 108.2 ms  —         = slowest reaction to an event
    33.3 next frame ▇▇▇▇▇▇▇  26.0 capture→host ▇▇▇▇▇▇  27.0 face ▇▇▇▇▇▇  20.0 next tick ▇▇▇▇
    1.9 tick+bus ▇
  headroom  face may take 33.2 ms (×1.23). Above it messages are dropped and fresh of aim.faces
            would be 126.0 ms: fails.

other contracts                                     bound  contract
  aim from release to publication                  1.5 ms  5 ms      expected  3.5 ms spare
  age of aim.neck when read                        0.5 ms  25 ms     expected  24.5 ms spare

what looks like a cure and is none
  front at 60 Hz  age at reading rises from 86.3 to 96.7 ms

for a stronger verdict
  give every-20ms, front a core and a priority: `threads: {every-20ms: {core: 4, priority: 50}}` in
    the unit profile
  run front in a process of its own (`processes: {vision: {threads: [front]}}` in the unit profile):
    the reader of front shares the interpreter of main with every-20ms

assumes  budgets are kept: each overrun of a run is reported, with the chains it voids · front
         captures every 33.3 ms · neck: every device answers, its adapter adds no delay · each
         thread has a core of its own when it needs one, timers wake in time · threads of one
         process: each waits while another holds the interpreter"""

BUDGETS = [measured("face", 27, 0), measured("aim", 1, 0)]


def test_the_example_reads_like_this() -> None:
    report = reported(BUDGETS)
    assert repr(report) == WELL
    assert report.exit_code == 0


def test_a_failure_says_what_by_how_much_and_what_mends_it() -> None:
    report = reported([measured("face", 45, 0), measured("aim", 1, 0)])
    lines = text(report).splitlines()
    assert lines[0].endswith("verdict  fails: face +29.4 ms")
    row = lines.index(
        "  age of faces when aim reads                    149.3 ms  120 ms    fails: face +29.4 ms"
    )
    assert lines[row + 1].startswith("    ")
    assert "graphs.py:" in lines[row + 1]
    at = lines.index("cures, each analysed again")
    assert lines[at + 1 : at + 3] == [
        '  fresh("150ms") on aim.faces  all hold',
        "  face in 33.2 ms or less      all hold",
    ]
    assert report.exit_code == 1


def test_a_finding_that_fails_makes_the_exit_code_1() -> None:
    bad = Finding("fails", "unit.yaml:3:1", "the bus is too slow.", "Raise its rate.")
    report = msgspec.structs.replace(reported(BUDGETS), findings=[bad])
    assert str(report.verdict) == "expected (not pinned, no SCHED_FIFO)"
    assert report.exit_code == 1
    assert (
        "found besides timing\n"
        "  fails unit.yaml:3:1\n"
        "        the bus is too slow. Raise its rate.\n"
    ) in text(report)


def test_colours_change_nothing_but_colours() -> None:
    report = reported(BUDGETS)
    coloured = text(report, colour=True)
    assert "\x1b[33mexpected\x1b[0m (not pinned, no SCHED_FIFO)" in coloured
    for code in ("\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[0m"):
        coloured = coloured.replace(code, "")
    assert coloured == text(report)


def test_the_document_comes_back_as_the_same_report() -> None:
    report = reported(BUDGETS, findings=True)
    assert Report.from_json(report.to_json()) == report
    document = msgspec.json.decode(report.to_json())
    assert document["schema"] == 1
    assert document["verdict"] == {"word": "expected", "reason": "not pinned, no SCHED_FIFO"}
    with pytest.raises(msgspec.ValidationError):
        Report.from_json(b'{"graph": 1}')


def test_graph_check_gives_the_report() -> None:
    made = prepared()
    budgets = {"face": "27ms", "aim": "1ms"}
    found = made.graph.check("rk3588", unit="pan-tilt", budgets=budgets)
    assert isinstance(found, Report)
    assert (found.board, found.plan) == ("rk3588", made.plan.hash)
    assert repr(found).startswith("follow on rk3588 · unit pan-tilt · 2 lanes")
    assert [budget.said for budget in found.lanes[1].items] == ["declared here"]


def test_a_verdict_as_the_words_have_it() -> None:
    assert str(Verdict("holds (measured)")) == "holds (measured)"
    assert str(Verdict("expected", "not pinned")) == "expected (not pinned)"
    assert str(Verdict("fails", "face +1.0 ms")) == "fails: face +1.0 ms"
    assert str(Verdict("unbounded", "front starved by aim")) == "unbounded: front starved by aim"


@node(budget="20us")
def first(image: Image) -> Reading:
    return Reading(1.0)


@node(budget="20us")
def step(reading: Reading) -> Reading:
    return reading


def every(ms: int) -> Callable[[Reading], Reading]:
    @node(every=f"{ms}ms", budget="20us", deadline="3ms")
    def tick(reading: Annotated[Reading, fresh("2s")]) -> Reading:
        return reading

    return tick


def big(lanes: int, nodes: int) -> Graph:
    """So many rates, and so many nodes at each."""
    with Graph("big") as graph:
        value = first(camera("front").image)
        for lane in range(lanes):
            value = named(f"tick_{lane}", every(21 + lane))(value)
            for place in range(nodes - 1):
                value = named(f"step_{lane}_{place}", step)(value)
    return graph


def test_300_nodes_are_checked_and_shown_in_the_same_width() -> None:
    made = prepare(big(30, 10), "pan-tilt")
    assert len(made.graph.nodes) == 301
    found = check(made.graph, "rk3588", unit="pan-tilt")
    lines = repr(found).splitlines()
    assert max(map(len, lines)) <= WIDTH
    assert "  and 7 more lanes" in lines
    assert len(lines) < 120
    [chain] = found.chains
    assert len(chain.parts) > 90
    assert sum(part.ns for part in chain.parts) == chain.oldest_ns
    assert len(found.lanes) == 31
    assert "a graph of 31 lanes: not every cure and headroom was looked for" in found.assumptions


def test_paths_are_told_from_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parent)
    report = reported([measured("face", 45, 0), measured("aim", 1, 0)])
    assert "\n    graphs.py:" in text(report)
