"""`haihe rec` and `haihe replay` on a small recording made in virtual time."""

import io
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.cli.follow_app import g

from haihe.cli import main
from haihe.pipelines.launch import simulate
from haihe.runtime.record.recording import Recording


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recording") / "run.mcap"
    simulate(g, "2500ms", unit="pan-tilt", world={"ideal": True}, record=path)
    return path


@pytest.fixture(autouse=True)
def no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    monkeypatch.setattr(sys, "path", list(sys.path))


def out(capsys: pytest.CaptureFixture[str], *arguments: Any, code: int = 0) -> list[str]:
    assert main([str(argument) for argument in arguments]) == code
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out.splitlines()


@pytest.mark.parametrize("options", [[], ["--verify"]])
def test_replay_verifies(
    recording: Path, capsys: pytest.CaptureFixture[str], options: list[str]
) -> None:
    (line,) = out(capsys, "replay", recording, *options)
    firings = Recording(recording).firings
    assert line.startswith(f"decision replay of {recording}: {firings} firings, ")
    assert line.endswith(" actuator bytes: equal")


def test_replay_steps_through_every_firing(
    recording: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    *lines, verdict = out(capsys, "replay", recording, "--step")
    assert verdict.endswith(": equal")
    assert len([line for line in lines if "  every-20ms " in line or "  front " in line]) >= 200
    assert any(line.endswith("  event arm") for line in lines)
    assert any("Pursue:called" in line and "ideal_detector#" in line for line in lines)


def test_replay_from_after_the_end_is_refused(
    recording: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["replay", str(recording), "--from", "99s"]) == 1
    assert capsys.readouterr().err == (
        f"RecordError: {recording}: --from 99s lies after the last firing, at 2.481 s. Choose a "
        "time within the run.\n"
    )


def test_replay_from_a_time_is_shorter(recording: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = out(capsys, "replay", recording, "--from", "2s")
    assert line.endswith(": equal")
    assert int(line.split(": ")[1].split()[0]) < Recording(recording).firings


def test_replay_of_perception(recording: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = out(capsys, "replay", recording, "--perception")
    assert line.startswith("perception replay of ")
    assert line.endswith(": equal")


def test_info_shows_the_plan_and_how_it_went(
    recording: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = out(capsys, "rec", "info", recording)
    plan = Recording(recording).plan
    assert lines[: len(plan.describe().splitlines())] == plan.describe().splitlines()
    assert len(lines) > len(plan.describe().splitlines()) + 3


def test_fix_makes_a_cut_recording_whole(
    recording: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    (line,) = out(capsys, "rec", "fix", recording)
    assert line.startswith(f"{recording}: was whole already, ")
    cut, whole = tmp_path / "cut.mcap", tmp_path / "whole.mcap"
    with monkeypatch.context() as patch:
        patch.setattr("haihe.runtime.record.fix.finish", lambda path: None)
        simulate(g, "2500ms", unit="pan-tilt", world={"ideal": True}, record=cut)
    data = cut.read_bytes()[:-20_000]
    cut.write_bytes(data)
    (line,) = out(capsys, "rec", "fix", cut, "--out", whole)
    assert line.startswith(f"{whole}: rewritten, ")
    assert cut.read_bytes() == data
    out(capsys, "rec", "fix", cut)
    assert cut.read_bytes() == whole.read_bytes()
    mended = Recording(cut)
    assert mended.dropped_bytes == 0
    assert not mended.complete  # the file is whole, what it tells of is not
    (line,) = out(capsys, "rec", "fix", cut)
    assert line.startswith(f"{cut}: was whole already, ")
    verdict = out(capsys, "replay", cut)[0]
    assert verdict.startswith(f"decision replay of {cut}: ")
    assert verdict.endswith(": equal")


def refusal(capsys: pytest.CaptureFixture[str], *arguments: Any) -> str:
    assert main([str(argument) for argument in arguments]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1, captured.err
    return captured.err


@pytest.mark.parametrize("verb", [["replay"], ["rec", "info"], ["rec", "fix"]])
def test_what_is_no_recording_is_one_line(
    verb: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert refusal(capsys, *verb, tmp_path / "none.mcap").startswith(
        f"RecordError: recording {tmp_path}/none.mcap: cannot open: No such file or directory"
    )
    text = tmp_path / "text.mcap"
    text.write_text("no recording" * 20)
    assert refusal(capsys, *verb, text).startswith(f"RecordError: recording {text}: ")


def test_a_time_that_is_none(recording: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert refusal(capsys, "replay", recording, "--from", "later") == (
        "ContractError: 'later' is not a quantity. Write a number and a unit, as in '5s'.\n"
    )
