"""Manifests: what the zoo says, and what is refused with its place."""

import hashlib
import re
from pathlib import Path

import pytest

from haihe.models.manifest import ZOO, find_manifest, load_manifest
from haihe.models.post import yolox
from haihe.runtime.errors import ModelError

GOOD = """\
model: thing
about: A thing.
file: thing.onnx
licence: MIT
source: nowhere
input:
  name: x
  layout: NCHW
  dtype: float32
  size: [64, 48]
  colour: RGB
  resize: letterbox
  letterbox: {corner: centre, pad: 0}
  mean: [1, 2, 3]
decoder: yolox
options: {threshold: 0.5}
labels: [a, no, 3]
accuracy: {coco: {ap: 0.258, on: val2017}}
"""


def write(folder: Path, text: str = GOOD) -> Path:
    path = folder / "thing.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("path", sorted(ZOO.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_zoo_is_sound(path: Path) -> None:
    manifest = load_manifest(path)
    assert manifest.model == path.stem
    assert manifest.licence
    if "HAIHE_REFERENCE" not in manifest.file:
        model = ZOO / manifest.file
        if not model.is_file():
            pytest.skip(f"{model} is not trained yet")
        assert manifest.sha256, f"{path}: our own model needs its sha256"
        assert hashlib.sha256(model.read_bytes()).hexdigest() == manifest.sha256
        assert manifest.read_labels()
    else:
        assert manifest.sha256


def test_fields(tmp_path: Path) -> None:
    manifest = load_manifest(write(tmp_path))
    assert manifest.options == yolox.Options(threshold=0.5)
    assert manifest.find_decoder() is yolox.decode
    assert manifest.input.shape == (1, 3, 48, 64)
    assert manifest.input.mean == (1.0, 2.0, 3.0)
    assert manifest.read_labels() == ("a", "no", "3")
    assert manifest.accuracy == {"coco": {"ap": 0.258, "on": "val2017"}}
    assert manifest.backend == "ort"
    without = load_manifest(write(tmp_path, GOOD.replace("options: {threshold: 0.5}\n", "")))
    assert without.options == yolox.Options()


def test_labels_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("螺丝\nnut \n\n", encoding="utf-8")
    text = GOOD.replace("[a, no, 3]", "names.txt")
    assert load_manifest(write(tmp_path, text)).read_labels() == ("螺丝", "nut")
    (tmp_path / "names.txt").write_bytes(b"\xff")
    with pytest.raises(ModelError, match=r"thing.yaml:17:1: labels: not UTF-8"):
        load_manifest(write(tmp_path, text)).read_labels()


def test_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models").mkdir()
    manifest = load_manifest(write(tmp_path))
    with pytest.raises(ModelError, match=r"thing.yaml:3:1: file: no file .*thing.onnx. Check the"):
        manifest.path()
    (tmp_path / "thing.onnx").touch()
    assert manifest.path() == tmp_path / "thing.onnx"
    text = GOOD.replace("file: thing", "file: ${HAIHE_REFERENCE}/models/other")
    monkeypatch.setenv("HAIHE_REFERENCE", str(tmp_path))
    with pytest.raises(ModelError, match=r"no file .*other.onnx. Set HAIHE_REFERENCE to the"):
        load_manifest(write(tmp_path, text)).path()
    (tmp_path / "models" / "other.onnx").touch()
    assert load_manifest(write(tmp_path, text)).path().name == "other.onnx"
    here = tmp_path / "checkout"
    here.mkdir()
    (tmp_path / "models").rename(tmp_path / "moved")
    (tmp_path / "shared").mkdir()
    (tmp_path / "moved").rename(tmp_path / "shared" / "models")
    monkeypatch.delenv("HAIHE_REFERENCE")
    monkeypatch.chdir(here)
    assert load_manifest(write(tmp_path, text)).path().name == "other.onnx"


def test_models_are_found_by_name_and_by_path(tmp_path: Path) -> None:
    path = write(tmp_path)
    assert find_manifest(str(path)).model == "thing"
    assert find_manifest(str(path.with_suffix(".onnx"))).model == "thing"
    assert find_manifest("yolox_nano").decoder == "yolox"
    with pytest.raises(ModelError, match=r"'yolox_nan' is not known\. Did you mean 'yolox_nano'\?"):
        find_manifest("yolox_nan")
    with pytest.raises(ModelError, match=r"other.yaml: cannot be read: No such file"):
        find_manifest(str(tmp_path / "other.onnx"))


ERRORS = [
    ("colour: RGB", "color: RGB", "thing.yaml:11:3: input: unknown key 'color'. Did you mean"),
    ("colour: RGB", "colour: RBG", "input.colour: found 'RBG', expected 'BGR' or 'RGB'."),
    ("resize: letterbox", "resize: crop", "12:11: input.resize: found 'crop', expected 'stretch'"),
    ("size: [64, 48]", "size: [0, 48]", "input: size is [0, 48], expected [width, height] of"),
    ("pad: 0", "pad: 300", "13:14: input.letterbox: pad is 300, expected 0..255."),
    ("dtype: float32", "dtype: uint8", "scale, mean and std need dtype float32; this input is"),
    ("mean: [1, 2, 3]", "std: [0, 1, 1]", "std is [0.0, 1.0, 1.0], expected values above 0."),
    (
        "decoder: yolox",
        "decoder: yolo",
        "thing.yaml:15:1: decoder: decoder 'yolo' is not known",
    ),
    ("decoder: yolox", "decoder: nms", "decoder: decoder 'nms' is not known"),
    (
        "decoder: yolox",
        "decoder: part_heat",
        "decoder 'part_heat' is not known. Did you mean 'heat'?",
    ),
    ("threshold", "treshold", "16:11: options: unknown key 'treshold'. Did you mean 'threshold'?"),
    ("0.5", "high", "thing.yaml:16:22: options.threshold: found 'high', expected a number."),
    ("licence: MIT\n", "", "thing.yaml:1:1: the key 'licence' is missing (text)."),
    ("file:", "sha256: abc\nfile:", "sha256 is 'abc', expected 64 digits 0-9a-f."),
    ("labels: [a, no, 3]", "labels: {a: 1}", "labels: found a mapping, expected a list or text."),
]


@pytest.mark.parametrize(("old", "new", "message"), ERRORS, ids=range(len(ERRORS)))
def test_errors_name_the_place(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in GOOD
    with pytest.raises(ModelError, match=re.escape(message)):
        load_manifest(write(tmp_path, GOOD.replace(old, new)))
