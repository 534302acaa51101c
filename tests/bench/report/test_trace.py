"""The trace is well-formed, and holds what the recording holds."""

import json
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from haihe.bench.measure.evidence import Evidence, gather
from haihe.bench.measure.incidents import find_incidents
from haihe.bench.measure.route import routes
from haihe.bench.report.trace import write_trace
from haihe.runtime.record.recording import Recording

PathOf = Callable[[str], Path]
Event = dict[str, Any]
RUNS = ["outage", "unplugged", "e-stop", "shared thread", "raising", "slow node", "chained", "well"]
NS = 1e-3  # in the trace's µs


@pytest.fixture(autouse=True)
def _clean(clean_path: None) -> None:
    pass


@pytest.fixture(params=RUNS)
def traced(
    request: pytest.FixtureRequest, incident_path: PathOf, tmp_path: Path
) -> tuple[Evidence, list[Event]]:
    evidence = gather(Recording(incident_path(request.param)))
    count = write_trace(evidence, find_incidents(evidence), tmp_path / "trace.json")
    data = json.loads((tmp_path / "trace.json").read_text(encoding="utf-8"))
    assert set(data) == {"traceEvents", "displayTimeUnit", "otherData"}
    assert data["displayTimeUnit"] == "ms"
    assert data["otherData"]["first_release_ns"] == str(evidence.start_ns)
    assert len(data["traceEvents"]) == count
    return evidence, data["traceEvents"]


def names(events: list[Event]) -> dict[int, str]:
    return {e["tid"]: e["args"]["name"] for e in events if e["name"] == "thread_name"}


def test_events_are_well_formed_and_in_order(traced: tuple[Evidence, list[Event]]) -> None:
    _, events = traced
    tracks = names(events)
    assert len(set(tracks.values())) == len(tracks)
    stamped = [e for e in events if e["ph"] != "M"]
    assert [e["ts"] for e in stamped] == sorted(e["ts"] for e in stamped)
    for event in stamped:
        assert event["ts"] >= 0
        assert event["pid"] == 1
        assert event["tid"] in tracks
        assert event["name"]
        assert event["ph"] in "XbestfiC"
        if event["ph"] == "X":
            assert event["dur"] > 0
        elif event["ph"] == "i":
            assert event["s"] in ("t", "p")
        elif event["ph"] == "C":
            (value,) = event["args"].values()
            assert value >= 0


def test_slices_of_a_track_nest(traced: tuple[Evidence, list[Event]]) -> None:
    """Overlapping slices of one thread are not shown."""
    _, events = traced
    ends: dict[int, float] = defaultdict(float)
    for event in events:
        if event["ph"] == "X":
            assert event["ts"] >= ends[event["tid"]] - NS / 2, event
            ends[event["tid"]] = event["ts"] + event["dur"]


def test_firings_and_exchanges_are_those_of_the_recording(
    traced: tuple[Evidence, list[Event]],
) -> None:
    evidence, events = traced
    tracks = names(events)
    slices = Counter(tracks[e["tid"]] for e in events if e["ph"] == "X")
    for name, lane in evidence.lanes.items():
        assert slices[f"lane {name}"] == len(lane)
        firings = [e for e in events if e["ph"] == "X" and tracks[e["tid"]] == f"lane {name}"]
        for node, codes in lane.outcomes.items():
            told = Counter(e["args"]["outcomes"][node] for e in firings)
            assert told["called"] == int((codes == 0).sum())
        assert [e["args"]["clock_us"] for e in firings] == pytest.approx(
            (lane.clock - evidence.start_ns) / 1000
        )
    exchanges = sum(
        reply.t_sent_ns >= evidence.start_ns
        for records in evidence.recording.lanes.values()
        for record in records
        for _, _, reply in record.exchanges
    )
    assert slices["bus neck"] == exchanges
    assert slices["stream front.image"] == len(evidence.recording.streams["front.image"])


