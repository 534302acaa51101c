"""The ideal detector: a world writes the true boxes into a frame, a node reads them back.

For tests of the control part alone, where rendering and inference would only cost time. The first
row of the frame holds a count and the boxes as float32 bytes; nothing else is in it.
"""

import numpy as np

from haihe.runtime.node import node
from haihe.runtime.types import F32, U8, Detections, Image


def write_truth(width: int, boxes: F32) -> U8:
    """A (1, width, 3) frame that carries (n, 4) boxes in px."""
    frame = np.zeros((1, width, 3), np.uint8)
    data = np.uint32(len(boxes)).tobytes() + np.ascontiguousarray(boxes, np.float32).tobytes()
    frame.reshape(-1)[: len(data)] = np.frombuffer(data, np.uint8)
    return frame


@node
def ideal_detector(image: Image, label: str = "washer") -> Detections:
    """The boxes that the world wrote, score 1."""
    row = image.data.reshape(-1)
    count = int(row[:4].view(np.uint32)[0])
    boxes = row[4 : 4 + 16 * count].view(np.float32).reshape(count, 4).copy()
    return Detections(
        boxes,
        np.ones(count, np.float32),
        np.zeros(count, np.int64),
        (label,),
        image.camera,
    )
