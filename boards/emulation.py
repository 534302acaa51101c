"""What kind of machine the files belong to, and whether it is a real one.

A figure measured under emulation says nothing, so an emulated machine must be noticed. qemu-user
answers `uname` and some files of /proc as the emulated machine would; what it does not rewrite
tells (checked with qemu-user 7.2): /proc/thread-self/exe, /proc/sys/kernel/arch, the modalias of
the cpus, and AT_HWCAP against a /proc/cpuinfo that somebody wrote. A root that is made for
emulation carries the file `MARKER`.
"""

import os
import platform

from haihe.boards.cores import Blocks
from haihe.boards.root_files import RootFiles

MARKER = "/etc/haihe-emulated"  # tests/arm64 writes it
# e_machine of ELF
ELF = {3: "i686", 40: "arm", 62: "x86_64", 183: "aarch64", 243: "riscv64", 258: "loongarch64"}
PROGRAMS = ("/bin/sh", "/usr/bin/env", "/sbin/init", "/usr/bin/python3", "/bin/busybox")
FAMILIES = {"amd64": "x86_64", "i686": "x86_64", "i386": "x86_64", "arm64": "aarch64"}
FAMILIES |= {"armv7l": "arm", "armv8l": "aarch64", "armv6l": "arm"}
VENDORS = (
    "QEMU", "KVM", "VMware", "VirtualBox", "innotek", "Xen", "Bochs", "Parallels",
    "Virtual Machine", "Amazon EC2", "Google Compute Engine",
)  # fmt: skip
AT_HWCAP = 16
# bits of AT_HWCAP on aarch64 by their names in /proc/cpuinfo (arch/arm64/include/uapi/asm/hwcap.h)
HWCAP = dict(enumerate(("fp", "asimd", "evtstrm", "aes", "pmull", "sha1", "sha2", "crc32")))
HWCAP |= {8: "atomics", 9: "fphp", 10: "asimdhp", 12: "asimdrdm", 20: "asimddp", 22: "sve"}


def machine_of(files: RootFiles, blocks: Blocks) -> str:
    """aarch64, x86_64, ...: as uname says it, or as the programs below a root do; '' unknown."""
    if files.is_live:
        name = platform.machine()
        return {"amd64": "x86_64", "arm64": "aarch64"}.get(name, name)
    for program in PROGRAMS:
        head = files.data(program, 20)
        if len(head) == 20 and head[:4] == b"\x7fELF":
            kind = int.from_bytes(head[18:20], "little" if head[5] == 1 else "big")
            if kind in ELF:
                return ELF[kind]
    return _machine_of_cpuinfo(blocks)


def emulation(files: RootFiles, machine: str, blocks: Blocks) -> list[str]:
    """What says that the machine is emulated; empty for a real one."""
    reasons = []
    if files.exists(MARKER):
        reasons.append(f"emulated: {MARKER} is there")
    if not files.is_live:
        return reasons
    program = os.path.basename(files.link("/proc/thread-self/exe"))
    if program.startswith("qemu-"):
        reasons.append(f"emulated: this process is run by {program}")
    ours = _family(machine)
    kernel = _family(files.text("/proc/sys/kernel/arch", 64))
    if kernel and kernel != ours:
        reasons.append(f"emulated: uname says {machine}, the kernel is of {kernel}")
    if "x86" in files.text("/sys/devices/system/cpu/modalias", 64)[:16] and ours != "x86_64":
        reasons.append(f"emulated: uname says {machine}, the cpus are of x86")
    cpu = _machine_of_cpuinfo(blocks)
    if cpu and _family(cpu) != ours:
        reasons.append(f"emulated: uname says {machine}, /proc/cpuinfo is of {cpu}")
    elif ours == "aarch64" and blocks and (odd := _odd_features(blocks[0].get("Features", ""))):
        reasons.append(f"emulated: /proc/cpuinfo and AT_HWCAP differ in {' '.join(odd)}")
    return reasons


def hypervisor(files: RootFiles, blocks: Blocks, compatible: list[str]) -> bool:
    """Whether the machine is a guest."""
    if any("hypervisor" in block.get("flags", "").split() for block in blocks[:1]):
        return True
    dmi = "/sys/devices/virtual/dmi/id"
    named = " ".join(files.text(f"{dmi}/{key}", 256) for key in ("sys_vendor", "product_name"))
    return (
        any(vendor in named for vendor in VENDORS)
        or "linux,dummy-virt" in compatible
        or bool(files.text("/sys/hypervisor/type", 64))
        or files.exists("/proc/device-tree/hypervisor")
    )


def _machine_of_cpuinfo(blocks: Blocks) -> str:
    for block in blocks[:1]:
        if "CPU implementer" in block:
            return "arm" if block.get("CPU architecture") in ("6", "7") else "aarch64"
        if "flags" in block and "vendor_id" in block:
            return "x86_64"
        if block.get("isa", "").startswith("rv64"):
            return "riscv64"
    for block in blocks[:2]:
        if "Loongson" in block.get("Model Name", "") + block.get("CPU Family", ""):
            return "loongarch64"
    return ""


def _odd_features(line: str) -> list[str]:
    """Features that one of /proc/cpuinfo and the kernel's word to this process has alone."""
    import ctypes

    try:
        getauxval = ctypes.CDLL(None).getauxval
    except (OSError, AttributeError):
        return []
    getauxval.restype, getauxval.argtypes = ctypes.c_ulong, [ctypes.c_ulong]
    bits = getauxval(AT_HWCAP)
    told = {name for bit, name in HWCAP.items() if bits >> bit & 1}
    written = set(line.split()) & set(HWCAP.values())
    return sorted(told ^ written) if line else []


def _family(machine: str) -> str:
    return FAMILIES.get(machine, machine)
