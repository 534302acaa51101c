"""Every figure of the README, by one command: `make bench` (some minutes; a quiet machine)."""

import platform
import subprocess
import sys
from importlib.metadata import version

from haihe.runtime.record.recorder import environment

CASES = (
    "cold_start",
    "timer",
    "chain",
    "throughput",
    "triggered",
    "follow",
    "live",
    "ages",
    "wakeup",
    "many",
    "warden",
    "links",
)


def main() -> None:
    """Print machine and versions, then run every case in a process of its own."""
    machine = environment()
    packages = ", ".join(f"{name} {v}" for name, v in machine["versions"].items())
    print(f"{machine['cpu_name'] or platform.machine()}, {machine['cores']} cores, {packages}")
    print(f"Python {machine['python']}, Linux {platform.release()}, msgspec {version('msgspec')}")
    for case in CASES:
        print(f"\n{case}", flush=True)
        subprocess.run([sys.executable, "-m", f"haihe.bench.cases.{case}"], check=True)


if __name__ == "__main__":
    main()
