"""The guard between command and driver."""

from haihe.runtime.guard.rules import (
    Action,
    Decision,
    Flag,
    GuardState,
    JointRule,
    SafeAction,
    reasons,
)

__all__ = ["Action", "Decision", "Flag", "GuardState", "JointRule", "SafeAction", "reasons"]
