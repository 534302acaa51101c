"""Counters that are always on: per edge and per node. Written by one lane, read by anyone."""


class EdgeStats:
    """One edge: sent = received + overwritten + refused + in flight; late and stale are attributes
    of what was received. Ages are in ns, from the oldest capture stamp to the sampling."""

    __slots__ = (
        "absent",
        "count",
        "last",
        "overwritten",
        "received",
        "refused",
        "stale",
        "total_ns",
        "worst_ns",
    )

    def __init__(self) -> None:
        self.received = 0  # distinct messages read for the first time
        self.overwritten = 0  # never read: a newer one took the place
        self.refused = 0  # of a fifo edge: never read, the queue was full
        self.stale = 0  # readings older than fresh()
        self.absent = 0  # readings before the first message
        self.count = 0  # readings with a message
        self.total_ns = 0
        self.worst_ns = 0
        self.last = 0  # sequence number of the last message read

    def as_dict(self) -> dict[str, int]:
        """All counters by name."""
        return {name: getattr(self, name) for name in self.__slots__}


class NodeStats:
    """One node: how its firings ended, execution times and deadline misses."""

    __slots__ = (
        "absent",
        "called",
        "misses",
        "off",
        "overruns",
        "raised",
        "silent",
        "stale",
        "total_ns",
        "unaligned",
        "worst_ns",
    )

    def __init__(self) -> None:
        self.called = 0  # gave an output
        self.silent = 0  # was called and published nothing
        self.stale = 0  # not called: an input was too old
        self.absent = 0  # not called: an input was never there
        self.unaligned = 0  # not called: no message near enough to the trigger's stamp
        self.off = 0  # not called: its mode was not active
        self.raised = 0
        self.misses = 0  # published later than its deadline
        self.overruns = 0  # ran longer than its declared budget
        self.total_ns = 0
        self.worst_ns = 0

    def as_dict(self) -> dict[str, int]:
        """All counters by name."""
        return {name: getattr(self, name) for name in self.__slots__}
