"""What is wrong in a graph file is refused where it stands."""

import pytest
from tests.pipelines.graph_file.files import HEAD, LOOK, PARTS, estimate, refusal

REFUSED = {
    "empty": ("", "follow.yaml: the file is empty. Write its keys."),
    "a list": (
        "- a\n",
        "follow.yaml:1:1: found a list or a text, expected the keys of a graph.",
    ),
    "no name": (
        "devices: {front: camera}\n",
        "follow.yaml:1:1: the key 'graph' is missing: the graph's name.",
    ),
    "a wrong name": (
        "graph: a.b\n",
        "follow.yaml:1:8: Graph('a.b'): a name without '.' and '/', please.",
    ),
    "an unknown key": (
        "graph: follow\ndevises: {front: camera}\n",
        "follow.yaml:2:1: unknown key 'devises'. Did you mean 'devices'?",
    ),
    "an unknown kind of device": (
        "graph: follow\ndevices: {front: camra}\n",
        "follow.yaml:2:18: devices.front: no kind of device 'camra'. Did you mean 'camera'?",
    ),
    "a brace inside braces": (
        HEAD + "  part: {model: part, in: front.image, params: {threshold: ${t}}}\n",
        "follow.yaml:4:61: not valid YAML: while parsing a flow mapping, did not find expected ',' "
        "or '}'. Check indentation and quotes. Inside { } a parameter is $name, or quoted.",
    ),
    "an unknown node": (
        HEAD + "  aim: {node: persue, in: front.image}\n",
        "follow.yaml:4:15: nodes.aim.node: node 'persue' is not known. Did you mean 'pursue'?",
    ),
    "an unknown function": (
        HEAD + f"  aim: {{node: {PARTS}:aims, in: front.image}}\n",
        "follow.yaml:4:15: nodes.aim.node: tests.pipelines.graph_parts has no 'aims'. Did you mean "
        "'aim'?",
    ),
    "a function that is no node": (
        HEAD + f"  aim: {{node: {PARTS}:helper, in: front.image}}\n",
        "follow.yaml:4:15: nodes.aim.node: tests.pipelines.graph_parts:helper is not a node. Put "
        "@node above its definition.",
    ),
    "two things in one": (
        HEAD + "  aim: {node: pursue, model: part, in: front.image}\n",
        "follow.yaml:4:3: nodes.aim: found node and model. Keep one.",
    ),
    "nothing in one": (
        HEAD + "  aim: {in: front.image}\n",
        "follow.yaml:4:3: nodes.aim: write node, model, graph or select.",
    ),
    "an unknown constant": (
        HEAD + f"  part: {{node: {PARTS}:look, in: front.image, params: {{flor: 1}}}}\n",
        "follow.yaml:4:82: nodes.part.params.flor: tests.pipelines.graph_parts:look has no "
        "constant 'flor'. Did you mean 'floor'?",
    ),
    "an input as a constant": (
        HEAD + f"  part: {{node: {PARTS}:look, in: front.image, params: {{image: 1}}}}\n",
        "follow.yaml:4:83: nodes.part.params.image: image is an input of "
        "tests.pipelines.graph_parts:look. Connect it under `in`.",
    ),
    "a constant of another type": (
        HEAD + f"  part: {{node: {PARTS}:look, in: front.image, params: {{floor: high}}}}\n",
        "follow.yaml:4:83: nodes.part.params.floor: found 'high', expected a number.",
    ),
    "the model twice": (
        HEAD + "  part: {model: part, in: front.image, params: {model: nut}}\n",
        "follow.yaml:4:56: nodes.part.params.model: model is given already, under `model`.",
    ),
    "a constant is missing": (
        HEAD + f"  e: {{node: {PARTS}:Estimate, in: {{before: front.image}}}}\n",
        "follow.yaml:4:3: nodes.e: tests.pipelines.graph_parts:Estimate needs the constant "
        "'start'. Write it under `params`.",
    ),
    "a source that is not there": (
        HEAD + f"  part: {{node: {PARTS}:look, in: fornt.image}}\n",
        "follow.yaml:4:54: nodes.part.in: nothing is called 'fornt'. Did you mean 'front'?",
    ),
    "a port that is not there": (
        HEAD + f"  part: {{node: {PARTS}:look, in: front.imgae}}\n",
        "follow.yaml:4:54: nodes.part.in: device front has no output 'imgae'. Did you mean "
        "'image'?",
    ),
    "one of several outputs": (
        HEAD + f"  two: {{node: {PARTS}:split, in: front.image}}\n"
        f"  a: {{node: {PARTS}:alarm, in: two}}\n",
        "follow.yaml:5:52: nodes.a.in: which output of node two? Write two.parts or two.level.",
    ),
    "an unknown input": (
        HEAD + f"  part: {{node: {PARTS}:look, in: {{img: front.image}}}}\n",
        "follow.yaml:4:60: nodes.part.in.img: tests.pipelines.graph_parts:look has no input 'img'. "
        "Did you mean 'image'?",
    ),
    "which input": (
        HEAD + LOOK + f"  aim: {{node: {PARTS}:aim, in: part}}\n",
        "follow.yaml:5:52: nodes.aim.in: tests.pipelines.graph_parts:aim has 2 inputs (parts, "
        "neck). Name them: {input: source, ...}.",
    ),
    "an input is not connected": (
        HEAD + LOOK + f"  aim: {{node: {PARTS}:aim, in: {{parts: part}}}}\n",
        "follow.yaml:5:3: node aim: missing a required argument: 'neck'. It takes: parts, neck, "
        "gain, label.",
    ),
    "another message": (
        HEAD + f"  a: {{node: {PARTS}:alarm, in: front.image}}\n",
        "follow.yaml:4:3: edge front.image -> a.level: front.image gives Image, level wants "
        "Reading. Put a node between that converts.",
    ),
    "a cycle": (
        HEAD + f"  a: {{node: {PARTS}:alarm, in: b}}\n  b: {{node: {PARTS}:alarm, in: a}}\n",
        "follow.yaml:4:3 and follow.yaml:5:3: a and b take each other's outputs. Close the loop "
        "under `feedback`, which gives the previous firing's value: its nodes need one rate.",
    ),
    "a name that a device has": (
        HEAD + f"  front: {{node: {PARTS}:look, in: front.image}}\n",
        "follow.yaml:4:3: nodes.front: 'front' is device front already. Rename one.",
    ),
    "a name twice": (
        HEAD + LOOK + LOOK,
        "follow.yaml:5:3: nodes: key 'part' is already on line 4. Remove one.",
    ),
    "a command of no device": (
        HEAD + LOOK + "commands: {nek: part}\n",
        "follow.yaml:5:17: commands.nek: no device 'nek'. Did you mean 'neck'?",
    ),
    "a command of another type": (
        HEAD + LOOK + "commands: {neck: part}\n",
        "follow.yaml:5:18: edge part -> neck.command: part gives Detections, command wants "
        "JointCommand. Put a node between that converts.",
    ),
    "a command of a camera": (
        HEAD + LOOK + "commands: {front: part}\n",
        "follow.yaml:5:19: commands.front: front (camera) takes no command. Remove it.",
    ),
    "a feedback without a type": (
        HEAD + LOOK + "feedback:\n  before: {from: part, initial: {x: 1}}\n",
        "follow.yaml:6:33: feedback.before.initial: expected a message with its type: {type: "
        "app:Pose, ...}.",
    ),
    "a feedback of another type": (
        HEAD + LOOK + f"feedback:\n  was: {{from: part, initial: {{type: {PARTS}:Pose, x: 1}}}}\n",
        "follow.yaml:6:15: was: it starts as Pose, got Detections from part. Feed it with what it "
        "starts as.",
    ),
    "a lane that is no node": (
        HEAD + LOOK + "threads: {t: {lanes: [prat]}}\n",
        "follow.yaml:5:23: threads.t.lanes[0]: no node 'prat'. Did you mean 'part'?",
    ),
    "a process of no node": (
        HEAD + LOOK + "processes: {vision: {nodes: [prat]}}\n",
        "follow.yaml:5:30: processes.vision.nodes[0]: no node 'prat'. Did you mean 'part'?",
    ),
    "a process without nodes": (
        HEAD + LOOK + "processes: {vision: {nodes: []}}\n",
        "follow.yaml:5:13: process vision: name the nodes that run in it.",
    ),
    "a process without the key": (
        HEAD + LOOK + "processes: {vision: {threads: [front]}}\n",
        "follow.yaml:5:22: processes.vision: unknown key 'threads'. Known: nodes.",
    ),
    "a process that is the launcher's": (
        HEAD + LOOK + "processes: {main: {nodes: [part]}}\n",
        "follow.yaml:5:13: process main exists already. Choose another name.",
    ),
    "an unknown policy": (
        HEAD + LOOK + "threads: {t: {lanes: [part], policy: fife}}\n",
        "follow.yaml:5:38: threads.t.policy: found 'fife', expected 'priority' or 'fifo'. Did you "
        "mean 'fifo'?",
    ),
    "a file that is not there": (
        "graph: follow\ninclude: [camra.yaml]\n",
        "follow.yaml:2:11: include[0]: no file 'camra.yaml'. Known: follow.yaml.",
    ),
    "an unknown field of a record": (
        estimate("{start: {x: 1.0, z: 2.0}}").replace("before: x", "before: front.image"),
        "follow.yaml:4:103: nodes.e.params.start: unknown key 'z'. Known: x, y.",
    ),
    "an unknown member of an enum": (
        estimate("{start: {x: 1.0}, mode: fats}").replace("before: x", "before: front.image"),
        "follow.yaml:4:110: nodes.e.params.mode: found 'fats', expected 'slow' or 'fast'. Did you "
        "mean 'fast'?",
    ),
    "a record of another class": (
        estimate(f"{{start: {{type: {PARTS}:Box}}}}").replace("before: x", "before: front.image"),
        "follow.yaml:4:101: nodes.e.params.start.type: tests.pipelines.graph_parts:Box is no Pose. "
        "Write one.",
    ),
    "a call where a value is meant": (
        estimate("{start: {type: os:system, command: ls}}").replace("before: x", "before: front"),
        "follow.yaml:4:95: nodes.e.params.start.type: os:system is no message, dataclass, "
        "NamedTuple or Enum. Write one.",
    ),
    "rows of an array": (
        estimate("{start: {x: 1.0}, matrix: [[1, 2], [3]]}").replace("x}", "front.image}"),
        "follow.yaml:4:112: nodes.e.params.matrix: no array of float64: rows of different lengths. "
        "Write rows of numbers.",
    ),
    "what the node itself refuses": (
        estimate("{start: {x: -1.0}}").replace("before: x", "before: front.image"),
        "follow.yaml:4:3: nodes.e: start.x is -1.0, expected 0 or more.",
    ),
    "an alias of itself": (
        "graph: follow\ndevices: &all {front: *all}\n",
        "follow.yaml:2: an alias inside what it stands for. Remove it.",
    ),
    "a sub-graph as a graph": (
        "graph: eye\ninputs: {image: Image}\n",
        "follow.yaml:2:1: inputs: eye is a sub-graph. Use it in a graph: {graph: follow.yaml, in: "
        "...}.",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_wrong_file_is_refused_where_it_is_wrong(name: str) -> None:
    text, said = REFUSED[name]
    assert refusal(text) == said


# --- parameters -------------------------------------------------------------------------------
