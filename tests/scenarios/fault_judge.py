"""What must hold in every fault run, judged at the wire, the source and the sinks.

Times, ages and limits come from what arrived at the emulator and from when the source captured;
losses from the numbers in payloads. The executor's counters are compared with these, never used as
their own proof.
"""

from collections.abc import Iterator
from itertools import pairwise

from haihe.runtime.clock import MILLISECOND
from haihe.runtime.errors import NodeError
from haihe.runtime.guard import Action, SafeAction
from tests.scenarios.fault_runs import Run
from tests.scenarios.fault_world import BAUD, RANGE, REPLY_NS, SLEW, WRITE_SIZE, Frame

BYTE_NS = 10_000_000_000 // BAUD
WRITE_NS = WRITE_SIZE * BYTE_NS
WARDEN_NS = 4 * WRITE_NS  # what it needs to send everything
SETUP_NS = 5 * BYTE_NS + REPLY_NS + MILLISECOND
GO = 123_456
NOT_STOPPED = "it did not stop"  # at the end of the run, and was killed: nothing follows from it
STAMP, SWING = range(2)


def judge(run: Run) -> list[str]:
    """Every violation, in words."""
    found = [*_ages(run), *_limits(run), *_silence(run), *_after_warden(run), *_at_the_end(run)]
    return [*found, *_losses(run), *_deaths(run), *_ending(run)]


def _frames(run: Run) -> list[Frame]:
    return run.emulator.frames


# --- at the wire ----------------------------------------------------------------------------------


def _ages(run: Run) -> Iterator[str]:
    """No command is older than fresh + command age when its last byte arrives. A joint that was
    free may be told to stay where it is."""
    made = run.setting
    limit = (made.fresh_ms + made.command_age_ms) * MILLISECOND + WRITE_NS
    for frame in _frames(run):
        number = frame.positions[STAMP]
        if frame.actions[STAMP] != Action.DRIVE:
            continue
        if not frame.torque[STAMP] and number == frame.before[STAMP]:
            continue
        captured = run.source.captured_ns.get(number)
        if captured is None:
            if number:
                yield f"at {_ms(run, frame.t_ns)}: number {number} was never captured"
        elif frame.t_ns - captured > limit:
            age = (frame.t_ns - captured) / MILLISECOND
            yield f"at {_ms(run, frame.t_ns)}: the command is {age:.2f} ms old"


def _limits(run: Run) -> Iterator[str]:
    """Range, and slew between two frames on the wire: a gap counts for two periods at most."""
    period = run.setting.every_ms * MILLISECOND
    last = None
    for frame in _frames(run):
        position = frame.positions[SWING]
        if frame.is_wardens or frame.actions[SWING] != Action.DRIVE:
            last = frame
            continue
        if abs(position) > RANGE:
            yield f"at {_ms(run, frame.t_ns)}: swing at {position}"
        passed = min(frame.t_ns - last.t_ns, 2 * period) if last is not None else 2 * period
        step = abs(position - frame.before[SWING])
        if not frame.torque[SWING]:
            passed = 2 * period
        if step > SLEW * passed // 1_000_000_000 + 1:
            yield f"at {_ms(run, frame.t_ns)}: swing moves by {step} in {passed} ns"
        last = frame


def _unplugged(run: Run) -> list[tuple[int, int]]:
    """When the bus was unplugged, from and to."""
    begin = run.executor.begin_ns
    faults = [f for f in run.setting.faults if f.kind == "unplug"]
    return [(begin + f.t_ns, begin + f.t_ns + f.amount_ns) for f in faults]


def _silence(run: Run) -> Iterator[str]:
    """A driven joint hears something at least every `limit`: from its owner, or the warden."""
    limit = max(100, 5 * run.setting.every_ms) * MILLISECOND + WARDEN_NS
    events = sorted([f.t_ns for f in _frames(run)] + run.emulator.setups)
    for frame in _frames(run):
        if Action.DRIVE not in frame.actions or frame.is_wardens:
            continue
        after = next((t for t in events if t > frame.t_ns), None)
        if after is None or after - frame.t_ns <= limit:
            continue
        if not any(a <= after and frame.t_ns <= b for a, b in _unplugged(run)):
            gap = (after - frame.t_ns) / MILLISECOND
            yield f"at {_ms(run, frame.t_ns)}: driven, then nothing for {gap:.1f} ms"


