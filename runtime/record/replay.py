"""Replay: the recorded firings again, from what they consumed, to the same bytes.

Decision replay takes the outputs of `recorded` nodes (models) from the recording; perception
replay computes them again from the recorded frames. A firing is ready when the sequence numbers
that it consumed exist; no global order is recorded or needed. Devices are the same sans-I/O
objects, fed with the recorded replies; what they want to send is compared with what was sent.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec

from haihe.runtime.contracts import SILENT
from haihe.runtime.errors import DeviceError, RecordError
from haihe.runtime.exec.assembly import Assembly, link_for
from haihe.runtime.exec.lane import Lane, Timing
from haihe.runtime.graph import Graph, NodeUse
from haihe.runtime.guard.guard import Guard
from haihe.runtime.io import BusDevice, Reply
from haihe.runtime.links.slot import Recent, Sample, Slot
from haihe.runtime.plan.codegen import (
    OUTCOMES,
    RAISED,
    has_published,
    outcome_of,
    record_layout,
)
from haihe.runtime.plan.model import Plan, TaskPlan
from haihe.runtime.record.format import FIRING, RESTART, SETUP, STAMPS, STOP, LaneRecord
from haihe.runtime.record.recording import Recording, StreamRecord
from haihe.runtime.record.sink import FORM_MESSAGE
from haihe.runtime.record.start import begin_at_keyframes, state_kinds
from haihe.runtime.traced import Ref
from haihe.runtime.types import decode

log = logging.getLogger(__name__)


class Difference(msgspec.Struct):
    """One place where the replay went another way."""

    lane: str
    firing: int
    what: str

    def __str__(self) -> str:
        return f"lane {self.lane}, firing {self.firing}: {self.what}"


class ReplayReport(msgspec.Struct):
    """What a replay found. `ok`: every firing was replayed and none differed."""

    path: str
    mode: str
    firings: int = 0
    skipped: int = 0  # not replayable: what they consumed lies beyond the cut of the file
    lost: int = 0  # not replayable: what they consumed died with its maker and their process
    bytes_equal: int = 0
    differences: list[Difference] = []
    differing: int = 0  # all differences; the list holds the first ones
    sent: dict[str, bytes] = {}  # by role: what the replayed device sent

    @property
    def ok(self) -> bool:
        """Nothing differed, and there was something to compare."""
        return not self.differing and self.firings > 0

    def __str__(self) -> str:
        verdict = "equal" if self.ok else f"{self.differing} differences"
        lines = [
            f"{self.mode} replay of {self.path}: {self.firings} firings, "
            f"{self.bytes_equal} actuator bytes: {verdict}"
        ]
        if self.skipped:
            lines.append(f"  {self.skipped} firings lie beyond the end of the file")
        if self.lost:
            lines.append(f"  {self.lost} firings read what died unrecorded with their process")
        lines += [f"  {difference}" for difference in self.differences]
        return "\n".join(lines)


class Step(msgspec.Struct):
    """One replayed firing, for stepping through."""

    lane: str
    firing: int
    t_ns: int
    consumed: dict[str, int]
    outcomes: dict[str, str]
    events: list[Any]
    inputs: dict[str, Any]


LISTED = 20  # differences that are kept in full


class _Played(Slot):
    """Gives its reader exactly the sample that the recorded firing consumed."""

    __slots__ = ("history", "keep")

    def __init__(self, keep: int) -> None:
        """keep: how far back, in messages, the reader may go."""
        super().__init__()
        self.history: dict[int, Any] = {}
        self.keep = keep

    def put(self, sample: Sample) -> None:
        self.history[sample[0]] = sample

    def take(self) -> Sample | None:
        return self.value

    @property
    def items(self) -> tuple[Sample, ...]:
        return (self.value,) if self.value is not None else ()


def _played(plan: Plan, task: TaskPlan, source: str) -> _Played:
    link = link_for(plan, task, source)
    return _Played(link.keep if isinstance(link, Recent) else 1)


class _LaneReplay:
    def __init__(self, lane: Lane, records: list[LaneRecord]) -> None:
        self.lane, self.records = lane, records
        self.at = 0
        self.current: LaneRecord | None = None

    def clock(self) -> int:
        """The firing's one clock reading, as recorded."""
        assert self.current is not None
        return self._clock_of(self.current)

    def next_clock(self) -> int:
        """The clock reading of the record that comes next, 0 of a set-up."""
        return self._clock_of(self.records[self.at])

    @staticmethod
    def _clock_of(record: LaneRecord) -> int:
        if record.kind == FIRING:
            return int(record.fixed[2])
        return 0 if record.kind == SETUP else int(record.fixed[1])

    def now(self) -> int:
        """Its end, as recorded."""
        if self.current is None or self.current.kind != FIRING:
            return 0
        return int(self.current.fixed[2]) + int(self.current.fixed[3])


