"""Processes in `check`: hops, words by lane, cures, what it finds and what memory they take."""

import dataclasses
from pathlib import Path
from typing import Annotated

import msgspec
from tests.pipelines.check.graphs import (
    FRONT,
    MS,
    NECK,
    aim,
    assert_within,
    face,
    measured,
    prepared,
    reported,
)

from haihe.boards.compute_profile import find_profile
from haihe.boards.unit import unit_from_text
from haihe.drivers.roles import camera, servos
from haihe.models.detector import detector
from haihe.pipelines.check.hops import HOP_HELD_NS, HOP_NS, SEND_NS, Hop, hops_of
from haihe.pipelines.check.processes import process_findings
from haihe.pipelines.check.report import Budget
from haihe.pipelines.check.resources import memory_findings, models_of
from haihe.pipelines.check.timing_of import Source, timing_of, with_hops
from haihe.pipelines.check.words import stronger, words
from haihe.pipelines.launch import Prepared, prepare
from haihe.pipelines.load import load_graph
from haihe.runtime.contracts import fifo, fresh
from haihe.runtime.exec.remote import receivers
from haihe.runtime.graph import Graph
from haihe.runtime.node import node
from haihe.runtime.plan.model import Plan
from haihe.runtime.types import Detections, Image, JointState, Reading

BUDGETS = [measured("face", 27, 20), measured("aim", 1, 1)]
KNOWN = {budget.name: budget for budget in BUDGETS}


with Graph("follow") as follow:  # at the top, where another process finds it
    head = servos("neck")
    head.command(aim(face(camera("front").image), head.state))
    follow.process("vision", "face")


def apart(*named: str) -> Prepared:
    """The design's example with nodes in a process of their own, by default its vision."""
    if not named:
        return prepare(follow, "pan-tilt")
    with Graph("follow") as graph:
        cam, neck = camera("front"), servos("neck")
        neck.command(aim(face(cam.image), neck.state))
        graph.process("vision", *named)
    return prepare(graph, "pan-tilt")


# --- hops ---------------------------------------------------------------------------------------


def test_what_another_process_says_takes_a_hop() -> None:
    plan = apart().plan
    assert hops_of(plan) == {("face", ""): Hop("face", ("face",), "")}
    timing = timing_of(plan, KNOWN, {"neck": NECK}, {"front": Source("front", FRONT)})
    hop = timing.lane("face→main")
    assert (hop.trigger, hop.worst_ns, hop.held_ns) == ("front", HOP_NS, HOP_HELD_NS)
    assert [(t.name, t.lanes, t.process) for t in timing.threads] == [
        ("every-20ms", ("every-20ms",), "main"),
        ("front", ("front",), "vision"),
        ("receiver of main", ("face→main",), "main"),
    ]


def test_one_process_has_no_hops_whatever_it_is_called() -> None:
    assert hops_of(prepared().plan) == {}
    assert hops_of(apart("face", "aim").plan) == {}


def test_the_analysis_goes_back_to_one_process_without_a_trace() -> None:
    whole, split = prepared().plan, apart().plan
    one = timing_of(whole, KNOWN, {"neck": NECK}, {"front": Source("front", FRONT)})
    two = timing_of(split, KNOWN, {"neck": NECK}, {"front": Source("front", FRONT)})
    assert with_hops(one, split, whole) == two
    assert with_hops(two, whole, split) == one
    assert two.lane("front").worst_ns == one.lane("front").worst_ns + SEND_NS


@node
def split(image: Image) -> Reading:
    return Reading(1.0)


@node
def each(value: Annotated[Reading, fifo(4)]) -> Reading:
    return value


def test_a_queue_in_another_process_is_triggered_by_its_hop() -> None:
    with Graph("queue") as graph:
        graph.thread("after", each(split(camera("front").image)))
        graph.process("late", "each")
    plan = prepare(graph, "pan-tilt").plan
    assert hops_of(plan) == {("split", "late"): Hop("split", ("split",), "late", 4)}
    known = {"split": measured("split", 2, 1), "each": measured("each", 1, 1)}
    timing = timing_of(plan, known, {}, {"front": Source("front", FRONT)})
    assert timing.lane("each").trigger == "split→late"
    assert (timing.lane("split→late").trigger, timing.lane("split→late").fifo) == ("front", 4)
    found = reported(list(known.values()), made=prepare(graph, "pan-tilt"))
    [chain] = found.chains
    hop = next(part.ns for part in chain.parts if part.label == "hop to late")
    # the receiver waits while `each` holds the interpreter, and the other way round
    assert hop == HOP_NS + MS
    assert [part.label for part in chain.parts] == [
        "next frame", "capture→host", "split", "hop to late", "each", "interpreter",
    ]  # fmt: skip
    assert chain.oldest_ns == sum(part.ns for part in chain.parts)


