"""Wiring: what is recorded, and every misuse found there with the user's line and the cure."""

import inspect
import subprocess
import sys
from dataclasses import dataclass

import pytest
from tests.typing.user_file import in_graph, load, refuses

from haihe import Graph, camera, feedback, named, node, servos
from haihe.runtime.errors import WiringError
from haihe.runtime.graph import DeviceKind
from haihe.runtime.node import contract_of
from haihe.runtime.traced import inside
from haihe.types import Image, Message, Reading

PARTS = 'parts = detector("part")(cam.image)\n'

# name, code inside the graph, message
MISUSES = [
    (
        "thread of a device",
        'light(cam.image)\ng.thread("work", neck.state)  # here',
        "HERE: thread work: 'neck.state' is no node of this graph. Give it what node calls gave; "
        "nodes: light.",
    ),
    (
        "node in two threads",
        'seen = light(cam.image)\ng.thread("a", seen)\ng.thread("b", seen)  # here',
        "HERE: thread b: node light is in thread a already.",
    ),
    (
        "thread without lanes",
        'g.thread("work")  # here',
        "HERE: thread work: name the nodes that start its lanes.",
    ),
    (
        "thread with another policy",
        'g.thread("work", light(cam.image), policy="edf")  # here',
        "HERE: thread work: policy 'edf': priority or fifo, please.",
    ),
    (
        "real value for an input",
        "aim(Detections.none(), neck.state)  # here",
        "HERE: node aim: input parts wants a Detections from a port, got Detections. Connect a "
        "device's port or a node's output.",
    ),
    (
        "number for an input",
        "hold(3)  # here",
        "HERE: node hold: input value wants a Message from a port, got int. Connect a device's "
        "port or a node's output.",
    ),
    (
        "none for a required input",
        "aim(None, neck.state)  # here",
        "HERE: node aim: input parts wants a Detections from a port, got nothing. Connect a "
        "device's port or a node's output.",
    ),
    (
        "wrong message",
        "light(neck.state)  # here",
        "HERE: edge neck.state -> light.image: neck.state gives JointState, image wants Image. "
        "Put a node between that converts.",
    ),
    (
        "wrong message through a generic node",
        "light(hold(hold(neck.state)))  # here",
        "HERE: edge hold_2 -> light.image: hold_2 gives JointState, image wants Image. "
        "Put a node between that converts.",
    ),
    (
        "message for a constant",
        PARTS + "aim(parts, neck.state, gain=light(cam.image))  # here",
        "HERE: node aim: gain is a constant, got the message of light. Annotate the parameter "
        "with a Message type to make it an input.",
    ),
    (
        "message for a field",
        "Mean(count=light(cam.image))(light(cam.image))  # here",
        "HERE: node Mean: count is a constant, got the message of light. Annotate the parameter "
        "with a Message type to make it an input.",
    ),
    (
        "missing input",
        PARTS + "aim(parts)  # here",
        "HERE: node aim: missing a required argument: 'neck'. It takes: parts, neck, gain.",
    ),
    (
        "wrong keyword",
        PARTS + "aim(parts, neck.state, gian=1.0)  # here",
        "HERE: node aim: got an unexpected keyword argument 'gian'. It takes: parts, neck, gain.",
    ),
    (
        "too many inputs of a class node",
        "Mean()(light(cam.image), cam.image)  # here",
        "HERE: node Mean: too many positional arguments. It takes: value.",
    ),
    (
        "two writers",
        PARTS + "neck.command(aim(parts, neck.state))  # there\n"
        "neck.command(aim(parts, neck.state))  # here",
        "HERE: neck.command has a writer already (aim, THERE). One actuator obeys one node.",
    ),
    (
        "wrong message to a device",
        "neck.command(hold(neck.state))  # here",
        "HERE: edge hold -> neck.command: hold gives JointState, command wants JointCommand. "
        "Put a node between that converts.",
    ),
    (
        "real value to a device",
        "neck.command(JointCommand(np.zeros(2)))  # here",
        "HERE: neck.command wants a JointCommand from a node, got JointCommand. Connect a node's "
        "output.",
    ),
    (
        "feedback to a device",
        "previous, feed = feedback(JointCommand(np.zeros(2)))\nneck.command(previous)  # here",
        "HERE: neck.command: feedback_1 is the value of the last tick. Connect a node's output.",
    ),
    (
        "unfed feedback",
        "previous, feed = feedback(Reading(0.0))  # here\nhold(previous)",
        "HERE: feedback feedback_1: nothing feeds it. Call the second value that feedback() gave "
        "with the message to remember.",
    ),
    (
        "feedback fed twice",
        "previous, feed = feedback(Reading(0.0))\nfeed(light(cam.image))\n"
        "feed(light(cam.image))  # here",
        "HERE: feedback_1 is fed already (light). Make a feedback for each value.",
    ),
    (
        "feedback of another kind",
        "previous, feed = feedback(Reading(0.0))\nfeed(hold(cam.image))  # here",
        "HERE: feedback_1: it starts as Reading, got Image from hold. Feed it with what it starts "
        "as.",
    ),
    (
        "real value to a feedback",
        "previous, feed = feedback(Reading(0.0))\nfeed(Reading(1.0))  # here",
        "HERE: feedback_1: feed it with the output of a node of this graph.",
    ),
    (
        "one instance twice",
        "mean = Mean()\nmean(light(cam.image))\nmean(light(cam.image))  # here",
        "HERE: node Mean_2: this instance is node Mean already: two nodes would share one state. "
        "Make an instance for each.",
    ),
    (
        "name given twice",
        'named("left", hold)(cam.image)\nnamed("left", hold)(cam.image)  # here',
        "HERE: the name 'left' is taken. Names are the keys of files and recordings: choose "
        "another one.",
    ),
    (
        "name of a device",
        'named("front", hold)(cam.image)  # here',
        "HERE: the name 'front' is taken. Names are the keys of files and recordings: choose "
        "another one.",
    ),
    (
        "name of a feedback",
        'previous, feed = feedback(Reading(0.0))\nnamed("feedback_1", hold)(cam.image)  # here',
        "HERE: the name 'feedback_1' is taken. Names are the keys of files and recordings: choose "
        "another one.",
    ),
    (
        "name with a dot",
        'named("left.eye", hold)(cam.image)  # here',
        "HERE: 'left.eye' is not a name: it is the key of files and recordings. Use letters, "
        "digits, '_' and '-'.",
    ),
    (
        "role with a dot",
        'camera("front.left")  # here',
        "HERE: 'front.left' is not a name: it is the key of files and recordings. Use letters, "
        "digits, '_' and '-'.",
    ),
    (
        "role with two kinds",
        'servos("front")  # here',
        "HERE: device 'front' is a camera already (THERE), not a servos. Choose another role.",
    ),
    (
        "role of a node",
        'hold(cam.image)\ncamera("hold")  # here',
        "HERE: 'hold' is a node already. Choose another role.",
    ),
    (
        "name for a class",
        'named("mean", Mean)  # here',
        "HERE: named('mean', ...) wants a node, got the class Mean. Give it a function with @node "
        "above it, or an instance of a node class.",
    ),
    (
        "name for a number",
        'named("three", 3)  # here',
        "HERE: named('three', ...) wants a node, got 3. Give it a function with @node above it, "
        "or an instance of a node class.",
    ),
    (
        "unit of another dimension",
        "celsius = warmth(light(cam.image))\npressed(celsius)  # here",
        "HERE: edge warmth -> pressed.value: warmth is in K, value wants Pa: another dimension. "
        "Ports speak SI: convert in the node that makes it.",
    ),
    (
        "unit of another scale",
        "pressed(crushed(light(cam.image)))  # here",
        "HERE: edge crushed -> pressed.value: crushed is in kPa, value wants Pa: another scale. "
        "Ports speak SI: convert in the node that makes it.",
    ),
    (
        "state that cannot be pickled",
        "Opened()(cam.image)  # here",
        "HERE: node Opened: its state _lock cannot be pickled (cannot pickle '_thread.lock' "
        "object), so it cannot be replayed from a keyframe. Keep plain data in underscored fields.",
    ),
    (
        "open() of a node that is not recorded",
        "Handle()(cam.image)  # here",
        "HERE: node Handle: it has open(), so it holds something that a replay may not have. Say "
        "@node(recorded=True): replay then takes its outputs from the recording.",
    ),
]

