"""YOLOX heads that are not decoded in the graph: (1, n, 5 + classes), strides 8, 16, 32.

    x y w h  objectness  class 0 ...     xy = (p + grid) * stride, wh = exp(p) * stride

Objectness and classes have their sigmoid; the score is their product. Source: Megvii YOLOX,
yolox/utils/demo_utils.py; checked on dog.jpg with yolox_nano (shared/models/README.md).
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from haihe.models.post.decoder import F32, Outputs, RawBoxes, take
from haihe.models.post.nms import suppress


@dataclass(frozen=True)
class Options:
    """threshold: lowest score; nms: highest IoU of two boxes; output: its name.

    agnostic: boxes of different classes cover each other, as in the demo of YOLOX.
    """

    threshold: float = 0.3
    nms: float = 0.45
    agnostic: bool = True
    limit: int = 300
    output: str = "output"
    strides: tuple[int, ...] = (8, 16, 32)


@lru_cache(maxsize=8)
def _grid(size: tuple[int, int], strides: tuple[int, ...]) -> F32:
    """(n, 3): column, row and stride of each cell."""
    rows = []
    for stride in strides:
        y, x = np.mgrid[0 : size[1] // stride, 0 : size[0] // stride]
        rows.append(np.stack([x.ravel(), y.ravel(), np.full(x.size, stride)], axis=1))
    grid = np.concatenate(rows).astype(np.float32)
    grid.setflags(write=False)
    return grid


def decode(outputs: Outputs, options: Options, size: tuple[int, int]) -> RawBoxes:
    """See the module's docstring."""
    grid = _grid(size, options.strides)
    head = take(outputs, options.output, 1, len(grid), -1)[0]
    chosen = np.flatnonzero(head[:, 4] > options.threshold)  # a class score is at most 1
    head, grid = head[chosen], grid[chosen]
    classes = head[:, 5:].argmax(axis=1)
    scores = head[:, 4] * head[np.arange(len(head)), 5 + classes]
    above = scores > options.threshold
    head, grid, scores, classes = head[above], grid[above], scores[above], classes[above]
    stride = grid[:, 2:]
    centre = (head[:, :2] + grid[:, :2]) * stride
    half = 0.5 * np.exp(head[:, 2:4]) * stride
    boxes = np.concatenate([centre - half, centre + half], axis=1)
    rivals = np.zeros_like(classes) if options.agnostic else classes
    keep = suppress(boxes, scores, rivals, options.nms, options.limit)
    return RawBoxes(boxes[keep], scores[keep], classes[keep])
