"""Pre-processing against plain cv2 and numpy, bit for bit, and without allocation."""

import tracemalloc
from typing import Any

import cv2
import numpy as np
import pytest

from haihe.models.manifest import InputSpec, Letterbox
from haihe.models.pre.letterbox import Preprocessor, place
from haihe.runtime.errors import ModelError

RNG = np.random.default_rng(3)
SIZES = [(640, 480), (97, 211), (320, 240), (1, 1), (500, 3)]
MEAN, STD = (123.5, 117.0, 104.25), (58.0, 57.5, 57.25)


def spec_of(**changes) -> InputSpec:
    fields: dict[str, Any] = {
        "name": "image",
        "layout": "NCHW",
        "dtype": "float32",
        "size": (160, 128),
        "colour": "BGR",
        "resize": "letterbox",
    }
    return InputSpec(**(fields | changes))


def plain(spec: InputSpec, picture: np.ndarray) -> np.ndarray:
    """The same in the obvious way."""
    width, height = spec.size
    canvas: np.ndarray
    if spec.resize == "stretch":
        canvas = cv2.resize(picture, (width, height))
    else:
        h, w = picture.shape[:2]
        ratio = min(width / w, height / h)
        w, h = max(1, round(w * ratio)), max(1, round(h * ratio))
        canvas = np.full((height, width, 3), spec.letterbox.pad, np.uint8)
        is_centred = spec.letterbox.corner == "centre"
        x, y = ((width - w) // 2, (height - h) // 2) if is_centred else (0, 0)
        canvas[y : y + h, x : x + w] = cv2.resize(picture, (w, h))
    if spec.colour == "RGB":
        canvas = canvas[:, :, ::-1]
    if spec.dtype == "float32":
        scaled = canvas.astype(np.float32) * np.float32(spec.scale)
        mean, std = (np.array(values, np.float32) for values in (spec.mean, spec.std))
        canvas = (scaled - mean) / std
    return canvas[None] if spec.layout == "NHWC" else canvas.transpose(2, 0, 1)[None]


KINDS: list[dict[str, Any]] = [
    {"dtype": "uint8", "letterbox": Letterbox("centre", 0)},
    {"dtype": "float32"},
    {"scale": 1 / 255, "letterbox": Letterbox("centre", 7)},
    {"mean": MEAN, "std": STD},
    {"scale": 1 / 255, "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)},
]
VARIANTS = [
    {"layout": layout, "colour": colour, "resize": resize, **kind}
    for layout in ("NCHW", "NHWC")
    for colour in ("BGR", "RGB")
    for resize in ("stretch", "letterbox")
    for kind in KINDS
]


@pytest.mark.parametrize("changes", VARIANTS, ids=range(len(VARIANTS)))
def test_it_equals_the_plain_way(changes) -> None:
    spec = spec_of(**changes)
    buffer = np.zeros(spec.shape, spec.dtype)
    fill = Preprocessor(spec, buffer)
    for width, height in [*SIZES, SIZES[0]]:  # the pad of a size must not stay for the next
        picture = RNG.integers(0, 256, (height, width, 3), np.uint8)
        for view in (picture, picture[::-1], picture[:, ::-1], picture[:, :, ::-1]):
            fill(view)
            np.testing.assert_array_equal(buffer, plain(spec, np.ascontiguousarray(view)))


@pytest.mark.parametrize("changes", VARIANTS, ids=range(len(VARIANTS)))
def test_a_steady_frame_allocates_no_array(changes) -> None:
    spec = spec_of(**changes)
    fill = Preprocessor(spec, np.zeros(spec.shape, spec.dtype))
    picture = RNG.integers(0, 256, (480, 640, 3), np.uint8)
    for _ in range(3):
        fill(picture)
    tracemalloc.start()
    try:
        base = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        for _ in range(5):
            fill(picture)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak - base < 4096


@pytest.mark.parametrize("resize", ["stretch", "letterbox"])
@pytest.mark.parametrize("corner", ["top-left", "centre"])
@pytest.mark.parametrize(("width", "height"), SIZES)
def test_boxes_come_back(resize, corner, width, height) -> None:
    spec = spec_of(resize=resize, letterbox=Letterbox(corner))
    placement = place(spec, width, height)
    inner = [placement.x, placement.y]
    inner += [placement.x + placement.width, placement.y + placement.height]
    assert 0 <= inner[0] < inner[2] <= 160
    assert 0 <= inner[1] < inner[3] <= 128
    found = placement.to_source(np.array([inner], np.float32))
    np.testing.assert_allclose(found, [[0, 0, width, height]], atol=1e-4)
    assert found.dtype == np.float32


def test_a_picture_of_the_wrong_kind_is_refused() -> None:
    spec = spec_of()
    fill = Preprocessor(spec, np.zeros(spec.shape, np.float32))
    message = r"the image is \[4, 4\] uint8, expected \[height, width, 3\] uint8 BGR"
    with pytest.raises(ModelError, match=message):
        fill(np.zeros((4, 4), np.uint8))
    with pytest.raises(ModelError, match=r"the image is \[4, 4, 3\] float32"):
        fill(np.zeros((4, 4, 3), np.float32))
    with pytest.raises(ModelError, match=r"the image is empty. Check the camera"):
        fill(np.zeros((0, 4, 3), np.uint8))


def test_an_input_that_differs_from_the_manifest_is_refused() -> None:
    message = r"the model has \[1, 3, 4, 4\] float32, expected \[1, 3, 128, 160\] float32. Correct"
    with pytest.raises(ModelError, match=message):
        Preprocessor(spec_of(), np.zeros((1, 3, 4, 4), np.float32))
    with pytest.raises(ModelError, match=r"uint8, expected \[1, 3, 128, 160\] float32"):
        Preprocessor(spec_of(), np.zeros((1, 3, 128, 160), np.uint8))
