"""Faults in real processes: a longer command, outside CI.

    python -m tests.process.campaign [--runs 50] [--block tuning|second]

Each run is the pan-tilt head with its vision and its control in processes of their own, with
wardens, and one to three faults at random times. Judged at the wire, at /proc, and by a replay:

- no goal leaves while the newest picture is older than its limits allow;
- every goal lies in its range, and no further from the last than the slew allows;
- what was killed comes back within its back-off and start, or the run ends with its name;
- the last write to each joint is its safe action;
- counters balance on every edge; the recording replays to the bytes that were sent;
- no process, no shared memory and no descriptor is left.

Not made here: a jump of the wall clock. It would be every other program's on this machine, and no
lane reads it; tests/scenarios has it in virtual time.
"""

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from haihe.runtime.record.format import FIRING, RESTART
from haihe.runtime.record.recording import Recording
from haihe.testing import replay
from tests.process.wire import GOAL, MARK, TORQUE, Write, received, start, writes

RUN_S = 8.0
LIMIT_NS = (250 + 250 + 20) * 1_000_000  # fresh + command_age + a period
SLACK_NS = 500_000_000  # two runs of four processes share two cores
START_NS = 60_000_000_000
SLEW = 300.0 / 360.0 * 4096  # ticks/s
RANGES = {1: 90.0, 2: 60.0}
SIGNALS = ("kill vision", "kill control", "kill both", "stop vision", "stop control")
GRAPHS = {
    "exception": "vision_raises",
    "hang": "vision_hangs",
    "memory hog": "vision_hogs",
    "shared memory exhausted": "vision_floods",
    "slow reader": "stalls_ideal",
}
FAULTS = (*SIGNALS, *GRAPHS)


@dataclass
class Result:
    """What became of one run."""

    seed: str
    faults: list[str]
    error: str = ""
    firings: int = 0
    restarts: int = 0
    slowest_restart_s: float = 0.0
    problems: list[str] = field(default_factory=list)


def plan_of(seed: str) -> tuple[str, list[tuple[float, str]]]:
    """The graph of a run and what is done to it when."""
    rng = random.Random(seed)
    first = rng.choice(FAULTS)
    graph = GRAPHS.get(first, "ideal")
    count = rng.randint(1, 3) if first in SIGNALS else rng.randint(0, 1)
    signals = [first] if first in SIGNALS else []
    signals += [rng.choice(SIGNALS) for _ in range(count - len(signals))]
    return graph, sorted((rng.uniform(0.5, RUN_S - 4.0), name) for name in signals)


def inflict(out: Path, name: str, rng: random.Random) -> None:
    """One fault from outside."""
    try:
        pids = json.loads((out / "pids.json").read_text())
    except (OSError, ValueError):
        return
    what, _, who = name.partition(" ")
    for process in ("vision", "control") if who == "both" else (who,):
        pid = pids.get(process, 0)
        if not pid:
            continue
        try:
            os.kill(pid, signal.SIGKILL if what == "kill" else signal.SIGSTOP)
            if what == "stop":
                time.sleep(rng.uniform(0.2, 0.9))
                os.kill(pid, signal.SIGCONT)
        except ProcessLookupError:
            continue  # its warden was faster


def one(seed: str) -> Result:
    """A whole run and its judgement."""
    graph, faults = plan_of(seed)
    result = Result(seed, [f"{name} at {t:.1f} s" for t, name in faults])
    if graph != "ideal":
        result.faults.append(graph)
    with tempfile.TemporaryDirectory(prefix="haihe-campaign-") as folder:
        out = Path(folder)
        process = start(
            out, {MARK: str(out)}, graph=graph, safe="free", duration=f"{RUN_S}s",
            processes="campaign", warden=True, frames="lossless",
            seed=random.Random(seed).randrange(1 << 16),
        )  # fmt: skip
        end = time.monotonic() + 60
        while not (out / "armed").exists() and process.poll() is None and time.monotonic() < end:
            time.sleep(0.01)
        begun, rng = time.monotonic(), random.Random(seed + " faults")
        for t, name in faults:
            time.sleep(max(0.0, begun + t - time.monotonic()))
            inflict(out, name, rng)
        _, errors = process.communicate(timeout=120)
        if process.returncode != 0:
            result.problems.append(f"the launcher failed: {errors.decode()[-800:]}")
            return result
        told = json.loads((out / "result.json").read_text())
        result.error = told["error"]
        judge(out, result, told)
    return result


def judge(out: Path, result: Result, told: dict[str, object]) -> None:
    """Fill in the problems of a run."""
    say = result.problems.append
    recording = Recording(out / "run.mcap")
    captures = sorted(s.capture_ns for s in recording.streams.get("front.image", []))
    on_wire = writes(out) if not _has_cut(out) else _tolerant(out)
    # a set-up writes one byte at 41, the acceleration; a goal goes on from there
    goals = [w for w in on_wire if w.address == GOAL or (w.address == 41 and len(w.data) > 1)]
    for before, after in zip(captures, [*captures[1:], 1 << 62], strict=True):
        late = [w for w in goals if before + LIMIT_NS + SLACK_NS < w.t_ns < after]
        if late:
            age = (late[0].t_ns - before) * 1e-6
            say(f"a goal left when the newest picture was {age:.0f} ms old")
            break
    deaths = _deaths(recording)
    _judge_limits(goals, deaths, say)
    for servo in (1, 2):
        acts = [*goals, *(w for w in on_wire if w.address == TORQUE)]
        own = sorted((w for w in acts if w.servo == servo), key=lambda w: w.t_ns)
        last = own[-1] if own else None
        if last is not None and (last.address, last.data) != (TORQUE, b"\x00"):
            say(f"the last write to servo {servo} is {last.address}: {last.data.hex()}")
    report = replay(recording)
    result.firings, result.restarts = report.firings, len(deaths)
    if report.differing or not report.firings:
        say(f"the replay differs: {report}")
    if not _is_within(report.sent.get("neck", b""), received(out)):
        say("the replayed bytes are not those of the wire, in order")
    for before_ns, after_ns in deaths:
        result.slowest_restart_s = max(result.slowest_restart_s, (after_ns - before_ns) * 1e-9)
        if after_ns - before_ns > START_NS:
            say(f"a restart took {(after_ns - before_ns) * 1e-9:.1f} s")
    edges: list[dict[str, int]] = told.get("edges", [])  # type: ignore[assignment]
    for edge in edges:
        arrived = edge["received"] + edge["overwritten"] + edge["refused"]
        if edge["sent"] is not None and arrived + (edge["in_flight"] or 0) != edge["sent"]:
            say(f"counters of {edge['source']} -> {edge['target']} do not balance: {edge}")
    left = _processes(out)
    if left:  # and with each, what shared memory it holds
        say(f"processes are left: {left}")


