"""What is made of the machine's states: marks, energy, warnings, a soak."""

import numpy as np
import pytest

from haihe.bench.measure.model import finish
from haihe.bench.measure.protocol import Machine, MachineState, Result, Series
from haihe.bench.measure.soak import soak_of
from haihe.bench.measure.surroundings import energy_j, fingerprint, mark_throttled

S = 1_000_000_000


def states(*throttled: bool, khz: tuple[int, ...] = ()) -> list[MachineState]:
    clocks = khz or (1_800_000,) * len(throttled)
    return [
        MachineState(n * S, throttled=t, frequency_khz=[f])
        for n, (t, f) in enumerate(zip(throttled, clocks, strict=True))
    ]


def test_samples_beside_a_throttled_state_are_marked() -> None:
    """Throttled was seen at 2 s: what lies between 1 s and 3 s may have been throttled."""
    series = Series("infer", [1] * 8, at_ns=[n * S // 2 for n in range(8)])
    assert mark_throttled([series], states(False, False, True, False, False), 0) == 4
    assert series.throttled == [2, 3, 4, 5]
    assert mark_throttled([series], [], 0) == 0
    assert mark_throttled([series], states(False, False), 0) == 0
    assert series.throttled == []


def test_another_clock_than_at_first_is_marked() -> None:
    series = Series("infer", [1, 1, 1], at_ns=[0, S, 2 * S])
    found = states(False, False, False, khz=(2_000_000, 1_980_000, 1_500_000))
    assert mark_throttled([series], found, 0) == 2


def test_energy_is_power_over_time() -> None:
    known = [MachineState(0, power_w=4.0), MachineState(S), MachineState(2 * S, power_w=6.0)]
    assert energy_j(known) == pytest.approx(10.0)
    assert energy_j(known[:2]) is None


def test_a_machine_warns_of_itself() -> None:
    result = Result(
        "model a", "", {}, [Series("infer", [1], at_ns=[0])], Machine(is_emulated=True),
        [MachineState(0, governor="schedutil", load=99.0, power_w=2.0),
         MachineState(S, throttled=True, power_w=2.0)],
    )  # fmt: skip
    finish(result, 0, 4)
    text = "\n".join(result.warnings)
    for word in ("1 of 1 samples were taken throttled", "emulated", "schedutil", "load 99.0"):
        assert word in text
    assert result.counts["energy_j"] == pytest.approx(0.5)


def test_a_soak_says_when_it_settled() -> None:
    at = [n * S for n in range(100)]
    times = [4_000_000 if n < 30 else 5_000_000 for n in range(100)]
    series = Series("infer", times, at_ns=at, throttled=list(range(30, 100)))
    found = soak_of(series, [MachineState(0, temperature_degc={"cpu": 71.0})])
    assert found is not None
    assert found.steady_s == pytest.approx(29.7)
    assert found.text == (
        "soak: p50 4.00 ms in the first tenth, 5.00 ms in the last (+25.0 %), steady from 30 s, "
        "70 % throttled, up to 71 °C"
    )
    rising = Series("infer", [round(1e6 * 1.2 ** (n // 10)) for n in range(100)], at_ns=at)
    unsettled = soak_of(rising, [])
    assert unsettled is not None
    assert "not steady" in unsettled.text
    assert soak_of(Series("infer", [1, 2]), []) is None
    assert soak_of(Series("infer", list(np.ones(30, int)), at_ns=[0] * 29 + [S]), []) is None


def test_the_fingerprint_names_nobody() -> None:
    import platform

    machine = fingerprint()
    assert machine.python
    assert machine.packages["haihe"]
    host = platform.node()
    assert not host or host not in repr(machine).replace(machine.kernel, "")
