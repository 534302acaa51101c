"""The state of the machine while something is measured: clocks, heat, throttling, power, load.

`read_state` reads once; `MachineSampler` reads on a thread of low priority and keeps what it saw.
Both read files of sysfs below a root, give None or nothing for what the machine does not tell, and
never raise. `Machine` is the fingerprint of what it ran on: no serial number, MAC or host name.

The fields are those of `haihe.bench.measure.protocol`, which takes them over with
`msgspec.convert(state, MachineState, from_attributes=True)`.
"""

import contextlib
import os
import shutil
import subprocess
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from haihe.boards.power import PowerMeter
from haihe.boards.recognise import Recognition, recognise
from haihe.boards.root_files import RootFiles
from haihe.runtime.clock import SECOND, now_ns

# bits of `vcgencmd get_throttled` that say "now": 1 capped, 2 throttled, 3 soft limit of heat.
# Source: raspberrypi/documentation; bit 0 is under-voltage, 16 and up are "has occurred"
UNDER_VOLTAGE = 1
THROTTLED = 0b1110
FIRMWARE_EVERY_NS = SECOND  # a program must be started to ask it
NO_THROTTLE = ("fan", "tcc offset")  # cooling devices whose state says nothing about the clock
KEPT = 200_000  # states: 13 hours at 4 per s


class Machine(msgspec.Struct):
    """What it runs on: the fingerprint of a result."""

    board: str = ""
    model: str = ""
    soc: str = ""
    cores: list[str] = []
    memory_bytes: int = 0
    kernel: str = ""
    python: str = ""
    packages: dict[str, str] = {}
    is_emulated: bool = False
    is_virtual: bool = False


class MachineState(msgspec.Struct):
    """One reading; None and empty where the machine does not tell.

    governor: of all policies, several joined by commas. cooling: current state by device.
    throttled: a cooling device other than a fan is on, or the firmware says so.
    firmware: the flags of `vcgencmd get_throttled`. power_w: of `power_source`.
    """

    t_ns: int
    governor: str | None = None
    frequency_khz: list[int] = []
    temperature_degc: dict[str, float] = {}
    cooling: dict[str, int] = {}
    throttled: bool | None = None
    power_w: float | None = None
    load: float | None = None
    devfreq_hz: dict[str, int] = {}
    firmware: int | None = None
    power_source: str = ""


