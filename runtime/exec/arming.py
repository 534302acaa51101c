"""What the guards of a lane are told after a restart, from what was posted to it before."""

from haihe.runtime.record.format import Event


class Arming:
    """Whether a lane is to drive, as far as the launcher knows: it dies with no process.

    In doubt it is not armed: a `reset` of a guard that is not latched counts as a disarm here.
    """

    def __init__(self) -> None:
        self.is_armed = False
        self.reason = ""  # of the trip; empty while it is not latched

    def hear(self, event: Event) -> None:
        """An event that was posted to the lane, whether its process lives or not."""
        kind = event[0]
        if kind == "reset":
            self.is_armed, self.reason = False, ""
        elif self.reason:
            return
        elif kind == "arm":
            self.is_armed = True
        elif kind == "disarm":
            self.is_armed = False
        elif kind == "trip":
            self.is_armed, self.reason = False, event[1]

    def die(self, *, is_latched: bool, rearm: bool) -> None:
        """Its process is dead. is_latched: a guard of it had tripped, maybe by itself."""
        if is_latched:
            self.hear(("trip", "it was tripped before the restart"))
        elif not rearm:
            self.is_armed = False

    def events(self) -> list[Event]:
        """What brings new guards to where the old ones were."""
        if self.reason:
            return [("trip", self.reason)]
        return [("arm",)] if self.is_armed else []
