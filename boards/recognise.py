"""Which board is this: by its files, below any root, whatever they hold.

Order, the first that answers decides (reference A2):
1. /etc/haihe/board, which holds a profile's name; DMI board and product names
2. /proc/device-tree/compatible: whole entries, in its order, the most specific first
3. /proc/device-tree/model
4. files of the vendor, Armbian's BOARD
5. /proc/cpuinfo
6. the kind of machine: a generic profile
A profile that `requires` a file, such as a HAT's device, goes before the one that does not.
"""

import difflib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import msgspec

from haihe.boards.compute_profile import ComputeProfile, FileRule, Match, all_profiles
from haihe.boards.cores import Blocks, Core, cpu_list, cpuinfo, features, read_cores
from haihe.boards.emulation import emulation, hypervisor, machine_of
from haihe.boards.root_files import RootFiles

TREE = "/proc/device-tree"
DMI = "/sys/devices/virtual/dmi/id"
OVERRIDE = "/etc/haihe/board"
SHOWN = 120  # of a text from a file, in a message

# what a device node stands for, whichever board it is on
NODES = (
    ("/dev/hailo*", "Hailo"),
    ("/dev/apex_*", "Coral Edge TPU (PCIe)"),
    ("/dev/nvhost-ctrl-gpu", "NVIDIA integrated GPU"),
    ("/dev/nvgpu", "NVIDIA integrated GPU"),
    ("/dev/nvidia0", "NVIDIA GPU"),
    ("/sys/kernel/debug/rknpu", "Rockchip NPU"),
    ("/dev/davinci*", "Ascend NPU"),
    ("/dev/bpu*", "Horizon BPU"),
    ("/dev/galcore", "VeriSilicon NPU"),
    ("/dev/ethosu*", "Ethos-U"),
    ("/dev/accel/accel*", "accelerator of the mainline kernel"),
    ("/dev/cvi-tpu0", "Sophgo TPU"),
    ("/dev/bm-tpu0", "BM1684X TPU"),
    ("/dev/qaic_*", "Qualcomm Cloud AI"),
    ("/dev/adsprpc-smd", "Hexagon DSP"),
    ("/dev/fastrpc-cdsp", "Hexagon DSP"),
)
EDGE_TPU_USB = ("1a6e:089a", "18d1:9302")

Step = Literal["override", "compatible", "soc", "model", "file", "cpuinfo", "machine"]


class Node(msgspec.Struct, frozen=True):
    """An accelerator's device node."""

    path: str
    name: str


class Recognition(msgspec.Struct):
    """The machine as its files tell it.

    why: which text matched where. certainty: the step that decided; with soc, file, cpuinfo and
    machine it may be another board of the same chip (`is_exact` is False).
    """

    board: str
    why: str
    certainty: Step
    model: str = ""
    soc: str = ""
    machine: str = ""
    cores: list[Core] = []
    isa: list[str] = []
    accelerators: list[Node] = []
    memory_bytes: int = 0
    is_virtual: bool = False
    is_emulated: bool = False
    notes: list[str] = []  # what was odd: an unknown name in the override, what says it is emulated

    @property
    def is_exact(self) -> bool:
        """Whether the board itself was named, not only its chip."""
        return self.certainty in ("override", "compatible", "model")

    @property
    def big_cores(self) -> list[int]:
        """Numbers of the fastest cores; of all where all are alike."""
        return [core.cpu for core in self.cores if core.size == "big"]

    @property
    def little_cores(self) -> list[int]:
        """Numbers of the slowest cores; none where all are alike."""
        return [core.cpu for core in self.cores if core.size == "little"]

    def describe(self) -> str:
        """Several lines for a terminal."""
        lines = [f"{self.board}  ({self.why})"]
        sizes = dict.fromkeys(core.size for core in self.cores)
        for size in sizes:
            members = [core for core in self.cores if core.size == size]
            numbers = cpu_list([core.cpu for core in members])
            lines.append(f"  cores    {len(members)} x {members[0]}, cpu {numbers}")
        rows = (
            ("model", self.model),
            ("soc", self.soc),
            ("machine", self.machine),
            ("isa", " ".join(self.isa)),
            ("memory", f"{self.memory_bytes / 2**30:.1f} GiB" if self.memory_bytes else ""),
            ("virtual", "a guest under a hypervisor" if self.is_virtual else ""),
            ("emulated", "yes: no figure of this machine means anything" * self.is_emulated),
        )
        lines += [f"  {name:<8} {text}" for name, text in rows if text]
        lines += [f"  infers   {node.name} ({node.path})" for node in self.accelerators]
        return "\n".join([*lines, *(f"  note     {note}" for note in self.notes)])


