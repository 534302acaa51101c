"""Any graph as YAML and back: the same plan, the same text, or an error that says what to do."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.pipelines import graph_parts as parts

from haihe.drivers.roles import camera, servos
from haihe.models.detector import detector
from haihe.pipelines.graph_file import dump_graph, load_graph_file
from haihe.pipelines.graph_file.writer import same
from haihe.pipelines.load import load_graph
from haihe.runtime import registry
from haihe.runtime.errors import PlanError
from haihe.runtime.graph import DeviceKind, Graph, feedback, named
from haihe.runtime.node import node
from haihe.runtime.plan.build import DeviceTiming, make_plan
from haihe.runtime.types import Image, Reading
from haihe.runtime.units import parse_unit

CYCLE = {"neck": DeviceTiming(20_000_000)}


def again(text: str) -> Graph:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.yaml"
        path.write_text(text, encoding="utf-8")
        return load_graph_file(path)


def assert_lossless(graph: Graph) -> str:
    text = dump_graph(graph)
    other = again(text)
    assert make_plan(other, CYCLE).hash == make_plan(graph, CYCLE).hash
    assert dump_graph(other) == text
    for name, use in graph.nodes.items():
        assert same(other.nodes[name].constants, use.constants)
    return text


def test_the_pipeline_of_the_demo_in_whole() -> None:
    assert (
        assert_lossless(load_graph("robot.follow"))
        == """\
graph: follow
devices: {front: camera, neck: servos}
nodes:
  part: {model: part, in: front.image, params: {threads: 1, threshold: 0.2}}
  Pursue:
    node: pursue
    in: {parts: part, neck: neck.state}
    params:
      label: washer
      alpha: 0.8
      beta: 0.4
      lag_s: 0.03
      predict: true
      gate_rad: 0.20943951023931956
      confident: 0.42
      patience_s: 0.5
      coast_s: 0.35
commands: {neck: Pursue}
"""
    )


@pytest.mark.parametrize("name", registry.names("pipeline"))
def test_every_pipeline_goes_back_and_forth(name: str) -> None:
    assert_lossless(load_graph(name))


def test_constants_that_are_not_plain_data() -> None:
    with Graph("poses") as g:
        before, feed = feedback(parts.Pose(1, 2.5))
        made = parts.Estimate(
            parts.Pose(1.0, float("-inf")),
            parts.Mode.FAST,
            [1, 2],  # type: ignore[arg-type] # as a person may write it
            parts.Box((1, 2)),
            parts.Gains(3),
            {"on": 1, "a b": 2},
            np.arange(6.0).reshape(2, 3),
            parts.linear,
            parse_unit("mg/L"),
            Path("a/b"),
            "far",
            {1: parts.Track("$x", parts.Pose(0.5), np.zeros((0, 2))), "type": np.float32(0.1)},
        )
        feed(named("est", made)(before))
    assert (
        assert_lossless(g)
        == """\
graph: poses
feedback:
  feedback_1: {from: est, initial: {type: tests.pipelines.graph_parts:Pose, x: 1, y: 2.5}}
