"""Counters of queues: sent = received + overwritten + refused + in flight, on every edge."""

from typing import Annotated, Any

import pytest
from tests.runtime.exec.fakes import MS, GridCamera

from haihe.drivers.roles import camera
from haihe.runtime.contracts import fifo, fresh, sometimes
from haihe.runtime.exec.virtual import VirtualExecutor
from haihe.runtime.graph import Graph
from haihe.runtime.node import node
from haihe.runtime.plan.build import make_plan
from haihe.runtime.types import Image, Reading


@node(budget="9ms")
def every_third(image: Annotated[Image, fifo(2)]) -> Annotated[Reading, sometimes]:
    value = int(image.data[0, 0, 0])
    return Reading(float(value)) if value % 3 == 0 else None  # type: ignore[return-value]


@node(on="reading")
def crop(reading: Reading, image: Annotated[Image, fresh("1s")]) -> Reading:
    return reading


@node(every="5ms")
def beat() -> Reading:
    return Reading(0.0)


@node(on="image", budget="9ms")
def both(image: Annotated[Image, fifo(2)], beat: Annotated[Reading, fresh("1s")]) -> Reading:
    return beat


def balance(executor: Any, sent: dict[str, int]) -> dict[str, int]:
    """By target: what of its edge is not accounted for."""
    found = {}
    for number, edge in enumerate(executor.plan.edges):
        stats = executor.assembly.edges[number]
        known = stats.received + stats.overwritten + stats.refused
        if edge.source in sent:
            known += executor.assembly.in_flight(number)
            found[edge.target] = sent[edge.source] - known
    return found


@pytest.mark.parametrize("period_ms", [2, 20])
def test_a_queue_is_accounted_for_at_every_node_of_its_lane(period_ms: int) -> None:
    with Graph("queue") as g:
        image = camera("front").image
        crop(every_third(image), image)
        beat()
    executor = VirtualExecutor(
        g, make_plan(g, {}), {}, {"front": GridCamera(period_ms * MS, 0, 20)}
    )
    executor.run(400 * MS)
    assert balance(executor, {"front.image": 20}) == {"every_third.image": 0, "crop.image": 0}


def test_what_a_queue_refuses_is_no_loss_of_other_edges() -> None:
    with Graph("queue") as g:
        both(camera("front").image, beat())
    executor = VirtualExecutor(g, make_plan(g, {}), {}, {"front": GridCamera(2 * MS, 0, 20)})
    executor.run(200 * MS)
    beats = executor.assembly.nodes["beat"].called
    assert balance(executor, {"front.image": 20, "beat": beats}) == {
        "both.image": 0,
        "both.beat": 0,
    }
    refused = {
        e.target: s.refused
        for e, s in zip(executor.plan.edges, executor.assembly.edges, strict=True)
    }
    assert refused["both.beat"] == 0 < refused["both.image"]
