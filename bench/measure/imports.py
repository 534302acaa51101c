"""`haihe bench import`: results of pytest-benchmark in the same document.

They were measured by another method (no warm-up until flat, no machine state), so they carry a
protocol id of their own and are never compared with ours; two of theirs are.
"""

from pathlib import Path
from typing import Any

import msgspec

from haihe.bench.measure.protocol import Machine, Result, Series
from haihe.runtime.errors import HaiheError

PROTOCOL = "pytest-benchmark-1"
SECOND = 1e9


class _Stats(msgspec.Struct):
    data: list[float] = []


class _Benchmark(msgspec.Struct):
    fullname: str
    stats: _Stats
    params: dict[str, Any] | None = None


class _File(msgspec.Struct):
    benchmarks: list[_Benchmark]
    machine_info: dict[str, Any] = {}
    version: str = ""


def read_pytest_benchmark(path: Path) -> Result:
    """One series per benchmark, named by its test; ns per round. Raises HaiheError."""
    try:
        found = msgspec.json.decode(path.read_bytes(), type=_File)
    except (OSError, msgspec.DecodeError) as exc:
        raise HaiheError(f"{path}: not a result of pytest-benchmark: {exc}.") from exc
    empty = [b.fullname for b in found.benchmarks if not b.stats.data]
    if empty or not found.benchmarks:
        raise HaiheError(
            f"{path}: no samples of {empty[0] if empty else 'any benchmark'} in it. Save them with "
            "--benchmark-json FILE (or --benchmark-autosave --benchmark-save-data)."
        )
    info = found.machine_info
    cpu = info.get("cpu") if isinstance(info.get("cpu"), dict) else {}
    assert cpu is not None
    return Result(
        name="pytest benchmarks",
        command="pytest --benchmark-json",
        settings={"pytest-benchmark": found.version},
        series=[
            Series(b.fullname, [round(value * SECOND) for value in b.stats.data])
            for b in found.benchmarks
        ],
        machine=Machine(
            model=str(cpu.get("brand_raw", "")),
            cores=[""] * int(cpu.get("count", 0) or 0),
            kernel=f"{info.get('system', '')} {info.get('release', '')}".strip(),
            python=str(info.get("python_version", "")),
        ),
        counts={"benchmarks": len(found.benchmarks)},
        protocol=PROTOCOL,
    )
