"""Restart policy and hang detection as pure state machines, with any history of deaths."""

import subprocess
import sys
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haihe.runtime.errors import PlanError
from haihe.runtime.exec.supervision import (
    LOOKS,
    HangWatch,
    RestartPolicy,
    State,
    Supervision,
    exit_cause,
)

MS, S = 1_000_000, 1_000_000_000

policies = st.builds(
    lambda limit, window, backoff, more: RestartPolicy(
        limit, window * MS, backoff * MS, (backoff + more) * MS
    ),
    st.integers(0, 5),
    st.integers(1, 20_000),
    st.integers(0, 1_000),
    st.integers(0, 5_000),
)
# of each life: how long to get ready, how long to run (None: it dies before), how late a restart is
lives = st.lists(
    st.tuples(st.integers(0, 300), st.none() | st.integers(0, 30_000), st.integers(0, 100)),
    min_size=1,
    max_size=40,
)


def live(
    policy: RestartPolicy, history: list[tuple[int, int | None, int]]
) -> tuple[Supervision, list[int], list[bool]]:
    """Live through a history: the gaps from each death to its restart, and which lives ran long
    enough for the back-off to begin anew."""
    supervision = Supervision("vision", policy)
    t, gaps, long = 0, [], []
    for number, (opening, running, late) in enumerate(history):
        supervision.on_start(t)
        t += opening * MS
        if running is not None:
            supervision.on_ready(t)
            supervision.on_running(t)
            t += running * MS
        decision = supervision.on_death(t, f"death {number}")
        assert decision.cause == f"death {number}"
        assert decision.gives_up == (decision.restart_at_ns is None)  # one of the two, always
        if decision.restart_at_ns is None:
            assert supervision.state is State.GIVEN_UP
            assert decision.error.startswith(f"process vision: death {number}; ")
            break
        assert supervision.state is State.BACKING_OFF
        gaps.append(decision.restart_at_ns - t)
        long.append(running is not None and running * MS >= policy.window_ns)
        t = decision.restart_at_ns + late * MS
    return supervision, gaps, long


@given(policies, lives)
def test_no_window_holds_more_restarts_than_the_limit(
    policy: RestartPolicy, history: list[tuple[int, int | None, int]]
) -> None:
    supervision, _, _ = live(policy, history)
    for end in supervision.restarts:
        inside = [at for at in supervision.restarts if end - policy.window_ns < at <= end]
        assert len(inside) <= policy.limit


@given(policies, lives)
def test_the_back_off_doubles_up_to_its_limit_and_begins_anew_after_a_long_run(
    policy: RestartPolicy, history: list[tuple[int, int | None, int]]
) -> None:
    _, gaps, long = live(policy, history)
    if gaps:
        assert gaps[0] == policy.backoff_ns
    for (before, after), is_long in zip(pairwise(gaps), long[1:], strict=True):
        expected = policy.backoff_ns if is_long else min(2 * before, policy.backoff_limit_ns)
        assert after == expected


@given(policies, lives)
def test_it_gives_up_only_when_the_window_is_full(
    policy: RestartPolicy, history: list[tuple[int, int | None, int]]
) -> None:
    supervision, gaps, _ = live(policy, history)
    assert len(supervision.causes) == len(supervision.restarts) + (
        supervision.state is State.GIVEN_UP or len(gaps) > len(supervision.restarts)
    )
    if supervision.state is State.GIVEN_UP and policy.limit:
        newest = supervision.restarts[-policy.limit :]
        assert len(newest) == policy.limit
        reach = policy.window_ns + policy.backoff_limit_ns  # the next restart's window
        assert supervision.since_ns - newest[0] < reach


def test_a_process_that_keeps_dying_is_given_up_with_its_whole_story() -> None:
    policy = RestartPolicy(limit=2, window_ns=60 * S, backoff_ns=200 * MS)
    supervision = Supervision("vision", policy)
    supervision.on_start(0)
    supervision.on_ready(300 * MS)
    supervision.on_running(400 * MS)
    assert supervision.state is State.RUNNING
    first = supervision.on_death(1000 * MS, exit_cause(-9))
    assert first.restart_at_ns == 1200 * MS
    supervision.on_start(1200 * MS)
    second = supervision.on_death(1300 * MS, exit_cause(3))  # while it starts
    assert second.restart_at_ns == 1700 * MS
    supervision.on_start(1700 * MS)
    last = supervision.on_death(1800 * MS, exit_cause(-11))
    assert (last.restart_at_ns, last.gives_up) == (None, True)
    assert last.error == (
        "process vision: it was killed by SIGSEGV; 2 restarts within 60 s are used up (before: it "
        "was killed by SIGKILL, it ended with exit code 3). The actuators were made safe; mend the "
        "cause, or allow more: `restart` of vision under `processes:` in the unit profile."
    )
    assert supervision.on_death(1900 * MS, "again").restart_at_ns is None
    assert supervision.causes == [exit_cause(-9), exit_cause(3), exit_cause(-11)]


def test_a_process_without_restarts_is_given_up_at_once() -> None:
    supervision = Supervision("arm", RestartPolicy(limit=0))
    supervision.on_start(0)
    decision = supervision.on_death(5 * MS, exit_cause(1))
    assert decision.error == (
        "process arm: it ended with exit code 1; it is not to be restarted. The actuators were "
        "made safe; mend the cause, or allow more: `restart` of arm under `processes:` in the unit "
        "profile."
    )


