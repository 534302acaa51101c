"""Ultra-Light-Fast face detectors with the priors decoded in the graph.

    scores (1, n, 2): background, face (softmax done);  boxes (1, n, 4): x1 y1 x2 y2 in 0..1

Source: Linzaer/Ultra-Light-Fast-Generic-Face-Detector-1MB; checked with version-slim-320 and
version-RFB-320 (shared/models/README.md).
"""

from dataclasses import dataclass

import numpy as np

from haihe.models.post.decoder import Outputs, RawBoxes, take
from haihe.models.post.nms import suppress


@dataclass(frozen=True)
class Options:
    """threshold: lowest score; nms: highest IoU of two faces; names of the two outputs."""

    threshold: float = 0.7
    nms: float = 0.3
    limit: int = 300
    scores: str = "scores"
    boxes: str = "boxes"


def decode(outputs: Outputs, options: Options, size: tuple[int, int]) -> RawBoxes:
    """See the module's docstring."""
    all_scores = take(outputs, options.scores, 1, -1, 2)[0, :, 1]
    chosen = np.flatnonzero(all_scores > options.threshold)
    all_boxes = take(outputs, options.boxes, 1, len(all_scores), 4)[0]
    boxes = all_boxes[chosen] * np.array([*size, *size], np.float32)
    scores, classes = all_scores[chosen], np.zeros(len(chosen), np.int64)
    keep = suppress(boxes, scores, classes, options.nms, options.limit)
    return RawBoxes(boxes[keep], scores[keep], classes[keep])
