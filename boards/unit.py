"""Unit profiles: a board with its devices, wiring, limits and safe actions, as YAML.

    unit: pan-tilt
    devices:
      neck:                            # the role that graphs name
        driver: servo.sts              # drivers/servo/sts.py
        port: /dev/ttyUSB0
        options: {joints: [{name: pan, id: 1}, {name: tilt, id: 2}]}
        guard:                         # no actuator without one
          command_age: 200ms
          on_host_death: none
          accept_uncontrolled: the head cannot hurt anyone
          joints: {pan: {position: [-90deg, 90deg], slew: 300deg/s, safe: hold}, ...}
    sim: {world: pan_tilt, options: {...}}

`options` belong to the driver or world and are checked against its own dataclass.
"""

import os
from dataclasses import dataclass
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

Seconds = Annotated[float, Si("s")]


@dataclass(frozen=True)
class JointLimits:
    """What one joint may do. position: range; slew: largest speed of the command; rate: largest
    change of that speed per second (0: not limited); safe: what it does when there is nothing
    safe to obey: hold, free (torque off) or go (to safe_position)."""

    position: tuple[Annotated[float, Si("rad")], Annotated[float, Si("rad")]]
    slew: Annotated[float, Si("rad/s")]
    safe: Literal["hold", "free", "go"]
    rate: Annotated[float, Si("rad/s^2")] = 0.0
    safe_position: Annotated[float, Si("rad")] = 0.0

    def rule(self, name: str) -> JointRule:
        """In the guard's integers."""
        low, high = (round(v * 1e6) for v in self.position)
        slew, rate = round(self.slew * 1e6), round(self.rate * 1e6)
        safe = SafeAction[self.safe.upper()]
        return JointRule(name, low, high, slew, rate, safe, round(self.safe_position * 1e6))


@dataclass(frozen=True)
class GuardProfile:
    """The safety contract of an actuator; there is no default for any of it."""

    command_age: Seconds
    on_host_death: Literal["device", "bridge", "warden", "none"]
    joints: dict[str, JointLimits]
    accept_uncontrolled: str = ""
    on_stale: Literal["recover", "latch"] = "recover"
    where: Where = NOWHERE

    def __post_init__(self) -> None:
        if self.on_host_death == "none" and not self.accept_uncontrolled:
            raise BoardError(
                "on_host_death: none leaves the actuator as it is when the host dies. Say why "
                "that is acceptable: accept_uncontrolled: <reason>."
            )
        if self.on_host_death in ("warden", "bridge"):
            raise BoardError(
                f"on_host_death: {self.on_host_death} is not in this version. Use `device` if the "
                "device has a watchdog of its own, or `none` with accept_uncontrolled."
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
    where: Where = NOWHERE


@dataclass(frozen=True)
class UnitFile:
    """A unit profile with its text, which a recording keeps."""

    unit: Unit
    text: str
    file: str

    def options(self, cls: type[T], *path: str) -> T:
        """The options at a path (`devices`, `neck`, `options`) as a driver's own dataclass."""
        node: yaml.Node | None = compose_text(self.text, self.file, BoardError)
        for key in path:
            children = node.value if isinstance(node, yaml.MappingNode) else []
            node = next((value for name, value in children if name.value == key), None)
        where = ".".join(path)
        if node is None:
            return loads("{}", cls, f"{self.file}: {where}", BoardError)
        return build(cls, node, self.file, BoardError, where)


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
