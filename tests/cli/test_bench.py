"""`haihe bench` on the command line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.bench.onnx_file import chain
from tests.reference import reference

from haihe.bench.measure.protocol import from_json
from haihe.cli import main
from haihe.cli.bench import parse_cores
from haihe.runtime.errors import ModelError

HEAVY = ("numpy", "cv2", "numba", "onnxruntime", "msgspec")
SOUND = [
    "classify/mnist", "classify/mobilenet_v2_quant", "detect/FastestDet", "detect/yolox_nano",
    "face/version-RFB-320", "face/version-RFB-320_without_postprocessing", "face/version-slim-320",
    "lane_seg/twinlitenet", "licence_unclear/pfld", "ocr/ch_PP-OCRv3_det_infer",
    "ocr/ch_ppocr_mobile_v2.0_cls_infer", "tiny/dummy_addition_model_1", "tiny/identity",
    "tiny/identity_dynamic_multi", "tiny/single_relu", "track/nanotrackv2_backbone",
    "track/nanotrackv2_head",
]  # fmt: skip


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    chain(folder / "a.onnx", 2, 16)
    chain(folder / "slow.onnx", 40, 32)
    return folder


def test_help_imports_nothing_heavy() -> None:
    code = f"""
import sys
from haihe.cli import main
for words in (["--help"], ["bench", "--help"], ["bench", "model", "--help"]):
    try:
        main(words)
    except SystemExit as exc:
        assert exc.code == 0
loaded = [name for name in {HEAVY} if name in sys.modules]
assert not loaded, loaded
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


