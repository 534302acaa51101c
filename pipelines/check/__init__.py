"""What is found of a graph before it runs: `haihe check`."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from haihe.pipelines.check.report import Report
    from haihe.pipelines.launch import Prepared


def check(graph: Any, board: str | None = None, **options: Any) -> "Report":
    """Whether the contracts of a graph hold on a board, as a report whose repr is a text.

    board: default this machine's. unit: as for a run. measure: "5s" runs the graph so long in the
    unit's simulated world, in virtual time, and times its nodes on this machine. budgets: by node,
    where they are not declared. sim: streams as in the unit's simulated world, not its drivers'.
    Raises BoardError, PlanError, ContractError.
    """
    from haihe.pipelines.check.examine import examine

    return examine(graph, board, **options)


def budgets_of(
    prepared: "Prepared", board: str | None = None, declared: Mapping[str, int] | None = None
) -> dict[str, int]:
    """The known budgets in ns by node, declared or measured on that board (default: this machine),
    for a run that judges its nodes by them."""
    from haihe.pipelines.check.budgets import budgets_of as found
    from haihe.pipelines.check.examine import board_of

    return found(prepared, board_of(board), declared or {})
