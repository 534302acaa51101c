"""YAML graphs: what a file says, what it refuses and where, parameters, includes, sub-graphs."""

from pathlib import Path

import pytest
from tests.pipelines import graph_parts
from tests.pipelines.graph_file.files import HEAD, LOOK, PARTS, estimate, refusal, write

from haihe.pipelines.graph_file import load_graph_file
from haihe.pipelines.launch import simulate
from haihe.pipelines.load import graph_of_recording, load_graph, parse_parameters
from haihe.runtime.errors import PlanError
from haihe.runtime.graph import Graph
from haihe.runtime.plan.build import make_plan
from haihe.testing import replay

EXAMPLES = Path(__file__).parents[3] / "docs" / "examples"


def plan_hash(graph: Graph) -> str:
    return make_plan(graph, {}).hash


# --- what a file says -------------------------------------------------------------------------


def test_the_example_is_the_pipeline_that_python_builds() -> None:
    graph = load_graph(str(EXAMPLES / "follow.yaml"))
    assert plan_hash(graph) == plan_hash(load_graph("robot.follow"))
    assert graph.warnings == []
    assert graph.file == str((EXAMPLES / "follow.yaml").resolve())
    other = load_graph(str(EXAMPLES / "follow.yaml"), {"label": "nut", "predict": False})
    assert plan_hash(other) == plan_hash(
        load_graph("robot.follow", {"label": "nut", "predict": False})
    )


def test_nodes_may_stand_in_any_order_and_lines_are_those_of_the_file() -> None:
    text = HEAD + f"  alarm: {{node: {PARTS}:alarm, in: two.level}}\n"
    graph = load_graph_file(write(text + f"  two: {{node: {PARTS}:split, in: front.image}}\n"))
    assert list(graph.nodes) == ["two", "alarm"]
    assert [use.line for use in graph.nodes.values()] == ["follow.yaml:5:3", "follow.yaml:4:3"]
    assert graph.devices["front"].line == "follow.yaml:2:18"
    assert graph.warnings == [
        "follow.yaml:5:3: output two.parts is not used by anything.",
        "follow.yaml:4:3: output alarm is not used by anything.",
    ]


def test_an_optional_input_may_be_left_out() -> None:
    loop = f"feedback:\n  was: {{from: e, initial: {{type: {PARTS}:Pose, x: 1.0}}}}\n"
    entry = f"  e: {{node: {PARTS}:Estimate, in: {{before: was}}, params: {{start: {{x: 2}}}}}}\n"
    graph = load_graph_file(write(HEAD + entry + loop))
    assert list(graph.nodes["e"].inputs) == ["before"]
    assert graph.nodes["e"].constants["start"].x == 2
    assert type(graph.nodes["e"].constants["start"].x) is int
    assert graph.feedbacks["was"].initial.x == 1.0  # type: ignore[attr-defined]


def test_threads_are_those_of_python() -> None:
    more = f"  aim: {{node: {PARTS}:aim, in: {{parts: part, neck: neck.state}}}}\n"
    tail = "commands: {neck: aim}\nthreads: {all: {lanes: [aim, part], policy: fifo}}\n"
    graph = load_graph_file(write(HEAD + LOOK + more + tail))
    assert graph.threads["all"].nodes == ("aim", "part")
    assert graph.threads["all"].policy == "fifo"
    assert graph.threads["all"].line == "follow.yaml:7:11"


def test_processes_are_those_of_python() -> None:
    more = f"  aim: {{node: {PARTS}:aim, in: {{parts: part, neck: neck.state}}}}\n"
    tail = "commands: {neck: aim}\nprocesses: {vision: {nodes: [part]}}\n"
    graph = load_graph_file(write(HEAD + LOOK + more + tail))
    assert graph.processes["vision"].nodes == ("part",)
    assert graph.processes["vision"].line == "follow.yaml:7:13"
    plan = make_plan(graph, {})
    assert (plan.process_of("front"), plan.processes) == ("vision", ("vision",))


