"""A pan-tilt head over a table on which a part moves: plant, renderer and servo bus, closed.

Head frame: x forward, y left, z up; the table is the plane x = `distance`, perpendicular to the
view at pan = tilt = 0. The camera turns with the head (its optical centre on both axes), so the
next picture depends on where the servos, driven by bytes on the emulated bus, have gone.

Tracking error is the angle between the optical axis and the part's mid-height point.
"""

import math
import threading
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from haihe.drivers.servo.plant import AxisPlant, ServoPlant
from haihe.drivers.servo.sts_emulator import StsEmulator
from haihe.pipelines.worlds.ideal import write_truth
from haihe.pipelines.worlds.spec import WorldContext, WorldSpec
from haihe.runtime.clock import SECOND
from haihe.runtime.errors import BoardError
from haihe.runtime.sim import Emulator, SimCamera
from haihe.runtime.types import U8, Image, Intrinsics


@dataclass(frozen=True)
class PanTiltOptions:
    """path: how the part moves. radius_deg: of the circle or eight as seen from the head.
    latency_ms: from exposure to delivery of a frame. ideal: no picture is rendered; the frame
    carries the truth with `noise_px` (one sigma) and `drops` (share of frames lost).
    resting: parts that lie still. size_mm: of the moving part."""

    path: Literal["circle", "eight", "rest"] = "circle"
    period_s: float = 4.0
    radius_deg: float = 18.0
    fps: float = 30.0
    latency_ms: float = 15.0
    part: str = "washer"
    size_mm: float = 56.0
    distance_m: float = 0.5
    resting: int = 3
    background: str | None = None
    ideal: bool = False
    noise_px: float = 0.5
    drops: float = 0.0
    camera: str = "front"
    servos: str = "neck"


CAMERA = Intrinsics(320, 240, 280.0, 280.0, 159.5, 119.5)


class PanTiltWorld:
    """Implements `haihe.runtime.sim.World`."""

    def __init__(self, context: WorldContext) -> None:
        self.options: PanTiltOptions = context.options
        self.lock = threading.RLock()  # in real time, bus and camera are served by two threads
        self.plants = {"pan": AxisPlant(), "tilt": AxisPlant()}
        role = self.options.servos
        self.bus = StsEmulator(
            context.drivers[role],
            {name: _typed(plant) for name, plant in self.plants.items()},
            baud=context.bauds[role],
        )
        self.emulators: dict[str, Emulator] = {role: self.bus}
        self.camera = PanTiltCamera(self, context.seed)
        self.cameras: dict[str, SimCamera] = {self.options.camera: self.camera}
        rng = np.random.default_rng([0x9A7, context.seed])
        self._phase = float(rng.uniform(0, 2 * math.pi))
        self._turn = 1 if rng.random() < 0.5 else -1
        self._spin = float(rng.uniform(-1.0, 1.0))
        self._begun_ns: int | None = None

    def step(self, t_ns: int) -> None:
        """Advance the plants."""
        for plant in self.plants.values():
            plant.step(t_ns)

    def place(self, t_ns: int) -> tuple[float, float, float]:
        """Where the part is: (y mm, z mm, angle rad)."""
        if self._begun_ns is None:
            self._begun_ns = t_ns
        options = self.options
        t = (t_ns - self._begun_ns) * 1e-9
        phase = self._phase + self._turn * 2 * math.pi * t / options.period_s
        radius = 1000 * options.distance_m * math.tan(math.radians(options.radius_deg))
        if options.path == "circle":
            y, z = radius * math.cos(phase), radius * math.sin(phase)
        elif options.path == "eight":
            y, z = radius * math.sin(phase), radius * math.sin(phase) * math.cos(phase)
        else:
            y, z = 0.6 * radius * math.cos(self._phase), 0.6 * radius * math.sin(self._phase)
        return y, z, self._spin * t

    def look(self, t_ns: int) -> tuple[float, float]:
        """(pan, tilt) of the head at a moment, in rad."""
        with self.lock:
            self.step(t_ns)
            return self.plants["pan"].position, self.plants["tilt"].position

    def truth(self, t_ns: int) -> dict[str, float]:
        """For a judge: pan, tilt, the part's azimuth and elevation, the tracking error (rad)."""
        pan, tilt = self.look(t_ns)
        azimuth, elevation = self.camera.aim(*self.place(t_ns)[:2])
        error = angle_between((pan, tilt), (azimuth, elevation))
        return {
            "pan": pan, "tilt": tilt, "azimuth": azimuth, "elevation": elevation, "error": error,
        }  # fmt: skip