class Replayer:
    """Replays a recording of a graph that has been wired anew and bound to fresh devices."""

    def __init__(
        self,
        recording: Recording,
        graph: Graph,
        buses: Mapping[str, tuple[BusDevice, Guard | None]],
        *,
        perception: bool = False,
        start_s: float = 0.0,
    ) -> None:
        self.recording, self.graph = recording, graph
        steps = [step for lane in recording.plan.lanes for step in lane.task.steps]
        for step in steps:
            use = graph.nodes.get(step.name)
            if use is None or tuple(p.name for p in use.outputs) != step.outputs:
                raise RecordError(
                    f"{recording.path}: node {step.name} of the recording is not in the graph of "
                    f"{graph.file} any more (it has: {', '.join(graph.nodes)}). Replay it with the "
                    "code that made it; `named()` keeps names when nodes are added."
                )
        self.report = ReplayReport(str(recording.path), "perception" if perception else "decision")
        self._perception = perception
        self._lanes: list[_LaneReplay] = []
        self._queue: list[tuple[int, bytes, Reply]] = []
        self._sent: dict[str, list[bytes]] = {role: [] for role in buses}
        timing = {i: self._timing(i) for i in range(len(recording.plan.lanes))}
        self.assembly = Assembly(
            graph,
            recording.plan,
            buses,
            lambda index: timing[index],
            seed=int(recording.header.get("seed", 0)),
            play=None if perception else self._play,
            make_link=_played,
        )
        for lane in self.assembly.lanes:
            self._lanes.append(_LaneReplay(lane, recording.lanes[lane.name]))
            lane.on_log = lambda fixed, lane=lane: self._logged(lane, fixed)
        self._kinds: dict[str, Any] = {}
        self._load_sources()
        if start_s or "ring" in recording.header:
            lanes = [(replay.lane, replay.records) for replay in self._lanes]
            places = begin_at_keyframes(recording, graph, lanes, start_s)
            for replay, at in zip(self._lanes, places, strict=True):
                replay.at = at

    def _timing(self, index: int) -> Timing:
        return Timing(
            lambda: self._lanes[index].clock(), lambda: self._lanes[index].now(), lambda: 0
        )

    # --- sources ------------------------------------------------------------------------------

    def _load_sources(self) -> None:
        kinds = state_kinds(self.graph)
        for index, source in self.assembly.readers:
            if source in self.recording.streams:
                self._kinds[source] = kinds[source]
                history = self._link(index, source).history
                history |= {r.sequence: r for r in self.recording.streams[source]}

    def _link(self, index: int, source: str) -> _Played:
        link = self.assembly.readers[index, source]
        assert isinstance(link, _Played)
        return link

    def _play(self, lane: Lane, index: int, use: NodeUse) -> Callable[..., Any]:
        """Stands for a recorded node: gives what the recording says it gave."""
        several = use.contract.output_tuple is not None
        sources = [use.name if p.name == "out" else f"{use.name}.{p.name}" for p in use.outputs]
        outputs = [self.recording.outputs.get(source, {}) for source in sources]
        place = 4 + len(lane.task.reads) + index

        def play(*args: Any) -> Any:
            record = self._lanes[lane.index].current
            assert record is not None
            recorded = record.fixed[place]
            if outcome_of(recorded) == RAISED:
                raise _Replayed(f"{use.name} raised when it was recorded")
            results: list[Any] = []
            for index, (source, stored) in enumerate(zip(sources, outputs, strict=True)):
                if not has_published(recorded, index):
                    results.append(SILENT)
                    continue
                number = lane.counts[source] = lane.counts.get(source, 0) + 1
                if number not in stored:
                    self._differs(lane, lane.firing, f"{source} #{number} is not in the file")
                    results.append(SILENT)
                    continue
                results.append(decode(use.outputs[index].kind, stored[number]))
            return tuple(results) if several else results[0]

        return play

    # --- replay -------------------------------------------------------------------------------

    def run(self) -> ReplayReport:
        """Replay everything; give the report."""
        for _ in self.steps():
            pass
        return self.report

    def steps(self) -> Iterator[Step]:
        """Replay firing by firing; sums up in `report`."""
        if self._perception:
            for lane in self.assembly.lanes:
                for instance in lane.instances:
                    if hasattr(instance, "open"):
                        instance.open()
        while (replay := self._next()) is not None:
            yield self._step(replay)
        self.report.skipped = sum(
            sum(r.kind == FIRING for r in replay.records[replay.at :]) for replay in self._lanes
        )
        is_cut = (
            not self.recording.complete
            or "ring" in self.recording.header
            or "lost" in self.recording.notes  # records of a process
        )
        if self.report.skipped and not is_cut:
            self._differs(self._lanes[0].lane, 0, "firings wait for messages that never came")
        self.report.sent = {role: b"".join(parts) for role, parts in self._sent.items()}
        for lane in self.assembly.lanes:
            for instance in lane.instances:
                if self._perception and hasattr(instance, "close"):
                    instance.close()

    def _next(self) -> _LaneReplay | None:
        """The lane whose turn it is: of those that are ready, the earliest as recorded."""
        while True:
            waiting = [replay for replay in self._lanes if replay.at < len(replay.records)]
            waiting.sort(key=_LaneReplay.next_clock)
            found = next((one for one in waiting if self._missing(one) is None), None)
            if found is not None or not any(self._skip(one) for one in waiting):
                return found

    def _missing(self, replay: _LaneReplay) -> tuple[str, int] | None:
        """A message that the next record of a lane consumed and that is not there (yet)."""
        record = replay.records[replay.at]
        if record.kind != FIRING:
            return None
        lane = replay.lane
        for source, sequence in zip(lane.task.reads, record.fixed[4:], strict=False):
            history = self._link(lane.index, source).history
            if sequence and sequence not in history:
                orphan = self.recording.orphans.get(source, {}).get(sequence)
                if orphan is None:
                    return source, sequence
                history[sequence] = self._orphan(source, sequence, orphan)
        return None

    def _skip(self, replay: _LaneReplay) -> bool:
        """A lane that died, and consumed what died unrecorded too, goes on at its restart: whether
        this is such a one."""
        missing = self._missing(replay)
        left = range(replay.at, len(replay.records))
        restart = next((i for i in left if replay.records[i].kind == RESTART), None)
        if missing is None or restart is None or not self._never_comes(*missing):
            return False
        self.report.lost += sum(r.kind == FIRING for r in replay.records[replay.at : restart])
        replay.at = restart
        return True

    def _never_comes(self, source: str, sequence: int) -> bool:
        """Whether no lane will make a message any more: its maker is past it, or at its end."""
        for replay in self._lanes:
            if source in replay.lane.task.publishes:
                is_over = replay.at >= len(replay.records)
                return is_over or replay.lane.sequence_of(source) >= sequence
        return True

    def _orphan(self, source: str, sequence: int, stored: bytes) -> Sample | StreamRecord:
        """A message whose maker died before it could record it, or how it made it."""
        origin, fired = STAMPS.unpack_from(stored)
        data = stored[STAMPS.size :]
        if source in self._kinds:
            return StreamRecord(sequence, origin, fired, FORM_MESSAGE, data)
        kinds = state_kinds(self.graph)
        for use in self.graph.nodes.values():
            kinds |= {str(Ref(use.name, port.name, "node")): port.kind for port in use.outputs}
        return (sequence, decode(kinds[source], data), origin, fired)

    def _step(self, replay: _LaneReplay) -> Step:
        lane, record = replay.lane, replay.records[replay.at]
        replay.current = record
        consumed: dict[str, int] = {}
        inputs: dict[str, Any] = {}
        if record.kind == FIRING:
            for source, sequence in zip(lane.task.reads, record.fixed[4:], strict=False):
                slot = self._link(lane.index, source)
                history = slot.history
                slot.value = self._sample(lane, source, history[sequence]) if sequence else None
                consumed[source] = sequence
                inputs[source] = slot.value
                while history and (oldest := next(iter(history))) <= sequence - slot.keep:
                    del history[oldest]
            lane.firing = record.fixed[0] - 1
            lane.inbox.extend(record.events)
            steps: Any = lane.begin(record.fixed[1])
            self.report.firings += 1
        elif record.kind == SETUP:
            steps = lane.setup()
        elif record.kind == RESTART:
            steps = self._renew(lane, record)
        else:
            reason = next((e[1] for e in record.events if e[0] == "trip"), "stop")
            steps = lane.stop(replay.clock, reason)
        at = replay.at
        self._load(replay)
        try:
            self._drive(lane, steps)
        except _Diverged:
            replay.at = max(replay.at, at + 1)
        outcomes: dict[str, str] = {}
        if record.kind == FIRING:
            codes = record.fixed[4 + len(lane.task.reads) :]
            outcomes = {
                step.name: OUTCOMES[outcome_of(code)]
                for step, code in zip(lane.task.steps, codes, strict=False)
            }
        return Step(
            lane.name, lane.firing, replay.clock(), consumed, outcomes, list(record.events), inputs
        )

    def _renew(self, lane: Lane, record: LaneRecord) -> Iterator[None]:
        firing, t_ns = record.fixed
        self.assembly.renew(lane, firing, record.events[0][1], t_ns)
        yield from ()

    def _sample(self, lane: Lane, source: str, stored: Any) -> Any:
        """The sample of a slot; a stream's message is decoded only for nodes that look at it."""
        if source not in self._kinds:
            return stored
        message = None
        for step in lane.task.steps:
            looks = any(self.recording.plan.edges[e].source == source for _, e in step.inputs)
            if looks and (self._perception or not step.recorded):
                message = stored.message(self._kinds[source])
                if message is None:
                    raise RecordError(
                        f"{self.recording.path}: node {step.name} needs the frames of {source}, "
                        "which were not kept as captured. Record with frames=lossless."
                    )
        return (stored.sequence, message, stored.capture_ns, stored.delivered_ns)

    def _load(self, replay: _LaneReplay) -> None:
        replay.current = replay.records[replay.at]
        self._queue = [(bus, x.tx, reply) for bus, x, reply in replay.current.exchanges]

    def _drive(self, lane: Lane, steps: Any) -> None:
        """Run a generator, feeding the recorded replies."""
        reply = None
        try:
            while True:
                item = steps.send(reply)
                reply = None if item.__class__ is int else self._answer(lane, item)
        except StopIteration:
            return
        except DeviceError as exc:  # a set-up that failed when it was recorded, too
            log.info("replay: %s", exc)

    def _answer(self, lane: Lane, bus: Any) -> Reply:
        tx = bus.pending.tx
        if not self._queue:
            self._differs(lane, lane.firing, f"{bus.role} sends {tx.hex()}, recorded: nothing")
            raise _Diverged
        index, recorded, reply = self._queue.pop(0)
        if not reply.error:
            self._sent[bus.role].append(tx)
        if index != bus.index or recorded != tx:
            self._differs(
                lane, lane.firing, f"{bus.role} sends {tx.hex()}, recorded: {recorded.hex()}"
            )
        else:
            self.report.bytes_equal += len(tx)
        return reply

    def _logged(self, lane: Lane, fixed: bytes) -> None:
        """A record ends: it must come out equal, sequence numbers and outcomes too."""
        replay = self._lanes[lane.index]
        record = replay.current
        assert record is not None
        if self._queue:
            self._differs(lane, lane.firing, f"{len(self._queue)} recorded exchanges not made")
        if record.kind == FIRING:
            found = record_layout(lane.task).unpack(fixed)[1:]
            if found != record.fixed:
                self._differs(lane, lane.firing, _compare(lane, record.fixed, found))
        replay.at += 1
        # set-up and stop write a record per bus: go on to the next one of the same group
        if record.kind in (SETUP, STOP) and replay.at < len(replay.records):
            following = replay.records[replay.at]
            if following.kind == record.kind and (
                record.kind == SETUP or following.fixed[0] == record.fixed[0]
            ):
                self._load(replay)

    def _differs(self, lane: Lane, firing: int, what: str) -> None:
        self.report.differing += 1
        if len(self.report.differences) < LISTED:
            self.report.differences.append(Difference(lane.name, firing, what))


def _compare(lane: Lane, recorded: tuple[Any, ...], found: tuple[Any, ...]) -> str:
    names = ["firing", "release", "clock", "run"]
    names += [f"sequence of {source}" for source in lane.task.reads]
    names += [f"outcome of {step.name}" for step in lane.task.steps]
    names += [f"state of {bus.role}" for bus in lane.task.buses]
    return ", ".join(
        f"{name}: {b}, recorded: {a}"
        for name, a, b in zip(names, recorded, found, strict=True)
        if a != b
    )


class _Replayed(Exception):
    """Stands for what a recorded node raised."""


class _Diverged(Exception):
    """The replay left the recorded path in mid-firing."""