DEFINITIONS = """
import threading


@node
def warmth(value: Reading) -> Annotated[Reading, unit("K")]:
    return value


@node
def crushed(value: Reading) -> Annotated[Reading, unit("kPa")]:
    return value


@node
def pressed(value: Annotated[Reading, unit("Pa")]) -> Reading:
    return value


@node
@dataclass
class Opened:
    _lock: Any = field(default_factory=threading.Lock)

    def __call__(self, image: Image) -> Image:
        return image


@node
@dataclass
class Handle:
    def open(self) -> None: ...

    def __call__(self, image: Image) -> Image:
        return image


"""


@pytest.mark.parametrize(
    ("code", "message"), [case[1:] for case in MISUSES], ids=[case[0] for case in MISUSES]
)
def test_misuse_is_found_at_wiring(tmp_path, code, message):
    source = DEFINITIONS + in_graph(code)
    if "THERE" in message and "# there" not in source:
        source = source.replace('servos("neck")', 'servos("neck")  # there', 1)
    refuses(tmp_path, source, WiringError, message)


OUTSIDE = [
    ('camera("front")  # here', "camera('front')"),
    ('servos("neck")  # here', "servos('neck')"),
    ("feedback(Reading(0.0))  # here", "feedback()"),
    ('named("left", hold)(3)  # here', "named('left', ...)"),
]


