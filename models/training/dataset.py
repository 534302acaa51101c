"""Training data of the part detector: scenes in a scratch folder, batches with targets.

Pictures are some 230 KB each, so they live in one raw file outside git and are read through a
memory map. Seeds are listed here, once, for training, validation and test.
"""

from __future__ import annotations

import multiprocessing
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from haihe.models.training.parts import CLASSES, F32, U8
from haihe.models.training.scenes import DEMO, WIDE, Scene, scene, table_frames

HEIGHT, WIDTH, STRIDE = 240, 320, 8
ROWS, COLUMNS = HEIGHT // STRIDE, WIDTH // STRIDE

TRAIN_SEED = 0
VALIDATION_SEED = 5_000_000
"""The threshold is chosen on 500 scenes from here."""
TEST_SEED = 7_000_000
"""Nothing is ever chosen on scenes from here."""
FRAMES_PER_TABLE = 10


@dataclass(frozen=True, slots=True)
class Mix:
    """How many scenes of each kind; `tables` counts closed-loop tables of 10 frames each."""

    demo: int = 17000
    wide: int = 4000
    tables: int = 500

    @property
    def total(self) -> int:
        """Number of pictures."""
        return self.demo + self.wide + self.tables * FRAMES_PER_TABLE


@dataclass(frozen=True, slots=True)
class Labels:
    """Boxes of all pictures in one array; those of picture i are first[i] to first[i + 1]."""

    boxes: F32
    classes: NDArray[np.int64]
    """-1 = ignored."""
    first: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Job:
    """A run of pictures with neighbouring seeds that one worker draws."""

    kind: str
    seed: int
    count: int
    at: int
    file: str
    total: int


