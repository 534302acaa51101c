"""How much of the bare model's throughput a graph gives, flat out on preloaded frames.

    python -m haihe.bench.cases.throughput

Bare: the session alone on an input that lies ready, one thread. Graph: camera -> detector in the
realtime executor: a reader thread hands over the next frame as soon as the last was taken; the lane
does the pre-processing, the model, the decoding, ages, counters and records nothing. Interleaved
rounds; the ratio of each pair, median of the rounds.
"""

import statistics
import threading
from typing import Any

import numpy as np

from haihe.drivers.roles import camera
from haihe.models.detector import Detector, detector
from haihe.runtime.clock import now_ns
from haihe.runtime.exec.realtime import RealtimeExecutor
from haihe.runtime.graph import Graph
from haihe.runtime.node import node
from haihe.runtime.plan.build import make_plan
from haihe.runtime.types import Detections, Image, Reading

FRAMES = 300
ROUNDS = 5


class Preloaded:
    """A stream device that gives a frame when the last one has been taken."""

    def __init__(self, count: int) -> None:
        rng = np.random.default_rng(0)
        self.frames = [Image(rng.integers(0, 255, (240, 320, 3), np.uint8)) for _ in range(16)]
        self.count, self.given = count, 0
        self.taken = threading.Event()
        self.taken.set()

    def open(self) -> None:
        """Nothing to acquire."""

    def read(self, timeout_s: float) -> tuple[Image, int] | None:
        """The next frame, or the end."""
        if not self.taken.wait(timeout_s):
            return None
        self.taken.clear()
        if self.given == self.count:
            raise EOFError
        self.given += 1
        return self.frames[self.given % len(self.frames)], now_ns()

    def close(self) -> None:
        """Nothing to release."""


_device: Preloaded | None = None


@node
def taken(image: Image) -> Image:
    """Tells the source that the slot is free: the next frame is put there while the model runs."""
    assert _device is not None
    _device.taken.set()
    return image


_ends: list[int] = []  # of each frame's way through the graph


@node
def count(parts: Detections) -> Reading:
    """The end of the graph."""
    _ends.append(now_ns())
    return Reading(float(len(parts)))


def bare(model: str, frames: int) -> float:
    """Frames per second of the session alone."""
    probe: Any = Detector(model)
    probe.open()
    session = probe._opened.session
    begun = now_ns()
    for _ in range(frames):
        session.run()
    seconds = (now_ns() - begun) * 1e-9
    probe.close()
    return frames / seconds


def graph(model: str, frames: int) -> float:
    """Frames per second of the graph."""
    global _device
    with Graph("throughput") as wired:
        count(detector(model)(taken(camera("front").image)))
    _device = Preloaded(frames)
    _ends.clear()
    executor = RealtimeExecutor(wired, make_plan(wired, {}), {}, {"front": _device})
    executor.start(arm=False)
    while not executor.wait(1.0):
        pass
    executor.stop("done")
    assert len(_ends) == frames
    return (frames - 1) / ((_ends[-1] - _ends[0]) * 1e-9)


def main() -> None:
    """Print the figures."""
    for model in ("part",):
        ratios, plain = [], []
        for _ in range(ROUNDS):
            plain.append(bare(model, FRAMES))
            ratios.append(graph(model, FRAMES) / plain[-1])
        print(
            f"{model}: bare {statistics.median(plain):.0f} frames/s, graph "
            f"{100 * statistics.median(ratios):.0f} % of it "
            f"({100 * min(ratios):.0f} to {100 * max(ratios):.0f} %), {ROUNDS} rounds of {FRAMES} "
            "frames, one thread (target 95 %)"
        )


if __name__ == "__main__":
    main()
