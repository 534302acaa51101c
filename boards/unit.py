"""Unit profiles: a board with its devices, wiring, limits and safe actions, as YAML.

    unit: pan-tilt
    devices:
      neck:                            # the role that graphs name
        driver: servo.sts              # drivers/servo/sts.py
        port: /dev/ttyUSB0
        options: {joints: [{name: pan, id: 1}, {name: tilt, id: 2}]}
        guard:                         # no actuator without one
          command_age: 200ms
          on_host_death: warden
          joints: {pan: {position: [-90deg, 90deg], slew: 300deg/s, safe: hold}, ...}
    sim: {world: pan_tilt, options: {...}}

`options` belong to the driver or world and are checked against its own dataclass.
"""

import dataclasses
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml

from haihe.runtime import registry
from haihe.runtime.errors import BoardError
from haihe.runtime.guard import JointRule, SafeAction
from haihe.runtime.yaml_config import (
    NOWHERE,
    Si,
    Where,
    build,
    compose_text,
    loads,
    read_text,
)

T = TypeVar("T")
LEAST_WARDEN_S = 0.02

Seconds = Annotated[float, Si("s")]
# a person who forgets the unit of a limit means degrees: so it must be written
Angle = Annotated[float, Si("rad", bare=False)]


@dataclass(frozen=True)
class JointLimits:
    """What one joint may do. position: range; slew: largest speed of the command; rate: largest
    change of that speed per second (0: not limited); safe: what it does when there is nothing
    safe to obey: hold, free (torque off) or go (to safe_position)."""

    position: tuple[Angle, Angle]
    slew: Annotated[float, Si("rad/s", bare=False)]
    safe: Literal["hold", "free", "go"]
    rate: Annotated[float, Si("rad/s^2", bare=False)] = 0.0
    safe_position: Angle | None = None

    def __post_init__(self) -> None:
        low, high = self.position
        problem = ""
        if low >= high:
            problem = f"position: found {low:g} to {high:g} rad, expected the lower end first"
        elif self.slew <= 0:
            problem = f"slew: found {self.slew:g} rad/s, expected more than 0"
        elif self.rate < 0:
            problem = f"rate: found {self.rate:g} rad/s^2, expected 0 (no limit) or more"
        elif self.safe == "go" and self.safe_position is None:
            problem = "safe: go, but no safe_position"
        elif self.safe_position is not None and not low <= self.safe_position <= high:
            problem = (
                f"safe_position: found {self.safe_position:g} rad, expected it in the range of "
                f"position, {low:g} to {high:g} rad"
            )
        if problem:
            raise BoardError(f"{problem}. Correct the joint's limits.")

    def rule(self, name: str) -> JointRule:
        """In the guard's integers."""
        low, high = (round(v * 1e6) for v in self.position)
        slew, rate = round(self.slew * 1e6), round(self.rate * 1e6)
        safe = SafeAction[self.safe.upper()]
        return JointRule(
            name, low, high, slew, rate, safe, round((self.safe_position or 0.0) * 1e6)
        )


@dataclass(frozen=True)
class GuardProfile:
    """The safety contract of an actuator; there is no default for any of it."""

    command_age: Annotated[float, Si("s", bare=False)]
    on_host_death: Literal["device", "bridge", "warden", "none"]
    joints: dict[str, JointLimits]
    accept_uncontrolled: str = ""
    warden: Annotated[float, Si("s", bare=False)] = 0.0  # 0: max(100 ms, 5 periods)
    on_stale: Literal["recover", "latch"] = "recover"
    where: Where = NOWHERE

    def __post_init__(self) -> None:
        if self.command_age <= 0:
            raise BoardError(
                f"command_age: found {self.command_age:g} s, expected more than 0. Write how old a "
                "command may be and still be obeyed, such as 250ms."
            )
        if self.on_host_death == "none" and not self.accept_uncontrolled:
            raise BoardError(
                "on_host_death: none leaves the actuator as it is when the host dies. Say why "
                "that is acceptable: accept_uncontrolled: <reason>."
            )
        if self.on_host_death == "bridge":
            raise BoardError(
                "on_host_death: bridge is not in this version. Use `warden`, `device` if the "
                "device has a watchdog of its own, or `none` with accept_uncontrolled."
            )
        if self.warden and self.on_host_death != "warden":
            raise BoardError(
                f"warden: {self.warden:g} s is the limit of a warden, and on_host_death is "
                f"{self.on_host_death}. Write on_host_death: warden, or leave it out."
            )
        if self.warden and not LEAST_WARDEN_S <= self.warden <= 10.0:
            raise BoardError(
                f"warden: found {self.warden:g} s, expected {LEAST_WARDEN_S:g} to 10 s. Write how "
                "long the actuator's lane may give no sign before its process is killed."
            )


