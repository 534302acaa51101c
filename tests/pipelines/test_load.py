"""A graph by what a person writes: a file, a file and a name, a pipeline."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from haihe.pipelines.load import graph_of_recording, load_graph
from haihe.runtime import registry
from haihe.runtime.errors import PlanError

WIRE = """\
from haihe.drivers.roles import camera, servos
from haihe.pipelines.nodes.pursue import Pursue
from haihe.pipelines.worlds.ideal import ideal_detector
from haihe.runtime.graph import Graph

def wire(name):
    with Graph(name) as graph:
        front, neck = camera("front"), servos("neck")
        neck.command(Pursue()(ideal_detector(front.image), neck.state))
    return graph

"""


@pytest.fixture(autouse=True)
def clean_import() -> Iterator[None]:
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if name.startswith("load_of_test"):
            del sys.modules[name]


def app(folder: Path, text: str, name: str = "load_of_test") -> str:
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.py"
    path.write_text(WIRE + text)
    return str(path)


def refusal(name: str, **parameters: object) -> str:
    with pytest.raises(PlanError) as caught:
        load_graph(name, parameters)
    return str(caught.value)


def test_a_file_with_one_graph_under_any_names(tmp_path: Path) -> None:
    path = app(tmp_path, "g = main = wire('follow')\n")
    graph = load_graph(path)
    assert graph.name == "follow"
    assert graph.file == path
    assert load_graph(path) is graph
    assert load_graph(f"{path}:main") is load_graph(f"{path}:follow") is graph


def test_of_several_graphs_one_is_chosen_by_variable_or_name(tmp_path: Path) -> None:
    path = app(tmp_path, "a = wire('one')\nb = wire('two')\n", "load_of_test_two")
    assert load_graph(f"{path}:b").name == "two"
    assert load_graph(f"{path}:one").name == "one"
    assert refusal(path) == (
        f"{path}: 2 graphs at its top level (a, b), expected one. Write {path}:NAME to choose, or "
        "wire one with `with Graph(...) as g:`."
    )
    assert refusal(f"{path}:c") == f"{path}: no graph 'c' in it. Found: a, b."


def test_a_file_without_a_graph_says_how_one_is_made(tmp_path: Path) -> None:
    path = app(tmp_path, "", "load_of_test_none")
    assert refusal(path) == (
        f"{path}: 0 graphs at its top level (none), expected one. Write {path}:NAME to choose, or "
        "wire one with `with Graph(...) as g:`."
    )


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert refusal(str(tmp_path / "app.py")) == f"{tmp_path}/app.py: no such file."


@pytest.mark.parametrize(
    ("body", "line", "said"),
    [
        ("import load_of_test_nowhere", 2, "ModuleNotFoundError: No module named "
         "'load_of_test_nowhere'"),
        ("if True", 2, "SyntaxError: expected ':'"),
        ("def f():\n    return 1 / 0\nf()", 3, "ZeroDivisionError: division by zero"),
    ],
)  # fmt: skip
def test_a_file_that_raises_is_said_in_one_line(
    tmp_path: Path, body: str, line: int, said: str
) -> None:
    path = tmp_path / "load_of_test_broken.py"
    path.write_text(f"x = 1\n{body}\n", "utf-8")
    assert refusal(str(path)) == (
        f"{path}:{line}: {said}. Mend it; `python {path}` shows the traceback."
    )


def test_a_file_of_python_has_no_parameters_of_its_own(tmp_path: Path) -> None:
    path = app(tmp_path, "g = wire('follow')\n")
    assert refusal(path, label="nut") == (
        f"{path}: it has no parameter 'label': a file's graph is what it wires. Set a constant of "
        "a node: -p NODE.CONSTANT=VALUE (nodes: ideal_detector, Pursue)."
    )


def test_a_name_that_another_module_has_is_refused(tmp_path: Path) -> None:
    first = app(tmp_path / "a", "g = wire('one')\n", "load_of_test_same")
    second = app(tmp_path / "b", "g = wire('two')\n", "load_of_test_same")
    load_graph(first)
    assert refusal(second) == (
        f"{second}: a module named 'load_of_test_same' is loaded already ({first}). Rename the "
        "file."
    )


@pytest.mark.parametrize("name", registry.names("pipeline"))
def test_every_pipeline_is_built_with_its_defaults(name: str) -> None:
    graph = load_graph(name)
    assert graph.nodes
    assert graph.origin == {"pipeline": name, "parameters": {}}


def test_a_pipeline_takes_parameters_and_is_wired_again_from_a_header() -> None:
    graph = load_graph("robot.follow", {"label": "nut"})
    assert graph.nodes["Pursue"].constants["label"] == "nut"
    header = {"source": {"file": graph.file, **graph.origin}, "graph": graph.name}
    assert graph_of_recording(header).nodes["Pursue"].constants["label"] == "nut"


def test_an_unknown_pipeline_gets_the_nearest() -> None:
    assert refusal("robot.folow") == (
        "pipeline 'robot.folow' is not known. Did you mean 'robot.follow'?"
    )


def test_an_unknown_parameter_is_named() -> None:
    assert refusal("robot.follow", lable="nut") == (
        "pipeline robot.follow: it has no parameter 'lable'. Did you mean 'label'? It has: "
        "model='part', label='washer', predict=True, lag_s=0.03, threshold=0.2."
    )


def test_a_recording_finds_its_file_in_this_folder_or_says_where_to_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = app(tmp_path / "here", "g = wire('follow')\n", "load_of_test_moved")
    header = {"source": {"file": "/elsewhere/load_of_test_moved.py"}, "graph": "follow"}
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PlanError) as caught:
        graph_of_recording(header)
    assert str(caught.value) == (
        "the recording was made by /elsewhere/load_of_test_moved.py, which is not here. Replay it "
        "in the folder of load_of_test_moved.py."
    )
    monkeypatch.chdir(tmp_path / "here")
    assert graph_of_recording(header).file == path
