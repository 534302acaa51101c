"""The budget of every node: declared, measured on this board, or estimated from elsewhere.

A maximum of n runs is a budget that was not exceeded n times; n says how much that means: with 95 %
confidence it is above the p99 from 298 runs on, above the p99.9 from 2,995 on. A percentile as a
budget is exceeded by its definition, so what rests on one is `expected` at most.
"""

import hashlib
import math
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from haihe.boards.compute_profile import ComputeProfile, all_profiles
from haihe.boards.measured import Cost, Costs, all_costs
from haihe.boards.published import Row, rows
from haihe.pipelines.check.measure import Measured
from haihe.pipelines.check.report import Budget
from haihe.pipelines.launch import Prepared
from haihe.runtime.errors import ModelError
from haihe.runtime.graph import NodeUse
from haihe.runtime.plan.model import StepPlan

ENOUGH = 298  # runs: the largest of them is above the p99 with 95 % confidence


class Board(msgspec.Struct, frozen=True):
    """The board that is checked. is_here: it is this machine. clock_khz: of its fastest cores, 0:
    not known. machine: its kind, "aarch64"."""

    name: str
    clock_khz: int = 0
    is_here: bool = False
    machine: str = ""


class Here(msgspec.Struct, frozen=True):
    """Measured in this very check, on this machine, whose clock is clock_khz (0: not known)."""

    board: str
    clock_khz: int
    nodes: dict[str, Measured]
    machine: str = ""


def clock_of(profile: ComputeProfile) -> int:
    """The clock of a board's fastest cores in kHz; where boards differ, the slowest of them."""
    return max((round(min(c.ghz) * 1e6) for c in profile.cores if c.ghz), default=0)


def node_budgets(
    prepared: Prepared,
    board: Board,
    declared: Mapping[str, int],
    here: Here | None = None,
) -> dict[str, Budget]:
    """The budget of every node. declared: those of the command line, which win. Raises BoardError
    for a damaged cost file."""
    costs: list[Costs] | None = None
    found: dict[str, Budget] = {}
    for lane in prepared.plan.lanes:
        for step in lane.task.steps:
            if step.select:
                found[step.name] = Budget(step.name, 0, "measured", "calls nothing")
                continue
            use = prepared.graph.nodes[step.name]
            limit = declared.get(step.name, step.budget_ns)
            told = use.contract.held_ns
            model = _model_of(use)
            if model is not None and costs is None:
                costs = list(all_costs())
            known = _candidates(model, costs or [], board) if model is not None else None
            if limit:
                held = min(limit, told or round(limit * _held_share(known, here, step.name)))
                said = "declared here" if step.name in declared else "declared"
                is_told = told is not None or known is None or known.held is not None
                is_told = is_told or (here is not None and step.name in here.nodes)
                note = "" if is_told else _unknown_hold(step.name)
                found[step.name] = Budget(step.name, limit, "declared", said, held, note=note)
                continue
            budget = (
                (known and known.measured)
                or _measured_here(step, board, here)
                or (known and known.estimated)
                or _missing(step, board, here)
            )
            if told is not None and budget.ns is not None:
                budget = msgspec.structs.replace(budget, held_ns=min(told, budget.ns))
            found[step.name] = budget
    return found


class _Model(msgspec.Struct):
    name: str
    sha256: str
    threads: int


class _Known(msgspec.Struct):
    """What cost files and published rows say of a model on a board."""

    measured: Budget | None = None
    estimated: Budget | None = None
    held: float | None = None


def _model_of(use: NodeUse) -> _Model | None:
    """The model behind a node, if it is a detector with a manifest."""
    from haihe.models.detector import Detector

    if not isinstance(use.instance, Detector):
        return None
    from haihe.models.manifest import find_manifest

    try:
        manifest = find_manifest(use.instance.model)
    except ModelError:
        return None  # `findings` tells it, and there is no cost to look for
    sha256 = manifest.sha256
    if not sha256:
        path = Path(manifest.where.file).parent / manifest.file
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
    return _Model(manifest.model, sha256, use.instance.threads)


def _candidates(model: _Model, files: list[Costs], board: Board) -> _Known:
    known = _Known()
    elsewhere: list[tuple[Costs, Cost]] = []
    for costs in files:
        for cost in costs.of(model.sha256):
            if cost.threads != model.threads or cost.spin:
                continue
            if known.held is None:
                known.held = cost.gil_held
            if costs.board == board.name and known.measured is None:
                known.measured = _of_cost(model, cost)
            elif costs.board != board.name:
                elsewhere.append((costs, cost))
    estimates = [_scaled_cost(model, costs, cost, board) for costs, cost in elsewhere]
    estimates = [estimate for estimate in estimates if estimate is not None]
    if not estimates:
        estimates = [_scaled_row(model, row, board) for row in _rows_of(model)]
    known.estimated = max(
        (estimate for estimate in estimates if estimate is not None),
        key=lambda estimate: estimate.ns or 0,
        default=None,
    )
    return known