class _Seen(msgspec.Struct):
    """What the steps look at, read once."""

    files: RootFiles
    compatible: list[str]
    model: str
    dmi: list[str]
    armbian: str
    blocks: Blocks
    machine: str
    profiles: list[ComputeProfile]
    notes: list[str]


class _Found(msgspec.Struct):
    profile: ComputeProfile
    certainty: Step
    why: str


def recognise(root: str | Path = "/") -> Recognition:
    """Recognise the machine whose files are below `root`. Never raises, whatever they hold."""
    files = RootFiles(root)
    seen = _look(files)
    found = next((answer for step in STEPS for answer in step(seen)), None) or _generic(seen)
    found = _refine(found, seen)
    profile = found.profile
    reasons = emulation(files, seen.machine, seen.blocks)
    tree_soc = seen.compatible[-1] if seen.compatible else ""
    return Recognition(
        board=profile.board,
        why=found.why,
        certainty=found.certainty,
        model=seen.model or next(iter(seen.dmi), "") or _cpu_model(seen.blocks),
        soc=tree_soc or profile.soc or _cpu_model(seen.blocks),
        machine=seen.machine,
        cores=read_cores(files, seen.blocks),
        isa=features(seen.blocks),
        accelerators=accelerators(files),
        memory_bytes=_memory(files),
        is_virtual=hypervisor(files, seen.blocks, seen.compatible),
        is_emulated=bool(reasons),
        notes=seen.notes + reasons,
    )


def _look(files: RootFiles) -> _Seen:
    profiles, problems = all_profiles()
    present = [p for p in profiles if all(files.matches(path) for path in p.match.requires)]
    present.sort(key=lambda p: -len(p.match.requires))
    entries = files.data(f"{TREE}/compatible", 4096).split(b"\0")
    blocks = cpuinfo(files)
    dmi = [_shown(files.text(f"{DMI}/{key}", 256)) for key in ("board_name", "product_name")]
    return _Seen(
        files=files,
        compatible=[_shown(e.decode("utf-8", "replace")) for e in entries if e.strip()][:32],
        model=_shown(files.text(f"{TREE}/model", 1024)),
        dmi=[name for name in dmi if name],
        armbian=_variable(files.text("/etc/armbian-release", 8192), "BOARD"),
        blocks=blocks,
        machine=machine_of(files, blocks),
        profiles=present,
        notes=list(problems),
    )


def _override(seen: _Seen) -> Iterator[_Found]:
    wanted = seen.files.text(OVERRIDE, 256)
    for profile in seen.profiles:
        if profile.board == wanted:
            yield _Found(profile, "override", f"{OVERRIDE} says {wanted}")
    if wanted:
        near = difflib.get_close_matches(wanted, [p.board for p in seen.profiles], n=1)
        cure = f"Did you mean {near[0]!r}?" if near else "See: haihe boards list"
        seen.notes.append(f"{OVERRIDE} says {_shown(wanted)!r}, which is no profile. {cure}")


def _dmi(seen: _Seen) -> Iterator[_Found]:
    for name in seen.dmi:
        for profile in seen.profiles:
            for text in profile.match.dmi:
                if text in name:
                    yield _Found(profile, "model", f"DMI name {name!r}")


def _compatible(seen: _Seen) -> Iterator[_Found]:
    for entry in seen.compatible:
        for profile in seen.profiles:
            if entry in profile.match.compatible:
                yield _Found(profile, "compatible", f"compatible {entry}")
        for profile in seen.profiles:
            if entry in profile.match.soc:
                yield _Found(
                    profile, "soc", f"compatible {entry}, the chip; the board is not known"
                )
    for entry in seen.compatible:
        for profile in seen.profiles:
            for text in profile.match.soc_contains:
                if text in entry:
                    yield _Found(profile, "soc", f"compatible {entry}, which contains {text!r}")


def _model(seen: _Seen) -> Iterator[_Found]:
    hits = [(-len(t), p) for p in seen.profiles for t in p.match.model if t in seen.model]
    for _, profile in sorted(hits, key=lambda hit: hit[0]):
        yield _Found(profile, "model", f"model {seen.model!r}")


def _vendor_files(seen: _Seen) -> Iterator[_Found]:
    for profile in seen.profiles:
        if seen.armbian and seen.armbian in profile.match.armbian:
            why = f"BOARD={seen.armbian} in /etc/armbian-release"
            yield _Found(profile, "model", why)
    for profile in _of_machine(seen):
        for rule in profile.match.files:
            if (said := _holds(rule, seen.files)) is not None:
                yield _Found(profile, "file", f"{rule.path}{said}; the board itself is not known")