def test_a_module_beside_the_file_is_found(tmp_path: Path) -> None:
    write("from haihe import node\nfrom haihe.types import Image\n\n@node\n"
          "def still(image: Image) -> Image:\n    return image\n",
          "deep/graph_file_app.py")  # fmt: skip
    text = HEAD + "  still: {node: graph_file_app:still, in: front.image}\n"
    graph = load_graph_file(write(text, "deep/follow.yaml"))
    assert graph.nodes["still"].contract.target == "graph_file_app:still"
    write("x = 1\n", "other/graph_file_app.py")
    with pytest.raises(PlanError) as caught:
        load_graph_file(write(text, "other/follow.yaml"))
    assert str(caught.value) == (
        "other/follow.yaml:4:17: nodes.still.node: a module named 'graph_file_app' is loaded "
        f"already ({tmp_path}/deep/graph_file_app.py). Rename the file."
    )


# --- what it refuses --------------------------------------------------------------------------


WITH_PARAMETERS = (
    "graph: follow\nparams: {floor: {default: 0.5, range: [0, 1]}, dollar: $$, often: 1}\n"
    f"devices: {{front: camera}}\nnodes:\n  part:\n    node: {PARTS}:look\n    in: front.image\n"
    "    params:\n      floor: ${floor}\n"
)


def test_a_parameter_has_a_default_and_a_range() -> None:
    graph = load_graph_file(write(WITH_PARAMETERS))
    assert graph.nodes["part"].constants == {"floor": 0.5}
    assert graph.warnings == [
        "follow.yaml:5:3: output part is not used by anything.",
        "follow.yaml:2:48: parameter dollar is not used.",
        "follow.yaml:2:60: parameter often is not used.",
    ]
    one = load_graph_file("follow.yaml", parse_parameters(["floor=1"]))
    assert repr(one.nodes["part"].constants["floor"]) == "1.0"
    assert refusal(WITH_PARAMETERS, floor=2) == (
        "-p floor=2: found 2, expected a number from 0 to 1 (declared at follow.yaml:2:10: "
        "params.floor)."
    )
    assert refusal(WITH_PARAMETERS, floor="high") == (
        "-p floor=high: found 'high', expected a number (declared at follow.yaml:2:10: "
        "params.floor)."
    )
    assert refusal(WITH_PARAMETERS, often=0.5) == (
        "-p often=0.5: found 0.5, expected a whole number (declared at follow.yaml:2:60: "
        "params.often)."
    )
    assert refusal(WITH_PARAMETERS, flor=1) == (
        "-p flor=1: follow.yaml has no parameter 'flor'. Did you mean 'floor'?"
    )


def test_a_text_takes_a_number_as_it_is_and_a_dollar_is_doubled() -> None:
    text = HEAD.replace("nodes", "params: {label: $$x}\nnodes") + LOOK
    aim = f"  aim: {{node: {PARTS}:aim, in: {{parts: part, neck: neck.state}}, params: %s}}\n"
    write(text + aim % "{label: $label}")
    assert load_graph_file("follow.yaml").nodes["aim"].constants["label"] == "$$x"
    assert load_graph_file("follow.yaml", {"label": 5}).nodes["aim"].constants["label"] == "5"
    write(text + aim % "{label: $$label}")
    assert load_graph_file("follow.yaml").nodes["aim"].constants["label"] == "$label"


def test_a_wrong_declaration_or_use_is_refused_at_its_place() -> None:
    assert refusal("graph: a\nparams: {t: {default: 3, range: [0, 1]}}\n") == (
        "follow.yaml:2:10: params.t: found 3, expected a whole number from 0 to 1."
    )
    assert refusal("graph: a\nparams: {t: {default: 1, range: [2, 0.5]}}\n") == (
        "follow.yaml:2:10: params.t: range from 2 to 0.5. Write the smaller first."
    )
    assert refusal("graph: a\nparams: {t: {default: x, range: [0, 1]}}\n") == (
        "follow.yaml:2:10: params.t: a range is for a number. Drop it."
    )
    assert refusal("graph: a\nparams: {a-b: 1}\n") == (
        "follow.yaml:2:10: params.a-b: 'a-b' is no name. Use letters, digits and '_'."
    )
    assert refusal("graph: a\nparams: {t: 1}\ndevices: {front: $s}\n") == (
        "follow.yaml:3:18: no parameter 's'. Known: t."
    )
    assert refusal("graph: a\ndevices: {front: $a.b}\n") == (
        "follow.yaml:2:18: '$a.b': a parameter stands alone, as $name. Write $$ for a dollar."
    )


