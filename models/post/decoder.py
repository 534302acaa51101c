"""What a decoder is. One file per kind of model head in models/post; the file name is its id.

A decoder module has a frozen dataclass `Options` (the manifest's `options`, checked key by key)
and a pure function

    decode(outputs, options, size) -> RawBoxes

with the model's output arrays by name (valid only during the call) and its input size (width,
height) in px. It returns what it found, best score first, in px of the model's input.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from haihe.runtime import registry
from haihe.runtime.errors import ModelError

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]
Outputs = Mapping[str, NDArray[Any]]


class RawBoxes(NamedTuple):
    """Boxes (n, 4) x1 y1 x2 y2 in px of the model's input, scores (n,), classes (n,)."""

    boxes: F32
    scores: F32
    classes: I64


class Decoder(Protocol):
    """The signature of `decode`."""

    def __call__(self, outputs: Outputs, options: Any, size: tuple[int, int], /) -> RawBoxes: ...


def find_decoder(name: str) -> tuple[Decoder, type[Any]]:
    """The function and the options class of models/post/<name>.py. Raises ModelError."""
    module = registry.load("decoder", name, ModelError)
    return module.decode, module.Options


def take(outputs: Outputs, name: str, *shape: int) -> F32:
    """An output by name, its shape checked (-1: any size). Raises ModelError."""
    if name not in outputs:
        raise ModelError(
            f"decoder: no output {name!r}, found {', '.join(outputs)}. Correct the names in the "
            "manifest's options."
        )
    found = outputs[name]
    fits = found.ndim == len(shape) and all(
        s in (-1, f) for s, f in zip(shape, found.shape, strict=True)
    )
    if not fits:
        raise ModelError(
            f"decoder: output {name!r} is {list(found.shape)}, expected {list(shape)} (-1: any). "
            "Correct the manifest's decoder or input size."
        )
    return found.astype(np.float32, copy=False)
