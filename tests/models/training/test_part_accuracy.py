"""The gate of the shipped part detector: fresh rendered scenes, threshold fixed beforehand."""

from pathlib import Path

import pytest

from haihe.models.training.dataset import TEST_SEED
from haihe.models.training.eval_part import (
    MODEL,
    detect,
    open_model,
    profile_scenes,
    score,
    score_moving,
    table_scenes,
)
from haihe.models.training.scenes import DEMO

pytest.importorskip("onnxruntime")


def test_the_file_is_small() -> None:
    assert Path(MODEL).stat().st_size < 2_000_000


@pytest.mark.slow
def test_demo_precision_and_recall() -> None:
    total = score(detect(open_model(), profile_scenes(DEMO, TEST_SEED, 500)))
    assert total.scenes == 500
    assert total.objects >= 1000
    assert total.precision >= 0.95
    assert total.recall >= 0.95


@pytest.mark.slow
def test_moving_part_in_the_closed_loop_view() -> None:
    moving = score_moving(detect(open_model(), table_scenes(TEST_SEED, 300)))
    assert moving.frames == 300
    assert moving.recall >= 0.97
    assert max(moving.error_u, moving.error_v) < 1.5
