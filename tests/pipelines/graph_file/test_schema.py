"""The JSON schema of YAML graphs: up to date, takes what the loader takes, not what is wrong."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from haihe.pipelines.graph_file import dump_graph
from haihe.pipelines.graph_file import schema as graph_schema
from haihe.pipelines.load import load_graph
from haihe.runtime import registry, yaml_config

ROOT = Path(__file__).parents[3]
SHIPPED = [
    path
    for folder in ("pipelines", "docs", "src/haihe/scaffold")
    for path in sorted((ROOT / folder).rglob("*.yaml"))
    if "graph" in yaml_config.loads(path.read_text(encoding="utf-8"), dict)
]
GOOD = "graph: a\ndevices: {front: camera, neck: servos}\nnodes:\n"

WRONG = {
    "an unknown key": ("graph: a\nnode: {}\n", "node"),
    "a wrong name": ("graph: a.b\n", "graph"),
    "an unknown kind of device": ("graph: a\ndevices: {front: camra}\n", "devices/front"),
    "an unknown node": (GOOD + "  aim: {node: persue, in: {}}\n", "nodes/aim/node"),
    "nothing": (GOOD + "  aim: {in: front.image}\n", "nodes/aim"),
    "two things": (GOOD + "  aim: {node: app:aim, model: part}\n", "nodes/aim"),
    "a constant of a detector": (
        GOOD + "  part: {model: part, in: front.image, params: {thresold: 0.1}}\n",
        "nodes/part/params",
    ),
    "a constant's type": (
        GOOD + "  part: {model: part, in: front.image, params: {threads: few}}\n",
        "nodes/part/params/threads",
    ),
    "an input of a node of haihe": (
        GOOD + "  aim: {node: pursue, in: {part: front.image, neck: neck.state}}\n",
        "nodes/aim/in",
    ),
    "a source": (GOOD + "  aim: {node: app:aim, in: a.b.c}\n", "nodes/aim/in"),
    "a range": ("graph: a\nparams: {t: {default: 1, range: [0]}}\n", "params/t"),
    "a policy": ("graph: a\nthreads: {t: {lanes: [aim], policy: fife}}\n", "threads/t/policy"),
    "no nodes": ("graph: a\nprocesses: {p: {nodes: []}}\n", "processes/p/nodes"),
    "a thread of a process": ("graph: a\nprocesses: {p: {threads: [t]}}\n", "processes/p"),
    "a feedback": ("graph: a\nfeedback: {was: {from: aim, initial: 0}}\n", "feedback/was/initial"),
    "an include": ("graph: a\ninclude: camera.yaml\n", "include"),
}


def validator() -> Any:
    text = json.loads(graph_schema.FILE.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(text)
    return jsonschema.Draft202012Validator(text)


def wrong_places(text: str) -> set[str]:
    found = validator().iter_errors(yaml_config.loads(text, object))
    return {"/".join(map(str, error.absolute_path)) for error in found}


def test_the_file_is_up_to_date() -> None:
    assert graph_schema.FILE.read_text(encoding="utf-8") == graph_schema.schema(), (
        "python -m haihe.pipelines.graph_file.schema writes it"
    )
    assert graph_schema.main(["--check"]) == 0


def test_there_are_shipped_graphs() -> None:
    assert ROOT / "docs" / "examples" / "follow.yaml" in SHIPPED


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_every_shipped_graph_is_valid_and_loads(path: Path) -> None:
    assert wrong_places(path.read_text(encoding="utf-8")) == set()
    assert load_graph(str(path)).nodes


@pytest.mark.parametrize("name", registry.names("pipeline"))
def test_every_pipeline_as_a_file_is_valid(name: str) -> None:
    assert wrong_places(dump_graph(load_graph(name))) == set()


def test_every_form_is_valid() -> None:
    assert (
        wrong_places(
            "graph: $name\ninclude: [a.yaml]\n"
            "params: {name: a, t: {default: 1, range: [0, 2]}, many: [1, 2]}\n"
            "inputs: {image: Image, pose: app:Pose}\noutputs: {parts: eye.parts}\n"
            "devices: {front: camera, neck: servos}\n"
            "feedback: {was: {from: est, initial: {type: app:Pose, x: 0.0}}}\n"
            "nodes:\n  part: {model: my/part.yaml, in: front.image, params: {threshold: $t}}\n"
            "  left/part: {node: app:Eye.look, in: {image: front.image}, params: {a: [{b: c}]}}\n"
            "  eye: {graph: eye.yaml, in: front.image, params: {gain: $t}}\n"
            "  aim: {node: pursue, in: {parts: left/part, neck: neck.state}, params: {label: 5}}\n"
            "commands: {neck.command: aim}\nthreads: {t: {lanes: [left/part], policy: fifo}}\n"
            "processes: {p: {nodes: [part, left/part]}}\n"
        )
        == set()
    )


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_file_is_refused_at_its_place(name: str) -> None:
    text, place = WRONG[name]
    expected = {""} if name == "an unknown key" else {place}
    assert wrong_places(text) == expected
