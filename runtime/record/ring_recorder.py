"""The recorder that keeps the last minute in memory, and writes a file when something happens.

Made for SD cards: nothing is written until `save`. A file that it writes replays like any other: of
every lane it holds a keyframe from before the time that is kept and all that came after it; what a
lane had not read yet from another at its keyframe goes in as a message (channel `haihe/orphan`).
"""

import copy
import logging
import queue
import threading
from collections import deque
from collections.abc import Iterable
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

from haihe.runtime.clock import MILLISECOND, SECOND, now_ns
from haihe.runtime.errors import RecordError
from haihe.runtime.exec.assembly import Assembly
from haihe.runtime.exec.lane import Lane
from haihe.runtime.links.slot import Queue, Recent, Sample, Slot
from haihe.runtime.plan.codegen import record_layout
from haihe.runtime.plan.model import Plan, TaskPlan
from haihe.runtime.record.exchanged import Exchanged
from haihe.runtime.record.format import SETUP, SETUP_LAYOUT, pack_tail, parse_block
from haihe.runtime.record.quota import Quota
from haihe.runtime.record.recorder import Recorder, finish_within, header_json, make_folder
from haihe.runtime.record.sink import Frames, Records

log = logging.getLogger(__name__)

AFTER_NS = 500 * MILLISECOND  # what follows an event is written, too
MARGIN_NS = (
    2 * SECOND
)  # kept before the time asked for: lanes have their keyframes at other moments
BUDGET = 128 << 20  # bytes in memory, half of what the writer of a file takes at once
HELD = 4  # keyframes of a lane whose waiting messages go into a file
ITEM_COST = 256  # of a message besides its data


class Kept(NamedTuple):
    """A message in the ring."""

    sequence: int
    log_ns: int
    publish_ns: int
    data: bytes


class _Cut(NamedTuple):
    """What goes into one file."""

    path: Path
    t_ns: int
    reasons: list[str]
    series: list[tuple[str, list[Kept]]]
    setups: list[tuple[str, Kept]]
    held: list[tuple[str, Sample]]


