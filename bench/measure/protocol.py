"""The result of a benchmark as data: what was timed, on what, in which state, how often.

One JSON document per run; `PROTOCOL` names the method and is frozen: a change of what is timed or
how is a new id, and results of different ids are not compared. Times are ns unless a name says
otherwise. Nothing is uploaded.
"""

from typing import Any

import msgspec

from haihe.boards.measured import PROTOCOL as PROTOCOL
from haihe.boards.measured import Machine as Machine

SCHEMA = 1


class Series(msgspec.Struct):
    """Samples of one stage, in the order of measurement.

    throttled: indices of samples taken while the machine was throttled or its clock had changed.
    at_ns: when each began, since the first began; empty where nobody looked. stride: every
    so-manieth run is in here, the others were dropped to keep the document small.
    """

    stage: str  # "infer", "pre", "post", "total", "loop", "capture to first byte" ...
    samples_ns: list[int]
    throttled: list[int] = []
    at_ns: list[int] = []
    stride: int = 1


class Operator(msgspec.Struct):
    """A kind of operator in a profile: all its nodes together, in one run of the model."""

    kind: str
    nodes: int
    ns: int
    provider: str = ""


class MachineState(msgspec.Struct):
    """One reading of the sampler; None where the machine does not tell."""

    t_ns: int
    governor: str | None = None
    frequency_khz: list[int] = []  # per policy
    temperature_degc: dict[str, float] = {}
    cooling: dict[str, int] = {}  # current state by device, above 0: throttled now
    throttled: bool | None = None
    power_w: float | None = None
    load: float | None = None
    devfreq_hz: dict[str, int] = {}
    firmware: int | None = None  # flags of `vcgencmd get_throttled`
    power_source: str = ""


class Result(msgspec.Struct):
    """One benchmark run."""

    name: str  # "model part", "loop", "pipeline robot.follow"
    command: str  # how to repeat it
    settings: dict[str, Any]
    series: list[Series]
    machine: Machine
    state: list[MachineState] = []
    counts: dict[str, float] = {}  # load_ns, first_ns, cpu_ns, rss_bytes, dropped, frames ...
    providers: dict[str, int] = {}  # nodes of the model per provider that really ran
    warnings: list[str] = []
    protocol: str = PROTOCOL
    schema: int = SCHEMA
    started: float = 0.0  # wall time, s since 1970
    operators: list[Operator] = []  # the costliest first, where a profile was asked for


def to_json(result: Result) -> bytes:
    """The document."""
    return msgspec.json.format(msgspec.json.encode(result), indent=1)


def from_json(data: bytes) -> Result:
    """A document back; raises msgspec.DecodeError with the path of what is wrong."""
    return msgspec.json.decode(data, type=Result)
