"""The state of the machine: what is read, what is left out, and the sampler."""

import threading
from pathlib import Path

import msgspec
import pytest
from tests.boards.machines import KINDS, make, write

from haihe.bench.measure import protocol
from haihe.boards.machine import (
    Machine,
    MachineSampler,
    MachineState,
    ask_firmware,
    fingerprint,
    read_state,
)
from haihe.boards.power import PowerMeter
from haihe.boards.root_files import RootFiles
from haihe.runtime.clock import SECOND

ROCK = next(kind for kind in KINDS if kind.name == "rock 5b")


def test_a_board_is_read_whole(tmp_path: Path) -> None:
    state = read_state(make(tmp_path, ROCK))
    assert state.governor == "ondemand"
    assert state.frequency_khz == [900_000, 1_200_000]
    assert state.temperature_degc == {"cpu-thermal": 51.234}  # the zone at -275 degC is not there
    assert state.cooling == {"thermal-cpufreq-0": 0, "pwm-fan": 3}
    assert state.throttled is False  # a fan that turns slows nothing down
    assert state.load == 0.52
    assert state.devfreq_hz == {"fdab0000.npu": 1_000_000_000}
    assert state.power_w is None
    assert state.firmware is None


def test_a_machine_that_tells_nothing(tmp_path: Path) -> None:
    state = read_state(tmp_path)
    assert state == MachineState(t_ns=state.t_ns)


def test_governors_that_differ_are_all_named(tmp_path: Path) -> None:
    root = make(tmp_path, ROCK)
    write(root, "/sys/devices/system/cpu/cpufreq/policy4/scaling_governor", "performance\n")
    assert read_state(root).governor == "ondemand,performance"


def test_a_cooling_device_that_is_on_is_throttling(tmp_path: Path) -> None:
    root = make(tmp_path, ROCK)
    write(root, "/sys/class/thermal/cooling_device0/cur_state", "2\n")
    assert read_state(root).throttled is True


@pytest.mark.parametrize(
    ("flags", "throttled"),
    [(0x0, False), (0x50000, False), (0x1, False), (0x2, True), (0x50005, True), (0x8, True)],
)
def test_the_firmware_of_a_pi_is_asked(flags: int, throttled: bool, tmp_path: Path) -> None:
    state = read_state(tmp_path, firmware=lambda: flags)
    assert (state.firmware, state.throttled) == (flags, throttled)


@pytest.mark.parametrize(
    ("said", "flags"), [("throttled=0x50005", 0x50005), ("error", None), ("", None)]
)
def test_vcgencmd_answers_or_not(
    said: str, flags: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "vcgencmd"
    program.write_text(f'#!/bin/sh\n[ "$1" = get_throttled ] && echo {said}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert ask_firmware() == flags


def test_the_firmware_is_asked_once_a_second() -> None:
    asked = []

    def firmware() -> int:
        asked.append(1)
        return 0

    sampler = MachineSampler("/nowhere", firmware=firmware)
    sampler.sample()
    assert sampler._reader is not None
    begun = sampler.states[0].t_ns
    for t_ns in (begun + SECOND // 2, begun + SECOND - 1, begun + SECOND, begun + SECOND + 1):
        sampler._reader.read(t_ns)
    assert len(asked) == 2


def test_power_of_a_jetson_is_its_input_rail(tmp_path: Path) -> None:
    chip = "/sys/class/hwmon/hwmon1"
    files = {"name": "ina3221", "in1_label": "VDD_IN", "in1_input": "5000", "curr1_input": "1500",
             "in2_label": "VDD_CPU", "in2_input": "5000", "curr2_input": "400"}  # fmt: skip
    for name, text in files.items():
        write(tmp_path, f"{chip}/{name}", text + "\n")
    state = read_state(tmp_path)
    assert state.power_w == pytest.approx(7.5)
    assert state.power_source == "ina3221 VDD_IN"


def test_power_by_rapl_is_a_mean_between_two_readings_and_wraps(tmp_path: Path) -> None:
    folder = "/sys/class/powercap/intel-rapl:0"
    write(tmp_path, f"{folder}/name", "package-0\n")
    write(tmp_path, f"{folder}/max_energy_range_uj", "1000000000\n")
    write(tmp_path, f"{folder}/energy_uj", "999000000\n")
    write(tmp_path, "/sys/class/powercap/intel-rapl:0:0/name", "core\n")
    meter = PowerMeter(RootFiles(tmp_path))
    assert meter.read(0) == (None, "")
    write(tmp_path, f"{folder}/energy_uj", "2000000\n")  # 3 J later
    watts, source = meter.read(SECOND // 2)
    assert watts == pytest.approx(6.0)
    assert source == "RAPL package"
    (tmp_path / folder[1:] / "energy_uj").unlink()
    assert meter.read(SECOND) == (None, "")


def test_power_of_a_part_is_not_taken_for_the_whole(tmp_path: Path) -> None:
    write(tmp_path, "/sys/class/hwmon/hwmon0/name", "amdgpu\n")
    write(tmp_path, "/sys/class/hwmon/hwmon0/power1_input", "9000000\n")
    assert read_state(tmp_path).power_w is None
    write(tmp_path, "/sys/class/hwmon/hwmon1/name", "ina226\n")
    write(tmp_path, "/sys/class/hwmon/hwmon1/power1_input", "4200000\n")
    assert read_state(tmp_path).power_w == pytest.approx(4.2)


def test_the_sampler_reads_at_its_start_and_at_its_end(tmp_path: Path) -> None:
    before = threading.active_count()
    with MachineSampler(make(tmp_path, ROCK), rate_hz=0.01) as sampler:
        assert len(sampler.states) == 1
        assert threading.active_count() == before + 1
    assert threading.active_count() == before
    first, last = sampler.states
    assert first.t_ns < last.t_ns
    assert sampler.busy_ns > 0
    assert sampler.stop() == sampler.states  # again: nothing happens


def test_the_sampler_samples_in_between(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("haihe.boards.machine.FIRMWARE_EVERY_NS", 0)
    seen = threading.Event()
    calls = []

    def firmware() -> int:
        calls.append(threading.current_thread().name)
        if calls[-1] == "haihe-machine":
            seen.set()
        return 0

    sampler = MachineSampler(tmp_path, rate_hz=1000.0, firmware=firmware)
    sampler.start()
    assert seen.wait(60)
    sampler.stop()
    assert len(sampler.states) > 2


def test_what_the_sampler_lets_go_is_counted(tmp_path: Path) -> None:
    sampler = MachineSampler(tmp_path, kept=3)
    stamps = [sampler.sample().t_ns for _ in range(5)]
    assert sampler.dropped == 2
    assert [state.t_ns for state in sampler.states] == stamps[2:]


def test_the_bench_takes_both_records_over(tmp_path: Path) -> None:
    state = read_state(make(tmp_path, ROCK))
    theirs = msgspec.convert(state, protocol.MachineState, from_attributes=True)
    for name in protocol.MachineState.__struct_fields__:
        assert getattr(theirs, name) == getattr(state, name), name
    ours = fingerprint()
    assert msgspec.structs.asdict(
        msgspec.convert(ours, protocol.Machine, from_attributes=True)
    ) == (msgspec.structs.asdict(ours))


def test_the_fingerprint_tells_nothing_personal() -> None:
    import socket

    machine = fingerprint()
    assert machine.packages["msgspec"] == msgspec.__version__
    assert isinstance(machine, Machine)
    text = msgspec.json.encode(machine).decode()
    assert not any(word in text.lower() for word in ("serial", "mac_address", "hostname"))
    name = socket.gethostname()
    assert len(name) < 4 or name not in text
