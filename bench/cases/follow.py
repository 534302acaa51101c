"""How well the pan-tilt head follows, in virtual time, with the real detector on rendered frames.

    python -m haihe.bench.cases.follow [--seeds 20] [--block tuning|second]

Flat part (washer) on a circle of 4 s seen at up to some 28 deg/s, 30 fps, the plant of
drivers/servo/plant.py. Latency is from exposure to the first byte of the first command that used
the frame, averaged: delivery of the frame, 10 ms for the detector, wait for the next 20 ms tick,
read of the bus. Error: angle between the optical axis and the part's mid-height point, from 2 s on.
"""

import argparse
import math
import statistics
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from haihe.pipelines.robot.follow import build

DETECTOR_NS = 10_000_000
# mean wait for the next tick 10 ms, read of two servos 0.55 ms
REST_MS = 10.0 + 10.0 + 0.55
DURATION = "8s"


@dataclass(frozen=True)
class Result:
    """One run."""

    seed: int
    rms_deg: float
    p95_deg: float
    max_deg: float
    latency_ms: float
    peak_deg_s: float
    samples: int
    frames: int


def seeds(count: int, block: str) -> Iterator[int]:
    """Seeds by name; the second block is never used while tuning."""
    for number in range(count):
        yield zlib.crc32(f"follow {block} {number}".encode()) & 0xFFFFFF


def follow(
    seed: int, latency_ms: float, *, predict: bool = True, duration: str = DURATION
) -> Result:
    """Run one seed at a total latency."""
    from haihe.pipelines.launch import simulate

    run = simulate(
        build(predict=predict),
        duration,
        unit="pan-tilt",
        seed=seed,
        world={"latency_ms": latency_ms - REST_MS, "path": "circle"},
        budgets={"part": f"{DETECTOR_NS}ns"},
    )
    errors = [
        math.degrees(e) for t, e in zip(run.times, run.truth["error"], strict=True) if t >= 2.0
    ]
    azimuth = run.truth["azimuth"]
    elevation = run.truth["elevation"]
    speeds = [
        math.degrees(math.hypot(azimuth[i + 1] - azimuth[i], elevation[i + 1] - elevation[i]))
        / 5e-3
        for i in range(len(azimuth) - 1)
    ]
    bus = next(bus for lane in run.executor.assembly.lanes for bus in lane.buses)
    return Result(
        seed,
        math.sqrt(statistics.fmean(e * e for e in errors)),
        statistics.quantiles(errors, n=20)[-1],
        max(errors),
        bus.reaction_total_ns / max(1, bus.first_bytes) * 1e-6,
        max(speeds),
        len(errors),
        len(run.executor.captures),
    )


def table(results: list[Result]) -> str:
    """One line for a set of runs: pooled rms, worst rms, p95, max."""
    pooled = math.sqrt(statistics.fmean(r.rms_deg**2 for r in results))
    return (
        f"rms {pooled:.2f}° (worst seed {max(r.rms_deg for r in results):.2f}°), "
        f"p95 {statistics.fmean(r.p95_deg for r in results):.2f}°, "
        f"max {max(r.max_deg for r in results):.2f}°, "
        f"latency {statistics.fmean(r.latency_ms for r in results):.1f} ms, "
        f"peak {min(r.peak_deg_s for r in results):.1f} °/s or more, "
        f"{len(results)} seeds, {sum(r.samples for r in results)} samples"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--block", default="tuning", choices=("tuning", "second"))
    arguments = parser.parse_args()
    for latency in (60.0, 100.0):
        for predict in (True, False):
            results = [
                follow(seed, latency, predict=predict)
                for seed in seeds(arguments.seeds, arguments.block)
            ]
            how = "predicting" if predict else "no prediction"
            print(f"{latency:.0f} ms, {how:13}: {table(results)}", flush=True)


if __name__ == "__main__":
    main()