def angle_between(a: tuple[float, float], b: tuple[float, float]) -> float:
    """The angle in rad between two directions (azimuth, elevation)."""

    def direction(azimuth: float, elevation: float) -> tuple[float, float, float]:
        c = math.cos(elevation)
        return c * math.cos(azimuth), c * math.sin(azimuth), math.sin(elevation)

    u, v = direction(*a), direction(*b)
    cross = math.hypot(
        u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]
    )
    return math.atan2(cross, sum(x * y for x, y in zip(u, v, strict=True)))


class PanTiltCamera:
    """The camera on the head: renders, or carries the truth."""

    def __init__(self, world: PanTiltWorld, seed: int) -> None:
        self.world = world
        self.options = world.options
        self.period_ns = round(SECOND / self.options.fps)
        self.first_ns = 0
        latency = round(self.options.latency_ms * 1e6)
        self.latency_ns = (latency, latency)  # of delivery, at least and at most
        self._rng = np.random.default_rng([0xCA3, seed])
        self._view: Any = None
        self._seed = seed
        self._height_mm = 0.0
        if not self.options.ideal:
            from haihe.models.training.parts import CLASSES
            from haihe.models.training.render import TableView

            # no second part of the kind that is to be followed: which one would be meant?
            others = [name for name in CLASSES if name != self.options.part]
            choose = np.random.default_rng([0x9E5, seed])
            resting = [str(name) for name in choose.choice(others, self.options.resting)]

            reach = 1000 * self.options.distance_m * math.tan(math.radians(self.options.radius_deg))
            self._view = TableView(
                seed,
                part=self.options.part,
                size_mm=self.options.size_mm,
                resting=resting,
                background=self.options.background,
                distance=self.options.distance_m,
                keep_free_mm=(max(0.0, reach - 65.0), reach + 65.0),
            )

    def aim(self, y_mm: float, z_mm: float) -> tuple[float, float]:
        """(pan, tilt) that centre the part."""
        if self._view is not None:
            pan, tilt = self._view.aim(y_mm, z_mm)
            return float(pan), float(tilt)
        x = 1000 * self.options.distance_m
        return math.atan2(y_mm, x), math.atan2(z_mm, math.hypot(x, y_mm))

    def capture(self, index: int, t_ns: int) -> tuple[Image | None, int]:
        """The frame exposed at `t_ns`, and its latency."""
        pan, tilt = self.world.look(t_ns)
        y, z, angle = self.world.place(t_ns)
        latency = self.latency_ns[1]
        if self._view is not None:
            data: U8 = self._view.render(pan, tilt, y, z, angle, index)
            return Image(data, CAMERA), latency
        if self._rng.random() < self.options.drops:
            return None, latency
        return Image(self._ideal(pan, tilt, y, z), CAMERA), latency

    def _ideal(self, pan: float, tilt: float, y: float, z: float) -> U8:
        """A frame that carries the box of the part, with noise, where it is in view."""
        x = 1000 * self.options.distance_m
        cp, sp, ct, st = math.cos(pan), math.sin(pan), math.cos(tilt), math.sin(tilt)
        forward = x * cp * ct + y * sp * ct + z * st
        left = -x * sp + y * cp
        up = -x * cp * st - y * sp * st + z * ct
        noise = self._rng.normal(0.0, self.options.noise_px, 2)
        u = CAMERA.cx - CAMERA.fx * left / forward + noise[0]
        v = CAMERA.cy - CAMERA.fy * up / forward + noise[1]
        half = 0.5 * self.options.size_mm * CAMERA.fx / x
        boxes = []
        if forward > 0 and half <= u < CAMERA.width - half and half <= v < CAMERA.height - half:
            boxes.append((u - half, v - half, u + half, v + half))
        return write_truth(CAMERA.width, np.array(boxes, np.float32).reshape(-1, 4))


def _typed(plant: AxisPlant) -> ServoPlant:
    return plant


def _check(context: WorldContext) -> None:
    role = context.options.servos
    joints = [joint.name for joint in getattr(context.drivers.get(role), "joints", ())]
    if joints != ["pan", "tilt"]:
        raise BoardError(
            f"it wants servos in the role {role!r} with the joints pan, tilt; found "
            f"{', '.join(joints) or 'no such device'}. Choose a world for this unit."
        )


SPEC = WorldSpec(
    summary="pan-tilt head with a camera over a table on which a part moves",
    options=PanTiltOptions,
    make=PanTiltWorld,
    check=_check,
)