def test_a_constant_of_a_node_is_overridden_in_any_graph() -> None:
    write(HEAD + LOOK)
    assert load_graph("follow.yaml", {"part.floor": 1}).nodes["part"].constants["floor"] == 1.0
    built = load_graph("robot.follow", {"label": "nut", "Pursue.beta": 0.3})
    assert built.nodes["Pursue"].constants["beta"] == built.nodes["Pursue"].instance.beta == 0.3
    assert built.nodes["Pursue"].instance.label == "nut"
    header = {"source": {"file": built.file, **built.origin}, "graph": built.name}
    assert graph_of_recording(header).nodes["Pursue"].instance.beta == 0.3
    write(
        f"from {PARTS} import Estimate, Pose\nfrom haihe import Graph, feedback\n"
        "with Graph('g') as g:\n    was, feed = feedback(Pose(0.0))\n"
        "    feed(Estimate(Pose(1.0))(was))\n",
        "graph_file_override.py",
    )
    plain = load_graph("graph_file_override.py")
    changed = load_graph("graph_file_override.py", {"Estimate.mode": "fast", "Estimate.factor": 2})
    assert changed.nodes["Estimate"].instance.mode is graph_parts.Mode.FAST
    assert changed.nodes["Estimate"].constants["factor"] == 2
    assert plain.nodes["Estimate"].instance.mode is graph_parts.Mode.SLOW
    assert changed.origin == {"parameters": {"Estimate.mode": "fast", "Estimate.factor": 2}}
    line = f"{Path('graph_file_override.py').resolve()}:5"
    for key, value, said in [
        ("Estimat.mode", 1, "graph g has no node 'Estimat'. Did you mean 'Estimate'?"),
        ("Estimate.fctor", 1,
         f"node Estimate ({line}) has no constant 'fctor'. Did you mean 'factor'?"),
        ("Estimate.factor", 0.5, f"found 0.5, expected a whole number. It is 1 ({line})."),
        ("Estimate.start", {"x": -1.0},
         f"node Estimate ({line}) refuses: start.x is -1.0, expected 0 or more."),
    ]:  # fmt: skip
        with pytest.raises(PlanError) as caught:
            load_graph("graph_file_override.py", {key: value})
        assert str(caught.value) == f"-p {key}: {said}"


def test_parameters_are_read_as_yaml() -> None:
    assert parse_parameters(["a=1", "b.c=[1, x]", "d=on", "e=", "f=a=b"]) == {
        "a": 1, "b.c": [1, "x"], "d": "on", "e": None, "f": "a=b",
    }  # fmt: skip
    for pair, said in [
        ("a", "-p a: write NAME=VALUE."),
        ("a=[", "-p a=[: the value is not YAML. Quote it."),
    ]:
        with pytest.raises(PlanError) as caught:
            parse_parameters([pair])
        assert str(caught.value) == said
    with pytest.raises(PlanError) as caught:
        parse_parameters(["a=1", "a=2"])
    assert str(caught.value) == "-p a=2: a is given twice. Remove one."


# --- more files -------------------------------------------------------------------------------

EYE = (
    f"inputs: {{image: Image}}\noutputs: {{parts: two.parts, level: two.level}}\n"
    "params: {floor: {default: 0.5, range: [0, 1]}}\nnodes:\n"
    f"  two: {{node: {PARTS}:split, in: image}}\n"
    f"  look: {{node: {PARTS}:look, in: image, params: {{floor: $floor}}}}\n"
)


