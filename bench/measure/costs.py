"""Results into the user's cost file of this board; see boards/measured.py for what it is."""

import os
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from haihe.bench.measure.percentile import percentile
from haihe.bench.measure.protocol import Result
from haihe.bench.report.result import headline
from haihe.boards.measured import Cost, Costs, costs_path, read_costs
from haihe.runtime.errors import BoardError, HaiheError


def cost_of(result: Result) -> Cost:
    """The cost that a closed-loop result stands for."""
    series = headline(result)
    if series is None:
        raise HaiheError(f"{result.name}: no samples in it.")
    values = np.asarray(series.samples_ns)
    clocks = [max(state.frequency_khz) for state in result.state if state.frequency_khz]
    s = result.settings
    return Cost(
        s["sha256"], float(np.median(values)), percentile(values, 0.99), float(values.max()),
        len(values), result.counts["cpu_process_ns"], s["threads"], s["cores"], s["spin"],
        s["provider"], clocks[-1] if clocks else None, len(series.throttled), result.started,
        gil_held(result),
    )  # fmt: skip


def gil_held(result: Result) -> float | None:
    """The share of a run that the calling thread computes outside session.run, 0 to 1."""
    means = {s.stage: float(np.mean(s.samples_ns)) for s in result.series if s.samples_ns}
    cpu_ns, s = result.counts.get("cpu_thread_ns"), result.settings
    if cpu_ns is None or not {"infer", "total"} <= means.keys():
        return None
    if s["threads"] != 1 or s.get("streams", 1) != 1:
        return None
    return min(1.0, max(0.0, (cpu_ns - means["infer"]) / means["total"]))


def write_costs(results: Sequence[Result], path: Path | None = None) -> Path:
    """Put the costs of results into the file of their board, in place of older ones with the same
    settings. Raises HaiheError on an emulated machine and where the load was not the plain one."""
    for result in results:
        if result.machine.is_emulated:
            raise HaiheError(f"{result.name}: an emulated machine has no costs.")
        if result.settings.get("load") != "closed" or result.settings.get("with"):
            raise HaiheError(f"{result.name}: costs are those of a closed loop, nothing beside it.")
    machine = results[0].machine
    board = machine.board or "generic"
    path = path or costs_path(board)
    costs = read_costs(path) or Costs(board, machine)
    if costs.board != board:
        raise BoardError(f"{path}: costs of {costs.board}, this is {board}. Name another file.")
    costs.machine = machine
    for result in results:
        cost = cost_of(result)
        known = costs.models.setdefault(result.name.removeprefix("model "), [])
        known[:] = [one for one in known if _setting(one) != _setting(cost)] + [cost]
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_bytes(msgspec.json.format(msgspec.json.encode(costs), indent=1))
    fresh.replace(path)
    return path


def _setting(cost: Cost) -> tuple[object, ...]:
    return cost.threads, cost.cores, cost.spin, cost.provider
