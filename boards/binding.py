"""Binding: graph + unit -> devices, guards and ports. Through names only: drivers are found in
the registry, never imported from here.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from haihe.boards.cores import choose_cores, usable_cores
from haihe.boards.unit import DeviceProfile, GuardProfile, UnitFile
from haihe.runtime import registry
from haihe.runtime.errors import BoardError, ContractError
from haihe.runtime.graph import DeviceUse, Graph
from haihe.runtime.guard.guard import Guard
from haihe.runtime.io import BusDevice, Guardable, StreamDevice
from haihe.runtime.plan.build import DeviceTiming, Placement
from haihe.runtime.plan.model import Plan

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BoundDevice:
    """A role with its driver and checked options; makes fresh device objects."""

    role: str
    profile: DeviceProfile
    spec: Any  # the driver's DriverSpec
    options: Any

    @property
    def baud(self) -> int:
        """Of a serial link, in bit/s."""
        return int(self.profile.baud or self.spec.baud)

    def make(self) -> Any:
        """A new device object."""
        return self.spec.make(self.options)


@dataclass(frozen=True)
class Binding:
    """A graph bound to a unit."""

    graph: Graph
    unit: UnitFile
    devices: Mapping[str, BoundDevice]

    def timings(self) -> dict[str, DeviceTiming]:
        """What the plan needs of each device."""
        return {
            role: DeviceTiming(round(device.profile.cycle * 1e9))
            for role, device in self.devices.items()
        }

    def placements(self) -> dict[str, Placement]:
        """Where the unit wants threads to run."""
        unit = self.unit.unit
        cores = self._cores()
        places = {name: Placement(cores[name], t.priority) for name, t in unit.threads.items()}
        for process, profile in unit.processes.items():
            if process == "main":
                raise BoardError(
                    f"{profile.where}: main is the launcher's own process: what no other names "
                    "runs in it. Choose another name, or leave it out."
                )
            for name in profile.threads:
                place = places.get(name, Placement())
                if place.process:
                    raise BoardError(
                        f"{profile.where.at('threads')}: thread {name} is in process "
                        f"{place.process} already. A thread runs in one process."
                    )
                places[name] = replace(place, process=process)
        return places

    def _cores(self) -> dict[str, int]:
        """By thread of the unit: its CPU, of this machine where the unit names a class."""
        threads = self.unit.unit.threads
        wanted = {name: profile.core for name, profile in threads.items()}
        if all(isinstance(core, int) for core in wanted.values()):
            return choose_cores(wanted, ())
        chosen = choose_cores(wanted, usable_cores())
        for name, core in chosen.items():
            if core < 0 and isinstance(wanted[name], str):
                log.warning(
                    "%s: thread %s wants a %s core, and this machine has none: it is not pinned.",
                    threads[name].where.at("core"), name, wanted[name],
                )  # fmt: skip
        return chosen

    def check_threads(self, plan: Plan) -> None:
        """Raises BoardError for a thread of the unit that the plan does not have."""
        known = [thread.name for thread in plan.threads]
        unit = self.unit.unit
        wanted = [(name, profile.where) for name, profile in unit.threads.items()]
        for process, own in unit.processes.items():
            wanted += [(name, own.where.at("threads")) for name in own.threads]
            if not own.threads and process not in plan.processes:
                raise BoardError(
                    f"{own.where}: no thread of {plan.graph} runs in process {process!r}. Name "
                    "its threads (`threads: [front]`), or its nodes in the graph (g.process)."
                )
        for name, where in wanted:
            if name not in known:
                raise BoardError(
                    f"{where}: the plan of {plan.graph} has no thread {name!r}. It has: "
                    f"{', '.join(known)}."
                )
        places: dict[tuple[int, int], list[str]] = {}
        for thread in plan.threads:
            if thread.core >= 0:
                places.setdefault((thread.core, thread.rank), []).append(thread.name)
        for (core, rank), names in places.items():
            if len(names) > 1:
                raise BoardError(
                    f"{self.unit.file}: the threads {' and '.join(names)} on core {core} all have "
                    f"the priority {rank}. Give each another one, or a core of its own."
                )

    def buses(self, plan: Plan) -> dict[str, tuple[BusDevice, Guard | None]]:
        """New bus devices with their guards, for one run of the plan."""
        made: dict[str, tuple[BusDevice, Guard | None]] = {}
        for lane in plan.lanes:
            for bus in lane.task.buses:
                bound = self.devices[bus.role]
                device = bound.make()
                guard = None
                if bus.command_edge >= 0:
                    guard = self._guard(bound, device, lane.task.every_ns)
                made[bus.role] = (device, guard)
        return made

    def streams(self, plan: Plan) -> dict[str, StreamDevice]:
        """New stream devices, for one run."""
        return {role: self.devices[role].make() for role in plan.streams}

    def _guard(self, bound: BoundDevice, device: Any, period_ns: int) -> Guard:
        profile = bound.profile.guard
        where = f"{bound.profile.where}"
        if profile is None:
            raise BoardError(
                f"{where}: {bound.role} is commanded but has no guard. An actuator states its "
                "limits, safe action, command age and what happens when the host dies: add "
                "`guard:` (see docs/units.md)."
            )
        joints = tuple(device.joints)
        if set(profile.joints) != set(joints):
            raise BoardError(
                f"{profile.where}: guard.joints names {', '.join(sorted(profile.joints))}; the "
                f"driver has {', '.join(sorted(joints))}. Give every joint its limits."
            )
        rules = tuple(profile.joints[name].rule(name) for name in joints)
        _check_warden(bound, profile, device, period_ns)
        age = round(profile.command_age * 1e9)
        try:
            return Guard(rules, age, period_ns, profile.on_stale == "latch")
        except ContractError as exc:
            raise BoardError(f"{profile.where}: {exc}") from exc


def bind(graph: Graph, unit: UnitFile) -> Binding:
    """Bind every role of the graph; raises BoardError with the unit's file and line."""
    devices: dict[str, BoundDevice] = {}
    for role, use in graph.devices.items():
        profile = unit.unit.devices.get(role)
        if profile is None:
            raise BoardError(
                f"{unit.file}: unit {unit.unit.unit} has no device in the role {role!r} (wanted at "
                f"{use.line}). It has: {', '.join(unit.unit.devices)}."
            )
        devices[role] = _bind_device(role, use, profile, unit)
    return Binding(graph, unit, devices)


