"""Small random pipelines, their graph, and a slow interpreter that says what a run must give.

The interpreter shares nothing with the planner, the stepping code and the executor but the
documented rules: completion, delivery, release, dispatch; releases and dispatches in the order of
the lanes, all else in the order of scheduling.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, NamedTuple

from haihe import TICK, Age, Graph, Tick, age_of, feedback, fresh, named, node, sometimes
from haihe.runtime.clock import MILLISECOND, SECOND
from haihe.runtime.contracts import SILENT
from haihe.runtime.graph import DeviceKind
from haihe.runtime.plan.codegen import (
    ABSENT,
    CALLED,
    NOT_TRIGGERED,
    QUIET,
    STALE,
)
from haihe.types import Message


class Num(Message):
    """A number."""

    value: int


class Pair(NamedTuple):
    """Two outputs, each of which may be silent."""

    left: Annotated[Num, sometimes]
    right: Annotated[Num, sometimes]


NUMBERS = DeviceKind("numbers", {"num": Num}, stream=True)
INITIAL = 77


@dataclass(frozen=True)
class InputSpec:
    """An input: its source, freshness and whether it is called with None when stale."""

    source: str
    fresh_ms: int | None = None
    call: bool = False


@dataclass(frozen=True)
class NodeSpec:
    """A node; every_ms 0: its first input triggers it."""

    name: str
    every_ms: int
    inputs: tuple[InputSpec, ...]
    pair: bool = False
    silent: int = 0  # output k is silent when the count of calls is k modulo this
    budget_us: int = 0
    loop: bool = False  # remembers its own first output
    timed: bool = False  # takes dt, and the age of its first input if it has one

    @property
    def outputs(self) -> list[str]:
        """The sources it offers."""
        return [f"{self.name}.left", f"{self.name}.right"] if self.pair else [self.name]

    def respond(self, count: int, arguments: tuple[Any, ...]) -> list[int | None]:
        """What it gives, from its call's number and arguments: a value for each output."""
        total = 31 * count + sum(-1 if a is None else int(1e6 * a) for a in arguments)
        return [
            None if self.silent and count % self.silent == k else (total + k) % 10007
            for k in range(len(self.outputs))
        ]


@dataclass(frozen=True)
class StreamSpec:
    """A stream device; latencies by frame, in µs, over and over; None is a dropped frame."""

    name: str
    period_ms: int
    first_ms: int
    latencies_us: tuple[int | None, ...]

    @property
    def source(self) -> str:
        """Its one source."""
        return f"{self.name}.num"

    @property
    def period_ns(self) -> int:
        """For the executor: a SimCamera."""
        return self.period_ms * MILLISECOND

    @property
    def first_ns(self) -> int:
        """For the executor: a SimCamera."""
        return self.first_ms * MILLISECOND

    def capture(self, index: int, t_ns: int) -> tuple[Any, int]:
        """For the executor: a SimCamera."""
        latency = self.latencies_us[index % len(self.latencies_us)]
        return (None, 0) if latency is None else (Num(index), latency * 1000)


@dataclass(frozen=True)
class PipelineSpec:
    """A whole pipeline."""

    streams: tuple[StreamSpec, ...]
    nodes: tuple[NodeSpec, ...]


Call = tuple[str, tuple[Any, ...]]  # node, arguments


# --- as a graph -----------------------------------------------------------------------------------


def _function(spec: NodeSpec, calls: list[Call]) -> Any:
    count = 0

    def function(*arguments: Any) -> Any:
        nonlocal count
        count += 1
        plain = tuple(a.value if isinstance(a, Num) else a for a in arguments)
        calls.append((spec.name, plain))
        values = spec.respond(count, plain)
        results = [SILENT if value is None else Num(value) for value in values]
        return Pair(*results) if spec.pair else results[0]  # type: ignore[arg-type]

    hints: dict[str, Any] = {}
    defaults: dict[str, Any] = {}
    for index, entry in enumerate(spec.inputs):
        hint: Any = Num | None if entry.call else Num
        if entry.fresh_ms is not None:
            contract = fresh(f"{entry.fresh_ms}ms", "call" if entry.call else "skip")
            hint = Annotated[hint, contract]
        hints[f"i{index}"] = hint
    if spec.loop:
        hints["before"] = Num
    if spec.timed:
        hints["dt"], defaults["dt"] = Tick, TICK
        if spec.inputs:
            hints["age"], defaults["age"] = Age, age_of("i0")
    parameters = [
        inspect.Parameter(
            name,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
            default=defaults.get(name, inspect.Parameter.empty),
            annotation=hint,
        )
        for name, hint in hints.items()
    ]
    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    function.__annotations__ = {**hints, "return": Pair if spec.pair else Annotated[Num, sometimes]}
    function.__name__ = function.__qualname__ = spec.name
    when: dict[str, Any] = {"every": f"{spec.every_ms}ms"} if spec.every_ms else {"on": "i0"}
    budget = {"budget": f"{spec.budget_us}us"} if spec.budget_us else {}
    return node(**when, **budget)(function)  # type: ignore[call-overload]


