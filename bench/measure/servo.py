"""`haihe bench servo`: one state reading of a bus of servos, there and back, over a pty.

The far end is the driver's emulator in a process of its own, which answers at the speed of the
wire; the near end is the real driver on a real serial port object. What is above the time on the
wire is the cost of the port, the kernel and waking up. A USB adapter's latency comes on top.
"""

from typing import Any

from haihe.bench.measure.model import finish, quiet_heap
from haihe.bench.measure.protocol import Result
from haihe.bench.measure.stopwatch import Until, closed
from haihe.bench.measure.surroundings import Usage, Watcher, fingerprint
from haihe.boards.unit import UnitFile, find_unit, load_unit
from haihe.runtime import registry
from haihe.runtime.clock import SECOND, wall_time_s
from haihe.runtime.errors import BoardError
from haihe.runtime.io import drive


def measure_servo(unit: str, role: str = "", duration_ns: int = 3 * SECOND) -> Result:
    """Round trips of `read` of that role (default: the unit's first bus). Raises HaiheError."""
    from haihe.drivers.ports.serial import SerialPort
    from haihe.pipelines.worlds.process import WorldProcess

    profile = load_unit(find_unit(unit, None))
    with WorldProcess(profile) as world:
        role = role or next(iter(world.ports), "")
        if role not in world.ports:
            raise BoardError(
                f"{profile.file}: no bus in the role {role!r}, found "
                f"{', '.join(world.ports) or 'none'}. Name one with --role."
            )
        device, baud = _open(profile, role)
        port = SerialPort(world.ports[role], baud)
        try:
            drive(port, device.setup())
            usage = Usage()
            until = Until(duration_ns, min(SECOND, duration_ns // 2))
            with quiet_heap(), Watcher() as watcher:
                timed = closed([("round trip", lambda: drive(port, device.read()))], until)
        finally:
            port.close()
    result = Result(
        name=f"servo {profile.unit.devices[role].driver}",
        command=f"haihe bench servo --unit {unit.rsplit('/', 1)[-1]} --role {role}",
        settings={
            "load": "closed", "baud": baud, "joints": len(device.joints), "emulated_bus": True,
        },
        series=timed.series(),
        machine=fingerprint(),
        state=watcher.seen(),
        counts={
            "runs": timed.runs,
            "seconds": timed.seconds,
            "cpu_thread_ns": timed.thread_cpu_ns / timed.runs,
            "cpu_process_ns": timed.process_cpu_ns / timed.runs,
            **usage.counts(),
        },
        warnings=["the servos are emulated, on a pty: no USB adapter, no wire"],
        started=wall_time_s(),
    )  # fmt: skip
    finish(result, int(timed.stamps[0, 0]), timed.runs)
    return result


def _open(profile: UnitFile, role: str) -> tuple[Any, int]:
    device = profile.unit.devices[role]
    spec = registry.load("driver", device.driver, BoardError).SPEC
    options = profile.options(spec.options, "devices", role, "options")
    return spec.make(options), int(device.baud or spec.baud)