def _held_share(known: _Known | None, here: Here | None, node: str) -> float:
    """The share of a declared budget in which the node holds the interpreter; 1: nobody knows."""
    if here is not None and node in here.nodes:
        return here.nodes[node].held_share
    return 1.0 if known is None or known.held is None else known.held


def _of_cost(model: _Model, cost: Cost) -> Budget:
    ns = math.ceil(cost.max_ns)
    return Budget(
        model.name, ns, "measured", f"measured, max of {count(cost.samples)}",
        _held(ns, cost.gil_held), cost.samples, few(cost.samples, model.name),
        "" if cost.gil_held is not None else _unknown_hold(model.name),
    )  # fmt: skip


def few(samples: int, name: str) -> str:
    """Why a maximum of so many runs makes no more than `expected`; empty when it does."""
    return "" if samples >= ENOUGH else f"{samples} runs of {name} are few"


def count(samples: int) -> str:
    """A number of samples for a column: 89, 4.1k."""
    return f"{samples}" if samples < 1000 else f"{samples / 1000:.3g}k"


def _held(ns: int, share: float | None) -> int:
    return ns if share is None else math.ceil(ns * share)


def _unknown_hold(name: str) -> str:
    return f"{name} holds the interpreter all its time, which nobody measured"


def _measured_here(step: StepPlan, board: Board, here: Here | None) -> Budget | None:
    found = here.nodes.get(step.name) if here is not None else None
    if found is None or here is None:
        return None
    held = math.ceil(found.worst_ns * found.held_share)
    said = f"measured here, max of {count(found.samples)}"
    if board.is_here:
        weak = few(found.samples, step.name)
        return Budget(step.name, found.worst_ns, "measured", said, held, found.samples, weak)
    ratio = _ratio(here.clock_khz, board.clock_khz)
    if ratio is None:
        return None
    return Budget(
        step.name, math.ceil(found.worst_ns * ratio), "estimated",
        f"{here.board} ×{ratio:.2f} (e)", math.ceil(held * ratio), found.samples, "",
        f"{step.name}: {said}, scaled by clock alone ({_clocks(here.clock_khz, board)})"
        f"{_kinds(here.machine, board)}",
    )  # fmt: skip


def _scaled_cost(model: _Model, costs: Costs, cost: Cost, board: Board) -> Budget | None:
    source = cost.clock_khz or _profile_clock(costs.board)
    ratio = _ratio(source, board.clock_khz)
    if ratio is None:
        return None
    ns = math.ceil(cost.max_ns * ratio)
    note = (
        f"{model.name}: max of {count(cost.samples)} on {costs.board}, scaled by clock alone "
        f"({_clocks(source, board)})"
    )
    return Budget(
        model.name, ns, "estimated", f"{costs.board} ×{ratio:.2f} (e)", _held(ns, cost.gil_held),
        cost.samples, "", note,
    )  # fmt: skip


def _scaled_row(model: _Model, row: Row, board: Board) -> Budget | None:
    source = _profile_clock(row.board)
    ratio = 1.0 if row.board == board.name else _ratio(source, board.clock_khz)
    if ratio is None:
        return None
    how = "" if row.board == board.name else f", scaled by clock alone ({_clocks(source, board)})"
    return Budget(
        model.name, math.ceil(row.value * 1e6 * ratio), "estimated",
        f"published, {row.board} ×{ratio:.2f} (e)", 0, 0, "",
        f"{model.name}: {row.timed}, {row.machine}, {row.setting} [{row.source}]: a mean, not a "
        f"worst case{how}",
    )  # fmt: skip


def _rows_of(model: _Model) -> Iterable[Row]:
    plain = "".join(c for c in model.name.casefold() if c.isalnum())
    for row in rows():
        on_cores = "thread" in row.setting or "CPU" in row.setting
        same = "".join(c for c in row.model.casefold() if c.isalnum()) == plain
        if same and on_cores and row.unit == "ms" and row.board:
            yield row


def _profile_clock(board: str) -> int:
    return next((clock_of(p) for p in all_profiles()[0] if p.board == board), 0)


def _ratio(source_khz: int, target_khz: int) -> float | None:
    return source_khz / target_khz if source_khz and target_khz else None


def _kinds(machine: str, board: Board) -> str:
    """Cores of another kind do another amount of work at the same clock."""
    if not machine or not board.machine or machine == board.machine:
        return ""
    return f", from {machine} to {board.machine}: a guess"


def _clocks(source_khz: int, board: Board) -> str:
    return f"{source_khz / 1e6:.2g} GHz to {board.clock_khz / 1e6:.2g} GHz"


def _missing(step: StepPlan, board: Board, here: Here | None) -> Budget:
    declare = '@node(budget="2ms"), or --budget NODE=2ms'
    if here is None:
        cure = f"add --measure 5s to measure it here, or declare it: {declare}"
    elif step.name not in here.nodes:
        cure = f"it was never called here: measure longer, or declare it: {declare}"
    else:
        cure = (
            f"what it takes here cannot be scaled, because the clock of {board.name} or of this "
            f"machine is not known: check it there with --measure 5s, or declare it: {declare}"
        )
    return Budget(step.name, None, "missing", "no budget", cure=cure)
