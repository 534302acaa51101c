"""What the ladder is told of a machine."""

from pathlib import Path

from haihe.boards.health import HealthReader
from haihe.runtime.exec.ladder import Health


def put(root: Path, name: str, text: str) -> None:
    path = root / name.lstrip("/")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_a_machine_that_tells_nothing(tmp_path: Path) -> None:
    assert HealthReader(tmp_path)() == Health()


def test_the_hottest_sensor_the_emptiest_battery_and_the_load_since_the_last_call(
    tmp_path: Path,
) -> None:
    put(tmp_path, "/sys/class/thermal/thermal_zone0/temp", "51000\n")
    put(tmp_path, "/sys/class/thermal/thermal_zone1/temp", "72500\n")
    put(tmp_path, "/sys/class/thermal/thermal_zone2/temp", "-274000\n")  # not connected
    supply = "/sys/class/power_supply"
    put(tmp_path, f"{supply}/BAT0/type", "Battery\n")
    put(tmp_path, f"{supply}/BAT0/capacity", "37\n")
    put(tmp_path, f"{supply}/AC/type", "Mains\n")
    put(tmp_path, f"{supply}/AC/capacity", "5\n")
    put(tmp_path, "/proc/stat", "cpu  100 0 50 800 50 0 0 0 0 0\ncpu0 1 2 3 4 5 6 7 8 9 0\n")
    read = HealthReader(tmp_path)
    put(tmp_path, "/proc/stat", "cpu  160 0 70 900 70 0 0 0 0 0\n")
    assert read() == Health(72.5, 0.4, 0.37)  # 80 of 200 jiffies were busy
    assert read().load is None  # no time has passed


def test_a_damaged_file_is_no_load(tmp_path: Path) -> None:
    put(tmp_path, "/proc/stat", "cpu  100 0 x\n")
    assert HealthReader(tmp_path)().load is None
