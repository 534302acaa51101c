"""Random scenes with labels, for training and for measuring the part detector.

A profile states what a scene may hold; it is written down before any training. Rules for a
labelled part: shorter side of its clipped box, grey deviation inside that box in the final picture,
share of its box inside the picture, and overlap with earlier parts (shared area over the smaller
box). A part that breaks a rule is not in the picture at all: it is drawn anew or left out, and
counted as refused. Cables may cross parts. The test profiles (DEMO, HARD) have no ignored boxes.

Seeds: each profile has its own stream, so equal seeds of two profiles share nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from haihe.models.training.parts import (
    CLASSES,
    F32,
    F64,
    LOOKALIKES,
    U8,
    Sprite,
    bake,
    draw_finish,
    make_shape,
)
from haihe.models.training.pinhole import (
    Pinhole,
    clip_box,
    light_in_shape,
    outline_box,
    plane_projection,
)
from haihe.models.training.render import TableView, draw_part, patch_deviation
from haihe.models.training.surfaces import Effects, cable, camera_effects, motion_blur, table_top


@dataclass(frozen=True, slots=True)
class Profile:
    """What a scene may hold; sides in px, angles in rad, distances in m."""

    name: str
    stream: int
    parts: tuple[int, int] = (0, 6)
    lookalikes: tuple[int, int] = (0, 0)
    size_px: tuple[float, float] = (24.0, 95.0)
    min_side_px: float = 20.0
    min_deviation: float = 16.0
    min_inside: float = 0.75
    max_overlap: float = 0.25
    distance: tuple[float, float] = (0.35, 0.75)
    attitude: float = 0.40
    litter: int = 5
    cable_share: float = 0.15
    effects: Effects = field(default_factory=Effects)
    camera: Pinhole = field(default_factory=Pinhole)


DEMO = Profile("demo", 1)
HARD = Profile(
    "hard",
    2,
    lookalikes=(1, 3),
    size_px=(10.0, 45.0),
    min_side_px=8.0,
    min_deviation=8.0,
    min_inside=0.5,
    max_overlap=0.4,
    litter=9,
    cable_share=0.4,
    effects=Effects(contrast=(0.45, 0.9), blur=(0.0, 1.2), motion=(0.0, 7.0), noise=(2.0, 9.0)),
)
WIDE = Profile(
    "wide",
    3,
    lookalikes=(0, 2),
    size_px=(16.0, 110.0),
    min_side_px=13.0,
    min_deviation=10.0,
    min_inside=0.5,
    max_overlap=0.35,
    litter=7,
    cable_share=0.3,
    effects=Effects(contrast=(0.6, 1.1), blur=(0.0, 1.1), motion=(0.0, 6.0), noise=(1.0, 8.0)),
)
PROFILES: dict[str, Profile] = {p.name: p for p in (DEMO, HARD, WIDE)}


@dataclass(frozen=True, slots=True)
class Scene:
    """One picture with its truth; boxes are x1, y1, x2, y2 px, clipped to the picture."""

    image: U8
    boxes: F32
    classes: NDArray[np.int64]
    ignored: F32
    drawn: int
    """Parts tried."""
    refused: int
    """Of these, parts that broke a rule."""


@dataclass(frozen=True, slots=True)
class _Candidate:
    sprite: Sprite
    a_mm: float
    b_mm: float
    angle: float
    box: F64
    class_id: int
    """-1 for a look-alike."""


def _visible_side(box: F64) -> float:
    return float(min(box[2] - box[0], box[3] - box[1]))


def _area(box: F64) -> float:
    return float(max(box[2] - box[0], 0.0) * max(box[3] - box[1], 0.0))


def overlap(first: F64, second: F64) -> float:
    """Give the shared area over the smaller area of two boxes."""
    shared = np.concatenate([np.maximum(first[:2], second[:2]), np.minimum(first[2:], second[2:])])
    if (shared[2:] <= shared[:2]).any():
        return 0.0
    return _area(shared) / max(min(_area(first), _area(second)), 1e-6)


class _Draft:
    """A scene in the making: fixed camera, lamp and table; parts come and go."""

    def __init__(self, seed: int, profile: Profile) -> None:
        self.profile = profile
        self.rng = np.random.default_rng([0x5CE7E, profile.stream, seed])
        self.distance = float(self.rng.uniform(*profile.distance))
        pan, tilt = self.rng.uniform(-profile.attitude, profile.attitude, 2)
        self.projection = plane_projection(profile.camera, pan, tilt, self.distance)
        self.light = np.array([*self.rng.uniform(-0.9, 0.9, 2), 1.0])
        self.shadow = float(self.rng.uniform(0.2, 0.65))
        self.table = self._warped_table()
        self.parts: list[_Candidate] = []

    def _plane_point(self, u: float, v: float) -> tuple[float, float]:
        a, b, w = np.linalg.solve(self.projection[:, [0, 1, 3]], np.array([u, v, 1.0]))
        return float(a / w), float(b / w)

    def _warped_table(self) -> U8:
        camera = self.profile.camera
        h, w = camera.height * 4 // 3, camera.width * 5 // 4
        px_per_mm = camera.fx / (self.distance * 1000.0)
        texture = table_top(self.rng, h, w, px_per_mm, litter=self.profile.litter)
        a, b = self._plane_point(camera.cx, camera.cy)
        spin = float(self.rng.uniform(0, 2 * math.pi))
        c, s = math.cos(spin) / px_per_mm, math.sin(spin) / px_per_mm
        to_plane = np.array(
            [[c, -s, a - c * w / 2 + s * h / 2], [s, c, b - s * w / 2 - c * h / 2], [0.0, 0.0, 1.0]]
        )
        return np.asarray(
            cv2.warpPerspective(
                texture,
                self.projection[:, [0, 1, 3]] @ to_plane,
                (camera.width, camera.height),
                borderMode=cv2.BORDER_REFLECT_101,
            ),
            np.uint8,
        )

    def try_part(self, name: str) -> bool:
        """Draw one part at a random place; keep it if it fits the rules of size and place."""
        rng, profile, camera = self.rng, self.profile, self.profile.camera
        u, v = rng.uniform((0, 0), (camera.width, camera.height))
        a, b = self._plane_point(u, v)
        depth = float((self.projection[2] * np.array([a, b, 0.0, 1.0])).sum())
        low, high = np.log(profile.size_px[0]), np.log(profile.size_px[1])
        size_px = float(np.exp(rng.uniform(low, high)))
        shape = make_shape(name, size_px * depth / camera.fx, rng)
        angle = float(rng.uniform(0, 2 * math.pi))
        whole = outline_box(self.projection, shape, a, b, angle)
        if not np.isfinite(whole).all():
            return False
        box = clip_box(whole, camera)
        inside = _area(box) / max(_area(whole), 1e-6)
        if _visible_side(box) < profile.min_side_px or inside < profile.min_inside:
            return False
        if any(overlap(box, part.box) > profile.max_overlap for part in self.parts):
            return False
        px = max(16, round(1.3 * float(max(whole[2:] - whole[:2]))))
        sprite = bake(shape, draw_finish(rng), light_in_shape(self.light, angle), px, rng)
        class_id = CLASSES.index(name) if name in CLASSES else -1
        self.parts.append(_Candidate(sprite, a, b, angle, box, class_id))
        return True

    def picture(self, seed: int) -> U8:
        """Draw the kept parts and pass the picture through the camera."""
        image = self.table.copy()
        for part in self.parts:
            draw_part(
                image,
                part.sprite,
                self.projection,
                part.a_mm,
                part.b_mm,
                part.angle,
                self.light,
                self.shadow,
            )
        rng = np.random.default_rng(seed)
        if rng.random() < self.profile.cable_share:
            cable(image, rng)
        return camera_effects(image, rng, self.profile.effects)


def scene(seed: int, profile: Profile = DEMO) -> Scene:
    """Draw the scene of one seed; equal arguments give equal bytes."""
    draft = _Draft(seed, profile)
    rng = draft.rng
    drawn = refused = 0
    wanted = [
        CLASSES[int(i)]
        for i in rng.integers(0, len(CLASSES), rng.integers(profile.parts[0], profile.parts[1] + 1))
    ]
    wanted += [
        LOOKALIKES[int(i)]
        for i in rng.integers(
            0, len(LOOKALIKES), rng.integers(profile.lookalikes[0], profile.lookalikes[1] + 1)
        )
    ]
    for name in wanted:
        for _ in range(5):
            drawn += 1
            if draft.try_part(name):
                break
            refused += 1
    effect_seed = int(rng.integers(1 << 62))
    while True:
        image = draft.picture(effect_seed)
        kept = [
            part
            for part in draft.parts
            if part.class_id < 0 or patch_deviation(image, part.box) >= profile.min_deviation
        ]
        if len(kept) == len(draft.parts):
            break
        # A part that goes takes its shadow along, so the others are measured again.
        refused += len(draft.parts) - len(kept)
        draft.parts = kept
    labelled = [part for part in kept if part.class_id >= 0]
    boxes = np.array([part.box for part in labelled], np.float32).reshape(-1, 4)
    classes = np.array([part.class_id for part in labelled], np.int64)
    return Scene(image, boxes, classes, np.zeros((0, 4), np.float32), drawn, refused)


def table_frames(seed: int, frames: int, smear: bool = True) -> Iterator[Scene]:
    """Give frames of one closed-loop table: the first box is the moving part, wholly in view.

    Resting parts at the border with less than 75 % of their box in the picture are `ignored` (this
    is training and closed-loop data, no profile). `smear` adds motion blur to half of the frames.
    """
    rng = np.random.default_rng([0x7AB1E5, seed])
    label = CLASSES[int(rng.integers(len(CLASSES)))]
    view = TableView(
        seed,
        part=label,
        size_mm=float(rng.uniform(48, 85)),
        resting=int(rng.integers(0, 6)),
        distance=0.5,
        keep_free_mm=(0.0, 60.0),
    )
    made = 0
    while made < frames:
        y, z = rng.uniform((-300, -220), (300, 220))
        angle = float(rng.uniform(-math.pi, math.pi))
        pan, tilt = np.array(view.aim(y, z)) + rng.normal(0.0, (0.16, 0.12))
        moving = view.truth(pan, tilt, y, z, angle)
        resting = view.resting_truth(pan, tilt)
        blocked = any(overlap(moving.box, part.box) > 0.1 for part in resting)
        if not moving.inside or blocked:
            continue
        image = view.render(pan, tilt, y, z, angle, frame=made)
        if smear and rng.random() < 0.5:
            image = motion_blur(image, float(rng.uniform(1, 6)), float(rng.uniform(0, math.pi)))
        boxes, classes, ignored = [moving.box], [CLASSES.index(moving.label)], []
        for part in resting:
            if not np.isfinite(part.box).all():
                continue
            box = clip_box(part.box, view.camera)
            share = _area(box) / max(_area(part.box), 1e-6)
            if share >= 0.75 and _visible_side(box) >= 12.0:
                boxes.append(box)
                classes.append(CLASSES.index(part.label))
            elif share > 0.0:
                ignored.append(box)
        made += 1
        yield Scene(
            image,
            np.array(boxes, np.float32).reshape(-1, 4),
            np.array(classes, np.int64),
            np.array(ignored, np.float32).reshape(-1, 4),
            len(resting) + 1,
            0,
        )