@pytest.mark.parametrize(("code", "what"), OUTSIDE)
def test_words_that_need_a_graph(tmp_path, code, what):
    refuses(
        tmp_path,
        code,
        WiringError,
        f"HERE: {what} outside a graph. Write it inside `with Graph(...) as g:`.",
    )


def test_value_of_another_graph(tmp_path):
    other = 'with Graph("other"):\n    far = hold(camera("front").image)\n'
    cure = "belongs to another graph. Wire nodes and devices of one `with Graph` block."
    refuses(
        tmp_path,
        other + in_graph("hold(far)  # here"),
        WiringError,
        f"HERE: node hold: input value: hold {cure}",
    )
    command = 'with Graph("other"):\n    far = hold(servos("neck").state)\n'
    refuses(
        tmp_path,
        command + in_graph("neck.command(far)  # here"),
        WiringError,
        f"HERE: neck.command: hold {cure}",
    )
    refuses(
        tmp_path,
        other + in_graph("previous, feed = feedback(Image(np.zeros(1)))\nfeed(far)  # here"),
        WiringError,
        "HERE: feedback_1: feed it with the output of a node of this graph.",
    )


@pytest.mark.parametrize("name", ["", "a/b", "a.b"])
def test_graph_name_is_a_file_name(tmp_path, name):
    refuses(
        tmp_path,
        f"Graph({name!r})  # here",
        WiringError,
        f"HERE: Graph({name!r}): a name without '.' and '/', please.",
    )


def test_after_an_error_no_graph_is_being_wired(tmp_path):
    with pytest.raises(ZeroDivisionError), Graph("broken"):
        raise ZeroDivisionError
    with pytest.raises(WiringError):
        camera("front")


# --- what is recorded -----------------------------------------------------------------------------


class Pose(Message):
    x: float
    y: float = 0.0


class Pose3(Pose):
    z: float = 0.0


@node
def move(pose: Pose, by: float = 1.0, times: tuple[int, ...] = (1, 2)) -> Pose:
    return Pose(pose.x + by * len(times))


@node
@dataclass
class Count:
    step: int = 2
    _seen: int = 0

    def __call__(self, pose: Pose, scale: float = 0.5) -> Pose:
        self._seen += self.step
        return Pose(self._seen * scale)


POSES = DeviceKind("poses", {"pose": Pose, "better": Pose3}, stream=True)


def stream(graph: Graph, port: str = "pose", role: str = "source") -> Pose:
    graph.use_device(role, POSES)
    pose: Pose = graph.state(role, port)
    return pose


def test_all_constants_are_recorded_defaults_included():
    with Graph("g") as g:
        move(stream(g), times=(3,))
        Count(step=5)(stream(g))
    assert g.nodes["move"].constants == {"by": 1.0, "times": (3,)}
    assert g.nodes["Count"].constants == {"step": 5, "scale": 0.5}
    assert str(g.nodes["move"].inputs["pose"]) == "source.pose"


def test_names_are_numbered_in_the_order_of_the_calls():
    with Graph("g") as g:
        named("last", move)(move(move(stream(g))))  # arguments are called first
        named("move_4", move)(stream(g))
        move(stream(g))
        move(stream(g))
    assert list(g.nodes) == ["move", "move_2", "last", "move_4", "move_3", "move_5"]