def as_graph(pipeline: PipelineSpec) -> tuple[Graph, list[Call]]:
    """The graph, and the list into which its nodes write their calls."""
    calls: list[Call] = []
    sources: dict[str, Any] = {}
    with Graph("random") as graph:
        for stream in pipeline.streams:
            graph.use_device(stream.name, NUMBERS)
            sources[stream.source] = graph.state(stream.name, "num")
        for spec in pipeline.nodes:
            arguments = [sources[entry.source] for entry in spec.inputs]
            feed: Callable[[Any], None] = lambda value: None  # noqa: E731
            if spec.loop:
                before, feed = feedback(Num(INITIAL))
                arguments.append(before)
            result: Any = named(spec.name, _function(spec, calls))(*arguments)
            outputs = [result.left, result.right] if spec.pair else [result]
            feed(outputs[0])
            sources |= dict(zip(spec.outputs, outputs, strict=True))
    return graph, calls


# --- interpreted ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sample:
    """A message under way."""

    sequence: int
    value: int
    origin: int


@dataclass
class Counters:
    """What an edge must count."""

    received: int = 0
    overwritten: int = 0
    refused: int = 0
    stale: int = 0
    absent: int = 0
    count: int = 0
    total_ns: int = 0
    worst_ns: int = 0
    last: int = 0


@dataclass(frozen=True)
class Firing:
    """What a firing must record."""

    release: int
    clock: int
    run: int
    reads: dict[str, int]
    ended: dict[str, tuple[int, list[bool]]]  # outcome, whether each output was published


@dataclass
class _Lane:
    every_ns: int
    stream: str
    nodes: list[NodeSpec] = field(default_factory=list)
    slots: dict[str, Sample] = field(default_factory=dict)
    seen: dict[str, Sample] = field(default_factory=dict)  # as of this firing
    firings: list[Firing] = field(default_factory=list)
    busy: bool = False
    pending: int | None = None
    skipped: int = 0

    @property
    def external(self) -> set[str]:
        own = {source for spec in self.nodes for source in spec.outputs}
        return {e.source for spec in self.nodes for e in spec.inputs if e.source not in own}