@dataclass(frozen=True)
class DeviceProfile:
    """One device of a unit."""

    driver: str
    port: str = ""
    baud: int = 0
    cycle: Seconds = 0.0
    options: Any = None
    guard: GuardProfile | None = None
    where: Where = NOWHERE

    def __post_init__(self) -> None:
        if self.baud < 0 or self.cycle < 0:
            raise BoardError(
                f"baud {self.baud}, cycle {self.cycle:g} s: expected more than 0. Leave out what "
                "the driver or the graph decides."
            )


@dataclass(frozen=True)
class ThreadProfile:
    """Where a thread of the plan runs. core: the CPU it is pinned to, or a class of which it gets
    one (boards/cores.py); priority: of SCHED_FIFO, 1 to 99."""

    core: int | Literal["big", "middle", "little"] = -1
    priority: int = 0
    where: Where = NOWHERE

    def __post_init__(self) -> None:
        core = self.core if isinstance(self.core, int) else 0
        if core < -1 or not 0 <= self.priority <= 99:
            raise BoardError(
                f"core {self.core}, priority {self.priority}: expected the number of a CPU, and 1 "
                "to 99 (0: no real-time priority)."
            )


@dataclass(frozen=True)
class ProcessProfile:
    """A process of its own, and what is done when it dies.

    threads: the threads that run in it, besides those that the graph names. restart: how often it
    is started again within `window` before the run is stopped safely (0: never); backoff: the
    wait before the first new start, doubled at each. start: from its start to its readiness, at
    most. hang: it is killed when one of its threads makes no progress for that long (0: never).
    rearm: its actuators may move again by themselves after a restart.
    """

    threads: tuple[str, ...] = ()
    restart: int = 0
    window: Seconds = 60.0
    backoff: Seconds = 0.2
    start: Seconds = 60.0
    hang: Seconds = 0.0
    rearm: bool = False
    where: Where = NOWHERE

    def __post_init__(self) -> None:
        times = (self.window, self.start)
        if self.restart < 0 or min(times) <= 0 or min(self.backoff, self.hang) < 0:
            raise BoardError(
                f"restart {self.restart}, window {self.window:g} s, backoff {self.backoff:g} s, "
                f"start {self.start:g} s, hang {self.hang:g} s: expected 0 or more, and a window "
                "and a start of more than 0 s."
            )


@dataclass(frozen=True)
class SimProfile:
    """The simulated world of a unit."""

    world: str
    options: Any = None
    where: Where = NOWHERE


@dataclass(frozen=True)
class Unit:
    """A unit profile."""

    unit: str
    devices: dict[str, DeviceProfile]
    about: str = ""
    sim: SimProfile | None = None
    threads: dict[str, ThreadProfile] = field(default_factory=dict)
    processes: dict[str, ProcessProfile] = field(default_factory=dict)
    where: Where = NOWHERE


@dataclass(frozen=True)
class UnitFile:
    """A unit profile with its text, which a recording keeps."""

    unit: Unit
    text: str
    file: str

    def options(self, cls: type[T], *path: str) -> T:
        """The options at a path (`devices`, `neck`, `options`) as a driver's own dataclass."""
        node = compose_text(self.text, self.file, BoardError)
        for key in path:
            children = node.value if isinstance(node, yaml.MappingNode) else []
            # what is not written is empty, and stands where its mapping does
            empty = yaml.MappingNode("tag:yaml.org,2002:map", [], node.start_mark, node.end_mark)
            node = next((value for name, value in children if name.value == key), empty)
        options = build(cls, node, self.file, BoardError, ".".join(path))
        # a path in a profile is relative to the profile
        paths = {
            f.name: Path(self.file).parent / value
            for f in dataclasses.fields(options)  # type: ignore[arg-type]
            if isinstance(value := getattr(options, f.name), Path)
        }
        return dataclasses.replace(options, **paths) if paths else options  # type: ignore[type-var]


def find_unit(name: str | None, beside: Path | None) -> Path:
    """The file of a unit: an argument or HAIHE_UNIT (a path or a name), else `unit.yaml` beside
    the graph. Raises BoardError saying where it looked."""
    wanted = name or os.environ.get("HAIHE_UNIT") or ""
    if not wanted:
        local = beside / "unit.yaml" if beside is not None else None
        if local is not None and local.is_file():
            return local
        known = ", ".join(sorted(registry.data_names("unit")))
        raise BoardError(
            f"no unit: no argument, no HAIHE_UNIT, and no {local or 'unit.yaml'}. A unit profile "
            f"binds roles to devices: write one, or name one of: {known}."
        )
    if wanted.endswith((".yaml", ".yml")) or "/" in wanted:
        return Path(wanted)
    return registry.find_data("unit", wanted, BoardError)


def load_unit(path: Path) -> UnitFile:
    """Read and check a unit profile."""
    return unit_from_text(read_text(path, BoardError), str(path))


def unit_from_text(text: str, file: str) -> UnitFile:
    """A unit from its text, as a recording keeps it."""
    return UnitFile(loads(text, Unit, file, BoardError), text, file)
