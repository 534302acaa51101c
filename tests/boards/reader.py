"""A graph that reads servos and commands nothing."""

from pathlib import Path

from haihe.drivers.roles import servos
from haihe.runtime.graph import Graph
from haihe.runtime.node import node
from haihe.runtime.types import JointState, Reading


@node
def warmest(neck: JointState) -> Reading:
    return Reading(float(neck.temperature_degc.max()))


def reader() -> Graph:
    with Graph("reader") as graph:
        warmest(servos("neck").state)
    return graph


def watch_line() -> str:
    lines = Path(__file__).read_text(encoding="utf-8").splitlines()
    return f"{__file__}:{next(i for i, line in enumerate(lines, 1) if 'servos(' in line)}"
