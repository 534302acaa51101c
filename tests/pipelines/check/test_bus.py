"""The time of a bus is that of its driver's bytes, whatever the unit's world."""

from tests.pipelines.check.graphs import following

from haihe.boards.unit import UnitFile, find_unit, unit_from_text
from haihe.pipelines.check import check
from haihe.pipelines.check.bus import BusTime, bus_time, bus_times, cycle
from haihe.pipelines.launch import prepare
from haihe.runtime.errors import DeviceError

SHIPPED = find_unit("pan-tilt", None).read_text("utf-8")
BYTE_NS = 10_000  # ten bits at 1 Mbaud


def unit(text: str = SHIPPED) -> UnitFile:
    return unit_from_text(text, "unit.yaml")


def test_the_time_of_a_bus_is_that_of_its_bytes() -> None:
    made = prepare(following(), unit())
    device, _ = made.binding.buses(made.plan)["neck"]
    exchange = next(device.read())
    read_ns = (len(exchange.tx) + exchange.rx_size) * BYTE_NS
    assert read_ns == 520_000
    # just armed: two full goals with acceleration and speed in one frame, then torque for both
    goals, torque = 8 + 2 * (1 + 7), 8 + 2 * (1 + 1)
    # in motion: a sync read of two (10), a sync write of two goals (14); two answers of 21
    steady_ns, tx, rx = read_ns + 14 * BYTE_NS, 10 + 14, 2 * 21
    expected = BusTime(read_ns, (goals + torque) * BYTE_NS, steady_ns, tx, rx)
    assert bus_times(made) == {"neck": expected}
    assert expected.worst_ns == 880_000


def test_a_bus_that_is_only_read() -> None:
    made = prepare(following(), unit())
    device, _ = made.binding.buses(made.plan)["neck"]
    found = cycle(made.binding.devices["neck"], device, None, 20_000_000, 1_000_000)
    assert found == BusTime(520_000, 0, 520_000, 10, 42)


def test_at_half_the_rate_it_takes_twice_as_long() -> None:
    made = prepare(following(), unit())
    whole, half = bus_time(made, "neck"), bus_time(made, "neck", 500_000)
    assert not isinstance(whole, DeviceError)
    assert not isinstance(half, DeviceError)
    assert (half.read_ns, half.write_ns) == (2 * whole.read_ns, 2 * whole.write_ns)


def test_a_unit_without_a_simulated_world_is_bounded_too() -> None:
    text = SHIPPED[: SHIPPED.index("\nsim:")] + "\n"
    alone = unit(text)
    assert not alone.unit.sim
    budgets = {"face": "5ms", "aim": "1ms"}
    report = check(following(), "rk3588", unit=alone, budgets=budgets)
    (lane, _) = report.lanes
    assert [(item.name, item.ns) for item in lane.items] == [
        ("read neck", 520_000), ("aim", 1_000_000), ("write neck", 360_000),
    ]  # fmt: skip
    assert all(lane.response_ns is not None for lane in report.lanes)
