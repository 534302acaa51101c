import numpy as np
import pytest

from haihe.models.training.parts import CLASSES
from haihe.models.training.render import patch_deviation
from haihe.models.training.scenes import DEMO, HARD, Profile, overlap, scene, table_frames


@pytest.mark.parametrize("profile", [DEMO, HARD], ids=lambda p: p.name)
def test_equal_seeds_give_equal_bytes(profile: Profile) -> None:
    first, again = scene(41, profile), scene(41, profile)
    assert first.image.tobytes() == again.image.tobytes()
    np.testing.assert_array_equal(first.boxes, again.boxes)
    assert scene(42, profile).image.tobytes() != first.image.tobytes()


@pytest.mark.parametrize("profile", [DEMO, HARD], ids=lambda p: p.name)
def test_each_labelled_part_keeps_the_rules(profile: Profile) -> None:
    seen = set()
    for seed in range(100, 140):
        made = scene(seed, profile)
        assert made.image.shape == (240, 320, 3)
        assert made.image.dtype == np.uint8
        assert len(made.boxes) == len(made.classes) <= profile.parts[1]
        assert len(made.ignored) == 0
        assert len(made.boxes) <= made.drawn - made.refused
        for box in made.boxes.astype(np.float64):
            assert min(box[2] - box[0], box[3] - box[1]) >= profile.min_side_px - 1e-3
            # Boxes are stored as float32: a side may cross one pixel row more or less.
            assert patch_deviation(made.image, box) >= profile.min_deviation - 1.0
            assert (box >= 0).all()
            assert (box <= (319, 239, 319, 239)).all()
        for i, box in enumerate(made.boxes.astype(np.float64)):
            for other in made.boxes[:i].astype(np.float64):
                assert overlap(box, other) <= profile.max_overlap + 1e-3
        seen |= set(made.classes.tolist())
    assert seen == set(range(len(CLASSES)))


def test_profiles_with_one_seed_share_nothing() -> None:
    assert scene(7, DEMO).image.tobytes() != scene(7, HARD).image.tobytes()


def test_demo_is_stated_as_promised() -> None:
    assert (DEMO.min_side_px, DEMO.min_deviation, DEMO.parts) == (20.0, 16.0, (0, 6))
    assert DEMO.lookalikes == (0, 0)
    assert len(CLASSES) >= 3


def test_some_scenes_are_empty_and_some_are_full() -> None:
    counts = [len(scene(seed).boxes) for seed in range(200, 260)]
    assert min(counts) == 0
    assert max(counts) >= 5


def test_overlap_is_the_share_of_the_smaller_box() -> None:
    big, small = np.array([0.0, 0.0, 10.0, 10.0]), np.array([8.0, 0.0, 12.0, 5.0])
    assert overlap(big, small) == pytest.approx(0.5)
    assert overlap(big, small + 20) == 0.0


def test_table_frames_show_the_moving_part_whole() -> None:
    frames = list(table_frames(77, 6))
    assert len(frames) == 6
    for frame in frames:
        x1, y1, x2, y2 = frame.boxes[0]
        assert x1 > 0
        assert y1 > 0
        assert x2 < 319
        assert y2 < 239
        assert frame.classes[0] == frames[0].classes[0]
    again = list(table_frames(77, 6))
    assert all(a.image.tobytes() == b.image.tobytes() for a, b in zip(frames, again, strict=True))
