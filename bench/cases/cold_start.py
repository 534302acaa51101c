"""Cold start: the command line's help, and the first detection of a fresh process.

    python -m haihe.bench.cases.cold_start

Whole processes, wall time from their start to their end, page cache warm, interleaved.
"""

import statistics
import subprocess
import sys

from haihe.runtime.clock import now_ns

RUNS = 15
FIRST_FRAME = """
import numpy as np
from haihe import detector
from haihe.types import Image
found = detector("part")
found.open()
found(Image(np.zeros((240, 320, 3), np.uint8)))
"""
CASES = {
    "python alone": ["-c", "pass"],
    "haihe --help": ["-m", "haihe", "--help"],
    "first detection": ["-c", FIRST_FRAME],
}


def main() -> None:
    """Print the figures."""
    times: dict[str, list[float]] = {name: [] for name in CASES}
    for round_number in range(RUNS + 1):
        for name, arguments in CASES.items():
            begun = now_ns()
            subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
            if round_number:  # the first round warms the page cache
                times[name].append((now_ns() - begun) * 1e-6)
    for name, values in times.items():
        low, high = min(values), max(values)
        print(f"{name}: {statistics.median(values):.0f} ms ({low:.0f} to {high:.0f}), n {RUNS}")
    print("targets: help 50 ms, first detection 500 ms")


if __name__ == "__main__":
    main()
