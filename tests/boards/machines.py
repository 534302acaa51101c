"""Fake roots: the files of every board that the reference names, made from `machines.yaml`."""

import os
import random
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import yaml


class Kind(NamedTuple):
    """A board: its name in tests, the profile it must get, and the strings of its files."""

    name: str
    profile: str
    compatible: tuple[str, ...] = ()
    model: str = ""
    files: tuple[tuple[str, str], ...] = ()
    machine: str = "aarch64"
    certainty: str = "compatible"


KINDS = tuple(
    Kind(
        **{
            **entry,
            "compatible": tuple(entry.get("compatible", ())),
            "files": tuple(entry.get("files", {}).items()),
        }
    )
    for entry in yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
)
ELF = {"aarch64": 183, "x86_64": 62, "riscv64": 243, "loongarch64": 258}
# what every Linux has; a mutation must not hurt here either
COMMON = {
    "/proc/meminfo": "MemTotal:        8000000 kB\nMemFree: 1 kB\n",
    "/proc/loadavg": "0.52 0.58 0.59 1/600 12345\n",
    "/proc/mounts": "/dev/mmcblk0p2 / ext4 rw 0 0\nproc /proc proc rw 0 0\n",
    "/proc/self/smaps": "00400000-0042c000 r-xp 00000000 b3:02 1 /bin/sh\nKernelPageSize: 16 kB\n",
    "/sys/block/mmcblk0/device/type": "SD\n",
    "/sys/devices/system/clocksource/clocksource0/current_clocksource": "arch_sys_counter\n",
    "/sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
    "/sys/class/thermal/thermal_zone0/temp": "51234\n",
    "/sys/class/thermal/thermal_zone1/type": "cpu-thermal\n",
    "/sys/class/thermal/thermal_zone1/temp": "-275000\n",
    "/sys/class/thermal/cooling_device0/type": "thermal-cpufreq-0\n",
    "/sys/class/thermal/cooling_device0/cur_state": "0\n",
    "/sys/class/thermal/cooling_device1/type": "pwm-fan\n",
    "/sys/class/thermal/cooling_device1/cur_state": "3\n",
    "/sys/class/devfreq/fdab0000.npu/cur_freq": "1000000000\n",
    "/sys/bus/usb-serial/devices/ttyUSB0/latency_timer": "16\n",
    "/dev/ttyUSB0": "",
    "/dev/ttyAMA0": "",
}  # fmt: skip


def make(root: Path, kind: Kind) -> Path:
    """The files of a board below `root`."""
    files = dict(COMMON)
    base = "/sys/firmware/devicetree/base"
    if kind.compatible:
        files[f"{base}/compatible"] = "\0".join(kind.compatible) + "\0"
    if kind.model:
        files[f"{base}/model"] = kind.model + "\0"
    if kind.machine == "aarch64":
        files["/proc/cpuinfo"] = arm_cpuinfo([0xD05] * 4 + [0xD0B] * 4)
    for policy, khz in ((0, 1_800_000), (4, 2_400_000)):
        folder = f"/sys/devices/system/cpu/cpufreq/policy{policy}"
        files[f"{folder}/scaling_governor"] = "ondemand\n"
        files[f"{folder}/scaling_cur_freq"] = f"{khz // 2}\n"
    files |= dict(kind.files)
    for name, text in files.items():
        write(root, name, text)
    head = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x03\x00" + ELF[kind.machine].to_bytes(2, "little")
    (root / "bin").mkdir(exist_ok=True)
    (root / "bin/sh").write_bytes(head + bytes(44))
    (root / "proc/device-tree").symlink_to(base)  # absolute, as on a real machine
    return root


def write(root: Path, name: str, text: str) -> None:
    """One file of a machine."""
    path = root / name.lstrip("/")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())


def arm_cpuinfo(parts: list[int], features: str = "fp asimd asimddp asimdhp fphp") -> str:
    """/proc/cpuinfo of an Arm machine with these cores."""
    return "".join(
        f"processor\t: {cpu}\nBogoMIPS\t: 48.00\nFeatures\t: {features}\nCPU implementer\t: 0x41\n"
        f"CPU architecture: 8\nCPU part\t: 0x{part:x}\n\n"
        for cpu, part in enumerate(parts)
    )


def mutate(root: Path, random: random.Random) -> tuple[list[str], list[Callable[[], None]]]:
    """Spoil some files of a root, each in a way of its own; what was done, and its undoing."""
    paths = sorted(p for p in root.rglob("*") if not p.is_dir() or p.is_symlink())
    done: list[str] = []
    undo: list[Callable[[], None]] = []
    for path in random.sample(paths, min(len(paths), random.randint(1, 8))):
        how = random.choice(sorted(SPOILS))
        target = os.readlink(path) if path.is_symlink() else path.read_bytes()
        undo.append(partial(_restore, path, target))
        SPOILS[how](path, random)
        done.append(f"{how} {path.relative_to(root)}")
    return done, undo


def _restore(path: Path, was: str | bytes) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    if isinstance(was, str):
        path.symlink_to(was)
    else:
        path.write_bytes(was)


def _bytes(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""


def _truncate(path: Path, random: random.Random) -> None:
    data = _bytes(path)
    path.write_bytes(data[: random.randint(0, len(data))]) if path.is_file() else None


def _flip(path: Path, random: random.Random) -> None:
    data = bytearray(_bytes(path))
    for _ in range(min(len(data), 8)):
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)
    path.write_bytes(data) if path.is_file() else None


def _noise(path: Path, random: random.Random) -> None:
    path.write_bytes(random.randbytes(random.randint(1, 5000))) if path.is_file() else None


def _missing(path: Path, random: random.Random) -> None:
    path.unlink()


def _huge(path: Path, random: random.Random) -> None:
    if path.is_file():
        os.truncate(path, 1 << 40)  # sparse


def _digits(path: Path, random: random.Random) -> None:
    path.write_text(random.choice("-0179") * random.randint(1, 6000)) if path.is_file() else None


def _mode(path: Path, random: random.Random) -> None:
    if path.is_file():
        path.chmod(random.choice((0o000, 0o200, 0o777)))


def _loop(path: Path, random: random.Random) -> None:
    path.unlink()
    path.symlink_to(
        random.choice((path.name, f"../{path.parent.name}/{path.name}", "/proc/../proc"))
    )


def _folder(path: Path, random: random.Random) -> None:
    path.unlink()
    path.mkdir()
    (path / "\udcff\n").touch()


def _pipe(path: Path, random: random.Random) -> None:
    path.unlink()
    os.mkfifo(path)


SPOILS: dict[str, Any] = {
    f.__name__[1:]: f
    for f in (
        _truncate, _flip, _noise, _missing, _huge, _digits, _mode, _loop, _folder, _pipe,
    )
}  # fmt: skip
