"""Devices by role: the words of a graph, and what is said when they are used wrongly."""

import inspect

import pytest
from tests.boards.reader import warmest

from haihe.drivers.roles import KINDS, camera, servos
from haihe.pipelines.nodes.pursue import Pursue
from haihe.pipelines.worlds.ideal import ideal_detector
from haihe.runtime import registry
from haihe.runtime.errors import WiringError
from haihe.runtime.graph import Graph
from haihe.runtime.types import Image, JointCommand, JointState


def line(after: int = 0) -> str:
    """This place, so many lines further on, as errors say it."""
    frame = inspect.stack()[1]
    return f"{frame.filename}:{frame.lineno + after}"


def test_the_kinds_say_what_they_offer() -> None:
    assert KINDS["camera"].states == {"image": Image}
    assert KINDS["camera"].stream
    assert KINDS["servos"].states == {"state": JointState}
    assert KINDS["servos"].commands == {"command": JointCommand}
    assert not KINDS["servos"].stream


@pytest.mark.parametrize("name", registry.names("driver"))
def test_every_driver_fills_a_role_that_graphs_know(name: str) -> None:
    spec = registry.load("driver", name).SPEC
    assert spec.kind in KINDS
    assert spec.summary
    assert (spec.link == "stream") is KINDS[spec.kind].stream
    assert spec.link == "stream" or spec.baud > 0


def test_a_role_named_twice_is_one_device_and_keeps_its_first_line() -> None:
    with Graph("g") as graph:
        first = line(1)
        neck = servos("neck")
        parts = ideal_detector(camera("front").image)
        servos("neck").command(Pursue()(parts, neck.state))
    assert list(graph.devices) == ["neck", "front"]
    assert graph.devices["neck"].line == first
    assert str(graph.commands["neck", "command"]) == "Pursue"


def test_outside_a_graph_it_is_said_what_to_do() -> None:
    place = line(2)
    with pytest.raises(WiringError) as caught:
        servos("neck")
    assert str(caught.value) == (
        f"{place}: servos('neck') outside a graph. Write it inside `with Graph(...) as g:`."
    )


def test_one_role_has_one_kind() -> None:
    with Graph("g"):
        place = line(1)
        warmest(servos("neck").state)
        with pytest.raises(WiringError) as caught:
            camera("neck")
    said = str(caught.value)
    assert said.endswith(
        f"device 'neck' is a servos already ({place}), not a camera. Choose another role."
    )


def test_a_command_wants_a_command() -> None:
    with Graph("g"):
        neck = servos("neck")
        readings = warmest(neck.state)
        place = line(2)
        with pytest.raises(WiringError) as caught:
            neck.command(readings)  # type: ignore[arg-type]
    assert str(caught.value) == (
        f"{place}: edge warmest -> neck.command: warmest gives Reading, command wants "
        "JointCommand. Put a node between that converts."
    )


def test_two_writers_are_refused_with_both_lines() -> None:
    with Graph("g"):
        neck = servos("neck")
        parts = ideal_detector(camera("front").image)
        first = line(1)
        neck.command(Pursue()(parts, neck.state))
        second = Pursue()(parts, neck.state)
        place = line(2)
        with pytest.raises(WiringError) as caught:
            neck.command(second)
    assert str(caught.value) == (
        f"{place}: neck.command has a writer already (Pursue, {first}). One actuator obeys one "
        "node."
    )
