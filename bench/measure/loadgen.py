"""MLPerf's LoadGen as the load, where `mlcommons-loadgen` is installed.

    pip install mlcommons-loadgen        (no aarch64 wheel for every Python: then it is built)

SingleStream: one query at a time, the next when the last has ended. It costs some 8 µs a query.
The run is short: it says what LoadGen sees, and is no MLPerf result (those take 600 s).
"""

import importlib
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from haihe.bench.measure.stopwatch import Stage, Timed, Watch
from haihe.runtime.errors import ModelError

QUERIES, PROBES = 64, 5  # the least


def single_stream(stages: Sequence[Stage], limit_ns: int) -> Timed:
    """Runs that LoadGen asks for, over that time. Raises ModelError when it is not installed, or
    calls its run invalid."""
    try:
        lg: Any = importlib.import_module("mlperf_loadgen")
    except ModuleNotFoundError as exc:
        raise ModelError(
            "--loadgen: mlcommons-loadgen is not installed. Run: pip install mlcommons-loadgen"
        ) from exc

    probe = Watch(stages)
    for _ in range(PROBES):
        probe.run()
    stamps = probe.end().stamps
    quickest = int((stamps[:, -1] - stamps[:, 0]).min())
    watch = Watch(stages)

    def issue(samples: Any) -> None:
        for sample in samples:
            watch.run()
            lg.QuerySamplesComplete([lg.QuerySampleResponse(sample.id, 0, 0)])

    settings = lg.TestSettings()
    settings.scenario = lg.TestScenario.SingleStream
    settings.mode = lg.TestMode.PerformanceOnly
    settings.min_duration_ms = limit_ns // 1_000_000
    settings.min_query_count = QUERIES
    # It makes up its queries beforehand: enough of them to fill the time.
    settings.single_stream_expected_latency_ns = max(1, quickest)
    system = lg.ConstructSUT(issue, lambda: None)
    library = lg.ConstructQSL(1, 1, lambda _: None, lambda _: None)
    try:
        with tempfile.TemporaryDirectory() as folder:
            logs = lg.LogSettings()
            logs.log_output.outdir = folder
            logs.log_output.copy_summary_to_stdout = False
            lg.StartTestWithLogSettings(system, library, settings, logs)
            timed = watch.end()
            summary = (Path(folder) / "mlperf_log_summary.txt").read_text(encoding="utf-8")
    finally:
        lg.DestroyQSL(library)
        lg.DestroySUT(system)
    if "Result is : VALID" not in summary:
        said = next((line for line in summary.splitlines() if "Result is" in line), "no verdict")
        raise ModelError(f"--loadgen: {said.strip()}. Give it longer with --time-limit.")
    return timed
