"""`haihe bench loop`: how late this machine wakes a thread, without any work to do.

A thread sleeps to the points of a grid, as a periodic lane does (runtime/exec/realtime.py). What a
control loop shows above this figure is its own; below it no software will get on this machine.
A wake-up later than a whole period is a miss; the loop goes on at the next grid point, no burst.
"""

import os
from array import array
from collections.abc import Sequence

import numpy as np

from haihe.bench.measure.contention import beside
from haihe.bench.measure.model import finish, on_cores, quiet_heap
from haihe.bench.measure.protocol import Result, Series
from haihe.bench.measure.stopwatch import KEPT
from haihe.bench.measure.surroundings import Usage, Watcher, fingerprint
from haihe.runtime.clock import SECOND, now_ns, sleep_until, wall_time_s
from haihe.runtime.errors import HaiheError

PRIORITY = 50


def measure_loop(
    rate_hz: float = 200.0,
    duration_ns: int = 5 * SECOND,
    *,
    realtime: bool = False,
    cores: tuple[int, ...] = (),
    loads: Sequence[str] = (),
) -> Result:
    """Lateness against the grid. realtime: SCHED_FIFO; raises HaiheError where it is refused."""
    if not 0.1 <= rate_hz <= 1e5:
        raise HaiheError(f"--rate {rate_hz:g}: expected 0.1 to 100000 Hz.")
    period = round(SECOND / rate_hz)
    with on_cores(cores), beside(loads) as done, quiet_heap(), Watcher() as watcher:
        if realtime:
            _be_realtime()
        try:
            usage = Usage()
            due, woken = _tick(period, duration_ns)
        finally:
            if realtime:
                os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    late = woken - due
    slots = int((due[-1] - due[0]) // period) + 1
    step = max(1, -(-len(late) // KEPT))
    kept, at = late[::step], (due - due[0])[::step]
    shown = f"haihe bench loop --rate {rate_hz:g} --duration {duration_ns / SECOND:g}s"
    result = Result(
        name="loop",
        command=shown + " --realtime" * realtime,
        settings={
            "load": "paced", "fps": rate_hz, "realtime": realtime, "cores": list(cores),
            "with": [load.rsplit("/", 1)[-1] for load in loads],
        },
        series=[Series("lateness", kept.tolist(), at_ns=at.tolist(), stride=step)],
        machine=fingerprint(),
        state=watcher.seen(),
        counts={
            "runs": len(late),
            "due": slots,
            "dropped": slots - len(late),
            "misses": int(np.sum(late >= period)),
            **usage.counts(),
            **{f"with_{key}": value for key, value in done.items()},
        },
        started=wall_time_s(),
    )  # fmt: skip
    finish(result, int(due[0]), len(late))
    return result


def _tick(
    period: int, duration_ns: int
) -> tuple["np.ndarray[tuple[int], np.dtype[np.int64]]", ...]:
    due, woken = array("q"), array("q")
    begun = now_ns()
    slot, last = 1, max(2, duration_ns // period)
    while slot <= last:
        release = begun + slot * period
        sleep_until(release)
        now = now_ns()
        due.append(release)
        woken.append(now)
        slot = max(slot + 1, (now - begun) // period + 1)
    return np.array(due, np.int64), np.array(woken, np.int64)


def _be_realtime() -> None:
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))
    except OSError as exc:
        raise HaiheError(
            f"--realtime: SCHED_FIFO is refused ({exc.strerror}). Give CAP_SYS_NICE, or an rtprio "
            "limit in /etc/security/limits.d."
        ) from exc
