"""The clock: integer nanoseconds, monotonic, one source for the whole process.

CLOCK_MONOTONIC is one clock for all processes of a machine, so the stamps of a simulated world
in a process of its own compare with ours. Nodes never read it: they get `dt` and ages.
"""

import time

now_ns = time.monotonic_ns
MILLISECOND = 1_000_000
SECOND = 1_000_000_000


def sleep_until(deadline_ns: int) -> None:
    """Sleep up to an absolute time in ns; return at once when it has passed."""
    left = deadline_ns - now_ns()
    if left > 0:
        time.sleep(left * 1e-9)  # noqa: TID251 - the one place


def sleep(seconds: float) -> None:
    """Sleep for a time in s."""
    time.sleep(seconds)  # noqa: TID251 - the one place


def wall_time_s() -> float:
    """Wall time in s since 1970: for file names and headers only, never for control."""
    return time.time()  # noqa: TID251 - the one place
