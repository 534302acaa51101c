"""`haihe replay --step`: a debugger whose steps are firings, in the order of their clock readings.

    n [LANE]      the next firing (of a lane)
    c             go on to a breakpoint, or to the end
    b             list breakpoints; b clear: remove them
    b NODE        break where a node is called; b NODE stale: where it ends so
    b stale       break where any node ends so (stale, absent, raised, silent ...)
    b differs     break where the replay goes another way than the recording
    b t=3.2       break at a time in s since the first firing
    p [NAME]      what a node or a bus saw and did at this firing (without a name: all of them)
    i             lanes
    d [NODE]      pdb inside the next call of a node, with its recorded inputs
    q             quit; h: this help; an empty line: the last command again

Commands come from a terminal or a pipe; with no input at all, every firing is listed.
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, TextIO

from haihe.cli.firing import Before, Firing
from haihe.cli.node_pdb import NodePdb
from haihe.runtime.errors import HaiheError, RecordError
from haihe.runtime.exec.lane import Lane
from haihe.runtime.plan.codegen import OUTCOMES
from haihe.runtime.record.format import FIRING
from haihe.runtime.record.replay import Replayer, Step
from haihe.runtime.units import format_ns, quantity

PROMPT = "(haihe) "
CALLED = ("called", "silent", "raised")


@dataclass(frozen=True)
class Breakpoint:
    """Where `c` stops: at a node, an outcome, a node's outcome, a difference, or a time in ns."""

    text: str
    node: str = ""
    outcomes: tuple[str, ...] = ()
    t_ns: int = -1
    is_difference: bool = False

    def hits(self, step: Step, t_ns: int, differs: bool) -> bool:
        """Whether the firing that was just replayed is one to stop at."""
        if self.is_difference:
            return differs
        if self.t_ns >= 0:
            return bool(step.t_ns) and t_ns >= self.t_ns
        return any(
            outcome in self.outcomes
            for node, outcome in step.outcomes.items()
            if not self.node or node == self.node
        )


