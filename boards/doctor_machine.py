"""Checks of `haihe doctor` on the board, its ports, clocks, memory and disk."""

from collections.abc import Iterator

from haihe.boards.doctor_facts import Facts, Finding, Severity
from haihe.boards.machine import UNDER_VOLTAGE

SLOW_CLOCKS = ("hpet", "acpi_pm", "jiffies", "pit", "refined-jiffies")
WARM_DEGC, HOT_DEGC = 60.0, 80.0
SHM_LEAST = 256 << 20  # a container has 64 MB unless told otherwise
DISK_LEAST, DISK_WELL = 200 << 20, 2 << 30

Check = Iterator[Finding]


def board(facts: Facts) -> Check:
    found, profile = facts.found, facts.profile
    if found.is_emulated:
        yield Finding(
            "board",
            "warning",
            "emulated: no figure from here means anything",
            "Measure on the real board.",
        )
    if profile is not None and not profile.is_host:
        yield Finding(
            "board",
            "warning",
            f"{profile.about} is a peer, no host for haihe",
            "Run haihe on a computer beside it and reach it over a wire.",
        )
    if found.is_virtual:
        yield Finding(
            "board",
            "note",
            "a guest under a hypervisor: clocks and heat are hidden, other guests show as jitter",
            "Trust no worst case from here.",
        )
    if found.certainty == "machine":
        yield Finding(
            "board",
            "note",
            "not recognised, a generic profile is used",
            "Write boards/compute/NAME.yaml, or a profile's name to /etc/haihe/board.",
        )
    elif not found.is_exact:
        yield Finding(
            "board",
            "note",
            "only the chip was recognised; ports and memory may differ",
            "Write a profile's name to /etc/haihe/board to be sure.",
        )
    else:
        yield Finding("board", "ok", found.board)
    for note in found.notes:
        if not note.startswith("emulated"):
            yield Finding("board", "warning", note, "Correct the file that it names.")


def camera(facts: Facts) -> Check:
    nodes = facts.files.entries("/dev", "video")
    python = facts.python
    if facts.found.board.startswith("rpi") and python is not None:
        if "libcamera" in python.modules:
            yield Finding("camera", "ok", "libcamera can be imported")
        elif not python.sees_system:
            yield Finding(
                "camera",
                "warning",
                "the venv does not see the system's packages, and "
                "libcamera and picamera2 are only there",
                "python3 -m venv --system-site-packages .venv, and install haihe again",
            )
        else:
            yield Finding(
                "camera",
                "warning",
                "libcamera cannot be imported: cameras on the ribbon are out of reach",
                "sudo apt install python3-picamera2",
            )
    if nodes:
        yield Finding("camera", "ok", f"{len(nodes)} nodes /dev/video*")
    else:
        yield Finding("camera", "note", "no /dev/video*", "Plug in a camera, or load its overlay.")


def serial(facts: Facts) -> Check:
    if not facts.ports:
        yield Finding(
            "serial",
            "note",
            "no serial port",
            "Plug in the adapter, or see the ports "
            f"of this board: haihe boards show {facts.found.board}",
        )
    for port in facts.ports:
        if port.can_open is False:
            group = port.group or "dialout"
            cure = (
                "log out and in again: this session does not know the group yet"
                if port.is_member
                else f"sudo usermod -aG {group} $USER, then log out and in again"
            )
            if group == "root":
                cure = "a udev rule that gives it to the group dialout"
            severity: Severity = "error" if port.is_usb else "note"
            yield Finding(
                "serial",
                severity,
                f"{port.device}: belongs to the group {group}, and may not be opened",
                cure,
            )
        else:
            yield Finding("serial", "ok", port.device)
        if port.latency_ms is not None and port.latency_ms > 1:
            name = port.device.rpartition("/")[2]
            yield Finding(
                "latency timer",
                "warning",
                f"{port.device}: the adapter holds answers back up to {port.latency_ms} ms",
                f"echo 1 | sudo tee /sys/bus/usb-serial/devices/{name}/latency_timer, to keep it: "
                'a udev rule ACTION=="add", SUBSYSTEM=="usb-serial", DRIVER=="ftdi_sio", '
                'ATTR{latency_timer}="1"',
            )


