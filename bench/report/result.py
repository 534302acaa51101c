"""The result of a benchmark as text: for a terminal, and as a row for a README.

Every quantile stands with its interval (99 % each side, from order statistics and the
autocorrelation of the series), or is refused.
"""

from dataclasses import dataclass

import numpy as np

from haihe.bench.measure.figures import ms, too_few
from haihe.bench.measure.percentile import percentile
from haihe.bench.measure.protocol import Operator, Result, Series
from haihe.bench.measure.soak import soak_of
from haihe.bench.measure.stats import F64, Interval, autocorrelation_length, quantile_interval
from haihe.boards.published import published
from haihe.runtime.errors import HaiheError

QUANTILES = (0.5, 0.9, 0.99)
OPERATORS = 8
_NAME = 26


@dataclass(frozen=True)
class Row:
    """One stage in figures."""

    stage: str
    values: F64
    length: float  # how many samples count for one

    def quantile(self, q: float) -> str:
        """`12.3 ms [12.1, 12.6]`, or why there is none."""
        value = percentile(self.values, q)
        if value is None:
            return too_few(len(self.values), q)
        found = quantile_interval(self.values, q, self.length)
        return f"{ms(value)} {interval(found, value)}".rstrip()

    @property
    def largest(self) -> float:
        """The largest sample, ns."""
        return float(self.values.max()) if len(self.values) else 0.0


def rows(result: Result) -> list[Row]:
    """Every series that has samples."""
    found = []
    for series in result.series:
        values = np.asarray(series.samples_ns, np.float64)
        if len(values):
            found.append(Row(series.stage, values, autocorrelation_length(values)))
    return found


def headline(result: Result) -> Series | None:
    """The series that stands for the whole: `total`, or the last one."""
    named = {series.stage: series for series in result.series if series.samples_ns}
    return named.get("total") or (list(named.values())[-1] if named else None)


def interval(found: Interval, value: float) -> str:
    """`[12.1, 12.6]` in the unit in which the value is written; an open side is `…`."""
    if found.low is None and found.high is None:
        return ""
    scale, digits = next(
        (scale, digits)
        for least, scale, digits in ((1e9, 1e-9, 2), (1e7, 1e-6, 1), (1e5, 1e-6, 2), (0, 1e-3, 0))
        if value >= least
    )
    low, high = ("…" if v is None else f"{v * scale:.{digits}f}" for v in (found.low, found.high))
    return f"[{low}, {high}]"


def text(result: Result) -> str:
    """For a terminal."""
    lines = [f"{result.name}   {describe(result)}"]
    lines += _opening(result)
    found = rows(result)
    widths = [max([22, *(len(row.quantile(q)) + 2 for row in found)]) for q in QUANTILES]
    names = [f"p{100 * q:g}" for q in QUANTILES]
    if found:
        head = "".join(f"{name:<{width}}" for name, width in zip(names, widths, strict=True))
        lines.append(f"{'':<{_NAME}}{head}{'max':<10}n")
    for row in found:
        cells = "".join(
            f"{row.quantile(q):<{width}}" for q, width in zip(QUANTILES, widths, strict=True)
        )
        lines.append(
            f"{row.stage[: _NAME - 1]:<{_NAME}}{cells}{ms(row.largest):<10}{len(row.values)}"
        )
    lines += costs(result)
    lines += [f"{n:<{_NAME}}{t}" for n, t in operators(result.operators)]
    machine = result.machine
    if result.name.startswith("model "):
        lines += [str(r) for r in published(machine.board, result.name.removeprefix("model "))]
    kind = " (virtual machine)" if machine.is_virtual else ""
    kind = " (EMULATED)" if machine.is_emulated else kind
    host = f"{result.settings['host']}: " if result.settings.get("host") else ""
    lines.append(
        f"on {host}{machine.model or machine.board}{kind}, {len(machine.cores)} cores, "
        f"{_runtime(result)}"
    )
    lines += [f"warning: {warning}" for warning in result.warnings]
    return "\n".join(line.rstrip() for line in lines)