def fingerprint(found: Recognition | None = None) -> Machine:
    """This machine and its Python, for a result."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    found = found or recognise()
    packages = {}
    for name in ("haihe", "numpy", "onnxruntime", "opencv-python-headless", "numba", "msgspec"):
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            continue
    return Machine(
        board=found.board, model=found.model, soc=found.soc,
        cores=[str(core) for core in found.cores], memory_bytes=found.memory_bytes,
        kernel=platform.release(), python=platform.python_version(), packages=packages,
        is_emulated=found.is_emulated, is_virtual=found.is_virtual,
    )  # fmt: skip


def ask_firmware() -> int | None:
    """The flags of `vcgencmd get_throttled` of a Raspberry Pi, None elsewhere."""
    program = shutil.which("vcgencmd")
    if program is None:
        return None
    try:
        done = subprocess.run(
            [program, "get_throttled"], capture_output=True, timeout=1, check=False
        )
        return int(done.stdout.strip().rpartition(b"=")[2][:12], 0)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None


Firmware = Callable[[], int | None]


class _Reader:
    """Where the figures of one machine are, looked up once, and the reading of them."""

    def __init__(self, files: RootFiles, firmware: Firmware | None) -> None:
        self.files = files
        self.firmware = firmware
        self.flags: int | None = None
        self.flags_ns: int | None = None
        cpufreq = "/sys/devices/system/cpu/cpufreq"
        self.policies = [f"{cpufreq}/{name}" for name in files.entries(cpufreq, "policy")]
        thermal = "/sys/class/thermal"
        self.zones = self.named(thermal, "thermal_zone")
        self.coolers = self.named(thermal, "cooling_device")
        devfreq = "/sys/class/devfreq"
        self.devfreq = [(name, f"{devfreq}/{name}") for name in files.entries(devfreq)]
        self.power = PowerMeter(files)

    def named(self, folder: str, start: str) -> list[tuple[str, str]]:
        """Folders with a `type`, by that type; a second of one type gets its number."""
        found: dict[str, str] = {}
        for name in self.files.entries(folder, start):
            kind = self.files.text(f"{folder}/{name}/type", 64) or name
            key = kind if kind not in found else f"{kind}.{name[len(start) :]}"
            found[key] = f"{folder}/{name}"
        return list(found.items())

    def read(self, now: int) -> MachineState:
        number = self.files.number
        governors = {self.files.text(f"{p}/scaling_governor", 64) for p in self.policies} - {""}
        clocks = [number(f"{policy}/scaling_cur_freq") for policy in self.policies]
        heat = {name: number(f"{path}/temp") for name, path in self.zones}
        cooling = {name: number(f"{path}/cur_state") for name, path in self.coolers}
        devfreq = {name: number(f"{path}/cur_freq") for name, path in self.devfreq}
        power, source = self.power.read(now)
        flags = self.ask(now)
        state = MachineState(
            t_ns=now,
            governor=",".join(sorted(governors)) or None,
            frequency_khz=[clock for clock in clocks if clock is not None],
            temperature_degc={
                name: value / 1000
                for name, value in heat.items()
                if value is not None and -60_000 < value < 250_000
            },
            cooling={name: value for name, value in cooling.items() if value is not None},
            power_w=power,
            load=_load(self.files.text("/proc/loadavg", 64)),
            devfreq_hz={name: value for name, value in devfreq.items() if value is not None},
            firmware=flags,
            power_source=source,
        )
        state.throttled = is_throttled(state)
        return state

    def ask(self, now: int) -> int | None:
        if self.firmware is None:
            return None
        if self.flags_ns is None or now - self.flags_ns >= FIRMWARE_EVERY_NS:
            self.flags, self.flags_ns = self.firmware(), now
        return self.flags


def is_throttled(state: MachineState) -> bool | None:
    """Whether the clock is held down now; None where nothing tells."""
    slowing = [
        value > 0
        for name, value in state.cooling.items()
        if not any(word in name.lower() for word in NO_THROTTLE)
    ]
    if state.firmware is not None:
        slowing.append(bool(state.firmware & THROTTLED))
    return any(slowing) if slowing else None


def read_state(root: str | Path = "/", firmware: Firmware | None = None) -> MachineState:
    """One reading of the machine below a root; power from a counter of energy needs two."""
    files = RootFiles(root)
    return _Reader(files, firmware or (ask_firmware if files.is_live else None)).read(now_ns())


class MachineSampler:
    """Reads the state of the machine on a thread of low priority until it is stopped.

        with MachineSampler() as sampler:
            measure()
        sampler.states           # one at the start, one at the end, `rate_hz` in between

    dropped: the oldest states that were let go beyond `kept`. busy_ns: what the reading took.
    """

    def __init__(
        self,
        root: str | Path = "/",
        rate_hz: float = 4.0,
        kept: int = KEPT,
        firmware: Firmware | None = None,
    ) -> None:
        self.dropped = 0
        self.busy_ns = 0
        self._files = RootFiles(root)
        self._firmware = firmware or (ask_firmware if self._files.is_live else None)
        self._period_s = 1.0 / min(max(rate_hz, 0.01), 1000.0)
        self._states: deque[MachineState] = deque(maxlen=max(kept, 1))
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._reader: _Reader | None = None

    @property
    def states(self) -> list[MachineState]:
        """What was seen so far, oldest first."""
        with self._lock:
            return list(self._states)

    def start(self) -> None:
        """Begin, with a first reading at once."""
        if self._thread is not None:
            return
        self._reader = _Reader(self._files, self._firmware)
        self.sample()
        self._stop.clear()
        self._thread = threading.Thread(target=self._run, name="haihe-machine", daemon=True)
        self._thread.start()

    def stop(self) -> list[MachineState]:
        """End, with a last reading; gives all of them."""
        if self._thread is not None:
            self._stop.set()
            self._thread.join()
            self._thread = None
            self.sample()
        return self.states

    def sample(self) -> MachineState:
        """Read now, in the calling thread."""
        with self._lock:
            if self._reader is None:
                self._reader = _Reader(self._files, self._firmware)
            begun = now_ns()
            state = self._reader.read(begun)
            self.dropped += len(self._states) == self._states.maxlen
            self._states.append(state)
            self.busy_ns += now_ns() - begun
        return state

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _run(self) -> None:
        with contextlib.suppress(OSError):  # a sandbox forbids it: it runs as other threads do
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)  # this thread only
        while not self._stop.wait(self._period_s):
            self.sample()


def _load(text: str) -> float | None:
    try:
        value = float(text.split()[0])
    except (ValueError, IndexError):
        return None
    return value if 0 <= value < 1e6 else None
