"""A picture into the model's input array: resize, colour order, layout, scale. No allocation.

    picture -> cv2.resize into the canvas -> planes or cells of the input, through a table of the
    256 values `(pixel * scale - mean) / std`, so that the result is the plain numpy one bit for bit

Where the input is uint8 NHWC BGR, the canvas is the input itself and nothing is left to do.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from haihe.models.manifest import InputSpec
from haihe.runtime.errors import ModelError

U8 = NDArray[np.uint8]
F32 = NDArray[np.float32]


class Placement(NamedTuple):
    """Where the source picture lies in the input: its offset and its size, all in input px."""

    source_width: int
    source_height: int
    x: int
    y: int
    width: int
    height: int

    def to_source(self, boxes: F32) -> F32:
        """Boxes (n, 4) in input px as boxes in px of the source picture; not clipped."""
        sx, sy = self.source_width / self.width, self.source_height / self.height
        scale = np.array([sx, sy, sx, sy], np.float64)
        offset = np.array([self.x, self.y, self.x, self.y], np.float64)
        return ((boxes - offset) * scale).astype(np.float32)


def place(spec: InputSpec, width: int, height: int) -> Placement:
    """Where a picture of that size goes; a letterbox rounds its sides to the nearest px."""
    model_width, model_height = spec.size
    if spec.resize == "stretch":
        return Placement(width, height, 0, 0, model_width, model_height)
    ratio = min(model_width / width, model_height / height)
    inner_width = min(model_width, max(1, round(width * ratio)))
    inner_height = min(model_height, max(1, round(height * ratio)))
    x = y = 0
    if spec.letterbox.corner == "centre":
        x, y = (model_width - inner_width) // 2, (model_height - inner_height) // 2
    return Placement(width, height, x, y, inner_width, inner_height)


class Preprocessor:
    """Fills one input array again and again; made for one session, used by one thread."""

    def __init__(self, spec: InputSpec, buffer: NDArray[Any]) -> None:
        import cv2

        if buffer.shape != spec.shape or buffer.dtype != spec.dtype:
            raise ModelError(
                f"input {spec.name!r}: the model has {list(buffer.shape)} {buffer.dtype}, expected "
                f"{list(spec.shape)} {spec.dtype}. Correct layout, size and dtype in the manifest."
            )
        self._cv2 = cv2
        self._spec = spec
        self._input = buffer[0]
        self._placement: Placement | None = None
        width, height = spec.size
        is_direct = (spec.layout, spec.dtype, spec.colour) == ("NHWC", "uint8", "BGR")
        self._canvas: U8 = self._input if is_direct else np.empty((height, width, 3), np.uint8)
        self._inner = self._canvas
        self._finish = self._pick(is_direct)

    def _pick(self, is_direct: bool) -> Callable[[], None]:
        """The step from the canvas to the input."""
        spec, is_rgb = self._spec, self._spec.colour == "RGB"
        self._tables = _tables(spec)
        self._cells = np.ascontiguousarray(self._tables.transpose(1, 2, 0))
        if spec.layout == "NHWC":
            if is_direct:
                return lambda: None
            if spec.dtype == "uint8":
                return lambda: self._swap(self._input)
            self._swapped = np.empty_like(self._canvas)
            return self._fill_cells_swapped if is_rgb else self._fill_cells
        # One plane per colour, in the order of the model; split writes blue first.
        planes = self._input if spec.dtype == "uint8" else np.empty(self._input.shape, np.uint8)
        self._planes = planes
        self._split_into = list(planes[::-1] if is_rgb else planes)
        self._targets = list(self._input)
        if spec.dtype == "uint8":
            return self._split
        return self._fill_planes_cast if spec.is_identity else self._fill_planes

    def __call__(self, picture: U8) -> Placement:
        """Write a BGR picture (height, width, 3) of any size into the input."""
        if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
            raise ModelError(
                f"input {self._spec.name!r}: the image is {list(picture.shape)} {picture.dtype}, "
                "expected [height, width, 3] uint8 BGR. Convert it first."
            )
        height, width = picture.shape[:2]
        if not height or not width:
            raise ModelError(f"input {self._spec.name!r}: the image is empty. Check the camera.")
        placement = self._placement
        if placement is None or (width, height) != placement[:2]:
            placement = self._replace(width, height)
        self._cv2.resize(
            picture,
            (placement.width, placement.height),
            dst=self._inner,
            interpolation=self._cv2.INTER_LINEAR,
        )
        self._finish()
        return placement

    def _replace(self, width: int, height: int) -> Placement:
        self._placement = found = place(self._spec, width, height)
        self._canvas[:] = self._spec.letterbox.pad
        self._inner = self._canvas[
            found.y : found.y + found.height, found.x : found.x + found.width
        ]
        return found

    def _swap(self, target: U8) -> None:
        self._cv2.cvtColor(self._canvas, self._cv2.COLOR_BGR2RGB, dst=target)

    def _split(self) -> None:
        self._cv2.split(self._canvas, self._split_into)

    def _fill_planes_cast(self) -> None:
        self._split()
        np.copyto(self._input, self._planes)

    def _fill_planes(self) -> None:
        self._split()
        for plane, table, target in zip(self._planes, self._tables, self._targets, strict=True):
            self._cv2.LUT(plane, table, dst=target)

    def _fill_cells(self) -> None:
        self._cv2.LUT(self._canvas, self._cells, dst=self._input)

    def _fill_cells_swapped(self) -> None:
        self._swap(self._swapped)
        self._cv2.LUT(self._swapped, self._cells, dst=self._input)


def _tables(spec: InputSpec) -> F32:
    """(3, 1, 256): what each pixel value becomes, per channel of the model."""
    values = np.arange(256, dtype=np.float32) * np.float32(spec.scale)
    mean = np.array(spec.mean, np.float32).reshape(3, 1, 1)
    std = np.array(spec.std, np.float32).reshape(3, 1, 1)
    tables: F32 = (values - mean) / std
    return tables
