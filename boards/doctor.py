"""`haihe doctor`: what on this machine will make a robot slow, deaf or unsafe, and the cure.

A check is a function from `Facts` to findings. `error`: something of haihe will not work;
`warning`: it will work worse than it could; `note`: worth knowing; `ok`: looked at and well. A
check that cannot be made from here (another root, a machine that does not tell) says nothing.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from haihe.boards import doctor_machine, doctor_realtime, doctor_software
from haihe.boards.doctor_facts import Facts, Finding, Severity, gather

ORDER: tuple[Severity, ...] = ("error", "warning", "note", "ok")
CHECKS: tuple[Callable[[Facts], Iterator[Finding]], ...] = (
    doctor_machine.board,
    doctor_software.python,
    doctor_software.opencv,
    doctor_machine.camera,
    doctor_machine.serial,
    doctor_software.onnxruntime,
    doctor_software.telemetry,
    doctor_machine.clocks,
    doctor_machine.time,
    doctor_machine.memory,
    doctor_realtime.priorities,
    doctor_realtime.locking,
    doctor_realtime.throttling,
    doctor_realtime.cores,
    doctor_realtime.kernel,
    doctor_machine.disk,
    doctor_software.numba,
)


class Report(msgspec.Struct):
    """What the doctor found; `haihe doctor --json` is this."""

    board: str
    why: str
    findings: list[Finding]
    schema: int = 1

    @property
    def exit_code(self) -> int:
        """0, or 1 when there is an error."""
        return int(any(finding.severity == "error" for finding in self.findings))

    def describe(self) -> str:
        """Lines for a terminal: the worst first, what is well on one line."""
        lines = [f"{self.board}: {self.why}"]
        width = max((len(finding.check) for finding in self.findings), default=0)
        for finding in self.findings:
            if finding.severity != "ok":
                lines.append(f"{finding.severity:<8} {finding.check:<{width}}  {finding.found}")
                lines += [f"{'':<8} {'':<{width}}  -> {finding.cure}"] * bool(finding.cure)
        well = dict.fromkeys(f.check for f in self.findings if f.severity == "ok")
        lines += [f"{'ok':<8} {', '.join(well)}"] * bool(well)
        counts = [(sum(f.severity == s for f in self.findings), s) for s in ORDER[:3]]
        lines.append(", ".join(f"{n} {s}{'s' * (n != 1)}" for n, s in counts))
        return "\n".join(lines)


def examine(root: str | Path = "/") -> Report:
    """Examine this machine, or the files of another below `root`."""
    return judge(gather(root))


def judge(facts: Facts) -> Report:
    """The findings of all checks, the worst first."""
    found = [finding for check in CHECKS for finding in check(facts)]
    found.sort(key=lambda finding: ORDER.index(finding.severity))
    return Report(facts.found.board, facts.found.why, found)
