"""A recording as a trace for ui.perfetto.dev and chrome://tracing: Chrome trace event JSON.

One process for the run; a thread track for each lane (a firing is a slice, its nodes' outcomes are
in its arguments), each bus (an exchange is a slice) and each stream (captures); deliveries as
asynchronous slices from capture to arrival; flows along the lineage from a capture through the
firings to the first byte on the wire; counters of ages and guard states; instants for events and
incidents. Stamps are in µs from the first release.

A slice of no length ends 1 ns after it begins: a flow is bound to the slice that is open at its
time. What happened before the first release (set-up, early captures) is counted, not shown.
Source: Trace Event Format (Google, 2016), "JSON Object Format"; flows with `bp: "e"`.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from haihe.bench.measure.evidence import Evidence
from haihe.bench.measure.firings import LaneColumns
from haihe.bench.measure.incidents import Incident
from haihe.bench.measure.route import find_paths, routes
from haihe.bench.measure.witness import GuardHistory
from haihe.runtime.plan.model import EdgePlan
from haihe.runtime.record.format import FIRING, STOP

PID = 1
Event = dict[str, Any]


def write_trace(evidence: Evidence, incidents: Sequence[Incident], path: Path) -> int:
    """Write the trace; gives the number of its events. Raises OSError."""
    made = trace(evidence, incidents)
    path.write_text(json.dumps(made, ensure_ascii=False), encoding="utf-8")
    return len(made["traceEvents"])


def trace(evidence: Evidence, incidents: Sequence[Incident]) -> dict[str, Any]:
    """The trace as an object; events in the order of time, names of tracks first."""
    tracks = _Tracks(evidence)
    events: list[Event] = []
    for name in evidence.lanes:
        events += _firings(evidence, tracks, name)
    for source in evidence.lineage.streams:
        events += _deliveries(evidence, tracks, source)
    events += _flows(evidence, tracks)
    events += _ages(evidence, tracks)
    for history in evidence.account.guards.values():
        events += _guard(tracks, history)
    for incident in incidents:
        if not incident.is_usual:
            name = f"{incident.kind}: {incident.subject}: {incident.text}"
            lane = tracks.ids["lane " + incident.lane]
            events.append(tracks.event("i", name, incident.t_ns, lane, s="p"))
    shown = [event for event in events if event["ts"] >= 0]
    shown.sort(key=lambda event: (event["ts"], _ORDER[event["ph"]], -event.get("dur", 0)))
    header = evidence.recording.header
    return {
        "traceEvents": tracks.names() + shown,
        "displayTimeUnit": "ms",
        "otherData": {
            "recording": str(evidence.recording.path),
            "graph": evidence.recording.plan.graph,
            "plan_hash": str(header.get("plan_hash", "")),
            "mode": str(header.get("mode", "")),
            "first_release_ns": str(evidence.start_ns),
            "before_first_release": str(len(events) - len(shown)),
        },
    }


# at one time: slices open before what is bound to them
_ORDER = {"X": 0, "b": 1, "s": 2, "t": 3, "f": 4, "i": 5, "C": 6, "e": 7}


class _Tracks:
    """Thread ids by name, in the order of the plan."""

    def __init__(self, evidence: Evidence) -> None:
        self._start = evidence.start_ns
        self._title = f"{evidence.recording.plan.graph} ({evidence.recording.path.name})"
        streams = list(evidence.lineage.streams)
        names = [f"stream {source}" for source in streams]
        for lane in evidence.lanes.values():
            names += [f"lane {lane.name}", *(f"bus {role}" for role in lane.buses)]
        self.ids = {name: number for number, name in enumerate(names, 1)}

    def names(self) -> list[Event]:
        """Metadata events."""
        found = [{"ph": "M", "name": "process_name", "pid": PID, "tid": 0,
                  "args": {"name": self._title}}]  # fmt: skip
        for name, tid in self.ids.items():
            found.append({"ph": "M", "name": "thread_name", "pid": PID, "tid": tid,
                          "args": {"name": name}})  # fmt: skip
            found.append({"ph": "M", "name": "thread_sort_index", "pid": PID, "tid": tid,
                          "args": {"sort_index": tid}})  # fmt: skip
        return found

    def event(self, phase: str, name: str, t_ns: int, tid: int, **more: Any) -> Event:
        """One event at a stamp."""
        ts = (int(t_ns) - self._start) / 1000
        return {"ph": phase, "name": name, "pid": PID, "tid": tid, "ts": ts, **more}

    def slice(self, name: str, start_ns: int, end_ns: int, tid: int, args: Event) -> Event:
        """A complete event."""
        dur = max(int(end_ns) - int(start_ns), 1) / 1000
        return self.event("X", name, start_ns, tid, dur=dur, args=args)


def _firings(evidence: Evidence, tracks: _Tracks, name: str) -> Iterator[Event]:
    lane = evidence.lanes[name]
    own = tracks.ids[f"lane {name}"]
    begins = lane.release + lane.wake
    row = 0
    for record in evidence.recording.lanes[name]:
        is_firing = record.kind == FIRING
        t_clock = int(lane.clock[row]) if is_firing else 0
        last = int(lane.end[row]) if is_firing else 0
        for index, exchange, reply in record.exchanges:
            last = max(last, reply.t_done_ns)
            role = lane.task.buses[index].role
            what = "read" if reply.t_sent_ns < t_clock else "write"
            args: Event = {"sent": exchange.tx.hex(" "), "received": reply.rx.hex(" ")}
            if reply.error:
                what, args = "failed", args | {"error": reply.error}
            bus = tracks.ids[f"bus {role}"]
            yield tracks.slice(what, reply.t_sent_ns, reply.t_done_ns, bus, args)
        if not is_firing:
            stamp = int(record.fixed[1]) if record.kind == STOP else 0
            for event in record.events:
                yield _happening(tracks, event, stamp, own)
            continue
        outcomes = {s.name: evidence.outcome(name, row, s.name) for s in lane.task.steps}
        consumed = {source: int(numbers[row]) for source, numbers in lane.reads.items()}
        args = {
            "release_us": (int(lane.release[row]) - evidence.start_ns) / 1000,
            "clock_us": (t_clock - evidence.start_ns) / 1000,
            "nodes_us": int(lane.run[row]) / 1000,
            "outcomes": outcomes,
            "consumed": consumed,
        }
        bad = [node for node, outcome in outcomes.items() if outcome not in _FINE]
        title = f"firing {lane.number[row]}" + (f", not {', '.join(bad)}" if bad else "")
        yield tracks.slice(title, int(begins[row]), max(last, t_clock + 1), own, args)
        for event in record.events:
            yield _happening(tracks, event, t_clock, own)
        row += 1


_FINE = ("called", "silent", "not triggered")


def _happening(tracks: _Tracks, event: Sequence[Any], t_ns: int, tid: int) -> Event:
    return tracks.event("i", " ".join(map(str, event)), t_ns, tid, s="t", cat="event")


def _deliveries(evidence: Evidence, tracks: _Tracks, source: str) -> Iterator[Event]:
    tid = tracks.ids[f"stream {source}"]
    for sequence, capture, delivered in evidence.stream(source).tolist():
        if capture < evidence.start_ns:  # both or none of a pair
            continue
        name, args = f"{source} #{sequence}", {"sequence": sequence}
        mark = {"cat": "delivery", "id": f"{source}#{sequence}"}
        yield tracks.slice(f"capture #{sequence}", capture, capture, tid, args)
        yield tracks.event("b", name, capture, tid, **mark, args=args)
        yield tracks.event("e", name, max(delivered, capture), tid, **mark)


def _ages(evidence: Evidence, tracks: _Tracks) -> Iterator[Event]:
    for name, lane in evidence.lanes.items():
        tid = tracks.ids[f"lane {name}"]
        for step in lane.task.steps:
            for port, edge in evidence.inputs(step):
                if edge.fresh_ns is None:
                    continue
                seen = evidence.lineage.samples(name, edge.source)
                known = np.flatnonzero(seen.origin > 0)
                ages = (lane.clock - seen.origin)[known]
                for t, age in zip(lane.clock[known].tolist(), ages.tolist(), strict=True):
                    title = f"age of {step.name}.{port}"
                    yield tracks.event("C", title, t, tid, args={"ms": age / 1e6})
        for bus in lane.task.buses:
            if bus.command_edge < 0:
                continue
            made = evidence.lineage.samples(
                name, evidence.recording.plan.edges[bus.command_edge].source
            ).made
            for row in np.flatnonzero(made > 0).tolist():
                age = int(lane.end[row] - made[row])
                title = f"age of command of {bus.role}"
                yield tracks.event("C", title, int(lane.end[row]), tid, args={"ms": age / 1e6})


def _guard(tracks: _Tracks, history: GuardHistory) -> Iterator[Event]:
    tid, before = tracks.ids[f"lane {history.lane}"], None
    for step in history.steps:
        title = f"guard of {history.role}"
        yield tracks.event("C", title, step.t_ns, tid, args={"state": int(step.state)})
        if step.state is not before:
            said = f"{title}: {step.state.name}"
            yield tracks.event("i", said, step.t_ns, tid, s="t", cat="guard")
        before = step.state


def _flows(evidence: Evidence, tracks: _Tracks) -> Iterator[Event]:
    """An arrow for every capture that reached the wire."""
    plan = evidence.recording.plan
    found = {
        (route.source, route.role): route for route in routes(evidence.recording, evidence.lineage)
    }
    for lane in evidence.lanes.values():
        for bus in lane.task.buses:
            if bus.command_edge < 0:
                continue
            first = lane.buses[bus.role].first_byte
            rows = {int(t): row for row, t in enumerate(first.tolist()) if t}
            for path in find_paths(plan, plan.edges[bus.command_edge]):
                route = found[path[0].source, bus.role]
                for capture, sent in zip(
                    route.capture.tolist(), (route.capture + route.reaction).tolist(), strict=True
                ):
                    way = _way(evidence, lane, rows[sent], path)
                    yield from _flow(evidence, tracks, bus.role, path[0].source, capture, sent, way)


def _way(
    evidence: Evidence, lane: LaneColumns, row: int, path: list[EdgePlan]
) -> list[tuple[str, int]]:
    """Lanes and rows from the wire back, a place for each firing that had a part in it."""
    way = [(lane.name, row)]
    for edge in reversed(path):
        name, row = way[-1]
        sequence = int(evidence.lineage.samples(name, edge.source).sequence[row])
        made = evidence.maker(edge.source, sequence)
        if made is not None and (made.lane, made.row) != way[-1]:
            way.append((made.lane, made.row))
    return way


def _flow(
    evidence: Evidence, tracks: _Tracks, role: str, source: str, capture: int, sent: int,
    way: list[tuple[str, int]],
) -> Iterator[Event]:  # fmt: skip
    owner = f"bus {source.split('.')[0]}"  # of a state: the reading of its bus is its capture
    points = [(tracks.ids.get(f"stream {source}", tracks.ids.get(owner, 0)), capture)]
    for lane, row in reversed(way):
        points.append((tracks.ids[f"lane {lane}"], int(evidence.lanes[lane].clock[row])))
    points.append((tracks.ids[f"bus {role}"], sent))
    if points[0][1] < evidence.start_ns:  # the whole arrow or none
        return
    mark = {"cat": "lineage", "id": f"{source}@{capture}>{role}", "bp": "e"}
    for place, (tid, t) in enumerate(points):
        phase = "s" if place == 0 else "f" if place == len(points) - 1 else "t"
        yield tracks.event(phase, f"{source} to {role}", t, tid, **mark)
