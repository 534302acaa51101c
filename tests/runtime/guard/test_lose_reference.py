"""After a reconnect (torque was off) no joint jumps to where it was sent before."""

import pytest

from haihe.runtime.guard import Action, JointRule, SafeAction
from haihe.runtime.guard.guard import Guard

MS = 1_000_000
RULE = JointRule("lift", -1_000_000, 1_000_000, 1_000_000, 0, SafeAction.HOLD)


@pytest.mark.parametrize("latched", [False, True])
def test_a_sagged_joint_is_driven_from_where_it_is(latched: bool) -> None:
    guard = Guard((RULE,), 100 * MS, 20 * MS)
    guard.arm()
    assert guard.step(0, (500_000,), 0, (500_000,)).positions == (500_000,)
    if latched:
        guard.trip("test")
    guard.lose_reference()
    unknown = guard.step(20 * MS, (500_000,), 20 * MS, None)
    assert unknown.actions == (Action.FREE,)
    known = guard.step(40 * MS, (500_000,), 40 * MS, (100_000,))
    assert known.actions == (Action.DRIVE,)
    assert known.positions[0] == (100_000 if latched else 120_000)
