"""`haihe check`: from a graph, a unit and a board to a report."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from haihe.boards.compute_profile import ComputeProfile, find_profile
from haihe.boards.cores import cpuinfo
from haihe.boards.recognise import Recognition, recognise
from haihe.boards.root_files import RootFiles
from haihe.boards.unit import UnitFile
from haihe.pipelines.check.budgets import Board, Here, clock_of, node_budgets
from haihe.pipelines.check.bus import BusTime, bus_times
from haihe.pipelines.check.cures import Changes, cures, headroom
from haihe.pipelines.check.finding import Finding, some
from haihe.pipelines.check.findings import findings
from haihe.pipelines.check.flow import Flow
from haihe.pipelines.check.hops import HOP_NS, SEND_NS, process_name, sends_of
from haihe.pipelines.check.judge import Case, chains, ms_up, promises
from haihe.pipelines.check.measure import measure_nodes
from haihe.pipelines.check.report import (
    Budget,
    ChainReport,
    Cure,
    LaneReport,
    Promise,
    Report,
    Verdict,
    weakest,
)
from haihe.pipelines.check.resources import core_findings
from haihe.pipelines.check.timing_of import Source, bound, sources_of, threads_of, timing_of
from haihe.pipelines.check.words import stronger, words
from haihe.pipelines.launch import Prepared, budgets_ns, prepare
from haihe.pipelines.worlds.serve import make_world
from haihe.runtime.graph import Graph
from haihe.runtime.plan.model import LanePlan
from haihe.runtime.units import format_ns


def examine(
    graph: Graph,
    board: str | None = None,
    *,
    unit: str | Path | UnitFile | None = None,
    measure: str | None = None,
    budgets: Mapping[str, str] | None = None,
    sim: bool = False,
) -> Report:
    """Check a graph on a unit and a board; see `haihe.pipelines.check.check`."""
    prepared = prepare(graph, unit)
    machine = recognise()
    profile = find_profile(board or machine.board)
    declared = budgets_ns(graph, budgets or {})
    place = _board(profile, machine)
    here = None
    if measure is not None:
        clock = clock_of(find_profile(machine.board)) or _machine_clock(machine)
        here = Here(machine.board, clock, measure_nodes(prepared, measure), machine.machine)
    world = make_world(prepared.binding.unit, 0) if prepared.binding.unit.unit.sim else None
    known = node_budgets(prepared, place, declared, here)
    return report(
        prepared,
        profile,
        known,
        {role: t for role, t in bus_times(prepared).items() if isinstance(t, BusTime)},
        sources_of(prepared.binding, prepared.plan, world, sim=sim),
        machine if place.is_here else None,
        _broken_budgets(prepared, known, here, place),
    )


def board_of() -> Board:
    """This machine. Raises BoardError."""
    machine = recognise()
    return _board(find_profile(machine.board), machine)


def _board(profile: ComputeProfile, machine: Recognition) -> Board:
    is_here = profile.board == machine.board
    clock = clock_of(profile) or (_machine_clock(machine) if is_here else 0)
    return Board(profile.board, clock, is_here, profile.machine)


def _machine_clock(machine: Recognition) -> int:
    """In kHz: the highest that the kernel knows of, else (in a guest) what /proc/cpuinfo says."""
    known = max((core.max_khz for core in machine.cores), default=0)
    if known:
        return known
    said = [block.get("cpu MHz", "") for block in cpuinfo(RootFiles("/"))]
    return max((round(float(mhz) * 1e3) for mhz in said if mhz[:1].isdecimal()), default=0)


def report(
    prepared: Prepared,
    profile: ComputeProfile,
    budgets: Mapping[str, Budget],
    buses: Mapping[str, BusTime],
    sources: Mapping[str, Source],
    machine: Recognition | None,
    more: Sequence[Finding] = (),
) -> Report:
    """The report, from what is known of nodes, buses and streams. machine: this one, if it is the
    board; more: findings beside those of `findings.py`."""
    plan = prepared.plan
    cores = len(machine.cores) if machine is not None else sum(c.count for c in profile.cores)
    base, todo = words(plan, budgets, cores), stronger(plan, budgets, _fast_core(profile))
    missing = _missing(prepared, budgets, buses, sources)
    timing = None if missing else timing_of(plan, budgets, buses, sources)
    flow = Flow(plan)
    bounds = None if timing is None else bound(timing, flow)
    case = Case(
        prepared.graph, plan, flow, budgets, base, timing, bounds,
        missing[0] if missing else "",
    )  # fmt: skip
    given = promises(case)
    found = chains(case, given)
    remedies: list[Cure] = []
    limits: list[str] = []
    if timing is not None:
        changes = Changes(case)
        worst = max(found, key=lambda one: (one.verdict.rank, one.oldest_ns or 0), default=None)
        remedies = cures(changes, worst, given)
        found = [_with_headroom(changes, chain, given, chain is worst) for chain in found]
        if changes.is_enough:
            limits.append(
                f"a graph of {len(plan.lanes)} lanes: not every cure and headroom was looked for"
            )
    shown = {promise.subject for chain in found for promise in chain.promises}
    rest = [promise for promise in given if promise.kind != "fresh" or promise.subject not in shown]
    besides = [*more, *core_findings(prepared, cores), *findings(prepared, profile)]
    verdicts = [*(chain.verdict for chain in found), *(promise.verdict for promise in given)]
    if missing and not verdicts:
        verdicts = [Verdict("unbounded", missing[0])]
    wrong = sum(finding.severity == "fails" for finding in besides)
    if wrong:
        verdicts.append(Verdict("fails", f"{wrong} finding{'s' * (wrong > 1)} besides timing"))
    return Report(
        graph=prepared.graph.name,
        unit=prepared.binding.unit.unit.unit,
        board=profile.board,
        plan=plan.hash,
        verdict=weakest([*verdicts, *base.values()]),
        lanes=[_lane(case, lane, buses, prepared) for lane in plan.lanes],
        chains=found,
        promises=rest,
        cures=remedies,
        assumptions=[*_assumptions(prepared, budgets, sources, case), *limits],
        findings=besides,
        todo=_cures_of_missing(budgets) or todo,
    )


def _fast_core(profile: ComputeProfile) -> int:
    """The number of one of the fastest cores; where the profile has none, not the first, on which
    most interrupts arrive."""
    fastest = max(profile.cores, key=lambda one: max(one.ghz, default=0.0), default=None)
    first = re.match(r"\d+", fastest.cpus) if fastest is not None else None
    return int(first[0]) if first else 1


def _with_headroom(
    changes: Changes, chain: ChainReport, given: list[Promise], is_worst: bool
) -> ChainReport:
    """Headroom costs some twenty analyses: in a big graph only of the worst chain."""
    if not is_worst and changes.is_enough:
        return chain
    return msgspec.structs.replace(chain, headroom=headroom(changes, chain, given))


def _missing(
    prepared: Prepared,
    budgets: Mapping[str, Budget],
    buses: Mapping[str, BusTime],
    sources: Mapping[str, Source],
) -> list[str]:
    """What must be known before anything can be bounded, and is not."""
    found = [f"no budget for {name}" for name, budget in budgets.items() if budget.ns is None]
    for lane in prepared.plan.lanes:
        for bus in lane.task.buses:
            if bus.role not in buses:
                bound = prepared.binding.devices[bus.role]
                why = (
                    f"it cannot be set up at {bound.baud} baud"
                    if bound.spec.emulator
                    else f"{bound.profile.driver} has no emulator"
                )
                found.append(f"no time of the bus {bus.role}: {why}")
    found += [f"no period of {role}" for role, source in sources.items() if source.timing is None]
    return found


def _cures_of_missing(budgets: Mapping[str, Budget]) -> list[str]:
    """What to do for the nodes without a budget, those with the same cure together."""
    nodes: dict[str, list[str]] = {}
    for budget in budgets.values():
        if budget.ns is None:
            nodes.setdefault(budget.cure, []).append(budget.name)
    return [f"{some(names)}: {cure}" for cure, names in nodes.items()]


def _broken_budgets(
    prepared: Prepared, budgets: Mapping[str, Budget], here: Here | None, place: Board
) -> list[Finding]:
    """Declared budgets that a node exceeded while it was measured on this board."""
    found = []
    for name, measured in (here.nodes if here is not None and place.is_here else {}).items():
        budget = budgets[name]
        if budget.origin == "declared" and budget.ns and measured.worst_ns > budget.ns:
            found.append(
                Finding(
                    "warns", prepared.graph.nodes[name].line,
                    f"{name} took {ms_up(measured.worst_ns)} ms here (the longest of "
                    f"{measured.samples} runs), its budget is {budget.ns / 1e6:.1f} ms.",
                    "Declare more, or make it faster.",
                )
            )  # fmt: skip
    return found


def _lane(
    case: Case, lane: LanePlan, buses: Mapping[str, BusTime], prepared: Prepared
) -> LaneReport:
    thread = next(t for t in threads_of(case.plan) if lane.name in t.lanes)
    items: list[Budget] = []
    for bus in lane.task.buses:
        items.append(_bus(f"read {bus.role}", bus.role, buses, prepared, is_read=True))
    items += [case.budgets[step.name] for step in lane.task.steps]
    if sends := sends_of(case.plan)[lane.name]:
        items.append(Budget("send", sends * SEND_NS, "estimated", "to other processes (e)"))
    for bus in lane.task.buses:
        if bus.command_edge >= 0:
            items.append(_bus(f"write {bus.role}", bus.role, buses, prepared, is_read=False))
    every = lane.task.every_ns
    found = case.bounds.lanes[lane.name] if case.bounds is not None else None
    return LaneReport(
        lane.name,
        thread.name,
        thread.core,
        thread.rank,
        f"every {format_ns(every)}" if every else f"on {_trigger(case, lane)}",
        items,
        case.timing.lane(lane.name).worst_ns if case.timing is not None else None,
        found.response_ns if found is not None else None,
        found.load if found is not None else None,
        process_name(thread.process),
    )


def _trigger(case: Case, lane: LanePlan) -> str:
    return case.flow.owner(lane.task.trigger)


def _bus(
    name: str, role: str, buses: Mapping[str, BusTime], prepared: Prepared, *, is_read: bool
) -> Budget:
    time = buses.get(role)
    if time is None:
        return Budget(name, None, "missing", "not known")
    baud = prepared.binding.devices[role].baud
    ns = time.read_ns if is_read else time.write_ns
    return Budget(name, ns, "measured", f"wire at {baud:,} baud" if baud else "its emulator")


def _assumptions(
    prepared: Prepared, budgets: Mapping[str, Budget], sources: Mapping[str, Source], case: Case
) -> list[str]:
    found = ["budgets are kept: each overrun of a run is reported, with the chains it voids"]
    for role, source in sources.items():
        if source.assumed:
            found.append(source.assumed)
        if source.timing is not None:
            timing = source.timing
            least, most = (f"{ns / 1e6:.1f}" for ns in (timing.period_min_ns, timing.period_max_ns))
            span = most if least == most else f"{least} to {most}"
            found.append(f"{role} captures every {span} ms")
    roles = [bus.role for lane in prepared.plan.lanes for bus in lane.task.buses]
    if roles:
        found.append(f"{', '.join(roles)}: every device answers, its adapter adds no delay")
    found += [budget.note for budget in budgets.values() if budget.note]
    uses = prepared.graph.nodes.values()
    quiet = [use.name for use in uses if any(port.sometimes for port in use.outputs)]
    if quiet:
        found.append(
            f"{', '.join(quiet)} may stay silent: until the next message what was said before ages "
            "on, and of a command only the guard's command_age limits that"
        )
    if prepared.plan.groups:
        found.append(
            f"of {', '.join(group.name for group in prepared.plan.groups)} one mode is active at a "
            "time, of which the longest counts; with a change of mode the ages of its nodes begin "
            "anew"
        )
    if any(thread.core < 0 for thread in threads_of(prepared.plan)):
        found.append("each thread has a core of its own when it needs one, timers wake in time")
    else:
        pinned = sorted({str(thread.core) for thread in threads_of(prepared.plan)})
        found.append(f"nothing else on cores {', '.join(pinned)}, timers wake in time")
    processes = [thread.process for thread in threads_of(prepared.plan)]
    processes += {process for _, process in case.flow.hops}
    if any(processes.count(process) > 1 for process in processes):
        found.append("threads of one process: each waits while another holds the interpreter")
    if any(word.word.startswith("holds") for word in case.words.values()):
        found.append(
            "haihe's own threads (launcher, recorder, supervisor) take no time that counts"
        )
    if case.flow.hops:
        found.append(
            f"a hop to another process takes {HOP_NS / 1e6:.1f} ms at most (a constant: 0.66 ms "
            "was the longest of 6,000 on x86-64), the receiving thread has a core when it needs "
            "one"
        )
    return found
