"""Any order of puts, receives, endings and deaths against a model of the credits.

The model knows numbers only: what each reader has under way, waiting and in use. What arrives is
judged by the pixels.
"""

import gc
from dataclasses import dataclass, field

import hypothesis.strategies as st
import numpy as np
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.runtime.links.ends import SHAPE, Ends, channel, descriptors, image, numbers, sample

from haihe.runtime.links.channel import Reader, slots_needed
from haihe.runtime.links.inlet import Inlet
from haihe.runtime.links.slot import Sample
from haihe.runtime.types import Image

KINDS = [(2, False), (3, False), (1, True), (3, True)]  # (quota, fifo)
SMALL = (5, 5, 3)  # travels in the socket


@dataclass
class Model:
    """A reader, as it should be."""

    reader: Reader
    inlet: Inlet
    sent: int = 0
    dropped: int = 0
    puts: int = 0
    is_open: bool = True
    under_way: list[int] = field(default_factory=list)
    queued: list[Sample] = field(default_factory=list)  # fifo: in the local queue
    kept: list[Sample] = field(default_factory=list)
    last: int = 0  # number of the last received, which the inlet keeps
    pending: int = 0

    def in_use(self, large: set[int]) -> set[int]:
        """Large messages whose arrays live at the reader."""
        held = {one[0] for one in (*self.queued, *self.kept)} | {self.last}
        return held & large

    def may_get(self, large: set[int]) -> bool:
        """Whether the next message can be sent."""
        slots = len(large & set(self.under_way)) + len(self.in_use(large))
        if self.reader.fifo:
            waiting = len(self.under_way) + len(self.queued)
            return waiting < self.reader.quota and slots <= self.reader.quota
        return len(self.under_way) + len(self.in_use(large)) < self.reader.quota


class Channel(RuleBasedStateMachine):
    """One outlet with changing readers."""

    def __init__(self) -> None:
        super().__init__()
        gc.collect()
        self.before = descriptors()
        self.manager = channel(slots=slots_needed(KINDS * 2))
        self.ends: Ends = self.manager.__enter__()
        self.models: list[Model] = []
        self.number = 0
        self.large: set[int] = set()

    def open_models(self) -> list[Model]:
        return [model for model in self.models if model.is_open]

    @precondition(lambda self: len(self.open_models()) < 5)
    @rule(kind=st.sampled_from(KINDS))
    def add(self, kind: tuple[int, bool]) -> None:
        reader, inlet = self.ends.add(kind[0], fifo=kind[1])
        self.models.append(Model(reader, inlet))

    @rule(how=st.sampled_from(["copy", "in place", "small"]))
    def put(self, how: str) -> None:
        self.number += 1
        number = self.number
        message = image(number, SMALL if how == "small" else SHAPE)
        if how == "in place":
            loan = self.ends.outlet.allocate(SHAPE, np.uint8)
            assert loan is not None  # the sizes of the ring are enough, whatever happens
            loan[:] = message.data
            message = Image(loan)
            del loan
        if how != "small":
            self.large.add(number)
        for model in self.open_models():
            model.puts += 1
            if model.pending:
                model.pending, model.dropped = 0, model.dropped + 1
            if model.may_get(self.large):
                model.under_way.append(number)
                model.sent += 1
            elif model.reader.fifo:
                model.dropped += 1
            else:
                model.pending = number
        self.ends.outlet.put(sample(number, message))

    @rule(data=st.data())
    def receive(self, data: st.DataObject) -> None:
        models = self.open_models()
        if not models:
            return
        model = data.draw(st.sampled_from(models))
        got = model.inlet.receive()
        assert numbers(got) == model.under_way
        model.under_way = []
        if got:
            model.last = got[-1][0]
        if model.reader.fifo:
            model.queued += got
        else:
            model.kept += got

    @rule(data=st.data())
    def take_from_the_queue(self, data: st.DataObject) -> None:
        models = [model for model in self.open_models() if model.queued]
        if models:
            model = data.draw(st.sampled_from(models))
            model.kept.append(model.queued.pop(0))
            model.inlet.done()

    @rule(data=st.data(), amount=st.integers(1, 3))
    def end_arrays(self, data: st.DataObject, amount: int) -> None:
        models = [model for model in self.models if model.kept]
        if models:
            model = data.draw(st.sampled_from(models))
            numbers(model.kept)  # still what they were
            for _ in range(min(amount, len(model.kept))):
                model.kept.pop(data.draw(st.integers(0, len(model.kept) - 1)))

    @rule()
    def take_credits(self) -> None:
        self.ends.outlet.take_credits()
        for model in self.open_models():
            if model.pending and model.may_get(self.large):
                model.under_way.append(model.pending)
                model.sent, model.pending = model.sent + 1, 0

    @rule(data=st.data(), dies=st.booleans())
    def leave(self, data: st.DataObject, dies: bool) -> None:
        models = self.open_models()
        if not models:
            return
        model = data.draw(st.sampled_from(models))
        model.is_open = False
        model.kept += model.queued
        model.queued, model.pending = [], 0
        if dies:  # its memory ends with the process: nothing of it is looked at any more
            model.kept.clear()
            model.inlet.close()
            self.ends.outlet.take_credits()
            self.take_credits()
        else:
            self.ends.outlet.remove(model.reader)
            for one in model.kept:
                one[1].data.sum()  # may be written over, and must be there
            model.kept.clear()

    @invariant()
    def counters_agree(self) -> None:
        for model in self.models:
            if model.is_open:
                reader = model.reader
                pending = reader.pending[0] if reader.pending is not None else 0
                found = (reader.sent, reader.dropped, pending, reader.refused)
                assert found == (model.sent, model.dropped, model.pending, 0)
                assert model.puts == reader.sent + reader.dropped + bool(pending)
                assert model.inlet.torn == 0
        is_full = any(m.reader.fifo and not m.may_get(self.large) for m in self.open_models())
        assert self.ends.outlet.has_room() == (not is_full)

    @invariant()
    def no_slot_is_lost(self) -> None:
        ring = self.ends.ring
        assert ring is not None
        held = set().union(*(model.reader.held for model in self.open_models()))
        pending = any(m.reader.pending is not None for m in self.open_models())
        assert 0 <= ring.slots - ring.free() - len(held) <= pending  # the newest, if it waits

    def teardown(self) -> None:
        ring = self.ends.ring
        assert ring is not None
        for model in self.open_models():
            self.ends.outlet.remove(model.reader)
        assert ring.free() == ring.slots
        del ring
        self.manager.__exit__(None, None, None)
        for model in self.models:  # hypothesis remembers what it drew
            model.kept.clear()
            model.queued.clear()
        del self.ends, self.manager
        assert descriptors() == self.before


Channel.TestCase.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, derandomize=True
)
TestChannel = Channel.TestCase
