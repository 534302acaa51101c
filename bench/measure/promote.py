"""The maintainer's way of a user's cost file into the tree: checked, and written as YAML.

python -m haihe.bench.measure.promote COSTS.json     # to boards/costs/BOARD.yaml
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import yaml

from haihe.bench.measure.percentile import samples_needed
from haihe.boards.measured import FOLDER as FOLDER
from haihe.boards.measured import PROTOCOL, Cost, Costs, read_costs
from haihe.runtime import registry
from haihe.runtime.errors import BoardError, HaiheError

LEAST = samples_needed(0.99)
THROTTLED = 0.05  # of the samples, at most


def problems(costs: Costs) -> Iterator[str]:
    """What stands against a cost file, all of it."""
    machine = costs.machine
    if machine.is_emulated:
        yield "an emulated machine has no costs"
    if machine.is_virtual:
        yield "measured in a virtual machine, not on the board itself"
    if costs.board not in registry.data_names("board"):
        yield f"board {costs.board!r} is not known: write its compute profile first"
    elif costs.board.startswith("generic"):
        yield f"board {costs.board!r} is any machine of its kind: its costs say nothing of another"
    if machine.board != costs.board:
        yield f"the file is of {costs.board!r}, its machine of {machine.board!r}"
    if costs.protocol != PROTOCOL:
        yield f"protocol {costs.protocol!r}, expected {PROTOCOL!r}"
    if not any(costs.models.values()):
        yield "no model in it"
    for model, rows in costs.models.items():
        for cost in rows:
            yield from (f"{model}, {_setting(cost)}: {text}" for text in _of_row(cost))


def _of_row(cost: Cost) -> Iterator[str]:
    if cost.samples < LEAST:
        yield f"{cost.samples} samples, {LEAST} are wanted (--time-limit gives it longer)"
    elif cost.throttled > THROTTLED * cost.samples:
        yield f"{cost.throttled} of {cost.samples} samples were taken throttled"
    if cost.p99_ns is None:
        yield "no p99"
    elif not 0 < cost.p50_ns <= cost.p99_ns <= cost.max_ns:
        yield "p50, p99 and the largest are not in order"
    if cost.cpu_ns <= 0:
        yield "no CPU time"
    if len(cost.sha256) != 64:
        yield "no SHA-256 of the model"


def promote(source: Path, folder: Path = FOLDER) -> Path:
    """Check a user's cost file and write BOARD.yaml, in place of an older one. Raises BoardError
    with everything that stands against it."""
    costs = read_costs(source)
    if costs is None:
        raise BoardError(f"{source}: no such file. Costs come from haihe bench model X --sweep.")
    found = list(problems(costs))
    if found:
        raise BoardError(f"{source}: not promoted: {'; '.join(found)}.")
    path = folder / f"{costs.board}.yaml"
    head = "# Measured on the board; written by python -m haihe.bench.measure.promote\n"
    body = yaml.safe_dump(msgspec.to_builtins(costs), sort_keys=False, allow_unicode=True)
    path.write_text(head + body, encoding="utf-8")
    return path


def _setting(cost: Cost) -> str:
    cores = ",".join(map(str, cost.cores)) or "all"
    return f"{cost.threads} threads on cores {cores}, {cost.provider}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Promote one file; exit code 1 when something stands against it."""
    parser = argparse.ArgumentParser(prog="python -m haihe.bench.measure.promote")
    parser.add_argument("costs", type=Path, metavar="COSTS.json")
    try:
        print(promote(parser.parse_args(arguments).costs))
    except HaiheError as exc:
        print(f"{type(exc).__name__}: {exc}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