class RingRecorder(Records):
    """Keeps the last `keep_ns` of a run in memory, in at most `budget_bytes`.

    `save` writes them to PATH-1.mcap, PATH-2.mcap ... from a thread of its own. lost: messages for
    which memory or disk had no room. saved: the files written so far.
    """

    def __init__(
        self,
        path: str | Path,
        header: dict[str, Any],
        frames: Frames = "jpeg",
        *,
        keep_ns: int,
        plan: Plan,
        start_ns: int | None = None,
        budget_bytes: int = BUDGET,
        quota: Quota | None = None,
    ) -> None:
        """start_ns: the beginning in the run's clock, where that is virtual. Raises RecordError."""
        super().__init__(frames)
        self.path, self.keep_ns, self.saved = Path(path), keep_ns, list[Path]()
        header_json(self.path, header)  # it must not fail when the event has come
        make_folder(self.path)
        self._header, self._quota, self._budget = header, quota, budget_bytes
        self._is_virtual = start_ns is not None
        self._now = self._start = now_ns() if start_ns is None else start_ns
        self._edge = 0  # what is older had to go for want of memory
        self._series: dict[str, deque[Kept]] = {}
        self._bytes = 0
        self._lost = 0
        self._tasks = {lane.name: lane.task for lane in plan.lanes}
        self._readers = _readers_of_streams(plan)
        self._setups: list[tuple[str, Kept]] = []
        self._has_fired: set[str] = set()
        self._lanes: dict[str, Lane] = {}
        self._links: dict[str, list[tuple[str, Slot]]] = {}
        self._held: dict[str, dict[int, list[tuple[str, Sample]]]] = {}
        self._foreign: set[str] = set()  # sources made in other processes
        self._exchanged: Exchanged | None = None
        self._pace: dict[str, tuple[int, int]] = {}
        self._pending: tuple[int, int, Path, list[str]] | None = None  # due, asked for at
        self._taken_ns = 0
        self._asked_ns = 0
        self._problem: RecordError | None = None
        self._lock = threading.Lock()
        self._cuts: queue.Queue[_Cut | None] = queue.Queue()
        self._numbers = count(1)
        self._writer = threading.Thread(target=self._write_loop, name="haihe-ring", daemon=True)
        self._writer.start()

    def watch(self, assembly: Assembly) -> None:
        """Know the lanes of this process: what waits between them is kept with their keyframes,
        and triggered ones take a keyframe a second, however fast they come."""
        made = {source for lane in assembly.lanes for source in lane.task.makes}
        known = {source for task in self._tasks.values() for source in task.makes}
        for lane in assembly.lanes:
            self._lanes[lane.name] = lane
            self._links[lane.name] = [
                (source, assembly.readers[lane.index, source])
                for source in lane.task.reads
                if source not in self._readers
            ]
            self._foreign |= {s for s in lane.task.reads if s not in made and s in known}
        self._exchanged = Exchanged(assembly)

    # --- keeping ------------------------------------------------------------------------------

    def append(self, topic: str, sequence: int, log_ns: int, publish_ns: int, data: bytes) -> None:
        """One message; safe from any thread."""
        kind, _, name = topic.removeprefix("haihe/").partition("/")
        kept = Kept(sequence, log_ns, publish_ns, data)
        with self._lock:
            self._now = max(self._now, log_ns)
            if kind == "lane":
                kept = self._note_block(name, kept)
            self._series.setdefault(topic, deque()).append(kept)
            self._bytes += len(kept.data) + ITEM_COST
            if kind == "keyframe":
                waiting = [
                    (source, self._own(source, sample))
                    for source, link in self._links.get(name, [])
                    for sample in _in(link)
                ]
                self._held.setdefault(name, {})[sequence] = waiting
                self._prune()
            if self.size > self._budget:
                self._shrink()
            if self._pending is not None and self._now >= self._pending[0]:
                self._cut()

    def _note_block(self, name: str, block: Kept) -> Kept:
        """Set-ups are kept apart, for good; the time between keyframes is kept at a second."""
        if name not in self._has_fired:
            size = _setup_size(block.data, self._tasks[name])
            if size:
                setup = block._replace(sequence=0, data=block.data[:size])
                self._setups.append((f"haihe/lane/{name}", setup))
            if block.sequence:
                self._has_fired.add(name)
            block = block._replace(data=block.data[size:])
        lane = self._lanes.get(name)
        if lane is None or lane.task.every_ns or lane.keyframe_every > 1 << 60:
            return block
        t, firing = self._pace.setdefault(name, (block.log_ns, block.sequence))
        if block.log_ns - t >= SECOND:
            fired = block.sequence - firing
            lane.keyframe_every = max(1, fired * SECOND // (block.log_ns - t))
            self._pace[name] = block.log_ns, block.sequence
        return block

    def _own(self, source: str, sample: Sample) -> Sample:
        """To be kept for a minute: arrays of another process are in memory that it uses again."""
        return copy.deepcopy(sample) if source in self._foreign else sample

    def _prune(self) -> None:
        """Let go what no file will need: per lane, what comes before the last keyframe that is
        old enough; of streams, what no lane reads from there on."""
        edge = max(self._now - self.keep_ns - MARGIN_NS, self._edge)
        since: dict[str, int] = {}
        for name, task in self._tasks.items():
            frames = self._series.get(f"haihe/keyframe/{name}", deque())
            while len(frames) > 1 and frames[1].log_ns <= edge:
                self._held.get(name, {}).pop(frames[0].sequence, None)
                self._drop(frames)
            blocks = self._series.get(f"haihe/lane/{name}", deque())
            first = frames[0] if frames and frames[0].log_ns <= edge else None
            if first is not None:
                while blocks and blocks[0].sequence < first.sequence:
                    self._drop(blocks)
                for step in task.steps:
                    for port in step.outputs if step.recorded else ():
                        source = step.source(port)
                        self._drop_before(f"haihe/output/{source}", first.log_ns)
            has_fired_since = bool(blocks) and blocks[-1].sequence > (
                first.sequence if first else 0
            )
            since[name] = (first.log_ns if first else 0) if has_fired_since else edge
        for topic, items in self._series.items():
            kind, _, source = topic.removeprefix("haihe/").partition("/")
            if kind == "stream":
                lanes, margin = self._readers.get(source, ([], 1))
                cutoff = min([since[lane] for lane in lanes], default=edge)
                while len(items) > margin and items[margin].log_ns <= cutoff:
                    self._drop(items)
            elif kind in ("note", "orphan"):
                self._drop_before(topic, edge)
        if self._exchanged is not None and self._exchanged.lanes:
            self._exchanged.drop_before(min(self._keyframes(self._exchanged.lanes, 0)))

    def _keyframes(self, lanes: Iterable[str], number: int) -> list[int]:
        """When these lanes took their keyframe of that number, counted from the oldest that is
        kept; the newest where there are not that many, 0 for none."""
        frames = [self._series.get(f"haihe/keyframe/{name}") for name in lanes]
        return [one[min(number, len(one) - 1)].log_ns if one else 0 for one in frames]

    def _drop(self, items: deque[Kept]) -> None:
        self._bytes -= len(items.popleft().data) + ITEM_COST

    def _drop_before(self, topic: str, t_ns: int) -> None:
        items = self._series.get(topic, deque())
        while items and items[0].log_ns < t_ns:
            self._drop(items)

    def _shrink(self) -> None:
        """Keep a shorter time, so that it fits; what cannot be replayed anyway goes last."""
        if not self._edge:
            log.warning(
                "recording %s: %.0f s do not fit into %d bytes of memory: less is kept. Use "
                "smaller pictures (--frames jpeg or none), or a shorter time.",
                self.path, self.keep_ns * 1e-9, self._budget,
            )  # fmt: skip
        self._edge = max(self._edge, self._now - self.keep_ns)
        while self.size > self._budget and self._edge < self._now:
            self._edge = min(self._now, self._edge + max(1, self.keep_ns // 16))
            self._prune()
        while self._bytes > self._budget:
            largest = max(self._series.values(), key=lambda items: sum(len(i.data) for i in items))
            for _ in range(max(1, len(largest) // 8)):
                self._drop(largest)
                self._lost += 1

    @property
    def lost(self) -> int:
        """Messages for which memory or disk had no room."""
        return self._lost

    @property
    def size(self) -> int:
        """Bytes in memory."""
        exchanged = self._exchanged.bytes if self._exchanged is not None else 0
        return self._bytes + exchanged

    # --- saving -------------------------------------------------------------------------------

    def save(self, reason: str, *, repeat: bool = True) -> Path:
        """Write what is kept, half a second from now; give the name of the file to come.

        repeat: at once after another file, too. Otherwise (for events that may come in a row) not
        before the time that is kept has passed since: then no two files hold the same.
        """
        with self._lock:
            if self._pending is None:
                due = self._now + AFTER_NS
                if not repeat and self._taken_ns:
                    due = max(due, self._taken_ns + self.keep_ns)
                self._pending = due, self._now, self._next_path(), [reason]
                self._asked_ns = now_ns()
            else:
                due, asked, path, reasons = self._pending
                if repeat:
                    due = min(due, self._now + AFTER_NS)
                self._pending = due, asked, path, [*reasons, reason]
            return self._pending[2]

    def _next_path(self) -> Path:
        stem = self.path.name.removesuffix(".mcap")
        paths = (self.path.with_name(f"{stem}-{number}.mcap") for number in self._numbers)
        return next(path for path in paths if not path.exists())

    def _cut(self) -> None:
        """Take what is kept as it is now: references only, it is written elsewhere."""
        assert self._pending is not None
        _, asked, path, reasons = self._pending
        self._pending = None
        self._taken_ns = self._now
        series = [(topic, list(items)) for topic, items in self._series.items()]
        firsts = [list(frames.values())[:HELD] for frames in self._held.values()]
        held = [pair for frames in firsts for pairs in frames for pair in pairs]
        if self._exchanged is not None and self._exchanged.lanes:
            held += self._exchanged.until(max(self._keyframes(self._exchanged.lanes, HELD)))
        self._cuts.put(_Cut(path, asked, reasons, series, list(self._setups), held))

    def _write_loop(self) -> None:
        while True:
            try:
                cut = self._cuts.get(timeout=0.2)
            except queue.Empty:
                self._cut_overdue()
                continue
            if cut is None:
                return
            try:
                self._write(cut)
            except RecordError as exc:
                log.error("%s", exc)
                self._problem = self._problem or exc

    def _cut_overdue(self) -> None:
        """When no lane records any more, nothing says that the time has come."""
        with self._lock:
            if self._pending is None or self._is_virtual:
                return
            due, asked, _, _ = self._pending
            if now_ns() - self._asked_ns > due - asked + SECOND:
                self._cut()

    def _write(self, cut: _Cut) -> None:
        ring = {"keep_s": self.keep_ns / SECOND, "t_ns": cut.t_ns, "reasons": cut.reasons}
        header = self._header | {"ring": ring}
        recorder = Recorder(cut.path, header, self._frames, self._start, self._quota)
        known: set[tuple[str, int]] = set()
        try:
            recorder.note("event", ring, cut.t_ns)
            for source, sample in cut.held:
                if (source, sample[0]) not in known:
                    known.add((source, sample[0]))
                    recorder.orphan(source, sample)
            records = cut.setups + [(topic, one) for topic, items in cut.series for one in items]
            records.sort(key=lambda record: record[1].log_ns)
            for topic, kept in records:
                recorder.append(topic, *kept)
        finally:
            recorder.close(finish=False)
        self._lost += recorder.lost
        self.saved.append(cut.path)
        log.warning("recording %s: %s", cut.path, "; ".join(cut.reasons))

    def close(self, *, finish: bool = True) -> None:
        """Write what was asked for and forget the rest; rewrite the files chunked and indexed.
        Raises the first RecordError of a file that could not be written."""
        if self._writer.is_alive():
            with self._lock:
                if self._pending is not None:
                    self._cut()
            self._cuts.put(None)
            self._writer.join()
            for path in self.saved if finish else []:
                finish_within(path, self._quota)
        if self._problem is not None:
            raise self._problem


def _readers_of_streams(plan: Plan) -> dict[str, tuple[list[str], int]]:
    """By source of a stream device: the lanes that read it, and how many of its messages may wait
    there or be chosen among."""
    found: dict[str, tuple[list[str], int]] = {}
    for lane in plan.lanes:
        keeps = [plan.edges[n].keep for step in lane.task.steps for _, n in step.inputs]
        for source in lane.task.reads:
            if source.split(".")[0] in plan.streams:
                lanes, margin = found.setdefault(source, ([], 1))
                lanes.append(lane.name)
                found[source] = lanes, max(margin, lane.task.fifo + 1, *keeps)
    return found


def _in(link: Slot) -> Iterable[Sample]:
    """What the reader of a link may still take."""
    if isinstance(link, Recent):
        return link.items
    if isinstance(link, Queue):
        return tuple(link.items)
    return () if link.value is None else (link.value,)


def _setup_size(data: bytes, task: TaskPlan) -> int:
    """How many bytes the set-ups take that a block begins with."""
    size = 0
    for record in parse_block(data, record_layout(task)):
        if record.kind != SETUP:
            break
        size += SETUP_LAYOUT.size + len(pack_tail(record.events, record.exchanges))
    return size
