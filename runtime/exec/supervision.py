"""Supervision of a process as pure state machines: no clock, no processes, integers in ns.

The real supervisor and the virtual executor feed them with what they see and do what they say, so
that the rules are tested once. A process starts, gets ready, runs; when it dies it is started
again after a back-off, or given up. `HangWatch` judges progress by counters.
"""

import enum
import signal
from collections.abc import Mapping
from dataclasses import dataclass

from haihe.runtime.clock import MILLISECOND, SECOND
from haihe.runtime.errors import PlanError
from haihe.runtime.units import format_ns


class State(enum.StrEnum):
    """Where a supervised process is in its life."""

    WAITING = "waiting"  # not started yet
    STARTING = "starting"  # it opens models and devices
    READY = "ready"  # it waits for the others
    RUNNING = "running"
    BACKING_OFF = "backing off"  # dead, a restart is due
    GIVEN_UP = "given up"
    ENDED = "ended"  # stopped on purpose: its death is no news


@dataclass(frozen=True)
class RestartPolicy:
    """When a process is started again, and how long it may take for what it does.

    limit: restarts within `window_ns`; one more death gives it up (0: never restarted).
    backoff_ns: from a death to the restart, doubled by each death up to `backoff_limit_ns`; it
    begins anew after a run of `window_ns`. start_ns: from a start until it is ready. hang_ns:
    without progress while work waits (0: not watched). rearm: its guards arm again by themselves.
    """

    limit: int = 3
    window_ns: int = 60 * SECOND
    backoff_ns: int = 200 * MILLISECOND
    backoff_limit_ns: int = 5 * SECOND
    start_ns: int = 30 * SECOND
    hang_ns: int = 2 * SECOND
    rearm: bool = False

    def __post_init__(self) -> None:
        for name, least in (
            ("limit", 0), ("window_ns", 1), ("backoff_ns", 0), ("start_ns", 1), ("hang_ns", 0),
            ("backoff_limit_ns", self.backoff_ns),
        ):  # fmt: skip
            value = getattr(self, name)
            if value < least:
                raise PlanError(
                    f"restart policy: {name} is {value}, expected {least} or more. Correct "
                    "`processes:` of the unit profile."
                )


@dataclass(frozen=True)
class Decision:
    """What follows from a death: a restart at a time, or none.

    cause: why it died. error: of a process that is given up, the whole message; every guard then
    trips and the run ends with it.
    """

    restart_at_ns: int | None
    cause: str
    error: str = ""

    @property
    def gives_up(self) -> bool:
        """Whether the run must end."""
        return bool(self.error)


def exit_cause(code: int) -> str:
    """For people, of an exit code as `subprocess` gives it: negative is a signal."""
    if code >= 0:
        return f"it ended with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"it was killed by {name}"


