"""What is odd about a graph and its actuators, though it can be planned."""

import os
from collections.abc import Iterator

from haihe.boards.unit import GuardProfile
from haihe.drivers.roles import KINDS
from haihe.pipelines.check.finding import Finding, place
from haihe.pipelines.launch import Prepared
from haihe.runtime import registry
from haihe.runtime.errors import BoardError
from haihe.runtime.exec.wardens import WardenSpec
from haihe.runtime.plan.model import EdgePlan, LanePlan, StepPlan
from haihe.runtime.units import format_ns


def actuator_findings(prepared: Prepared) -> Iterator[Finding]:
    """What happens without the host; actuators that are bound or there, and not commanded."""
    binding, graph = prepared.binding, prepared.graph
    for role, profile in binding.unit.unit.devices.items():
        guard = profile.guard
        if role not in graph.devices:
            if guard is not None or _is_actuator(profile.driver):
                yield Finding(
                    "note",
                    place(profile.where),
                    f"{role} ({profile.driver}) can move, and graph {graph.name} does not use it: "
                    "nothing of this run reads or stops it.",
                )
        elif (role, "command") in graph.commands:
            if guard is not None and guard.on_host_death == "warden":
                yield warden_finding(prepared, role, guard, is_init=os.getpid() == 1)
            elif guard is not None and guard.on_host_death == "none":
                yield Finding(
                    "note",
                    place(guard.where, "on_host_death"),
                    f"{role} keeps its last goal when the host dies; accepted because: "
                    f"{' '.join(guard.accept_uncontrolled.split())}",
                )
        elif graph.devices[role].kind.commands:
            joints = ", ".join(getattr(binding.devices[role].make(), "joints", ()))
            yield Finding(
                "warns" if guard is not None else "note",
                graph.devices[role].line,
                f"nothing commands {role} (joints {joints}): it is read, and its torque stays off"
                + (f", though it has a guard at {place(guard.where)}." if guard else "."),
                f"Connect a command: {role}.command(...), or take the guard out of the profile."
                if guard
                else "",
            )


def warden_finding(prepared: Prepared, role: str, guard: GuardProfile, *, is_init: bool) -> Finding:
    """What the warden of an actuator covers. is_init: this process is PID 1."""
    lane = next(
        lane.task for lane in prepared.plan.lanes if any(b.role == role for b in lane.task.buses)
    )
    limit = WardenSpec(round(guard.warden * 1e9)).limit(lane.every_ns)
    where = place(guard.where, "on_host_death")
    if is_init:
        return Finding(
            "warns",
            where,
            f"this process is PID 1: its death kills the warden of {role} too, and {role} keeps "
            "its last goal.",
            "Run it under an init that is PID 1 instead: docker run --init.",
        )
    return Finding(
        "note",
        where,
        f"{role}: when the runtime dies, or its lane gives no sign for {format_ns(limit)}, a "
        "warden kills it and sends the safe actions. Not covered: power loss, a hung kernel, a "
        "runtime that is PID 1 of a container.",
    )


def _is_actuator(driver: str) -> bool:
    try:
        kind = registry.load("driver", driver, BoardError).SPEC.kind
    except BoardError:
        return False
    return kind in KINDS and bool(KINDS[kind].commands)


def smell_findings(prepared: Prepared) -> Iterator[Finding]:
    """The graph's own warnings; inputs that grow old in silence; pictures in a control chain."""
    for warning in prepared.graph.warnings:
        where, _, text = warning.partition(": ")
        yield Finding("warns", where, text, "Use it, or leave it out.")
    for lane in prepared.plan.lanes:
        for step in lane.task.steps:
            yield from _unaged(prepared, lane, step)
        for bus in lane.task.buses:
            if bus.command_edge >= 0:
                edge = prepared.plan.edges[bus.command_edge]
                yield from _picture_in_control(prepared, bus.role, lane, edge)


def _unaged(prepared: Prepared, lane: LanePlan, step: StepPlan) -> Iterator[Finding]:
    use = prepared.graph.nodes[step.name]
    for port, index in step.inputs:
        edge = prepared.plan.edges[index]
        if edge.kind != "slot" or edge.trigger or edge.fresh_ns is not None:
            continue
        kind = use.contract.input(port).kind.__name__
        yield Finding(
            "warns",
            use.line,
            f"{edge.target} samples {edge.source} without fresh(): if {edge.source} dies, nothing "
            f"notices and its last {kind} is used for ever.",
            f'Annotate the input: {port}: Annotated[{kind}, fresh("...")].',
        )


def _picture_in_control(
    prepared: Prepared, role: str, lane: LanePlan, edge: EdgePlan
) -> Iterator[Finding]:
    maker = next(
        (m for m in prepared.plan.lanes if edge.source in m.task.publishes and m is not lane), None
    )
    if maker is None or maker.task.every_ns:
        return
    guard = prepared.binding.devices[role].profile.guard
    age = f" after {guard.command_age * 1e3:g} ms" if guard else ""
    yield Finding(
        "warns",
        prepared.graph.command_lines[role, "command"],
        f"{role} gets a new command only when {maker.task.trigger} comes: between two of them, "
        f"and when they stop, its lane (every {format_ns(lane.task.every_ns)}) repeats the last "
        f"command until the guard finds it too old{age}.",
        f"Let a periodic node command {role}, and let it sample "
        f"{edge.source.partition('.')[0]}'s lane: @node(every=\""
        f'{format_ns(lane.task.every_ns).replace(" ", "")}") with fresh("...").',
    )