nodes:
  est:
    node: tests.pipelines.graph_parts:Estimate
    in: {before: feedback_1}
    params:
      factor: 1
      start: {x: 1.0, y: {type: float, value: "-inf"}}
      mode: fast
      gains: {type: list, value: [1, 2]}
      box: {corner: [1, 2], size: [10, 10]}
      pid: {type: tests.pipelines.graph_parts:Gains, p: 3, i: 0.0}
      names: {"on": 1, "a b": 2}
      matrix: [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
      curve: {type: import, value: tests.pipelines.graph_parts:linear}
      scale: {type: unit, value: mg/L}
      file: a/b
      how: far
      more:
        type: dict
        value:
          -
            - 1
            -
              type: tests.pipelines.graph_parts:Track
              value:
                type: "$$x"
                where: {x: 0.5, y: 0.0}
                path: {type: array, dtype: float64, value: [], shape: [0, 2]}
          - [type, {type: numpy:float32, value: 0.10000000149011612}]
"""
    )


# --- what no file can say ---------------------------------------------------------------------


def refusal(graph: Graph) -> str:
    with pytest.raises(PlanError) as caught:
        dump_graph(graph)
    return str(caught.value)


def test_a_node_inside_a_function_is_named() -> None:
    @node
    def inner(image: Image) -> Image:
        return image

    with Graph("g") as g:
        inner(camera("front").image)
    assert refusal(g) == (
        f"{g.nodes['inner'].line}: node inner: tests.pipelines.graph_file.test_dump:"
        "test_a_node_inside_a_function_is_named.<locals>.inner is defined inside a function, so a "
        "file cannot name it. Define it at the top of a module."
    )


def estimate(**constants: Any) -> tuple[Graph, str]:
    with Graph("g") as g:
        before, feed = feedback(parts.Pose(1.0))
        feed(parts.Estimate(parts.Pose(1.0), **constants)(before))
    return g, f"{g.nodes['Estimate'].line}: node Estimate: "


def test_constants_without_a_form_are_named() -> None:
    g, where = estimate(more=object())
    assert refusal(g) == (
        f"{where}constant more: a object has no form in YAML. Use plain data, a message, a "
        "dataclass, or something that can be imported."
    )
    g, where = estimate(curve=lambda x: x)
    assert refusal(g) == (
        f"{where}constant curve: tests.pipelines.graph_file.test_dump:"
        "test_constants_without_a_form_are_named.<locals>.<lambda> cannot be imported by that "
        "name. Define it at the top of a module."
    )
    g, where = estimate(matrix=np.zeros(5000))
    assert refusal(g) == (
        f"{where}constant matrix: an array of 5000 numbers, a file holds at most 4096. Let the "
        "node load it from a file."
    )
    g, where = estimate(more=parts.Track("a", parts.Pose(0.0), np.array(["a"])))
    assert refusal(g) == (
        f"{where}constant more: its path: an array of <U1, a file holds numbers. Use an array of "
        "them."
    )


def test_a_state_that_was_set_by_hand_is_named() -> None:
    g, where = estimate(_seen=3)
    assert refusal(g) == (
        f"{where}its _seen is not what its constants make it. Set it by a public field, or in "
        "__post_init__."
    )


def test_a_kind_of_device_of_ones_own_is_named() -> None:
    with Graph("g") as g:
        g.use_device("arm", DeviceKind("arm", {"state": Reading}))
    assert refusal(g) == (
        f"{g.devices['arm'].line}: device arm: its kind 'arm' is not among those that a file can "
        "name (camera, servos). Use one of them."
    )


# --- any graph --------------------------------------------------------------------------------

names = st.from_regex(r"[a-z][a-z0-9_-]{0,6}", fullmatch=True)
texts = st.text(max_size=8)
numbers = st.floats(allow_nan=False) | st.integers(-(2**63), 2**63 - 1)
poses = st.builds(parts.Pose, numbers.filter(lambda x: x >= 0), numbers)
leaves = st.none() | st.booleans() | numbers | texts | poses | st.sampled_from(parts.Mode)
plain = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(texts | st.integers(0, 9), inner, max_size=3)
    ),
    max_leaves=6,
)
arrays = st.lists(st.floats(width=32), max_size=4).map(lambda row: np.array(row, np.float32))
estimates = st.builds(
    parts.Estimate,
    poses,
    st.sampled_from(parts.Mode),
    st.lists(numbers, max_size=2).map(tuple) | st.lists(numbers, max_size=2),
    st.builds(parts.Box, st.tuples(st.integers(-999, 999), st.integers(-999, 999))),
    st.builds(parts.Gains, numbers),
    st.dictionaries(texts, st.integers(), max_size=2),
    arrays,
    st.sampled_from([parts.linear, abs]),
    st.sampled_from([None, parse_unit("m/s²"), parse_unit("degC")]),
    st.none() | st.sampled_from([Path("a b"), Path("$c")]),
    st.sampled_from(["near", "far"]),
    plain,
)


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Cameras seen by one to three chains of nodes, loops, a head, threads, processes."""
    with Graph(draw(names)) as g:
        neck = servos("neck") if draw(st.booleans()) else None
        threads: list[Any] = []
        seen: list[Any] = []
        for index in range(draw(st.integers(1, 3))):
            image = camera(f"camera-{index}").image
            which = draw(st.sampled_from(["look", "split", "detector"]))
            if which == "look":
                seen.append(parts.look(image, draw(numbers)))
                threads.append(seen[-1])
            elif which == "detector":
                seen.append(detector("part", threshold=draw(st.floats(0, 1)))(image))
            else:
                both = named(f"two_{index}/{draw(names)}", parts.split)(image)
                seen.append(both.parts)
                if draw(st.booleans()):
                    parts.alarm(both.level)
            if draw(st.booleans()):
                threads.append(parts.measure(seen[-1], image))
        for index in range(draw(st.integers(0, 2))):
            before, feed = feedback(draw(poses), draw(st.sampled_from(["", f"was_{index}"])))
            feed(draw(estimates)(before, factor=draw(st.integers(-999, 999))))
        if neck is not None:
            neck.command(
                parts.aim(
                    seen[draw(st.integers(0, len(seen) - 1))],
                    neck.state,
                    draw(numbers),
                    draw(texts),
                )
            )
        if threads:
            g.thread("shared", *threads, policy=draw(st.sampled_from(["priority", "fifo"])))
        for index, node_name in enumerate(draw(st.lists(st.sampled_from([*g.nodes]), max_size=1))):
            g.process(f"process-{index}", node_name)
    return g


@settings(max_examples=100, deadline=None, derandomize=True)
@given(graphs())
def test_any_graph_goes_back_and_forth(graph: Graph) -> None:
    other = again(assert_lossless(graph))
    assert list(other.nodes) == list(graph.nodes)
    for name, use in graph.nodes.items():
        assert other.nodes[name].inputs == use.inputs
    assert [(p.name, p.nodes) for p in other.processes.values()] == [
        (p.name, p.nodes) for p in graph.processes.values()
    ]