def _bind_device(role: str, use: DeviceUse, profile: DeviceProfile, unit: UnitFile) -> BoundDevice:
    try:
        spec = registry.load("driver", profile.driver, BoardError).SPEC
    except BoardError as exc:
        raise BoardError(f"{profile.where.at('driver')}: {exc}") from exc
    if spec.kind != use.kind.name:
        raise BoardError(
            f"{profile.where.at('driver')}: {profile.driver} is a driver of {spec.kind}; "
            f"{use.line} wants {use.kind.name} in the role {role!r}."
        )
    options = unit.options(spec.options, "devices", role, "options")
    return BoundDevice(role, profile, spec, options)


def _check_warden(bound: BoundDevice, profile: GuardProfile, device: Any, period_ns: int) -> None:
    if profile.on_host_death != "warden":
        return
    if not isinstance(device, Guardable):
        raise BoardError(
            f"{profile.where.at('on_host_death')}: a warden cannot make "
            f"{bound.profile.driver} safe: the driver has no safe_frames. Use `device` if the "
            "device has a watchdog of its own, or `none` with accept_uncontrolled."
        )
    if 0 < profile.warden * 1e9 < 2 * period_ns:
        raise BoardError(
            f"{profile.where.at('warden')}: the limit is {profile.warden * 1e3:g} ms and the "
            f"period of the lane {period_ns / 1e6:g} ms; expected two periods or more. Give it "
            "more time."
        )


def replace_driver(binding: Binding, role: str, spec: Any, options: Any) -> Binding:
    """The same binding with another driver in a role (a video file, a simulated camera)."""
    old = binding.devices[role]
    devices = dict(binding.devices)
    devices[role] = BoundDevice(role, old.profile, spec, options)
    return Binding(binding.graph, binding.unit, devices)
