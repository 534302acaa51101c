"""Witnesses: a graph and a run that exceed the bounds of an analysis without one of its terms."""

from pathlib import Path

import msgspec
from tests.runtime.plan.scheduling.judge import Claim
from tests.runtime.plan.scheduling.model import FRESH, KINDS, names
from tests.runtime.plan.scheduling.script import Script

from haihe.runtime.plan.timing import Timing

FOLDER = Path(__file__).parent / "witnesses"


class Witness(msgspec.Struct, frozen=True):
    """A term of the analysis and what shows that it is needed.

    quantity of `node` (of a `source`'s data, where it is an age) was `found`, which is more than
    `without` the term and not more than the `bound` (None: unbounded).
    finishes: of each lane's jobs up to the horizon.
    """

    term: str
    quantity: str
    node: str
    source: str
    found: int
    without: int
    bound: int | None
    timing: Timing
    script: Script
    finishes: dict[str, list[int]]

    def of(self, claims: list[Claim]) -> int | None:
        """The bound of the quantity, if there is one."""
        nodes = names(self.timing)
        place = (KINDS.index(self.quantity), nodes.index(self.node))
        source = nodes.index(self.source) if self.source else 0
        return next((c.bound for c in claims if c[:3] == (*place, source)), None)

    def save(self) -> None:
        """Write it to its file."""
        text = msgspec.json.format(msgspec.json.encode(self), indent=1).decode()
        (FOLDER / f"{self.term}.json").write_text(text + "\n", encoding="utf-8")


def source_name(claim: Claim, timing: Timing) -> str:
    """The source of an age, '' of other quantities."""
    return timing.sources[claim.source].name if claim.kind >= FRESH else ""


def load(term: str) -> Witness:
    """The stored witness of a term."""
    return msgspec.json.decode((FOLDER / f"{term}.json").read_bytes(), type=Witness)
