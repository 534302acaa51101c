"""The last seconds in memory: what a file that is written from them holds, and that it replays."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest
from tests.runtime.exec.fakes import Fault, following
from tests.runtime.record.test_replay import mutual, pointing

from haihe.drivers.roles import camera, servos
from haihe.pipelines.launch import prepare, simulate
from haihe.pipelines.nodes.pursue import Pursue
from haihe.pipelines.worlds.ideal import ideal_detector
from haihe.runtime.contracts import fresh
from haihe.runtime.errors import ContractError, RecordError
from haihe.runtime.graph import Graph, named
from haihe.runtime.node import node
from haihe.runtime.record.format import FIRING, SETUP
from haihe.runtime.record.recording import Recording
from haihe.runtime.record.ring_recorder import AFTER_NS, MARGIN_NS, RingRecorder
from haihe.runtime.types import Detections, JointCommand, JointState, Reading
from haihe.testing import replay

MS = 1_000_000
SECOND = 1000 * MS
IDEAL = {"ideal": True}
CONTROL = "every-20ms"


def kept(path: Path, graph: Graph, duration: str, keep: str = "2s", **options: Any) -> Any:
    options = {"world": IDEAL} | options
    return simulate(graph, duration, unit="pan-tilt", seed=3, record=path, keep=keep, **options)


def trip_at(*times_ms: int) -> Any:
    def plan(executor: Any, world: Any) -> None:
        for t in times_ms:
            executor.after(t * MS, lambda: executor.post(("trip", "e-stop")))
            executor.after((t + 200) * MS, lambda: executor.post(("reset",)))
            executor.after((t + 200) * MS, lambda: executor.post(("arm",)))

    return plan


def received(run: Any) -> bytes:
    return b"".join(data for _, data in run.world.bus.received)


def test_a_trip_writes_a_file_that_replays_to_the_bytes_on_the_wire(tmp_path: Path) -> None:
    run = kept(tmp_path / "a.mcap", following(Fault(noise=0.001)), "12s", prepare_run=trip_at(9000))
    assert [p.name for p in tmp_path.iterdir()] == ["a-1.mcap"]
    assert run.recording == tmp_path / "a-1.mcap"
    recording = Recording(run.recording)
    assert recording.complete
    ring = recording.header["ring"]
    assert ring["reasons"] == ["the guard of neck tripped: e-stop"]
    assert recording.notes["event"] == ring
    assert abs(ring["t_ns"] - run.executor.begin_ns - 9 * SECOND) < 200 * MS
    records = recording.lanes[CONTROL]
    clocks = [r.fixed[2] for r in records if r.kind == FIRING]
    assert [r.kind for r in records].count(SETUP) == 1
    assert clocks[0] < ring["t_ns"] - 2 * SECOND  # all that was asked for is there
    assert clocks[0] > ring["t_ns"] - 2 * SECOND - MARGIN_NS - 2 * SECOND  # and little else
    assert 0 <= clocks[-1] - ring["t_ns"] - AFTER_NS + 120 * MS < 240 * MS
    report = replay(recording, graph=following(Fault(noise=0.001)))
    assert report.ok, report
    assert report.skipped <= 10  # of the last 100 ms: what they read was not in the file yet
    assert report.sent["neck"]
    assert report.sent["neck"] in received(run)
    first = next(r.fixed[0] for r in records if r.kind == FIRING)
    assert 0 <= records[-1].fixed[0] - first + 1 - _replayed(report, recording) < 2 * 50


def _replayed(report: Any, recording: Recording) -> int:
    others = sum(r.kind == FIRING for r in recording.lanes["front"])
    return max(0, int(report.firings) - others)


@node
def as_it_was(command: JointCommand) -> JointCommand:
    return command


@node
def changed(command: JointCommand) -> JointCommand:
    return JointCommand(command.position + 0.01)


def pursuing(last: Any) -> Graph:
    with Graph("pursuing") as graph:
        front, neck = camera("front"), servos("neck")
        command = named("pursue", Pursue("washer"))(ideal_detector(front.image), neck.state)
        neck.command(named("last", last)(command))
    return graph


def test_a_changed_node_shows_in_the_replay_of_a_ring(tmp_path: Path) -> None:
    run = kept(tmp_path / "a.mcap", pursuing(as_it_was), "8s", prepare_run=trip_at(6000))
    assert replay(run.recording, graph=pursuing(as_it_was)).ok
    report = replay(run.recording, graph=pursuing(changed))
    assert report.differing > 100


@pytest.mark.parametrize("start_s", [2.5, 99.0])
def test_a_later_start_in_a_ring(start_s: float, tmp_path: Path) -> None:
    run = kept(tmp_path / "a.mcap", following(), "8s", prepare_run=trip_at(6000))
    whole = replay(run.recording, graph=following())
    later = replay(run.recording, graph=following(), start_s=start_s)
    assert later.ok, later
    assert 0 < later.firings < whole.firings
    assert whole.sent["neck"].endswith(later.sent["neck"])


def test_a_short_run_is_kept_from_its_beginning(tmp_path: Path) -> None:
    graph = following(Fault(raise_at=40))
    run = kept(tmp_path / "a.mcap", graph, "8s", keep="60s")
    recording = Recording(run.recording)
    assert recording.header["ring"]["reasons"][-1].startswith("the run failed: ")
    assert "it raised ValueError: made to raise" in recording.header["ring"]["reasons"][-1]
    report = replay(recording, graph=following(Fault(raise_at=40)))
    assert report.ok, report
    assert report.sent["neck"] == received(run)  # the set-up and the stop, too


def test_a_quiet_run_writes_nothing(tmp_path: Path) -> None:
    run = kept(tmp_path / "a.mcap", following(), "3s")
    assert run.recording is None
    assert list(tmp_path.iterdir()) == []


def test_trips_in_a_row_make_files_that_do_not_overlap(tmp_path: Path) -> None:
    plan = trip_at(3000, 4000, 5000, 12000)
    kept(tmp_path / "a.mcap", following(), "16s", prepare_run=plan)
    files = [Recording(tmp_path / f"a-{n}.mcap") for n in (1, 2, 3)]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a-1.mcap", "a-2.mcap", "a-3.mcap"]
    assert [len(file.header["ring"]["reasons"]) for file in files] == [1, 2, 1]
    for file in files:
        assert replay(file, graph=following()).ok
    ends = [file.lanes[CONTROL][-1].fixed[2] for file in files]
    assert ends[1] - ends[0] >= 2 * SECOND - 120 * MS


# --- lanes that fire rarely, and read what was made long ago --------------------------------------


@node(every="5s")
@dataclass
class Rare:
    """Makes a number every 5 s."""

    _n: int = 0

    def __call__(self, neck: Annotated[JointState, fresh("1s")]) -> Reading:
        self._n += 1
        return Reading(self._n / 10)


@node(every="20ms")
@dataclass
class Mix:
    """Adds up what it reads."""

    _sum: float = 0.0

    def __call__(
        self,
        parts: Annotated[Detections, fresh("400ms")],
        neck: Annotated[JointState, fresh("45ms")],
        rare: Annotated[Reading | None, fresh("60s", on_stale="call")] = None,
    ) -> JointCommand:
        self._sum = 0.9 * self._sum + 0.01 * (rare.value if rare is not None else 0.0)
        return JointCommand(np.array([self._sum, 0.01 * len(parts)]))


def mixing() -> Graph:
    with Graph("mixing") as graph:
        front, neck = camera("front"), servos("neck")
        rare = named("rare", Rare())(neck.state)
        neck.command(named("mix", Mix())(ideal_detector(front.image), neck.state, rare))
    return graph


@pytest.mark.parametrize("t_ms", [7000, 12200, 14600, 19300])
def test_a_lane_that_fires_more_rarely_than_the_time_kept(t_ms: int, tmp_path: Path) -> None:
    run = kept(tmp_path / "a.mcap", mixing(), "21s", prepare_run=trip_at(t_ms))
    assert {lane.name for lane in run.executor.plan.lanes} >= {CONTROL, "every-5s"}
    recording = Recording(run.recording)
    report = replay(recording, graph=mixing())
    assert report.ok, report
    assert report.skipped <= 10
    assert report.sent["neck"] in received(run)
    clocks = [r.fixed[2] for r in recording.lanes[CONTROL] if r.kind == FIRING]
    assert report.firings * 20 * MS > (clocks[-1] - clocks[0]) - 3 * SECOND


@pytest.mark.parametrize("t_ms", [3000, 6000, 6370, 7500])
def test_lanes_that_read_each_other(t_ms: int, tmp_path: Path) -> None:
    run = kept(tmp_path / "a.mcap", mutual(), "9s", prepare_run=trip_at(t_ms))
    recording = Recording(run.recording)
    report = replay(recording, graph=mutual())
    assert report.ok, report
    assert report.skipped <= 10
    assert report.sent["neck"] in received(run)
    assert report.firings > 0.7 * recording.firings


@pytest.mark.parametrize("t_ms", [6000, 6370])
def test_a_recorded_node_with_a_silent_output(t_ms: int, tmp_path: Path) -> None:
    run = kept(tmp_path / "a.mcap", pointing(), "9s", frames="none", prepare_run=trip_at(t_ms))
    report = replay(run.recording, graph=pointing())
    assert report.ok, report
    assert report.sent["neck"] in received(run)


# --- memory ---------------------------------------------------------------------------------------


def ring_of(path: Path, **options: Any) -> RingRecorder:
    prepared = prepare(following(), "pan-tilt")
    header = prepared.header(1, "virtual time", sim=True)
    options = {"keep_ns": 60 * SECOND, "start_ns": SECOND} | options
    return RingRecorder(path, header, "none", plan=prepared.plan, **options)


def test_memory_is_bounded_by_bytes_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = []
    real = RingRecorder.append

    def append(ring: RingRecorder, *record: Any) -> None:
        real(ring, *record)
        made.append(ring.size)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RingRecorder, "append", append)
        patch.setattr("haihe.runtime.record.ring_recorder.RingRecorder.__init__.__kwdefaults__", {
            **(RingRecorder.__init__.__kwdefaults__ or {}), "budget_bytes": 600_000,
        })  # fmt: skip
        run = kept(tmp_path / "a.mcap", following(), "20s", keep="60s", prepare_run=trip_at(18000))
    assert 400_000 < max(made) <= 600_000
    assert [r.getMessage() for r in caplog.records if "do not fit" in r.getMessage()] == [
        f"recording {tmp_path / 'a.mcap'}: 60 s do not fit into 600000 bytes of memory: less is "
        "kept. Use smaller pictures (--frames jpeg or none), or a shorter time."
    ]
    report = replay(run.recording, graph=following())
    assert report.ok, report


def test_one_record_larger_than_all_memory_is_lost_and_counted(tmp_path: Path) -> None:
    ring = ring_of(tmp_path / "a.mcap", budget_bytes=10_000)
    ring.append("haihe/note/big", 0, 2 * SECOND, 0, bytes(20_000))
    assert (ring.lost, ring.size) == (1, 0)
    ring.close()
    assert list(tmp_path.iterdir()) == []


def test_save_names_the_file_to_come_and_never_one_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "a-1.mcap").write_text("mine")
    ring = ring_of(tmp_path / "a.mcap")
    assert ring.save("why") == tmp_path / "a-2.mcap"
    assert ring.save("and") == tmp_path / "a-2.mcap"
    ring.note("x", {"y": 1}, 2 * SECOND)
    ring.close()
    assert ring.saved == [tmp_path / "a-2.mcap"]
    assert (tmp_path / "a-1.mcap").read_text() == "mine"
    recording = Recording(tmp_path / "a-2.mcap")
    assert recording.header["ring"] == {
        "keep_s": 60.0, "t_ns": SECOND, "reasons": ["why", "and"]
    }  # fmt: skip
    assert recording.notes["x"] == {"y": 1}


def test_a_file_that_cannot_be_written_is_an_error_at_the_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ring = ring_of(tmp_path / "sub" / "a.mcap")
    ring.save("why")
    (tmp_path / "sub").rmdir()
    (tmp_path / "sub").write_text("in the way")
    said = (
        f"recording {tmp_path / 'sub' / 'a-1.mcap'}: its folder cannot be made: File exists. "
        "Record to another place."
    )
    with pytest.raises(RecordError) as caught:
        ring.close()
    assert str(caught.value) == said
    assert [r.getMessage() for r in caplog.records if r.levelname == "ERROR"] == [said]


def test_what_is_asked_wrongly(tmp_path: Path) -> None:
    with pytest.raises(RecordError) as caught:
        simulate(following(), "1s", unit="pan-tilt", keep="60s")
    assert str(caught.value) == (
        "keep='60s': nothing is recorded. Say where to: record=FILE (--record)."
    )
    with pytest.raises(ContractError, match="'long' is not a quantity"):
        kept(tmp_path / "a.mcap", following(), "1s", keep="long")