def test_included_files_are_merged_and_duplicates_name_both_places() -> None:
    write("devices: {front: camera}\nparams: {floor: 0.25}\n", "parts/camera.yaml")
    write(f"include: [camera.yaml]\nnodes:\n{LOOK}", "parts/vision.yaml")
    text = "graph: follow\ninclude: [parts/vision.yaml, parts/camera.yaml]\nnodes:\n"
    other = f"  other: {{node: {PARTS}:look, in: front.image, params: {{floor: $floor}}}}\n"
    graph = load_graph_file(write(text + other))
    assert list(graph.nodes) == ["part", "other"]
    assert graph.nodes["part"].line == "parts/vision.yaml:3:3"
    assert graph.nodes["other"].constants == {"floor": 0.25}
    assert list(graph.origin["texts"]) == [
        "follow.yaml", "parts/vision.yaml", "parts/camera.yaml",
    ]  # fmt: skip
    assert refusal(text + LOOK) == (
        "follow.yaml:4:3: nodes.part is already at parts/vision.yaml:3:3. Remove one."
    )
    assert refusal(text + other + "params: {floor: 1}\n") == (
        "follow.yaml:5:10: params.floor is already at parts/camera.yaml:2:10. Remove one."
    )
    write("graph: camera\n", "parts/camera.yaml")
    assert refusal(text) == (
        "parts/camera.yaml:1:1: graph: an included file has no name of its own. Remove it, or use "
        "the file as a sub-graph."
    )
    write("include: [vision.yaml]\n", "parts/camera.yaml")
    assert refusal(text) == (
        "parts/camera.yaml:1:11: include[0]: vision.yaml includes this file. Remove one."
    )


def test_a_sub_graph_is_used_twice_under_its_names() -> None:
    write(EYE, "parts/eye.yaml")
    text = (
        "graph: two\nparams: {floor: 0.1}\ndevices: {left: camera, right: camera}\nnodes:\n"
        "  l: {graph: parts/eye.yaml, in: {image: left.image}, params: {floor: $floor}}\n"
        "  r: {graph: parts/eye.yaml, in: right.image}\n"
        f"  a: {{node: {PARTS}:alarm, in: l.level}}\n"
    )
    graph = load_graph_file(write(text), {"r/look.floor": 0.75})
    assert list(graph.nodes) == ["l/two", "l/look", "r/two", "r/look", "a"]
    assert str(graph.nodes["a"].inputs["level"]) == "l/two.level"
    assert graph.nodes["l/look"].constants == {"floor": 0.1}
    assert graph.nodes["r/look"].constants == {"floor": 0.75}
    assert graph.nodes["r/look"].line == "parts/eye.yaml:6:3"
    sub = "  l: {graph: parts/eye.yaml, in: {image: left.image}, params: {floor: $floor}}\n"
    for wrong, said in [
        ("  l: {graph: parts/eye.yaml}\n",
         "follow.yaml:5:3: nodes.l: input image of parts/eye.yaml (parts/eye.yaml:1:17: "
         "inputs.image) is not connected. Connect it under `in`."),
        ("  l: {graph: parts/eye.yaml, in: {imge: left.image}}\n",
         "follow.yaml:5:41: nodes.l.in.imge: parts/eye.yaml has no input 'imge'. Did you mean "
         "'image'?"),
        ("  l: {graph: parts/eye.yaml, in: left.image, params: {floor: 2}}\n",
         "follow.yaml:5:62: nodes.l.params.floor: found 2, expected a number from 0 to 1 (declared "
         "at parts/eye.yaml:3:10: params.floor)."),
        ("  l: {graph: parts/eye.yaml, in: left.image, params: {flor: 1}}\n",
         "follow.yaml:5:61: nodes.l.params.flor: parts/eye.yaml has no parameter 'flor'. Did you "
         "mean 'floor'?"),
        ("  l: {graph: parts/ey.yaml, in: left.image}\n",
         "follow.yaml:5:14: nodes.l.graph: no file 'parts/ey.yaml'. Did you mean 'eye.yaml'?"),
    ]:  # fmt: skip
        assert refusal(text.replace(sub, wrong)) == said
    assert refusal(text.replace("in: l.level", "in: l.levl")) == (
        "follow.yaml:7:52: nodes.a.in: node l has no output 'levl'. Did you mean 'level'?"
    )
    write(EYE.replace("inputs: {", "inputs: {other: Reading, "), "parts/eye.yaml")
    assert refusal(text.replace("left.image}", "left.image, other: left.image}")) == (
        "parts/eye.yaml:1:17: inputs.other: nothing inside uses this input. Connect it to a node, "
        "or drop it."
    )
    write(EYE.replace("Image", "Reading"), "parts/eye.yaml")
    assert refusal(text) == (
        "follow.yaml:5:42: nodes.l.in.image: left.image gives Image, the input wants Reading "
        "(parts/eye.yaml:1:17). Put a node between that converts."
    )


