"""What a contract that holds is called, by lane, and what would make it a stronger word.

A lane rests on those that can delay it: of its process, more urgent on its core, before it in its
chain of triggers. What the others lack does not weaken it.
"""

from collections.abc import Iterator, Mapping, Sequence

from haihe.pipelines.check.finding import some
from haihe.pipelines.check.hops import hops_of, process_name, stream_readers
from haihe.pipelines.check.report import Budget, Verdict
from haihe.pipelines.check.timing_of import threads_of
from haihe.runtime.exec.remote import receivers
from haihe.runtime.plan.chains import delayed_by
from haihe.runtime.plan.model import LanePlan, Plan, ThreadPlan

UNMEASURED = "which nobody measured"


def words(plan: Plan, budgets: Mapping[str, Budget], cores: int) -> dict[str, Verdict]:
    """By lane. cores: of the board, 0: not known."""
    delayed = delayed_by(plan)
    return {
        lane.name: _word(plan, budgets, cores, {n for n in delayed if lane.name in delayed[n]})
        for lane in plan.lanes
    }


def _word(plan: Plan, budgets: Mapping[str, Budget], cores: int, names: set[str]) -> Verdict:
    """Of a lane that rests on the lanes of these names."""
    threads = [thread for thread in threads_of(plan) if names & set(thread.lanes)]
    receiving = receivers(plan)
    processes = {thread.process for thread in threads}
    steps = [s.name for lane in plan.lanes if lane.name in names for s in lane.task.steps]
    own = [budgets[name] for name in steps]
    reasons = list(_reasons(plan, threads, cores))
    reasons += [
        f"the {receiving[process].name} has no priority"
        for process in processes if process in receiving and not receiving[process].rank
    ]  # fmt: skip
    reasons += [budget.weakness for budget in own if budget.weakness]
    if reasons:
        return Verdict("expected", reasons[0])
    is_measured = all(budget.origin == "measured" for budget in own)
    is_measured = is_measured and all(process not in processes for _, process in hops_of(plan))
    return Verdict("holds (measured)" if is_measured else "holds (estimated)")


def _reasons(plan: Plan, threads: Sequence[ThreadPlan], cores: int) -> Iterator[str]:
    """What no bound counts with."""
    lacks = ["not pinned"] * any(thread.core < 0 for thread in threads)
    lacks += ["no SCHED_FIFO"] * any(thread.rank <= 0 for thread in threads)
    if lacks:
        yield ", ".join(lacks)
    if cores and len(threads) > cores:
        yield f"{len(threads)} threads share {cores} cores"
    least = min((thread.rank for thread in threads), default=0)
    roving = [t.name for t in threads_of(plan) if t.core < 0 and t.rank >= max(1, least)]
    if roving:
        yield f"{some(roving)} may take its core: it has a priority and no core"
    streams = stream_readers(plan, {thread.process for thread in threads})
    if streams:
        yield f"interpreter work of the reader of {some(streams)} is not known"


def stronger(plan: Plan, budgets: Mapping[str, Budget], fast_core: int = 1) -> list[str]:
    """What would make the words stronger. fast_core: the number of a core to name in an example."""
    threads, todo = threads_of(plan), []
    lacking = [thread for thread in threads if thread.core < 0 or thread.rank <= 0]
    names = [thread.name for thread in sorted(lacking, key=lambda thread: thread.core >= 0)]
    if names:
        used = {thread.rank for thread in threads if thread.core == fast_core}
        rank = next((rank for rank in range(50, 0, -10) if rank not in used), 1)
        todo.append(
            f"give {some(names)} a core and a priority: `threads: {{{names[0]}: {{core: "
            f"{fast_core}, priority: {rank}}}}}` in the unit profile"
        )
    todo += _apart(plan, threads)
    dark = [budget.name for budget in budgets.values() if budget.note.endswith(UNMEASURED)]
    if dark and len(threads) > 1:
        todo.append(
            f"add --measure 5s: how long {some(dark)} holds the interpreter was never measured, so "
            "all its time is counted"
        )
    scaled = [budget.name for budget in budgets.values() if budget.origin == "estimated"]
    if scaled:
        todo.append(f"on the board itself: --measure 5s ({some(scaled)}: estimated from elsewhere)")
    weak = [budget for budget in budgets.values() if budget.weakness]
    if weak:
        todo.append(f"measure longer: {some([b.name for b in weak])} ran less than 298 times")
    return todo


def _apart(plan: Plan, threads: Sequence[ThreadPlan]) -> Iterator[str]:
    """Lanes that cycle a bus beside the reader of a stream, which they need not."""
    lanes = {lane.name: lane for lane in plan.lanes}
    for process in dict.fromkeys(thread.process for thread in threads):
        own = [thread for thread in threads if thread.process == process]
        streams = stream_readers(plan, {process})
        fed = [t for t in own if any(_is_fed(lanes[name], streams) for name in t.lanes)]
        buses = [t for t in own if t not in fed and any(lanes[n].task.buses for n in t.lanes)]
        if fed and buses:
            names = ", ".join(thread.name for thread in fed)
            yield (
                f"run {names} in a process of its own (`processes: {{vision: {{threads: "
                f"[{names}]}}}}` in the unit profile): the reader of {some(streams)} shares the "
                f"interpreter of {process_name(process)} with {some([t.name for t in buses])}"
            )


def _is_fed(lane: LanePlan, streams: Sequence[str]) -> bool:
    return lane.task.trigger.split(".")[0] in streams
