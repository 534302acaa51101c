"""Suppression: order, ties, classes, limits."""

import numpy as np

from haihe.models.post.nms import suppress

BOXES = np.array([[0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 5], [20, 0, 30, 10]], np.float32)
SCORES = np.array([0.5, 0.5, 0.9, 0.1], np.float32)
SAME = np.zeros(4, np.int64)


def kept(*args, **kwargs) -> list[int]:
    found: list[int] = suppress(*args, **kwargs).tolist()
    return found


def test_the_best_of_each_heap_stays() -> None:
    assert kept(BOXES, SCORES, SAME, 0.4) == [2, 3]
    assert kept(BOXES, SCORES, SAME, 0.5) == [2, 0, 3]  # an IoU of just the limit stays
    assert kept(BOXES, SCORES, np.array([0, 1, 2, 0]), 0.4) == [2, 0, 1, 3]
    assert kept(BOXES, SCORES, SAME, 0.5, limit=2) == [2, 0]


def test_nothing_and_empty_boxes() -> None:
    empty = np.empty((0, 4), np.float32)
    assert kept(empty, empty[:, 0], np.empty(0, np.int64), 0.5) == []
    flat = np.zeros((3, 4), np.float32)
    assert kept(flat, SCORES[:3], SAME[:3], 0.5) == [2, 0, 1]