def _after_warden(run: Run) -> Iterator[str]:
    """After the warden's frames nothing comes from the owner, until the next life's set-up."""
    for frame, after in pairwise(_frames(run)):
        again = any(frame.t_ns < t < after.t_ns for t in run.emulator.setups)
        if frame.is_wardens and not after.is_wardens and not again:
            yield f"at {_ms(run, after.t_ns)}: a command after the warden's frames"
    held: set[int] = set()
    for frame in _frames(run):
        if frame.is_wardens:
            yield from _unsafe(run, frame, held)
        else:  # an owner that dies between a write and its noting leaves the one before as the last
            held = {frame.before[SWING], frame.positions[SWING]}


def _unsafe(run: Run, frame: Frame, held: set[int]) -> Iterator[str]:
    """held: where swing may be held."""
    safe, goal = run.setting.safe, frame.positions[SWING]
    if frame.actions[STAMP] == Action.DRIVE:
        yield "a safe frame drives stamp"
    if frame.actions[SWING] != Action.DRIVE:
        return
    if safe is SafeAction.FREE:
        yield "a safe frame drives swing, which must be free"
    elif goal not in ({GO} if safe is SafeAction.GO else held):
        yield f"a safe frame drives swing to {goal}"


def _at_the_end(run: Run) -> Iterator[str]:
    """Whatever happened: at the end the joints are as declared."""
    frames = _frames(run)
    last = frames[-1] if frames else None
    setup = run.emulator.setups[-1]
    if last is None or setup > last.t_ns or _is_lost(run):
        return
    held = {last.before[SWING]}
    if last.is_wardens:  # judged as such
        held = {last.positions[SWING]}
    yield from (f"at the end: {text}" for text in _unsafe(run, last, held))


def _is_lost(run: Run) -> bool:
    """Whether nothing has reached the bus since it was unplugged."""
    return any(a > run.emulator.last_byte_ns - WRITE_NS for a, _ in _unplugged(run))


# --- at the source and the sinks ------------------------------------------------------------------


def _losses(run: Run) -> Iterator[str]:
    """Every edge: sent = received + overwritten + refused + in flight, in payload numbers."""
    ledger, assembly = run.ledger, run.executor.assembly
    pairs = {spec.name: spec.after for spec in run.setting.relays}
    pairs["sample"] = run.setting.sampled
    delivered = run.executor.delivered("source.mark")
    undelivered = run.executor.processes.undelivered.get("source", 0)
    waiting = len(run.source.captured_ns) - delivered - undelivered
    if not 0 <= waiting <= 6:
        yield f"source: {len(run.source.captured_ns)} captured, {delivered} delivered"
    for number, edge in enumerate(run.plan.edges):
        name = edge.target.split(".")[0]
        if name not in pairs:
            continue
        stats, seen = assembly.edges[number], ledger.seen.get(name, [])
        sent = delivered if pairs[name] == "source" else ledger.made.get(pairs[name], 0)
        taken = sorted(set(seen))
        what = f"edge {edge.source} -> {edge.target}"
        if sent and taken and taken[-1] > max(sent, len(run.source.captured_ns)):
            yield f"{what}: number {taken[-1]} was never sent"
        if [n for n, _ in zip(seen, seen, strict=True)] != sorted(seen):
            yield f"{what}: out of order"
        if name != "sample" and len(taken) != len(seen):
            yield f"{what}: a message was given twice"
        if stats.received != len(taken):
            yield f"{what}: {stats.received} received, the node saw {len(taken)}"
        flying = assembly.in_flight(number)
        lost = sent - len(taken)
        if min(stats.overwritten, stats.refused, flying) < 0:
            yield f"{what}: a counter is negative: {stats.as_dict()}, in flight {flying}"
        reader = run.executor.processes.by_name[run.setting.process_of(name)]
        if flying and not reader.is_open and reader.supervision.causes:
            yield f"{what}: {flying} in flight to a dead process"
        if stats.overwritten + stats.refused + flying != lost:
            yield (
                f"{what}: sent {sent}, seen {len(taken)}, overwritten {stats.overwritten}, refused "
                f"{stats.refused}, in flight {flying}"
            )


