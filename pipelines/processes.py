"""The processes of a plan, from the launcher's side: what each is given besides descriptors."""

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from haihe.boards.unit import ProcessProfile
from haihe.pipelines.devices import Places
from haihe.runtime.errors import PlanError
from haihe.runtime.exec.supervision import RestartPolicy
from haihe.runtime.exec.supervisor import Supervisor
from haihe.runtime.graph import Graph
from haihe.runtime.record.sink import Frames, Records
from haihe.runtime.types import Image, Message

if TYPE_CHECKING:
    from haihe.pipelines.launch import Prepared

ASSUMED_SIZE = (1920, 1080)  # of a picture whose camera does not say
SMALL_BYTES = 1 << 18  # of messages without pictures; larger ones are refused and counted
RECORD_BYTES = 8 << 20  # of records that may wait for the launcher
PICTURES = 16  # lossless ones that may wait


def policy_of(profile: ProcessProfile) -> RestartPolicy:
    """What the unit profile says of restarts."""
    backoff = round(profile.backoff * 1e9)
    return RestartPolicy(
        limit=profile.restart,
        window_ns=round(profile.window * 1e9),
        backoff_ns=backoff,
        backoff_limit_ns=max(backoff, 5_000_000_000),
        start_ns=round(profile.start * 1e9),
        hang_ns=round(profile.hang * 1e9),
        rearm=profile.rearm,
    )


def policies_of(prepared: "Prepared") -> dict[str, RestartPolicy]:
    """By process of the plan: one that only the graph names has the profile's defaults."""
    profiles = prepared.binding.unit.unit.processes
    return {
        name: policy_of(profiles.get(name, ProcessProfile())) for name in prepared.plan.processes
    }


def supervisor_of(
    prepared: "Prepared",
    header: Mapping[str, Any],
    places: Places,
    budgets: Mapping[str, int],
    recorder: Records | None,
    frames: Frames,
    strict: bool,
) -> Supervisor:
    """The supervisor of the processes of a plan, not started. Raises PlanError."""
    check_top_level(prepared.graph, prepared.plan.processes)
    picture = _picture_bytes(prepared)
    kinds = kinds_of(prepared)
    job = {
        "header": header,
        "places": msgspec.to_builtins(places),
        "budgets": dict(budgets),
        "strict": strict,
        "frames": frames,
        "is_recorded": recorder is not None,
    }
    return Supervisor(
        prepared.plan,
        policies_of(prepared),
        (sys.executable, "-m", "haihe", "lane"),
        job,
        kinds=kinds,
        slot_bytes=lambda source: picture if kinds[source] is Image else SMALL_BYTES,
        recorder=recorder,
        record_bytes=RECORD_BYTES + (PICTURES * picture if frames == "lossless" else 0),
    )


def check_top_level(graph: Graph, processes: Iterable[str]) -> None:
    """Raises PlanError when the other processes would not find a graph in its file."""
    if "pipeline" in graph.origin or "texts" in graph.origin:
        return
    file = Path(graph.file)
    spaces = [vars(module) for module in list(sys.modules.values()) if hasattr(module, "__dict__")]
    here = [space for space in spaces if _is_file(space.get("__file__"), file)]
    is_found = any(
        type(value) is Graph and graph.name in (name, value.name)
        for space in here
        for name, value in list(space.items())
    )
    if not file.is_file() or (here and not is_found):  # not loaded by name: they will tell
        raise PlanError(
            f"{graph.file}: graph {graph.name} has processes ({', '.join(processes)}). Each of "
            "them imports this file to wire the graph again, and would not find it: nothing at the "
            "file's top level is that graph. Wire it there, or assign it there what a function "
            'gives; only what runs it goes under `if __name__ == "__main__":`.'
        )


def _is_file(name: object, file: Path) -> bool:
    return (
        isinstance(name, str)
        and name.endswith(file.name)
        and Path(name).resolve() == file.resolve()
    )


def kinds_of(prepared: "Prepared") -> dict[str, type[Message]]:
    """The message type of every source of a graph."""
    kinds: dict[str, type[Message]] = {}
    for role, device in prepared.graph.devices.items():
        kinds |= {f"{role}.{port}": kind for port, kind in device.kind.states.items()}
    for name, use in prepared.graph.nodes.items():
        for port in use.outputs:
            kinds[name if port.name == "out" else f"{name}.{port.name}"] = port.kind
    return kinds


def _picture_bytes(prepared: "Prepared") -> int:
    """Of the largest picture of the graph's cameras."""
    sizes = [
        getattr(prepared.binding.devices[role].options, "size", None) or ASSUMED_SIZE
        for role in prepared.plan.streams
    ]
    return max((width * height * 3 for width, height in sizes), default=SMALL_BYTES) + 4096
