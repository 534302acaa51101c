"""The texts of `haihe explain`, whole, for runs that suffered what is known."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.bench.incident_app import RUNS

from haihe.bench.measure.evidence import Evidence, gather
from haihe.bench.measure.explain import tell
from haihe.bench.measure.incidents import Incident, find_incidents
from haihe.bench.report.explain import as_json, nothing_of, overview, story_at, story_of
from haihe.bench.report.trace import write_trace
from haihe.runtime.errors import RecordError
from haihe.runtime.record.recording import Recording

PathOf = Callable[[str], Path]

SAFE = """\
safe at 2.501 s: neck
why
     2.015 s  front delivered #61, then nothing until 2.748 s (733.3 ms, usually every 33.33 ms)
     2.025 s  last output of part, in firing 61 of lane front
     2.241 s  last output of aim, in firing 113 of lane every-20ms
     2.261 s  aim not called: parts 260.5 ms old, limit 250 ms (13 firings up to then)
     2.501 s  command of neck 260 ms old, limit 250 ms
     2.501 s  guard of neck: ARMED -> STALE; pan hold, tilt hold (13 firings, 260 ms)
     2.761 s  guard of neck: STALE -> ARMED
acted on by neck, firing 126 of lane every-20ms
  command: aim #111, made in firing 113 of lane every-20ms at 2.241 s; not obeyed
    parts: part #61, made in firing 61 of lane front at 2.015 s, nodes 10 ms
      image: front.image #61, captured 2.000 s, delivered 2.015 s (15 ms later)
    neck: neck.state #113, captured 2.240 s, read in firing 113 of lane every-20ms
  sent 14 bytes, first 2.501 s, done 2.501 s: ff ff fe 0a 83 2a 02 01 1c 07 02 1f 08 fb
ages
  aim.parts (part)           500.5 ms  limit 250 ms  over it
  aim.neck (neck.state)        260 µs  limit 45 ms
  command of neck (aim)        260 ms  limit 250 ms  over it
  part.image (front.image)      15 ms  no limit
guard of neck: STALE since 2.501 s, ARMED before; reasons: stale; command age limit 250 ms
  pan: command -20.01°, measured -20.04°, sent -20.01°, drive
    range -90° to 90°, slew 300°/s, safe: hold
  tilt: command 2.76°, measured 2.72°, sent 2.76°, drive; range -60° to 60°, slew 300°/s, safe: hold
lane every-20ms, firing 126: released 2.500 s, clock read 520 µs later, nodes 0 ns, the next 2.520 s
  read part #61; aim stale
lane front, firing 61: released 2.015 s, clock read 0 ns later, nodes 10 ms, the next 2.748 s
  read front.image #61; part called"""

OVERVIEW = """\
follow on pan-tilt, virtual time, 4.021 s: 2 incidents (safe 1, stale 1)
     2.261 s  stale     aim.parts: part 260.5 ms old, up to 740.5 ms, limit 250 ms
     2.501 s  safe      neck: ARMED -> STALE; pan hold, tilt hold
of every start and end
     0.001 s  stale     aim.parts: no part yet
     0.001 s  safe      neck: DISARMED -> STALE: armed, no command yet; pan hold, tilt hold
     4.001 s  safe      neck: ARMED -> SAFE: end of the simulation; pan hold, tilt hold
"""

