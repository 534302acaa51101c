import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from haihe.models.post.part_heat import decode_heat, iou_matrix

ANY = st.floats(width=32, allow_nan=True, allow_infinity=True)
SIZE = st.tuples(st.integers(1, 4), st.integers(1, 8), st.integers(1, 10))


def _blank(classes: int = 2) -> tuple[np.ndarray, np.ndarray]:
    return np.zeros((1, classes, 30, 40), np.float32), np.full((1, 4, 30, 40), 10.0, np.float32)


def test_one_peak_gives_one_box_around_its_cell() -> None:
    heat, box = _blank()
    heat[0, 1, 5, 7] = 0.9
    box[0, :, 5, 7] = (10, 11, 12, 13)
    boxes, scores, classes = decode_heat(heat, box, 0.3)
    np.testing.assert_allclose(boxes, [[59.5 - 10, 43.5 - 11, 59.5 + 12, 43.5 + 13]])
    np.testing.assert_allclose(scores, [0.9])
    assert classes.tolist() == [1]
    assert [str(a.dtype) for a in (boxes, scores, classes)] == ["float32", "float32", "int64"]


def test_nothing_above_the_threshold_gives_empty_arrays() -> None:
    boxes, scores, classes = decode_heat(*_blank(), 0.3)
    assert (boxes.shape, scores.shape, classes.shape) == ((0, 4), (0,), (0,))


def test_suppression_ignores_the_class_and_keeps_the_best() -> None:
    heat, box = _blank()
    heat[0, 0, 5, 7], heat[0, 1, 5, 7], heat[0, 0, 20, 30] = 0.5, 0.8, 0.6
    _, scores, classes = decode_heat(heat, box, 0.3)
    np.testing.assert_allclose(scores, [0.8, 0.6])
    assert classes.tolist() == [1, 0]


def test_boxes_are_clipped_to_the_picture() -> None:
    heat, box = _blank()
    heat[0, 0, 0, 0] = heat[0, 0, 29, 39] = 0.9
    box[:] = 500.0
    boxes, _, _ = decode_heat(heat, box, 0.3)
    assert boxes.min() == 0
    np.testing.assert_allclose(boxes[:, 2:].max(axis=0), (319, 239))


@pytest.mark.parametrize("batch", [True, False])
def test_batch_axis_is_optional(batch: bool) -> None:
    heat, box = _blank()
    heat[0, 0, 3, 3] = 0.7
    found = decode_heat(heat, box) if batch else decode_heat(heat[0], box[0])
    assert len(found[0]) == 1


@given(data=st.data(), size=SIZE, threshold=st.floats(0, 1), iou=st.floats(0, 1))
@settings(max_examples=150, deadline=None)
def test_any_input_gives_sane_boxes(
    data: st.DataObject, size: tuple[int, int, int], threshold: float, iou: float
) -> None:
    classes, rows, columns = size
    heat = data.draw(hnp.arrays(np.float32, (1, classes, rows, columns), elements=ANY))
    box = data.draw(hnp.arrays(np.float32, (1, 4, rows, columns), elements=ANY))
    boxes, scores, kinds = decode_heat(heat, box, threshold, iou)
    assert len(boxes) == len(scores) == len(kinds) <= 200
    assert np.isfinite(boxes).all()
    assert (boxes >= 0).all()
    assert (boxes[:, [0, 2]] <= columns * 8 - 1).all()
    assert (boxes[:, [1, 3]] <= rows * 8 - 1).all()
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    assert (scores >= np.float32(threshold)).all()
    assert (np.diff(scores) <= 0).all()
    assert ((kinds >= 0) & (kinds < classes)).all()
    shared = iou_matrix(boxes, boxes) - np.eye(len(boxes), dtype=np.float32)
    assert (shared <= iou + 1e-5).all()