def _cpuinfo(seen: _Seen) -> Iterator[_Found]:
    for profile in _of_machine(seen):
        for rule in profile.match.cpuinfo:
            for block in seen.blocks:
                value = block.get(rule.field, "")
                if rule.contains in value:
                    why = f"/proc/cpuinfo {rule.field}: {_shown(value)}; the board is not known"
                    yield _Found(profile, "cpuinfo", why)


STEPS: tuple[Callable[[_Seen], Iterator[_Found]], ...] = (
    _override, _dmi, _compatible, _model, _vendor_files, _cpuinfo,
)  # fmt: skip


def _refine(found: _Found, seen: _Seen) -> _Found:
    """Where the tree names only the chip, the model text can still name the board."""
    if found.certainty in ("soc", "file", "cpuinfo"):
        for better in (*_model(seen), *_vendor_files(seen)):
            if better.certainty == "model" and better.profile.soc == found.profile.soc:
                return _Found(
                    better.profile, "model", f"{better.why} and {found.why.split(';')[0]}"
                )
    return found


def _generic(seen: _Seen) -> _Found:
    told = {
        "compatible": ", ".join(seen.compatible),
        "model": seen.model,
        "DMI": ", ".join(seen.dmi),
        "cpu": _cpu_model(seen.blocks),
    }
    says = "; ".join(f"{key} {text}" for key, text in told.items() if text) or "it says nothing"
    why = (
        f"no profile knows this machine ({says}). To name it: a profile's name in {OVERRIDE}, or a "
        "new boards/compute/NAME.yaml"
    )
    named = {p.board: p for p in seen.profiles}
    profile = named.get(f"generic-{seen.machine}") or named.get("generic")
    if profile is None:  # a broken installation: say so and go on
        profile = ComputeProfile("generic", "", match=Match(), source=())
        seen.notes.append("the profile `generic` is missing: install haihe again")
    return _Found(profile, "machine", why)


def accelerators(files: RootFiles) -> list[Node]:
    """The device nodes of things that infer."""
    nodes = [Node(path, name) for pattern, name in NODES for path in files.matches(pattern)]
    render = "/dev/dri/renderD129"
    driver = files.link("/sys/class/drm/renderD129/device/driver").rpartition("/")[2]
    if "rknpu" in driver.lower() and files.exists(render):
        nodes.append(Node(render, "Rockchip NPU"))
    usb = "/sys/bus/usb/devices"
    for name in files.entries(usb)[:256]:
        vendor, product = (
            files.text(f"{usb}/{name}/{key}", 16) for key in ("idVendor", "idProduct")
        )
        if f"{vendor}:{product}" in EDGE_TPU_USB:
            nodes.append(Node(f"{usb}/{name}", "Coral Edge TPU (USB)"))
    return nodes


def _of_machine(seen: _Seen) -> list[ComputeProfile]:
    """Profiles that this kind of machine can be: a card of Ascend fits into a PC as well."""
    return [p for p in seen.profiles if seen.machine in ("", p.machine)]


def _holds(rule: FileRule, files: RootFiles) -> str | None:
    """How a file answers a rule, for the reason; None where it does not."""
    if not (rule.contains or rule.equals):
        return " is there" if files.matches(rule.path) else None
    text = files.text(rule.path, 8192)
    if rule.contains and rule.contains in text:
        return f" contains {rule.contains!r}"
    return f" is {text!r}" if text in rule.equals else None


def _cpu_model(blocks: Blocks) -> str:
    for block in (*blocks[-1:], *blocks[:1]):
        for key in ("Model", "Hardware", "model name", "Model Name"):
            if block.get(key):
                return _shown(block[key])
    return ""


def _memory(files: RootFiles) -> int:
    for line in files.text("/proc/meminfo", 8192).splitlines():
        words = line.split()
        if len(words) >= 2 and words[0] == "MemTotal:" and words[1].isdecimal():
            return int(words[1][:15]) * 1024
    return 0


def _variable(text: str, name: str) -> str:
    for line in text.splitlines():
        key, equals, value = line.partition("=")
        if equals and key.strip() == name:
            return _shown(value.strip().strip("\"'"))
    return ""


def _shown(text: str) -> str:
    """A text of a machine on one line of a message, without what a terminal would obey."""
    return "".join(c if c.isprintable() else "?" for c in text.strip())[:SHOWN]
