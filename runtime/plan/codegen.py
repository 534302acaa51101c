"""Stepping code: a task of the plan becomes one straight-line generator function.

Names are resolved here, once. The same code runs in real time, in virtual time and in replay;
only what stands behind `clock`, the slots and the buses differs. It yields a bus that wants its
pending exchange done (and is sent the reply), or an int: the time in ns that its nodes take by
their budgets, which only virtual time spends.

Order inside a firing: read the buses, sample the slots, then the one clock reading from which
every age and dt derives, the nodes, the end (recorded too: the guard steps at it, so that what a
slow node computed is as old as it is), publication, guard and write, what goals and modes make of
it, the record. A mode is that of the firing's start.
"""

import struct
from dataclasses import dataclass
from typing import Any

from haihe.runtime.contracts import SILENT, TICK, Age, Tick
from haihe.runtime.links.slot import nearest
from haihe.runtime.node import Contract, Inject
from haihe.runtime.plan.model import Plan, StepPlan, TaskPlan

CALLED, QUIET, STALE, ABSENT, RAISED, NOT_TRIGGERED, UNALIGNED, OFF = range(8)
OUTCOMES = (
    "called", "silent", "stale", "absent", "raised", "not triggered", "unaligned", "off",
)  # fmt: skip
CODE_BITS = 3  # of an outcome; above them, a bit for each output that was published


def outcome_of(recorded: int) -> int:
    """The outcome (CALLED ...) in a recorded value."""
    return recorded & (1 << CODE_BITS) - 1


def has_published(recorded: int, output: int) -> bool:
    """Whether the output of that index was published, from a recorded value."""
    return bool(recorded >> CODE_BITS + output & 1)


@dataclass
class Stepping:
    """The compiled task: its source text, the record layout, and what it must be given."""

    source: str
    layout: struct.Struct
    factory: Any
    ids: dict[str, int]
    held: tuple[str, ...]


def record_layout(task: TaskPlan) -> struct.Struct:
    """The fixed part of a firing's record.

    kind u8, firing u32, release i64, clock i64, run i64 (end minus clock), then a u32 per
    sampled source (its sequence number, 0 for none), a u16 per node (its outcome and a bit per
    output), a u8 per bus (1: its state was read).
    """
    return struct.Struct(
        "<BIqqq" + "I" * len(task.reads) + "H" * len(task.steps) + "B" * len(task.buses)
    )


class _Writer:
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.depth = 0

    def __call__(self, line: str, indent: int = 0) -> None:
        self.lines.append("    " * (self.depth + indent) + line)


def compile_task(plan: Plan, task: TaskPlan, contracts: dict[str, Contract]) -> Stepping:
    """Generate and compile the stepping code of one task."""
    return _Generator(plan, task, contracts).compile()


