"""The doctor: each finding from facts that call for it, with its cure; this machine for real."""

import os
import resource
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.boards.machines import KINDS, make, write

from haihe.boards.doctor import Report, examine, judge
from haihe.boards.doctor_facts import (
    Facts,
    Onnxruntime,
    Python,
    SerialPort,
    Session,
    gather,
)
from haihe.boards.machine import MachineState

replace = msgspec.structs.replace
PYTHON = Python(
    version=(3, 12), libc=("glibc", "2.36"), bits=64, is_venv=True, sees_system=True,
    packages={"opencv-python-headless": "5", "onnxruntime": "1.32.0", "numba": "0.68"},
    modules=("cv2", "libcamera"), telemetry_off=True, numba_cache=("/cache",),
    onnxruntime=Onnxruntime("1.32.0", ("CPUExecutionProvider",)),
)  # fmt: skip
SESSION = Session(
    user="robot", rtprio=80, can_nice=False, free_bytes=50 << 30, shm_bytes=4 << 30,
    is_synchronised=True, year=2026, ort_leftover=False, rtprio_now=80, cpus=tuple(range(8)),
)  # fmt: skip


@pytest.fixture
def facts(tmp_path: Path) -> Facts:
    """A Raspberry Pi 5 on which all is well."""
    kind = next(kind for kind in KINDS if kind.name == "rpi5")
    facts = gather(make(tmp_path, kind))
    facts.python, facts.session = PYTHON, SESSION
    facts.ports = [SerialPort("/dev/ttyUSB0", "dialout", True, latency_ms=1)]
    facts.page_bytes, facts.sd_cards = 4096, []
    facts.state = MachineState(0, governor="performance", temperature_degc={"cpu-thermal": 45.0})
    write(tmp_path, "/dev/video0", "")
    write(tmp_path, "/sys/devices/system/cpu/isolated", "7\n")
    write(tmp_path, "/proc/sys/kernel/sched_rt_runtime_us", "950000\n")
    write(tmp_path, "/sys/kernel/realtime", "1\n")
    return facts


def said(report: Report) -> list[str]:
    """What is not well, a line each."""
    return [f"{f.severity} {f.check}: {f.found} -> {f.cure}"
            for f in report.findings if f.severity != "ok"]  # fmt: skip


def test_a_machine_on_which_all_is_well(facts: Facts) -> None:
    report = judge(facts)
    assert said(report) == []
    assert report.exit_code == 0
    assert report.describe().splitlines() == [
        "rpi5: compatible raspberrypi,5-model-b",
        "ok       board, python, opencv, camera, serial, onnxruntime, governor, temperature, "
        "clock, /dev/shm, real time, memory lock, real-time share, isolation, kernel, disk, numba "
        "cache",
        "0 errors, 0 warnings, 0 notes",
    ]


def _packages(*names: str) -> dict[str, Any]:
    return {"packages": dict.fromkeys(names, "1")}


