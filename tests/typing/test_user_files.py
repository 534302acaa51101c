"""What a user writes, under `mypy --strict` and strict pyright: good files and misuse."""

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

CASES = Path(__file__).parent / "cases"
BIN = Path(sys.executable).parent
README = (CASES.parents[2] / "README.md").read_text()
# the README's own text, block by block: those that are whole files
BLOCKS = [
    block
    for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    if block.startswith(("from ", "import "))
]
GOOD = {f"good_readme_{number}.py": block for number, block in enumerate(BLOCKS, start=1)}
GOOD |= {path.name: path.read_text() for path in sorted(CASES.glob("good_*.py"))}

PREAMBLE = """\
from dataclasses import dataclass
from typing import Annotated, NamedTuple, TypeVar

from haihe import Graph, camera, detector, feedback, fresh, node, servos, subgraph
from haihe.types import Detections, Image, JointCommand, JointState, Message, Reading

M = TypeVar("M", bound=Message)


class Pair(NamedTuple):
    left: Image
    right: Image


@node(every="20ms")
def aim(
    parts: Annotated[Detections, fresh("120ms")],
    neck: Annotated[JointState, fresh("25ms")],
    gain: float = 0.3,
) -> JointCommand:
    return neck.towards(parts.best(), gain)


@node
def hold(value: M) -> M:
    return value


@node
def split(image: Image) -> Pair:
    return Pair(image, image)


@node
@dataclass
class Mean:
    count: int = 3
    _sum: float = 0.0

    def __call__(self, value: Reading) -> Reading:
        return value


@subgraph
def eye(image: Image, model: str = "part") -> Detections:
    return detector(model)(image)


with Graph("bad") as g:
    cam, neck = camera("front"), servos("neck")
    parts = detector("part")(cam.image)
    previous, feed = feedback(Reading(0.0))
"""


@dataclass(frozen=True)
class Misuse:
    """One line of user code that both tools refuse, and a stable part of what they say."""

    name: str
    line: str
    mypy: str
    pyright: str


ARGUMENT = r'Argument of type "{}" cannot be assigned to parameter "{}" of type "{}"'
MISUSES = [
    Misuse(
        "wrong_type_to_a_node",
        "aim(cam.image, neck.state)",
        'Argument 1 to "aim" has incompatible type "Image"; expected "Detections"',
        ARGUMENT.format("Image", "parts", "Detections"),
    ),
    Misuse(
        "wrong_type_to_a_port",
        "neck.command(neck.state)",
        'Argument 1 to "command" of "Servos" has incompatible type "JointState"; '
        'expected "JointCommand"',
        ARGUMENT.format("JointState", "value", "JointCommand"),
    ),
    Misuse(
        "wrong_type_to_a_model",
        'detector("part")(parts)',
        'Argument 1 has incompatible type "Detections"; expected "Image"',
        'Argument of type "Detections" cannot be assigned to parameter of type "Image"',
    ),
    Misuse(
        "wrong_type_to_a_sub_graph",
        "eye(neck.state)",
        'Argument 1 to "eye" has incompatible type "JointState"; expected "Image"',
        ARGUMENT.format("JointState", "image", "Image"),
    ),
    Misuse(
        "wrong_keyword_of_a_sub_graph",
        'eye(cam.image, modle="part")',
        'Unexpected keyword argument "modle" for "eye"',
        'No parameter named "modle"',
    ),
    Misuse(
        "wrong_type_from_a_sub_graph",
        "neck.command(eye(cam.image))",
        'Argument 1 to "command" of "Servos" has incompatible type "Detections"; '
        'expected "JointCommand"',
        ARGUMENT.format("Detections", "value", "JointCommand"),
    ),
    Misuse(
        "wrong_type_to_a_feedback",
        "feed(cam.image)",
        'Argument 1 has incompatible type "Image"; expected "Reading"',
        'Argument of type "Image" cannot be assigned to parameter of type "Reading"',
    ),
    Misuse(
        "wrong_type_to_a_class_node",
        "Mean()(cam.image)",
        'Argument 1 to "__call__" of "Mean" has incompatible type "Image"; expected "Reading"',
        ARGUMENT.format("Image", "value", "Reading"),
    ),
    Misuse(
        "missing_input",
        "aim(parts)",
        'Missing positional argument "neck" in call to "aim"',
        'Argument missing for parameter "neck"',
    ),
    Misuse(
        "wrong_keyword_of_a_function",
        "aim(parts, neck.state, gian=0.5)",
        'Unexpected keyword argument "gian" for "aim"',
        'No parameter named "gian"',
    ),
    Misuse(
        "wrong_keyword_of_a_constructor",
        "Mean(cuont=4)(previous)",
        'Unexpected keyword argument "cuont" for "Mean"',
        'No parameter named "cuont"',
    ),
    Misuse(
        "unpack_arity",
        "a, b, c = split(cam.image)",
        "Need more than 2 values to unpack (3 expected)",
        'Expression with type "Pair" cannot be assigned to target tuple',
    ),
    Misuse(
        "wrong_type_of_a_constant",
        'aim(parts, neck.state, "fast")',
        'Argument 3 to "aim" has incompatible type "str"; expected "float"',
        'Argument of type "Literal[\'fast\']" cannot be assigned to parameter "gain"',
    ),
    Misuse(
        "none_for_a_required_input",
        "aim(None, neck.state)",
        'Argument 1 to "aim" has incompatible type "None"; expected "Detections"',
        ARGUMENT.format("None", "parts", "Detections"),
    ),
    Misuse(
        "wrong_type_through_a_generic_node",
        "aim(hold(cam.image), neck.state)",
        'has incompatible type "Image"; expected "Detections"',
        'Argument of type "Image" cannot be assigned to parameter',
    ),
    Misuse(
        "unknown_port",
        "hold(cam.picture)",
        '"Camera" has no attribute "picture"',
        'Cannot access attribute "picture" for class "Camera"',
    ),
    Misuse(
        "assigning_to_a_port",
        "cam.image = cam.image",
        'Property "image" defined in "Camera" is read-only',
        'Cannot assign to attribute "image" for class "Camera"',
    ),
    Misuse(
        "no_message_to_a_bound_type_variable",
        "hold(3)",
        'Value of type variable "M" of "hold" cannot be "int"',
        'Argument of type "Literal[3]" cannot be assigned to parameter "value" of type "M@hold"',
    ),
]


