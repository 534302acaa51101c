"""The adapter of the part detector's decoder."""

import numpy as np
import pytest

from haihe.models.post.heat import Options, decode
from haihe.runtime.errors import ModelError


def outputs_of(cells: dict[tuple[int, int, int], float]) -> dict[str, np.ndarray]:
    heat = np.zeros((1, 4, 30, 40), np.float32)
    for (kind, row, column), score in cells.items():
        heat[0, kind, row, column] = score
    return {"heat": heat, "box": np.full((1, 4, 30, 40), 10.0, np.float32)}


def test_boxes_lie_about_their_cells_best_first() -> None:
    found = decode(
        outputs_of({(2, 5, 6): 0.6, (0, 20, 30): 0.9, (1, 9, 9): 0.1}), Options(), (320, 240)
    )
    assert found.classes.tolist() == [0, 2]
    np.testing.assert_allclose(found.scores, [0.9, 0.6])
    centres = (found.boxes[:, :2] + found.boxes[:, 2:]) / 2
    np.testing.assert_allclose(centres, [[244, 164], [52, 44]], atol=1)
    assert found.boxes.dtype == found.scores.dtype == np.float32


def test_nothing_is_found_in_nothing() -> None:
    found = decode(outputs_of({}), Options(), (320, 240))
    assert found.boxes.shape == (0, 4)


def test_outputs_of_another_model_are_refused() -> None:
    outputs = outputs_of({})
    with pytest.raises(ModelError, match=r"output 'box' is \[1, 4, 30, 39\], expected \[1, 4, 30,"):
        decode({**outputs, "box": outputs["box"][..., 1:]}, Options(), (320, 240))
    with pytest.raises(ModelError, match="no output 'heat', found box"):
        decode({"box": outputs["box"]}, Options(), (320, 240))