OFFLINE = """\
at 1.800 s: bus neck since 1.500 s, stale aim.neck since 1.540 s, safe neck since 1.780 s
why
     1.500 s  neck gave no state until 4.043 s (127 firings, tried in 7): the port failed: virtual
              is lost
     1.520 s  last output of aim, in firing 77 of lane every-20ms
     1.540 s  aim not called: neck 59.74 ms old, limit 45 ms (13 firings up to then)
     1.780 s  command of neck 259.9 ms old, limit 250 ms
     1.780 s  guard of neck: ARMED -> STALE; pan hold, tilt hold (113 firings, 2.263 s)
     4.043 s  guard of neck: STALE -> ARMED
acted on by neck, firing 91 of lane every-20ms
  command: aim #75, made in firing 77 of lane every-20ms at 1.520 s; not obeyed
    parts: part #45, made in firing 45 of lane front at 1.482 s, nodes 10 ms
      image: front.image #45, captured 1.467 s, delivered 1.482 s (15 ms later)
    neck: neck.state #75, captured 1.480 s, read in firing 75 of lane every-20ms
  nothing was sent: the port failed: virtual is lost
ages
  aim.parts (part)           33.39 ms  limit 250 ms
  aim.neck (neck.state)      319.8 ms  limit 45 ms  over it
  command of neck (aim)        280 ms  limit 250 ms  over it
  part.image (front.image)      15 ms  no limit
guard of neck: STALE since 1.780 s; reasons: stale; command age limit 250 ms
  pan: command -6.44°, sent -6.44°, drive; range -90° to 90°, slew 300°/s, safe: hold
  tilt: command 17.22°, sent 17.22°, drive; range -60° to 60°, slew 300°/s, safe: hold
lane every-20ms, firing 91: released 1.800 s, clock read 60 µs later, nodes 0 ns, the next 1.820 s
  read part #54; aim stale
lane front, firing 54: released 1.782 s, clock read 0 ns later, nodes 10 ms, the next 1.815 s
  read front.image #54; part called"""

ALONE = """\
guard of neck: STALE since 2.501 s, ARMED before; reasons: stale; command age limit 250 ms
  pan: range -90° to 90°, slew 300°/s, safe: hold
  tilt: range -60° to 60°, slew 300°/s, safe: hold
"""


@pytest.fixture(autouse=True)
def _clean(clean_path: None) -> None:
    pass


def opened(path: Path, *, replay: bool = True) -> tuple[Evidence, list[Incident]]:
    evidence = gather(Recording(path), replay=replay)
    return evidence, find_incidents(evidence)


def test_an_incident_in_full(incident_path: PathOf) -> None:
    evidence, found = opened(incident_path("outage"))
    safe = next(i for i in found if i.kind == "safe" and not i.is_usual)
    assert story_of(evidence, safe, found) == SAFE


def test_the_docs_show_this_very_text() -> None:
    docs = Path(__file__).parents[3] / "docs" / "recordings.md"
    assert f"--event safe\n{SAFE}\n```" in docs.read_text(encoding="utf-8")


def test_all_incidents_and_the_first_of_each_kind(incident_path: PathOf) -> None:
    evidence, found = opened(incident_path("outage"))
    stale = next(i for i in found if i.kind == "stale" and not i.is_usual)
    text = overview(evidence, found)
    assert text == f"{OVERVIEW}\n{SAFE}\n\n{story_of(evidence, stale, found)}"


def test_incidents_are_grouped_and_counted(incident_path: PathOf) -> None:
    evidence, found = opened(incident_path("shared thread"))
    assert overview(evidence, found).splitlines()[:3] == [
        "shared on pan-tilt, virtual time, 2.021 s: 20 incidents (deadline 20)",
        "     0.031 s  deadline  aim (20 times, 200 ms in all; the first:): published 10.52 ms "
        "after its",
        "              release, deadline 8 ms",
    ]
    late = [i for i in found if i.kind == "deadline"]
    assert story_of(evidence, late[2], found).startswith(
        "deadline at 0.231 s: aim (3 of 20 of this kind)\n"
    )


def test_a_moment_while_things_are_wrong(incident_path: PathOf) -> None:
    evidence, found = opened(incident_path("unplugged"))
    assert story_at(evidence, evidence.parse_time("1.8s"), found) == OFFLINE
    assert story_at(
        evidence, evidence.parse_time(str(evidence.start_ns + 1_800_000_000)), found
    ) == (OFFLINE)


def test_a_moment_while_all_is_well(incident_path: PathOf) -> None:
    evidence, found = opened(incident_path("well"))
    text = story_at(evidence, evidence.parse_time("500ms"), found)
    assert text.startswith(
        "at 0.500 s: nothing wrong under way\nacted on by neck, firing 26 of lane every-20ms\n"
        "  command: aim #24, made in firing 26 of lane every-20ms at 0.501 s\n"
    )
    assert "why\n" not in text
    assert "over it" not in text
    assert overview(evidence, found).splitlines()[0] == (
        "follow on pan-tilt, virtual time, 1.021 s: nothing went wrong"
    )


