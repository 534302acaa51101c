"""Simulation protocols: plants, emulators, worlds. No physics here.

An emulator speaks the wire and asks a plant for its state; a plant never knows bytes; a world
joins plants, renderers and emulators, and is chosen by the unit profile under `sim:`.
"""

from typing import Protocol

from haihe.runtime.types import Image


class Plant(Protocol):
    """Physics: state that moves with time."""

    def step(self, t_ns: int) -> None:
        """Advance to `t_ns`; a time that has passed already is ignored."""
        ...


class Emulator(Protocol):
    """The far end of a wire: same bytes as the real device, seeded faults."""

    def receive(self, data: bytes, t_ns: int) -> list[tuple[int, bytes]]:
        """Take bytes whose last one arrives at `t_ns`; give replies as (time of the last byte of
        the reply in ns, bytes)."""
        ...


class SimCamera(Protocol):
    """A simulated camera: a fixed frame grid and a delivery latency."""

    period_ns: int
    first_ns: int

    def capture(self, index: int, t_ns: int) -> tuple[Image | None, int]:
        """The frame number `index`, exposed at `t_ns`, and its delivery latency in ns. None is a
        dropped frame."""
        ...


class World(Protocol):
    """A simulated world: emulators by device role, cameras by device role."""

    emulators: dict[str, Emulator]
    cameras: dict[str, SimCamera]

    def step(self, t_ns: int) -> None:
        """Advance every plant to `t_ns`."""
        ...

    def truth(self, t_ns: int) -> dict[str, float]:
        """What a judge may look at and a controller may not: named values in SI."""
        ...
