"""The guard between command and driver."""

from haihe.runtime.guard.rules import Action, Decision, GuardState, JointRule, SafeAction

__all__ = ["Action", "Decision", "GuardState", "JointRule", "SafeAction"]