@pytest.mark.parametrize("text", ["5s", "-1s", "9223372036854775807"])
def test_a_moment_outside_of_the_run(incident_path: PathOf, text: str) -> None:
    evidence, _ = opened(incident_path("well"))
    with pytest.raises(RecordError) as caught:
        evidence.parse_time(text)
    assert str(caught.value) == (
        f"{incident_path('well')}: --at {text} lies outside of the run, which goes from 0 s to "
        "1.021 s. Choose a time within it."
    )


def test_what_the_record_alone_tells(incident_path: PathOf) -> None:
    evidence, found = opened(incident_path("outage"), replay=False)
    safe = next(i for i in found if i.kind == "safe" and not i.is_usual)
    text = story_of(evidence, safe, found)
    before, after = SAFE.index("guard of neck: STALE since"), SAFE.index("lane every-20ms, firing")
    assert text == (
        f"{SAFE[:before]}{ALONE}{SAFE[after:]}\n"
        "not recorded: guards are told from the record alone (not asked for): positions, and which "
        "limits\n    acted, are not in it"
    )


def test_a_cut_recording_says_so(incident_path: PathOf) -> None:
    recording = Recording(incident_path("well"))
    recording.complete, recording.dropped_bytes = False, 17
    evidence = gather(recording)
    assert overview(evidence, find_incidents(evidence)).splitlines()[-2:] == [
        "not recorded: the end of the recording is cut off",
        "not recorded: 17 bytes are damaged and were left out",
    ]


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9, 0.999])
def test_a_recording_as_a_kill_leaves_it(tmp_path: Path, share: float) -> None:
    """Not rewritten, and cut anywhere: told as far as it goes."""
    whole, cut = tmp_path / "whole.mcap", tmp_path / "cut.mcap"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("haihe.runtime.record.fix.finish", lambda path: None)
        RUNS["e-stop"](whole)
    data = whole.read_bytes()
    cut.write_bytes(data[: 8000 + int(share * (len(data) - 8000))])
    evidence = gather(Recording(cut))
    found = find_incidents(evidence)
    text = overview(evidence, found)
    assert "not recorded: the end of the recording is cut off" in text.splitlines()
    assert ("e-stop button" in text) == (share >= 0.3)
    write_trace(evidence, found, tmp_path / "trace.json")


def test_nothing_to_explain(incident_path: PathOf) -> None:
    recording = Recording(incident_path("well"))
    for records in recording.lanes.values():
        records.clear()
    with pytest.raises(RecordError) as caught:
        gather(recording)
    assert str(caught.value) == (
        f"{recording.path}: no firing in it: there is nothing to explain. Look at what is there "
        f"with: haihe rec info {recording.path}"
    )


def test_json_holds_the_same(incident_path: PathOf) -> None:
    evidence, found = opened(incident_path("outage"))
    safe = next(i for i in found if i.kind == "safe" and not i.is_usual)
    data = json.loads(as_json(evidence, found, [tell(evidence, safe.t_ns, found, safe)]))
    assert data["guards_replayed"]
    assert [i["kind"] for i in data["incidents"] if not i["is_usual"]] == ["stale", "safe"]
    (story,) = data["stories"]
    assert story["chain"][0]["text"].startswith("front delivered #61, then")
    assert story["guards"][0]["state"] == "STALE"
    assert story["t_ns"] - data["start_ns"] == 2_500_520_000
    assert bytes.fromhex(story["acted"][0]["sent"][0])[:2] == b"\xff\xff"
    assert story["lanes"][0]["outcomes"] == {"aim": "stale"}


def test_no_incident_of_a_kind() -> None:
    assert nothing_of("raised") == "no incident of kind raised in it"
    assert nothing_of("overrun") == (
        "no overrun is noted in it: no node exceeded its budget, or the run's executor made no "
        "notes of that"
    )
