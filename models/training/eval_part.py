"""Measure the part detector on rendered scenes that training never saw.

    python -m haihe.models.training.eval_part [--profile demo|hard] [--scenes 500]

A detection is right when its class is right and its IoU with a free true box is at least 0.5,
matched greedily, best score first. The threshold was chosen on the validation seeds (`--choose`),
never on the test seeds.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from haihe.models.post.part_heat import decode_heat, iou_matrix
from haihe.models.training.dataset import FRAMES_PER_TABLE, TEST_SEED, VALIDATION_SEED
from haihe.models.training.parts import CLASSES, F32, U8
from haihe.models.training.scenes import PROFILES, Profile, Scene, scene, table_frames

THRESHOLD = 0.42
"""Best lesser of precision and recall on 500 scenes of the validation seeds."""
FLOOR = 0.05
MODEL = Path(__file__).resolve().parents[1] / "zoo" / "part.onnx"

Infer = Callable[[U8], tuple[F32, F32]]


@dataclass(frozen=True, slots=True)
class Found:
    """Truth and raw detections (score >= 0.05) of one picture."""

    truth: Scene
    boxes: F32
    scores: F32
    classes: NDArray[np.int64]


def open_model(path: Path = MODEL) -> Infer:
    """Open the ONNX file on one thread that does not spin; give picture -> (heat, box)."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def infer(image: U8) -> tuple[F32, F32]:
        heat, box = session.run(["heat", "box"], {"image": image[None]})
        return heat, box

    return infer


@dataclass(slots=True)
class Score:
    """Counts per class; row and column `len(CLASSES)` of `confusion` are "nothing"."""

    right: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(CLASSES), np.int64))
    false: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(CLASSES), np.int64))
    missed: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(CLASSES), np.int64))
    confusion: NDArray[np.int64] = field(
        default_factory=lambda: np.zeros((len(CLASSES) + 1, len(CLASSES) + 1), np.int64)
    )
    scenes: int = 0
    drawn: int = 0
    refused: int = 0

    @property
    def objects(self) -> int:
        """Number of true objects."""
        return int((self.right + self.missed).sum())

    @property
    def precision(self) -> float:
        """Right detections over all detections."""
        return float(self.right.sum() / max(int((self.right + self.false).sum()), 1))

    @property
    def recall(self) -> float:
        """Right detections over all objects."""
        return float(self.right.sum() / max(self.objects, 1))

    def add(self, found: Found, threshold: float) -> None:
        """Match one picture and count."""
        keep = found.scores >= threshold
        boxes, classes, truth = found.boxes[keep], found.classes[keep], found.truth
        # Detections on a part that the frame's rules ignore count neither way.
        counts = ~_covered(boxes, truth.ignored)
        ious = iou_matrix(boxes, truth.boxes)
        free = np.ones(len(truth.boxes), bool)
        for i, class_id in enumerate(classes):
            fits = free & (truth.classes == class_id) & (ious[i] >= 0.5)
            if fits.any():
                j = int(np.argmax(np.where(fits, ious[i], -1)))
                free[j] = False
                self.right[class_id] += 1
            elif counts[i]:
                self.false[class_id] += 1
        np.add.at(self.missed, truth.classes[free], 1)
        nothing = len(CLASSES)
        for j, class_id in enumerate(truth.classes):
            near = ious[:, j] >= 0.5 if len(boxes) else np.zeros(0, bool)
            same = classes[near]
            said = (
                nothing if not near.any() else (class_id if (same == class_id).any() else same[0])
            )
            self.confusion[class_id, said] += 1
        lost = ~(ious >= 0.5).any(axis=1) & counts
        np.add.at(self.confusion[nothing], classes[lost], 1)
        self.scenes += 1
        self.drawn += truth.drawn
        self.refused += truth.refused