def describe(result: Result) -> str:
    """How it was loaded and on what it ran."""
    s = result.settings
    parts = []
    if "threads" in s:
        parts.append(f"{s['threads']} thread{'s' if s['threads'] != 1 else ''}")
        parts.append("spinning" if s.get("spin") else "no spin")
    for provider, nodes in result.providers.items():
        total = sum(result.providers.values())
        parts.append(f"{provider}" + (f" {nodes} of {total} nodes" if total else ""))
    if s.get("load"):
        rate = f" {s['fps']:g} fps" if s.get("fps") else ""
        many = f", {s['streams']} streams" if s.get("streams", 1) > 1 else ""
        parts.append(f"{s['load']}{rate}{many}")
    if s.get("with"):
        parts.append("beside " + ", ".join(s["with"]))
    if s.get("input"):
        parts.append(f"input {s['input']}")
    return " · ".join(parts)


def _opening(result: Result) -> list[str]:
    c = result.counts
    if "load_ns" not in c:
        return []
    warm = f"warm after {c['warm_runs']:.0f} runs" if "warm_runs" in c else ""
    return [f"load {ms(c['load_ns'])}   first run {ms(c['first_ns'])}   {warm}"]


def costs(result: Result) -> list[str]:
    """CPU, memory, energy, losses and likeness, a line each."""
    c, lines = result.counts, []
    if "cpu_process_ns" in c and c.get("seconds"):
        share = 100 * c["cpu_process_ns"] * c["runs"] / (c["seconds"] * 1e9)
        lines.append(
            f"CPU {ms(c['cpu_process_ns'])} a run (calling thread {ms(c['cpu_thread_ns'])}), "
            f"{share:.0f} % of one core; {c['runs'] / c['seconds']:.1f} runs/s"
        )
    if "rss_peak_bytes" in c:
        grown = (c["rss_peak_bytes"] - c["rss_before_bytes"]) / 2**20
        lines.append(
            f"memory {c['rss_peak_bytes'] / 2**20:.0f} MiB at its peak, {grown:.0f} above the start"
        )
    if "energy_j" in c:
        lines.append(f"energy {c['energy_j'] * 1e3:.1f} mJ a run, of what the sensor covers")
    if "dropped" in c:
        lines.append(f"dropped {c['dropped']:.0f} of {c['due']:.0f} that were due")
    series = headline(result)
    found = soak_of(series, result.state) if series and result.settings.get("soak_s") else None
    if found is not None:
        lines.append(found.text)
    if "cosine" in c:
        lines.append(
            f"golden outputs: cosine {c['cosine']:.6f}, largest difference "
            f"{c['largest_difference']:.3g}"
        )
    return lines


def operators(found: list[Operator]) -> list[tuple[str, str]]:
    """The costliest operators: (kind and nodes, share and time)."""
    whole = sum(operator.ns for operator in found) or 1
    return [
        (f"{o.kind} x{o.nodes}", f"{100 * o.ns / whole:5.1f} %  {ms(o.ns)}")
        for o in found[:OPERATORS]
    ]


def _runtime(result: Result) -> str:
    packages = result.machine.packages
    names = [f"{n} {packages[n]}" for n in ("onnxruntime", "haihe") if n in packages]
    return ", ".join([*names, f"Python {result.machine.python}", result.protocol])


def markdown(result: Result) -> str:
    """A table row with its head. Raises HaiheError for an emulated machine: such a figure must
    not be published."""
    if result.machine.is_emulated:
        raise HaiheError(
            f"{result.name}: measured on an emulated machine; its times say nothing about any "
            "board. Measure on the board itself."
        )
    head = [
        "model",
        "machine",
        "how",
        "stage",
        "p50",
        "p90",
        "p99",
        "n",
        "CPU a run",
        "peak memory",
    ]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    c, machine = result.counts, result.machine
    whole = headline(result)
    for row in rows(result):
        if whole is None or row.stage != whole.stage:
            continue
        cells = [
            result.name.removeprefix("model "),
            (machine.model or machine.board) + (" (VM)" if machine.is_virtual else ""),
            describe(result), row.stage, *(row.quantile(q) for q in QUANTILES),
            str(len(row.values)),
            ms(c["cpu_process_ns"]) if "cpu_process_ns" in c else "–",
            f"{c['rss_peak_bytes'] / 2**20:.0f} MiB" if "rss_peak_bytes" in c else "–",
        ]  # fmt: skip
        lines.append("| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |")
    notes = [f"- {warning}" for warning in result.warnings]
    return "\n".join([*lines, "", f"`{result.command}`, {_runtime(result)}.", *notes])
