"""The bytes that the emulator received live, from open to close, are the bytes of the replay."""

import hashlib
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from haihe.runtime.plan.codegen import STALE, outcome_of
from haihe.runtime.record.format import FIRING
from haihe.runtime.record.recording import Recording
from tests.process.wire import live, received, replay_in_process

RUNS = 20
PERCEPTION_PROCESSES = 5


def seed(number: int) -> int:
    return zlib.crc32(f"live equals replay {number}".encode()) & 0xFFFF


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("live")

    def one(number: int) -> Path:
        out = folder / str(number)
        # every other one with its lanes in processes of their own
        processes = {"processes": "both"} if number % 2 else {}
        result = live(
            out,
            graph="stalls",
            seed=seed(number),
            duration="4.5s",
            events=True,
            burn=True,
            **processes,
        )
        assert result["error"] == "", result
        return out

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(one, range(RUNS)))


@pytest.mark.process
def test_decision_replay_gives_the_bytes_that_the_emulator_received(runs: list[Path]) -> None:
    with ThreadPoolExecutor(2) as pool:
        halves = [runs[::2], runs[1::2]]
        parts = pool.map(
            lambda half: replay_in_process(
                "decision", *(run / "run.mcap" for run in half), hash_seed=7
            ),
            halves,
        )
        reports = {run: r for half, part in zip(halves, parts, strict=True)
                   for run, r in zip(half, part, strict=True)}  # fmt: skip
    firings = 0
    for run in runs:
        wire = received(run)
        report = reports[run]
        assert report["ok"], report["text"]
        assert report["skipped"] == 0
        assert report["sent"] == hashlib.sha256(wire).hexdigest(), run
        assert report["firings"] >= 150
        firings += report["firings"]
    print(f"{len(runs)} live runs, {firings} firings: every byte equal")


@pytest.mark.process
def test_each_run_had_stale_inputs_and_events(runs: list[Path]) -> None:
    for run in runs:
        recording = Recording(run / "run.mcap")
        lane = next(ln for ln in recording.plan.lanes if ln.task.buses)
        records = [r for r in recording.lanes[lane.name] if r.kind == FIRING]
        assert (records[-1].fixed[2] - records[0].fixed[2]) * 1e-9 >= 4.0
        first = 4 + len(lane.task.reads)
        assert any(outcome_of(r.fixed[first]) == STALE for r in records), run
        kinds = {event[0] for record in records for event in record.events}
        assert {"arm", "trip", "reset", "param"} <= kinds


@pytest.mark.process
def test_perception_replay_gives_them_again_in_five_processes(runs: list[Path]) -> None:
    with ThreadPoolExecutor(2) as pool:
        reports = list(
            pool.map(
                lambda i: replay_in_process(
                    "perception", runs[0] / "run.mcap", runs[1 + i] / "run.mcap", hash_seed=101 + i
                ),
                range(PERCEPTION_PROCESSES),
            )
        )
    for i, pair in enumerate(reports):
        for run, report in zip((runs[0], runs[1 + i]), pair, strict=True):
            assert report["ok"], report["text"]
            assert report["sent"] == hashlib.sha256(received(run)).hexdigest()
