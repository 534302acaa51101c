"""Whether a link carries what its cycle needs: the driver really run against its emulator.

Wire time alone: a byte is ten bit times (8N1); what the host and an adapter add is not in it.
"""

import importlib
from collections.abc import Iterator
from typing import Any

import msgspec

from haihe.boards.binding import BoundDevice
from haihe.drivers.ports.virtual import VirtualPort
from haihe.pipelines.check.finding import Finding, place
from haihe.pipelines.launch import Prepared
from haihe.runtime.errors import DeviceError
from haihe.runtime.guard.guard import Guard
from haihe.runtime.io import BusDevice, drive
from haihe.runtime.types import JointState
from haihe.runtime.units import format_ns

RATES = (
    9600, 19200, 38400, 57600, 115200, 230400, 250_000, 460800, 500_000, 921600,
    1_000_000, 1_500_000, 2_000_000, 3_000_000, 4_000_000,
)  # fmt: skip
BITS_PER_BYTE = 10
CYCLES = 12  # the first ones after arming carry more than the rest
BUSY = 0.5  # of a link, from where on it is worth a word


class WireCycle(msgspec.Struct, frozen=True):
    """One cycle of a bus on its wire.

    tx_bytes, rx_bytes: of a steady cycle. steady_ns: its time; worst_ns: of the longest, just
    after the guard was armed. timeouts: answers that did not come in the driver's time.
    """

    tx_bytes: int
    rx_bytes: int
    steady_ns: int
    worst_ns: int
    timeouts: int


def link_load(bytes_per_s: float, baud: int) -> float:
    """The share of a serial link that a stream takes; above 1 it does not fit."""
    return bytes_per_s * BITS_PER_BYTE / baud


def measure_cycle(
    bound: BoundDevice, device: BusDevice, guard: Guard | None, period_ns: int, baud: int
) -> WireCycle:
    """Set the device up and cycle it at a baud rate, as its lane does: read, guard, write.

    device, guard: new ones. Raises DeviceError if the device cannot be set up at that rate.
    """
    module, _, attribute = bound.spec.emulator.partition(":")
    emulator = getattr(importlib.import_module(module), attribute)(bound.options, baud=baud)
    port = VirtualPort(emulator, baud, bound.role)
    drive(port, device.setup())
    if guard is not None:
        guard.arm()
    port.now_ns += period_ns
    timeouts = port.stats["timeouts"]
    times, before = [], dict(port.stats)
    for _ in range(CYCLES):
        start_ns, before = port.now_ns, dict(port.stats)
        state = drive(port, device.read())
        if guard is not None:
            here = _micro(state)
            drive(port, device.write(guard.step(start_ns, here, start_ns, here)))
        times.append(port.now_ns - start_ns)
        port.now_ns = max(port.now_ns, start_ns + period_ns)
    tx, rx = (port.stats[key] - before[key] for key in ("tx_bytes", "rx_bytes"))
    return WireCycle(tx, rx, times[-1], max(times), port.stats["timeouts"] - timeouts)


def _micro(state: Any) -> tuple[int, ...] | None:
    if not isinstance(state, JointState) or not state.ok.all():
        return None
    return tuple(round(1e6 * float(x)) for x in state.position)


def link_findings(prepared: Prepared) -> Iterator[Finding]:
    """Every cycled bus against its period, at the baud rate of the profile."""
    for lane in prepared.plan.lanes:
        for bus in lane.task.buses:
            bound = prepared.binding.devices[bus.role]
            if bound.spec.link == "serial" and bound.spec.emulator:
                yield from _bus(prepared, bound, lane.task.every_ns)


def _bus(prepared: Prepared, bound: BoundDevice, period_ns: int) -> Iterator[Finding]:
    where, role, baud = place(bound.profile.where, "baud"), bound.role, bound.baud
    found = _try(prepared, bound, period_ns, baud)
    cycled = f"{role} is cycled every {format_ns(period_ns)}"
    if isinstance(found, DeviceError):
        yield Finding(
            "fails",
            where,
            f"{cycled}, but at {baud} baud it cannot be set up: {found}",
            _faster(prepared, bound, period_ns),
        )
        return
    if found.timeouts:
        whole = _try(prepared, bound, period_ns, RATES[-1])
        assert not isinstance(whole, DeviceError)
        size = whole.tx_bytes + whole.rx_bytes
        wire_ns = size * BITS_PER_BYTE * 1_000_000_000 // baud
        yield Finding(
            "fails",
            where,
            f"{cycled}, but its exchanges ({whole.tx_bytes} bytes out, {whole.rx_bytes} back) take "
            f"{format_ns(wire_ns)} at {baud} baud ({_rate(wire_ns)} at most), and the driver's "
            "time-out ends before its answers have come.",
            _faster(prepared, bound, period_ns),
        )
        return
    size = found.tx_bytes + found.rx_bytes
    takes = (
        f"its exchanges ({found.tx_bytes} bytes out, {found.rx_bytes} back) take "
        f"{format_ns(found.steady_ns)} at {baud} baud"
    )
    if found.steady_ns > period_ns:
        yield Finding(
            "fails",
            where,
            f"{cycled}, but {takes} ({_rate(found.steady_ns)} at most).",
            f"{_faster(prepared, bound, period_ns)} Or cycle it more slowly.",
        )
    elif found.worst_ns > period_ns:
        yield Finding(
            "warns",
            where,
            f"{cycled}; {takes}, but {format_ns(found.worst_ns)} after every change of action "
            "(armed, stale, safe): its lane then misses ticks.",
            _faster(prepared, bound, period_ns),
        )
    elif (load := found.steady_ns / period_ns) > BUSY:
        yield Finding(
            "warns",
            where,
            f"{cycled} and {takes}: {load:.0%} of the period, in which its lane only waits (load "
            f"of the link {link_load(size * 1e9 / period_ns, baud):.0%}).",
            "A faster link leaves the nodes of its lane more time.",
        )


def _rate(cycle_ns: int) -> str:
    """The highest whole rate at which such a cycle fits."""
    return f"{1_000_000_000 // cycle_ns} Hz"


def _faster(prepared: Prepared, bound: BoundDevice, period_ns: int) -> str:
    for baud in RATES:
        if baud <= bound.baud:
            continue
        found = _try(prepared, bound, period_ns, baud)
        if isinstance(found, DeviceError) or found.timeouts or found.worst_ns > period_ns:
            continue
        return f"Give `baud: {baud}` or more, and set the device to it."
    return "No usual baud rate is enough: split the bus."


def _try(
    prepared: Prepared, bound: BoundDevice, period_ns: int, baud: int
) -> WireCycle | DeviceError:
    device, guard = prepared.binding.buses(prepared.plan)[bound.role]
    try:
        return measure_cycle(bound, device, guard, period_ns, baud)
    except DeviceError as exc:
        return exc
