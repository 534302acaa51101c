"""What is found of a graph before it runs: `haihe check`."""

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


def budgets_of(prepared: "Prepared") -> dict[str, int]:
    """The budgets in ns that a run is judged by, by node: declared, or measured on this machine.

    An estimate is no yardstick and is left out. Without a cost file nothing is looked for, which
    takes no time. Raises BoardError for a damaged cost file.
    """
    from haihe.boards.measured import all_costs

    steps = [s for lane in prepared.plan.lanes for s in lane.task.steps if not s.select]
    known = {step.name: step.budget_ns for step in steps if step.budget_ns}
    if len(known) < len(steps) and next(all_costs(), None) is not None:
        from haihe.pipelines.check.budgets import node_budgets
        from haihe.pipelines.check.examine import board_of

        for name, budget in node_budgets(prepared, board_of(), {}).items():
            if budget.ns is not None and budget.origin == "measured":
                known[name] = budget.ns
    return known
