"""Centre heat map with a box per cell: the project's own detectors.

    heat (1, classes, rows, columns): sigmoid done, only local maxima left
    box (1, 4, rows, columns): distance to the left, top, right, bottom side in px of the input

The numbers are in part_heat.py, beside the training that fixes them.
"""

from dataclasses import dataclass

import numpy as np

from haihe.models.post.decoder import Outputs, RawBoxes, take
from haihe.models.post.part_heat import decode_heat


@dataclass(frozen=True)
class Options:
    """threshold: lowest score; nms: highest IoU of two boxes of any class; names of outputs."""

    threshold: float = 0.3
    nms: float = 0.6
    heat: str = "heat"
    box: str = "box"


def decode(outputs: Outputs, options: Options, size: tuple[int, int]) -> RawBoxes:
    """See the module's docstring."""
    heat = take(outputs, options.heat, 1, -1, -1, -1)
    box = take(outputs, options.box, 1, 4, *heat.shape[2:])
    boxes, scores, classes = decode_heat(heat, box, options.threshold, options.nms)
    return RawBoxes(
        boxes.reshape(-1, 4).astype(np.float32, copy=False),
        scores.astype(np.float32, copy=False),
        classes.astype(np.int64, copy=False),
    )