def _deaths(recording: Recording) -> list[tuple[int, int]]:
    """Of each restart: the clock of the lane's last firing before, and of its first after."""
    found = []
    for records in recording.lanes.values():
        for i, record in enumerate(records):
            if record.kind == RESTART:
                before = [r.fixed[2] for r in records[:i] if r.kind == FIRING]
                after = [r.fixed[2] for r in records[i:] if r.kind == FIRING]
                if before and after:
                    found.append((before[-1], after[0]))
    return found


def _judge_limits(goals: list[Write], deaths: list[tuple[int, int]], say: object) -> None:
    assert callable(say)
    last: dict[int, tuple[int, int]] = {}
    for w in goals:
        data = w.data[1:3] if w.address == 41 else w.data[:2]
        ticks = int.from_bytes(data, "little")
        if abs(ticks - 2048) > RANGES[w.servo] / 360 * 4096 + 1:
            say(f"goal {ticks} of servo {w.servo} is out of its range")
            return
        if w.address == GOAL and w.servo in last:  # an address 41 begins where the joint is
            t, before = last[w.servo]
            passed = (w.t_ns - t) * 1e-9
            # stamps are those of the emulator's process: the bytes of two ticks may be read at once
            if abs(ticks - before) > SLEW * (passed + 0.045) + 2:
                say(f"servo {w.servo} was sent {before} and {ticks} within {passed * 1e3:.0f} ms")
                return
        last[w.servo] = w.t_ns, ticks


def _has_cut(out: Path) -> bool:
    """Whether a frame on the wire is not whole: a kill in the middle of a write."""
    try:
        writes(out)
    except (AssertionError, IndexError, ValueError):
        return True
    return False


def _tolerant(out: Path) -> list[Write]:
    """Whole frames only, found again after a cut or padding."""
    from haihe.pipelines.worlds.serve import read_wire

    found: list[Write] = []
    rest = b""
    for t_ns, data in read_wire(out / "neck.wire"):
        rest += data
        at = 0
        while (at := rest.find(b"\xff\xff", at)) >= 0 and at + 4 <= len(rest):
            size = rest[at + 3]
            frame = rest[at : at + 4 + size]
            if len(frame) < 4 + size:
                break
            if sum(frame[2:]) & 0xFF != 0xFF or size < 2:
                at += 1
                continue
            code, body = frame[4], frame[5:-1]
            if code == 0x03 and body:
                found.append(Write(t_ns, frame[2], body[0], body[1:]))
            elif code == 0x83 and len(body) > 2:
                width = body[1] + 1
                found += [
                    Write(t_ns, body[i], body[0], body[i + 1 : i + width])
                    for i in range(2, len(body), width)
                ]
            rest = rest[at + 4 + size :]
            at = 0
        rest = rest[at:] if at >= 0 else rest[-3:]
    return found


def _is_within(sent: bytes, wire: bytes) -> bool:
    """Whether the wire is what was sent with something more in places: what a dying process had
    written and not recorded, and what its warden wrote."""
    at = 0
    size = 32
    for begin in range(0, len(sent), size):
        part = sent[begin : begin + size]
        found = wire.find(part, at)
        if found < 0:  # a gap in the middle of the part
            for byte in part:
                at = wire.find(bytes((byte,)), at) + 1
                if not at:
                    return False
            continue
        at = found + len(part)
    return True


def _processes(out: Path) -> list[int]:
    """Processes of that run that live: by the mark in their environment."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            environment = (entry / "environ").read_bytes()
        except OSError:
            continue
        if f"{MARK}={out}".encode() in environment.split(b"\0"):
            found.append(int(entry.name))
    return found


def main() -> int:
    """Run and print; gives the exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--block", default="tuning")
    parser.add_argument("--at-once", type=int, default=2)
    arguments = parser.parse_args()
    seeds = [f"process faults, {arguments.block}, {i}" for i in range(arguments.runs)]
    with ThreadPoolExecutor(arguments.at_once) as pool:
        results = list(pool.map(one, seeds))
    bad = [r for r in results if r.problems]
    for r in bad:
        print(f"{r.seed}: {', '.join(r.faults)} ({r.error or 'ran to its end'})")
        for problem in r.problems:
            print(f"  {problem}")
    ended = sum(bool(r.error) for r in results)
    slowest = max((r.slowest_restart_s for r in results), default=0.0)
    print(
        f"{len(results)} runs ({arguments.block}), {sum(r.firings for r in results)} firings "
        f"replayed, {sum(r.restarts for r in results)} lane restarts (slowest {slowest:.1f} s), "
        f"{ended} runs ended by their fault: {len(bad)} with problems"
    )
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