def _draw(job: Job) -> list[tuple[F32, NDArray[np.int64]]]:
    cv2.setNumThreads(1)
    images = np.memmap(job.file, np.uint8, "r+", shape=(job.total, HEIGHT, WIDTH, 3))
    made: list[Scene] = []
    if job.kind == "table":
        for i in range(job.count // FRAMES_PER_TABLE):
            made += table_frames(job.seed + i, FRAMES_PER_TABLE)
    else:
        profile = DEMO if job.kind == "demo" else WIDE
        made = [scene(job.seed + i, profile) for i in range(job.count)]
    labels = []
    for i, item in enumerate(made):
        images[job.at + i] = item.image
        classes = np.concatenate([item.classes, np.full(len(item.ignored), -1, np.int64)])
        labels.append((np.vstack([item.boxes, item.ignored]), classes))
    return labels


def build(folder: Path, mix: Mix, workers: int = 2) -> tuple[U8, Labels]:
    """Draw all training pictures into `folder`, or reuse those of a run with the same mix."""
    name = f"demo{mix.demo}-wide{mix.wide}-tables{mix.tables}"
    folder.mkdir(parents=True, exist_ok=True)
    file, index = folder / f"{name}.raw", folder / f"{name}.npz"
    shape = (mix.total, HEIGHT, WIDTH, 3)
    if not index.exists():
        np.memmap(file, np.uint8, "w+", shape=shape).flush()
        jobs: list[Job] = []
        at = 0
        for kind, count in (
            ("demo", mix.demo),
            ("wide", mix.wide),
            ("table", mix.tables * FRAMES_PER_TABLE),
        ):
            for start in range(0, count, 250):
                n = min(250, count - start)
                seed = TRAIN_SEED + (start // FRAMES_PER_TABLE if kind == "table" else start)
                # Seed 0 is the closed loop's default table: it stays out of training.
                seed += 1_000_000 if kind == "table" else 0
                jobs.append(Job(kind, seed, n, at + start, str(file), mix.total))
            at += count
        with multiprocessing.get_context("spawn").Pool(workers) as pool:
            parts = [item for chunk in pool.imap(_draw, jobs) for item in chunk]
        sizes = [len(classes) for _, classes in parts]
        np.savez(
            index,
            boxes=np.vstack([b for b, _ in parts]).astype(np.float32),
            classes=np.concatenate([c for _, c in parts]),
            first=np.concatenate([[0], np.cumsum(sizes)]),
        )
    stored = np.load(index)
    images = np.memmap(file, np.uint8, "r", shape=shape)
    return images, Labels(stored["boxes"], stored["classes"], stored["first"])


@dataclass(frozen=True, slots=True)
class Batch:
    """Pictures (B, 240, 320, 3) and the targets of each cell."""

    images: U8
    heat: F32
    """(B, C, 30, 40), 1 at centres, Gaussian around."""
    counted: F32
    """(B, 1, 30, 40), 0 where an ignored part lies."""
    sides: F32
    """(B, 4, 30, 40), x1, y1, x2, y2 px of the box that a cell has to give."""
    weight: F32
    """(B, 30, 40), weight of the box loss, 0 = no box."""


_U = np.arange(COLUMNS, dtype=np.float32) * STRIDE + (STRIDE - 1) / 2
_V = np.arange(ROWS, dtype=np.float32) * STRIDE + (STRIDE - 1) / 2


def make_batch(
    images: U8, labels: Labels, picks: NDArray[np.int64], rng: np.random.Generator
) -> Batch:
    """Copy pictures, flip them by chance, and draw their targets."""
    n = len(picks)
    out = np.empty((n, HEIGHT, WIDTH, 3), np.uint8)
    heat = np.zeros((n, len(CLASSES), ROWS, COLUMNS), np.float32)
    counted = np.ones((n, 1, ROWS, COLUMNS), np.float32)
    sides = np.zeros((n, 4, ROWS, COLUMNS), np.float32)
    weight = np.zeros((n, ROWS, COLUMNS), np.float32)
    for i, pick in enumerate(picks):
        flip_u, flip_v = rng.random(2) < 0.5
        picture = images[pick][:: -1 if flip_v else 1, :: -1 if flip_u else 1]
        out[i] = picture[..., rng.permutation(3)] if rng.random() < 0.2 else picture
        span = slice(labels.first[pick], labels.first[pick + 1])
        boxes, classes = labels.boxes[span].copy(), labels.classes[span]
        if flip_u:
            boxes[:, [0, 2]] = WIDTH - 1 - boxes[:, [2, 0]]
        if flip_v:
            boxes[:, [1, 3]] = HEIGHT - 1 - boxes[:, [3, 1]]
        _targets(boxes, classes, heat[i], counted[i, 0], sides[i], weight[i])
    return Batch(out, heat, counted, sides, weight)


def _targets(
    boxes: F32, classes: NDArray[np.int64], heat: F32, counted: F32, sides: F32, weight: F32
) -> None:
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    for x1, y1, x2, y2 in boxes[classes < 0]:
        rows = np.abs(_V - (y1 + y2) / 2) <= (y2 - y1) / 2 + 4
        columns = np.abs(_U - (x1 + x2) / 2) <= (x2 - x1) / 2 + 4
        counted[np.ix_(rows, columns)] = 0.0
    for j in np.argsort(-area):  # the smaller box is drawn last and wins
        if classes[j] < 0:
            continue
        x1, y1, x2, y2 = boxes[j]
        u, v = (x1 + x2) / 2, (y1 + y2) / 2
        su, sv = max((x2 - x1) / 6, 4.0), max((y2 - y1) / 6, 4.0)
        bell = np.exp(-0.5 * ((_V[:, None] - v) / sv) ** 2 - 0.5 * ((_U[None] - u) / su) ** 2)
        row = min(max(int((v + 0.5) // STRIDE), 0), ROWS - 1)
        column = min(max(int((u + 0.5) // STRIDE), 0), COLUMNS - 1)
        bell[row, column] = 1.0
        np.maximum(heat[classes[j]], bell, out=heat[classes[j]])
        near = bell > 0.35
        sides[:, near] = boxes[j][:, None]
        weight[near] = bell[near]
        counted[near] = 1.0
