"""Non-maximum suppression: greedy, deterministic (equal scores keep their order)."""

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]


def suppress(boxes: F32, scores: F32, classes: I64, iou: float, limit: int = 300) -> I64:
    """Indices of the boxes to keep, best score first, at most `limit`.

    boxes: (n, 4) x1 y1 x2 y2. A box goes if one of its class with a better score covers it by more
    than `iou`. The caller bounds n by its score threshold.
    """
    order = np.argsort(-scores, kind="stable")
    x1, y1, x2, y2 = (boxes[order, i] for i in range(4))
    area = np.maximum(x2 - x1, 0) * np.maximum(y2 - y1, 0)
    kinds = classes[order]
    is_open = np.ones(len(order), np.bool_)
    kept: list[int] = []
    for i in range(len(order)):
        if not is_open[i]:
            continue
        kept.append(i)
        if len(kept) == limit:
            break
        rest = slice(i + 1, None)
        width = np.minimum(x2[i], x2[rest]) - np.maximum(x1[i], x1[rest])
        height = np.minimum(y2[i], y2[rest]) - np.maximum(y1[i], y1[rest])
        common = np.maximum(width, 0) * np.maximum(height, 0)
        is_covered = common > iou * (area[i] + area[rest] - common)
        is_open[rest] &= ~(is_covered & (kinds[rest] == kinds[i]))
    return order[kept].astype(np.int64)