@dataclass(frozen=True)
class Finding:
    """One error of one tool."""

    line: int
    text: str


Findings = dict[str, list[Finding]]  # by file name


@pytest.fixture(scope="module")
def findings(tmp_path_factory) -> dict[str, Findings]:
    """Both tools, each run once over all files, side by side, outside the repository."""
    folder = tmp_path_factory.mktemp("user")
    for name, text in GOOD.items():
        (folder / name).write_text(text)
    for misuse in MISUSES:
        (folder / f"bad_{misuse.name}.py").write_text(f"{PREAMBLE}    {misuse.line}\n")
    (folder / "pyrightconfig.json").write_text('{"typeCheckingMode": "strict"}')
    (folder / "mypy.ini").write_text("[mypy]\n")
    cache = folder / "cache"  # one that is kept can make mypy fail when a module of haihe moves
    environment = os.environ | {"PYRIGHT_PYTHON_IGNORE_WARNINGS": "1", "NO_COLOR": "1"}
    commands = {
        "mypy": [
            "--strict", "--cache-dir", str(cache), "--no-error-summary", "--no-pretty",
            "--hide-error-context", "--config-file", "mypy.ini", ".",
        ],
        "pyright": ["--pythonpath", sys.executable, "--outputjson"],
    }  # fmt: skip
    running = {
        tool: subprocess.Popen(
            [BIN / tool, *arguments],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for tool, arguments in commands.items()
    }
    said = {tool: process.communicate(timeout=300) for tool, process in running.items()}
    return {"mypy": _of_mypy(*said["mypy"]), "pyright": _of_pyright(*said["pyright"])}


def _of_mypy(out: str, err: str) -> Findings:
    found: Findings = {}
    for line in out.splitlines():
        match = re.fullmatch(r"(?P<file>[^:]+):(?P<line>\d+): (?P<kind>\w+): (?P<text>.*)", line)
        assert match is not None, out + err
        if match["kind"] == "error":
            found.setdefault(match["file"], []).append(Finding(int(match["line"]), match["text"]))
    assert found, f"mypy did not run: {out}{err}"
    return found


def _of_pyright(out: str, err: str) -> Findings:
    found: Findings = {}
    report = json.loads(out or "{}")
    assert report.get("summary", {}).get("filesAnalyzed") == len(GOOD) + len(MISUSES), out + err
    for entry in report["generalDiagnostics"]:
        name = Path(entry["file"]).name
        line = entry["range"]["start"]["line"] + 1
        found.setdefault(name, []).append(Finding(line, entry["message"].replace("\xa0", " ")))
    return found


@pytest.mark.parametrize("tool", ["mypy", "pyright"])
@pytest.mark.parametrize("name", GOOD)
def test_good_user_file_has_no_error(findings, name, tool):
    assert findings[tool].get(name, []) == []


@pytest.mark.parametrize("tool", ["mypy", "pyright"])
@pytest.mark.parametrize("misuse", MISUSES, ids=lambda misuse: misuse.name)
def test_misuse_is_found_before_the_run(findings, misuse, tool):
    found = findings[tool].get(f"bad_{misuse.name}.py", [])
    bad_line = PREAMBLE.count("\n") + 1
    assert {finding.line for finding in found} == {bad_line}, found
    wanted = getattr(misuse, tool)
    assert any(wanted in finding.text for finding in found), found


def test_the_example_has_at_most_12_lines():
    lines = [line for line in BLOCKS[0].splitlines() if line and not line.startswith("#")]
    assert lines[0].startswith("from typing import")
    assert lines[-1].startswith("g.run(")
    assert len(lines) <= 12


WIRED = [name for name, text in GOOD.items() if "with Graph(" in text]


@pytest.mark.parametrize("name", WIRED)
def test_good_user_file_wires_and_is_planned(name, tmp_path):
    """The files are not only typed well: they wire, and a plan can be made."""
    import runpy

    from haihe.runtime.plan.build import DeviceTiming, make_plan

    (tmp_path / name).write_text(GOOD[name])
    graph = runpy.run_path(str(tmp_path / name), run_name="user_file")["g"]
    plan = make_plan(graph, dict.fromkeys(graph.devices, DeviceTiming(20_000_000)))
    assert plan.lanes