class Stepper:
    """The debugger. stdin, stdout: by default the process's own."""

    def __init__(
        self, replayer: Replayer, stdin: TextIO | None = None, stdout: TextIO | None = None
    ) -> None:
        self.replayer = replayer
        self.stdin, self.stdout = stdin or sys.stdin, stdout or sys.stdout
        self.is_terminal = self.stdin.isatty() and self.stdout.isatty()
        self.breakpoints: list[Breakpoint] = []
        self.firing: Firing | None = None
        self.done: dict[str, int] = dict.fromkeys(replayer.recording.lanes, 0)
        self._lanes = {lane.name: lane for lane in replayer.assembly.lanes}
        self._before = {name: Before.of(lane) for name, lane in self._lanes.items()}
        self._first = min(
            (r.fixed[2] for rs in replayer.recording.lanes.values() for r in rs
             if r.kind == FIRING),
            default=0,
        )  # fmt: skip
        self._steps: Iterator[Step] = replayer.steps()
        self._node = ""  # the one last named
        self._commands: dict[str, Callable[[str], bool]] = {
            "n": self._next, "c": self._continue, "b": self._break, "p": self._print,
            "i": self._info, "d": self._debug, "h": self._help, "q": lambda _: False,
        }  # fmt: skip

    def run(self) -> int:
        """Obey commands to the end of the recording, `q` or the end of the input; gives the exit
        code: 1 when the whole recording was replayed and differs."""
        if self.is_terminal:
            recording = self.replayer.recording
            self._say(f"{recording.path}: {recording.firings} firings. h: help")
        last = "n"
        commands = 0
        while (line := self._ask()) is not None:
            commands += 1
            last = line.strip() or last
            verb, _, rest = last.partition(" ")
            command = self._commands.get(verb)
            try:
                if command is None:
                    self._say(f"{verb!r} is no command. h: help")
                elif not command(rest.strip()):
                    return self._end(verb)
            except HaiheError as exc:
                self._say(f"{type(exc).__name__}: {exc}")
        if commands or self.is_terminal:
            return 0
        while (step := self._advance()) is not None:
            self._say(self._line(step))
        return self._end("c")

    def _end(self, verb: str) -> int:
        if verb == "q":
            return 0
        report = self.replayer.report
        self._say(str(report))
        return 0 if report.ok else 1

    def _ask(self) -> str | None:
        if self.is_terminal:
            try:
                return input(PROMPT)
            except EOFError:
                self._say("")
                return None
        line = self.stdin.readline()
        if not line:
            return None
        self._say(f"{PROMPT}{line.rstrip()}")  # a transcript that can be read
        return line

    def _say(self, text: str) -> None:
        self.stdout.write(f"{text}\n")
        self.stdout.flush()

    # --- going on -----------------------------------------------------------------------------

    def _advance(self) -> Step | None:
        if self.firing is not None:
            lane = self.firing.lane
            self._before[lane.name] = Before.of(lane)
        step = next(self._steps, None)
        if step is None:
            return None
        lane = self._lanes[step.lane]
        graph, plan = self.replayer.graph, self.replayer.recording.plan
        self.firing = Firing(step, lane, self._before[step.lane], graph, plan)
        self.done[step.lane] += bool(step.t_ns)
        return step

    def _next(self, lane: str) -> bool:
        if lane:
            self._known(lane, list(self._lanes), "lane")
        while (step := self._advance()) is not None:
            if not lane or step.lane == lane:
                self._say(self._line(step))
                return True
        return False

    def _continue(self, _: str) -> bool:
        differing = self.replayer.report.differing
        while (step := self._advance()) is not None:
            differs = self.replayer.report.differing > differing
            for point in list(self.breakpoints):
                if point.hits(step, step.t_ns - self._first, differs):
                    if point.t_ns >= 0:  # time comes once
                        self.breakpoints.remove(point)
                    self._say(f"breakpoint {point.text}")
                    self._say(self._line(step))
                    return True
        return False

    def _line(self, step: Step) -> str:
        t = (step.t_ns - self._first) * 1e-6 if step.t_ns else 0.0
        consumed = " ".join(f"{source}#{number}" for source, number in step.consumed.items())
        outcomes = " ".join(f"{node}:{outcome}" for node, outcome in step.outcomes.items())
        what = f"{step.lane} {step.firing}"
        if not outcomes and self._lanes[step.lane].task.steps:
            what = f"{step.lane} {'stop' if step.t_ns else 'set-up'}"
        said = "; ".join(" ".join(map(str, event)) for event in step.events)
        parts = (f"{t:10.3f} ms", what, consumed, outcomes, f"event {said}" if said else "")
        return "  ".join(part for part in parts if part)

    # --- breakpoints --------------------------------------------------------------------------

    def _break(self, text: str) -> bool:
        if text == "clear":
            self.breakpoints.clear()
        elif text:
            self.breakpoints.append(self._breakpoint(text))
        for point in self.breakpoints:
            self._say(f"  {point.text}")
        if not self.breakpoints:
            self._say("  no breakpoints")
        return True

    def _breakpoint(self, text: str) -> Breakpoint:
        if text.startswith("t="):
            return Breakpoint(text, t_ns=round(quantity(text[2:], "s") * 1e9))
        if text == "differs":
            return Breakpoint(text, is_difference=True)
        nodes = list(self.replayer.graph.nodes)
        if text in OUTCOMES and text not in nodes:
            return Breakpoint(text, outcomes=(text,))
        node, _, outcome = text.partition(" ")
        if not outcome:
            known = [*nodes, *OUTCOMES, "differs", "t=3.2"]
            self._known(node, known, "node or outcome")
            return Breakpoint(text, self._name(node), CALLED)
        self._known(node, nodes, "node")
        self._known(outcome, list(OUTCOMES), "outcome")
        return Breakpoint(text, self._name(node), (outcome,))

    def _known(self, name: str, known: list[str], what: str) -> None:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            cure = f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(known)}."
            raise RecordError(f"{name!r} is no {what} of this recording. {cure}")

    def _name(self, node: str) -> str:
        self._node = node
        return node

    # --- looking ------------------------------------------------------------------------------

    def _print(self, name: str) -> bool:
        if self.firing is None:
            raise RecordError("no firing yet. Write n for the first one.")
        here = self.firing.names()
        if name and name not in here:
            everywhere = [*self.replayer.graph.nodes, *self.replayer.graph.devices]
            self._known(name, everywhere, "node or bus")
            raise RecordError(
                f"{name} is not in lane {self.firing.lane.name}, which fired here (it has: "
                f"{', '.join(here)}). Write n LANE first; i lists lanes."
            )
        if name in self.replayer.graph.nodes:
            self._name(name)
        for shown in [name] if name else here:
            for line in self.firing.describe(shown):
                self._say(line)
        return True

    def _info(self, _: str) -> bool:
        for name, lane in self._lanes.items():
            task = lane.task
            total = sum(r.kind == FIRING for r in self.replayer.recording.lanes[name])
            when = f"every {format_ns(task.every_ns)}" if task.every_ns else f"on {task.trigger}"
            nodes = ", ".join([b.role for b in task.buses] + [s.name for s in task.steps])
            self._say(f"  {name}: {self.done[name]} of {total} firings, {when}: {nodes}")
        self._say(f"  differences so far: {self.replayer.report.differing}")
        return True

    def _help(self, _: str) -> bool:
        self._say((__doc__ or "").partition("\n\n")[2].rstrip())
        return True

    # --- pdb ----------------------------------------------------------------------------------

    def _debug(self, text: str) -> bool:
        nodes = list(self.replayer.graph.nodes)
        name = text or self._node or (nodes[0] if len(nodes) == 1 else "")
        if not name:
            raise RecordError(f"d: of which node? Write d NODE, one of: {', '.join(nodes)}.")
        self._known(name, nodes, "node")
        use, lane = self.replayer.graph.nodes[self._name(name)], self._lane_of(name)
        is_recorded = next(s.recorded for s in lane.task.steps if s.name == name)
        if is_recorded and self.replayer.report.mode == "decision":
            raise RecordError(
                f"node {name} is not called: decision replay takes its outputs from the "
                "recording. Replay with --perception to step into it."
            )
        streams: Any = () if self.is_terminal else (self.stdin, self.stdout)
        debugger = NodePdb(*streams)
        debugger.wait_for(use, lane)
        step = None
        try:
            while debugger.is_waiting:
                step = self._advance()
                if step is None:
                    self._say(f"node {name} was not called any more")
                    return False
        finally:
            debugger.cancel()
        assert step is not None
        self._say(self._line(step))
        return True

    def _lane_of(self, node: str) -> Lane:
        return self.replayer.assembly.lane_of(node)