def test_a_stream_and_a_bus_that_another_process_samples_take_hops() -> None:
    @node(every="100ms")
    def look(
        image: Annotated[Image, fresh("300ms")], neck: Annotated[JointState, fresh("300ms")]
    ) -> Reading:
        return Reading(0.0)

    with Graph("wide") as graph:
        cam, neck = camera("front"), servos("neck")
        neck.command(aim(face(cam.image), neck.state))
        look(cam.image, neck.state)
        graph.process("slow", "look")
    made = prepare(graph, "pan-tilt")
    assert set(hops_of(made.plan)) == {("front", "slow"), ("neck.state", "slow")}
    budgets = [measured(name, 1, 0) for name in ("face", "aim", "look")]
    whole, split = _bounds(_in_one(made), budgets), _bounds(made, budgets)
    assert whole["look.image"] == 33_333_333 + 26 * MS
    # one thread receives both: a hop may wait for the other
    assert split["look.image"] == whole["look.image"] + 2 * HOP_NS
    assert split["look.neck"] == whole["look.neck"] + 2 * HOP_NS + SEND_NS


def _bounds(made: Prepared, budgets: list[Budget]) -> dict[str, int]:
    found = reported(budgets, made=made)
    given = [*found.promises, *(p for chain in found.chains for p in chain.promises)]
    return {promise.subject: promise.bound for promise in given if promise.bound is not None}


def _in_one(made: Prepared) -> Prepared:
    threads = tuple(msgspec.structs.replace(t, process="") for t in made.plan.threads)
    plan = msgspec.structs.replace(made.plan, threads=threads)
    return Prepared(made.graph, made.binding, plan)


def test_a_process_of_its_own_costs_a_hop_and_saves_the_interpreter() -> None:
    one, two = reported(BUDGETS), reported(BUDGETS, made=apart())
    assert str(one.verdict) == "fails: interpreter +56.6 ms"
    assert str(two.verdict) == "expected (not pinned, no SCHED_FIFO)"
    assert [(part.label, part.ns) for part in two.chains[0].parts] == [
        ("next frame", 33_333_333), ("capture→host", 26 * MS), ("face", 27 * MS + SEND_NS),
        ("hop to main", HOP_NS + MS), ("next tick", 20 * MS), ("tick+bus", 1_900_000),
        ("interpreter", HOP_HELD_NS * 2),
    ]  # fmt: skip
    assert repr(two).splitlines()[0] == "follow on rk3588 · unit pan-tilt · 2 lanes, 2 processes"
    assert "processes  main: every-20ms · vision: front" in repr(two).splitlines()


def test_the_receiver_has_the_core_of_the_most_urgent_and_the_priority_below_it() -> None:
    plan = _placed(apart().plan, every_20ms=(1, 50), front=(1, 49))
    found = receivers(plan)
    places = {process: (t.name, t.core, t.rank) for process, t in found.items()}
    assert places == {"": ("receiver of main", 1, 48), "vision": ("receiver of vision", 1, 47)}
    timing = timing_of(plan, KNOWN, {"neck": NECK}, {"front": Source("front", FRONT)})
    assert (timing.threads[-1].core, timing.threads[-1].rank) == ("1", 48)
    assert receivers(prepared().plan) == {}


def test_a_receiver_without_a_priority_weakens_its_process() -> None:
    plan = _placed(apart().plan, every_20ms=(1, 1))
    assert receivers(plan)[""].rank == 0
    assert said(plan)["every-20ms"] == "expected (the receiver of main has no priority)"
    assert said(_placed(apart().plan, every_20ms=(1, 2)))["every-20ms"] == "holds (estimated)"


# --- words --------------------------------------------------------------------------------------


def _placed(plan: Plan, **places: tuple[int, int]) -> Plan:
    threads = tuple(
        msgspec.structs.replace(
            thread,
            core=places.get(thread.name.replace("-", "_"), (-1, 0))[0],
            rank=places.get(thread.name.replace("-", "_"), (-1, 0))[1],
        )
        for thread in plan.threads
    )
    return msgspec.structs.replace(plan, threads=threads)


def said(plan: Plan, cores: int = 4) -> dict[str, str]:
    return {lane: str(word) for lane, word in words(plan, KNOWN, cores).items()}


