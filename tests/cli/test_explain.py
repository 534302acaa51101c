"""`haihe explain` from the command line, on a small recording made in virtual time."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.cli.follow_app import g

from haihe.bench.measure.incidents import KINDS
from haihe.cli import main
from haihe.cli.explain import EVENTS
from haihe.pipelines.launch import simulate
from haihe.runtime.record.recording import Recording


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two trips, a reset and an arming between them."""
    path = tmp_path_factory.mktemp("explain") / "run.mcap"

    def prepare(executor: Any, world: Any) -> None:
        for ms, event in (
            (500, ("trip", "door open")), (600, ("reset",)), (620, ("arm",)),
            (800, ("trip", "e-stop")),
        ):  # fmt: skip
            executor.after(ms * 1_000_000, lambda event=event: executor.post(event))

    simulate(g, "1s", unit="pan-tilt", world={"ideal": True}, record=path, prepare_run=prepare)
    return path


@pytest.fixture(autouse=True)
def same_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))


def out(capsys: pytest.CaptureFixture[str], *arguments: Any) -> str:
    assert main(["explain", *map(str, arguments)]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def test_the_kinds_are_those_of_the_analysis() -> None:
    assert EVENTS == KINDS


def test_all_of_it(recording: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert out(capsys, recording).splitlines()[:3] == [
        "follow on pan-tilt, virtual time, 1.021 s: 2 incidents (safe 2)",
        "     0.501 s  safe      neck (2 times, 320.7 ms in all; the first:): ARMED -> SAFE: door "
        "open; pan",
        "              hold, tilt hold",
    ]


def test_the_first_of_a_kind_or_each(recording: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = out(capsys, recording, "--event", "safe")
    assert first.startswith("safe at 0.501 s: neck (1 of 2 of this kind)\nwhy\n")
    assert "event trip: door open" in first
    assert "e-stop" not in first
    each = out(capsys, recording, "--event", "safe", "--each")
    assert each.startswith(first.rstrip("\n"))
    assert "\n\nsafe at 0.801 s: neck (2 of 2 of this kind)\nwhy\n" in each
    assert "event trip: e-stop" in each
    assert out(capsys, recording, "--each") == each


def test_a_kind_that_did_not_happen(recording: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert out(capsys, recording, "--event", "raised") == "no incident of kind raised in it\n"


def test_what_every_start_brings_is_told_where_nothing_else_is(
    recording: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = out(capsys, recording, "--event", "stale")
    assert text.startswith("stale at 0.001 s: Pursue.parts\nwhy\n")


def test_a_moment(recording: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = out(capsys, recording, "--at", "550ms")
    assert text.startswith("at 0.550 s: safe neck since 0.501 s\nwhy\n")
    assert out(capsys, recording, "--at", "0s").startswith("at 0.000 s: nothing wrong under way\n")


def test_json_of_incidents_and_of_a_moment(
    recording: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    every = json.loads(out(capsys, recording, "--json"))
    assert len([i for i in every["incidents"] if not i["is_usual"]]) == 2
    assert every["stories"] == []
    (story,) = json.loads(out(capsys, recording, "--at", "550ms", "--json"))["stories"]
    assert story["incident"]["subject"] == "neck"


def test_a_trace(recording: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    said = out(capsys, recording, "--trace", tmp_path / "out.json")
    events = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))["traceEvents"]
    assert said == (
        f"trace      {tmp_path}/out.json  ({len(events)} events; open it in ui.perfetto.dev)\n"
    )
    both = out(capsys, recording, "--trace", tmp_path / "out.json", "--at", "0s")
    assert both.startswith(f"{said}at 0.000 s: ")


def test_without_running_the_graphs_code(
    recording: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = out(capsys, recording, "--event", "safe", "--no-replay")
    assert text.endswith(
        "not recorded: guards are told from the record alone (not asked for): positions, and which "
        "limits\n    acted, are not in it\n"
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--at", "later"], "ContractError: 'later' is not a quantity. Write a number and a unit, "
                            "as in '5s'.\n"),
        (["--at", "7s"], "RecordError: {path}: --at 7s lies outside of the run, which goes from "
                         "0 s to 1.021 s. Choose a time within it.\n"),
    ],
)  # fmt: skip
def test_a_time_that_is_none(
    recording: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert main(["explain", str(recording), *arguments]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == said.format(path=recording)


def test_a_file_that_cannot_be_written(
    recording: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["explain", str(recording), "--trace", str(tmp_path / "no" / "out.json")]) == 1
    assert capsys.readouterr().err == (
        f"FileNotFoundError: [Errno 2] No such file or directory: '{tmp_path}/no/out.json'\n"
    )
    assert Recording(recording).complete
