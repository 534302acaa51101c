"""Sub-graphs: names with prefixes, and a run that replays."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from tests.runtime.exec.fakes import Watch, steady
from tests.typing.user_file import in_graph, load

from haihe import Graph, camera, feedback, named, node, servos, subgraph
from haihe.bench.report.html import write_report
from haihe.bench.report.summary import summary
from haihe.pipelines.launch import simulate
from haihe.pipelines.nodes.pursue import Pursue
from haihe.pipelines.worlds.ideal import ideal_detector
from haihe.runtime.node import contract_of
from haihe.runtime.plan.build import DeviceTiming, make_plan
from haihe.runtime.record.recording import Recording
from haihe.runtime.types import Detections, Image, Reading
from haihe.testing import replay

find_truth = contract_of(ideal_detector).function


@node(recorded=True)
def part(image: Image) -> Detections:
    """Stands for a model: its outputs are kept."""
    found: Detections = find_truth(image)
    return found


@node
def trust(parts: Detections, gain: float = 1.0) -> Detections:
    """Those whose score times the gain is at least 0.5."""
    good = parts.scores * np.float32(gain) >= 0.5
    return Detections(
        parts.boxes[good], parts.scores[good], parts.classes[good], parts.labels, parts.camera
    )


@node
def light(image: Image) -> Reading:
    return Reading(float(image.data.mean()))


@node
def sum_up(value: Reading, before: Reading) -> Reading:
    return Reading(value.value + before.value)


class Seen(NamedTuple):
    parts: Detections
    light: Reading


@subgraph
def eye(image: Image, gain: float = 0.8) -> Detections:
    return trust(part(image), gain)


@subgraph
def seeing(image: Image, gain: float = 0.8) -> Seen:
    return Seen(named("eye", eye)(image, gain), light(image))


@subgraph
def summing(value: Reading) -> Reading:
    before, feed = feedback(Reading(0.0))
    total = sum_up(value, before)
    feed(total)
    return total


@subgraph
def resting(goal: float = 0.1) -> None:
    neck = servos("neck")
    neck.command(steady(neck.state, goal))


# --- names ----------------------------------------------------------------------------------------


def test_nodes_inside_get_the_name_as_prefix() -> None:
    with Graph("g") as g:
        cam = camera("front")
        parts = named("left", eye)(cam.image)
        trust(parts)
    assert list(g.nodes) == ["left/part", "left/trust", "trust"]
    assert str(g.nodes["trust"].inputs["parts"]) == "left/trust"
    assert g.nodes["left/trust"].constants == {"gain": 0.8}


def test_without_a_name_they_are_numbered_like_nodes() -> None:
    with Graph("g") as g:
        cam = camera("front")
        for _ in range(3):
            eye(cam.image)
        named("eye_5", eye)(cam.image)
        eye(cam.image)
    names = ["eye", "eye_2", "eye_3", "eye_5", "eye_4"]
    assert list(g.nodes) == [f"{name}/{inner}" for name in names for inner in ("part", "trust")]


def test_sub_graphs_inside_nest_the_prefixes() -> None:
    with Graph("g") as g:
        cam = camera("front")
        named("left", seeing)(cam.image)
        seeing(cam.image)
    assert list(g.nodes) == [
        *("left/eye/part", "left/eye/trust", "left/light"),
        *("seeing/eye/part", "seeing/eye/trust", "seeing/light"),
    ]


def test_nodes_inside_are_numbered_in_their_prefix() -> None:
    @subgraph
    def twice(image: Image) -> Detections:
        return trust(trust(part(image)))

    with Graph("g") as g:
        cam = camera("front")
        trust(twice(cam.image))
        named("b", twice)(cam.image)
    assert list(g.nodes) == [
        *("twice/part", "twice/trust", "twice/trust_2", "trust"),
        *("b/part", "b/trust", "b/trust_2"),
    ]


def test_feedbacks_get_the_prefix_and_roles_do_not() -> None:
    with Graph("g") as g:
        cam = camera("front")
        before, feed = feedback(Reading(0.0))
        feed(sum_up(summing(light(cam.image)), before))
        summing(light(cam.image))
        resting()
    assert list(g.feedbacks) == ["feedback_1", "summing/feedback_1", "summing_2/feedback_1"]
    assert list(g.devices) == ["front", "neck"]
    assert str(g.commands["neck", "command"]) == "resting/steady"


def test_a_sub_graph_may_be_called_like_a_device() -> None:
    with Graph("g") as g:
        named("front", eye)(camera("front").image)
    assert list(g.nodes) == ["front/part", "front/trust"]


def test_it_stays_clear_of_nodes_that_have_its_prefix_already() -> None:
    with Graph("g") as g:  # as a graph that was read from a file has them
        cam = camera("front")
        named("eye/part", part)(cam.image)
        eye(cam.image)
    assert list(g.nodes) == ["eye/part", "eye_2/part", "eye_2/trust"]


def test_after_an_error_inside_the_prefix_is_gone() -> None:
    @subgraph
    def broken(image: Image) -> Reading:
        raise ZeroDivisionError

    with Graph("g") as g:
        cam = camera("front")
        with pytest.raises(ZeroDivisionError):
            broken(cam.image)
        light(cam.image)
    assert list(g.nodes) == ["light"]


def test_an_input_may_pass_through_or_go_deeper_or_stay_away() -> None:
    @subgraph
    def passing(image: Image, other: Image | None = None) -> Image:
        if other is not None:
            light(other)
        return image

    @subgraph
    def outer(image: Image, other: Image) -> Reading:
        return light(passing(image, other))

    with Graph("g") as g:
        cam = camera("front")
        outer(cam.image, cam.image)
        light(passing(cam.image))
    assert list(g.nodes) == ["outer/passing/light", "outer/light", "light"]
    assert {str(use.inputs["image"]) for use in g.nodes.values()} == {"front.image"}


def test_a_generic_sub_graph_takes_and_gives_any_message(tmp_path: Path) -> None:
    source = (
        "from haihe import subgraph\n\n"
        "@subgraph\ndef same(value: M) -> M:\n    return hold(hold(value))\n\n\n"
    )
    module = load(tmp_path, source + in_graph("light(same(cam.image))"))
    assert list(module.g.nodes) == ["same/hold", "same/hold_2", "light"]


# --- a run ----------------------------------------------------------------------------------------


def two_eyes(*, shared: bool = False) -> Graph:
    """Two sub-graphs in the vision lane, or in a lane each on one thread; the left one moves the
    head."""
    with Graph("eyes") as graph:
        front, neck = camera("front"), servos("neck")
        left = named("left", eye)(front.image)
        right = named("right", seeing)(front.image, 0.5)
        neck.command(named("pursue", Pursue("washer"))(left, neck.state))
        named("watch", Watch())(right.light)
        if shared:
            graph.thread("eyes", left, "right/eye/part", policy="fifo")
    return graph


def test_names_with_a_slash_are_keys_of_the_plan() -> None:
    plan = make_plan(two_eyes(), dict.fromkeys(("front", "neck"), DeviceTiming(20_000_000)))
    front = next(lane.task for lane in plan.lanes if lane.name == "front")
    assert [step.name for step in front.steps] == [
        *("left/part", "left/trust", "right/eye/part", "right/eye/trust", "right/light"),
    ]
    assert front.publishes == ("left/trust", "right/light")
    edges = {(edge.source, edge.target) for edge in plan.edges}
    assert ("right/eye/part", "right/eye/trust.parts") in edges
    assert " -> left/trust.parts" in plan.describe()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Any:
    def dim(executor: Any, world: Any) -> None:
        # no part is good enough from here on: the head comes to rest
        executor.after(1_000_000_000, lambda: executor.set("left/trust", "gain", 0.3))

    path = tmp_path_factory.mktemp("eyes") / "run.mcap"
    return simulate(
        two_eyes(), "2s", unit="pan-tilt", seed=5, record=path, world={"ideal": True},
        budgets={"left/part": "8ms"}, prepare_run=dim,
    )  # fmt: skip


def test_a_run_records_under_the_names_and_replays(run: Any) -> None:
    assert run.outcome.failures == []
    recording = Recording(run.recording)
    outputs = {source: len(stored) for source, stored in recording.outputs.items()}
    assert set(outputs) == {"left/part", "right/eye/part"}
    assert 55 <= outputs["left/part"] == outputs["right/eye/part"] <= 61
    events = [event for record in recording.lanes["front"] for event in record.events]
    assert [tuple(event) for event in events] == [("param", "left/trust", "gain", 0.3)]
    report = replay(run.recording, graph=two_eyes())
    assert report.ok, report
    assert report.sent["neck"] == b"".join(data for _, data in run.world.bus.received)
    assert replay(run.recording, graph=two_eyes(), start_s=1.2).ok


def test_without_the_change_of_the_parameter_it_would_differ(run: Any) -> None:
    calm = simulate(
        two_eyes(), "2s", unit="pan-tilt", seed=5, world={"ideal": True},
        budgets={"left/part": "8ms"},
    )  # fmt: skip
    assert calm.world.bus.received != run.world.bus.received


def test_a_lane_that_begins_inside_is_called_so_and_replays(tmp_path: Path) -> None:
    path = tmp_path / "shared.mcap"
    made = simulate(
        two_eyes(shared=True), "1s", unit="pan-tilt", seed=5, record=path, world={"ideal": True},
        budgets={"left/part": "8ms"},
    )  # fmt: skip
    assert made.outcome.failures == []
    recording = Recording(path)
    lanes = ["every-20ms", "front", "left/trust", "right/eye/part"]
    assert sorted(recording.lanes) == sorted(recording.keyframes) == lanes
    assert all(recording.lanes.values())
    report = replay(path, graph=two_eyes(shared=True))
    assert report.ok, report
    assert report.sent["neck"] == b"".join(data for _, data in made.world.bus.received)


def test_reports_show_the_names(run: Any, tmp_path: Path) -> None:
    recording = Recording(run.recording)
    write_report(recording, tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text("utf-8")
    assert "front.image → left/part → left/trust → pursue → neck" in text
    assert "left/part" in summary(recording)