# --- processes ------------------------------------------------------------------------------------


def _deaths(run: Run) -> Iterator[str]:
    """Dead is dead, and it lives again when its policy says so."""
    made = run.setting
    end = run.executor.ended_ns
    for t, process, cause in run.deaths:
        if not process or cause == NOT_STOPPED:
            continue
        policy = made.policies[process]
        earlier = sum(p == process and at < t for at, p, _ in run.deaths)
        if earlier >= policy.limit:
            if not any(name == process for name, _, _ in run.outcome.failures):
                yield f"at {_ms(run, t)}: {process} is used up, and not given up"
            continue
        gap = min(policy.backoff_ns * 2**earlier, policy.backoff_limit_ns)
        back = t + gap + made.start_ns
        for name, calls in run.ledger.calls.items():
            if made.process_of(name) == process and any(t < at < back for at in calls):
                yield f"at {_ms(run, t)}: {process} died ({cause}) and {name} was called"
        if back + SETUP_NS <= end:
            yield from _lives_again(run, process, t, back)


def _lives_again(run: Run, process: str, t: int, back: int) -> Iterator[str]:
    """The bus of an owner is set up in time, and the node at the source is called again."""
    made, emulator = run.setting, run.emulator
    if process == made.control_process and not _is_disturbed(run, process, t, back + SETUP_NS):
        run.restarts_judged += 1
        if not any(back <= setup <= back + SETUP_NS for setup in emulator.setups):
            by = _ms(run, back)
            yield f"at {_ms(run, t)}: {process} died, and its bus was not set up by {by}"
    first = made.relays[0]
    arrivals = [c + run.source.latency_ns for c in run.source.captured_ns.values()]
    heard = next((a for a in sorted(arrivals) if a > back + SETUP_NS), run.executor.ended_ns)
    if first.process != process or heard >= run.executor.ended_ns - MILLISECOND:
        return
    is_alone = all(spec.thread != first.thread for spec in made.relays[1:])
    if not is_alone or _is_disturbed(run, process, t, heard):
        return
    if first.places and any(f.kind in ("stop", "hang", "slow", "late") for f in made.faults):
        return  # a full queue after it may hold it back
    run.restarts_judged += 1
    calls = [c for c in run.ledger.calls.get(first.name, []) if c > t]
    if not calls or calls[0] > heard:
        yield f"at {_ms(run, t)}: {process} died, and {first.name} was not called again"


def _is_disturbed(run: Run, process: str, begin: int, end: int) -> bool:
    """Whether another fault keeps the process from living again in that time."""
    if any(begin < t <= end for t, p, _ in run.deaths if p == process):
        return True
    made = run.setting
    for fault in made.faults:
        since = run.executor.begin_ns + fault.t_ns
        if since > end or since + fault.amount_ns < begin:
            continue
        is_owner = process == made.control_process
        if (
            (fault.kind == "stop" and fault.target == process)
            or (fault.kind == "late" and made.process_of(fault.target) == process)
            or (fault.kind == "unplug" and is_owner)
        ):
            return True
    return False


def _ending(run: Run) -> Iterator[str]:
    """A run ends early for a reason that it tells, and for no other."""
    made, reason = run.setting, run.outcome.reason
    raisers = {f.target for f in made.faults if f.kind == "raise"}
    stops = {spec.name for spec in made.relays if spec.on_error == "stop"} & raisers
    for where, _, error in run.outcome.failures:
        if isinstance(error, NodeError):
            if not any(f"node {name}: it raised ValueError: made to raise" in str(error)
                       for name in stops):  # fmt: skip
                yield f"{where}: {error}"
        elif not any(str(error).startswith(f"process {p}: {c}; ") for _, p, c in run.deaths):
            yield f"{where}: {error}"
    whole = run.executor.ended_ns == run.executor.begin_ns + made.duration_ns
    if not whole and not reason:
        yield "it ended early without a reason"
    main = [cause for _, process, cause in run.deaths if not process and cause != NOT_STOPPED]
    if main and not whole and main[0] not in reason and not run.outcome.failures:
        yield f"the main process died ({main[0]}), and the reason is {reason!r}"


def _ms(run: Run, t_ns: int) -> str:
    return f"{(t_ns - run.executor.begin_ns) / MILLISECOND:.3f} ms"
