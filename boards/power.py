"""What the board draws, from the sensors it has; None where it has none that means the board.

In this order: the rail VDD_IN of an INA3221 (Jetson), the packages of RAPL (x86: cores and memory
controller, not the whole board), a single INA monitor. Other chips of hwmon, such as a graphics
card's, measure a part of unknown share and are left out. Source: reference A3;
Documentation/hwmon/ina3221.rst (mV, mA), sysfs-interface.rst (power in uW), powercap.rst (uJ).
"""

from haihe.boards.root_files import RootFiles

HWMON = "/sys/class/hwmon"
RAPL = "/sys/class/powercap"
RAIL = "VDD_IN"
MAX_W = 10_000


class PowerMeter:
    """Finds the sensor once; energy counters give a mean between two readings."""

    def __init__(self, files: RootFiles) -> None:
        self.files = files
        self.rails: list[tuple[str, str]] = []  # volts, amperes
        self.watts: list[str] = []
        self.packages: list[str] = []
        self.source = ""
        self.last: tuple[int, list[int]] | None = None
        self._find()

    def _find(self) -> None:
        text, number = self.files.text, self.files.number
        chips = [(name, text(f"{HWMON}/{name}/name", 64)) for name in self.files.entries(HWMON)]
        for chip, kind in chips:
            for label in self.files.entries(f"{HWMON}/{chip}", "in"):
                index = label[2:].partition("_")[0]
                if label.endswith("_label") and text(f"{HWMON}/{chip}/{label}", 64) == RAIL:
                    stem = f"{HWMON}/{chip}"
                    self.rails = [(f"{stem}/in{index}_input", f"{stem}/curr{index}_input")]
                    self.source = f"{kind} {RAIL}"
                    return
        for name in self.files.entries(RAPL, "intel-rapl:"):
            is_package = text(f"{RAPL}/{name}/name", 64).startswith("package")
            if is_package and number(f"{RAPL}/{name}/energy_uj") is not None:
                self.packages.append(f"{RAPL}/{name}")
                self.source = "RAPL package"
        if self.packages:
            return
        monitors = [chip for chip, kind in chips if kind.startswith("ina")]
        meters = [f"{HWMON}/{chip}/power1_input" for chip in monitors]
        meters = [path for path in meters if number(path) is not None]
        if len(meters) == 1:  # of several, nobody says which is the whole
            self.watts = meters
            self.source = "INA monitor"

    def read(self, now: int) -> tuple[float | None, str]:
        """Watts and what measured them."""
        number = self.files.number
        watts: float | None = None
        if self.rails:
            volts, amperes = (number(path) for path in self.rails[0])
            watts = None if volts is None or amperes is None else volts * amperes * 1e-6
        elif self.packages:
            watts = self._mean(now)
        elif self.watts:
            microwatts = number(self.watts[0])
            watts = None if microwatts is None else microwatts * 1e-6
        if watts is None or not 0 <= watts < MAX_W:
            return None, ""
        return watts, self.source

    def _mean(self, now: int) -> float | None:
        energy = [self.files.number(f"{path}/energy_uj") for path in self.packages]
        known = [value for value in energy if value is not None]
        last, self.last = self.last, (now, known) if len(known) == len(energy) else None
        if last is None or self.last is None or now <= last[0]:
            return None
        spent = 0
        for path, before, after in zip(self.packages, last[1], known, strict=True):
            wraps = self.files.number(f"{path}/max_energy_range_uj") or 0
            spent += after - before if after >= before else after - before + wraps
        return spent * 1e3 / (now - last[0])
