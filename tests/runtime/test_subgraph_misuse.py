"""Misuse of sub-graphs, found at wiring with the user's line and the cure."""

from pathlib import Path

import pytest
from tests.typing.user_file import in_graph, refuses

from haihe.runtime.errors import ContractError, WiringError

DEFINITIONS = """
from haihe import fifo, frame, subgraph


class Both(NamedTuple):
    one: Reading
    two: Reading


@node
def based(image: Image) -> Annotated[Reading, frame("base")]:
    return light(image)


@subgraph
def eye(image: Image, gain: float = 0.8) -> Reading:
    return hold(light(image))


@subgraph  # there
def blind(image: Image, other: Image) -> Reading:
    return light(image)


@subgraph
def ticking(image: Image, dt: Tick = TICK) -> Reading:
    return light(image)


@subgraph
def untyped(image: Image, gain=1.0) -> Reading:
    return light(image)


@subgraph
def queued(image: Annotated[Image, fifo(4)]) -> Reading:
    return light(image)


@subgraph
def headed(value: Annotated[Reading, frame("head")]) -> Reading:
    return hold(value)


@subgraph
def to_head(image: Image) -> Annotated[Reading, frame("head")]:
    return based(image)


"""

# name, a sub-graph more, code inside the graph, message; PLACE: the sub-graph's own line
MISUSES = [
    (
        "real value for an input",
        "",
        "eye(Image(np.zeros(1)))  # here",
        "HERE: sub-graph eye: input image wants a Image from a port, got Image. Connect a "
        "device's port or a node's output.",
    ),
    (
        "none for an input",
        "",
        "eye(None)  # here",
        "HERE: sub-graph eye: input image wants a Image from a port, got nothing. Connect a "
        "device's port or a node's output.",
    ),
    (
        "wrong message",
        "",
        'named("left", eye)(neck.state)  # here',
        "HERE: sub-graph left: input image: neck.state gives JointState, image wants Image. Put a "
        "node between that converts.",
    ),
    (
        "message for a plain value",
        "",
        "eye(cam.image, light(cam.image))  # here",
        "HERE: sub-graph eye: gain is a plain value, got the message of light. Annotate the "
        "parameter with a Message type to make it an input.",
    ),
    (
        "wrong keyword",
        "",
        "eye(cam.image, gian=1.0)  # here",
        "HERE: sub-graph eye: got an unexpected keyword argument 'gian'. It takes: image, gain.",
    ),
    (
        "name given twice",
        "",
        'named("left", eye)(cam.image)\nnamed("left", eye)(cam.image)  # here',
        "HERE: the name 'left' is taken. Names are the keys of files and recordings: choose "
        "another one.",
    ),
    (
        "name with a dot",
        "",
        'named("left.eye", eye)(cam.image)  # here',
        "HERE: 'left.eye' is not a name: it is the key of files and recordings. Use letters, "
        "digits, '_' and '-'.",
    ),
    (
        "name that ends with a slash",
        "",
        'named("left/", eye)(cam.image)  # here',
        "HERE: 'left/' is not a name: it is the key of files and recordings. Use letters, "
        "digits, '_' and '-'.",
    ),
    (
        "unused input",
        "",
        "blind(cam.image, cam.image)  # here",
        "HERE: sub-graph blind: nothing inside uses its input other (THERE). Connect it to a "
        "node, or drop the parameter.",
    ),
    (
        "time",
        "",
        "ticking(cam.image)  # here",
        "HERE: sub-graph ticking: parameter dt is Tick, which only a node gets (PLACE ticking). "
        "Move it into a node.",
    ),
    (
        "parameter without a type",
        "",
        "untyped(cam.image)  # here",
        "HERE: sub-graph untyped: parameter gain has no type (PLACE untyped). Annotate it.",
    ),
    (
        "contract of a node",
        "",
        "queued(cam.image)  # here",
        "HERE: sub-graph queued: input image is fifo(), which says how a node samples "
        "(PLACE queued). Write it on the input of the node inside.",
    ),
    (
        "another frame going in",
        "",
        "headed(based(cam.image))  # here",
        "HERE: edge based -> headed.value: based is in the frame 'base', value wants 'head'. Put "
        "a node between that transforms it.",
    ),
    (
        "another frame coming out",
        "",
        "to_head(cam.image)  # here",
        "HERE: edge to_head/based -> to_head.output: to_head/based is in the frame 'base', output "
        "wants 'head'. Put a node between that transforms it.",
    ),
    (
        "a real value coming out",
        "@subgraph  # there\ndef f(image: Image) -> Reading:\n    return Reading(1.0)\n",
        "f(cam.image)  # here",
        "HERE: sub-graph f: it gives a Reading, not the output of a node (THERE). Return what a "
        "node gave, or a NamedTuple of such.",
    ),
    (
        "nothing coming out",
        "@subgraph  # there\ndef f(image: Image) -> Reading:\n    light(image)\n",
        "f(cam.image)  # here",
        "HERE: sub-graph f: it gives nothing, not the output of a node (THERE). Return what a "
        "node gave, or a NamedTuple of such.",
    ),
    (
        "something coming out of one that gives nothing",
        "@subgraph  # there\ndef f(image: Image) -> None:\n    return light(image)\n",
        "f(cam.image)  # here",
        "HERE: sub-graph f: it is annotated -> None (THERE) but gives something. Mend one of "
        "the two.",
    ),
    (
        "a real value in a tuple",
        "@subgraph  # there\ndef f(image: Image) -> Both:\n"
        "    return Both(light(image), Reading(1.0))\n",
        "f(cam.image)  # here",
        "HERE: sub-graph f: output two gives a Reading, not the output of a node (THERE). Return "
        "what a node gave, or a NamedTuple of such.",
    ),
    (
        "a plain tuple",
        "@subgraph  # there\ndef f(image: Image) -> tuple[Image, Reading]:\n"
        "    return image, light(image)\n",
        "f(cam.image)  # here",
        "HERE: sub-graph f: it gives a tuple, not the output of a node (THERE). Return what a "
        "node gave, or a NamedTuple of such.",
    ),
    (
        "another message coming out",
        "@subgraph  # there\ndef f(image: Image) -> Reading:\n    return hold(image)\n",
        "f(cam.image)  # here",
        "HERE: sub-graph f: it gives the Image of f/hold, THERE says Reading. Mend its return "
        "type, or put a node between that converts.",
    ),
    (
        "another message in a tuple",
        "@subgraph  # there\ndef f(image: Image) -> Both:\n"
        "    return Both(light(image), hold(image))\n",
        "f(cam.image)  # here",
        "HERE: sub-graph f: output two gives the Image of f/hold, THERE says Reading. Mend its "
        "return type, or put a node between that converts.",
    ),
    (
        "misuse inside",
        "@subgraph\ndef f(image: Image) -> Reading:\n    return light(hold(3))  # here\n",
        'named("left", f)(cam.image)',
        "HERE: node left/hold: input value wants a Message from a port, got int. Connect a "
        "device's port or a node's output.",
    ),
]


