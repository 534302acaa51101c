"""On what a benchmark ran, and in which state the machine was while it did.

The reading is boards/machine.py; here it becomes part of a result. The fingerprint holds no serial
number, MAC or host name. The sampler reads twice a second, in a thread of low priority.
"""

import itertools
import resource
from pathlib import Path

import msgspec

from haihe.bench.measure.protocol import Machine, MachineState, Series
from haihe.boards import machine as board

RATE_HZ = 2.0
CLOCK_CHANGE = 0.05  # of the frequency at the beginning


def fingerprint() -> Machine:
    """The machine that this is."""
    return msgspec.convert(board.fingerprint(), Machine, from_attributes=True)


class Watcher(board.MachineSampler):
    """`with Watcher() as watcher:` and then `watcher.seen()`."""

    def __init__(self) -> None:
        super().__init__(rate_hz=RATE_HZ)

    def seen(self) -> list[MachineState]:
        """The states, as a result keeps them."""
        return msgspec.convert(self.states, list[MachineState], from_attributes=True)


def is_disturbed(state: MachineState, reference: MachineState) -> bool:
    """Throttled, or at another clock than at the beginning."""
    if state.throttled:
        return True
    pairs = zip(state.frequency_khz, reference.frequency_khz, strict=False)
    return any(abs(now - then) > CLOCK_CHANGE * then for now, then in pairs)


def mark_throttled(series: list[Series], states: list[MachineState], start_ns: int) -> int:
    """Mark the samples that were taken beside a disturbed state; how many there were. start_ns:
    when the first sample began."""
    if not states:
        return 0
    disturbed = [is_disturbed(state, states[0]) for state in states]
    edges = [state.t_ns for state in states]
    marked = 0
    for one in series:
        at, one.throttled = 0, []
        for index, offset in enumerate(one.at_ns):
            while at + 1 < len(edges) and edges[at + 1] <= start_ns + offset:
                at += 1
            if disturbed[at] or disturbed[min(at + 1, len(edges) - 1)]:
                one.throttled.append(index)
        marked = max(marked, len(one.throttled))
    return marked


class Usage:
    """What the process used since this was made: switches and faults; and its memory."""

    def __init__(self) -> None:
        self._begun = resource.getrusage(resource.RUSAGE_SELF)

    def counts(self) -> dict[str, float]:
        """For `Result.counts`."""
        now, then = resource.getrusage(resource.RUSAGE_SELF), self._begun
        return {
            "voluntary_switches": now.ru_nvcsw - then.ru_nvcsw,
            "involuntary_switches": now.ru_nivcsw - then.ru_nivcsw,
            "minor_faults": now.ru_minflt - then.ru_minflt,
            "major_faults": now.ru_majflt - then.ru_majflt,
        }


def memory_bytes() -> tuple[int, int]:
    """(now, peak) resident memory of this process; zeros where the kernel does not tell."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0, 0
    sizes = {key: value for key, _, value in (line.partition(":") for line in lines)}
    now, peak = (int(sizes.get(key, "0 kB").split()[0]) * 1024 for key in ("VmRSS", "VmHWM"))
    return now, peak


def energy_j(states: list[MachineState]) -> float | None:
    """Energy over the states by their power, None where no sensor told it."""
    known = [(s.t_ns, s.power_w) for s in states if s.power_w is not None]
    if len(known) < 2:
        return None
    return sum((t1 - t0) * 1e-9 * (p0 + p1) / 2 for (t0, p0), (t1, p1) in itertools.pairwise(known))
