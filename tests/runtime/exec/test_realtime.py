"""The realtime executor in this process, with small fakes: starts, ends, failures, order."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from tests.runtime.exec.fakes import (
    LIMIT_S,
    FakePort,
    Frames,
    Joints,
    Kept,
    Watch,
    guard,
    holding,
    until,
    watching,
)

from haihe.drivers.roles import camera
from haihe.runtime.errors import DeviceError, LinkError, ModelError, NodeError, PlanError
from haihe.runtime.exec.realtime import LiveBus, RealtimeExecutor
from haihe.runtime.graph import Graph, named
from haihe.runtime.guard import GuardState, SafeAction
from haihe.runtime.guard.guard import Guard
from haihe.runtime.io import Port
from haihe.runtime.node import node
from haihe.runtime.plan.build import make_plan
from haihe.runtime.types import Image, Reading


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert [t.name for t in threading.enumerate() if t not in before] == []


@node(recorded=True)
@dataclass
class Model:
    """A node that holds a resource."""

    problem: str = ""
    log: list[str] = field(default_factory=list)

    def open(self) -> None:
        if self.problem:
            raise ModelError(self.problem)
        LOG.append("model opened")

    def __call__(self, image: Image) -> Reading:
        return Reading(1.0)

    def close(self) -> None:
        LOG.append("model closed")


LOG: list[str] = []


def only_guard(made: RealtimeExecutor) -> Guard:
    (found,) = made.assembly.guards()
    return found


@pytest.fixture
def log() -> list[str]:
    LOG.clear()
    return LOG


def seeing(model: Model) -> Graph:
    with Graph("seeing") as graph:
        named("watch", Watch())(named("model", model)(camera("front").image))
    return graph


def executor(
    graph: Graph, log: list[str], *, device: Joints | None = None, stream: Frames | None = None,
    sink: Kept | None = None, safe: SafeAction = SafeAction.FREE,
) -> RealtimeExecutor:  # fmt: skip
    def open_port() -> Port:
        return FakePort(log)

    buses = {"neck": LiveBus(device or Joints(), guard(safe), open_port)}
    return RealtimeExecutor(
        graph,
        make_plan(graph, {}),
        buses if "neck" in graph.devices else {},
        {"front": stream or Frames(log)} if "front" in graph.devices else {},
        sink,
    )


def test_a_stream_that_ends_ends_the_run_and_its_last_frame_is_used(log: list[str]) -> None:
    sink = Kept()
    made = executor(watching(), log, sink=sink, stream=Frames(log, 5))
    made.start(arm=False)
    assert made.wait(LIMIT_S)
    outcome = made.stop("end of the duration")
    assert outcome.reason == "front: end of stream"
    assert (outcome.failures, outcome.hung) == ([], [])
    assert made.counts["front.image"].delivered == 5
    assert made.counts["front.image"].ended
    assert [n for _, n, _, _ in sink.streams] == [1, 2, 3, 4, 5]
    assert sink.firings(made.plan, "front")[-1][4] == 5
    assert log == ["stream opened", "stream closed"]
    assert made.state == "safe"


@pytest.mark.parametrize(
    ("problem", "said"),
    [
        (DeviceError("camera.test: gone"), "camera.test: gone"),
        (ValueError("a defect of the driver"), "ValueError: a defect of the driver"),
    ],
)
def test_a_stream_that_fails_is_told_and_the_lanes_go_on(
    log: list[str], caplog: pytest.LogCaptureFixture, problem: Exception, said: str
) -> None:
    class Fails(Frames):
        def read(self, timeout_s: float) -> tuple[Image, int] | None:
            raise problem

    made = executor(watching(), log, stream=Fails(log))
    made.start(arm=False)
    until(lambda: made.counts["front.image"].problem != "")
    until(lambda: made.assembly.nodes["watch"].absent > 2)
    assert not made.wait(0.0)
    outcome = made.stop("end")
    assert (outcome.reason, outcome.failures) == ("end", [])
    assert made.counts["front.image"].problem == said
    assert "stream front failed" in caplog.text


def test_a_model_that_does_not_open_raises_its_own_error(log: list[str]) -> None:
    made = executor(seeing(Model("part.onnx: broken. Fetch it again.")), log)
    with pytest.raises(ModelError) as caught:
        made.start(arm=True)
    assert str(caught.value).endswith(": node model: part.onnx: broken. Fetch it again.")
    assert str(caught.value).startswith(__file__)
    assert made.outcome.reason == "start-up failed"
    assert made.state == "safe"
    assert log.count("stream opened") == 0


def test_a_stream_that_does_not_open_raises_its_own_error_and_closes_the_rest(
    log: list[str],
) -> None:
    problem = DeviceError("camera.test: not there. Plug it in.")
    made = executor(seeing(Model()), log, stream=Frames(log, problem=problem))
    with pytest.raises(DeviceError) as caught:
        made.start(arm=True)
    assert caught.value is problem
    assert log == ["model opened", "model closed", "stream closed"]


def test_a_port_that_does_not_open_raises_its_own_error(log: list[str]) -> None:
    def no_port() -> Port:
        raise LinkError("/dev/ttyTEST: cannot be opened.")

    graph = holding()
    buses = {"neck": LiveBus(Joints(), guard(), no_port)}
    made = RealtimeExecutor(graph, make_plan(graph, {}), buses, {})
    with pytest.raises(LinkError) as caught:
        made.start(arm=True)
    assert str(caught.value) == "/dev/ttyTEST: cannot be opened."
    assert log == []


def test_a_device_that_cannot_be_set_up_raises_and_nothing_has_moved(log: list[str]) -> None:
    made = executor(holding(), log, device=Joints("servo.test: id 2 is missing. Check the cable."))
    with pytest.raises(DeviceError) as caught:
        made.start(arm=True)
    assert str(caught.value) == "servo.test: id 2 is missing. Check the cable."
    assert log == ["port opened", "sent S", "port closed"]


def test_a_stop_makes_safe_before_it_closes(log: list[str]) -> None:
    made = executor(holding(), log)
    made.start(arm=True)
    until(lambda: only_guard(made).state is GuardState.ARMED)
    outcome = made.stop("end of the test")
    assert outcome.reason == "end of the test"
    assert log[:3] == ["port opened", "sent S", "sent R"]
    assert log[-2:] == ["sent W[2, 2]", "port closed"]  # FREE for both joints
    assert "sent W[1, 1]" in log
    found = only_guard(made)
    assert (found.state, found.reason) == (GuardState.SAFE, "end of the test")


def test_unarmed_nothing_is_ever_sent_to_move(log: list[str]) -> None:
    sink = Kept()
    made = executor(holding(), log, sink=sink)
    made.start(arm=False)
    until(lambda: made.assembly.nodes["steady"].called > 3)
    made.stop("end")
    assert not [said for said in log if said.startswith("sent W")]


def test_models_close_after_the_last_firing_and_streams_after_the_lanes(log: list[str]) -> None:
    made = executor(seeing(Model()), log)
    made.start(arm=False)
    assert made.wait(LIMIT_S)
    made.stop("end")
    assert log == ["model opened", "stream opened", "model closed", "stream closed"]


def test_a_node_that_raises_ends_the_run_with_its_line(log: list[str]) -> None:
    graph = watching(Watch(raise_at=2))
    made = executor(graph, log, stream=Frames(log, 10**6))
    made.start(arm=False)
    assert made.wait(LIMIT_S)
    outcome = made.stop("end")
    assert outcome.reason == "node watch raised"
    lane, name, error = outcome.failures[0]
    assert (lane, name) == ("every-20ms", "watch")
    assert isinstance(error, NodeError)
    assert str(error) == (
        f"{graph.nodes['watch'].line}: node watch: it raised ValueError: made to raise. The "
        "actuators were made safe; mend the node."
    )


def test_a_parameter_that_is_not_there_is_refused(log: list[str]) -> None:
    graph = holding()
    made = executor(graph, log)
    with pytest.raises(PlanError) as caught:
        made.set("aim", "gain", 1.0)
    assert str(caught.value) == (
        "set('aim', 'gain'): graph holding has no node 'aim'. It has: steady."
    )
    with pytest.raises(PlanError) as caught:
        made.set("steady", "gaol", 1.0)
    assert str(caught.value) == (
        f"set('steady', 'gaol'): node steady ({graph.nodes['steady'].line}) has no parameter "
        "'gaol'. It has: goal."
    )
    made.set("steady", "goal", 0.25)
    assert list(made.assembly.lanes[0].inbox) == [("param", "steady", "goal", 0.25)]


def test_stop_may_be_called_twice(log: list[str]) -> None:
    made = executor(watching(), log)
    made.start(arm=False)
    assert made.wait(LIMIT_S)
    first = made.stop("one").reason
    assert made.stop("two").reason == first == "front: end of stream"
