"""All that `haihe check` finds besides timing."""

from haihe.boards.compute_profile import ComputeProfile
from haihe.pipelines.check.finding import ORDER, Finding, Severity
from haihe.pipelines.check.links import link_findings
from haihe.pipelines.check.processes import process_findings
from haihe.pipelines.check.resources import (
    backend_findings,
    board_findings,
    memory_findings,
    models_of,
    port_findings,
)
from haihe.pipelines.check.wiring import actuator_findings, smell_findings
from haihe.pipelines.launch import Prepared

__all__ = ["Finding", "Severity", "findings"]


def findings(prepared: Prepared, profile: ComputeProfile | None) -> list[Finding]:
    """What stands in the way of a graph on its unit and its board, the worst first.

    profile: None leaves the board out. A board that is no host is only told so. Raises
    BoardError: an actuator without a guard, limits that contradict each other.
    """
    prepared.binding.buses(prepared.plan)
    manifests, found = models_of(prepared)
    not_a_host = list(board_findings(profile)) if profile is not None else []
    found += not_a_host
    board = None if not_a_host else profile
    if not not_a_host:
        found += backend_findings(prepared, manifests, board)
    if board is not None:
        found += memory_findings(prepared, manifests, board)
    found += port_findings(prepared, board)
    found += link_findings(prepared)
    found += process_findings(prepared)
    found += smell_findings(prepared)
    found += actuator_findings(prepared)
    return sorted(found, key=lambda finding: ORDER[finding.severity])
