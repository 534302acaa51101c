"""The driver seam: what a driver file declares about itself.

A driver is one file: constants of the manual, pure codec functions, a sans-I/O device class
(see `haihe.runtime.io`), and `SPEC`. It is found by its path: `drivers/servo/sts.py` is
`servo.sts`. Its emulator stands beside it: `sts_emulator.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class DriverSpec:
    """What the binding needs to know of a driver.

    kind: the role it can fill (`camera`, `servos`). options: a frozen dataclass of what a unit
    profile may say. make: options -> device. emulator: `module:attribute` of the far end.
    link: `serial` (a request/response port) or `stream` (the device opens its own source).
    baud: default of a serial link in bit/s.
    """

    kind: str
    summary: str
    options: type[Any]
    make: Callable[[Any], Any]
    link: str
    baud: int = 0
    emulator: str = ""
