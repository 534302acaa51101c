"""The demo in real time: tracking error and glass-to-servo latency.

python -m haihe.bench.cases.live [--duration 60s]
"""

import argparse
import tempfile
from pathlib import Path

from haihe.bench.report.summary import summary
from haihe.pipelines.launch import run
from haihe.pipelines.robot.follow import build
from haihe.runtime.record.recording import Recording


def main() -> None:
    """Run and print the summary."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--duration", default="60s")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "live.mcap"
        run(build(), unit="pan-tilt", sim=True, duration=arguments.duration, record=path)
        print(summary(Recording(path)))


if __name__ == "__main__":
    main()