def clocks(facts: Facts) -> Check:
    state = facts.state
    if state.governor is not None:
        slow = [name for name in state.governor.split(",") if name != "performance"]
        if slow:
            yield Finding(
                "governor",
                "warning",
                f"{', '.join(slow)}: the clock follows the load, late",
                "echo performance | sudo tee /sys/devices/system/cpu/cpufreq/"
                "policy*/scaling_governor",
            )
        else:
            yield Finding("governor", "ok", "performance")
    if state.throttled:
        on = [name for name, level in state.cooling.items() if level > 0]
        yield Finding(
            "throttle",
            "warning",
            f"slowed down right now ({', '.join(on) or 'firmware'})",
            "Cool it, and see its power supply.",
        )
    if state.firmware is not None and state.firmware & UNDER_VOLTAGE:
        yield Finding(
            "power",
            "error",
            "under-voltage right now: it may reset under load",
            "Use the supply that the board asks for, and a short, thick cable.",
        )
    hottest = max(state.temperature_degc.items(), key=lambda item: item[1], default=None)
    if hottest is not None:
        name, degc = hottest
        severity: Severity = "warning" if degc > HOT_DEGC else "note" if degc > WARM_DEGC else "ok"
        cure = "" if severity == "ok" else "A heat sink or a fan; measure when it is cool."
        yield Finding("temperature", severity, f"{name} {degc:.0f} degC", cure)


def time(facts: Facts) -> Check:
    if facts.clocksource in SLOW_CLOCKS:
        yield Finding(
            "clock",
            "warning",
            f"the clock source is {facts.clocksource}: reading the time costs microseconds",
            "See dmesg for why tsc was given up.",
        )
    elif facts.clocksource:
        yield Finding("clock", "ok", facts.clocksource)
    session = facts.session
    if session is None:
        return
    if session.year < 2025:
        yield Finding(
            "time",
            "error",
            f"the wall clock says {session.year}: certificates fail, recordings sort wrongly",
            "sudo timedatectl set-ntp true, or sudo date -s ...",
        )
    elif session.is_synchronised is False:
        yield Finding(
            "time",
            "note",
            "the wall clock is not synchronised; control does not use it, dates of recordings do",
            "sudo timedatectl set-ntp true",
        )


def memory(facts: Facts) -> Check:
    if facts.page_bytes is not None and facts.page_bytes != 4096:
        ort = facts.python.onnxruntime if facts.python is not None else None
        works = ort is not None and bool(ort.version)
        pi = facts.found.board.startswith("rpi")
        yield Finding(
            "pages",
            "note" if works else "warning",
            f"pages of {facts.page_bytes // 1024} kB, which some prebuilt libraries do "
            "not bear" + "; onnxruntime does" * works,
            "kernel=kernel8.img in /boot/firmware/config.txt" if pi else "a kernel with 4 kB",
        )
    if facts.session is None:
        return
    size = facts.session.shm_bytes
    if size is None:
        yield Finding(
            "/dev/shm",
            "error",
            "not there: no shared memory between processes",
            "sudo mount -t tmpfs shm /dev/shm",
        )
    elif size < SHM_LEAST:
        yield Finding(
            "/dev/shm",
            "warning",
            f"{size >> 20} MB, which few frames fill",
            "sudo mount -o remount,size=1G /dev/shm; in a container: --shm-size=1g",
        )
    else:
        yield Finding("/dev/shm", "ok", f"{size >> 20} MB")


def disk(facts: Facts) -> Check:
    card = next((c for c in facts.sd_cards if facts.root_device.startswith(f"/dev/{c}p")), None)
    if card is not None:
        yield Finding(
            "disk",
            "note",
            f"the system is on an SD card ({card}): writing stalls, and recording wears it",
            "Record to an SSD, or to eMMC.",
        )
    if facts.session is None:
        return
    free = facts.session.free_bytes
    severity: Severity = "error" if free < DISK_LEAST else "warning" if free < DISK_WELL else "ok"
    yield Finding(
        "disk",
        severity,
        f"{free / 2**30:.1f} GB free here",
        "" if severity == "ok" else "Make room: a recording fills it.",
    )