class Supervision:
    """The life of one process: feed it with events in the order of time."""

    def __init__(self, process: str, policy: RestartPolicy) -> None:
        self.process, self.policy = process, policy
        self.state = State.WAITING
        self.causes: list[str] = []  # of every death, oldest first
        self.restarts: list[int] = []  # when, ns
        self.since_ns = 0  # of its state
        self._gap_ns = policy.backoff_ns
        self._ran_since_ns: int | None = None

    def on_start(self, t: int) -> None:
        """It has been started, for the first time or again."""
        if self.state is State.BACKING_OFF:
            self.restarts.append(t)
        self._enter(State.STARTING, t)

    def on_ready(self, t: int) -> None:
        """Everything of it is open; it waits to run."""
        self._enter(State.READY, t)

    def on_running(self, t: int) -> None:
        """Its lanes have been let go."""
        self._ran_since_ns = t
        self._enter(State.RUNNING, t)

    def on_stop(self, t: int) -> None:
        """It is being stopped on purpose, or the run ends: nothing is restarted any more."""
        if self.state is not State.GIVEN_UP:
            self._enter(State.ENDED, t)

    def on_death(self, t: int, cause: str) -> Decision:
        """It is dead (`exit_cause`, or why it was killed)."""
        if self.state in (State.ENDED, State.GIVEN_UP, State.BACKING_OFF):
            return Decision(None, cause)
        self.causes.append(cause)
        policy = self.policy
        if self._ran_since_ns is not None and t - self._ran_since_ns >= policy.window_ns:
            self._gap_ns = policy.backoff_ns
        self._ran_since_ns = None
        restart = t + self._gap_ns
        recent = [at for at in self.restarts if at > restart - policy.window_ns]
        if len(recent) >= policy.limit:
            self._enter(State.GIVEN_UP, t)
            return Decision(None, cause, self._error(cause, len(recent)))
        self._gap_ns = min(2 * self._gap_ns, policy.backoff_limit_ns)
        self._enter(State.BACKING_OFF, t)
        return Decision(restart, cause)

    def overdue(self, t: int) -> str:
        """Why it must be killed because its start takes too long; "" while it may go on."""
        if self.state is State.STARTING and t - self.since_ns > self.policy.start_ns:
            return f"it was not ready within {format_ns(self.policy.start_ns)} of its start"
        return ""

    def _enter(self, state: State, t: int) -> None:
        self.state, self.since_ns = state, t

    def _error(self, cause: str, recent: int) -> str:
        policy = self.policy
        used = "it is not to be restarted"
        if policy.limit:
            window = format_ns(policy.window_ns)
            times = "restart" if recent == 1 else "restarts"
            used = f"{recent} {times} within {window} are used up"
            earlier = self.causes[-recent - 1 : -1]
            used += f" (before: {', '.join(earlier)})"
        return (
            f"process {self.process}: {cause}; {used}. The actuators were made safe; mend the "
            f"cause, or allow more: `restart` of {self.process} under `processes:` in the unit "
            "profile."
        )


LOOKS = 4  # at least so many looks find no progress before something hangs


@dataclass
class _Seen:
    progress: int
    silent_ns: int = 0


class HangWatch:
    """Finds the lane that makes no progress while work waits.

    A look counts for a part of the limit at most: a supervisor that was stopped or slept itself
    takes nobody for hung at its first look. So it finds a hang within the limit and one interval
    between its looks, when it looks `LOOKS` times within the limit or more often.
    """

    def __init__(self, hang_ns: int) -> None:
        self.hang_ns = hang_ns
        self._lanes: dict[str, _Seen] = {}
        self._looked_ns: int | None = None

    def look(self, t: int, lanes: Mapping[str, tuple[int, bool]]) -> str:
        """Why the process must be killed at `t`, "" while it need not.

        lanes: by name, a number that changes with each firing that begins or ends, and whether
        work waits: while a firing is under way, a message waits, or a release is due; always for
        a periodic lane that `is_always_at_work`. A lane that is held back by a full queue has
        none. The name "" is that of the process itself: a number that its main thread changes,
        lest a stopped process without messages passes for an idle one.
        """
        passed = 0 if self._looked_ns is None else t - self._looked_ns
        self._looked_ns = t
        hung = ""
        for name, (progress, has_work) in lanes.items():
            seen = self._lanes.get(name)
            if seen is None or seen.progress != progress or not has_work:
                self._lanes[name] = _Seen(progress)
                continue
            seen.silent_ns += min(passed, -(-self.hang_ns // LOOKS))
            if self.hang_ns and seen.silent_ns >= self.hang_ns and not hung:
                hung = self._cause(name)
        return hung

    def is_always_at_work(self, every_ns: int) -> bool:
        """Whether a lane of that period (0: none) would show progress within the limit."""
        return 0 < 2 * every_ns <= self.hang_ns

    def _cause(self, lane: str) -> str:
        limit = format_ns(self.hang_ns)
        if not lane:
            return f"it gave no sign of life for {limit}"
        return f"its lane {lane} made no progress for {limit} while work waited"

    def reset(self) -> None:
        """Forget what was seen: the process starts anew."""
        self._lanes.clear()
        self._looked_ns = None
