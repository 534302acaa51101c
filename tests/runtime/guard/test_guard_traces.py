"""Traces worked out by hand, shared with the C guard; and what the traces cannot say."""

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from haihe.runtime.errors import ContractError, RecordError
from haihe.runtime.guard import JointRule, SafeAction
from haihe.runtime.guard.guard import Guard
from haihe.runtime.guard.rules import Flag, reasons

VECTORS = Path(__file__).parents[2] / "vectors" / "guard" / "traces.json"
TRACES: list[dict[str, Any]] = json.loads(VECTORS.read_text(encoding="utf-8"))


def guard_of(trace: dict[str, Any]) -> Guard:
    rules = tuple(
        JointRule(**{**rule, "safe": SafeAction[rule["safe"]]}) for rule in trace["rules"]
    )
    return Guard(rules, trace["command_age_ns"], trace["period_ns"], trace["latch_stale"])


def as_tuple(values: list[int] | None) -> tuple[int, ...] | None:
    return None if values is None else tuple(values)


@pytest.mark.parametrize("keyframes", [False, True], ids=["whole", "restored_each_step"])
@pytest.mark.parametrize("trace", TRACES, ids=lambda trace: trace["name"])
def test_trace(trace: dict[str, Any], keyframes: bool) -> None:
    guard = guard_of(trace)
    for number, step in enumerate(trace["steps"]):
        if keyframes:
            snapshot = pickle.loads(pickle.dumps(guard.snapshot()))
            guard = guard_of(trace)
            guard.restore(snapshot)
            assert guard.snapshot() == snapshot
        for event in step["events"]:
            if event == "trip":
                guard.trip("test")
            else:
                getattr(guard, event)()
        command, measured = as_tuple(step["command"]), as_tuple(step["measured"])
        decision = guard.step(step["t_ns"], command, step["command_t_ns"], measured)
        assert (
            decision.state.name,
            [action.name for action in decision.actions],
            list(decision.positions),
            reasons(decision.flags),
        ) == (
            step["state"],
            step["actions"],
            step["positions"],
            tuple(step["flags"]),
        ), f"step {number}"


def joint(**changes: Any) -> JointRule:
    values: dict[str, Any] = {
        "name": "elbow",
        "low": -1000,
        "high": 1000,
        "slew": 1000,
        "rate": 0,
        "safe": SafeAction.HOLD,
    }
    return JointRule(**{**values, **changes})


def test_the_first_reason_is_kept_until_reset() -> None:
    guard = Guard((joint(),), 300_000_000, 100_000_000)
    assert guard.trip("e-stop")
    assert not guard.trip("node plan raised")
    assert guard.reason == "e-stop"
    assert guard.reset()
    assert guard.reason == ""
    assert guard.trip("stop of the run")
    assert guard.reason == "stop of the run"


def test_reasons_name_every_bit() -> None:
    assert reasons(0) == ()
    assert reasons(int(Flag.STALE | Flag.NO_REFERENCE)) == ("stale", "no_reference")
    assert len(reasons(sum(Flag))) == len(Flag)


def test_a_snapshot_pickles_small() -> None:
    guard = Guard((joint(), joint()), 300_000_000, 100_000_000)
    guard.arm()
    guard.step(10**15, (5, 5), 10**15, (0, 0))
    assert len(pickle.dumps(guard.snapshot(), protocol=5)) < 120


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"low": 2}, "low 2 is above high 1"),
        ({"low": -(10**9) - 1}, "a limit is beyond 1000000000 micro-units (per s, per s2)"),
        ({"slew": 10**9 + 1}, "a limit is beyond 1000000000 micro-units (per s, per s2)"),
        ({"rate": 10**9 + 1}, "a limit is beyond 1000000000 micro-units (per s, per s2)"),
        ({"slew": 9}, "slew 9 never moves one micro-unit in a period of 100000000 ns"),
        ({"slew": -1000}, "slew -1000 never moves one micro-unit in a period of 100000000 ns"),
        ({"rate": -1}, "rate -1 is negative (0 is no limit)"),
        ({"safe": SafeAction.GO, "safe_position": 2}, "safe_position 2 is outside -1000..1"),
    ],
)
def test_contradicting_limits_are_refused(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(ContractError) as error:
        Guard((joint(**{"high": 1, **changes}),), 300_000_000, 100_000_000)
    assert str(error.value) == f"guard of joint elbow: {problem}. Correct the joint's limits."


@pytest.mark.parametrize(("age", "period"), [(-1, 1), (0, 0), (0, 10**9 + 1)])
def test_impossible_times_are_refused(age: int, period: int) -> None:
    with pytest.raises(ContractError, match=r"^guard: period .* Correct the contract\.$"):
        Guard((), age, period)


def test_a_snapshot_of_other_joints_is_refused() -> None:
    guard = Guard((joint(),), 300_000_000, 100_000_000)
    other = Guard((joint(), joint()), 300_000_000, 100_000_000)
    with pytest.raises(RecordError, match=r"^guard: the snapshot has 2 joints, expected 1\."):
        guard.restore(other.snapshot())
