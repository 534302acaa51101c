"""FastestDet head: one box per cell, (1, 5 + classes, rows, columns).

    objectness  dx dy  w h  class 0 ...    centre = (cell + tanh) / grid, size = sigmoid

score = objectness^0.6 * class^0.4 (softmax done); a size of 1 is the whole input. Source:
dog-qiuqiu/FastestDet; checked on dog.jpg (shared/models/README.md).
"""

from dataclasses import dataclass

import numpy as np

from haihe.models.post.decoder import Outputs, RawBoxes, take
from haihe.models.post.nms import suppress


@dataclass(frozen=True)
class Options:
    """threshold: lowest score; nms: highest IoU of two boxes of a class; output: its name."""

    threshold: float = 0.65
    nms: float = 0.45
    limit: int = 300
    output: str = "758"


def decode(outputs: Outputs, options: Options, size: tuple[int, int]) -> RawBoxes:
    """See the module's docstring."""
    head = take(outputs, options.output, 1, -1, -1, -1)[0]
    rows, columns = head.shape[1:]
    kinds = head[5:].argmax(axis=0)
    best = head[5:].max(axis=0)
    all_scores = np.maximum(head[0], 0) ** 0.6 * np.maximum(best, 0) ** 0.4
    y, x = np.nonzero(all_scores > options.threshold)
    scores, classes = all_scores[y, x], kinds[y, x]
    cell = np.array([size[0] / columns, size[1] / rows], np.float32)
    centre = (np.stack([x, y], axis=1) + np.tanh(head[1:3, y, x]).T).astype(np.float32) * cell
    half = 0.5 / (1.0 + np.exp(-head[3:5, y, x])).T * np.array(size, np.float32)
    boxes = np.concatenate([centre - half, centre + half], axis=1).astype(np.float32)
    keep = suppress(boxes, scores, classes, options.nms, options.limit)
    return RawBoxes(boxes[keep], scores[keep], classes[keep])
