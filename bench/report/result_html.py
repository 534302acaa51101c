"""The result of a benchmark as one HTML file that needs nothing else."""

from datetime import UTC, datetime
from html import escape

import numpy as np

from haihe.bench.measure.figures import ms, quantile_ms, too_few
from haihe.bench.measure.percentile import percentile
from haihe.bench.measure.protocol import Result, Series
from haihe.bench.report.page import card, page, section
from haihe.bench.report.plot import F64, Plot, table
from haihe.bench.report.result import QUANTILES, costs, describe, headline, operators, rows

BINS = 48
SHOWN = 6  # series with plots


def report(result: Result) -> str:
    """The HTML text."""
    day = datetime.fromtimestamp(result.started, UTC).strftime("%Y-%m-%d %H:%M UTC")
    when = day if result.started else ""
    about = " · ".join(part for part in (describe(result), when) if part)
    emulated = "<p><b>Emulated machine: no time here means anything.</b></p>"
    body = [
        f"<header><h1>{escape(result.name)}</h1><p>{escape(about)}</p>"
        f"{emulated if result.machine.is_emulated else ''}</header>",
        f'<div class="cards">{"".join(_cards(result))}</div>',
        section(
            "Stages",
            "In brackets the bounds that hold with 99 % each, from order statistics, widened for "
            "how much neighbouring samples resemble each other. A percentile that the sample "
            "cannot carry is refused.",
            _stages(result),
        ),
        section("Distribution", "", _distributions(result)),
        section(
            "Over time",
            "Orange dots lie above the scale; shaded: throttled, or at another clock than first.",
            _over_time(result),
        ),
        section("State of the machine", "", _state(result)),
        section(
            "Operators",
            "From a run of its own with profiling on: shares can be compared, sums cannot.",
            table(("operator", "share and time"), operators(result.operators), left=2)
            if result.operators
            else "",
        ),
        section("Costs", "", "".join(f"<p>{escape(line)}</p>" for line in costs(result))),
        section("Warnings", "", _list(result.warnings)),
        section("Environment", "", _environment(result)),
    ]
    return page(f"{result.name}: haihe bench", "".join(body))


def _cards(result: Result) -> list[str]:
    cards, c = [], result.counts
    series = headline(result)
    if series is not None:
        values = np.asarray(series.samples_ns, np.float64)
        median = percentile(values, 0.5)
        value, unit = ms(median).split(" ") if median is not None else ("–", "")
        note = f"p99 {quantile_ms(values, 0.99)}, max {ms(float(values.max()))}, n {len(values)}"
        cards.append(card(value, f"{unit} p50", series.stage, note))
    if "cpu_process_ns" in c:
        value, unit = ms(c["cpu_process_ns"]).split(" ")
        share = 100 * c["cpu_process_ns"] * c["runs"] / (c["seconds"] * 1e9)
        cards.append(card(value, unit, "CPU a run", f"{share:.0f} % of one core while it ran"))
    if "load_ns" in c:
        value, unit = ms(c["load_ns"]).split(" ")
        cards.append(card(value, unit, "Load", f"first run {ms(c['first_ns'])}"))
    if "rss_peak_bytes" in c:
        grown = (c["rss_peak_bytes"] - c["rss_before_bytes"]) / 2**20
        value = f"{c['rss_peak_bytes'] / 2**20:.0f}"
        cards.append(card(value, "MiB", "Peak memory", f"{grown:.0f} MiB above the start"))
    if "dropped" in c:
        due = c["due"]
        note = f"of {due:.0f} that were due"
        cards.append(
            card(f"{c['dropped']:.0f}", "", "Dropped", note, is_bad=c["dropped"] > due / 100)
        )
    return cards


def _stages(result: Result) -> str:
    body = [
        (row.stage, *(row.quantile(q) for q in QUANTILES), ms(row.largest), str(len(row.values)),
         f"{row.length:.1f}")
        for row in rows(result)
    ]  # fmt: skip
    head = (
        "stage",
        *(f"p{100 * q:g}" for q in QUANTILES),
        "max",
        "n",
        "samples that count for one",
    )
    return table(head, body) if body else ""


def _plotted(result: Result) -> list[Series]:
    return [series for series in result.series if len(series.samples_ns) > 1][:SHOWN]


def _distributions(result: Result) -> str:
    return _two([_histogram(series) for series in _plotted(result)])


