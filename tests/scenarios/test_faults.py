"""Fault runs in virtual time, judged at the wire; the judge itself is shown to find violations."""

import itertools
import os
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from typing import Any

import msgspec
import pytest

from haihe.runtime.clock import MILLISECOND
from haihe.runtime.exec.supervision import RestartPolicy
from haihe.runtime.exec.virtual_links import QueueLink, SlotLink
from haihe.runtime.exec.virtual_warden import VirtualWarden
from haihe.runtime.exec.wardens import WardenSpec
from haihe.runtime.guard.guard import Guard
from tests.scenarios.campaign import BLOCKS, RUNS, Result, campaign
from tests.scenarios.fault_judge import judge
from tests.scenarios.fault_runs import Injected, Run, run, setting
from tests.scenarios.fault_world import rules


@pytest.mark.scenario
def test_the_campaign_finds_no_violation_and_every_run_replays_equal() -> None:
    first = BLOCKS["first"]
    parts = [range(first + i, first + RUNS, 4) for i in range(4)]
    result = Result()
    with ProcessPoolExecutor(min(4, os.cpu_count() or 1), get_context("spawn")) as pool:
        for part in pool.map(partial(campaign, replay_every=1), parts):
            result.add(part)
    print(f"\n{result}")
    assert result.violations == {}
    assert (result.runs, result.replayed) == (RUNS, RUNS)
    # it is about faults: they were there, and did what they do
    for what in ("restarts", "given up", "saved by a warden"):
        assert result.counts[what] >= 50
    assert all(number >= 100 for what, number in result.counts.items() if "faults" in what)


def test_thirty_runs_of_another_block() -> None:
    result = campaign(range(BLOCKS["second"], BLOCKS["second"] + 30), replay_every=3)
    assert result.violations == {}
    assert (result.runs, result.replayed) == (30, 10)
    assert result.counts["deaths"] > 5


def test_a_run_is_the_same_again_whatever_the_wall_clock_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def wire(seed: int) -> list[Any]:
        done = run(*setting(seed))
        return [done.emulator.frames, done.deaths, done.ledger.calls]

    seeds = [s for s in range(40) if any(f.kind == "kill" for f in setting(s)[0].faults)][:5]
    before = [wire(seed) for seed in seeds]
    jumps = itertools.cycle((3_600.0, -86_400.0))
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + next(jumps))
    monkeypatch.setattr(time, "time_ns", lambda: round((real() + next(jumps)) * 1e9))
    assert [wire(seed) for seed in seeds] == before


# --- the judge finds what is broken on purpose ----------------------------------------------------


def finds(text: str, how: Callable[[int], Run], seeds: int = 100) -> bool:
    """Whether the judge says so of one of these runs."""
    return any(text in violation for seed in range(seeds) for violation in judge(how(seed)))


def test_an_old_command_is_found() -> None:
    def loose(seed: int) -> Run:
        made, source = setting(seed)
        lame = Guard(rules(made.safe), 2 * made.command_age_ms * MILLISECOND + 10**8, 10**7)
        return run(made, source, guard=lame, wardens={"rig": WardenSpec(10**9)})

    assert finds(" ms old", loose)


def test_a_step_beyond_the_slew_limit_is_found() -> None:
    def fast(seed: int) -> Run:
        made, source = setting(seed)
        quick = tuple(
            msgspec.structs.replace(rule, slew=2 * rule.slew) if rule.name == "swing" else rule
            for rule in rules(made.safe)
        )
        period = made.every_ms * MILLISECOND
        return run(made, source, guard=Guard(quick, made.command_age_ms * MILLISECOND, period))

    assert finds("swing moves by ", fast)


def test_an_owner_that_dies_unguarded_or_is_killed_late_is_found() -> None:
    def unguarded(seed: int) -> Run:
        return run(*setting(seed), wardens={})

    def late(seed: int) -> Run:
        return run(*setting(seed), wardens={"rig": WardenSpec(200 * MILLISECOND)})

    assert finds("at the end: a safe frame drives stamp", unguarded)
    assert finds("driven, then nothing for ", late)


def test_a_warden_that_drives_on_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def stale(self: VirtualWarden, decision: Any) -> None:
        self._frames = self._device.safe_frames(decision, self._rules)  # what was decided last

    monkeypatch.setattr(VirtualWarden, "_stage", stale)
    assert finds("a safe frame drives stamp", lambda seed: run(*setting(seed)))


def test_a_restart_at_another_time_is_found() -> None:
    def slow(seed: int) -> Run:
        made, source = setting(seed)
        made = replace(made, faults=(Injected(500 * MILLISECOND, "kill", made.processes[-1]),))
        return run(made, source, start_ns=made.start_ns + 100 * MILLISECOND)

    assert finds(" was not called again", slow)
    assert finds(" was not set up by ", slow)


def test_a_loss_that_nobody_counts_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(SlotLink, "lose", lambda self, messages: None)
        assert finds("edge ", lambda seed: run(*setting(seed)))
    with monkeypatch.context() as patch:
        patch.setattr(QueueLink, "lose", lambda self, messages: None)
        assert finds("edge ", lambda seed: run(*setting(seed)))


def test_a_process_that_nobody_gives_up_is_found() -> None:
    def patient(seed: int) -> Run:
        made, source = setting(seed)
        name = made.processes[-1]
        kills = tuple(Injected(t * 300 * MILLISECOND, "kill", name) for t in range(1, 5))
        lenient = {key: RestartPolicy(limit=9, backoff_ns=1) for key in made.policies}
        done = run(replace(made, faults=kills, policies=lenient, start_ns=1), source)
        done.setting = replace(made, faults=kills, start_ns=1)
        return done

    assert finds(" is used up, and not given up", patient)