# changes of Python: severity, check, a piece of the finding, a piece of the cure
PYTHON_CASES: list[tuple[dict[str, Any], str, str, str, str]] = [
    (_packages("opencv-python", "opencv-python-headless"), "error", "opencv",
     "opencv-python and opencv-python-headless are both installed and overwrite each other's files",
     "pip uninstall -y opencv-python opencv-python-headless && pip install opencv-python-headless"),
    ({"modules": ("libcamera",)}, "warning", "opencv", "OpenCV is not installed",
     "pip install opencv-python-headless"),
    ({"modules": ("cv2",), "sees_system": False}, "warning", "camera",
     "the venv does not see the system's packages", "--system-site-packages"),
    ({"modules": ("cv2",)}, "warning", "camera", "libcamera cannot be imported", "picamera2"),
    (_packages("onnxruntime", "onnxruntime-gpu"), "error", "onnxruntime",
     "onnxruntime and onnxruntime-gpu overwrite", "pip install onnxruntime-gpu"),
    ({"onnxruntime": None}, "warning", "onnxruntime", "no model runs", "pip install onnxruntime"),
    ({"onnxruntime": Onnxruntime(failure="signal 11")}, "error", "onnxruntime",
     "cannot be imported: signal 11", "force-reinstall"),
    ({"onnxruntime": Onnxruntime(untried="no second Python")}, "warning", "onnxruntime",
     "could not be tried: no second Python", "python -c"),
    ({"telemetry_off": False}, "warning", "telemetry", "ORT_DISABLE_TELEMETRY is not 1",
     "export ORT_DISABLE_TELEMETRY=1"),
    ({"version": (3, 10)}, "error", "python", "Python 3.10; haihe needs 3.11", "uv python install"),
    ({"version": (3, 15)}, "warning", "python", "newer than the wheels", "3.14 or older"),
    ({"bits": 32}, "error", "python", "32 bits", "64-bit system"),
    ({"libc": ("", "")}, "warning", "libc", "not glibc", "Debian"),
    ({"libc": ("glibc", "2.27")}, "warning", "libc", "glibc 2.27", "onnxruntime<1.25"),
    ({"numba_cache": ()}, "error", "numba cache", "nowhere", "export NUMBA_CACHE_DIR"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "severity", "check", "found", "cure"), PYTHON_CASES)
def test_findings_about_python(
    change: dict[str, Any], severity: str, check: str, found: str, cure: str, facts: Facts
) -> None:
    facts.python = replace(PYTHON, **change)
    _only(judge(facts), severity, check, found, cure)


SESSION_CASES: list[tuple[dict[str, Any], str, str, str, str]] = [
    ({"rtprio": 0, "rtprio_now": 0}, "warning", "real time",
     "no right to real-time priorities: other programs delay control",
     "echo 'robot - rtprio 80' | sudo tee -a /etc/security/limits.d/haihe.conf, then log out and "
     "in again; in a service: LimitRTPRIO=80; in a container: --cap-add SYS_NICE"),
    ({"rtprio": 50, "rtprio_now": 0}, "warning", "real time",
     "no right to real-time priorities in this session: its limit is 0, though it may raise it",
     "ulimit -r 50, in the shell that starts haihe"),
    ({"memlock_bytes": 8 << 20}, "note", "memory lock",
     "at most 8192 kB may be locked: under pressure the memory of control is paged out, and "
     "comes back milliseconds late",
     "echo 'robot - memlock unlimited' | sudo tee -a /etc/security/limits.d/haihe.conf, then "
     "log out and in again; in a service: LimitMEMLOCK=infinity; in a container: "
     "--ulimit memlock=-1"),
    ({"free_bytes": 100 << 20}, "error", "disk", "0.1 GB free here", "Make room"),
    ({"free_bytes": 1 << 30}, "warning", "disk", "1.0 GB free here", "Make room"),
    ({"shm_bytes": None}, "error", "/dev/shm", "not there", "mount -t tmpfs"),
    ({"shm_bytes": 64 << 20}, "warning", "/dev/shm", "64 MB", "--shm-size=1g"),
    ({"year": 1970}, "error", "time", "the wall clock says 1970", "set-ntp true"),
    ({"is_synchronised": False}, "note", "time", "not synchronised", "set-ntp true"),
    ({"ort_leftover": True}, "note", "telemetry", "another program", "ORT_DISABLE_TELEMETRY=1"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "severity", "check", "found", "cure"), SESSION_CASES)
def test_findings_about_rights_and_resources(
    change: dict[str, Any], severity: str, check: str, found: str, cure: str, facts: Facts
) -> None:
    facts.session = replace(SESSION, **change)
    _only(judge(facts), severity, check, found, cure)