class Interpreter:
    """Runs a pipeline and keeps everything that a run must give."""

    def __init__(self, pipeline: PipelineSpec) -> None:
        self.pipeline = pipeline
        self.calls: list[Call] = []
        self.counters: dict[str, Counters] = {}  # by "node.input"
        self.sent: dict[str, int] = {}  # by source
        self._called_at: dict[str, int] = {}
        self._count: dict[str, int] = {}
        self._loops: dict[str, int] = {}
        self._events: list[tuple[int, int, int, int, Callable[[], None]]] = []
        self._scheduled = 0
        self._now = 0
        self._stopping = False
        roots: dict[str, tuple[int, str]] = {s.source: (0, s.source) for s in pipeline.streams}
        lanes: dict[tuple[int, str], _Lane] = {}
        for spec in pipeline.nodes:
            root = (spec.every_ms, "") if spec.every_ms else roots[spec.inputs[0].source]
            lanes.setdefault(root, _Lane(root[0] * MILLISECOND, root[1])).nodes.append(spec)
            roots |= dict.fromkeys(spec.outputs, root)
        periodic = sorted((x for x in lanes.values() if x.every_ns), key=lambda x: x.every_ns)
        self.lanes = periodic + [lane for lane in lanes.values() if not lane.every_ns]

    def run(self, duration_ns: int) -> None:
        """From 1 s on; what runs at the end is completed."""
        begin = SECOND
        for lane in self.lanes:
            if lane.every_ns:
                self._at(begin, 2, partial(self._release, lane, begin), lane)
        for stream in self.pipeline.streams:
            first = begin + stream.first_ns
            self._at(first, 1, partial(self._capture, stream, 0, first))
        while self._events and min(e[0] for e in self._events) < begin + duration_ns:
            self._next()
        self._stopping = True
        while any(lane.busy for lane in self.lanes):
            self._next()

    def _at(self, t: int, rank: int, action: Callable[[], None], lane: _Lane | None = None) -> None:
        place = 0 if lane is None else next(i for i, x in enumerate(self.lanes) if x is lane)
        self._scheduled += 1
        self._events.append((t, rank, place, self._scheduled, action))

    def _next(self) -> None:
        event = min(self._events, key=lambda e: e[:4])
        self._events.remove(event)
        self._now = event[0]
        event[4]()

    def _capture(self, stream: StreamSpec, index: int, t: int) -> None:
        if self._stopping:
            return
        message, latency = stream.capture(index, t)
        if message is not None:
            self._at(t + latency, 1, lambda: self._deliver(stream.source, message.value, t))
        following = t + stream.period_ns
        self._at(following, 1, lambda: self._capture(stream, index + 1, following))

    def _deliver(self, source: str, value: int, origin: int) -> None:
        self.sent[source] = self.sent.get(source, 0) + 1
        for lane in self.lanes:
            if source in lane.external:
                lane.slots[source] = Sample(self.sent[source], value, origin)
        for lane in self.lanes:
            if lane.stream == source:
                lane.pending = self._now if lane.pending is None else lane.pending
                self._at(self._now, 3, partial(self._dispatch, lane), lane)

    def _release(self, lane: _Lane, t: int) -> None:
        if self._stopping:
            return
        if lane.busy:
            lane.skipped += 1
        else:
            lane.pending = t
            self._at(t, 3, lambda: self._dispatch(lane), lane)
        self._at(t + lane.every_ns, 2, lambda: self._release(lane, t + lane.every_ns), lane)

    def _dispatch(self, lane: _Lane) -> None:
        if lane.busy or lane.pending is None or self._stopping:
            return
        release, lane.pending, lane.busy = lane.pending, None, True
        t = self._now
        reads = {source: lane.slots[source].sequence for source in lane.slots}
        lane.seen |= lane.slots
        fired: dict[str, Sample] = {}
        ended = {}
        work = 0
        for spec in lane.nodes:
            outcome = self._step(lane, spec, t, fired)
            ended[spec.name] = outcome, [source in fired for source in spec.outputs]
            if outcome in (CALLED, QUIET):
                work += 1000 * spec.budget_us
        for spec in lane.nodes:
            if spec.loop and spec.outputs[0] in fired:
                self._loops[spec.name] = fired[spec.outputs[0]].value

        def complete() -> None:
            for source, sample in fired.items():
                for other in self.lanes:
                    if other is not lane and source in other.external:
                        other.slots[source] = sample
            took = self._now - t
            lane.firings.append(Firing(release, t, took, reads, ended))
            lane.busy = False
            if lane.pending is not None:
                self._at(self._now, 3, lambda: self._dispatch(lane), lane)

        if work:
            self._at(t + work, 0, complete)
        else:
            complete()

    def _step(self, lane: _Lane, spec: NodeSpec, t: int, fired: dict[str, Sample]) -> int:
        own = {source for other in lane.nodes for source in other.outputs}
        if not spec.every_ms and spec.inputs[0].source in own - fired.keys():
            return NOT_TRIGGERED
        outcome = CALLED
        arguments: list[Any] = []
        origins: list[int] = []  # of what counts: triggers and aged inputs
        others: list[int] = []  # used only when nothing counts
        first_age = 0
        for index, entry in enumerate(spec.inputs):
            edge = self.counters.setdefault(f"{spec.name}.i{index}", Counters())
            sample = lane.seen.get(entry.source)
            value: int | None = None
            is_trigger = not spec.every_ms and entry.source == spec.inputs[0].source
            if sample is None:
                edge.absent += 1
                outcome = outcome if entry.call else ABSENT
                origins.append(t)
            else:
                value, age = sample.value, t - sample.origin
                if index == 0:
                    first_age = age
                if sample.sequence != edge.last:
                    edge.received += 1
                    edge.overwritten += sample.sequence - edge.last - 1
                    edge.last = sample.sequence
                edge.count += 1
                edge.total_ns += age
                edge.worst_ns = max(edge.worst_ns, age)
                if entry.fresh_ms is not None and age > entry.fresh_ms * MILLISECOND:
                    edge.stale += 1
                    value = None
                    outcome = outcome if entry.call else STALE
                    origins.append(t)
                elif is_trigger or entry.fresh_ms is not None:
                    origins.append(sample.origin)
                else:
                    others.append(sample.origin)
            arguments.append(value)
        if outcome != CALLED:
            return outcome
        if spec.loop:
            arguments.append(self._loops.get(spec.name, INITIAL))
        if spec.timed:
            before = self._called_at.get(spec.name)
            arguments.append(0.0 if before is None else (t - before) * 1e-9)
            if spec.inputs:
                arguments.append(first_age * 1e-9)
        self._called_at[spec.name] = t
        self.calls.append((spec.name, tuple(arguments)))
        count = self._count[spec.name] = self._count.get(spec.name, 0) + 1
        oldest = min(origins or others or [t])
        outcome = QUIET  # nothing was published
        for source, result in zip(spec.outputs, spec.respond(count, tuple(arguments)), strict=True):
            if result is None:
                continue
            outcome = CALLED
            self.sent[source] = self.sent.get(source, 0) + 1
            fired[source] = lane.seen[source] = Sample(self.sent[source], result, oldest)
        return outcome
