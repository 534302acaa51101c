"""Where the devices of a run are: at the ports of the unit, in a simulated world, in a file."""

import dataclasses
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec

from haihe.boards.binding import Binding, BoundDevice, replace_driver
from haihe.runtime.errors import BoardError
from haihe.runtime.exec.realtime import LiveBus
from haihe.runtime.exec.wardens import WardenSpec
from haihe.runtime.io import Port
from haihe.runtime.plan.model import Plan


class Places(msgspec.Struct, frozen=True):
    """Where devices are, besides what the unit profile says; plain data, for other processes too.

    is_sim: they are those of a simulated world: ports by role, sockets of cameras by role. video,
    camera: every camera is this file, or this V4L2 device. has_wardens: wardens of the unit watch.
    """

    is_sim: bool = False
    ports: dict[str, str] = {}
    cameras: dict[str, str] = {}
    video: str = ""
    camera: str = ""
    has_wardens: bool = True


def place_cameras(binding: Binding, plan: Plan, places: Places) -> Binding:
    """The binding with the cameras that a run really uses."""
    for role in plan.streams:
        if places.video or places.camera:
            binding = _other_camera(binding, role, places.video, places.camera)
        elif role in places.cameras:
            binding = _world_camera(binding, role, places.cameras[role])
    return binding


def live_buses(
    binding: Binding, plan: Plan, places: Places, process: str | None = None
) -> dict[str, LiveBus]:
    """The bus devices of a plan, or of one of its processes, with the ways to their ports."""
    buses = {}
    for role, (device, guard) in binding.buses(plan).items():
        lane = next(x.name for x in plan.lanes if any(b.role == role for b in x.task.buses))
        if process is not None and plan.process_of(lane) != process:
            continue
        bound = binding.devices[role]
        if places.is_sim and role not in places.ports:
            raise BoardError(not_simulated(bound, places.ports))
        url = places.ports[role] if places.is_sim else bound.profile.port
        if not url:
            raise BoardError(
                f"{bound.profile.where}: device {role} has no port. Give `port: /dev/...`, or run "
                "it simulated with --sim."
            )
        watch = warden_of(bound) if places.has_wardens else None
        buses[role] = LiveBus(device, guard, _port_opener(url, bound.baud), watch)
    return buses


def warden_of(bound: BoundDevice) -> WardenSpec | None:
    """The warden that the unit profile asks for, None when it asks for none."""
    safety = bound.profile.guard
    if safety is None or safety.on_host_death != "warden":
        return None
    return WardenSpec(round(safety.warden * 1e9))


def wardens_of(binding: Binding, plan: Plan) -> dict[str, WardenSpec]:
    """By role of a plan's buses."""
    roles = [bus.role for lane in plan.lanes for bus in lane.task.buses]
    found = {role: warden_of(binding.devices[role]) for role in roles}
    return {role: spec for role, spec in found.items() if spec is not None}


def live_streams(binding: Binding, plan: Plan, process: str | None = None) -> dict[str, Any]:
    """The stream devices of a plan, or those that one of its processes reads."""
    streams = binding.streams(plan)
    if process is None:
        return streams
    sources = {s for lane in plan.lanes for s in lane.task.reads}
    return {
        role: device
        for role, device in streams.items()
        if any(s.split(".")[0] == role and plan.maker_process(s) == process for s in sources)
    }


def not_simulated(bound: BoundDevice, known: Iterable[str]) -> str:
    """The text for a device that a unit's world does not have."""
    return (
        f"{bound.profile.where}: device {bound.role}: the unit's world does not simulate it (it "
        f"has: {', '.join(known) or 'none'}). Choose a world that does, or leave it out."
    )


def _port_opener(url: str, baud: int) -> Callable[[], Port]:
    def open_port() -> Port:
        from haihe.drivers.ports.serial import SerialPort

        return SerialPort(url, baud)

    return open_port


def _world_camera(binding: Binding, role: str, path: str) -> Binding:
    from haihe.drivers.camera.world import SPEC, WorldCameraOptions

    intrinsics = getattr(binding.devices[role].options, "intrinsics", None)
    return replace_driver(binding, role, SPEC, WorldCameraOptions(path, intrinsics))


def _other_camera(binding: Binding, role: str, video: str, camera: str) -> Binding:
    intrinsics = getattr(binding.devices[role].options, "intrinsics", None)
    if video:
        from haihe.drivers.camera.file import SPEC, FileOptions

        return replace_driver(binding, role, SPEC, FileOptions(Path(video), intrinsics=intrinsics))
    from haihe.drivers.camera.v4l2 import SPEC as V4L2
    from haihe.drivers.camera.v4l2 import V4l2Options

    old = binding.devices[role].options
    if not isinstance(old, V4l2Options):
        old = V4l2Options(intrinsics=intrinsics)
    return replace_driver(binding, role, V4L2, dataclasses.replace(old, device=camera))