def test_outside_a_graph_a_node_is_the_plain_call():
    assert move(Pose(1.0), by=2.0).x == 5.0
    count = Count()
    assert [count(Pose(0.0)).x, count(Pose(0.0), 1.0).x] == [1.0, 4.0]
    assert contract_of(move).function is inspect.unwrap(move)  # what the plan calls


def test_a_generic_node_gives_what_it_took(tmp_path):
    module = load(tmp_path, in_graph("light(hold(hold(cam.image)))"))
    assert module.g.nodes["hold_2"].outputs[0].kind is Image


def test_a_generic_node_of_two_kinds_gives_what_they_share(tmp_path):
    both = "@node(on='a')\ndef both(a: M, b: Annotated[M, fresh('1s')]) -> M:\n    return a\n\n\n"
    code = "dim = light(cam.image)\nboth({}, {})\n"
    exact = (
        "\n\n@node\ndef exactly(value: Reading) -> Precise:\n    return Precise(value.value)\n\n\n"
    )
    for first, second in (("dim", "exactly(dim)"), ("exactly(dim)", "dim")):
        module = load(tmp_path, exact + both + in_graph(code.format(first, second)))
        assert module.g.nodes["both"].outputs[0].kind is Reading


def test_a_subclass_is_welcome_where_its_base_is():
    with Graph("g") as g:
        move(stream(g, "better"))
    assert g.nodes["move"].inputs["pose"].port == "better"


def test_an_optional_input_may_stay_away(tmp_path):
    source = (
        "@node(on='a')\ndef maybe(a: Image, b: Image | None = None) -> Image:\n    return a\n\n"
    )
    module = load(tmp_path, source + in_graph("maybe(cam.image)\nmaybe(cam.image, None)"))
    assert [list(use.inputs) for use in module.g.nodes.values()] == [["a"], ["a"]]


def test_the_same_unit_written_otherwise_is_the_same(tmp_path):
    source = (
        '@node\ndef a(v: Image) -> Annotated[Reading, unit("m/s^2")]:\n    return Reading(0.0)\n\n'
        '@node\ndef b(v: Annotated[Reading, unit("m·s^-2")]) -> Reading:\n    return v\n\n'
    )
    assert list(load(tmp_path, source + in_graph("b(a(cam.image))")).g.nodes) == ["a", "b"]


def test_feedback_names_stay_clear_of_nodes_and_roles():
    with Graph("g") as g:
        pose = named("feedback_1", move)(stream(g))
        g.use_device("feedback_2", POSES)
        previous, feed = feedback(Pose(0.0))
        feed(named("other", move)(previous))
        move(pose)
    assert list(g.feedbacks) == ["feedback_3"]
    assert str(g.feedbacks["feedback_3"].source) == "other"


def test_feedback_takes_a_subclass_of_what_it_starts_as():
    with Graph("g") as g:
        _, feed = feedback(Pose(0.0))
        feed(stream(g, "better"))
    assert str(g.feedbacks["feedback_1"].source) == "source.better"


def test_outputs_that_nobody_uses_are_warned_of(tmp_path):
    module = load(tmp_path, in_graph("left, right = split(cam.image)  # here\nhold(left)"))
    place = f"{tmp_path}/app.py"
    line = (tmp_path / "app.py").read_text().splitlines().index("    hold(left)")
    assert module.g.warnings == [
        f"{place}:{line}: output split.right is not used by anything.",
        f"{place}:{line + 1}: output hold is not used by anything.",
    ]


def test_a_device_may_be_named_twice():
    with Graph("g") as g:
        assert inside(camera("front").image) is not None
        assert camera("front").image is not None
        servos("neck")
    assert list(g.devices) == ["front", "neck"]


def test_a_pair_of_graphs_does_not_meet():
    with Graph("outer") as outer:
        pose = stream(outer)
        with Graph("inner") as inner:
            move(stream(inner))
        move(pose)
    assert list(outer.nodes) == list(inner.nodes) == ["move"]


def test_run_acts_only_in_the_main_program(tmp_path, monkeypatch):
    source = in_graph("hold(cam.image)") + 'ran = g.run(unit="no such unit")\n'
    assert load(tmp_path, source).ran is None
    # as the main program it acts: it looks for the unit
    environment = {"PATH": "", "HAIHE_LANE": ""}
    command = [sys.executable, str(tmp_path / "app.py")]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "no such unit" in ended.stderr
    environment["HAIHE_LANE"] = "1"  # a lane process imports the main module only for its nodes
    assert subprocess.run(command, env=environment, check=False).returncode == 0
