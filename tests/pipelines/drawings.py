"""Drawings to look at: a graph with everything in it, random ones, narrow ones."""

import random
from typing import Annotated, NamedTuple

from haihe.boards.unit import find_unit, load_unit
from haihe.drivers.roles import camera, servos
from haihe.pipelines.draw.drawing import (
    Box,
    Drawing,
    How,
    Input,
    LaneFrame,
    Number,
    Numbers,
    ThreadFrame,
    drawing_of,
)
from haihe.pipelines.launch import prepare
from haihe.runtime.contracts import aligned, fifo, fresh
from haihe.runtime.graph import Graph, feedback, named
from haihe.runtime.node import node
from haihe.runtime.types import Detections, Image, JointCommand, JointState, Reading


class Route(NamedTuple):
    """Two outputs."""

    goal: Reading
    score: Reading


@node(budget="6ms")
def detect(image: Image) -> Detections:
    raise NotImplementedError


@node(on="image")
def depth(image: Image, neck: Annotated[JointState, fresh("50ms")]) -> Reading:
    raise NotImplementedError


@node
def fuse(
    parts: Annotated[Detections, fifo(4)],
    depth: Annotated[Reading, aligned("20ms")],
    last: Reading,
) -> Reading:
    raise NotImplementedError


@node(every="100ms", budget="9ms")
def route(
    obstacles: Annotated[Reading | None, fresh("300ms", on_stale="call")],
    neck: Annotated[JointState, fresh("200ms")],
) -> Route:
    raise NotImplementedError


@node(every="20ms", deadline="5ms", budget="1ms")
def aim(
    goal: Annotated[Reading, fresh("250ms")],
    parts: Annotated[Detections, fresh("120ms")],
    neck: Annotated[JointState, fresh("25ms")],
) -> JointCommand:
    raise NotImplementedError


def everything() -> Graph:
    """A graph with every kind of edge, two lanes on a thread, and lanes that sample each other."""
    with Graph("everything") as graph:
        front, neck = camera("front"), servos("neck")
        parts = named("find", detect)(front.image)
        last, feed = feedback(Reading(0.0))
        world = fuse(parts, depth(front.image, neck.state), last)
        feed(world)
        goal, _ = route(world, neck.state)
        neck.command(aim(goal, parts, neck.state))
        graph.thread("slow", goal, world)
    return graph


def drawn(numbers: Numbers | None = None) -> Drawing:
    prepared = prepare(everything(), load_unit(find_unit("pan-tilt", None)))
    if numbers is None:
        return drawing_of(prepared.graph, prepared.plan, prepared.binding)
    return drawing_of(prepared.graph, prepared.plan, prepared.binding, numbers)


NUMBERS = Numbers(
    {
        "aim.parts": Number("86.3 ms", "holds (measured)"),
        "aim.goal": Number("312 ms", "fails"),
        "fuse.parts": Number("2 of 4 places", "holds (estimated)"),
    },
    {"aim": Number("1.9 ms", "expected")},
    {"front": Number("28.7 ms")},
    "rk3588: fails",
)


def random_drawing(seed: int) -> Drawing:
    """Streams, threads of one to three lanes, and edges from anywhere to anywhere."""
    rng = random.Random(seed)
    streams = tuple(
        Box(f"s{i}", "stream", f"camera {i}", ("driver", "x" * rng.randint(1, 60)))
        for i in range(rng.randint(0, 3))
    )
    names = [f"n{i}" + "_long" * rng.randint(0, 6) for i in range(rng.randint(1, 14))]
    everywhere = [*(s.key for s in streams), *names]
    hows: list[How] = ["triggers", "local", "sampled", "fifo", "aligned", "loop"]
    boxes = [
        Box(
            name,
            rng.choice(["read", "node", "write"]),
            rng.choice([name, "节点 " + name]),
            tuple("fact " * rng.randint(1, 4) for _ in range(rng.randint(0, 3))),
            tuple(
                Input(
                    f"input{k}",
                    source,
                    source,
                    "loop" if source == name else rng.choice(hows[:-1]),
                    rng.choice(["", "fresh 250 ms", "fresh 40 ms, or None"]),
                    rng.choice([None, Number("86.3 ms", "holds (measured)")]),
                )
                for k, source in enumerate(rng.choices(everywhere, k=rng.randint(0, 4)))
            ),
            number=rng.choice([None, Number("1 ms", "fails")]),
        )
        for name in names
    ]
    threads, left = [], boxes
    while left:
        lanes = []
        for _ in range(rng.choice([1, 1, 2, 3])):
            size = rng.randint(1, 5)
            taken, left = left[:size], left[size:]
            if taken:
                name = f"lane{len(left)}"
                inside = tuple(msgspec_replace(box, name) for box in taken)
                number = rng.choice([None, Number("28.7 ms", "expected")])
                lanes.append(LaneFrame(name, "every 20 ms", inside, number))
        threads.append(ThreadFrame(f"thread{len(left)}", ("core 4", "rank 80"), tuple(lanes)))
    return Drawing(f"random {seed}", "unit none", streams, tuple(threads))


def msgspec_replace(box: Box, lane: str) -> Box:
    return Box(box.key, box.kind, box.title, box.facts, box.inputs, lane, box.number)


def narrow_drawing(title: str) -> Drawing:
    """Two small boxes with an edge of every kind: its head and its legend are wider than they."""
    hows: list[How] = ["triggers", "local", "sampled", "fifo", "aligned", "loop"]
    edges = tuple(Input(how[0], "b" if how == "loop" else "a", "b" if how == "loop" else "a", how)
                  for how in hows)  # fmt: skip
    boxes = (Box("a", "node", "a", (), lane="l"), Box("b", "node", "b", (), edges, "l"))
    return Drawing(title, title, (), (ThreadFrame("l", (), (LaneFrame("l", "on a", boxes),)),))
