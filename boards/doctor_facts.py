"""What `haihe doctor` looks at, gathered once; None where it cannot be known from here.

Below another root than `/` only files are looked at: packages, rights and limits belong to the
machine that runs. onnxruntime is imported in a process of its own: on a machine that it does not
understand it ends the process, and that is a finding.
"""

import grp
import json
import os
import platform
import pwd
import resource
import shutil
import struct
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import distributions
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import msgspec

from haihe.boards.compute_profile import ComputeProfile, all_profiles
from haihe.boards.machine import MachineState, read_state
from haihe.boards.recognise import Recognition, recognise
from haihe.boards.root_files import RootFiles
from haihe.runtime.clock import wall_time_s

PORTS = ("ttyUSB", "ttyACM", "ttyAMA", "ttyTHS", "ttymxc", "ttyLP", "ttyPS", "ttyMSM")
CAP_IPC_LOCK, CAP_SYS_NICE = 14, 23
TIME_ERROR = 5  # of adjtimex: the clock is not synchronised
ORT_LEFTOVER = ".cache/Microsoft/DeveloperTools/.onnxruntime"
ASK_ORT = (
    "import json, onnxruntime as o; print(json.dumps([o.__version__, o.get_available_providers()]))"
)


Severity = Literal["error", "warning", "note", "ok"]


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at."""

    check: str
    severity: Severity
    found: str
    cure: str = ""


class SerialPort(msgspec.Struct, frozen=True):
    """A serial port. latency_ms: of an FTDI adapter; group and can_open: None in another root."""

    device: str
    group: str | None = None
    can_open: bool | None = None
    is_member: bool = False  # by /etc/group, whether or not this session knows
    latency_ms: int | None = None

    @property
    def is_usb(self) -> bool:
        """Whether it is an adapter that somebody plugged in."""
        return "ttyUSB" in self.device or "ttyACM" in self.device


class Onnxruntime(msgspec.Struct, frozen=True):
    """What onnxruntime said; `failure` when it did not answer, `untried` when it was not asked."""

    version: str = ""
    providers: tuple[str, ...] = ()
    failure: str = ""
    untried: str = ""


class Python(msgspec.Struct, frozen=True):
    """The interpreter and what it sees."""

    version: tuple[int, int]
    libc: tuple[str, str]
    bits: int
    is_venv: bool
    sees_system: bool
    packages: dict[str, str]
    modules: tuple[str, ...]  # of those asked about, what can be imported
    telemetry_off: bool
    numba_cache: tuple[str, ...]  # folders where it may write
    onnxruntime: Onnxruntime | None = None  # None: not installed


class Session(msgspec.Struct, frozen=True):
    """The rights and resources of this process. Limits: -1, none."""

    user: str
    rtprio: int  # hard limit
    can_nice: bool
    free_bytes: int
    shm_bytes: int | None
    is_synchronised: bool | None
    year: int
    ort_leftover: bool
    rtprio_now: int = -1  # the soft limit, which the kernel asks
    memlock_bytes: int = -1
    can_lock: bool = False
    cpus: tuple[int, ...] = ()  # that this process may run on


class Facts(msgspec.Struct):
    """Everything the checks look at."""

    files: RootFiles
    found: Recognition
    state: MachineState
    ports: list[SerialPort]
    page_bytes: int | None
    clocksource: str
    root_device: str
    sd_cards: list[str]
    python: Python | None = None
    session: Session | None = None

    @property
    def profile(self) -> ComputeProfile | None:
        """The compute profile of the board."""
        return next((p for p in all_profiles()[0] if p.board == self.found.board), None)


def gather(root: str | Path = "/") -> Facts:
    """Look at the machine, or at the files of another below `root`."""
    files = RootFiles(root)
    live = files.is_live
    found = recognise(root)
    starts = PORTS if found.machine == "x86_64" else (*PORTS, "ttyS", "serial0", "serial1")
    source = "/sys/devices/system/clocksource/clocksource0/current_clocksource"
    return Facts(
        files=files,
        found=found,
        state=read_state(root),
        ports=[_port(files, name) for name in files.entries("/dev") if name.startswith(starts)],
        page_bytes=os.sysconf("SC_PAGE_SIZE") if live else _page_bytes(files),
        clocksource=files.text(source, 64),
        root_device=_root_device(files),
        sd_cards=[
            name
            for name in files.entries("/sys/block", "mmcblk")
            if files.text(f"/sys/block/{name}/device/type", 16) == "SD"
        ],
        python=_python() if live else None,
        session=_session() if live else None,
    )


def _port(files: RootFiles, name: str) -> SerialPort:
    device = f"/dev/{name}"
    latency = files.number(f"/sys/bus/usb-serial/devices/{name}/latency_timer")
    if not files.is_live:
        return SerialPort(device, latency_ms=latency)
    try:
        number = os.stat(device).st_gid
    except OSError:
        return SerialPort(device, latency_ms=latency)
    try:
        entry = grp.getgrgid(number)
        group, member = entry.gr_name, _user() in entry.gr_mem
    except KeyError:
        group, member = str(number), False
    return SerialPort(device, group, os.access(device, os.R_OK | os.W_OK), member, latency)


def _page_bytes(files: RootFiles) -> int | None:
    for line in files.text("/proc/self/smaps", 4096).splitlines():
        words = line.split()
        if words[:1] == ["KernelPageSize:"] and len(words) > 1 and words[1].isdecimal():
            return int(words[1][:9]) * 1024
    return None


def _root_device(files: RootFiles) -> str:
    for line in files.text("/proc/mounts").splitlines():
        words = line.split()
        if len(words) > 1 and words[1] == "/":
            return words[0][:200]
    return ""


def _python() -> Python:
    packages = {}
    for found in distributions():
        name = found.metadata["Name"]
        if name:
            packages[name.lower().replace("_", "-")] = found.version
    config = Path(sys.prefix) / "pyvenv.cfg"
    in_venv = sys.prefix != sys.base_prefix
    text = config.read_text(errors="replace") if in_venv and config.is_file() else ""
    has_ort = any(name.startswith("onnxruntime") for name in packages)
    return Python(
        version=sys.version_info[:2],
        libc=platform.libc_ver(),
        bits=struct.calcsize("P") * 8,
        is_venv=in_venv,
        sees_system=not in_venv or "include-system-site-packages = true" in text.lower(),
        packages=packages,
        modules=tuple(name for name in ("cv2", "libcamera", "picamera2") if find_spec(name)),
        telemetry_off=os.environ.get("ORT_DISABLE_TELEMETRY") == "1",
        numba_cache=_numba_cache(),
        onnxruntime=_ask_onnxruntime() if has_ort else None,
    )


def _numba_cache() -> tuple[str, ...]:
    """Where numba may keep compiled code, in the order in which it looks."""
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folders = [chosen] if chosen else [str(Path(__file__).resolve().parents[1]), home]
    return tuple(folder for folder in folders if _can_write(folder))


def _can_write(folder: str) -> bool:
    """Whether a folder can be written to, or could be made."""
    path = Path(folder)
    while not path.exists() and path != path.parent:
        path = path.parent
    return path.is_dir() and os.access(path, os.W_OK)


def _ask_onnxruntime() -> Onnxruntime:
    try:
        done = subprocess.run(
            [sys.executable, "-c", ASK_ORT], capture_output=True, text=True, timeout=60, check=False
        )
    except subprocess.TimeoutExpired:
        return Onnxruntime(failure="no answer in 60 s")
    except OSError as exc:  # qemu-user without binfmt starts no second one
        return Onnxruntime(untried=f"a second Python does not start ({exc.strerror})")
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [""])[-1][:200]
        how = f"signal {-done.returncode}" if done.returncode < 0 else last
        return Onnxruntime(failure=how)
    try:
        version, providers = json.loads(done.stdout.strip().splitlines()[-1])
    except (ValueError, IndexError):
        return Onnxruntime(failure=f"said {done.stdout[:80]!r}")
    return Onnxruntime(str(version), tuple(map(str, providers)))


def _session() -> Session:
    try:
        shm: int | None = shutil.disk_usage("/dev/shm").total
    except OSError:
        shm = None
    try:
        free = shutil.disk_usage(os.getcwd()).free
    except OSError:  # the folder is gone
        free = 0
    rtprio_now, rtprio = _limits(resource.RLIMIT_RTPRIO)
    return Session(
        user=_user(),
        rtprio=rtprio,
        can_nice=bool(_capabilities() >> CAP_SYS_NICE & 1),
        free_bytes=free,
        shm_bytes=shm,
        is_synchronised=_is_synchronised(),
        year=datetime.fromtimestamp(wall_time_s(), UTC).year,
        ort_leftover=Path(os.path.expanduser("~"), ORT_LEFTOVER).exists(),
        rtprio_now=rtprio_now,
        memlock_bytes=_limits(resource.RLIMIT_MEMLOCK)[0],
        can_lock=bool(_capabilities() >> CAP_IPC_LOCK & 1),
        cpus=tuple(sorted(os.sched_getaffinity(0))),
    )


def _limits(which: int) -> tuple[int, int]:
    """The soft and the hard limit."""
    soft, hard = resource.getrlimit(which)
    none = resource.RLIM_INFINITY
    return -1 if soft == none else soft, -1 if hard == none else hard


def _user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def _capabilities() -> int:
    for line in RootFiles().text("/proc/self/status").splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    return 0


def _is_synchronised() -> bool | None:
    """What the kernel knows of the wall clock, by a struct timex of zeros: nothing is changed."""
    import ctypes

    try:
        state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(512))
    except (OSError, AttributeError):
        return None
    return None if state < 0 else state != TIME_ERROR