class _Generator:
    def __init__(self, plan: Plan, task: TaskPlan, contracts: dict[str, Contract]) -> None:
        self.plan, self.task, self.contracts = plan, task, contracts
        self.out = _Writer()
        self.ids: dict[str, int] = {}
        for source in task.reads:
            self.ids[source] = len(self.ids)
        for bus in task.buses:
            self.ids[bus.state] = len(self.ids)
        for step in task.steps:
            for port in step.outputs:
                self.ids[step.source(port)] = len(self.ids)
        self.external = set(task.reads)
        self.aligned = {
            plan.edges[number].source
            for step in task.steps
            for _, number in step.inputs
            if plan.edges[number].kind == "aligned"
        }
        loops = {e.source for e in plan.edges if e.kind == "loop"}
        self.loops = sorted(
            source for source in loops if any(self._loop_source(s, source) for s in task.steps)
        )
        for source in self.loops:
            self.ids[source] = len(self.ids)
        self.goals = [goal for goal in plan.goals if goal.lane == task.name]
        for goal in self.goals:
            self.ids[goal.request] = len(self.ids)
        self.groups = [group for group in plan.groups if group.home == task.name]
        named = dict.fromkeys(name for step in task.steps for name, _ in step.modes)
        self.modes = {name: f"h{i}" for i, name in enumerate(named)}

    def _loop_source(self, step: StepPlan, source: str) -> bool:
        return any(self.plan.edges[e].source == source for _, e in step.inputs)

    def compile(self) -> Stepping:
        out, task = self.out, self.task
        layout = record_layout(task)
        held = self._held()
        out("def build(env):")
        out.depth = 1
        for name in self._environment():
            out(f"{name} = env[{name!r}]")
        for name, initial in held.items():
            out(f"{name} = {initial}")
        if held:
            names = ", ".join(held)
            out("def snapshot():")
            out(f"return ({names},)", 1)
            out("def restore(state):")
            out(f"nonlocal {names}", 1)
            out(f"({names},) = state", 1)
        else:
            out("def snapshot(): return ()")
            out("def restore(state): pass")
        out("def tick(release, firing):")
        out.depth = 2
        if held:
            out(f"nonlocal {', '.join(held)}")
        self._sample()
        for index, step in enumerate(task.steps):
            self._step(index, step)
        self._finish(layout)
        out.depth = 1
        out("return tick, snapshot, restore")
        source = "\n".join(out.lines) + "\n"
        scope: dict[str, Any] = {"SILENT": SILENT, "TICK": TICK, "Tick": Tick, "Age": Age}
        scope |= {"new_age": float.__new__, "nearest": nearest}
        filename = f"<stepping of {self.plan.graph}, {task.name}>"
        exec(compile(source, filename, "exec"), scope)
        import linecache

        linecache.cache[filename] = (len(source), None, source.splitlines(True), filename)
        return Stepping(source, layout, scope["build"], self.ids, tuple(held))

    def _held(self) -> dict[str, str]:
        """Variables that live from tick to tick, with their initial values."""
        held: dict[str, str] = {}
        for source, i in self.ids.items():
            if source in self.external:
                continue
            held |= {f"q{i}": "0", f"m{i}": "None", f"o{i}": "0", f"f{i}": "0"}
        for source in self.loops:
            held[f"m{self.ids[source]}"] = f"L{self.ids[source]}"
        for index, step in enumerate(self.task.steps):
            if self._injects(step, Inject.TICK):
                held[f"l{index}"] = "0"
        for index, bus in enumerate(self.task.buses):
            if bus.command_edge >= 0:
                held |= {f"gq{index}": "0", f"gc{index}": "None"}
        return held

    def _injects(self, step: StepPlan, kind: Inject) -> bool:
        return any(entry[1] is kind for entry in self.contracts[step.name].injected)

    def _environment(self) -> list[str]:
        names = ["clock", "now", "mono", "LOG", "PACK", "raised", "check", "overran"]
        names += [f"S{self.ids[s]}" for s in self.task.reads]
        for index, step in enumerate(self.task.steps):
            names += [f"N{index}", f"K{index}", f"T{index}", f"B{index}", f"O{index}"]
            names += [f"E{edge}" for _, edge in step.inputs]
            names += [f"Y{self.ids[step.source(port)]}" for port in step.outputs]
            if self._injects(step, Inject.RNG):
                names.append(f"X{index}")
        names += ["MODES"] if self.modes else []
        names += [f"H{i}" for i in range(len(self.goals))]
        names += [f"D{i}" for i in range(len(self.groups))]
        for index, bus in enumerate(self.task.buses):
            names.append(f"R{index}")
            if bus.command_edge >= 0:
                names += [f"G{index}", f"U{index}", f"W{index}", f"E{bus.command_edge}"]
        names += [f"L{self.ids[s]}" for s in self.loops]
        names += [f"P{self.ids[s]}" for s in self.task.publishes]
        return names

    # --- pieces of the tick -------------------------------------------------------------------

    def _sample(self) -> None:
        out, task = self.out, self.task
        for index, bus in enumerate(task.buses):
            i = self.ids[bus.state]
            out(f"r = yield from R{index}()")
            out(f"b{index} = r is not None")
            out(f"if b{index}:")
            out(f"q{i} += 1; m{i}, o{i} = r", 1)
        for source in task.reads:
            what = "value"
            if source == task.trigger and task.fifo:
                what = "take()"
            elif source in self.aligned:
                what = "items"
            out(f"s{self.ids[source]} = S{self.ids[source]}.{what}")
        out("t = clock()")
        for source in task.reads:
            i = self.ids[source]
            if source in self.aligned:
                out(f"q{i} = o{i} = f{i} = 0; m{i} = None")  # chosen when the trigger is known
                continue
            out(f"if s{i} is None: q{i} = 0")
            out(f"else: q{i}, m{i}, o{i}, f{i} = s{i}")
        for index, bus in enumerate(task.buses):
            out(f"if b{index}: f{self.ids[bus.state]} = t")
        for i, goal in enumerate(self.goals):
            g = self.ids[goal.request]
            out(f"q{g}, m{g}, o{g}, f{g} = H{i}.sample(t)")
        for name, h in self.modes.items():
            out(f"{h} = MODES[{name!r}]")
        out("w = 0")

    def _select(self, index: int, step: StepPlan) -> None:
        """Take over what was published in this firing, the first of several."""
        out, i = self.out, self.ids[step.source(step.outputs[0])]
        out(f"c{index} = {QUIET}")
        for _, number in step.inputs:
            j, e = self.ids[self.plan.edges[number].source], f"E{number}"
            out(f"if n{j}:")
            out.depth += 1
            out(f"{e}.last = q{j}")
            out(f"if n{i}: {e}.overwritten += 1")
            out("else:")
            out(f"q{i} += 1; m{i} = m{j}; o{i} = o{j}; f{i} = t; n{i} = True", 1)
            out(f"c{index} = {CALLED}", 1)
            out(f"{e}.received += 1; {e}.count += 1; {e}.total_ns += t - o{j}", 1)
            out(f"if t - o{j} > {e}.worst_ns: {e}.worst_ns = t - o{j}", 1)
            out.depth -= 1
        out(f"if n{i}: T{index}.called += 1")
        out(f"else: T{index}.silent += 1")

    def _step(self, index: int, step: StepPlan) -> None:
        out = self.out
        for port in step.outputs:
            out(f"n{self.ids[step.source(port)]} = False")
        if step.modes:
            self._unless_off(index, step)
            out.depth += 1
        if step.select:
            self._select(index, step)
        else:
            self._node(index, step)
        if step.modes:
            out.depth -= 1

    def _unless_off(self, index: int, step: StepPlan) -> None:
        """A node of another mode is not called, and what comes for it meanwhile is lost."""
        out = self.out
        is_off = " or ".join(f"{self.modes[group]} != {mode!r}" for group, mode in step.modes)
        out(f"if {is_off}:")
        out(f"c{index} = {OFF}; T{index}.off += 1", 1)
        for _, number in step.inputs:
            edge, e = self.plan.edges[number], f"E{number}"
            if edge.kind in ("loop", "aligned", "goal"):
                continue
            q = f"q{self.ids[edge.source]}"
            lost = "1" if edge.kind == "fifo" else f"{q} - {e}.last"
            out(f"if {q} > {e}.last: {e}.overwritten += {lost}; {e}.last = {q}", 1)
        out("else:")

    def _node(self, index: int, step: StepPlan) -> None:
        out = self.out
        contract = self.contracts[step.name]
        out(f"c{index} = {NOT_TRIGGERED}")
        if step.trigger:
            out(f"if {self._fired(step.trigger)}:")
            out.depth += 1
        values: dict[str, str] = {}
        ages: dict[str, str] = {}
        origins: list[str] = []
        uncounted: list[str] = []
        checks = 0
        out(f"c{index} = {CALLED}")
        for port, number in step.inputs:
            edge = self.plan.edges[number]
            i, e, v = self.ids[edge.source], f"E{number}", f"v{number}"
            values[port], ages[port] = v, f"a{number}"
            optional = edge.on_stale == "call"
            if edge.kind == "loop":
                out(f"{v} = m{i}; a{number} = t - o{i} if q{i} else 0")
                continue
            if edge.kind == "aligned":
                self._align(index, step, i)
            out(f"if q{i}:")
            out(f"if q{i} > {e}.last:", 1)
            lost = f"{e}.overwritten += q{i} - {e}.last - 1; "
            if edge.kind == "fifo":  # what is missing was refused, and counted there
                lost = ""
            out(f"{e}.received += 1; {lost}{e}.last = q{i}", 2)
            out(f"{v} = m{i}; a{number} = t - o{i}", 1)
            out(f"{e}.count += 1; {e}.total_ns += a{number}", 1)
            out(f"if a{number} > {e}.worst_ns: {e}.worst_ns = a{number}", 1)
            if edge.fresh_ns is not None:
                out(f"if a{number} > {edge.fresh_ns}:", 1)
                out(f"{e}.stale += 1", 2)
                out(f"{v} = None" if optional else f"c{index} = {STALE}", 2)
                checks += 1
            if edge.kind == "aligned":
                trigger = self.ids[self._trigger_of(step)]
                out(f"if abs(o{i} - o{trigger}) > {edge.within_ns}:", 1)
                out(f"{v} = None" if optional else f"c{index} = {UNALIGNED}", 2)
                checks += 1
            out("else:")
            out(f"{e}.absent += 1; a{number} = 0", 1)
            out(f"{v} = None" if optional else f"c{index} = {ABSENT}", 1)
            checks += not optional
            origin = f"o{i}" if not optional else f"(o{i} if {v} is not None else t)"
            (origins if edge.ages else uncounted).append(origin)
        if checks:
            out(f"if c{index} == {CALLED}:")
            out.depth += 1
        # slow side inputs do not age an output, but an output of nothing else is as old as they are
        self._call(index, step, contract, values, ages, origins or uncounted)
        if checks:
            out.depth -= 1
            out(f"elif c{index} == {STALE}: T{index}.stale += 1")
            if any(self.plan.edges[number].kind == "aligned" for _, number in step.inputs):
                out(f"elif c{index} == {UNALIGNED}: T{index}.unaligned += 1")
            out(f"else: T{index}.absent += 1")
        if step.trigger:
            out.depth -= 1
            queued = [n for _, n in step.inputs if self.plan.edges[n].kind == "fifo"]
            if queued:  # the message has left the queue unread, and never comes again
                q = f"q{self.ids[self.task.trigger]}"
                out(f"elif {q}:")
                for number in queued:
                    out(f"E{number}.overwritten += 1; E{number}.last = {q}", 1)

    def _trigger_of(self, step: StepPlan) -> str:
        return next(
            self.plan.edges[number].source
            for _, number in step.inputs
            if self.plan.edges[number].trigger
        )

    def _align(self, index: int, step: StepPlan, i: int) -> None:
        """Choose the message captured nearest to the trigger's."""
        trigger = self.ids[self._trigger_of(step)]
        self.out(f"s{i} = nearest(s{i}, o{trigger}) if q{trigger} else None")
        self.out(f"if s{i} is not None: q{i}, m{i}, o{i}, f{i} = s{i}")

    def _fired(self, source: str) -> str:
        for index, bus in enumerate(self.task.buses):
            if bus.state == source:
                return f"b{index}"
        return f"n{self.ids[source]}"

    def _arguments(
        self, index: int, step: StepPlan, contract: Contract, values: dict[str, str],
        ages: dict[str, str],
    ) -> str:  # fmt: skip
        import inspect

        injected = {name: (kind, about) for name, kind, about in contract.injected}
        arguments = []
        names = list(inspect.signature(contract.function).parameters)[contract.is_class :]
        for name in names:
            if name in injected:
                kind, about = injected[name]
                if kind is Inject.TICK:
                    arguments.append(f"Tick((t - l{index}) * 1e-9) if l{index} else TICK")
                elif kind is Inject.AGE:
                    arguments.append(f"new_age(Age, {ages.get(about, '0')} * 1e-9)")
                else:
                    arguments.append(f"X{index}(firing)")
            elif name in contract.constants:
                arguments.append(f"K{index}[{name!r}]")
            else:
                arguments.append(values.get(name, "None"))
        return ", ".join(arguments)

    def _call(
        self, index: int, step: StepPlan, contract: Contract, values: dict[str, str],
        ages: dict[str, str], origins: list[str],
    ) -> None:  # fmt: skip
        out = self.out
        stats = f"T{index}"
        outputs = [self.ids[step.source(port)] for port in step.outputs]
        out("u = mono()")
        out("try:")
        out(f"y = N{index}({self._arguments(index, step, contract, values, ages)})", 1)
        several = contract.output_tuple is not None
        if several:
            out(f"{', '.join(f'y{i}' for i in outputs)}, = y", 1)
        for place, i in enumerate(outputs):
            value = f"y{i}" if several else "y"
            out(f"if {value}.__class__ is not Y{i}: check({index}, {place}, {value})", 1)
        out("except (Exception, SystemExit) as problem:")
        out(f"c{index} = {RAISED}; {stats}.raised += 1; raised({index}, problem)", 1)
        out("else:")
        out.depth += 1
        out(f"d = {origins[0] if origins else 't'}")
        for other in origins[1:]:
            out(f"z = {other}")
            out("if z < d: d = z")
        out(f"c{index} = {QUIET}")
        for i in outputs:
            value = f"y{i}" if several else "y"
            out(f"if {value} is not SILENT and {value} is not None:")
            out(f"q{i} += 1; m{i} = {value}; o{i} = d; f{i} = t; n{i} = True", 1)
            out(f"c{index} = {CALLED}", 1)
        out(f"if c{index} == {CALLED}: {stats}.called += 1")
        out(f"else: {stats}.silent += 1")
        out.depth -= 1
        out("u = mono() - u")
        out(f"w += B{index}; {stats}.total_ns += u")
        out(f"if u > {stats}.worst_ns: {stats}.worst_ns = u")
        out(f"if u > O{index}: {stats}.overruns += 1; overran({index}, firing, u)")
        if self._injects(step, Inject.TICK):
            out(f"l{index} = t")

    def _finish(self, layout: struct.Struct) -> None:
        out, task = self.out, self.task
        for source in self.loops:
            i = self.ids[source]
            fed = next(e for e in self.plan.edges if e.source == source)
            j = self.ids[fed.fed_by]
            out(f"if n{j}: q{i}, m{i}, o{i}, f{i} = q{j}, m{j}, o{j}, f{j}")
        out("yield w")
        out("e = now()")
        for index, step in enumerate(task.steps):
            if step.deadline_ns is not None:
                out(
                    f"if e - release > {step.deadline_ns} and c{index} == {CALLED}: "
                    f"T{index}.misses += 1"
                )
        for source in task.publishes:
            i = self.ids[source]
            fired = self._fired(source)
            out(f"if {fired}: P{i}((q{i}, m{i}, o{i}, t))")
        for index, bus in enumerate(task.buses):
            if bus.command_edge < 0:
                continue
            i = self.ids[self.plan.edges[bus.command_edge].source]
            out(f"if q{i} != gq{index}: gq{index} = q{i}; gc{index} = U{index}(m{i})")
            state = self.ids[bus.state]
            out(f"g = G{index}(e, gc{index}, f{i} if q{i} else 0, m{state} if b{index} else None)")
            out(f"yield from W{index}(g, o{i} if q{i} else 0, E{bus.command_edge}, q{i})")
        for i, goal in enumerate(self.goals):
            status = self.ids[goal.status]
            out(f"if n{status}: H{i}.report(m{status})")
        for i, group in enumerate(self.groups):
            sources = [source for mode in group.modes for source in (mode.enter, mode.leave)]
            held = ", ".join(
                f"m{self.ids[s]} if n{self.ids[s]} else None" if s else "None" for s in sources
            )
            out(f"D{i}.decide(({held},))")
        fields = ["1", "firing", "release", "t", "e - t"]
        fields += [f"q{self.ids[s]}" for s in task.reads]
        for index, step in enumerate(task.steps):
            bits = [
                f"n{self.ids[step.source(port)]} << {CODE_BITS + place}"
                for place, port in enumerate(step.outputs)
            ]
            fields.append(" | ".join([f"c{index}", *bits]))
        fields += [f"b{i}" for i in range(len(task.buses))]
        out(f"LOG(PACK({', '.join(fields)}))")
        if task.trigger:
            out(f"return q{self.ids[task.trigger]}")  # which message this firing has used