# a file of the machine: severity, check, the finding, the cure
FILE_CASES = [
    ("/proc/sys/kernel/sched_rt_runtime_us", "-1", "warning", "real-time share",
     "no limit on real-time threads: one that never waits takes its core from all others",
     "sudo sysctl kernel.sched_rt_runtime_us=950000"),
    ("/proc/sys/kernel/sched_rt_runtime_us", "500000", "warning", "real-time share",
     "real-time threads are stopped after 50% of each 1 s",
     "sudo sysctl kernel.sched_rt_runtime_us=950000"),
    ("/sys/devices/system/cpu/isolated", "", "note", "isolation",
     "no CPU is kept free of other programs",
     "For a lane of 1 kHz: isolcpus=7 on the kernel's command line, and `threads: {LANE: {core: 7, "
     "priority: 50}}` in the unit profile."),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text", "severity", "check", "found", "cure"), FILE_CASES)
def test_findings_about_real_time(
    name: str, text: str, severity: str, check: str, found: str, cure: str, facts: Facts,
    tmp_path: Path,
) -> None:  # fmt: skip
    write(tmp_path, name, text)
    _only(judge(facts), severity, check, found, cure)


def test_a_session_on_some_of_the_cpus_is_told_where_none_is_isolated(
    facts: Facts, tmp_path: Path
) -> None:
    write(tmp_path, "/sys/devices/system/cpu/isolated", "")
    facts.session = replace(SESSION, cpus=(0, 1, 2))
    assert said(judge(facts))[1] == (
        "note cpus: this session may use CPU 0-2 only, of 8 -> See taskset, the cpuset of its "
        "cgroup, or --cpuset-cpus of its container."
    )


def test_this_session_is_read_as_the_kernel_has_it() -> None:
    session = gather().session
    assert session is not None
    limits = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    assert session.memlock_bytes == (-1 if limits == resource.RLIM_INFINITY else limits)
    assert set(session.cpus) == os.sched_getaffinity(0)


USB = SerialPort("/dev/ttyUSB0", "dialout", False)
FACT_CASES: list[tuple[dict[str, Any], str, str, str, str]] = [
    ({"ports": []}, "note", "serial", "no serial port", "haihe boards show rpi5"),
    ({"ports": [USB]}, "error", "serial", "/dev/ttyUSB0: belongs to the group dialout",
     "sudo usermod -aG dialout $USER, then log out and in again"),
    ({"ports": [replace(USB, is_member=True)]}, "error", "serial", "may not be opened",
     "log out and in again: this session does not know the group yet"),
    ({"ports": [replace(USB, group="root")]}, "error", "serial", "group root", "udev rule"),
    ({"ports": [replace(USB, device="/dev/ttyAMA0")]}, "note", "serial", "/dev/ttyAMA0", "usermod"),
    ({"ports": [replace(USB, can_open=True, latency_ms=16)]}, "warning", "latency timer",
     "/dev/ttyUSB0: the adapter holds answers back up to 16 ms",
     "echo 1 | sudo tee /sys/bus/usb-serial/devices/ttyUSB0/latency_timer"),
    ({"clocksource": "hpet"}, "warning", "clock", "the clock source is hpet", "dmesg"),
    ({"page_bytes": 16384}, "note", "pages", "pages of 16 kB", "kernel=kernel8.img"),
    ({"sd_cards": ["mmcblk0"]}, "note", "disk", "on an SD card (mmcblk0)", "Record to an SSD"),
    ({"state": MachineState(0, governor="ondemand,performance")}, "warning", "governor", "ondemand",
     "scaling_governor"),
    ({"state": MachineState(0, temperature_degc={"cpu": 71.0})}, "note", "temperature",
     "cpu 71 degC", "fan"),
    ({"state": MachineState(0, temperature_degc={"cpu": 50.0, "soc": 84.6})}, "warning",
     "temperature", "soc 85 degC", "fan"),
    ({"state": MachineState(0, throttled=True, cooling={"cpufreq-0": 2})}, "warning", "throttle",
     "slowed down right now (cpufreq-0)", "power supply"),
    ({"state": MachineState(0, throttled=False, firmware=0x50001)}, "error", "power",
     "under-voltage right now", "supply"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "severity", "check", "found", "cure"), FACT_CASES)
def test_findings_about_the_machine(
    change: dict[str, Any], severity: str, check: str, found: str, cure: str, facts: Facts
) -> None:
    _only(judge(replace(facts, **change)), severity, check, found, cure)


def _only(report: Report, severity: str, check: str, found: str, cure: str) -> None:
    odd = [finding for finding in report.findings if finding.severity != "ok"]
    assert len(odd) == 1, said(report)
    assert (odd[0].severity, odd[0].check) == (severity, check)
    assert found in odd[0].found
    assert cure in odd[0].cure
    assert report.exit_code == (severity == "error")
    assert f"-> {odd[0].cure}" in report.describe()


def test_a_provider_that_the_board_could_have_is_named(facts: Facts) -> None:
    facts.found.board = "jetson-orin-nano"
    _only(judge(facts), "note", "onnxruntime", "this board can have TensorrtExecutionProvider",
          "its package: onnxruntime-gpu; see: haihe boards show jetson-orin-nano")  # fmt: skip


def test_pages_of_16_kb_weigh_more_where_onnxruntime_was_not_tried(facts: Facts) -> None:
    facts.python, facts.page_bytes = None, 16384
    assert "warning pages: pages of 16 kB" in "\n".join(said(judge(facts)))


def test_what_recognition_found_odd_is_passed_on(facts: Facts) -> None:
    facts.found.is_emulated = facts.found.is_virtual = True
    facts.found.certainty = "soc"
    facts.found.notes = ["/etc/haihe/board says 'x', which is no profile.", "emulated: why"]
    lines = said(judge(facts))
    assert [line.partition(" ->")[0] for line in lines] == [
        "warning board: emulated: no figure from here means anything",
        "warning board: /etc/haihe/board says 'x', which is no profile.",
        "note board: a guest under a hypervisor: clocks and heat are hidden, other guests show as "
        "jitter",
        "note board: only the chip was recognised; ports and memory may differ",
    ]


def test_a_peer_is_no_host(facts: Facts) -> None:
    facts.found.board = "k230"
    assert any("is a peer, no host for haihe" in line for line in said(judge(facts)))


def test_another_root_is_examined_by_its_files_alone(tmp_path: Path) -> None:
    report = examine(make(tmp_path, next(kind for kind in KINDS if kind.name == "rpi5")))
    assert {finding.check for finding in report.findings} == {
        "board", "camera", "serial", "latency timer", "governor", "temperature", "clock", "pages",
        "disk", "isolation",
    }  # fmt: skip
    assert any("ttyUSB0: the adapter holds answers back up to 16 ms" in s for s in said(report))
    assert not any(finding.check == "python" for finding in report.findings)


def test_this_machine_is_examined_for_real() -> None:
    report = examine()
    checks = {finding.check: finding for finding in report.findings}
    assert {"board", "python", "opencv", "onnxruntime", "disk", "/dev/shm"} <= set(checks)
    assert "CPUExecutionProvider" in checks["onnxruntime"].found, checks["onnxruntime"]
    assert msgspec.json.decode(msgspec.json.encode(report), type=Report) == report
    for finding in report.findings:
        assert finding.severity == "ok" or finding.cure, finding


def test_an_onnxruntime_that_crashes_does_not_end_the_doctor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from haihe.boards import doctor_facts

    for code, failure in (
        ("import os; os.kill(os.getpid(), 11)", "signal 11"),
        ("raise ImportError('no symbol')", "ImportError: no symbol"),
        ("print('hello')", "said 'hello\\n'"),
    ):
        monkeypatch.setattr(doctor_facts, "ASK_ORT", code)
        assert doctor_facts._ask_onnxruntime().failure == failure
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    assert doctor_facts._ask_onnxruntime().untried == (
        "a second Python does not start (No such file or directory)"
    )
