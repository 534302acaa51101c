"""Compute profiles: what a board is recognised by and what it can do, as YAML.

    board: rpi5                       # the file's name
    about: Raspberry Pi 5, Compute Module 5
    soc: BCM2712
    machine: aarch64
    match:                            # see boards/recognise.py for the order
      compatible: ["raspberrypi,5-model-b"]   # whole entries that name the board
      soc: ["brcm,bcm2712"]                   # whole entries of its chip: another board may be it
    cores: [{name: Cortex-A76, count: 4, ghz: [2.4]}]
    unconfirmed: [serial.1.device]    # nobody has checked these: paths into this file
    source: [...]

What differs between the boards of one profile, or is not known, is left out: the machine itself
is asked (cores, memory), and a figure is never made up.
"""

from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from haihe.runtime import registry
from haihe.runtime.errors import BoardError
from haihe.runtime.yaml_config import NOWHERE, Where, load


@dataclass(frozen=True)
class FileRule:
    """A file that is there and, if said, contains a text or is exactly one of several."""

    path: str
    contains: str = ""
    equals: tuple[str, ...] = ()


@dataclass(frozen=True)
class CpuinfoRule:
    """A field of /proc/cpuinfo that contains a text."""

    field: str
    contains: str


@dataclass(frozen=True)
class Match:
    """What a board is recognised by.

    compatible, soc: whole entries of /proc/device-tree/compatible, of the board and of its chip.
    soc_contains: a text inside one entry, for vendor trees that nobody has written down.
    model: part of /proc/device-tree/model. dmi: part of the board or product name.
    armbian: BOARD of /etc/armbian-release. requires: paths without which it is not this profile.
    """

    compatible: tuple[str, ...] = ()
    soc: tuple[str, ...] = ()
    soc_contains: tuple[str, ...] = ()
    model: tuple[str, ...] = ()
    dmi: tuple[str, ...] = ()
    armbian: tuple[str, ...] = ()
    files: tuple[FileRule, ...] = ()
    cpuinfo: tuple[CpuinfoRule, ...] = ()
    requires: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for entry in (*self.compatible, *self.soc):
            if "," not in entry.strip(","):
                raise BoardError(
                    f"match: found the entry {entry!r}, expected vendor,device. In a list in "
                    'brackets it needs quotes: ["vendor,device"].'
                )


@dataclass(frozen=True)
class CoreClass:
    """Cores of one kind. ghz: highest clock, several where boards differ; cpus: their numbers."""

    name: str
    count: int
    ghz: tuple[float, ...] = ()
    cpus: str = ""
    is_for_linux: bool = True


@dataclass(frozen=True)
class Accelerator:
    """Something that infers beside the cores. tops: INT8 peak as the vendor states it."""

    name: str
    tops: float | None = None
    devices: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class Backend:
    """A way to infer here. package: as pip or apt names it; provider: of onnxruntime."""

    runtime: str
    provider: str = ""
    package: str = ""
    format: str = "onnx"
    note: str = ""


@dataclass(frozen=True)
class Port:
    """A serial port or a CAN interface by its device name, and the trap with it."""

    device: str
    note: str = ""


@dataclass(frozen=True)
class ComputeProfile:
    """A board. is_host: runs haihe itself; otherwise it is a peer on a wire."""

    board: str
    about: str
    match: Match
    source: tuple[str, ...]
    soc: str = ""
    machine: Literal["aarch64", "x86_64", "loongarch64", "riscv64", ""] = ""
    is_host: bool = True
    cores: tuple[CoreClass, ...] = ()
    isa: tuple[str, ...] = ()
    isa_absent: tuple[str, ...] = ()
    memory_gb: tuple[float, ...] = ()
    accelerators: tuple[Accelerator, ...] = ()
    backends: tuple[Backend, ...] = ()
    system: str = ""
    serial: tuple[Port, ...] = ()
    can: tuple[Port, ...] = ()
    cameras: str = ""
    thermal: tuple[str, ...] = ()
    power: tuple[str, ...] = ()
    quirks: tuple[str, ...] = ()
    unconfirmed: tuple[str, ...] = ()
    proven_on_hardware: str = ""  # by which report; empty: unproven
    where: Where = NOWHERE

    def __post_init__(self) -> None:
        for path in self.unconfirmed:
            if not _resolves(self, path):
                raise BoardError(
                    f"unconfirmed: found {path!r}, expected the path of a value that this profile "
                    "gives, such as `soc` or `serial.0.device`. Correct or remove it."
                )

    def is_unconfirmed(self, path: str) -> bool:
        """Whether a value, or what holds it, is marked."""
        return any(path == mark or path.startswith(f"{mark}.") for mark in self.unconfirmed)


def _resolves(value: Any, path: str) -> bool:
    for part in path.split("."):
        if isinstance(value, tuple):
            if not part.isdecimal() or int(part) >= len(value):
                return False
            value = value[int(part)]
        elif is_dataclass(value) and part in {f.name for f in fields(value)}:
            value = getattr(value, part)
        else:
            return False
    return value not in ((), "", None)


def load_profile(path: Path) -> ComputeProfile:
    """Read and check a profile. Raises BoardError with file, line and key."""
    profile = load(path, ComputeProfile, BoardError)
    if profile.board != path.stem:
        raise BoardError(
            f"{profile.where.at('board')}: found {profile.board!r}, expected {path.stem!r}: a "
            "board is found by its file's name. Rename one of them."
        )
    return profile


def find_profile(name: str) -> ComputeProfile:
    """The profile of a board. Raises BoardError with the nearest names."""
    return load_profile(registry.find_data("board", name, BoardError))


@cache
def all_profiles() -> tuple[tuple[ComputeProfile, ...], tuple[str, ...]]:
    """Every profile by name, and what is wrong with those that cannot be read."""
    profiles, problems = [], []
    for _, path in sorted(registry.data_names("board").items()):
        try:
            profiles.append(load_profile(path))
        except BoardError as exc:
            problems.append(str(exc))
    return tuple(profiles), tuple(problems)