def test_a_lane_with_its_own_process_core_and_rank_holds_beside_one_that_has_nothing() -> None:
    plan = _placed(apart().plan, every_20ms=(1, 50))
    assert said(plan) == {
        "every-20ms": "holds (estimated)",
        "front": "expected (not pinned, no SCHED_FIFO)",
    }
    assert said(plan, cores=1)["every-20ms"] == "holds (estimated)"
    alone = _placed(apart("aim").plan, every_20ms=(1, 50))
    assert said(alone)["every-20ms"] == "holds (estimated)"


def test_in_one_process_the_other_thread_weakens_it() -> None:
    plan = _placed(prepared().plan, every_20ms=(1, 50))
    assert set(said(plan).values()) == {"expected (not pinned, no SCHED_FIFO)"}
    plan = _placed(prepared().plan, every_20ms=(1, 50), front=(2, 40))
    assert set(said(plan).values()) == {
        "expected (interpreter work of the reader of front is not known)"
    }


def test_a_thread_that_roams_with_a_priority_may_take_any_core() -> None:
    plan = _placed(apart().plan, every_20ms=(1, 50), front=(-1, 60))
    assert said(plan)["every-20ms"] == (
        "expected (front may take its core: it has a priority and no core)"
    )
    plan = _placed(apart().plan, every_20ms=(1, 50), front=(-1, 40))
    assert said(plan)["every-20ms"] == "holds (estimated)"


def test_a_more_urgent_thread_of_its_core_weakens_it_from_another_process() -> None:
    few = dict(KNOWN, face=msgspec.structs.replace(KNOWN["face"], weakness="9 runs are few"))
    plan = msgspec.structs.replace(apart().plan, streams=())
    under = _placed(plan, every_20ms=(1, 50), front=(1, 60))
    assert str(words(under, few, 4)["every-20ms"]) == "expected (9 runs are few)"
    over = _placed(plan, every_20ms=(1, 50), front=(1, 40))
    assert str(words(over, few, 4)["every-20ms"]) == "holds (estimated)"


def test_a_contract_is_as_weak_as_the_lanes_that_its_data_comes_through() -> None:
    made = apart()
    made = Prepared(made.graph, made.binding, _placed(made.plan, every_20ms=(1, 50)))
    found = reported(BUDGETS, made=made)
    words_of = {promise.subject: str(promise.verdict) for promise in found.promises}
    assert words_of == {"aim": "holds (estimated)", "aim.neck": "holds (estimated)"}
    own = "haihe's own threads (launcher, recorder, supervisor) take no time that counts"
    assert own in found.assumptions
    [chain] = found.chains
    assert [str(promise.verdict) for promise in chain.promises] == [
        "expected (not pinned, no SCHED_FIFO)"
    ]
    assert str(chain.verdict) == "expected (not pinned, no SCHED_FIFO)"
    assert str(found.verdict) == "expected (not pinned, no SCHED_FIFO)"


def test_what_would_make_it_stronger_names_the_reader_s_process() -> None:
    assert stronger(prepared().plan, KNOWN, 4)[1:] == [
        "run front in a process of its own (`processes: {vision: {threads: [front]}}` in the unit "
        "profile): the reader of front shares the interpreter of main with every-20ms"
    ]
    assert stronger(_placed(apart().plan, every_20ms=(4, 50)), KNOWN, 4) == [
        "give front a core and a priority: `threads: {front: {core: 4, priority: 40}}` in the unit "
        "profile"
    ]


# --- cures --------------------------------------------------------------------------------------


def _process_cures(made: Prepared) -> list[tuple[str, str, bool]]:
    found = reported(BUDGETS, made=made)
    return [(c.change, c.effect, c.helps) for c in found.cures if "process" in c.change]


def test_a_process_of_its_own_is_a_cure_that_was_analysed() -> None:
    [(change, effect, helps)] = _process_cures(prepared())
    after = reported(BUDGETS, made=apart()).chains[0].oldest_ns
    assert after is not None
    assert change == 'g.process("face", "face")'
    assert effect == f"all hold, oldest 231.2 → {after / 1e6:.1f} ms"
    assert helps
    assert _process_cures(apart()) == []


def test_the_cure_of_a_yaml_graph_is_written_in_yaml(tmp_path: Path) -> None:
    file = tmp_path / "follow.yaml"
    file.write_text(
        "graph: follow\ndevices: {front: camera, neck: servos}\nnodes:\n"
        "  face: {node: tests.pipelines.check.graphs:face, in: front.image}\n"
        "  aim: {node: tests.pipelines.check.graphs:aim, in: {faces: face, neck: neck.state}}\n"
        "commands: {neck: aim}\n",
        encoding="utf-8",
    )
    [(change, _, _)] = _process_cures(prepare(load_graph(str(file)), "pan-tilt"))
    assert change == "processes: {face: {nodes: [face]}} in the graph"


