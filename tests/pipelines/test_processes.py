"""What the processes of a plan are given, and graphs that another process would not find."""

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec
import pytest

from haihe.boards.unit import ProcessProfile, UnitFile, unit_from_text
from haihe.drivers.roles import camera, servos
from haihe.pipelines.devices import Places
from haihe.pipelines.lane_process import LaneProcess
from haihe.pipelines.launch import prepare, run
from haihe.pipelines.processes import check_top_level, kinds_of, policies_of, policy_of
from haihe.runtime.contracts import fresh
from haihe.runtime.errors import PlanError
from haihe.runtime.exec.control import receive
from haihe.runtime.exec.supervision import RestartPolicy
from haihe.runtime.graph import Graph
from haihe.runtime.node import node
from haihe.runtime.types import Detections, Image, JointState, Reading

MS, SECOND = 1_000_000, 1_000_000_000


@node(every="20ms")
def beat() -> Reading:
    return Reading(0.0)


@node(every="50ms")
def slow(beat: Annotated[Reading, fresh("1s")]) -> Reading:
    return beat


class Both(NamedTuple):
    near: Reading
    parts: Detections


@node
def see(image: Image) -> Both:
    return Both(Reading(0.0), Detections.none())


@node(every="20ms")
def watch(near: Annotated[Reading, fresh("1s")], neck: JointState) -> Reading:
    return near


def two() -> Graph:
    with Graph("two") as graph:
        graph.process("far", slow(beat()))
    return graph


assigned = two()
with Graph("in place") as placed:
    placed.process("far", slow(beat()))


def bare(processes: str = "") -> UnitFile:
    return unit_from_text(f"unit: bare\ndevices: {{}}\n{processes}", "unit.yaml")


# --- policies and kinds ---------------------------------------------------------------------------


def test_a_profile_is_read_in_nanoseconds() -> None:
    profile = ProcessProfile((), 3, 30.0, 0.1, 20.0, 2.5, rearm=True)
    assert policy_of(profile) == RestartPolicy(
        limit=3,
        window_ns=30 * SECOND,
        backoff_ns=100 * MS,
        backoff_limit_ns=5 * SECOND,
        start_ns=20 * SECOND,
        hang_ns=2500 * MS,
        rearm=True,
    )
    assert policy_of(ProcessProfile(backoff=8.0)).backoff_limit_ns == 8 * SECOND


def test_a_process_that_only_the_graph_names_has_the_defaults_of_the_profile() -> None:
    (policy,) = policies_of(prepare(assigned, bare())).values()
    assert policy == RestartPolicy(0, 60 * SECOND, 200 * MS, 5 * SECOND, 60 * SECOND, 0)
    said = policies_of(prepare(assigned, bare("processes: {far: {restart: 2, hang: 1s}}\n")))
    assert {name: (p.limit, p.hang_ns) for name, p in said.items()} == {"far": (2, SECOND)}
    assert policies_of(prepare(beats(), bare())) == {}


def beats() -> Graph:
    with Graph("beats") as graph:
        beat()
    return graph


def test_every_source_has_its_kind() -> None:
    with Graph("kinds") as graph:
        watch(see(camera("front").image).near, servos("neck").state)
    assert kinds_of(prepare(graph, "pan-tilt")) == {
        "front.image": Image,
        "neck.state": JointState,
        "see.near": Reading,
        "see.parts": Detections,
        "watch": Reading,
    }


# --- graphs that are not found again --------------------------------------------------------------


def not_found(graph: Graph) -> str:
    return (
        f"{graph.file}: graph {graph.name} has processes (far). Each of them imports this file to "
        "wire the graph again, and would not find it: nothing at the file's top level is that "
        "graph. Wire it there, or assign it there what a function gives; only what runs it goes "
        'under `if __name__ == "__main__":`.'
    )


def test_a_graph_at_the_top_level_of_its_file_is_found() -> None:
    check_top_level(assigned, ["far"])
    check_top_level(placed, ["far"])
    check_top_level(two(), ["far"])  # another of that name is there, and the plan is compared


def test_a_graph_inside_a_function_is_refused_before_anything_starts() -> None:
    with Graph("hidden") as hidden:
        hidden.process("far", slow(beat()))
    before = os.listdir("/proc/self/fd")
    with pytest.raises(PlanError) as error:
        run(hidden, unit=bare(), duration="1s")
    assert str(error.value) == not_found(hidden)
    assert os.listdir("/proc/self/fd") == before


def test_a_graph_that_stands_in_no_file_is_refused() -> None:
    space: dict[str, Any] = {"__name__": "typed"}
    code = (
        "from tests.pipelines.test_processes import Graph, beat, slow\n"
        "with Graph('typed') as typed:\n"
        "    typed.process('far', slow(beat()))\n"
    )
    exec(compile(code, "<stdin>", "exec"), space)
    with pytest.raises(PlanError) as error:
        check_top_level(space["typed"], ["far"])
    assert str(error.value) == not_found(space["typed"])
    assert space["typed"].file == "<stdin>"


@pytest.mark.parametrize("origin", [{"pipeline": "follow"}, {"texts": {}}])
def test_pipelines_and_yaml_files_are_wired_by_what_they_say(origin: dict[str, Any]) -> None:
    with Graph("built") as built:
        beat()
    built.origin = origin
    check_top_level(built, ["far"])


# --- in the process -------------------------------------------------------------------------------


def job_of(**changes: Any) -> dict[str, Any]:
    header = prepare(assigned, bare()).header(0, "real time", sim=False) | changes
    places = msgspec.to_builtins(Places())
    return {"process": "far", "life": 0, "header": header, "places": places, "fds": {}}


def test_another_plan_than_the_launchers_is_refused() -> None:
    with pytest.raises(PlanError) as error:
        LaneProcess(job_of(plan_hash="0" * 64), None)  # type: ignore[arg-type]
    assert str(error.value) == (
        f"{assigned.file}: process far makes another plan of graph two than the launcher did. The "
        "file changed meanwhile, or what it wires depends on more than itself: save it and start "
        "again, or wire it without random or time."
    )


def test_a_graph_that_is_gone_is_said_by_the_process_to_its_launcher(tmp_path: Path) -> None:
    app = tmp_path / "guarded.py"
    app.write_text('if __name__ == "__main__":\n    from haihe import Graph\n')
    job = job_of(graph="late", source={"file": str(app)})
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    fd = os.memfd_create("job", 0)
    fds = {"control": theirs.fileno(), "table": -1, "record": -1, "rings": {}}
    job["fds"] = fds | {"outlets": [], "inlets": []}
    os.write(fd, msgspec.msgpack.encode(job))
    child = subprocess.Popen(
        [sys.executable, "-m", "haihe", "lane", str(fd)], pass_fds=[fd, theirs.fileno()]
    )
    theirs.close()
    os.close(fd)
    with ours:
        ours.settimeout(60)
        message, _ = receive(ours)
    assert child.wait(60) == 1
    assert message == [
        "failed",
        "",
        "",
        "PlanError",
        f"process far imports the graph's file to wire it again: {app}: no graph 'late' in it. "
        "Found: none. A graph with processes stands at the top level of its file, under no `if`.",
    ]
