"""Overruns at run time: by what nodes are judged; each overrun is recorded with what it voids;
`strict` stops on the first."""

import logging
import threading
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

from haihe.runtime.errors import BoardError, NodeError
from haihe.runtime.exec.lane import Overrun
from haihe.runtime.exec.realtime import RealtimeExecutor
from haihe.runtime.graph import Graph
from haihe.runtime.plan.chains import chains_of, delayed_by
from haihe.runtime.plan.model import Plan
from haihe.runtime.record.sink import Records
from haihe.runtime.units import format_ns

if TYPE_CHECKING:
    from haihe.pipelines.launch import Prepared

log = logging.getLogger(__name__)
WARM_FIRINGS = 10  # of a lane: caches and branch predictors are cold, strict does not judge them


def known_budgets(prepared: "Prepared") -> dict[str, int]:
    """Those of `check.budgets_of`; of a damaged cost file it is only told."""
    from haihe.pipelines.check import budgets_of

    try:
        return budgets_of(prepared)
    except BoardError as exc:
        log.warning("%s Nodes are judged by their declared budgets.", exc)
        return {}


class OverrunWatch:
    """What a run does about nodes that exceed their budgets. Called from the lanes' threads.

    budgets: in ns, where they are not declared. A strict run warns of nodes that have none.
    """

    def __init__(
        self,
        graph: Graph,
        plan: Plan,
        recorder: Records | None,
        budgets: Mapping[str, int],
        *,
        strict: bool,
    ) -> None:
        self._graph, self._recorder, self._is_strict = graph, recorder, strict
        # until the overrunning thread is idle again, no chain has its bound that goes through a
        # lane which it delays: in one process all of them
        chains = chains_of(plan)
        self._voids = {
            lane: [str(chain) for chain in chains if chain.lanes & delayed]
            for lane, delayed in delayed_by(plan).items()
        }
        self._lock = threading.Lock()
        self.worst: dict[str, Overrun] = {}  # by node
        self.executor: RealtimeExecutor | None = None
        steps = [step for lane in plan.lanes for step in lane.task.steps if not step.select]
        free = [step.name for step in steps if not budgets.get(step.name, step.budget_ns)]
        if strict and free:
            log.warning(
                "strict: no budget is known of %s: no overrun there stops the run. Declare one: "
                '@node(budget="2ms").',
                ", ".join(free),
            )

    def overran(self, overrun: Overrun) -> None:
        """Note one; stop the run if it is strict."""
        if self._recorder is not None:
            note = {**asdict(overrun), "void": self._voids[overrun.lane]}
            self._recorder.note("overrun", note, overrun.t_ns)
        with self._lock:
            worst = self.worst.get(overrun.node)
            if worst is None or overrun.took_ns > worst.took_ns:
                self.worst[overrun.node] = overrun
        if self._is_strict and overrun.firing > WARM_FIRINGS and self.executor is not None:
            self._is_strict = False  # it is stopping: one reason is enough
            void = ", ".join(self._voids[overrun.lane])
            line = self._graph.nodes[overrun.node].line
            self.executor.abort(
                overrun.lane,
                overrun.node,
                f"node {overrun.node} overran its budget",
                NodeError(
                    f"{line}: node {overrun.node}: it took {format_ns(overrun.took_ns)} in firing "
                    f"{overrun.firing}, its budget is {format_ns(overrun.budget_ns)}: the bounds "
                    f"of {void or 'no chain'} are void. The actuators were made safe; give it "
                    "a larger budget and check again, or run without --strict."
                ),
            )
