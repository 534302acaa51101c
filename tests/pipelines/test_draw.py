"""Drawings of a graph as text and as Mermaid, their numbers, and the command."""

from pathlib import Path

import pytest
from tests.pipelines.drawings import NUMBERS, drawn, everything

from haihe.cli import main
from haihe.pipelines.check.report import LaneReport, Promise, Report, Verdict
from haihe.pipelines.draw.drawing import (
    Box,
    Drawing,
    LaneFrame,
    Number,
    Numbers,
    ThreadFrame,
    drawing_of,
)
from haihe.pipelines.draw.mermaid import mermaid
from haihe.pipelines.draw.numbers import numbers_of
from haihe.pipelines.draw.svg import svg
from haihe.pipelines.draw.text import text
from haihe.pipelines.launch import prepare
from haihe.runtime.plan.build import make_plan

TEXT = """\
everything  unit pan-tilt · plan {plan}

◉ front  camera.v4l2, /dev/video0, 320x240 · 30 fps

thread slow  route before fuse
lane route  every 100 ms
└─ route               budget 9 ms
     ┄▷ obstacles  fuse         fresh 300 ms, or None
     ┄▷ neck       neck.state   fresh 200 ms
lane fuse  on find, 4 places
└─ fuse
     ═▶ parts      find
     ≈▷ depth      depth        within 20 ms
     ↺  last       fuse

lane every-20ms  every 20 ms
├─ read neck           servo.sts, /dev/ttyUSB0 · 1,000,000 baud, pan, tilt
├─ aim                 budget 1 ms, deadline 5 ms
│    ┄▷ goal       route.goal   fresh 250 ms
│    ┄▷ parts      find         fresh 120 ms
│    ─▶ neck       neck.state   fresh 25 ms
└─ guard · write neck  command age 250 ms, safe: hold, host dies: warden
     ─▶ command    aim

lane front  on front.image
├─ find                detect, budget 6 ms
│    ━▶ image      front.image
└─ depth
     ━▶ image      front.image
     ┄▷ neck       neck.state   fresh 50 ms

━▶ triggers  ─▶ same tick  ┄▷ sampled: the newest  ═▶ in order, triggers  \
≈▷ sampled: the nearest in time  ↺ previous firing"""


def test_the_text_of_a_graph() -> None:
    plan = prepare(everything(), "pan-tilt").plan.hash[:12]
    assert text(drawn()) == TEXT.format(plan=plan)


def test_the_text_with_numbers() -> None:
    said = text(drawn(NUMBERS)).splitlines()
    assert said[0].endswith(" · rk3588: fails")
    for line in (
        "lane front  on front.image  response 28.7 ms",
        f"     ═▶ parts      find{' ' * 32}waiting 2 of 4 places holds (estimated)",
        "├─ aim                 budget 1 ms, deadline 5 ms, response 1.9 ms expected",
        "│    ┄▷ goal       route.goal   fresh 250 ms           age 312 ms fails",
        "│    ┄▷ parts      find         fresh 120 ms           age 86.3 ms holds (measured)",
    ):
        assert line in said


def test_without_a_unit_devices_are_what_the_graph_calls_them() -> None:
    graph = everything()
    drawing = drawing_of(graph, make_plan(graph, {}))
    facts = {box.key: box.facts for box in drawing.boxes()}
    assert facts["front"] == ("camera",)
    assert facts["neck.read"] == ("servos",)
    assert facts["neck.write"] == ()


MERMAID = """\
flowchart LR
  b0(["<b>front</b><br>camera"])
  subgraph l2["lane every-20ms · every 20 ms"]
    b1[/"<b>read neck</b><br>servos"/]
    b2["<b>Pursue</b><br>deadline 8 ms"]
    b3[["<b>guard · write neck</b>"]]
  end
  subgraph l7["lane front · on front.image"]
    b4["<b>part</b><br>model part"]
  end
  b4 -.->|"parts · fresh 250 ms"| b2
  b1 -->|"neck · fresh 45 ms"| b2
  b2 -->|"command"| b3
  b0 ==>|"image"| b4
"""