def test_json_goes_to_standard_output(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = str(models / "a.onnx")
    assert main(["bench", "model", model, "--time-limit", "100ms", "--json", "--label", "x"]) == 0
    result = from_json(capsys.readouterr().out.encode())
    assert result.settings["label"] == "x"
    assert result.series[0].samples_ns


def test_text_markdown_and_html(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["bench", "model", str(models / "a.onnx"), "--time-limit", "100ms", "--profile"]
    page = tmp_path / "r.html"
    assert main([*words, "--html", str(page)]) == 0
    assert "load " in capsys.readouterr().out
    assert page.read_text("utf-8").startswith("<!doctype html>")
    assert main([*words, "--markdown"]) == 0
    assert capsys.readouterr().out.startswith("| model |")


def write(models: Path, name: str, out: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    assert main(["bench", "model", str(models / name), "--time-limit", "1s", "--json"]) == 0
    out.write_text(capsys.readouterr().out, "utf-8")
    return out


def test_a_slowed_model_makes_compare_exit_1(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """[G] The second does some eighty times the work."""
    a = write(models, "a.onnx", tmp_path / "a.json", capsys)
    b = write(models, "slow.onnx", tmp_path / "b.json", capsys)
    assert main(["bench", "compare", str(a), str(b)]) == 1
    assert "B is slower: infer +" in capsys.readouterr().out
    assert main(["bench", "compare", str(b), str(a)]) == 0
    assert "B is faster: infer -" in capsys.readouterr().out
    other = json.loads(a.read_text("utf-8")) | {"protocol": "other"}
    b.write_text(json.dumps(other), "utf-8")
    assert main(["bench", "compare", str(a), str(b)]) == 1
    assert "protocol haihe-bench-1/1 and other/1" in capsys.readouterr().err


@pytest.mark.process
def test_runs_that_take_turns(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = (f"haihe bench model {models / name}" for name in ("a.onnx", "slow.onnx"))
    words = ["bench", "compare", "--run", a, "--run", b, "--time-limit", "1ms"]
    assert main(words) == 1
    assert "B is slower: infer +" in capsys.readouterr().out


def test_errors_are_one_clear_line(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(models / "a.onnx")
    for words, text in (
        (["model", str(tmp_path / "no.onnx")], "no.onnx: cannot be read"),
        (["model", "nothing"], "model 'nothing' is not known"),
        (["model", model, "--provider", "cuda"], "is not in this build of onnxruntime"),
        (["model", model, "--cores", "x"], "write numbers such as 2,3 or 4-7"),
        (["model", model, "--shape", "x"], "write NAME=1x3x224x224"),
        (["model", model, "--time-limit", "soon"], "is not a quantity"),
        (["compare", model], "give two results, or --run twice"),
        (["compare", model, model], "not a result of haihe bench --json"),
        (["import", model], "not a result of pytest-benchmark"),
        (["servo", "--unit", "none"], "unit 'none' is not known"),
    ):
        assert main(["bench", *words]) == 1, words
        said = capsys.readouterr().err.strip()
        assert text in said
        assert len(said.splitlines()) == 1, said


def test_cores() -> None:
    assert parse_cores("2,4-6") == (2, 4, 5, 6)
    assert parse_cores("") == ()
    with pytest.raises(ModelError, match="--cores 1-: write numbers"):
        parse_cores("1-")


def haihe(*words: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "haihe", "bench", *words], cwd=folder, capture_output=True,
        text=True, timeout=120, check=False, env=os.environ | {"HOME": str(folder)},
    )  # fmt: skip


@pytest.mark.process
@pytest.mark.parametrize("name", SOUND)
def test_a_newcomers_line_gives_a_report(name: str, tmp_path: Path) -> None:
    """[G] Any sound model, no flag, no manifest, no set-up; no file is left behind."""
    done = haihe("model", str(reference(f"models/{name}.onnx")), folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "CPUExecutionProvider" in done.stdout
    assert "infer" in done.stdout
    assert not list(tmp_path.rglob("*"))


@pytest.mark.parametrize(
    ("name", "text"),
    [("lfs_pointer_yunet", "Git LFS pointer of 131 bytes"),
     ("pytorch_superresolution_with_pre_post_processing_op18", "needs the operator")],
)  # fmt: skip
def test_a_bad_model_gives_one_clear_error(
    name: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "model", str(reference(f"models/negative/{name}.onnx"))]) == 1
    said = capsys.readouterr().err.strip()
    assert text in said
    assert len(said.splitlines()) == 1


def test_every_sound_model_is_tried() -> None:
    root = reference("models")
    found = {str(path.relative_to(root))[:-5] for path in root.glob("*/*.onnx")}
    assert {name for name in found if not name.startswith("negative/")} == set(SOUND)


@pytest.mark.process
def test_a_sweep_writes_the_costs_of_this_board(models: Path, tmp_path: Path) -> None:
    costs = tmp_path / "costs.json"
    done = haihe(
        "model", str(models / "a.onnx"), "--sweep", "--time-limit", "100ms", "--costs", str(costs),
        folder=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "no other is both faster and cheaper" in done.stdout
    found = json.loads(costs.read_text("utf-8"))["models"]["a"]
    assert 1 in [cost["threads"] for cost in found]  # which is fastest depends on the machine


@pytest.mark.process
def test_a_pipeline_from_capture_to_actuator(tmp_path: Path) -> None:
    done = haihe(
        "pipeline", "robot.follow", "--unit", "pan-tilt", "--sim", "--duration", "4s", "--json",
        folder=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = from_json(done.stdout.encode())
    stages = [series.stage for series in result.series]
    assert stages[0] == "front: delivery"
    assert stages[-1] == "total"
    assert result.settings["routes"] == ["front.image → part → Pursue → neck"]
    inside = [s.samples_ns for s in result.series if "after the first byte" not in s.stage][:-1]
    whole = result.series[-1].samples_ns
    assert [sum(parts) for parts in zip(*inside, strict=True)] == whole
    assert not list(tmp_path.rglob("*"))


@pytest.mark.process
def test_an_emulated_bus_there_and_back(tmp_path: Path) -> None:
    done = haihe("servo", "--duration", "500ms", "--json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    result = from_json(done.stdout.encode())
    assert result.name == "servo servo.sts"
    # two servos: 8 + 2 x 21 bytes and more at 1 Mbaud take their time on any machine
    assert min(result.series[0].samples_ns) > 300_000
    assert "emulated" in result.warnings[0]


@pytest.mark.process
def test_work_beside_it(models: Path, tmp_path: Path) -> None:
    model = str(models / "a.onnx")
    done = haihe(
        "model", model, "--with", f"camera,control,{model}@20", "--time-limit", "500ms", "--json",
        folder=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    counts = from_json(done.stdout.encode()).counts
    for name in ("camera", "control", "a.onnx"):
        assert counts[f"with_{name}_runs"] >= 1
