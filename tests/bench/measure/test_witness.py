"""What guards decided: by replay, and the same states from the record alone."""

from collections.abc import Callable
from pathlib import Path

import pytest

from haihe.bench.measure.lineage import Lineage
from haihe.bench.measure.witness import Account
from haihe.bench.measure.witness import witness as take
from haihe.runtime.record.recording import Recording

PathOf = Callable[[str], Path]


@pytest.fixture(autouse=True)
def _clean(clean_path: None) -> None:
    pass


def witness(recording: Recording, *, replay: bool = True) -> Account:
    return take(recording, Lineage(recording), replay=replay)


@pytest.mark.parametrize(
    "name",
    ["outage", "latched", "unplugged", "e-stop", "slow bus", "late detector", "raising"],
)
def test_the_record_alone_tells_the_same_states(incident_path: PathOf, name: str) -> None:
    recording = Recording(incident_path(name))
    replayed = witness(recording).guards["neck"]
    alone = witness(recording, replay=False).guards["neck"]
    assert replayed.is_replayed
    assert not alone.is_replayed
    assert len(replayed.steps) > 40
    told = [(s.t_ns, s.state, s.reason, s.is_stop) for s in replayed.steps]
    assert [(s.t_ns, s.state, s.reason, s.is_stop) for s in alone.steps] == told
    kept = {"stale", "clock", "late", "latched"}
    assert [s.flags for s in alone.steps] == [
        tuple(flag for flag in s.flags if flag in kept) for s in replayed.steps
    ]
    assert {(s.sent, s.command, s.measured) for s in alone.steps} == {((), None, None)}


def test_replay_counts_what_the_run_counted(incident_path: PathOf) -> None:
    recording = Recording(incident_path("outage"))
    counts: dict[str, int] = {}
    for step in witness(recording).guards["neck"].steps:
        for flag in step.flags:
            counts[flag] = counts.get(flag, 0) + 1
    assert counts == recording.notes["guard"]["neck"]


def test_a_graph_that_is_gone(incident_path: PathOf) -> None:
    recording = Recording(incident_path("outage"))
    recording.header["source"] = {"file": "/nowhere/app.py"}
    found = witness(recording)
    assert found.why_not_replayed == (
        "PlanError: the recording was made by /nowhere/app.py, which is not here. Replay it in "
        "the folder of app.py."
    )
    assert [s.state.name for s in found.guards["neck"].steps].count("STALE") == 15


def test_code_that_has_changed_since(incident_path: PathOf) -> None:
    recording = Recording(incident_path("raising"))
    recording.header["graph"] = "mended"
    found = witness(recording)
    assert found.why_not_replayed == (
        f"RecordError: {recording.path}: the graph's code gives another run than was recorded (1 "
        "differences, the first: lane front, firing 40: outcome of broken: 8, recorded: 4)"
    )
    assert found.raised == {}
    assert not found.guards["neck"].is_replayed


def test_without_a_unit_no_guard_is_told_of(incident_path: PathOf) -> None:
    recording = Recording(incident_path("well"))
    recording.header["unit"] = {"text": "unit: [", "file": "unit.yaml"}
    found = witness(recording, replay=False)
    assert found.guards == {}
    assert found.why_not_replayed.startswith(
        "not asked for; the unit's text cannot be read (unit.yaml"
    )
    assert found.why_not_replayed.endswith("): no guard is told of")
