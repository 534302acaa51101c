"""Whether a serial link carries what the cycle of its bus needs."""

from collections.abc import Iterator

from haihe.boards.binding import BoundDevice
from haihe.pipelines.check.bus import BusTime, bus_time, bus_times, period_of
from haihe.pipelines.check.finding import Finding, place
from haihe.pipelines.launch import Prepared
from haihe.runtime.errors import DeviceError
from haihe.runtime.units import format_ns

RATES = (
    9600, 19200, 38400, 57600, 115200, 230400, 250_000, 460800, 500_000, 921600,
    1_000_000, 1_500_000, 2_000_000, 3_000_000, 4_000_000,
)  # fmt: skip
BITS_PER_BYTE = 10
BUSY = 0.5  # of a link, from where on it is worth a word


def link_findings(prepared: Prepared) -> Iterator[Finding]:
    """Every cycled bus against its period, at the baud rate of the profile."""
    for role, found in bus_times(prepared).items():
        yield from _bus(prepared, prepared.binding.devices[role], found)


def _bus(prepared: Prepared, bound: BoundDevice, found: BusTime | DeviceError) -> Iterator[Finding]:
    where, role, baud = place(bound.profile.where, "baud"), bound.role, bound.baud
    period_ns = period_of(prepared, role)
    cycled = f"{role} is cycled every {format_ns(period_ns)}"
    if isinstance(found, DeviceError):
        yield Finding(
            "fails",
            where,
            f"{cycled}, but at {baud} baud it cannot be set up: {found}",
            _faster(prepared, bound),
        )
        return
    if found.timeouts:
        whole = bus_time(prepared, role, RATES[-1])
        assert not isinstance(whole, DeviceError)
        wire_ns = (whole.tx_bytes + whole.rx_bytes) * BITS_PER_BYTE * 1_000_000_000 // baud
        yield Finding(
            "fails",
            where,
            f"{cycled}, but its exchanges ({whole.tx_bytes} bytes out, {whole.rx_bytes} back) take "
            f"{format_ns(wire_ns)} at {baud} baud ({_rate(wire_ns)} at most), and the driver's "
            "time-out ends before its answers have come.",
            _faster(prepared, bound),
        )
        return
    takes = (
        f"its exchanges ({found.tx_bytes} bytes out, {found.rx_bytes} back) take "
        f"{format_ns(found.steady_ns)} at {baud} baud"
    )
    if found.steady_ns > period_ns:
        yield Finding(
            "fails",
            where,
            f"{cycled}, but {takes} ({_rate(found.steady_ns)} at most).",
            f"{_faster(prepared, bound)} Or cycle it more slowly.",
        )
    elif found.worst_ns > period_ns:
        yield Finding(
            "warns",
            where,
            f"{cycled}; {takes}, but {format_ns(found.worst_ns)} after every change of action "
            "(armed, stale, safe): its lane then misses ticks.",
            _faster(prepared, bound),
        )
    elif (load := found.steady_ns / period_ns) > BUSY:
        bits_per_s = (found.tx_bytes + found.rx_bytes) * BITS_PER_BYTE * 1e9 / period_ns
        yield Finding(
            "warns",
            where,
            f"{cycled} and {takes}: {load:.0%} of the period, in which its lane only waits (load "
            f"of the link {bits_per_s / baud:.0%}).",
            "A faster link leaves the nodes of its lane more time.",
        )


def _rate(cycle_ns: int) -> str:
    """The highest whole rate at which such a cycle fits."""
    return f"{1_000_000_000 // cycle_ns} Hz"


def _faster(prepared: Prepared, bound: BoundDevice) -> str:
    for baud in RATES:
        if baud <= bound.baud:
            continue
        found = bus_time(prepared, bound.role, baud)
        if isinstance(found, DeviceError) or found.timeouts:
            continue
        if found.worst_ns <= period_of(prepared, bound.role):
            return f"Give `baud: {baud}` or more, and set the device to it."
    return "No usual baud rate is enough: split the bus."
