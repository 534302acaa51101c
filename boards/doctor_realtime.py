"""Checks of `haihe doctor` on real time: which of what an executor asks (runtime/exec/
realtime_settings.py) this machine refuses, and what else disturbs a control loop here.

Sources: sched(7), mlockall(2), limits.conf(5), and the kernel's admin-guide/kernel-parameters.
"""

import re
from collections.abc import Iterator

from haihe.boards.cores import cpu_list
from haihe.boards.doctor_facts import Facts, Finding

PRIORITY = 80  # as the units of the documentation have it at most
LIMITS = "/etc/security/limits.d/haihe.conf, then log out and in again"
PERIOD_US = 1_000_000
LEAST_SHARE = 0.9
CORES_TO_SPARE = 4  # with fewer, one that is kept free is missed elsewhere

Check = Iterator[Finding]


def priorities(facts: Facts) -> Check:
    session = facts.session
    if session is None:
        return
    if session.can_nice or session.rtprio_now:
        yield Finding("real time", "ok", "allowed")
    elif session.rtprio:
        yield Finding(
            "real time",
            "warning",
            "no right to real-time priorities in this session: its limit is 0, though it may raise "
            "it",
            f"ulimit -r {PRIORITY if session.rtprio < 0 else session.rtprio}, in the shell that "
            "starts haihe",
        )
    else:
        yield Finding(
            "real time",
            "warning",
            "no right to real-time priorities: other programs delay control",
            f"echo '{session.user} - rtprio {PRIORITY}' | sudo tee -a {LIMITS}; in a service: "
            f"LimitRTPRIO={PRIORITY}; in a container: --cap-add SYS_NICE",
        )


def locking(facts: Facts) -> Check:
    session = facts.session
    if session is None:
        return
    if session.can_lock or session.memlock_bytes < 0:
        yield Finding("memory lock", "ok", "allowed")
    else:
        yield Finding(
            "memory lock",
            "note",
            f"at most {session.memlock_bytes >> 10} kB may be locked: under pressure the memory of "
            "control is paged out, and comes back milliseconds late",
            f"echo '{session.user} - memlock unlimited' | sudo tee -a {LIMITS}; in a service: "
            "LimitMEMLOCK=infinity; in a container: --ulimit memlock=-1",
        )


def throttling(facts: Facts) -> Check:
    folder = "/proc/sys/kernel"
    runtime = facts.files.number(f"{folder}/sched_rt_runtime_us")
    if runtime is None:
        return
    period = facts.files.number(f"{folder}/sched_rt_period_us") or PERIOD_US
    share = runtime / period
    cure = f"sudo sysctl kernel.sched_rt_runtime_us={round(0.95 * period)}"
    if share < 0:
        yield Finding(
            "real-time share",
            "warning",
            "no limit on real-time threads: one that never waits takes its core from all others",
            cure,
        )
    elif share < LEAST_SHARE:
        yield Finding(
            "real-time share",
            "warning",
            f"real-time threads are stopped after {share:.0%} of each {period / 1e6:g} s",
            cure,
        )
    else:
        yield Finding("real-time share", "ok", f"{share:.0%}")


def cores(facts: Facts) -> Check:
    count = len(facts.found.cores)
    isolated = facts.files.text("/sys/devices/system/cpu/isolated", 64)
    if re.fullmatch(r"[0-9,-]+", isolated):
        yield Finding("isolation", "ok", f"CPU {isolated} is kept free of other programs")
    elif count >= CORES_TO_SPARE:
        last = facts.found.cores[-1].cpu
        yield Finding(
            "isolation",
            "note",
            "no CPU is kept free of other programs",
            f"For a lane of 1 kHz: isolcpus={last} on the kernel's command line, and `threads: "
            f"{{LANE: {{core: {last}, priority: 50}}}}` in the unit profile.",
        )
    session = facts.session
    if session is not None and session.cpus and len(session.cpus) < count and not isolated:
        yield Finding(
            "cpus",
            "note",
            f"this session may use CPU {cpu_list(list(session.cpus))} only, of {count}",
            "See taskset, the cpuset of its cgroup, or --cpuset-cpus of its container.",
        )


def kernel(facts: Facts) -> Check:
    if facts.files.text("/sys/kernel/realtime", 8) == "1":
        yield Finding("kernel", "ok", "PREEMPT_RT")