def test_a_sub_graph_of_itself_is_refused() -> None:
    write("inputs: {image: Image}\nnodes:\n  in: {graph: eye.yaml, in: image}\n", "eye.yaml")
    text = "graph: two\ndevices: {left: camera}\nnodes:\n  l: {graph: eye.yaml, in: left.image}\n"
    assert refusal(text) == (
        "eye.yaml:3:15: nodes.in.graph: sub-graphs nested deeper than 20. Is it its own?"
    )


# --- recordings -------------------------------------------------------------------------------


def test_a_recording_is_wired_again_from_the_texts_that_it_keeps() -> None:
    write("devices: {front: camera, neck: servos}\n", "parts/devices.yaml")
    write(
        "inputs: {image: Image}\noutputs: {parts: boxes}\nnodes:\n"
        "  boxes: {node: haihe.pipelines.worlds.ideal:ideal_detector, in: image}\n",
        "parts/eye.yaml",
    )
    text = (
        "graph: follow\ninclude: [parts/devices.yaml]\nparams: {label: nut}\nnodes:\n"
        "  eye: {graph: parts/eye.yaml, in: front.image}\n"
        "  aim:\n    node: pursue\n    in: {parts: eye.parts, neck: neck.state}\n"
        "    params: {label: $label}\ncommands: {neck: aim}\n"
    )
    graph = load_graph(write(text), {"label": "washer", "eye/boxes.label": "washer"})
    ideal = {"ideal": True}
    simulate(graph, "300ms", unit="pan-tilt", world=ideal, record="run.mcap")
    for name in ("follow.yaml", "parts/devices.yaml", "parts/eye.yaml"):
        write("graph: changed since\n", name)
    report = replay("run.mcap")
    assert report.ok, report


def test_the_graphs_of_the_page_in_the_docs() -> None:
    page = (EXAMPLES.parent / "graphs.md").read_text(encoding="utf-8")
    blocks = [block.partition("```")[0] for block in page.split("```yaml\n")[1:]]
    follow, values, eyes = (block.replace("app:", "graph_file_docs:") for block in blocks)
    write(
        f"from {PARTS} import Mode, Pose, aim, linear as score, look\n"
        "from haihe import node\nfrom haihe.types import Detections\n\n@node\n"
        "def confident(parts: Detections, least: float) -> Detections:\n    return parts\n",
        "graph_file_docs.py",
    )
    assert load_graph_file(write(follow)).nodes["aim"].constants["gain"] == 0.8
    lines = [line.partition("#")[0].rstrip() for line in values.splitlines()]
    typed = {key: value for key, _, value in (line.partition(": ") for line in lines)}
    names = {"start": "start", "mode": "mode", "grid": "matrix", "curve": "curve", "more": "scale"}
    params = ", ".join(f"{names[key]}: {value}" for key, value in typed.items())
    graph = load_graph_file(write(estimate(f"{{{params}}}") + (
        f"feedback: {{x: {{from: e, initial: {{type: {PARTS}:Pose, x: 1}}}}}}\n"
    )))  # fmt: skip
    constants = graph.nodes["e"].constants
    assert constants["mode"] is graph_parts.Mode.FAST
    assert constants["curve"] is graph_parts.linear
    assert constants["matrix"].dtype.name == "float32"
    assert constants["scale"].name == "mg/L"
    eye, used = eyes.split("---\n")
    write(eye, "eye.yaml")
    graph = load_graph_file(
        write("graph: eyes\ndevices: {left_camera: camera, neck: servos}\n" + used)
    )
    assert list(graph.nodes) == ["left/part", "left/good", "aim"]
    assert graph.nodes["left/good"].constants == {"least": 0.6}
