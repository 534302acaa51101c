"""The cores of a machine in classes, from what its kernel says, without a table of boards.

Order of belief: `cpu_capacity` (arm64, 1024 is the biggest), else the highest clock, else the part
of /proc/cpuinfo. Source: reference A3; part numbers: Arm's technical reference manuals (MIDR_EL1).
"""

import os
import re
from collections.abc import Mapping, Sequence

import msgspec

from haihe.boards.root_files import RootFiles

# implementer, part: name, and its rank where nothing else tells big from little
PARTS = {
    (0x41, 0xD03): ("Cortex-A53", 1),
    (0x41, 0xD05): ("Cortex-A55", 2),
    (0x41, 0xD08): ("Cortex-A72", 3),
    (0x41, 0xD09): ("Cortex-A73", 4),
    (0x41, 0xD0B): ("Cortex-A76", 5),
    (0x41, 0xD41): ("Cortex-A78", 6),
    (0x41, 0xD42): ("Cortex-A78AE", 6),
}
# what decides how a model should be quantised or which kernels run
FEATURES = frozenset((
    "asimd", "asimddp", "asimdhp", "fphp", "i8mm", "bf16", "sve", "sve2", "sme", "sme2", "svei8mm",
    "svebf16", "sse4_2", "avx", "avx2", "f16c", "fma", "avx512f", "avx512_vnni", "avx512_bf16",
    "avx_vnni", "amx_int8", "amx_tile", "lsx", "lasx", "v",
))  # fmt: skip
SAME_CLASS = 0.85  # cores of one kind whose clocks differ by less are one class (2.7 and 2.4 GHz)
MAX_CPUS = 1024
CPUS = "/sys/devices/system/cpu"


class Core(msgspec.Struct, frozen=True):
    """One cpu; size: big, middle or little, `big` where all are alike. 0: the kernel is silent."""

    cpu: int
    kind: str = ""
    size: str = "big"
    capacity: int = 0
    max_khz: int = 0

    def __str__(self) -> str:
        clock = f" {self.max_khz / 1e6:.3g} GHz" if self.max_khz else ""
        return f"{self.kind or 'core'}{clock} ({self.size})"


Blocks = list[dict[str, str]]


def cpuinfo(files: RootFiles) -> Blocks:
    """The blocks of /proc/cpuinfo: one per cpu, on some machines a last one about the board."""
    blocks = []
    for part in re.split(r"\n\s*\n", files.text("/proc/cpuinfo", 1 << 20))[: MAX_CPUS + 1]:
        pairs = (line.partition(":") for line in part.splitlines())
        block = {key.strip(): value.strip() for key, colon, value in pairs if colon}
        if block:
            blocks.append(block)
    return blocks


def read_cores(files: RootFiles, blocks: Blocks) -> list[Core]:
    """Every cpu that the kernel lists, in classes."""
    by_cpu: dict[int, dict[str, str]] = {}
    for block in blocks:
        if (cpu := _integer(block.get("processor", ""))) is not None:
            by_cpu[cpu] = block
    for name in files.entries(CPUS, "cpu"):
        if (cpu := _integer(name[3:])) is not None:
            by_cpu.setdefault(cpu, {})
    cores, values = [], []
    for cpu in sorted(by_cpu)[:MAX_CPUS]:
        kind, rank = _kind(by_cpu[cpu])
        folder = f"{CPUS}/cpu{cpu}"
        capacity = _sane(files.number(f"{folder}/cpu_capacity"), 1 << 16)
        khz = _sane(files.number(f"{folder}/cpufreq/cpuinfo_max_freq"), 20_000_000)
        cores.append(Core(cpu, kind, "big", capacity, khz))
        values.append((capacity, khz, rank))
    for choice in range(3):
        if cores and all(value[choice] for value in values):
            return _sized(cores, [value[choice] for value in values])
    return cores


def _sized(cores: list[Core], values: list[int]) -> list[Core]:
    order = sorted(zip(values, cores, strict=True), key=lambda pair: (-pair[0], pair[1].kind))
    classes: list[list[Core]] = []
    top, kind = 0, ""
    for value, core in order:
        if not classes or core.kind != kind or value < top * SAME_CLASS:
            classes.append([])
            top, kind = value, core.kind
        classes[-1].append(core)
    sized = []
    for index, members in enumerate(classes):
        last = index == len(classes) - 1
        size = "big" if index == 0 else "little" if last else "middle"
        sized += [msgspec.structs.replace(core, size=size) for core in members]
    return sorted(sized, key=lambda core: core.cpu)


def choose_cores(wanted: Mapping[str, int | str], cores: Sequence[Core]) -> dict[str, int]:
    """A CPU for each thread. wanted: by thread, a number or a class. The highest number of a class
    that no other thread has, since interrupts come to CPU 0 unless somebody moved them; where the
    class has too few, threads share in turn; -1 where the machine has no core of that class."""
    chosen = {name: core for name, core in wanted.items() if isinstance(core, int)}
    for name, size in wanted.items():
        if isinstance(size, int):
            continue
        members = [core.cpu for core in cores if core.size == size]
        taken = list(chosen.values())
        chosen[name] = min(members, key=lambda cpu: (taken.count(cpu), -cpu), default=-1)
    return chosen


def usable_cores() -> list[Core]:
    """The cores of this machine that this process may run on, in classes."""
    files = RootFiles()
    allowed = os.sched_getaffinity(0)
    return [core for core in read_cores(files, cpuinfo(files)) if core.cpu in allowed]


def features(blocks: Blocks) -> list[str]:
    """The features that every cpu has, of those that decide about inference."""
    common: set[str] | None = None
    for block in blocks:
        names = ("Features", "flags", "isa")
        text = next((block[name] for name in names if name in block), None)
        if text is None:
            continue
        words = set(text.lower().split())
        if text.startswith("rv64"):
            words = {"v"} if "v" in text.split("_")[0][4:] else set()
        common = words if common is None else common & words
    return sorted((common or set()) & FEATURES)


def cpu_list(cpus: list[int]) -> str:
    """Numbers as taskset writes them: 0-3,6."""
    parts: list[str] = []
    start = last = None
    for cpu in [*sorted(cpus), None]:
        if start is not None and last is not None and cpu != last + 1:
            parts.append(f"{start}" if start == last else f"{start}-{last}")
            start = None
        start = cpu if start is None else start
        last = cpu
    return ",".join(parts)


def _kind(block: dict[str, str]) -> tuple[str, int]:
    implementer, part = (_integer(block.get(f"CPU {key}", "")) for key in ("implementer", "part"))
    if implementer is not None and part is not None:
        known = PARTS.get((implementer, part))
        return known or (f"implementer 0x{implementer:x} part 0x{part:x}", 0)
    for key in ("model name", "Model Name", "uarch"):
        if block.get(key):
            return block[key][:80], 0
    return "", 0


def _sane(value: int | None, limit: int) -> int:
    return value if value is not None and 0 < value < limit else 0


def _integer(text: str) -> int | None:
    try:
        return int(text[:20], 0) if text.startswith("0x") else int(text[:20])
    except ValueError:
        return None
