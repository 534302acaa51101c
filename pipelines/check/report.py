"""The report of `haihe check` as data; `text.py` shows it to people. All times in ns."""

from typing import Literal

import msgspec

from haihe.pipelines.check.finding import Finding

Word = Literal["holds (measured)", "holds (estimated)", "expected", "fails", "unbounded"]
Origin = Literal["declared", "measured", "estimated", "missing"]
WORDS: tuple[Word, ...] = (
    "holds (measured)", "holds (estimated)", "expected", "fails", "unbounded",
)  # fmt: skip
SCHEMA = 1


class Verdict(msgspec.Struct, frozen=True):
    """One of five words; reason: of `expected`, what exceeds how far, who starves whom."""

    word: Word
    reason: str = ""

    def __str__(self) -> str:
        if self.word == "expected":
            return f"expected ({self.reason})"
        return f"{self.word}: {self.reason}" if self.reason else self.word

    @property
    def rank(self) -> int:
        """0 is the strongest."""
        return WORDS.index(self.word)

    @property
    def is_well(self) -> bool:
        """Neither fails nor unbounded."""
        return self.rank <= WORDS.index("expected")


def weakest(verdicts: list[Verdict]) -> Verdict:
    """The weakest; the first of those that are as weak."""
    return max(verdicts, key=lambda verdict: verdict.rank)


class Budget(msgspec.Struct, frozen=True):
    """The worst execution time that is counted on for a node, or for a bus ("read neck").

    ns: None where nobody knows. held_ns: of it, holding the interpreter. said: where it is from,
    for people. samples: behind a measured one. weakness: why a bound built on it is no more than
    `expected`. note: an assumption that the reader must know of. cure: for a missing one.
    """

    name: str
    ns: int | None
    origin: Origin
    said: str
    held_ns: int = 0
    samples: int = 0
    weakness: str = ""
    note: str = ""
    cure: str = ""


class LaneReport(msgspec.Struct, frozen=True):
    """A lane. items: its buses and nodes in order, with their budgets. load: of its thread."""

    name: str
    thread: str
    core: int
    rank: int
    trigger: str
    items: list[Budget]
    worst_ns: int | None
    response_ns: int | None
    load: float | None
    process: str = "main"


class Promise(msgspec.Struct, frozen=True):
    """A contract and its bound. kind: `fresh` of an input ("aim.parts"), `deadline` of a node,
    `fifo` (places; not a time). blame: the greatest term of the bound."""

    kind: Literal["fresh", "deadline", "fifo"]
    subject: str
    line: str
    bound: int | None
    limit: int
    verdict: Verdict
    blame: str = ""

    @property
    def spare(self) -> int | None:
        """What is left; below 0 it fails."""
        return None if self.bound is None else self.limit - self.bound


class Part(msgspec.Struct, frozen=True):
    """A part of the oldest age."""

    label: str
    ns: int


class Headroom(msgspec.Struct, frozen=True):
    """How much a node may take until the first promise breaks. most_ns: the largest budget with
    which all hold. breaks: what fails above it, empty where nothing did as far as was looked.
    jump: what else happens there."""

    node: str
    budget_ns: int
    most_ns: int
    breaks: str
    jump: str = ""


class ChainReport(msgspec.Struct, frozen=True):
    """A source's data on its way to an actuator, or to where nobody reads on.

    reading_ns: its age when the last node reads it. sent_ns: when the first byte leaves.
    oldest_ns: the oldest that is still acted on, which is the slowest reaction; sum of `parts`.
    """

    path: list[str]
    reader: str  # "faces when aim reads them"
    actuator: str  # "" : the end is a node's output
    reading_ns: int | None
    sent_ns: int | None
    oldest_ns: int | None
    parts: list[Part]
    promises: list[Promise]
    verdict: Verdict
    headroom: Headroom | None = None


class Cure(msgspec.Struct, frozen=True):
    """A change that was analysed again. helps: it mends a failure or gives more than 10 %."""

    change: str
    effect: str
    helps: bool


class Report(msgspec.Struct, frozen=True):
    """What `haihe check` found."""

    graph: str
    unit: str
    board: str
    plan: str  # its hash
    verdict: Verdict
    lanes: list[LaneReport]
    chains: list[ChainReport]
    promises: list[Promise]  # of no chain: deadlines, queues, inputs that no stream reaches
    cures: list[Cure]
    assumptions: list[str]
    findings: list[Finding]
    todo: list[str] = []  # what would make the verdict stronger
    schema: int = SCHEMA

    @property
    def exit_code(self) -> int:
        """0: holds or expected; 1: fails, unbounded, or a finding that fails."""
        bad = any(finding.severity == "fails" for finding in self.findings)
        return 1 if bad or not self.verdict.is_well else 0

    def to_json(self) -> bytes:
        """As a document."""
        return msgspec.json.format(msgspec.json.encode(self), indent=1)

    @classmethod
    def from_json(cls, data: bytes) -> "Report":
        """The document back. Raises msgspec.DecodeError."""
        return msgspec.json.decode(data, type=cls)

    def __repr__(self) -> str:
        from haihe.pipelines.check.text import text

        return text(self)
