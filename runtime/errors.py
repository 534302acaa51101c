"""Errors that a user of haihe sees.

One form for all: what failed, on which object; what was found and what was expected; what to do.
"""


class HaiheError(Exception):
    """Base of every error that haihe raises on purpose."""


class WiringError(HaiheError):
    """A graph is wired wrongly: names the file and line, the node, the port and the cure."""


class PlanError(HaiheError):
    """A graph cannot be planned or bound: a trigger is missing, a role is unknown, a cycle."""


class ContractError(HaiheError):
    """A contract is written wrongly: an unknown unit, an impossible duration."""


class LinkError(HaiheError):
    """A port or a link between lanes failed."""


class DeviceError(HaiheError):
    """A device answered wrongly, or not at all."""


class ModelError(HaiheError):
    """A model or its manifest cannot be used."""


class BoardError(HaiheError):
    """A board or unit profile cannot be used."""


class FrameError(HaiheError):
    """Frames of reference do not fit together: unknown, not joined, in a circle."""


class NodeError(HaiheError):
    """A node raised while running; the cause is chained."""


class RecordError(HaiheError):
    """A recording cannot be read, written or replayed."""