def _covered(boxes: F32, ignored: F32) -> NDArray[np.bool_]:
    if not len(ignored) or not len(boxes):
        return np.zeros(len(boxes), bool)
    low = np.maximum(boxes[:, None, :2], ignored[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], ignored[None, :, 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=2)
    area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    return np.asarray((shared / np.maximum(area, 1e-6)[:, None] > 0.5).any(axis=1))


def detect(infer: Infer, truths: Iterator[Scene]) -> list[Found]:
    """Run the detector on scenes as they are drawn; keeps no picture."""
    found = []
    for truth in truths:
        boxes, scores, classes = decode_heat(*infer(truth.image), FLOOR)
        slim = Scene(
            np.zeros((0, 0, 3), np.uint8),
            truth.boxes,
            truth.classes,
            truth.ignored,
            truth.drawn,
            truth.refused,
        )
        found.append(Found(slim, boxes, scores, classes))
    return found


def profile_scenes(profile: Profile, first: int, count: int) -> Iterator[Scene]:
    """Draw the scenes of consecutive seeds."""
    return (scene(first + i, profile) for i in range(count))


def table_scenes(first: int, frames: int, smear: bool = False) -> Iterator[Scene]:
    """Draw closed-loop frames of consecutive tables, ten of each."""
    for i in range(frames // FRAMES_PER_TABLE):
        yield from table_frames(first + i, FRAMES_PER_TABLE, smear)


def score(found: list[Found], threshold: float = THRESHOLD) -> Score:
    """Count all pictures at one threshold."""
    total = Score()
    for item in found:
        total.add(item, threshold)
    return total


@dataclass(frozen=True, slots=True)
class MovingScore:
    """How well the moving part (first box of each frame) is found; errors in px."""

    frames: int
    recall: float
    precision: float
    """Right moving-part detections over these and wrong-class ones in its place."""
    error_u: float
    error_v: float
    """Standard deviation of box middle against the true box middle."""
    bias_u: float
    bias_v: float


def score_moving(found: list[Found], threshold: float = THRESHOLD) -> MovingScore:
    """Count the moving part alone."""
    right = wrong = 0
    errors = []
    for item in found:
        keep = item.scores >= threshold
        ious = iou_matrix(item.boxes[keep], item.truth.boxes[:1])[:, 0]
        same = (item.classes[keep] == item.truth.classes[0]) & (ious >= 0.5)
        wrong += int(((ious >= 0.5) & ~same).sum())
        if same.any():
            right += 1
            box, true = item.boxes[keep][same][0], item.truth.boxes[0]
            errors.append((box[:2] + box[2:] - true[:2] - true[2:]) / 2)
    spread = np.array(errors).reshape(-1, 2)
    sd = spread.std(axis=0) if len(spread) else np.full(2, np.nan)
    mean = spread.mean(axis=0) if len(spread) else np.full(2, np.nan)
    return MovingScore(
        len(found),
        right / max(len(found), 1),
        right / max(right + wrong, 1),
        float(sd[0]),
        float(sd[1]),
        float(mean[0]),
        float(mean[1]),
    )


def choose_threshold(infer: Infer, count: int) -> float:
    """Give the threshold where the lesser of precision and recall is best on validation seeds."""
    found = detect(infer, profile_scenes(PROFILES["demo"], VALIDATION_SEED, count))
    grid = [round(0.10 + 0.02 * i, 2) for i in range(31)]
    values = []
    for threshold in grid:
        total = score(found, threshold)
        values.append(min(total.precision, total.recall))
        print(f"{threshold:.2f}  P {total.precision:.3f}  R {total.recall:.3f}")
    return grid[int(np.argmax(values))]


def report(title: str, total: Score) -> None:
    """Print one score as text."""
    share = total.refused / max(total.drawn, 1)
    print(
        f"{title}: {total.scenes} scenes, {total.objects} objects, "
        f"refused {total.refused} of {total.drawn} drawn parts ({share:.0%})"
    )
    print(f"  all      P {total.precision:.3f}  R {total.recall:.3f}")
    for i, name in enumerate(CLASSES):
        r, f, m = int(total.right[i]), int(total.false[i]), int(total.missed[i])
        print(
            f"  {name:8} P {r / max(r + f, 1):.3f}  R {r / max(r + m, 1):.3f}  "
            f"({r} right, {f} false, {m} missed)"
        )
    names = (*CLASSES, "nothing")
    print("  true \\ said  " + " ".join(f"{name:>8}" for name in names))
    for name, row in zip(names, total.confusion, strict=True):
        print(f"  {name:12} " + " ".join(f"{int(v):8}" for v in row))


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description="Measure the part detector on fresh scenes.")
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--profile", choices=("demo", "hard"), default="demo")
    parser.add_argument("--scenes", type=int, default=500)
    parser.add_argument("--frames", type=int, default=300, help="closed-loop frames, 0 = none")
    parser.add_argument("--choose", action="store_true", help="choose the threshold instead")
    args = parser.parse_args()
    infer = open_model(args.model)
    if args.choose:
        print(f"chosen: {choose_threshold(infer, args.scenes):.2f}")
        return
    profile = PROFILES[args.profile]
    print(f"{args.model}, threshold {THRESHOLD}, IoU 0.5, seeds from {TEST_SEED}")
    report(args.profile, score(detect(infer, profile_scenes(profile, TEST_SEED, args.scenes))))
    if args.frames:
        for smear in (False, True):
            found = detect(infer, table_scenes(TEST_SEED, args.frames, smear))
            moving = score_moving(found)
            print(
                f"moving part, {moving.frames} closed-loop frames, "
                f"motion blur {'in half of them' if smear else 'none'}: "
                f"P {moving.precision:.3f} R {moving.recall:.3f}, box middle sd "
                f"{moving.error_u:.2f}/{moving.error_v:.2f} px (u/v), "
                f"bias {moving.bias_u:+.2f}/{moving.bias_v:+.2f} px"
            )
    start = time.process_time()
    blank = np.zeros((240, 320, 3), np.uint8)
    for _ in range(100):
        decode_heat(*infer(blank), THRESHOLD)
    print(
        f"detector and decoder: {(time.process_time() - start) * 10:.2f} ms CPU per frame "
        f"(mean of 100, 1 thread)"
    )


if __name__ == "__main__":
    main()
