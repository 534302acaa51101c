"""What a world file declares about itself: `SPEC`, found by its path like a driver."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from haihe.runtime.sim import World


@dataclass(frozen=True)
class WorldContext:
    """What a world is given: its own options, the seed, and the options of the unit's drivers by
    role (the emulators speak to the very devices that the profile describes)."""

    options: Any
    seed: int
    drivers: Mapping[str, Any]  # role -> driver options
    bauds: Mapping[str, int]


@dataclass(frozen=True)
class WorldSpec:
    """A world: its options dataclass, how it is made, and what it asks of a unit (raises
    BoardError; cheap: the owner of a world's process calls it first)."""

    summary: str
    options: type[Any]
    make: Callable[[WorldContext], World]
    check: Callable[[WorldContext], None]
