"""`haihe bench pipeline`: a graph in real time, from capture to the first byte on the wire.

The run is recorded as any run; the stages are those of bench/measure/route.py, a series each. A
simulated world (`--sim`) runs on the same cores and takes part of them: such a figure says what
this machine does with the graph and its world, not what the graph does on devices.
"""

import tempfile
from pathlib import Path
from typing import Any

from haihe.bench.measure.model import finish
from haihe.bench.measure.protocol import Result, Series
from haihe.bench.measure.route import Route, routes
from haihe.bench.measure.surroundings import Usage, Watcher, fingerprint
from haihe.runtime.clock import wall_time_s
from haihe.runtime.errors import HaiheError
from haihe.runtime.record.recording import Recording

WHOLE = "total"
SETTLING_NS = 1_000_000_000  # of a run, left out: the first frames and the tracker's start


def measure_pipeline(
    graph: str, unit: str | None, duration: str, *, sim: bool = False, arm: bool = False,
    seed: int = 0, parameters: dict[str, Any] | None = None, video: str | None = None,
) -> Result:  # fmt: skip
    """Run the graph and measure. Raises HaiheError when nothing of it reached a wire."""
    from haihe.pipelines.launch import run
    from haihe.pipelines.load import load_graph

    wired = load_graph(graph, parameters)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.mcap"
        usage = Usage()
        with Watcher() as watcher:
            live = run(
                wired, unit=unit, sim=sim, duration=duration, record=path, frames="none",
                arm=True if arm else None, seed=seed, video=video, tick=lambda _: None,
            )  # fmt: skip
        recording = Recording(path)
    found = [route for route in routes(recording) if len(route.reaction)]
    if not found:
        raise HaiheError(f"{wired.name}: nothing that a source sent reached an actuator's bus.")
    name = graph.rsplit("/", 1)[-1]
    given = f" --unit {unit.rsplit('/', 1)[-1]}" if unit else ""
    shown = f"haihe bench pipeline {name}{given}{' --sim' * sim}{' --arm' * arm}"
    result = Result(
        name=f"pipeline {wired.name}",
        command=f"{shown} --duration {duration}",
        settings={
            "graph": wired.name, "plan": str(recording.header.get("plan_hash", "")), "sim": sim,
            "seed": seed, "unit": live.prepared.binding.unit.unit.unit,
            "routes": [route.describes for route in found],
        },
        series=[series for index, route in enumerate(found) for series in _series(route, index)],
        machine=fingerprint(),
        state=watcher.seen(),
        counts=_counts(recording, found) | usage.counts(),
        started=wall_time_s(),
    )  # fmt: skip
    if sim:
        result.warnings.append("the simulated world ran on the same cores")
    if any(not s.samples_ns for s in result.series):
        result.warnings.append("too short: everything lay in the first second, which is left out")
    finish(result, int(found[0].capture[0]), len(found[0].reaction))
    return result


def _series(route: Route, index: int) -> list[Series]:
    """The stages of a route and its whole; those of further routes carry their names."""
    inside = route.capture >= route.capture[0] + SETTLING_NS
    at = (route.capture[inside] - route.capture[0]).tolist()
    mark = "" if index == 0 else f" ({route.source} to {route.role})"
    after = " (after the first byte)"
    parts = [
        Series(f"{s.name}{after if s.is_after else ''}{mark}", s.ns[inside].tolist(), at_ns=at)
        for s in route.stages
    ]
    return [*parts, Series(f"{WHOLE}{mark}", route.reaction[inside].tolist(), at_ns=at)]


def _counts(recording: Recording, found: list[Route]) -> dict[str, float]:
    delivered = sum(len(records) for records in recording.streams.values())
    return {
        "firings": recording.firings,
        "delivered": delivered,
        "runs": len(found[0].reaction),
        "reached_wire": sum(len(route.reaction) for route in found),
    }
