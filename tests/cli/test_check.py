"""`haihe check`, in-process: exit codes, options, JSON."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from haihe.boards.unit import find_unit, load_unit
from haihe.cli import main
from haihe.pipelines.check.report import Report

APP = str(Path(__file__).with_name("follow_app.py"))
UNIT = ["--unit", "pan-tilt", "--board", "rk3588"]
KNOWN = ["--budget", "ideal_detector=5ms", "--budget", "Pursue=1ms"]


def test_it_prints_the_text_without_colours_into_a_pipe(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["check", APP, *UNIT, *KNOWN]) == 0
    text = capsys.readouterr().out
    assert text.startswith("follow on rk3588 · unit pan-tilt · 2 lanes")
    assert "expected (not pinned, no SCHED_FIFO)\n" in text
    assert "\x1b" not in text


def test_what_has_no_bound_or_fails_exits_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", APP, *UNIT]) == 1
    text = capsys.readouterr().out
    assert "verdict  unbounded: no budget for Pursue\n" in text
    assert "  Pursue, ideal_detector: add --measure 5s to measure it here" in text
    assert main(["check", APP, *UNIT, *KNOWN[:2], "--budget", "Pursue=15ms"]) == 1
    assert "fails: " in capsys.readouterr().out


def test_measure_needs_no_budget(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    text = load_unit(find_unit("pan-tilt", None)).text
    unit = tmp_path / "unit.yaml"
    unit.write_text(text.replace("    path: circle", "    path: circle\n    ideal: true"))
    code = main(["check", APP, "--unit", str(unit), "--measure", "1s", "--json"])
    document = json.loads(capsys.readouterr().out)
    items = [item for lane in document["lanes"] for item in lane["items"]]
    assert [item["said"] for item in items if item["name"] == "Pursue"] == [
        "measured here, max of 50"
    ]
    assert document["chains"][0]["oldest_ns"] > 0
    words = [document["verdict"]["word"], *(f["severity"] for f in document["findings"])]
    assert code == int("fails" in words)


def test_json_is_the_report(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", APP, *UNIT, *KNOWN, "--json"]) == 0
    report = Report.from_json(capsys.readouterr().out.encode())
    assert (report.graph, report.board) == ("follow", "rk3588")


@pytest.mark.parametrize("pair", ["Pursue", "Pursue=", "=1ms"])
def test_a_budget_that_is_none_is_a_wrong_use(
    pair: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["check", APP, *UNIT, "--budget", pair])
    assert ended.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"haihe check: error: argument --budget: {pair!r}: write NODE=TIME, as in aim=2ms."
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--board", "rk3589"], "BoardError: board 'rk3589' is not known. Did you mean 'rk3588'?"),
        (["--budget", "Persue=1ms"], "PlanError: budgets: graph follow has no node 'Persue'. It"),
        (["--budget", "Pursue=soon"], "ContractError: 'soon' is not a quantity."),
        (["--measure", "soon"], "ContractError: 'soon' is not a quantity."),
    ],
)
def test_what_cannot_be_checked_is_said(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", APP, "--unit", "pan-tilt", *arguments]) == 1
    assert capsys.readouterr().err.startswith(said)


def test_no_color_is_honoured_on_a_terminal() -> None:
    code = (
        "import sys; sys.stdout.isatty = lambda: True\n"
        "from haihe.cli import main\n"
        f"main(['check', {APP!r}, *{UNIT!r}, *{KNOWN!r}])"
    )
    for colour, environment in ((True, {}), (False, {"NO_COLOR": "1"})):
        import os

        clean = {k: v for k, v in os.environ.items() if k != "NO_COLOR"} | environment
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True,
            env=clean,
        )  # fmt: skip
        assert ("\x1b[33mexpected\x1b[0m" in done.stdout) is colour