# --- findings -----------------------------------------------------------------------------------


@node(every="1ms")
def quick(parts: Annotated[Detections, fresh("120ms")]) -> Reading:
    return Reading(0.0)


def _quick(process: bool) -> Prepared:
    with Graph("quick") as graph:
        parts = detector("part")(camera("front").image)
        quick(parts)
        if process:
            graph.process("vision", parts)
    return prepare(graph, "pan-tilt")


def test_a_fast_lane_beside_inference_wants_a_process() -> None:
    made = _quick(process=False)
    [finding] = process_findings(made)
    assert finding.severity == "warns"
    assert finding.where == made.graph.nodes["quick"].line
    assert finding.text == (
        "every-1ms (every 1 ms) shares the interpreter of process main with part: inference and "
        "what surrounds it delay it, whatever its priority."
    )
    assert finding.cure == (
        'Give the model a process of its own: g.process("vision", "part"), or `processes: '
        "{vision: {threads: [front]}}` in the unit profile."
    )


def test_a_tight_deadline_counts_like_a_fast_lane() -> None:
    @node(every="50ms", deadline="1.5ms")
    def tight(parts: Annotated[Detections, fresh("120ms")]) -> Reading:
        return Reading(0.0)

    with Graph("tight") as graph:
        tight(detector("part")(camera("front").image))
    [finding] = process_findings(prepare(graph, "pan-tilt"))
    assert finding.text.startswith("every-50ms (deadline 1.5 ms) shares the interpreter of ")


def test_a_graph_inside_a_function_cannot_be_wired_by_another_process() -> None:
    made = _quick(process=True)
    [finding] = process_findings(made)
    assert (finding.severity, finding.where) == ("fails", made.graph.processes["vision"].line)
    assert finding.text == (
        f"process vision cannot wire graph quick: it imports {Path(__file__)} and looks for the "
        "graph among its names, and there is none."
    )
    assert finding.cure == "Wire the graph at the top level of a file, and run that."


def test_a_graph_of_a_notebook_cannot_be_wired_by_another_process() -> None:
    made = _quick(process=True)
    made.graph.file = "<ipython-input-3-7f2a>"
    [finding] = process_findings(made)
    assert finding.text == (
        "process vision cannot wire graph quick: it was wired in <ipython-input-3-7f2a>, which is "
        "no file that another process can import."
    )


WIRED = """\
from haihe import Graph, camera, node
from haihe.types import Image


@node
def still(image: Image) -> Image:
    return image


with Graph("still") as g:
    g.process("eye", still(camera("front").image))
"""


def test_a_graph_at_the_top_of_a_file_is_found(tmp_path: Path) -> None:
    file = tmp_path / "wired_at_top.py"
    file.write_text(WIRED, encoding="utf-8")
    made = prepare(load_graph(str(file)), "pan-tilt")
    assert made.plan.processes == ("eye",)
    assert list(process_findings(made)) == []


def test_processes_and_their_shared_memory_count() -> None:
    @node
    def smaller(image: Image) -> Image:
        return image

    with Graph("memory") as graph:
        image = smaller(camera("front").image)
        graph.thread("after", detector("part")(image))
        graph.process("vision", "part")
    unit = unit_from_text(
        "unit: u\ndevices:\n  front: {driver: camera.v4l2, options: {device: 0, size: [4000, 3000]}"
        "}\n",
        "u.yaml",
    )
    made = prepare(graph, unit)
    board = dataclasses.replace(find_profile("rk3588"), memory_gb=(0.5,))
    manifests, _ = models_of(made)
    [finding] = memory_findings(made, manifests, board)
    # 80 and 8 of records; pictures of 36: 3 under way or in the reader's hands, 4 at the writer
    assert finding.text.endswith(
        "front 216 (6 frames of 4000x3000), process vision 88, shared memory of smaller 252. "
        "Estimated, not measured."
    )


# --- against runs -------------------------------------------------------------------------------


def test_a_run_in_virtual_time_stays_within_the_bounds_across_processes() -> None:
    made = apart()
    front = msgspec.structs.replace(FRONT, latency_min_ns=15 * MS, latency_max_ns=15 * MS)
    budgets = [measured("face", 27, 20), measured("aim", 1, 1)]
    [chain] = reported(budgets, made=made, front=front).chains
    assert_within(made, chain)