def test_mermaid(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HAIHE_UNIT", raising=False)
    assert main(["graph", "robot.follow", "--mermaid"]) == 0
    assert capsys.readouterr().out == MERMAID


def test_mermaid_of_every_kind_of_edge() -> None:
    lines = mermaid(drawn(NUMBERS)).splitlines()
    assert '  subgraph t0["thread slow"]' in lines
    assert lines.count("  end") == 3
    assert lines.count("    end") == 2
    assert [line for line in lines if "|" in line] == [
        '  b2 -.->|"obstacles · fresh 300 ms, or None"| b1',
        '  b3 -.->|"neck · fresh 200 ms"| b1',
        '  b6 ==>|"parts · in order · 2 of 4 places holds (estimated)"| b2',
        '  b7 -.->|"depth · within 20 ms · nearest"| b2',
        '  b2 -.->|"last · previous"| b2',
        '  b1 -.->|"goal · fresh 250 ms · 312 ms fails"| b4',
        '  b6 -.->|"parts · fresh 120 ms · 86.3 ms holds (measured)"| b4',
        '  b3 -->|"neck · fresh 25 ms"| b4',
        '  b4 -->|"command"| b5',
        '  b0 ==>|"image"| b6',
        '  b0 ==>|"image"| b7',
        '  b3 -.->|"neck · fresh 50 ms"| b7',
    ]


def test_mermaid_escapes_what_it_would_read_as_markup() -> None:
    box = Box("a", "node", 'x"y', ("<b>`#1`</b> & co",), lane="l")
    drawing = Drawing("d", "", (), (ThreadFrame("l", (), (LaneFrame("l", "on a", (box,)),)),))
    assert mermaid(drawing).splitlines()[2] == (
        '    b0["<b>x#quot;y</b><br>#lt;b#gt;#96;#35;1#96;#lt;/b#gt; #amp; co"]'
    )


def test_numbers_of_a_report() -> None:
    plan = prepare(everything(), "pan-tilt").plan
    well, bad = Verdict("holds (measured)"), Verdict("fails", "reading +62 ms")
    none = Verdict("unbounded", "front starved by aim")
    ms = 1_000_000
    report = Report(
        "everything", "pan-tilt", "rk3588", plan.hash, bad,
        [
            LaneReport("every-20ms", "every-20ms", 4, 80, "every 20 ms", [], ms, 1_900_000, 0.1),
            LaneReport("front", "front", -1, 0, "on front.image", [], None, None, None),
        ],
        [],
        [
            Promise("fresh", "aim.goal", "app.py:1", 312 * ms, 250 * ms, bad),
            Promise("fresh", "aim.parts", "app.py:1", None, 120 * ms, none),
            Promise("deadline", "aim", "app.py:1", 1_900_000, 5 * ms, well),
            Promise("fifo", "fuse.parts", "app.py:1", 3, 4, well),
        ],
        [], [], [],
    )  # fmt: skip
    assert numbers_of(report, plan) == Numbers(
        {
            "aim.goal": Number("312.0 ms", "fails"),
            "aim.parts": Number("no bound", "unbounded"),
            "fuse.parts": Number("3 of 4 places", "holds (measured)"),
        },
        {"aim": Number("1.9 ms", "holds (measured)")},
        {"every-20ms": Number("1.9 ms", "holds (measured)"), "front": Number("unknown")},
        "rk3588: fails: reading +62 ms",
    )


def test_the_command_draws_with_a_unit(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "follow.svg"
    assert main(["graph", "robot.follow", "--unit", "pan-tilt", "--svg", str(path)]) == 0
    assert capsys.readouterr().out == f"drawing  {path}\n"
    made = path.read_text("utf-8")
    assert main(["graph", "robot.follow", "--unit", "pan-tilt", "--svg"]) == 0
    assert capsys.readouterr().out == made
    assert "/dev/ttyUSB0 · 1,000,000 baud" in made
    assert main(["graph", "robot.follow", "--unit", "pan-tilt"]) == 0
    assert "◉ front  camera.v4l2, /dev/video0, 320x240 · 30 fps" in capsys.readouterr().out


def test_the_command_draws_the_bounds_of_a_board(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    budgets = ["--budget", "part=2ms", "--budget", "Pursue=1ms"]
    asked = ["graph", "robot.follow", "--unit", "pan-tilt", "--board", "rk3588", *budgets]
    assert main(asked) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].endswith(" · rk3588: expected (not pinned, no SCHED_FIFO)")
    # 33.4 frame, 15.0 delivery, 2.0 part, 1.0 of Pursue's interpreter
    assert "│    ┄▷ parts    part         fresh 250 ms  age 51.4 ms expected" in said
    assert "lane front  on front.image  response 3.0 ms" in said
    assert main([*asked, "--svg"]) == 0
    assert ">51.4 ms of 250 ms</text>" in capsys.readouterr().out


def test_the_command_writes_the_graph_as_yaml(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["graph", "robot.follow", "--yaml"]) == 0
    assert capsys.readouterr().out.startswith(
        "graph: follow\ndevices: {front: camera, neck: servos}\nnodes:\n  part: {model: part, "
    )


def test_a_unit_that_is_not_known(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["graph", "robot.follow", "--unit", "pan-tlit"]) == 1
    assert capsys.readouterr().err == (
        "BoardError: unit 'pan-tlit' is not known. Did you mean 'pan-tilt'?\n"
    )


def _apart() -> Drawing:
    graph = everything()
    graph.process("vision", "find")
    graph.process("far", "route")
    prepared = prepare(graph, "pan-tilt")
    return drawing_of(prepared.graph, prepared.plan, prepared.binding)


def test_every_drawing_says_in_which_process_a_thread_runs() -> None:
    said = text(_apart()).splitlines()
    assert "lane front  on front.image  process vision" in said
    assert "thread slow  process far  route before fuse" in said
    assert "lane every-20ms  every 20 ms" in said  # the main one is not told
    drawn_ = svg(_apart())
    assert "front · on front.image · process vision<" in drawn_
    assert "thread slow · process far · route before fuse<" in drawn_


def test_mermaid_puts_processes_around_their_threads() -> None:
    lines = mermaid(_apart()).splitlines()
    assert [line for line in lines if "subgraph" in line or line.endswith("end")] == [
        '  subgraph p2["process far"]',
        '    subgraph t0["thread slow"]',
        '      subgraph l4["lane route · every 100 ms"]',
        "      end",
        '      subgraph l7["lane fuse · on find, 4 places"]',
        "      end",
        "    end",
        "  end",
        '  subgraph l12["lane every-20ms · every 20 ms"]',
        "  end",
        '  subgraph p17["process vision"]',
        '    subgraph l18["lane front · on front.image"]',
        "    end",
        "  end",
    ]
