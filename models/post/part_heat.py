"""Decoder of the part detector: centre heat and box distances to boxes.

The net gives, for each cell of stride 8, a heat per class (already a sigmoid, kept only at 3x3
maxima) and the distances l, t, r, b in pixels from the cell's middle to the sides of the box.
Pixels are counted by their middles: the middle of cell (row, column) is at (8 column + 3.5,
8 row + 3.5), and boxes end at 0 and width - 1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]

STRIDE = 8
MOST = 200
"""Candidates that go into the suppression, best first; more than that is no picture of parts."""


def decode_heat(
    heat: F32, box: F32, threshold: float = 0.3, iou: float = 0.6
) -> tuple[F32, F32, NDArray[np.int64]]:
    """Give boxes (N, 4) xyxy in input pixels, scores (N,) and classes (N,), best first.

    `heat` is (1, C, H, W) or (C, H, W), `box` (1, 4, H, W) or (4, H, W). Cells that are not finite
    or give no area are dropped. Suppression is greedy and ignores the class: two kinds of part
    cannot lie in one place.
    """
    scores_map: F32 = np.asarray(heat, np.float32).reshape(heat.shape[-3:])
    sides: F32 = np.asarray(box, np.float32).reshape(box.shape[-3:])
    classes, rows, columns = np.nonzero(scores_map >= threshold)
    scores = scores_map[classes, rows, columns]
    distances = sides[:, rows, columns].T
    middle = np.stack([columns, rows], axis=1).astype(np.float32) * STRIDE + (STRIDE - 1) / 2
    height, width = scores_map.shape[-2:]
    limit = np.array([width, height], np.float32) * STRIDE - 1
    usable = np.isfinite(scores) & np.isfinite(distances).all(axis=1)
    # Clip before the arithmetic: huge but finite sides would overflow.
    distances = np.clip(np.where(usable[:, None], distances, 0.0), -1e6, 1e6)
    boxes = np.concatenate(
        [
            np.clip(middle - distances[:, :2], 0, limit),
            np.clip(middle + distances[:, 2:], 0, limit),
        ],
        axis=1,
    )
    usable &= (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    order = np.flatnonzero(usable)
    order = order[np.argsort(-scores[order], kind="stable")][:MOST]
    kept = order[_suppress(boxes[order], iou)]
    return (
        boxes[kept].astype(np.float32),
        scores[kept].astype(np.float32),
        classes[kept].astype(np.int64),
    )


def iou_matrix(first: F32, second: F32) -> F32:
    """Give the intersection over union of each pair of boxes, (N, M)."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=2)
    areas = [np.prod(np.clip(b[:, 2:] - b[:, :2], 0, None), axis=1) for b in (first, second)]
    union = areas[0][:, None] + areas[1][None, :] - shared
    return np.asarray(shared / np.maximum(union, 1e-9), np.float32)


def _suppress(boxes: F32, iou: float) -> NDArray[np.int64]:
    """Give the indices that survive; boxes come best first."""
    alike = iou_matrix(boxes, boxes) > iou
    alive = np.ones(len(boxes), bool)
    for i in range(len(boxes)):
        if alive[i]:
            alive[i + 1 :] &= ~alike[i, i + 1 :]
    return np.flatnonzero(alive)
