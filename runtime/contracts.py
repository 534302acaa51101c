"""The words of a contract: what a port promises and what it asks for.

They are metadata in `Annotated`, so a type checker sees the plain message:
`parts: Annotated[Detections, fresh("120ms")]`, `-> Annotated[Pose, sometimes]`.
"""

from dataclasses import dataclass
from typing import Final, Literal, NoReturn

import numpy as np

from haihe.runtime.errors import ContractError
from haihe.runtime.traced import user_line
from haihe.runtime.units import Unit, duration_ns, parse_unit

OnStale = Literal["skip", "call"]


@dataclass(frozen=True)
class Fresh:
    """The largest age of an input, from its oldest capture stamp to the moment it is sampled."""

    limit_ns: int
    on_stale: OnStale


def fresh(limit: str, on_stale: OnStale = "skip") -> Fresh:
    """Ask for an input no older than `limit` (such as "120ms").

    A staler input: the node is not called ("skip"), or is called with None ("call": the
    parameter must be Optional). Either way it is counted.
    """
    what = f"fresh({limit!r}, on_stale={on_stale!r})"
    if on_stale not in ("skip", "call"):
        raise ContractError(f'{user_line()}: {what}: say "skip" or "call".')
    return Fresh(_duration(limit, "fresh", what), on_stale)


def _duration(value: str, name: str, what: str) -> int:
    try:
        return duration_ns(value, name)
    except ContractError as exc:
        raise ContractError(f"{user_line()}: {what}: {exc}") from exc


@dataclass(frozen=True)
class Fifo:
    """The trigger's edge keeps messages in order: one call for each, up to `places` waiting."""

    places: int


def fifo(places: int) -> Fifo:
    """Keep order: `sample: Annotated[Waveform, fifo(8)]` on the input that triggers the node.

    The node is called once for each message. When `places` wait, the entrance refuses: the source
    at the beginning of the chain counts a refusal and nothing is lost in mid-graph.
    """
    if not 1 <= places <= 65536:
        raise ContractError(f"{user_line()}: fifo({places!r}): from 1 to 65536 places, please.")
    return Fifo(places)


@dataclass(frozen=True)
class Aligned:
    """The largest distance between the capture stamps of an input and of the node's trigger."""

    within_ns: int
    keep: int


def aligned(within: str, keep: int = 32) -> Aligned:
    """Take the message captured nearest to the triggering input's capture stamp.

    Of the newest `keep` messages; when the nearest is further than `within` ("10ms") the node is
    not called, and it is counted. Let the input that arrives last be the trigger.
    """
    what = f"aligned({within!r}, keep={keep!r})"
    if not 2 <= keep <= 4096:
        raise ContractError(f"{user_line()}: {what}: keep from 2 to 4096 messages, please.")
    return Aligned(_duration(within, "aligned", what), keep)


@dataclass(frozen=True)
class Frame:
    """The frame of reference in which a port's value is given."""

    name: str


def frame(name: str) -> Frame:
    """State the frame of reference of a port: `Annotated[Pose, frame("base")]`.

    An edge between two ports that both state one must state the same.
    """
    if not name or not name.replace("_", "").replace("-", "").replace("/", "").isalnum():
        raise ContractError(
            f"{user_line()}: frame({name!r}): letters, digits, '_', '-' and '/', please."
        )
    return Frame(name)


@dataclass(frozen=True)
class Tunable:
    """The range of a constant that may change while the graph runs; both ends are allowed."""

    low: float
    high: float


def tunable(low: float, high: float) -> Tunable:
    """Let a constant change at run time: `gain: Annotated[float, tunable(0.1, 2.0)]`.

    `set("aim", "gain", 0.8)` refuses what is outside; so does the wiring.
    """
    if not low <= high:
        raise ContractError(
            f"{user_line()}: tunable({low!r}, {high!r}): the first is to be the smaller one."
        )
    return Tunable(low, high)


class Sometimes:
    """Marks an output that may stay silent: `-> Annotated[Pose, sometimes]`."""

    def __repr__(self) -> str:
        return "sometimes"


sometimes: Final = Sometimes()


def unit(name: str) -> Unit:
    """State the unit of a port's value: `Annotated[Reading, unit("mg/L")]`."""
    return parse_unit(name)


class Silent:
    """What a node returns to publish nothing in this firing; see `silent()`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "silent()"


SILENT: Final = Silent()


def silent() -> NoReturn:
    """`return silent()`: publish nothing now. The output must be `Annotated[X, sometimes]`.

    Typed as never returning, so that a node's return type stays the message itself.
    """
    return SILENT  # type: ignore[misc]


class Tick(float):
    """The time in s since this node was last called; 0 at the first call."""


TICK: Final = Tick(0.0)


class Age(float):
    """The age in s of an input when it was sampled: now minus its oldest capture stamp."""

    of: str

    def __new__(cls, seconds: float = 0.0, of: str = "") -> "Age":
        self = super().__new__(cls, seconds)
        self.of = of
        return self


def age_of(port: str) -> Age:
    """`parts_age: Age = age_of("parts")`: the plan gives the measured age of that input.

    Known latency is compensated latency: use it as a prediction horizon. Outside a graph it is 0.
    """
    return Age(0.0, port)


Rng = np.random.Generator
"""Ask for randomness with `rng: Rng = RNG`: a counter-based generator keyed by the run's seed, the
node and the firing, so nothing has to be stored to replay it."""

RNG: Final = np.random.Generator(np.random.Philox(0))