def test_a_restart_long_ago_does_not_count() -> None:
    supervision = Supervision("vision", RestartPolicy(limit=1, window_ns=10 * S))
    t = 0
    for _ in range(5):
        supervision.on_start(t)
        supervision.on_running(t)
        decision = supervision.on_death(t + 11 * S, "it was killed by SIGKILL")
        assert decision.restart_at_ns == t + 11 * S + 200 * MS  # never doubled: it ran long
        t = decision.restart_at_ns


def test_a_process_that_is_stopped_is_not_started_again() -> None:
    supervision = Supervision("vision", RestartPolicy())
    supervision.on_start(0)
    supervision.on_running(1)
    supervision.on_stop(2)
    decision = supervision.on_death(3, exit_cause(0))
    assert (decision.restart_at_ns, decision.gives_up, supervision.causes) == (None, False, [])


def test_a_start_has_a_deadline_and_a_run_has_none() -> None:
    supervision = Supervision("vision", RestartPolicy(start_ns=30 * S))
    supervision.on_start(5 * S)
    assert supervision.overdue(35 * S) == ""
    assert supervision.overdue(35 * S + 1) == "it was not ready within 30 s of its start"
    supervision.on_ready(35 * S)
    assert supervision.overdue(99 * S) == ""
    supervision.on_running(36 * S)
    assert supervision.overdue(99 * S) == ""


def test_exit_causes_are_those_of_real_processes() -> None:
    codes = [
        subprocess.run([sys.executable, "-I", "-S", "-c", code], check=False).returncode
        for code in ("import os; os.kill(os.getpid(), 9)", "raise SystemExit(7)")
    ]
    assert [exit_cause(code) for code in codes] == [
        "it was killed by SIGKILL",
        "it ended with exit code 7",
    ]
    assert exit_cause(-120) == "it was killed by signal 120"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"limit": -1}, "limit is -1, expected 0 or more"),
        ({"window_ns": 0}, "window_ns is 0, expected 1 or more"),
        ({"backoff_limit_ns": 5}, "backoff_limit_ns is 5, expected 200000000 or more"),
    ],
)
def test_a_policy_that_contradicts_itself_is_refused(given: dict[str, int], said: str) -> None:
    with pytest.raises(PlanError) as caught:
        RestartPolicy(**given)  # type: ignore[arg-type]
    assert str(caught.value) == (
        f"restart policy: {said}. Correct `processes:` of the unit profile."
    )


# --- hangs ----------------------------------------------------------------------------------------

looks = st.lists(
    st.tuples(st.integers(1, 3000), st.booleans(), st.booleans()), min_size=1, max_size=60
)  # ms since the last look, whether the lane progressed, whether work waits


@given(st.integers(1, 2000), looks)
def test_a_hang_is_a_time_without_progress_while_work_waits(
    hang: int, history: list[tuple[int, bool, bool]]
) -> None:
    watch = HangWatch(hang * MS)
    t = progress = 0
    quiet_since, quiet_looks = None, 0
    for passed, moves, has_work in history:
        t += passed * MS
        progress += moves
        found = watch.look(t, {"front": (progress, has_work)})
        if moves or not has_work or quiet_since is None:
            quiet_since, quiet_looks = t, 0
            assert found == ""
            continue
        quiet_looks += 1
        if found:  # nothing moved for the limit, and it was looked at often enough
            assert t - quiet_since >= hang * MS
            assert quiet_looks >= LOOKS
        elif quiet_looks >= LOOKS and passed <= hang // LOOKS:
            assert t - quiet_since < 2 * hang * MS or any(p > hang // LOOKS for p, *_ in history)


def test_a_hang_is_found_within_the_limit_and_one_look() -> None:
    watch = HangWatch(2000 * MS)
    found = next(
        t for t in range(0, 10_000, 400) if watch.look(t * MS, {"a": (1, True), "b": (t, True)})
    )
    assert found == 2000


def test_a_hang_says_what_made_no_progress() -> None:
    watch = HangWatch(100 * MS)
    said = [watch.look(t * MS, {"": (t, True), "a": (1, True)}) for t in range(0, 200, 25)]
    assert said[:4] == [""] * 4
    assert said[4] == "its lane a made no progress for 100 ms while work waited"
    stopped = HangWatch(100 * MS)
    said = [stopped.look(t * MS, {"": (7, True), "a": (1, False)}) for t in range(0, 200, 25)]
    assert said[4] == "it gave no sign of life for 100 ms"


def test_a_supervisor_that_slept_accuses_nobody() -> None:
    watch = HangWatch(2000 * MS)
    assert watch.look(0, {"a": (1, True)}) == ""
    assert watch.look(60 * S, {"a": (1, True)}) == ""  # it was stopped, and so was everybody
    assert watch.look(60 * S + 400 * MS, {"a": (2, True)}) == ""
    watch.reset()
    assert watch.look(70 * S, {"a": (2, True)}) == ""


def test_a_slow_period_is_no_hang() -> None:
    watch = HangWatch(200 * MS)
    periods = (0, 20 * MS, 100 * MS, 101 * MS, 5 * S)
    assert [watch.is_always_at_work(p) for p in periods] == [False, True, True, False, False]
    assert not HangWatch(0).is_always_at_work(20 * MS)


def test_a_lane_without_work_does_not_hang_and_zero_watches_nothing() -> None:
    watch, off = HangWatch(100 * MS), HangWatch(0)
    for t in range(0, 5000, 10):
        assert watch.look(t * MS, {"a": (1, False)}) == ""
        assert off.look(t * MS, {"a": (1, True)}) == ""
