"""Detectors against pipelines written out in cv2 and numpy, and against golden results."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from tests.reference import REFERENCE, reference

from haihe.models.detector import Detector
from haihe.models.manifest import ZOO
from haihe.runtime.errors import ModelError
from haihe.runtime.types import Image, Intrinsics

Row = tuple[Any, ...]
OBJECTS = ["dog.jpg", "fastestdet_1.jpg", "fastestdet_3.jpg"]
FACES = ["satya.jpg", "sergey.png", "ultraface_2.jpg", "ultraface_12.jpg", "ultraface_10.jpg"]
GOLDEN = {
    "yolox_nano": ("detect/yolox_nano.onnx", "objects", OBJECTS),
    "fastestdet": ("detect/FastestDet.onnx", "objects", OBJECTS),
    "ultraface_rfb": ("face/version-RFB-320.onnx", "faces", FACES),
}
CASES = [(model, name) for model, (_, _, names) in GOLDEN.items() for name in names]


@pytest.fixture
def opened(monkeypatch):
    """Open detectors of reference models; closes them."""
    monkeypatch.setenv("HAIHE_REFERENCE", str(REFERENCE))
    made = []

    def open_one(model: str) -> Detector:
        detector = Detector(model)
        made.append(detector)
        detector.open()
        return detector

    yield open_one
    for detector in made:
        detector.close()


def picture_of(folder: str, name: str) -> np.ndarray:
    picture: np.ndarray | None = cv2.imread(str(reference(f"data/images/{folder}/{name}")))
    assert picture is not None
    return picture


def run(path: Path, blob: np.ndarray) -> list[np.ndarray]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    made: list[np.ndarray] = session.run(
        None, {session.get_inputs()[0].name: blob.astype(np.float32)}
    )
    return made


def plain_nms(rows: list[Row], limit: float, by_class: bool) -> list[Row]:
    """rows: (score, class, x1, y1, x2, y2)."""
    kept: list[Row] = []
    for row in sorted(rows, key=lambda row: -row[0]):
        for other in kept:
            width = min(row[4], other[4]) - max(row[2], other[2])
            height = min(row[5], other[5]) - max(row[3], other[3])
            common = max(width, 0) * max(height, 0)
            areas = [(r[4] - r[2]) * (r[5] - r[3]) for r in (row, other)]
            is_rival = not by_class or row[1] == other[1]
            if is_rival and common > limit * (sum(areas) - common):
                break
        else:
            kept.append(row)
    return kept


def plain_yolox(path: Path, picture: np.ndarray) -> list[Row]:
    h, w = picture.shape[:2]
    ratio = min(416 / h, 416 / w)
    inner = cv2.resize(picture, (round(w * ratio), round(h * ratio)))
    canvas = np.full((416, 416, 3), 114, np.uint8)
    canvas[: inner.shape[0], : inner.shape[1]] = inner
    (output,) = run(path, canvas.transpose(2, 0, 1)[None])
    rows, index = [], 0
    fx, fy = w / inner.shape[1], h / inner.shape[0]
    for stride in (8, 16, 32):
        for y in range(416 // stride):
            for x in range(416 // stride):
                px, py, pw, ph, objectness, *classes = output[0, index].astype(float)
                index += 1
                score = objectness * max(classes)
                if score > 0.3:
                    cx, cy = (px + x) * stride, (py + y) * stride
                    bw, bh = np.exp(pw) * stride / 2, np.exp(ph) * stride / 2
                    box = ((cx - bw) * fx, (cy - bh) * fy, (cx + bw) * fx, (cy + bh) * fy)
                    rows.append((score, int(np.argmax(classes)), *box))
    return plain_nms(rows, 0.45, by_class=False)


def plain_fastestdet(path: Path, picture: np.ndarray) -> list[Row]:
    h, w = picture.shape[:2]
    blob = cv2.resize(picture, (352, 352)).transpose(2, 0, 1)[None] / 255
    (output,) = run(path, blob)
    rows = []
    for y in range(22):
        for x in range(22):
            objectness, dx, dy, dw, dh, *classes = output[0, :, y, x].astype(float)
            score = objectness**0.6 * max(classes) ** 0.4
            if score > 0.65:
                cx, cy = (x + np.tanh(dx)) / 22 * w, (y + np.tanh(dy)) / 22 * h
                bw, bh = w / (1 + np.exp(-dw)) / 2, h / (1 + np.exp(-dh)) / 2
                box = (cx - bw, cy - bh, cx + bw, cy + bh)
                rows.append((score, int(np.argmax(classes)), *box))
    return plain_nms(rows, 0.45, by_class=True)


def plain_ultraface(path: Path, picture: np.ndarray) -> list[Row]:
    h, w = picture.shape[:2]
    rgb = cv2.cvtColor(cv2.resize(picture, (320, 240)), cv2.COLOR_BGR2RGB).astype(np.float32)
    scores, boxes = run(path, ((rgb - 127) / 128).transpose(2, 0, 1)[None])
    rows = [
        (float(score), 0, *(box * (w, h, w, h)).tolist())
        for (_, score), box in zip(scores[0], boxes[0].astype(float), strict=True)
        if score > 0.7
    ]
    return plain_nms(rows, 0.3, by_class=True)


PLAIN = {
    "yolox_nano": plain_yolox,
    "fastestdet": plain_fastestdet,
    "ultraface_rfb": plain_ultraface,
}


@pytest.mark.parametrize(("model", "name"), CASES)
def test_it_equals_the_plain_pipeline(opened, model: str, name: str) -> None:
    file, folder, _ = GOLDEN[model]
    picture = picture_of(folder, name)
    expected = PLAIN[model](reference(f"models/{file}"), picture)
    found = opened(model)(Image(picture))
    h, w = picture.shape[:2]
    assert len(found) == len(expected) > 0
    assert found.classes.tolist() == [row[1] for row in expected]
    np.testing.assert_allclose(found.scores, [row[0] for row in expected], atol=1e-3)
    clipped = np.clip([row[2:] for row in expected], 0, [w, h, w, h])
    np.testing.assert_allclose(found.boxes, clipped, atol=0.5)


@pytest.mark.parametrize(("model", "name"), CASES)
def test_it_finds_the_golden_objects(opened, model: str, name: str) -> None:
    """expected.json allows 0.02 in the score and 3 px in the box."""
    file, folder, _ = GOLDEN[model]
    golden = json.loads(reference("models/expected.json").read_text("utf-8"))[file][name]
    found = list(opened(model)(Image(picture_of(folder, name))))
    rows = [row for row in golden if isinstance(row, list)]
    for row in rows:
        label, score, *box = row if isinstance(row[0], str) else ["face", *row]
        fits = [
            one
            for one in found
            if one.label == label
            and abs(one.score - score) <= 0.025  # the golden score is rounded
            and np.abs(np.subtract(one.box, box)).max() <= 3.5
        ]
        assert fits, (row, [(one.label, one.score, one.box) for one in found])
    counts = [row["count"] for row in golden if isinstance(row, dict)]
    assert len(found) == (counts[0] if counts else len(rows))


def test_what_a_detector_says_of_itself(opened) -> None:
    reference("models/face/version-slim-320.onnx")
    detector = opened("ultraface_slim")
    assert detector.provider == "CPUExecutionProvider"
    assert detector.labels == ("face",)
    camera = Intrinsics(640, 480, 500.0, 500.0, 320.0, 240.0)
    found = detector(Image(picture_of("faces", "sergey.png"), camera))
    assert found.camera is camera
    assert found.best("face").camera is camera
    assert found.boxes.dtype == found.scores.dtype == np.float32
    assert found.classes.dtype == np.int64
    assert detector.counters == {"broken": 0}
    detector.open()
    assert len(detector(Image(np.zeros((7, 1000, 3), np.uint8)))) == 0
    detector.close()
    detector.close()
    assert detector.provider == ""


def test_results_outlive_the_next_frame_and_the_detector(opened) -> None:
    reference("models/face/version-slim-320.onnx")
    detector = opened("ultraface_slim")
    first = detector(Image(picture_of("faces", "ultraface_2.jpg")))
    boxes = first.boxes.copy()
    detector(Image(np.zeros((240, 320, 3), np.uint8)))
    detector.close()
    np.testing.assert_array_equal(first.boxes, boxes)


def test_boxes_that_are_no_boxes_are_counted(opened) -> None:
    """A model that gives nan, inf and huge numbers neither raises nor warns nor gets through."""
    reference("models/face/version-slim-320.onnx")
    detector = opened("ultraface_slim")
    scores, boxes = np.zeros((1, 6, 2), np.float32), np.zeros((1, 6, 4), np.float32)
    scores[0, :, 1] = [0.9, 0.8, np.nan, np.inf, 1.0, 0.95]
    boxes[0] = [[0.1, 0.1, 0.2, 0.2]] * 6
    boxes[0, 1] = [np.nan, 0, 1, 1]
    boxes[0, 4] = [-3e38, -np.inf, 3e38, np.inf]
    boxes[0, 5] = [0.5, -1, 2, 2]
    detector._opened.session.run = lambda: {"scores": scores, "boxes": boxes}
    found = detector(Image(np.zeros((100, 200, 3), np.uint8)))
    np.testing.assert_allclose(found.boxes, [[100, 0, 200, 100]])
    assert detector.counters["broken"] >= 2


def test_a_call_before_open_is_refused() -> None:
    detector = Detector("part")
    assert repr(detector) == "Detector(model='part', threads=1, threshold=0.0)"
    with pytest.raises(ModelError, match=r"detector 'part': called before open\(\)"):
        detector(Image(np.zeros((4, 4, 3), np.uint8)))


CHANGES = [
    ("size: [320, 240]", "size: [160, 120]", r"is \[1, 3, 240, 320\], expected \[1, 3, 120, 160\]"),
    ("layout: NCHW", "layout: NHWC", r"is \[1, 3, 240, 320\], expected \[1, 240, 320, 3\]"),
    ("name: input", "name: image", "no input 'image', found input. Correct input.name"),
    ("nms: 0.3", "nms: 0.3, boxes: box", "no output 'box', found scores, boxes. Correct the"),
    ("decoder: ultraface", "decoder: fastestdet", "no output '758', found scores, boxes."),
    ("sha256: e9", "sha256: 00", "found sha256 e9adbd.*, expected 00adbd"),
]


@pytest.mark.parametrize(("old", "new", "message"), CHANGES, ids=[new for _, new, _ in CHANGES])
def test_a_manifest_that_does_not_fit_is_refused_at_open(
    opened, tmp_path, old, new, message
) -> None:
    reference("models/face/version-slim-320.onnx")
    text = (ZOO / "ultraface_slim.yaml").read_text("utf-8")
    assert old in text
    path = tmp_path / "wrong.yaml"
    path.write_text(text.replace(old, new), "utf-8")
    with pytest.raises(ModelError, match=f"wrong.yaml:.*{message}"):
        opened(str(path))


PART = pytest.mark.skipif(
    not (ZOO / "part.onnx").is_file(), reason="models/zoo/part.onnx is not trained yet"
)


@PART
@pytest.mark.parametrize(("width", "height"), [(320, 240), (640, 480), (100, 300), (1280, 720)])
def test_the_own_model_on_any_picture(width: int, height: int) -> None:
    detector = Detector("part")
    detector.open()
    rng = np.random.default_rng(5)
    coarse = rng.integers(0, 256, (12, 16, 3), np.uint8)
    picture = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    found = detector(Image(picture))
    again = detector(Image(picture))
    assert found.boxes.shape == (len(found), 4)
    assert (np.diff(found.scores) <= 0).all()
    assert ((found.boxes >= 0) & (found.boxes <= [width, height, width, height])).all()
    assert (found.boxes[:, :2] < found.boxes[:, 2:]).all()
    assert ((found.classes >= 0) & (found.classes < len(detector.labels))).all()
    np.testing.assert_array_equal(found.boxes, again.boxes)
    detector.close()
