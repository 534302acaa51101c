"""The time of a bus: its driver really run against its emulator, on a virtual port.

Wire time alone: a byte is ten bit times (8N1); what the host and an adapter add is not in it. It
does not depend on this machine.
"""

import importlib
from typing import Any

import msgspec

from haihe.boards.binding import BoundDevice
from haihe.drivers.ports.virtual import VirtualPort
from haihe.pipelines.launch import Prepared
from haihe.runtime.errors import DeviceError
from haihe.runtime.exec.bus import micro
from haihe.runtime.guard.guard import Guard
from haihe.runtime.io import BusDevice, drive
from haihe.runtime.types import JointState

CYCLES = 100  # just armed, moving, and let go of
LAST = 5  # cycles after the guard has tripped
STEP_RAD = 0.001  # between two commands


class BusTime(msgspec.Struct, frozen=True):
    """A bus cycle on its wire.

    read_ns, write_ns: the longest of each; writes are longest when the guard changes its action.
    steady_ns, tx_bytes, rx_bytes: of a cycle in motion. timeouts: answers that did not come in the
    driver's time.
    """

    read_ns: int
    write_ns: int
    steady_ns: int
    tx_bytes: int
    rx_bytes: int
    timeouts: int = 0

    @property
    def worst_ns(self) -> int:
        """The longest cycle."""
        return self.read_ns + self.write_ns


def bus_times(prepared: Prepared) -> dict[str, BusTime | DeviceError]:
    """By role, every cycled serial bus whose driver has an emulator: its time, or why it has
    none."""
    return {
        bus.role: bus_time(prepared, bus.role)
        for lane in prepared.plan.lanes
        for bus in lane.task.buses
        if _is_timed(prepared.binding.devices[bus.role])
    }


def _is_timed(bound: BoundDevice) -> bool:
    return bound.spec.link == "serial" and bool(bound.spec.emulator)


def bus_time(prepared: Prepared, role: str, baud: int = 0) -> BusTime | DeviceError:
    """The time of a bus whose driver has an emulator; the error, if it cannot be set up. baud:
    another rate than the profile's."""
    device, guard = prepared.binding.buses(prepared.plan)[role]
    bound = prepared.binding.devices[role]
    try:
        return cycle(bound, device, guard, period_of(prepared, role), baud or bound.baud)
    except DeviceError as exc:
        return exc


def period_of(prepared: Prepared, role: str) -> int:
    """The period of the lane that cycles a bus, in ns."""
    return next(
        lane.task.every_ns
        for lane in prepared.plan.lanes
        if any(bus.role == role for bus in lane.task.buses)
    )


def cycle(
    bound: BoundDevice, device: BusDevice, guard: Guard | None, period_ns: int, baud: int
) -> BusTime:
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
    reads, writes = [0], [0]
    steady_ns = tx = rx = 0
    for number in range(CYCLES):
        start_ns, before = port.now_ns, dict(port.stats)
        state = drive(port, device.read())
        read_ns = port.now_ns
        reads.append(read_ns - start_ns)
        if guard is not None:
            if number == CYCLES - LAST:
                guard.trip("end of the measurement")
            here, goal = _positions(state, STEP_RAD * (number % 2))
            drive(port, device.write(guard.step(read_ns, goal, read_ns, here)))
            writes.append(port.now_ns - read_ns)
        if number < CYCLES - LAST:
            steady_ns = port.now_ns - start_ns
            tx, rx = (port.stats[key] - before[key] for key in ("tx_bytes", "rx_bytes"))
        port.now_ns = max(port.now_ns, start_ns + period_ns)
    lost = port.stats["timeouts"] - timeouts
    return BusTime(max(reads), max(writes), steady_ns, tx, rx, lost)


def _positions(state: Any, further: float) -> tuple[tuple[int, ...] | None, ...]:
    """Of the joints, as they are and as commanded, in µrad; None where they are not known."""
    if not isinstance(state, JointState) or not state.ok.all():
        return None, None
    return micro(state.position), micro(state.position + further)
