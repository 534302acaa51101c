"""A finding: what `haihe check` tells besides timing."""

from collections.abc import Sequence
from typing import Literal

import msgspec

from haihe.runtime.yaml_config import Where

Severity = Literal["fails", "warns", "note"]
ORDER: dict[Severity, int] = {"fails": 0, "warns": 1, "note": 2}


class Finding(msgspec.Struct, frozen=True):
    """What was found, where, and what to do.

    severity: `fails`: it cannot work as it stands; `warns`: it works until something happens;
    `note`: a decision that somebody took. where: `file:line`, of a profile with the column.
    cure: empty where there is nothing to do.
    """

    severity: Severity
    where: str
    text: str
    cure: str = ""

    def __str__(self) -> str:
        said = f"{self.severity:<6} {self.where}: {self.text}"
        return f"{said} {self.cure}" if self.cure else said


def some(names: Sequence[str], most: int = 3) -> str:
    """The first of many names."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def place(where: Where, key: str = "") -> str:
    """`file:line:column` of a profile's mapping, or of one of its keys."""
    return (where.at(key) if key else where).place