@pytest.mark.parametrize(
    ("more", "code", "message"), [case[1:] for case in MISUSES], ids=[case[0] for case in MISUSES]
)
def test_misuse_is_found_at_wiring(tmp_path: Path, more: str, code: str, message: str) -> None:
    source = DEFINITIONS + more + "\n\n" + in_graph(code)
    if "# there" in more:
        source = source.replace("@subgraph  # there\ndef blind", "@subgraph\ndef blind")
    if "(PLACE" in message:  # the line of the decorator above that function
        name = message.partition("(PLACE ")[2].partition(")")[0]
        source = source.replace("@subgraph  # there", "@subgraph")
        source = source.replace(f"@subgraph\ndef {name}(", f"@subgraph  # there\ndef {name}(")
        message = message.replace(f"PLACE {name}", "THERE")
    refuses(tmp_path, source, WiringError, message)


def test_outside_a_graph_it_is_refused(tmp_path: Path) -> None:
    refuses(
        tmp_path,
        DEFINITIONS + "eye(Image(np.zeros(1)))  # here\n",
        WiringError,
        "HERE: sub-graph eye outside a graph. Write it inside `with Graph(...) as g:`.",
    )


def test_values_of_another_graph_are_refused(tmp_path: Path) -> None:
    other = 'with Graph("other"):\n    far = light(camera("front").image)\n\n\n'
    cure = "Wire nodes and devices of one `with Graph` block."
    refuses(
        tmp_path,
        DEFINITIONS + other + in_graph("headed(far)  # here"),
        WiringError,
        f"HERE: sub-graph headed: input value: light belongs to another graph. {cure}",
    )
    source = "@subgraph  # there\ndef f(image: Image) -> Reading:\n    light(image)\n"
    source = DEFINITIONS.replace("  # there", "") + source + "    return far\n\n\n" + other
    refuses(
        tmp_path,
        source + in_graph("f(cam.image)  # here"),
        WiringError,
        f"HERE: sub-graph f: it gives light, which belongs to another graph (THERE). {cure}",
    )


def test_a_class_is_no_sub_graph(tmp_path: Path) -> None:
    refuses(
        tmp_path,
        "from haihe import subgraph\nsubgraph(Pair)  # here\n",
        ContractError,
        "HERE: @subgraph wants a function, got <class 'app.Pair'>. Write a function that wires "
        "nodes and returns what they gave.",
    )
