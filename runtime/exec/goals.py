"""Goals at run time: one runner in the goal's lane, one handle for whoever asked.

The runner changes by recorded things only: events at a firing's start (`goal`, `cancel`), the
status that a node of the firing gave, and the firing's clock, by which the time-out is judged. So a
replay goes the same way. What becomes of a goal is told outside as a plain tuple.
"""

import logging
import threading
from collections.abc import Callable
from typing import Any

from haihe.runtime.clock import SECOND
from haihe.runtime.errors import HaiheError
from haihe.runtime.plan.model import GoalPlan
from haihe.runtime.types import GoalStatus, Message, decode

log = logging.getLogger(__name__)

ACCEPTED, RUNNING = "accepted", "running"
SUCCEEDED, FAILED, CANCELLED = "succeeded", "failed", "cancelled"
TIMED_OUT, REFUSED = "timed out", "refused"
ASKED = "asked"  # on its way to the lane
ENDS = (SUCCEEDED, FAILED, CANCELLED, TIMED_OUT, REFUSED)
NOTHING = (0, None, 0, 0)

Told = tuple[Any, ...]  # ("goal", name, number of the request, state, progress, text)


class GoalRunner:
    """The state of one goal in its lane."""

    def __init__(self, plan: GoalPlan, kind: type[Message], tell: Callable[[Told], None]) -> None:
        self.plan, self.kind, self.tell = plan, kind, tell
        self.rivals: list[GoalRunner] = []  # goals of the same group: one at a time
        self.number = 0  # requests that were accepted, as sequence number
        self.request: int = 0  # what whoever asked calls it
        self.state = ""  # "" or one of the above
        self.progress = 0.0
        self._said = (-1.0, "")
        self._data = b""
        self._message: Message | None = None
        self._since = 0  # clock reading of the firing that accepted it

    @property
    def is_active(self) -> bool:
        """Whether it is accepted or running."""
        return self.state in (ACCEPTED, RUNNING)

    # --- events, at the start of a firing -----------------------------------------------------

    def ask(self, request: int, data: bytes) -> None:
        """Accept a request, or refuse it while another one is active."""
        if self.is_active and request == self.request:
            return  # asked again, because nobody knew whether it had come
        busy = next((goal for goal in (self, *self.rivals) if goal.is_active), None)
        if busy is not None:
            why = f"goal {busy.plan.name} is {busy.state}: cancel it first"
            self.tell(("goal", self.plan.name, request, REFUSED, 0.0, why))
            return
        self._data, self._message = data, decode(self.kind, data)
        self.number += 1
        self.request, self.state, self.progress, self._since = request, ACCEPTED, 0.0, 0
        self._said = (-1.0, "")
        self._tell("")

    def cancel(self, request: int, text: str = "") -> None:
        """End the request of that number, if it is the active one."""
        if self.is_active and request == self.request:
            self.end(CANCELLED, text)

    def end(self, state: str, text: str) -> None:
        """End the active request."""
        if self.is_active:
            self.state = state
            self._tell(text)

    # --- from the stepping code ---------------------------------------------------------------

    def sample(self, t: int) -> tuple[int, Any, int, int]:
        """The request that is active at the firing's clock reading, as a sample."""
        if not self.is_active:
            return NOTHING
        if not self._since:
            self._since = t
        if t - self._since > self.plan.timeout_ns:
            self.end(TIMED_OUT, f"after {self.plan.timeout_ns / SECOND:g} s")
            return NOTHING
        return self.number, self._message, self._since, self._since

    def report(self, status: GoalStatus) -> None:
        """What a node of this firing says of it."""
        if not self.is_active:
            return
        self.progress = status.progress
        if status.state in (SUCCEEDED, FAILED):
            self.end(status.state, status.text)
            return
        self.state = RUNNING
        said = (round(status.progress, 2), status.text)
        if said != self._said:  # not at every firing: it may go to another process
            self._said = said
            self._tell(status.text)

    def _tell(self, text: str) -> None:
        self.tell(("goal", self.plan.name, self.request, self.state, self.progress, text))

    def renew(self) -> None:
        """After a restart of its lane: what was active has failed."""
        self.end(FAILED, "its lane was restarted")

    def snapshot(self) -> tuple[Any, ...]:
        """State for a keyframe, plain values."""
        return (self.number, self.request, self.state, self.progress, self._data, self._since)

    def restore(self, state: tuple[Any, ...]) -> None:
        """Restore what `snapshot` gave."""
        self.number, self.request, self.state, self.progress, self._data, self._since = state
        self._message = decode(self.kind, self._data) if self._data else None


class GoalHandle:
    """A request that was made: look at `state`, `progress` and `text`, wait for the `result`.

    state: asked, accepted, running, and then succeeded, failed, cancelled, timed out or refused.
    """

    def __init__(
        self, name: str, request: int, ask: Callable[[], None], cancel: Callable[[], None]
    ) -> None:
        self.name, self.request, self.ask = name, request, ask
        self.state = ASKED
        self.progress = 0.0
        self.text = ""
        self._cancel = cancel
        self._over = threading.Event()

    def __repr__(self) -> str:
        said = f": {self.text}" if self.text else ""
        return f"<goal {self.name}: {self.state}, {self.progress:.0%}{said}>"

    @property
    def is_over(self) -> bool:
        """Whether it has ended, or was refused."""
        return self._over.is_set()

    def cancel(self) -> None:
        """Ask for its end; it ends at the next firing of its lane."""
        self._cancel()

    def result(self, timeout_s: float | None = None) -> str:
        """Wait for the end; give the state. Raises HaiheError when it does not come in time."""
        if not self._over.wait(timeout_s):
            raise HaiheError(
                f"goal {self.name}: {self.state} after {timeout_s:g} s, {self.progress:.0%} done. "
                "Wait longer, or cancel it."
            )
        return self.state

    def update(self, state: str, progress: float, text: str) -> None:
        """What became of it."""
        if self.is_over:
            return
        self.state, self.progress, self.text = state, progress, text
        if state in ENDS:
            self._over.set()
