"""For the tests of a user's project: replay a recording, simulate a graph.

from haihe.testing import replay

def test_yesterdays_run():
    assert replay("recordings/run.mcap").ok
"""

from pathlib import Path

from haihe.boards.binding import bind
from haihe.boards.unit import UnitFile, load_unit, unit_from_text
from haihe.pipelines.launch import Simulation, simulate
from haihe.pipelines.load import graph_of_recording
from haihe.runtime.graph import Graph
from haihe.runtime.record.recording import Recording
from haihe.runtime.record.replay import Replayer, ReplayReport

__all__ = ["Simulation", "replay", "replayer", "simulate"]


def replayer(
    recording: str | Path | Recording,
    *,
    graph: Graph | None = None,
    unit: str | Path | None = None,
    perception: bool = False,
    start_s: float = 0.0,
) -> Replayer:
    """A replayer of a recording: the graph is wired anew from the code it names, and bound to the
    unit as it was recorded; give another graph or unit to see what a change does."""
    opened = recording if isinstance(recording, Recording) else Recording(recording)
    wired = graph if graph is not None else graph_of_recording(opened.header)
    if unit is not None:
        profile: UnitFile = load_unit(Path(unit))
    else:
        profile = unit_from_text(opened.header["unit"]["text"], opened.header["unit"]["file"])
    buses = bind(wired, profile).buses(opened.plan)
    return Replayer(opened, wired, buses, perception=perception, start_s=start_s)


def replay(
    recording: str | Path | Recording,
    *,
    graph: Graph | None = None,
    unit: str | Path | None = None,
    perception: bool = False,
    start_s: float = 0.0,
) -> ReplayReport:
    """Replay and compare every firing and every actuator byte; `.ok`, or print the report."""
    return replayer(recording, graph=graph, unit=unit, perception=perception, start_s=start_s).run()
