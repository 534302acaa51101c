"""A package of others, installed beside haihe: everything it adds is found by name."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

UNIT = Path(__file__).parents[2] / "boards" / "units" / "pan-tilt.yaml"
ENTRY_POINTS = """\
[haihe.drivers]
servo.acme = acme_of_test.arm
[haihe.worlds]
acme_world = acme_of_test.world
[haihe.pipelines]
acme.follow = acme_of_test.follow
[haihe.units]
acme = acme_of_test.units
[haihe.models]
acme = acme_of_test.zoo
"""
ARM = """\
from haihe.drivers.servo.sts import SPEC
"""
WORLD = """\
from haihe.pipelines.worlds.pan_tilt import SPEC
"""
FOLLOW = """\
from haihe.drivers.roles import camera, servos
from haihe.pipelines.nodes.pursue import Pursue
from haihe.pipelines.worlds.ideal import ideal_detector
from haihe.runtime.graph import Graph


def build(label: str = "washer") -> Graph:
    with Graph("acme") as graph:
        front, neck = camera("front"), servos("neck")
        neck.command(Pursue(label)(ideal_detector(front.image), neck.state))
    return graph
"""
# in a process of its own: entry points of a fresh interpreter, and nothing is left in this one
USE = """\
from haihe.models.manifest import find_manifest
from haihe.pipelines.launch import simulate
from haihe.pipelines.load import load_graph
from haihe.runtime import registry
from haihe.testing import replay

assert registry.find_data("unit", "acme-arm").parent.name == "units"
assert registry.find_data("model", "acme-part").parent.name == "zoo"
assert find_manifest("acme-part").model == "part"
for kind, name in (("driver", "servo.acme"), ("world", "acme_world"), ("pipeline", "acme.follow")):
    assert name in registry.names(kind), kind
graph = load_graph("acme.follow", {"label": "washer"})
run = simulate(graph, "1s", unit="acme-arm", world={"ideal": True}, record="run.mcap")
assert run.executor.assembly.nodes["Pursue"].called > 30
assert replay("run.mcap").ok
print("found")
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder as `pip install --target` leaves it."""
    package = tmp_path / "site" / "acme_of_test"
    for folder in (package, package / "units", package / "zoo"):
        folder.mkdir(parents=True)
        (folder / "__init__.py").touch()
    for name, text in (("arm", ARM), ("world", WORLD), ("follow", FOLLOW)):
        (package / f"{name}.py").write_text(text)
    unit = UNIT.read_text(encoding="utf-8").replace("servo.sts", "servo.acme")
    unit = unit.replace("world: pan_tilt", "world: acme_world")
    (package / "units" / "acme-arm.yaml").write_text(unit.replace("unit: pan-tilt", "unit: acme"))
    zoo = UNIT.parents[2] / "models" / "zoo"
    model = (zoo / "part.yaml").read_text(encoding="utf-8")
    (package / "zoo" / "acme-part.yaml").write_text(model)
    if (zoo / "part.onnx").exists():
        shutil.copy(zoo / "part.onnx", package / "zoo")
    about = tmp_path / "site" / "acme_of_test-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: acme_of_test\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(ENTRY_POINTS)
    return tmp_path / "site"


def test_a_distribution_of_others_adds_driver_world_pipeline_unit_and_model(
    site: Path, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", USE],
        cwd=tmp_path, env={"PYTHONPATH": str(site), "PATH": "", "HOME": str(tmp_path)},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == "found\n"
