"""Units: SI on every port; written quantities such as `120ms` or `300deg/s` are read here.

A unit is a factor to SI and a dimension (exponents of m, kg, s, A, K, mol, cd, rad). The angle
keeps a dimension of its own, so that a port in Hz is not taken for one in rad/s.
"""

import math
import re
from typing import NamedTuple

from haihe.runtime.errors import ContractError

Dimension = tuple[int, int, int, int, int, int, int, int]
_NONE: Dimension = (0, 0, 0, 0, 0, 0, 0, 0)


class Unit(NamedTuple):
    """A unit: its name as written, `value_si = value * factor + offset`, its dimension."""

    name: str
    factor: float
    dimension: Dimension
    offset: float = 0.0


def _d(m: int = 0, kg: int = 0, s: int = 0, a: int = 0, k: int = 0, rad: int = 0) -> Dimension:
    return (m, kg, s, a, k, 0, 0, rad)


_BASE: dict[str, tuple[float, Dimension]] = {
    "1": (1.0, _NONE),
    "%": (0.01, _NONE),
    "ppm": (1e-6, _NONE),
    "px": (1.0, _NONE),
    "count": (1.0, _NONE),
    "s": (1.0, _d(s=1)),
    "ms": (1e-3, _d(s=1)),
    "us": (1e-6, _d(s=1)),
    "ns": (1e-9, _d(s=1)),
    "min": (60.0, _d(s=1)),
    "h": (3600.0, _d(s=1)),
    "d": (86400.0, _d(s=1)),
    "Hz": (1.0, _d(s=-1)),
    "kHz": (1e3, _d(s=-1)),
    "fps": (1.0, _d(s=-1)),
    "rad": (1.0, _d(rad=1)),
    "mrad": (1e-3, _d(rad=1)),
    "deg": (math.pi / 180, _d(rad=1)),
    "rev": (2 * math.pi, _d(rad=1)),
    "rpm": (2 * math.pi / 60, _d(rad=1, s=-1)),
    "m": (1.0, _d(m=1)),
    "km": (1e3, _d(m=1)),
    "cm": (1e-2, _d(m=1)),
    "mm": (1e-3, _d(m=1)),
    "um": (1e-6, _d(m=1)),
    "L": (1e-3, _d(m=3)),
    "mL": (1e-6, _d(m=3)),
    "kg": (1.0, _d(kg=1)),
    "g": (1e-3, _d(kg=1)),
    "mg": (1e-6, _d(kg=1)),
    "N": (1.0, _d(m=1, kg=1, s=-2)),
    "Nm": (1.0, _d(m=2, kg=1, s=-2)),
    "J": (1.0, _d(m=2, kg=1, s=-2)),
    "W": (1.0, _d(m=2, kg=1, s=-3)),
    "kW": (1e3, _d(m=2, kg=1, s=-3)),
    "Pa": (1.0, _d(m=-1, kg=1, s=-2)),
    "kPa": (1e3, _d(m=-1, kg=1, s=-2)),
    "hPa": (1e2, _d(m=-1, kg=1, s=-2)),
    "bar": (1e5, _d(m=-1, kg=1, s=-2)),
    "A": (1.0, _d(a=1)),
    "mA": (1e-3, _d(a=1)),
    "V": (1.0, _d(m=2, kg=1, s=-3, a=-1)),
    "mV": (1e-3, _d(m=2, kg=1, s=-3, a=-1)),
    "K": (1.0, _d(k=1)),
}
_OFFSET = {"degC": (1.0, _d(k=1), 273.15)}
_FACTOR = re.compile(r"(?P<name>%|[A-Za-z1]+?)(?:\^?(?P<power>-?[2-9]|-1|²|³))?$")
_QUANTITY = re.compile(
    r"\s*(?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*(?P<unit>.*?)\s*$"
)


def parse_unit(text: str) -> Unit:
    """Read a unit such as `rad/s`, `mg/L`, `m/s^2`. Raises ContractError with a nearest name."""
    if text in _OFFSET:
        factor, dimension, offset = _OFFSET[text]
        return Unit(text, factor, dimension, offset)
    factor, exponents = 1.0, list(_NONE)
    sign = 1
    written = text.replace("µ", "u").replace("μ", "u")  # U+00B5 and U+03BC
    for index, part in enumerate(re.split(r"([*/·])", written)):
        part = part.strip()
        if index % 2:
            sign = -1 if part == "/" else 1
            continue
        match = _FACTOR.fullmatch(part)
        if match is not None and match["name"] in _OFFSET:
            raise ContractError(
                f"unit {text!r}: {part!r} has an offset, so it stands alone. Use K."
            )
        if match is None or match["name"] not in _BASE:
            raise ContractError(f"unit {text!r}: {part!r} is not a unit.{_nearest(part)}")
        power = sign * int({"²": "2", "³": "3", None: "1"}.get(match["power"], match["power"]))
        base, dimension = _BASE[match["name"]]
        factor *= base**power
        exponents = [e + power * d for e, d in zip(exponents, dimension, strict=True)]
    return Unit(text, factor, tuple(exponents))  # type: ignore[arg-type]


def same_unit(one: Unit, other: Unit) -> bool:
    """Whether they mean the same, however written: `m/s^2`, `m/s²`."""
    return (
        one.dimension == other.dimension
        and one.offset == other.offset
        and math.isclose(one.factor, other.factor, rel_tol=1e-9)
    )


def _nearest(name: str) -> str:
    import difflib

    known = [*_BASE, *_OFFSET]
    near = [n for n in known if n.casefold() == name.casefold()]
    near = near or difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f" Did you mean {near[0]!r}?" if near else f" Known: {', '.join(known)}."


def quantity(value: str | float, like: str) -> float:
    """Read `value` in the SI unit of the dimension of `like`; a bare number is in `like` itself.

    `quantity("300deg/s", "rad/s")` is 5.236; `quantity(90, "deg")` is 1.571.
    """
    wanted = parse_unit(like)
    if isinstance(value, int | float):
        return value * wanted.factor + wanted.offset
    match = _QUANTITY.match(value)
    if match is None:
        raise ContractError(
            f"{value!r} is not a quantity. Write a number and a unit, as in '5{like}'."
        )
    if not match["unit"]:
        return float(match["number"]) * wanted.factor + wanted.offset
    unit = parse_unit(match["unit"])
    if unit.dimension != wanted.dimension:
        raise ContractError(
            f"{value!r} has the wrong dimension: found {unit.name}, expected something like {like}."
        )
    return float(match["number"]) * unit.factor + unit.offset


def duration_ns(value: str | float, what: str = "duration") -> int:
    """Read a positive duration (`"20ms"`, `"50Hz"` as its period, or seconds) in ns."""
    if isinstance(value, str) and value.rstrip().endswith(("Hz", "fps")):
        rate = quantity(value, "Hz")
        seconds = 1.0 / rate if rate else 0.0
    else:
        seconds = quantity(value, "s")
    if not 0.5e-9 < seconds < 1e9:  # 0.5 ns is rounded to 0
        raise ContractError(f"{what} {value!r} is not a positive duration. Write it as in '20ms'.")
    return round(seconds * 1e9)


def format_ns(t_ns: int) -> str:
    """A duration for people: `120 ms`, `1.9 ms`, `30 µs`."""
    for limit, factor, name in ((1e9, 1e9, "s"), (1e6, 1e6, "ms"), (1e3, 1e3, "µs")):
        if abs(t_ns) >= limit:
            return f"{t_ns / factor:.4g} {name}"
    return f"{t_ns} ns"
