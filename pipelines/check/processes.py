"""A graph and its processes: fast lanes beside inference, graphs that no other process can wire,
and the memory that processes take."""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from haihe.models.detector import Detector
from haihe.pipelines.check.finding import Finding, some
from haihe.pipelines.check.hops import process_name, stream_readers
from haihe.pipelines.check.timing_of import threads_of
from haihe.pipelines.launch import Prepared
from haihe.pipelines.processes import RECORD_BYTES, SMALL_BYTES, kinds_of
from haihe.runtime.exec.remote import crossings
from haihe.runtime.graph import Graph
from haihe.runtime.graph_parts import ProcessUse
from haihe.runtime.links.channel import slots_needed
from haihe.runtime.plan.model import LanePlan
from haihe.runtime.types import Image
from haihe.runtime.units import format_ns

# at 1 kHz beside a camera and inference in one process 1 to 7 % of the ticks came more than a
# period late, whatever the wait; with a process of its own and SCHED_FIFO none (x86-64, 2 cores)
FAST_NS = 10_000_000  # a shorter period
TIGHT_NS = 2_000_000  # ... or deadline is not for a lane beside inference
# measured on x86-64, CPython 3.11: resident set of a child that cycles a bus, and of one that reads
# a camera and runs a model, without the model's own
CHILD_MB, SEEING_MB = 50, 80
MB = 1_000_000
AT_WRITER = 4  # slots of a ring that live in the writer's process


def process_findings(prepared: Prepared) -> Iterator[Finding]:
    """What is wrong with the processes of a plan, and where one is missing."""
    yield from _beside_inference(prepared)
    if prepared.plan.processes:
        yield from _not_wired(prepared)


def _beside_inference(prepared: Prepared) -> Iterator[Finding]:
    plan = prepared.plan
    for lane in plan.lanes:
        process = plan.process_of(lane.name)
        models = [
            (step.name, other.name)
            for other in plan.lanes
            if other is not lane and plan.process_of(other.name) == process
            for step in other.task.steps
            if isinstance(prepared.graph.nodes[step.name].instance, Detector)
        ]
        why = _tight(lane)
        if not why or not models:
            continue
        names = [name for name, _ in models]
        lanes = {beside for _, beside in models}
        threads = ", ".join(t.name for t in threads_of(plan) if lanes & {*t.lanes})
        yield Finding(
            "warns",
            _line(prepared, lane),
            f"{lane.name} ({why}) shares the interpreter of process {process_name(process)} with "
            f"{some(names)}: inference and what surrounds it delay it, whatever its priority.",
            f'Give the model a process of its own: g.process("vision", "{names[0]}"), or '
            f"`processes: {{vision: {{threads: [{threads}]}}}}` in the unit profile.",
        )


def _tight(lane: LanePlan) -> str:
    """Why a lane should not wait for an interpreter; "" if it may."""
    deadline = min((s.deadline_ns for s in lane.task.steps if s.deadline_ns), default=TIGHT_NS)
    if 0 < lane.task.every_ns < FAST_NS:
        return f"every {format_ns(lane.task.every_ns)}"
    return f"deadline {format_ns(deadline)}" if deadline < TIGHT_NS else ""


def _line(prepared: Prepared, lane: LanePlan) -> str:
    if lane.task.steps:
        return prepared.graph.nodes[lane.task.steps[0].name].line
    return prepared.graph.devices[lane.task.buses[0].role].line


def _not_wired(prepared: Prepared) -> Iterator[Finding]:
    """A child wires the graph again from its file, and must find the same one."""
    graph = prepared.graph
    if "pipeline" in graph.origin or "texts" in graph.origin:
        return
    uses: list[ProcessUse] = list(graph.processes.values())
    where = uses[0].line if uses else graph.file
    names = some([process_name(name) for name in prepared.plan.processes])
    cure = "Wire the graph at the top level of a file, and run that."
    if not Path(graph.file).is_file():
        yield Finding(
            "fails", where,
            f"process {names} cannot wire graph {graph.name}: it was wired in {graph.file}, which "
            "is no file that another process can import.", cure,
        )  # fmt: skip
    elif not _is_at_top(graph):
        yield Finding(
            "fails", where,
            f"process {names} cannot wire graph {graph.name}: it imports {graph.file} and looks "
            "for the graph among its names, and there is none.", cure,
        )  # fmt: skip


def _is_at_top(graph: Graph) -> bool:
    """Whether importing its file gives the graph, as far as is known here."""
    file = Path(graph.file).resolve()
    for module in list(sys.modules.values()):
        found = getattr(module, "__file__", None)
        if found and Path(found).resolve() == file:
            graphs = [value for value in vars(module).values() if type(value) is Graph]
            return any(one.name == graph.name for one in graphs)
    return True


def process_memory(prepared: Prepared, pictures: Iterable[float]) -> Iterator[tuple[str, float]]:
    """What the processes and their shared memory take: for people, and in MB. pictures: MB of one
    of each stream; the largest of them is what every picture gets."""
    plan, kinds = prepared.plan, kinds_of(prepared)
    picture, small = max(pictures, default=0.0), SMALL_BYTES / MB
    for process in plan.processes:
        lanes = plan.lanes_of(process)
        nodes = [prepared.graph.nodes[step.name] for lane in lanes for step in lane.task.steps]
        is_seeing = any(isinstance(use.instance, Detector) for use in nodes)
        is_seeing = is_seeing or bool(stream_readers(plan, {process}))
        base = SEEING_MB if is_seeing else CHILD_MB
        yield f"process {process}", base + RECORD_BYTES / MB
    quotas: dict[str, list[tuple[int, bool]]] = {}
    for crossing in crossings(plan):
        quotas.setdefault(crossing.source, []).append((crossing.quota, crossing.fifo))
    for source, readers in quotas.items():
        size = max(picture, small) if kinds[source] is Image else small
        yield f"shared memory of {source}", slots_needed(readers, AT_WRITER) * size
