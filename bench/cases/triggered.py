"""How long after the picture the first byte leaves, in a chain where each picture triggers all.

    python -m haihe.bench.cases.triggered [--duration 30s]

Camera, detector and aim are one triggered lane; the bus cycles every 4 ms by itself and sends what
is new. The age at the first byte is compared with what cannot be avoided: the camera's delivery
and the lane's own time, medians of the same run. The simulated world of the pan-tilt unit.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Annotated

import numpy as np

from haihe.bench.measure.analysis import analyse
from haihe.boards.unit import find_unit, load_unit, unit_from_text
from haihe.drivers.roles import camera, servos
from haihe.models.detector import detector
from haihe.pipelines.launch import run
from haihe.runtime.contracts import fresh
from haihe.runtime.graph import Graph
from haihe.runtime.node import node
from haihe.runtime.record.format import FIRING
from haihe.runtime.record.recording import Recording
from haihe.runtime.types import Detections, JointCommand, JointState

CYCLE = "4ms"
TARGET_MS = 3.0


@node
def aim(parts: Detections, neck: Annotated[JointState, fresh("100ms")]) -> JointCommand:
    """Towards the best part, or where the head is."""
    return neck.towards(parts.best(), 0.3) if len(parts) else neck.hold()


with Graph("triggered") as graph:
    _neck = servos("neck")
    _neck.command(aim(detector("part", threshold=0.2)(camera("front").image), _neck.state))


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--duration", default="30s")
    arguments = parser.parse_args()
    shipped = load_unit(find_unit("pan-tilt", None))
    text = shipped.text.replace("cycle: 20ms", f"cycle: {CYCLE}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "triggered.mcap"
        unit = unit_from_text(text, shipped.file)
        run(graph, unit=unit, sim=True, duration=arguments.duration, record=path, frames="none")
        report(Recording(path))


def report(recording: Recording) -> None:
    """Print the ages of a run against what cannot be avoided."""
    records = [r for r in recording.lanes["front"] if r.kind == FIRING]
    lane = np.array([r.fixed[3] for r in records]) * 1e-6
    delivery = np.array(
        [s.delivered_ns - s.capture_ns for s in recording.streams["front.image"]]
    ) * 1e-6  # fmt: skip
    route = next(r for r in analyse(recording).routes if r.source == "front.image")
    ages = np.asarray(route.reaction) * 1e-6
    age, capture, work = (float(np.median(x)) for x in (ages, delivery, lane))
    over = age - capture - work
    low, high = np.quantile(ages, (0.05, 0.95))
    print(
        f"age at the first byte p50 {age:.1f} ms (5 to 95 %: {low:.1f} to {high:.1f}; n "
        f"{len(ages)})\n"
        f"  = delivery {capture:.1f} + lane {work:.1f} + {over:.1f} ms (target {TARGET_MS:g}), bus "
        f"every {CYCLE}"
    )


if __name__ == "__main__":
    main()
