"""Graph files for the tests: written in the working folder, loaded, refused."""

from pathlib import Path

import pytest

from haihe.pipelines.graph_file import load_graph_file
from haihe.runtime.errors import HaiheError

PARTS = "tests.pipelines.graph_parts"
HEAD = "graph: follow\ndevices: {front: camera, neck: servos}\nnodes:\n"
LOOK = f"  part: {{node: {PARTS}:look, in: front.image}}\n"


def write(text: str, name: str = "follow.yaml") -> str:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return name


def refusal(text: str, **parameters: object) -> str:
    with pytest.raises(HaiheError) as caught:
        load_graph_file(write(text), parameters)
    return str(caught.value)


def estimate(params: str) -> str:
    return f"{HEAD}  e: {{node: {PARTS}:Estimate, in: {{before: x}}, params: {params}}}\n"
