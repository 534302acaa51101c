"""Replay when what a firing consumed died, unrecorded, with its maker."""

from pathlib import Path

import numpy as np
import pytest
from tests.scenarios.fault_runs import Injected, RelaySpec, Setting, graph_of, guard_of, run
from tests.scenarios.fault_world import Books, Ledger, Rig, Source

from haihe.runtime.exec.supervision import RestartPolicy
from haihe.runtime.guard import SafeAction
from haihe.runtime.record.format import FIRING, RESTART, STAMPS, LaneRecord
from haihe.runtime.record.recording import Recording
from haihe.runtime.record.replay import Replayer, ReplayReport
from haihe.runtime.types import encode

MS = 1_000_000


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Setting, Path]:
    """source -> r0 in a process that is killed between two firings -> r1 -> control."""
    relays = (
        RelaySpec("r0", "source", 0, "stop", "near", 1 * MS, "on-r0"),
        RelaySpec("r1", "r0", 0, "stop", "", 1 * MS, "on-r1"),
    )
    policy = RestartPolicy(limit=2, backoff_ns=100 * MS, hang_ns=200 * MS)
    faults = (Injected(305 * MS, "kill", "near", 0),)
    setting = Setting(
        1, relays, "r1", 10, 100, 100, "", SafeAction.HOLD, {"near": policy}, 50 * MS, faults,
        1_000 * MS,
    )  # fmt: skip
    source = Source(np.random.default_rng(1))
    source.period_ns, source.first_ns, source.latency_ns = 10 * MS, 0, 2 * MS
    source._drops = set()
    path = tmp_path_factory.mktemp("lost") / "run.mcap"
    run(setting, source, path)
    return setting, path


def last_before_death(recording: Recording) -> LaneRecord:
    records = recording.lanes["r0"]
    at = next(i for i, record in enumerate(records) if record.kind == RESTART)
    assert records[at - 1].kind == FIRING
    return records[at - 1]


def replayer(made: tuple[Setting, Path], recording: Recording) -> Replayer:
    Books.ledger = Ledger()
    return Replayer(recording, graph_of(made[0]), {"rig": (Rig(), guard_of(made[0]))})


def whole(made: tuple[Setting, Path]) -> ReplayReport:
    return replayer(made, Recording(made[1])).run()


def test_a_streams_message_whose_record_died_is_taken_from_who_received_it(
    made: tuple[Setting, Path],
) -> None:
    recording = Recording(made[1])
    number = last_before_death(recording).fixed[4]
    source = next(iter(recording.streams))
    kept = recording.streams[source]
    lost = next(one for one in kept if one.sequence == number)
    recording.streams[source] = [one for one in kept if one is not lost]
    data = STAMPS.pack(lost.capture_ns, lost.delivered_ns) + lost.data
    recording.orphans[source] = {number: data}
    report = replayer(made, recording).run()
    assert report.ok, report
    assert (report.firings, report.lost, report.skipped) == (recording.firings, 0, 0)
    assert report.sent == whole(made).sent


def test_a_firing_that_read_what_died_with_it_is_left_out_and_the_next_life_replays(
    made: tuple[Setting, Path],
) -> None:
    recording = Recording(made[1])
    last = last_before_death(recording)
    source = next(iter(recording.streams))
    kept = recording.streams[source]
    recording.streams[source] = [one for one in kept if one.sequence != last.fixed[4]]
    # what that firing sent was received elsewhere, and kept there
    reader = recording.lanes["r1"]
    steps = replayer(made, Recording(made[1])).steps()
    sample = next(
        step.inputs["r0"] for step in steps if step.lane == "r1" and step.t_ns > last.fixed[2]
    )
    assert any(record.kind == FIRING and record.fixed[4] == sample[0] for record in reader)
    data = STAMPS.pack(sample[2], sample[3]) + encode(sample[1])
    recording.orphans["r0"] = {sample[0]: data}
    report = replayer(made, recording).run()
    assert report.ok, report
    assert (report.firings, report.lost, report.skipped) == (recording.firings - 1, 1, 0)
    assert report.sent == whole(made).sent
    assert str(report) == (
        f"decision replay of {made[1]}: {report.firings} firings, {report.bytes_equal} actuator "
        "bytes: equal\n  1 firings read what died unrecorded with their process"
    )


def test_what_is_missing_without_a_death_is_still_a_difference(
    made: tuple[Setting, Path],
) -> None:
    recording = Recording(made[1])
    source = next(iter(recording.streams))
    kept = recording.streams[source]
    recording.streams[source] = kept[:-5] + kept[-4:]
    report = replayer(made, recording).run()
    assert (report.lost, report.differing) == (0, 1)
    assert report.skipped > 0
