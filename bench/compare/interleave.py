"""Two benchmarks that take turns: A B B A A B B A ..., in bursts of some 0.15 s.

Each is a process of its own that opens its model, warms up, and then runs a burst whenever it is
told to; so both see the same drifts of the machine, and what slows both cancels.

    python -m haihe.bench.compare.interleave        (a worker: settings, then orders, on its input)
"""

import contextlib
import dataclasses
import json
import subprocess
import sys
from collections.abc import Sequence

import msgspec
import numpy as np

from haihe.bench.compare.verdict import MARGIN, Bursts, Verdict, compare
from haihe.bench.measure.model import Settings, measure, run_load
from haihe.bench.measure.protocol import Result, to_json
from haihe.bench.measure.stopwatch import Timed, Until
from haihe.bench.measure.subject import Subject
from haihe.runtime.clock import MILLISECOND, SECOND, now_ns
from haihe.runtime.errors import HaiheError, ModelError

BURST_NS = 150 * MILLISECOND
BURST_MOST = 100  # runs in a burst, about
PAIRS_MOST = 100
LEAST_PAIRS = 12


class Report(msgspec.Struct):
    """What a worker gives at the end. bursts: runs in each."""

    bursts: list[int]
    result: Result


def take_turns(
    a: Settings, b: Settings, margin: float = MARGIN, q: float = 0.5, limit_ns: int = 20 * SECOND
) -> tuple[Verdict, Result, Result]:
    """Run both, and judge. At least twelve pairs are run, whatever the limit. Raises ModelError."""
    with contextlib.ExitStack() as stack:
        workers = [stack.enter_context(_Worker(settings)) for settings in (a, b)]
        for worker in workers:
            worker.expect("ready")
        begun, pair = now_ns(), 0
        while pair < LEAST_PAIRS or (pair < PAIRS_MOST and now_ns() - begun < limit_ns):
            for index in (0, 1) if pair % 2 == 0 else (1, 0):
                workers[index].order("go")
                workers[index].expect("done")
            pair += 1
        reports = [worker.finish() for worker in workers]
    bursts = _bursts(reports[0]), _bursts(reports[1])
    results = reports[0].result, reports[1].result
    return compare(*results, margin, q, bursts), *results


def _bursts(report: Report) -> Bursts:
    cuts = np.cumsum(report.bursts)[:-1]
    return {s.stage: np.split(np.asarray(s.samples_ns), cuts) for s in report.result.series}


class _Worker:
    def __init__(self, settings: Settings) -> None:
        self._name = settings.model
        self._process = subprocess.Popen(
            [sys.executable, "-m", "haihe.bench.compare.interleave"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.order(json.dumps(dataclasses.asdict(settings)))

    def __enter__(self) -> "_Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def order(self, line: str) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()

    def read(self) -> str:
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        line = self._process.stdout.readline()
        if not line:
            said = self._process.stderr.read().strip().splitlines()
            raise ModelError(said[-1] if said else f"{self._name}: its process ended")
        return line

    def expect(self, word: str) -> None:
        found = self.read().strip()
        if found != word:
            raise ModelError(f"{self._name}: its process said {found!r}, expected {word!r}.")

    def finish(self) -> Report:
        self.order("end")
        return msgspec.json.decode(self.read(), type=Report)


def serve(orders: Sequence[str] | None = None) -> int:
    """The worker."""
    lines = iter(orders if orders is not None else sys.stdin)
    given = msgspec.json.decode(next(lines), type=Settings)
    sizes: list[int] = []

    def run(settings: Settings, subjects: list[Subject], until: Until) -> Timed:
        print("ready", flush=True)
        parts: list[Timed] = []
        for line in lines:
            if line.strip() != "go":
                break
            for subject in subjects:  # wake caches and clocks: not measured
                for _, call in subject.stages:
                    call()
            until = Until(BURST_NS, BURST_NS, most=BURST_MOST)
            part = run_load(settings, subjects, until)
            sizes.append(part.runs)
            parts.append(part)
            print("done", flush=True)
        return join(parts)

    try:
        result = measure(given, run)
    except HaiheError as exc:
        print(exc, file=sys.stderr)
        return 1
    result.warnings = [text for text in result.warnings if not text.startswith("time was up")]
    report = Report(sizes, msgspec.json.decode(to_json(result), type=Result))
    print(msgspec.json.encode(report).decode(), flush=True)
    return 0


def join(parts: Sequence[Timed]) -> Timed:
    """Bursts one after the other as one."""
    return Timed(
        parts[0].stages,
        np.concatenate([part.stamps for part in parts]),
        sum(part.seconds for part in parts),
        sum(part.thread_cpu_ns for part in parts),
        sum(part.process_cpu_ns for part in parts),
        sum(part.dropped for part in parts),
        kept=sum(part.runs for part in parts),  # bursts stay whole
    )


if __name__ == "__main__":
    raise SystemExit(serve())
