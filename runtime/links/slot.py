"""The default edge between lanes: one place, latest wins.

The place is one reference to a sample, so a message and its number cannot tear. A sample is
(sequence, message, origin, fired): the number from 1, the message, the oldest capture stamp in its
lineage, and the clock reading of the firing that made it, both in ns.
"""

from collections.abc import Callable
from typing import Any

Sample = tuple[int, Any, int, int]


class Slot:
    """One place for the newest sample of a source; `wake` is called after each one, if given."""

    __slots__ = ("sent", "value", "wake")

    def __init__(self) -> None:
        self.value: Sample | None = None
        self.sent = 0
        self.wake: Callable[[], None] | None = None

    def put(self, sample: Sample) -> None:
        """Publish; never waits."""
        self.value = sample
        self.sent += 1
        if self.wake is not None:
            self.wake()