def test_deliveries_begin_and_end(traced: tuple[Evidence, list[Event]]) -> None:
    evidence, events = traced
    begun = {e["id"]: e["ts"] for e in events if e["ph"] == "b"}
    ended = {e["id"]: e["ts"] for e in events if e["ph"] == "e"}
    records = evidence.recording.streams["front.image"]
    assert begun.keys() == ended.keys()
    assert len(begun) == len(records)
    latencies = [ended[key] - begun[key] for key in begun]
    assert latencies == pytest.approx([(r.delivered_ns - r.capture_ns) / 1000 for r in records])


def test_every_arrow_has_both_ends_inside_of_slices(traced: tuple[Evidence, list[Event]]) -> None:
    evidence, events = traced
    tracks = names(events)
    slices: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for event in events:
        if event["ph"] == "X":
            slices[event["tid"]].append((event["ts"], event["ts"] + event["dur"]))
    arrows: dict[str, list[Event]] = defaultdict(list)
    for event in events:
        if event["ph"] in ("s", "t", "f"):
            arrows[event["id"]].append(event)
            assert any(a <= event["ts"] < b for a, b in slices[event["tid"]]), event
    (route,) = routes(evidence.recording)
    assert len(arrows) == len(route.reaction)
    lasted = []
    for points in arrows.values():
        assert [e["ph"] for e in points] == ["s", *["t"] * (len(points) - 2), "f"]
        assert tracks[points[0]["tid"]] == "stream front.image"
        assert tracks[points[-1]["tid"]] == "bus neck"
        assert len(points) == 2 + len(evidence.lanes)  # over a firing of each lane
        lasted.append(points[-1]["ts"] - points[0]["ts"])
    assert lasted == pytest.approx((route.reaction / 1000).tolist(), abs=NS)


def test_counters_and_marks(incident_path: PathOf, tmp_path: Path) -> None:
    evidence = gather(Recording(incident_path("e-stop")))
    write_trace(evidence, find_incidents(evidence), tmp_path / "trace.json")
    events = json.loads((tmp_path / "trace.json").read_text(encoding="utf-8"))["traceEvents"]
    marks = [(e["ts"], e["name"]) for e in events if e["ph"] == "i"]
    assert marks == [
        (520.0, "arm"),
        (520.0, "guard of neck: STALE"),
        (40_520.0, "guard of neck: ARMED"),
        (1_000_520.0, "trip e-stop button"),
        (1_000_520.0, "guard of neck: SAFE"),
        (1_000_520.0, "safe: neck: ARMED -> SAFE: e-stop button; pan hold, tilt hold"),
        (1_500_520.0, "reset"),
        (1_500_520.0, "guard of neck: DISARMED"),
        (1_520_520.0, "arm"),
        (1_520_520.0, "guard of neck: ARMED"),
        (4_000_519.96, "trip end of the simulation"),
        (4_000_519.96, "guard of neck: SAFE"),
    ]
    ages = [e["args"]["ms"] for e in events if e["ph"] == "C" and e["name"] == "age of aim.parts"]
    seen = evidence.lineage.samples("every-20ms", "part").origin
    assert len(ages) == int((seen > 0).sum())
    assert max(ages) < 250
    states = {e["args"]["state"] for e in events if e["name"] == "guard of neck" and e["ph"] == "C"}
    assert states == {0, 1, 2, 3}


def test_without_a_stream_an_arrow_begins_at_the_reading(
    incident_path: PathOf, tmp_path: Path
) -> None:
    evidence = gather(Recording(incident_path("swaying")))
    write_trace(evidence, [], tmp_path / "trace.json")
    events = json.loads((tmp_path / "trace.json").read_text(encoding="utf-8"))["traceEvents"]
    tracks = names(events)
    assert set(tracks.values()) == {"lane every-20ms", "bus neck"}
    arrows = [(e["ph"], tracks[e["tid"]]) for e in events if e["ph"] in ("s", "t", "f")]
    assert arrows == [("s", "bus neck"), ("t", "lane every-20ms"), ("f", "bus neck")] * 50
