"""What others published of models on boards: `boards/costs/reference.yaml`, to stand beside a
user's own result. Each row keeps who said it, what was timed and what is odd about it."""

import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Literal

from haihe.runtime.errors import BoardError
from haihe.runtime.yaml_config import load

FILE = Path(__file__).with_name("costs") / "reference.yaml"


@dataclass(frozen=True)
class Measured:
    """A machine in one setting. values: by model, in the unit of the table."""

    board: str
    machine: str
    setting: str
    values: dict[str, float]
    caveat: str = ""


@dataclass(frozen=True)
class Table:
    """Rows of one source. inputs: the size of a model's picture, where it was said."""

    runtime: str
    unit: Literal["ms", "fps"]
    source: str
    timed: str
    caveat: str
    rows: tuple[Measured, ...]
    inputs: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _File:
    tables: tuple[Table, ...]


@dataclass(frozen=True)
class Row:
    """One model on one board, as published."""

    board: str
    machine: str
    model: str
    input: str
    setting: str
    value: float
    unit: Literal["ms", "fps"]
    source: str
    timed: str
    caveat: str

    def __str__(self) -> str:
        name = f"{self.model} {self.input}".rstrip()
        where = ", ".join(part for part in (self.machine, self.setting) if part)
        return (
            f"published {name}: {self.value:g} {self.unit} ({where}; {self.timed}; {self.caveat}) "
            f"[{self.source}]"
        )


@cache
def rows() -> tuple[Row, ...]:
    """Every row of the file. Raises BoardError."""
    return tuple(
        Row(
            one.board, one.machine, model, table.inputs.get(model, ""),
            f"{table.runtime} {one.setting}".strip(), value, table.unit, table.source,
            table.timed, "; ".join(part for part in (table.caveat, one.caveat) if part),
        )
        for table in load(FILE, _File, BoardError).tables
        for one in table.rows
        for model, value in one.values.items()
    )  # fmt: skip


def published(board: str, model: str = "") -> list[Row]:
    """Rows of a board, and of a model if one is named: `mobilenet-v2` is `mobilenet_v2`, but
    another version or size is another model."""
    if not board:
        return []
    return [
        row
        for row in rows()
        if row.board == board and (not model or _plain(row.model) == _plain(model))
    ]


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.casefold())
