"""Random pipelines: the stepping code gives what a slow interpreter says it must."""

from dataclasses import asdict
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.runtime.plan.interpreter import (
    InputSpec,
    Interpreter,
    NodeSpec,
    PipelineSpec,
    StreamSpec,
    as_graph,
)

from haihe.runtime.clock import MILLISECOND
from haihe.runtime.exec.virtual import VirtualExecutor
from haihe.runtime.plan.build import make_plan
from haihe.runtime.plan.codegen import has_published, outcome_of, record_layout

DURATION = 130 * MILLISECOND


@st.composite
def streams(draw):
    latency = st.none() | st.sampled_from([0, 1000, 4500, 20_000])
    return tuple(
        StreamSpec(
            f"s{index}",
            draw(st.sampled_from([5, 10, 17])),
            draw(st.integers(0, 7)),
            tuple(draw(st.lists(latency, min_size=1, max_size=4))),
        )
        for index in range(draw(st.integers(0, 2)))
    )


@st.composite
def pipelines(draw):
    devices = draw(streams())
    sources = [stream.source for stream in devices]
    nodes = []
    for index in range(draw(st.integers(1, 7))):
        every = draw(st.sampled_from([0, 0, 5, 10, 20, 30])) if sources else 10
        count = draw(st.integers(0 if every else 1, min(3, max(1, len(sources)))))
        inputs = []
        for number in range(count if sources else 0):
            age = draw(st.none() | st.sampled_from([1, 6, 12, 40]))
            if number and not every:
                age = age or 25  # one unaged input, the trigger
            can_call = age is not None and draw(st.booleans())
            inputs.append(InputSpec(draw(st.sampled_from(sources)), age, can_call))
        spec = NodeSpec(
            f"n{index}",
            every,
            tuple(inputs),
            pair=draw(st.booleans()),
            silent=draw(st.sampled_from([0, 0, 2, 3])),
            budget_us=draw(st.sampled_from([0, 0, 300, 4000, 12_000])),
            loop=draw(st.booleans()),
            timed=draw(st.booleans()),
        )
        nodes.append(spec)
        sources += spec.outputs
    return PipelineSpec(devices, tuple(nodes))


def executed(pipeline: PipelineSpec):
    """The executor after its run, the nodes' calls, and the parsed records of each lane."""
    graph, calls = as_graph(pipeline)
    plan = make_plan(graph, {})
    cameras: dict[str, Any] = {stream.name: stream for stream in pipeline.streams}
    executor = VirtualExecutor(graph, plan, {}, cameras)
    records = []
    for lane in executor.assembly.lanes:
        raw: list[bytes] = []
        lane.on_log = raw.append
        records.append(raw)
    outcome = executor.run(DURATION)
    assert outcome.failures == []
    parsed = []
    for lane, raw in zip(executor.assembly.lanes, records, strict=True):
        layout, reads = record_layout(lane.task), len(lane.task.reads)
        rows = []
        for data in raw:
            _, firing, release, clock, run, *rest = layout.unpack(data)
            names = dict(zip(lane.task.reads, rest[:reads], strict=True))
            ended = {
                step.name: (
                    outcome_of(code),
                    [has_published(code, k) for k in range(len(step.outputs))],
                )
                for step, code in zip(lane.task.steps, rest[reads:], strict=True)
            }
            rows.append((firing, release, clock, run, names, ended))
        parsed.append(rows)
    return executor, calls, parsed


@settings(max_examples=150, deadline=None)
@given(pipelines())
def test_stepping_code_does_what_the_interpreter_says(pipeline):
    wanted = Interpreter(pipeline)
    wanted.run(DURATION)
    executor, calls, records = executed(pipeline)
    assert calls == wanted.calls
    lanes = executor.assembly.lanes
    assert [[step.name for step in lane.task.steps] for lane in lanes] == [
        [spec.name for spec in lane.nodes] for lane in wanted.lanes
    ]
    for lane, rows in zip(wanted.lanes, records, strict=True):
        assert [row[0] for row in rows] == list(range(1, len(rows) + 1))
        for firing, row in zip(lane.firings, rows, strict=True):
            reads = {source: number for source, number in row[4].items() if number}
            assert (firing.release, firing.clock, firing.run) == row[1:4]
            assert (firing.reads, firing.ended) == (reads, row[5])
    assert [run.skipped for run in executor.runs] == [lane.skipped for lane in wanted.lanes]
    for number, edge in enumerate(executor.plan.edges):
        if edge.kind != "loop":
            counted = executor.assembly.edges[number].as_dict()
            expected = wanted.counters.get(edge.target)
            assert counted == (asdict(expected) if expected else dict.fromkeys(counted, 0))


@settings(max_examples=60, deadline=None)
@given(pipelines())
def test_counters_balance(pipeline):
    """sent = received + overwritten + in flight, at every edge; outcomes add up to firings."""
    executor, _, records = executed(pipeline)
    assembly = executor.assembly
    for number, edge in enumerate(executor.plan.edges):
        stats = assembly.edges[number]
        if edge.kind == "slot" or edge.trigger:
            slots = assembly.slots.get(edge.source)
            if not slots:
                continue
            sent = slots[0].value[0] if slots[0].value else 0
            assert sent == stats.received + stats.overwritten + assembly.in_flight(number)
        assert stats.received <= stats.count
        assert stats.stale <= stats.count
        assert stats.worst_ns <= stats.total_ns <= stats.count * stats.worst_ns or not stats.count
    for lane, rows in zip(assembly.lanes, records, strict=True):
        for step in lane.task.steps:
            stats = assembly.nodes[step.name]
            ended = [row[5][step.name][0] for row in rows]
            assert [stats.called, stats.silent, stats.stale, stats.absent, stats.raised] == [
                ended.count(outcome) for outcome in range(5)
            ]
            assert len(ended) == lane.firing


@settings(max_examples=40, deadline=None)
@given(pipelines())
def test_a_run_repeats_itself(pipeline):
    (_, calls, records), (_, again, records_again) = executed(pipeline), executed(pipeline)
    assert (calls, records) == (again, records_again)
