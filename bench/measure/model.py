"""`haihe bench model`: one model, one load, one machine, as a Result.

Order: fingerprint, load, first run, golden outputs, warm-up until flat, the measured runs beside
the watcher and whatever else was asked to run, then the profile. Load, first and warm-up are
outside every series.
"""

import dataclasses
import gc
import os
import shlex
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from haihe.bench.measure.contention import beside
from haihe.bench.measure.golden import LEAST_COSINE, check_golden, save_golden
from haihe.bench.measure.operators import profile
from haihe.bench.measure.protocol import Result
from haihe.bench.measure.session import Opening
from haihe.bench.measure.stats import half_width
from haihe.bench.measure.stopwatch import KEPT, Timed, Until, closed, paced, streams, warm_up
from haihe.bench.measure.subject import Subject, open_subject
from haihe.bench.measure.surroundings import (
    Usage,
    Watcher,
    energy_j,
    fingerprint,
    mark_throttled,
    memory_bytes,
)  # fmt: skip
from haihe.models.backends.base import Shape
from haihe.runtime.clock import SECOND, wall_time_s
from haihe.runtime.errors import ModelError

QUIET_LOAD = 0.3  # per core, before the run


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to measure. fps 0: closed loop. soak_ns above 0: that long, whatever is known."""

    model: str
    image: str = ""
    threads: int = 1
    spin: bool = False
    provider: str = ""
    cores: tuple[int, ...] = ()
    shapes: dict[str, Shape] = dataclasses.field(default_factory=dict)
    fps: float = 0.0
    streams: int = 1
    beside: tuple[str, ...] = ()
    profile: bool = False
    golden: str = ""
    save_golden: str = ""
    least_cosine: float = LEAST_COSINE
    time_limit_ns: int = 10 * SECOND
    soak_ns: int = 0
    loadgen: bool = False
    label: str = ""

    @property
    def load(self) -> str:
        """`closed`, `paced`, or `loadgen`."""
        return "loadgen" if self.loadgen else "paced" if self.fps else "closed"

    def opening(self) -> Opening:
        """How to open the model."""
        return Opening(self.threads, self.spin, self.provider, dict(self.shapes))

    def command(self) -> str:
        """The line that repeats it; folders are left out, they may name a person."""
        words = ["haihe", "bench", "model", _short(self.model)]
        flags: list[tuple[str, object]] = [
            ("--image", _short(self.image)),
            ("--threads", self.threads if self.threads > 1 else ""),
            ("--provider", self.provider),
            ("--cores", ",".join(map(str, self.cores))),
            ("--paced", f"{self.fps:g}" if self.fps else ""),
            ("--streams", self.streams if self.streams > 1 else ""),
            ("--with", ",".join(_short(name) for name in self.beside)),
            ("--soak", f"{self.soak_ns / SECOND:g}s" if self.soak_ns else ""),
        ]  # fmt: skip
        for name, value in flags:
            words += [name, str(value)] if value != "" else []
        for name, shape in self.shapes.items():
            words += ["--shape", f"{name}={'x'.join(map(str, shape))}"]
        words += ["--spin"] * self.spin + ["--loadgen"] * self.loadgen
        return shlex.join(words)


Run = Callable[["Settings", list[Subject], Until], Timed]


def measure(settings: Settings, run: Run | None = None) -> Result:
    """Run it. Raises ModelError for a model, provider or golden file that cannot be used. run:
    what makes the measured runs, where it is not to be done in one go."""
    if settings.streams < 1 or settings.fps < 0:
        raise ModelError("--streams wants 1 or more, --paced a rate above 0.")
    with ExitStack() as stack:
        stack.enter_context(on_cores(settings.cores))
        rss_before = memory_bytes()[0]
        subjects = [open_subject(settings.model, settings.opening(), settings.image)]
        first = subjects[0]
        stack.callback(first.close)
        first.session.time_first()
        likeness = _golden(settings, first)
        done = stack.enter_context(beside(settings.beside))
        for _ in range(settings.streams - 1):
            subjects.append(open_subject(settings.model, settings.opening(), settings.image))
            stack.callback(subjects[-1].close)
        limit = settings.soak_ns or settings.time_limit_ns
        warm_runs, is_warm = warm_up(first.stages, min(30 * SECOND, limit // 4))
        until = Until(limit, min(SECOND, limit // 2))
        if settings.soak_ns:
            until = Until(limit, limit)
        usage = Usage()
        with quiet_heap(), Watcher() as watcher:
            timed = (run or run_load)(settings, subjects, until)
        rss_now, rss_peak = memory_bytes()
        providers = first.session.count_nodes() or {first.session.provider: 0}
        operators = (
            profile(first.path, settings.opening(), first.session) if settings.profile else []
        )
        stack.close()  # the loads beside it say what they did
    result = Result(
        name=f"model {first.name}",
        command=settings.command(),
        settings=_settings(settings, first),
        series=timed.series(),
        machine=fingerprint(),
        state=watcher.seen(),
        counts={
            "load_ns": first.session.load_ns,
            "first_ns": first.session.first_ns,
            "warm_runs": warm_runs,
            "runs": timed.runs,
            "seconds": timed.seconds,
            "cpu_thread_ns": timed.thread_cpu_ns / timed.runs,
            "cpu_process_ns": timed.process_cpu_ns / timed.runs,
            "rss_before_bytes": rss_before,
            "rss_bytes": rss_now,
            "rss_peak_bytes": rss_peak,
            **usage.counts(),
            **likeness,
            **{f"with_{key}": value for key, value in done.items()},
        },
        providers=providers,
        warnings=list(first.warnings),
        started=wall_time_s(),
        operators=operators,
    )
    if settings.fps:
        result.counts |= {"dropped": timed.dropped, "due": timed.runs + timed.dropped}
    finish(result, int(timed.stamps[0, 0]), timed.runs)
    if not is_warm:
        result.warnings.append("the time of a run was still changing when the measurement began")
    if until.reason == "time limit" and not settings.soak_ns:
        rows = timed.stamps[-KEPT:]
        width = half_width(rows[:, -1] - rows[:, 0])
        if width > until.precision:
            known = f"to {100 * width:.1f} %" if width < 10 else "badly"
            result.warnings.append(
                f"time was up: the median is known {known}, {100 * until.precision:g} % was wanted "
                "(--time-limit gives it longer)"
            )
    return result


def run_load(settings: Settings, subjects: list[Subject], until: Until) -> Timed:
    """The measured runs, in the shape that the settings say."""
    period_ns = round(SECOND / settings.fps) if settings.fps else 0
    if settings.loadgen:
        from haihe.bench.measure.loadgen import single_stream

        return single_stream(subjects[0].stages, until.limit_ns)
    if len(subjects) > 1:
        return streams([subject.stages for subject in subjects], until, period_ns)
    if period_ns:
        return paced(subjects[0].stages, period_ns, until)
    return closed(subjects[0].stages, until)


def finish(result: Result, start_ns: int, runs: int) -> None:
    """Marks, energy and the warnings that the machine gives. start_ns: of the first sample."""
    states = result.state
    marked = mark_throttled(result.series, states, start_ns)
    energy = energy_j(states)
    if energy is not None and runs:
        result.counts["energy_j"] = energy / runs
    if marked:
        result.warnings.append(
            f"{marked} of {len(result.series[0].samples_ns)} samples were taken throttled or at "
            "another clock than the first"
        )
    if result.machine.is_emulated:
        result.warnings.append("this machine is emulated: no time here means anything")
    for state in states[:1]:
        if state.governor not in (None, "", "performance"):
            result.warnings.append(f"frequency governor {state.governor}: clocks follow the load")
        cores = os.cpu_count() or 1
        if state.load is not None and state.load > QUIET_LOAD * cores:
            result.warnings.append(f"other work: load {state.load:.1f} on {cores} cores before it")


def _golden(settings: Settings, subject: Subject) -> dict[str, float]:
    if settings.save_golden:
        save_golden(subject.session, Path(settings.save_golden))
    if not settings.golden:
        return {}
    found = check_golden(subject.session, Path(settings.golden), settings.least_cosine)
    return {"cosine": found.cosine, "largest_difference": found.difference}


def _settings(settings: Settings, subject: Subject) -> dict[str, Any]:
    return {
        "model": subject.path.name,
        "sha256": subject.sha256,
        "manifest": subject.manifest,
        "load": settings.load,
        "fps": settings.fps,
        "streams": settings.streams,
        "with": [_short(name) for name in settings.beside],
        "threads": settings.threads,
        "spin": settings.spin,
        "provider": subject.session.provider,
        "cores": list(settings.cores),
        "input": subject.input,
        "shapes": {spec.name: list(spec.shape) for spec in subject.session.inputs},
        "soak_s": settings.soak_ns / SECOND,
        "label": settings.label,
    }


@contextmanager
def on_cores(cores: tuple[int, ...]) -> Iterator[None]:
    """Keep this thread, and those it starts, on these cores. Raises ModelError."""
    before = os.sched_getaffinity(0)
    if cores:
        try:
            os.sched_setaffinity(0, cores)
        except (OSError, ValueError) as exc:
            allowed = ",".join(map(str, sorted(before)))
            raise ModelError(f"--cores {','.join(map(str, cores))}: allowed {allowed}.") from exc
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def quiet_heap() -> Iterator[None]:
    """No full garbage collection inside: it takes tens of ms, and is not the model's."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _short(path: str) -> str:
    return path.rsplit("/", 1)[-1]
