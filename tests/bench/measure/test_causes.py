"""Incidents and their chains, judged by what the runs were made to suffer."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.bench.incident_app import MS

from haihe.bench.measure.causes import causes
from haihe.bench.measure.evidence import Evidence, gather
from haihe.bench.measure.incidents import Incident, find_incidents
from haihe.runtime.record.recording import Recording

PathOf = Callable[[str], Path]
PERIOD = 20 * MS
FRAME = 1000 * MS / 30


@pytest.fixture(autouse=True)
def _clean(clean_path: None) -> None:
    pass


def opened(incident_path: PathOf, name: str) -> tuple[Evidence, list[Incident]]:
    evidence = gather(Recording(incident_path(name)))
    assert evidence.account.why_not_replayed == ""
    return evidence, [i for i in find_incidents(evidence) if not i.is_usual]


def told(evidence: Evidence, incident: Incident) -> list[str]:
    chain = causes(evidence, incident)
    assert [c.t_ns for c in chain] == sorted(c.t_ns for c in chain)
    return [f"{evidence.at(cause.t_ns)} {cause.text}" for cause in chain]


def since(evidence: Evidence, t_ns: int) -> int:
    return t_ns - evidence.start_ns


def test_a_camera_outage_ends_in_a_safe_action(incident_path: PathOf) -> None:
    evidence, found = opened(incident_path, "outage")
    assert [(i.kind, i.subject) for i in found] == [("stale", "aim.parts"), ("safe", "neck")]
    stale, safe = found
    # no frame of 2.0 s to 2.7 s: the last is that of 2.0 s less a few ns, 25 ms later it is found
    last = evidence.recording.streams["front.image"][60].capture_ns
    assert 2000 * MS - since(evidence, last) < 100
    lane = evidence.lanes["every-20ms"]
    assert all(lane.clock[r] - last > 250 * MS for r in range(stale.row, stale.row + stale.rows))
    assert lane.clock[stale.row - 1] - last <= 250 * MS
    assert 250 * MS < stale.t_ns - last <= 250 * MS + PERIOD
    assert 500 * MS < safe.t_ns - last <= 500 * MS + 2 * PERIOD
    back = evidence.recording.streams["front.image"][61]
    assert 2700 * MS <= since(evidence, back.capture_ns) < 2700 * MS + FRAME + 1
    assert stale.end_ns - back.delivered_ns <= 10 * MS + PERIOD
    assert safe.end_ns == stale.end_ns
    assert told(evidence, safe) == [
        "2.015 s front delivered #61, then nothing until 2.748 s (733.3 ms, usually every "
        "33.33 ms)",
        "2.025 s last output of part, in firing 61 of lane front",
        "2.241 s last output of aim, in firing 113 of lane every-20ms",
        "2.261 s aim not called: parts 260.5 ms old, limit 250 ms (13 firings up to then)",
        "2.501 s command of neck 260 ms old, limit 250 ms",
        "2.501 s guard of neck: ARMED -> STALE; pan hold, tilt hold (13 firings, 260 ms)",
        "2.761 s guard of neck: STALE -> ARMED",
    ]


def test_a_guard_that_latches_says_what_tripped_it(incident_path: PathOf) -> None:
    evidence, found = opened(incident_path, "latched")
    safe = found[-1]
    assert not safe.is_over
    assert told(evidence, safe)[-2:] == [
        "1.501 s command of neck 260 ms old, limit 250 ms",
        "1.501 s guard of neck: ARMED -> SAFE: command stale; pan hold, tilt hold (127 firings, "
        "2.521 s, to the end)",
    ]


def test_a_bus_that_is_lost_and_comes_back(incident_path: PathOf) -> None:
    evidence, found = opened(incident_path, "unplugged")
    assert [i.kind for i in found] == ["bus", "stale", "safe"]
    bus, stale, safe = found
    assert since(evidence, bus.t_ns) == 1500 * MS + 100_000  # a firing's ten bytes were sent
    last = int(evidence.lanes["every-20ms"].buses["neck"].state_at[bus.row - 1])
    assert 45 * MS < stale.t_ns - last <= 45 * MS + PERIOD
    assert bus.end_ns == safe.end_ns
    assert told(evidence, safe) == [
        "1.500 s neck gave no state until 4.043 s (127 firings, tried in 7): the port failed: "
        "virtual is lost",
        "1.520 s last output of aim, in firing 77 of lane every-20ms",
        "1.540 s aim not called: neck 59.74 ms old, limit 45 ms (13 firings up to then)",
        "1.780 s command of neck 259.9 ms old, limit 250 ms",
        "1.780 s guard of neck: ARMED -> STALE; pan hold, tilt hold (113 firings, 2.263 s)",
        "4.043 s guard of neck: STALE -> ARMED",
    ]


def test_an_e_stop_is_told_with_its_reason(incident_path: PathOf) -> None:
    evidence, (safe,) = opened(incident_path, "e-stop")
    assert safe.rows == 500 * MS / PERIOD
    assert told(evidence, safe) == [
        "1.001 s event trip: e-stop button",
        "1.001 s guard of neck: ARMED -> SAFE: e-stop button; pan hold, tilt hold (25 firings, "
        "500 ms)",
        "1.501 s guard of neck: SAFE -> DISARMED",
    ]


def test_a_deadline_missed_by_a_slow_node(incident_path: PathOf) -> None:
    evidence, (late,) = opened(incident_path, "slow node")
    assert (late.kind, late.subject, late.rows) == ("deadline", "aim", 48)
    assert told(evidence, late) == [
        "0.050 s aim + trim of lane every-20ms took 9 ms in firing 3, usually 9 ms, no budget "
        "declared; which of them took how long is not recorded",
        "0.050 s aim of lane every-20ms: published 9.52 ms after its release, deadline 8 ms "
        "(48 firings, 980.7 ms, to the end)",
    ]


def test_a_deadline_missed_by_a_slow_bus(incident_path: PathOf) -> None:
    evidence, found = opened(incident_path, "slow bus")
    assert [i.kind for i in found] == ["bus", "deadline"]
    late = found[1]
    assert late.rows == 100 * MS / PERIOD
    assert told(evidence, late) == [
        "1.005 s reading neck took 5.1 ms in firing 51, usually 520 µs",
        "1.008 s aim of lane every-20ms: published 8.1 ms after its release, deadline 8 ms "
        "(5 firings, 95.2 ms)",
    ]


def test_answers_that_are_late_and_whole(incident_path: PathOf) -> None:
    evidence, (late,) = opened(incident_path, "slow answers")
    assert late.rows == 100 * MS / PERIOD
    assert told(evidence, late) == [
        "1.005 s reading neck took 4.52 ms in firing 51, usually 520 µs; answers were whole: "
        "whether device or machine was slow is not recorded",
        "1.009 s aim of lane every-20ms: published 8.52 ms after its release, deadline 8 ms "
        "(5 firings, 96 ms)",
    ]


def test_a_deadline_missed_because_the_thread_was_busy(incident_path: PathOf) -> None:
    evidence, found = opened(incident_path, "shared thread")
    # frames of 30 fps meet the grid of 20 ms again every 100 ms
    assert [round(since(evidence, i.t_ns) / MS) for i in found] == list(range(31, 2000, 100))
    assert {i.kind for i in found} == {"deadline"}
    assert told(evidence, found[0]) == [
        "0.015 s its thread ran firing 1 of lane part up to 0.030 s",
        "0.030 s firing 2 of lane aim began 10 ms after its release",
        "0.031 s aim of lane aim: published 10.52 ms after its release, deadline 8 ms",
    ]


def test_a_detector_that_is_always_too_slow(incident_path: PathOf) -> None:
    evidence, (safe, stale) = opened(incident_path, "late detector")
    assert told(evidence, stale) == [
        "0.275 s part of lane front took 260 ms in firing 1, usually 260 ms, no budget declared",
        "0.281 s aim.parts: part 280.5 ms old, up to 547.2 ms, limit 250 ms (86 firings, 1.814 s, "
        "to the end)",
    ]
    # armed all the time, and never a command: not what every start brings
    assert told(evidence, safe) == [
        "0.000 s front delivered nothing before 0.015 s",
        "0.001 s aim not called: no parts yet (14 firings up to then)",
        "0.001 s neck has no command yet",
        "0.001 s guard of neck: DISARMED -> STALE: armed, no command yet; pan hold, tilt hold "
        "(100 firings, 2.045 s, to the end)",
        "0.275 s part of lane front took 260 ms in firing 1, usually 260 ms, no budget declared",
        "0.281 s aim not called: parts 280.5 ms old, limit 250 ms (86 firings up to then)",
    ]


def test_a_node_that_raises_is_told_with_its_line(incident_path: PathOf) -> None:
    evidence, found = opened(incident_path, "raising")
    assert [(i.kind, i.subject, i.rows) for i in found[:1]] == [("raised", "broken", 1)]
    raised, safe = found
    assert int(evidence.lanes["front"].number[raised.row]) == 40
    source = Path(__file__).parent.parent / "incident_app.py"
    lines = source.read_text(encoding="utf-8").splitlines()
    line = next(n for n, text in enumerate(lines, 1) if "raise ValueError" in text)
    assert told(evidence, safe) == [
        "1.315 s broken raised in firing 40 of lane front: ValueError: made to raise at call 40 "
        f"(incident_app.py:{line})",
        "1.321 s event trip: node broken raised",
        "1.321 s guard of neck: ARMED -> SAFE: node broken raised; pan hold, tilt hold (4 firings, "
        "58.99 ms, to the end)",
    ]


def test_an_overrun_is_what_the_executor_noted(incident_path: PathOf) -> None:
    evidence, (found,) = opened(incident_path, "overrun")
    assert (found.kind, found.subject, since(evidence, found.t_ns)) == ("overrun", "part", 500 * MS)
    assert told(evidence, found) == [
        "0.500 s part of lane front: it took 30 ms, budget 15 ms; void meanwhile: front → neck"
    ]


def test_an_overrun_that_was_noted_says_which_node_was_slow(incident_path: PathOf) -> None:
    evidence, found = opened(incident_path, "noted")
    late = next(i for i in found if i.kind == "deadline")
    assert told(evidence, late)[:2] == [
        "0.045 s trim overran its budget: 8 ms, budget 4 ms",
        "0.050 s aim + trim of lane every-20ms took 9 ms in firing 3, usually 9 ms, no budget "
        "declared",
    ]


def test_notes_of_an_unknown_form_are_counted(incident_path: PathOf) -> None:
    recording = Recording(incident_path("overrun"))
    recording.note_log["overrun"].append({"lane": "front"})
    evidence = gather(recording)
    assert (len(evidence.overruns), evidence.unread_notes) == (1, 1)


def test_a_start_and_an_end_are_no_incidents(incident_path: PathOf) -> None:
    evidence, found = opened(incident_path, "well")
    assert found == []
    assert [(i.kind, i.text) for i in find_incidents(evidence)] == [
        ("stale", "no part yet"),
        ("safe", "DISARMED -> STALE: armed, no command yet; pan hold, tilt hold"),
        ("safe", "ARMED -> SAFE: end of the simulation; pan hold, tilt hold"),
    ]


def test_a_lane_that_hangs_leaves_no_record_and_that_is_said(incident_path: PathOf) -> None:
    evidence, found = opened(incident_path, "hung")
    assert [i.kind for i in found] == ["stale", "safe"]
    assert told(evidence, found[1])[:4] == [
        "0.658 s last output of part, in firing 20 of lane front",
        "0.682 s front.image #21 came, and no firing of lane front is recorded up to 0.901 s: one "
        "that has not ended leaves no record",
        "0.881 s last output of aim, in firing 45 of lane every-20ms",
        "0.901 s aim not called: parts 267.2 ms old, limit 250 ms (13 firings up to then)",
    ]


def test_through_lanes_that_trigger_each_other(incident_path: PathOf) -> None:
    evidence, (stale, _) = opened(incident_path, "chained")
    assert told(evidence, stale) == [
        "2.015 s front delivered #61, then nothing until 2.748 s (733.3 ms, usually every "
        "33.33 ms)",
        "2.025 s last output of part, in firing 61 of lane part",
        "2.029 s last output of keep, in firing 61 of lane keep",
        "2.261 s aim.parts: keep 260.5 ms old, up to 760.5 ms, limit 250 ms (26 firings, 520 ms)",
    ]
