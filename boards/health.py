"""How well this machine is, for the degradation ladder: heat, load of all cores, battery.

The load is the share of busy time of all cores between two looks (`/proc/stat`): the load average
of the kernel takes a minute to follow. What the machine does not tell is None.
"""

from pathlib import Path

from haihe.boards.root_files import RootFiles
from haihe.runtime.clock import SECOND, now_ns
from haihe.runtime.exec.ladder import Health

HEAT_EVERY_NS = SECOND  # heat and battery are slow, and reading them costs a few files


class HealthReader:
    """Call it for the present state. root: "/", or a copy of one for tests."""

    def __init__(self, root: str | Path = "/") -> None:
        self._files = RootFiles(root)
        self._times = self._cpu_times()
        self._slow: tuple[float | None, float | None] = (None, None)
        self._slow_ns: int | None = None

    def __call__(self) -> Health:
        """The present state; its load is that since the last call."""
        now = now_ns()
        if self._slow_ns is None or now - self._slow_ns >= HEAT_EVERY_NS:
            self._slow, self._slow_ns = (self._temperature(), self._battery()), now
        return Health(self._slow[0], self._load(), self._slow[1])

    def _temperature(self) -> float | None:
        """The hottest sensor in degC."""
        folder = "/sys/class/thermal"
        zones = self._files.entries(folder, "thermal_zone")
        found = [self._files.number(f"{folder}/{zone}/temp") for zone in zones]
        known = [value / 1000 for value in found if value is not None and -60e3 < value < 250e3]
        return max(known, default=None)

    def _battery(self) -> float | None:
        """The charge of the emptiest battery, 0..1."""
        folder = "/sys/class/power_supply"
        charges = [
            self._files.number(f"{folder}/{name}/capacity")
            for name in self._files.entries(folder)
            if self._files.text(f"{folder}/{name}/type", 32) == "Battery"
        ]
        return min((charge / 100 for charge in charges if charge is not None), default=None)

    def _cpu_times(self) -> tuple[int, int] | None:
        """(busy, all) jiffies of all cores since the boot."""
        words = self._files.text("/proc/stat", 256).split("\n")[0].split()
        if len(words) < 6 or words[0] != "cpu" or not all(w.isdecimal() for w in words[1:9]):
            return None
        times = [int(word) for word in words[1:9]]  # guest time is part of user time
        return sum(times) - times[3] - times[4], sum(times)

    def _load(self) -> float | None:
        before, self._times = self._times, self._cpu_times()
        if before is None or self._times is None or self._times[1] <= before[1]:
            return None
        return (self._times[0] - before[0]) / (self._times[1] - before[1])