def _histogram(series: Series) -> str:
    values, unit = _scaled(series)
    high = float(np.quantile(values, 0.98))
    low = float(values.min())
    top = low + 1.4 * (high - low) if high > low else low + max(low, 1.0) * 0.1
    edges = np.linspace(max(0.0, low - 0.05 * (top - low)), top, BINS + 1)
    heights, _ = np.histogram(values, edges)
    plot = Plot(
        (float(edges[0]), float(edges[-1])),
        (0.0, max(1.0, float(heights.max()) * 1.18)),
        f"{series.stage}, {unit}",
        f"{series.stage}: samples ({len(values)} in all)",
    )
    plot.tall = "low"
    plot.bars(edges, heights, unit)
    for level, q in enumerate(QUANTILES):
        value = percentile(values, q)
        if value is not None:
            plot.mark(value, f"p{100 * q:g} {value:.3g} {unit}", level=level)
    above = int(np.sum(values > edges[-1]))
    said = [f"{above} above the scale, up to {values.max():.3g} {unit}."] if above else []
    said += [f"p{100 * q:g}: {too_few(len(values), q)}." for q in QUANTILES
             if percentile(values, q) is None]  # fmt: skip
    return f'<div>{plot.html()}<p class="note">{" ".join(said)}</p></div>'


def _over_time(result: Result) -> str:
    plots = []
    for series in _plotted(result):
        values, unit = _scaled(series)
        if series.at_ns:
            xs, label = np.asarray(series.at_ns, np.float64) * 1e-9, "s"
        else:
            xs, label = np.arange(len(values), dtype=np.float64), "sample"
        top = 1.6 * float(np.quantile(values, 0.97)) or 1.0
        plot = Plot((0.0, float(xs[-1]) or 1.0), (0.0, top), label, f"{series.stage}, {unit}")
        plot.tall = "low"
        for first, last in spans(series.throttled):
            plot.band(float(xs[first]), float(xs[last]), "stale", "throttled or another clock")
        plot.dots(xs, values)
        plots.append(f"<div>{plot.html()}</div>")
    return _two(plots)


def spans(indices: list[int]) -> list[tuple[int, int]]:
    """Runs of neighbours: [3, 4, 5, 9] is [(3, 5), (9, 9)]."""
    found: list[tuple[int, int]] = []
    for index in indices:
        if found and index == found[-1][1] + 1:
            found[-1] = (found[-1][0], index)
        else:
            found.append((index, index))
    return found


def _state(result: Result) -> str:
    states = result.state
    if len(states) < 2:
        return ""
    t: F64 = np.array([(s.t_ns - states[0].t_ns) * 1e-9 for s in states], np.float64)
    curves: list[tuple[str, list[float | None]]] = [
        ("hottest zone, °C", [max(s.temperature_degc.values(), default=None) for s in states]),
        ("highest clock, MHz", [max(s.frequency_khz) / 1e3 if s.frequency_khz else None
                                for s in states]),
        ("power, W", [s.power_w for s in states]),
        ("load", [s.load for s in states]),
    ]  # fmt: skip
    plots = []
    for name, found in curves:
        known = [(x, y) for x, y in zip(t, found, strict=True) if y is not None]
        if len(known) < 2:
            continue
        xs, ys = np.array(known, np.float64).T
        plot = Plot((0.0, float(t[-1]) or 1.0), (0.0, 1.2 * float(ys.max()) or 1.0), "s", name)
        plot.tall = "low"
        plot.line(xs, ys, (" s", ""))
        plots.append(f"<div>{plot.html()}</div>")
    return _two(plots)


def _environment(result: Result) -> str:
    machine, settings = result.machine, result.settings
    items = {
        "command": result.command,
        "machine": f"{machine.model} ({machine.board})",
        "cores": ", ".join(machine.cores),
        "memory": f"{machine.memory_bytes / 2**30:.1f} GiB" if machine.memory_bytes else "",
        "kernel": machine.kernel,
        "Python": machine.python,
        "packages": ", ".join(f"{n} {v}" for n, v in machine.packages.items()),
        "kind": "emulated" if machine.is_emulated else "virtual" * machine.is_virtual,
        "protocol": f"{result.protocol}, schema {result.schema}",
        **{key: str(value) for key, value in settings.items() if value not in ("", [], {}, 0.0)},
    }
    listed = (f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in items.items() if v)
    return f"<dl>{''.join(listed)}</dl>"


def _scaled(series: Series) -> tuple[F64, str]:
    values: F64 = np.asarray(series.samples_ns, np.float64)
    return (values * 1e-6, "ms") if np.median(values) >= 1e5 else (values * 1e-3, "µs")


def _two(parts: list[str]) -> str:
    return f'<div class="two">{"".join(parts)}</div>' if parts else ""


def _list(items: list[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(item)}</li>' for item in items)}</ul>" if items else ""
