"""The driver seam: what a driver file declares about itself.

A driver is one file: constants of the manual, pure codec functions, a sans-I/O device class
(see `haihe.runtime.io`), and `SPEC`. It is found by its path: `drivers/servo/sts.py` is
`servo.sts`. Its emulator stands beside it: `sts_emulator.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class StreamTiming:
    """When a stream device captures and delivers, for `haihe check`. latency: from the capture
    stamp to the runtime's hands, at least and at most; None: the driver cannot know it."""

    period_min_ns: int
    period_max_ns: int
    latency_ns: tuple[int, int] | None = None


@dataclass(frozen=True)
class DriverSpec:
    """What the binding needs to know of a driver.

    kind: the role it can fill (`camera`, `servos`). options: a frozen dataclass of what a unit
    profile may say. make: options -> device. emulator: `module:attribute` of the far end.
    link: `serial` (a request/response port) or `stream` (the device opens its own source).
    baud: default of a serial link in bit/s. timing: of a stream device by its options, None where
    they do not say.
    """

    kind: str
    summary: str
    options: type[Any]
    make: Callable[[Any], Any]
    link: str
    baud: int = 0
    emulator: str = ""
    timing: Callable[[Any], StreamTiming | None] = lambda options: None
