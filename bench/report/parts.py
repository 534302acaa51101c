"""The parts of a report, each from an analysis to HTML; empty where there is nothing to show."""

from html import escape

import numpy as np

from haihe.bench.measure.analysis import F64, WITHIN_DEG, Analysis
from haihe.bench.measure.figures import count, middle, ms, quantile_ms, too_few
from haihe.bench.measure.percentile import percentile
from haihe.bench.measure.route import Route
from haihe.bench.report.plot import Plot, table
from haihe.runtime.plan.codegen import OUTCOMES
from haihe.runtime.units import format_ns

BINS = 36  # of a histogram
LEAST_S = 0.1  # shorter intervals are drawn, but not listed
LISTED = 12


def tracking_error(run: Analysis) -> str:
    """The error over time, with events and intervals."""
    tracking = run.tracking
    assert tracking is not None
    top = max(1.5 * WITHIN_DEG, 1.25 * float(np.quantile(tracking.judged, 0.999)))
    span = (0.0, max(run.duration_s, float(tracking.t_s[-1])))
    plot = Plot(span, (0.0, top), "s since the first release", "tracking error, °")
    for interval in run.intervals:
        plot.band(interval.start_s, interval.end_s, interval.kind, interval.what)
    plot.line(tracking.t_s, tracking.error_deg, (" s", "°"))
    plot.level(WITHIN_DEG, f"{WITHIN_DEG:g}°")
    for index, happening in enumerate(run.happenings[:LISTED]):
        hot = "hot" if happening.kind == "trip" else ""
        text = f"{happening.kind} {happening.text}".strip()
        plot.mark(happening.t_s, text if len(text) < 40 else text[:39] + "…", hot, index % 3)
    highest = float(tracking.error_deg.max())
    above = f'<p class="note">Above the scale: up to {highest:.1f}°.</p>' if highest > top else ""
    return plot.html() + above + _intervals(run)


def _intervals(run: Analysis) -> str:
    kinds = {
        "blind": "a node was not called: an input too old or absent",
        "stale": "the guard held: no fresh command",
        "safe": "not armed any more",
    }
    shown = [kind for kind in kinds if any(i.kind == kind for i in run.intervals)]
    legend = "".join(f'<span class="{kind}"><i></i>{kinds[kind]}</span>' for kind in shown)
    long = [i for i in run.intervals if i.end_s - i.start_s >= LEAST_S]
    rows = [
        (i.what, f"{i.start_s:.2f}", f"{i.end_s:.2f}", f"{i.end_s - i.start_s:.2f}")
        for i in long[:LISTED]
    ]
    listed = table(("interval", "from s", "to s", "length s"), rows) if rows else ""
    return f'<div class="legend">{legend}</div>{listed}'


def latency(run: Analysis) -> str:
    """Per route: the way by stage, and the histogram."""
    return "".join(
        f"<h3>{escape(route.describes)}</h3>" + (_route(route) if len(route.reaction) else _none())
        for route in run.routes
    )


def _none() -> str:
    return '<p class="note">Nothing of it reached the wire.</p>'


def _route(route: Route) -> str:
    medians = [middle(stage.ns) for stage in route.stages]
    total = sum(medians) or 1.0
    bars, rows = [], []
    for stage, median in zip(route.stages, medians, strict=True):
        share = 100 * median / total
        text = escape(stage.name) if share > 14 else ""
        title = f"{stage.name}: {ms(median)}"
        bars.append(
            f'<div class="{stage.kind}" style="flex:{max(share, 0.3):.2f} 1 0" '
            f'title="{escape(title)}">{text}</div>'
        )
        rows.append(
            f'<tr><td><i class="{stage.kind}"></i>{escape(stage.name)}'
            f"{' (after the first byte)' if stage.is_after else ''}</td>"
            f"<td class=n>{ms(median)}</td><td class=n>{quantile_ms(stage.ns, 0.95)}</td>"
            f"<td class=n>{ms(float(stage.ns.max()))}</td><td class=n>{share:.1f} %</td></tr>"
        )
    reaction = route.reaction
    rows.append(
        f"<tr><td><b>capture to first byte</b></td><td class=n><b>{ms(middle(reaction))}</b></td>"
        f"<td class=n><b>{quantile_ms(reaction, 0.95)}</b></td>"
        f"<td class=n><b>{ms(float(reaction.max()))}</b></td><td></td></tr>"
    )
    return (
        f'<div class="stack">{"".join(bars)}</div><div class="two"><div class="wide"><table>'
        "<thead><tr><th>stage</th><th class=n>median</th><th class=n>p95</th><th class=n>max</th>"
        f"<th class=n>share</th></tr></thead><tbody>{''.join(rows)}</tbody></table>"
        f"<p class=note>{_age(route)}</p></div>{_histogram(route)}</div>"
    )


def _age(route: Route) -> str:
    return escape(
        f"Age of the data when sent, all {count(len(route.ages), 'command')} (repeats of old data "
        f"too): p50 {quantile_ms(route.ages, 0.5)}, p99 {quantile_ms(route.ages, 0.99)}, max "
        f"{ms(float(route.ages.max()))}. Medians of stages need not add up to the median of the "
        "whole."
    )


def _histogram(route: Route) -> str:
    values: F64 = (route.reaction * 1e-6).astype(np.float64)
    low, high = float(values.min()), float(values.max())
    most = min(high, low + 1.6 * (float(np.quantile(values, 0.98)) - low))  # the tail is a note
    pad = max(0.05 * (most - low), 0.02 * most)
    edges = np.linspace(max(0.0, low - pad), most + pad, BINS + 1)
    heights, _ = np.histogram(values, edges)
    above = int(np.sum(values > edges[-1]))
    plot = Plot(
        (float(edges[0]), float(edges[-1])),
        (0.0, float(heights.max()) * 1.18),
        "capture to first byte, ms",
        f"pictures ({len(values)} in all)",
    )
    plot.bars(edges, heights, "ms")
    for level, q in enumerate((0.5, 0.95, 0.99)):
        value = percentile(values, q)
        if value is not None:
            plot.mark(value, f"p{100 * q:g} {value:.1f} ms", level=level)
    said = []
    if above:
        said.append(f"{above} above the scale, up to {high:.1f} ms.")
    if percentile(values, 0.99) is None:
        said.append(f"p99: {too_few(len(values), 0.99)}.")
    return f'<div>{plot.html()}<p class="note">{" ".join(said)}</p></div>'


def lane_timing(run: Analysis) -> str:
    """Per lane: how late its firings began."""
    plots = []
    for lane in run.lanes:
        if not len(lane):
            continue
        late: F64 = (lane.wake * 1e-6).astype(np.float64)
        top = max(0.1, 1.6 * float(np.quantile(late, 0.97)))
        period = lane.task.every_ns
        every = f"every {format_ns(period)}" if period else f"on {lane.task.trigger}"
        plot = Plot(
            (0.0, run.duration_s), (0.0, top), "s", f"{lane.name} ({every}): ms after release"
        )
        plot.tall = "low"
        plot.dots(((lane.release - run.start_ns) * 1e-9).astype(np.float64), late)
        text = (
            f"{count(len(lane), 'firing')}: began late by p50 {quantile_ms(lane.wake, 0.5)}, p99 "
            f"{quantile_ms(lane.wake, 0.99)}, max {ms(float(lane.wake.max()))}; clock reading "
            f"after release (buses are read in between) p50 {quantile_ms(lane.lateness, 0.5)}; "
            f"nodes p50 {quantile_ms(lane.run, 0.5)}, max {ms(float(lane.run.max()))}; "
            f"{lane.skipped} skipped."
        )
        plots.append(f"<div>{plot.html()}<p class=note>{escape(text)}</p></div>")
    return f'<div class="two">{"".join(plots)}</div>' if plots else ""


def counters(run: Analysis) -> str:
    """Tables: streams, edges, nodes, buses, events."""
    parts = []
    if run.streams:
        rows = [
            (s.source, s.delivered, s.unread, s.missing, f"{s.rate_hz:.1f}",
             quantile_ms(s.latency, 0.5), quantile_ms(s.latency, 0.99))
            for s in run.streams
        ]  # fmt: skip
        head = ("stream", "delivered", "unread", "never came", "Hz", "latency p50", "p99")
        parts.append(table(head, [tuple(map(str, row)) for row in rows]))
    edges = [
        (f"{e.edge.source} → {e.edge.target}", e.edge.kind, str(e.received), str(e.overwritten),
         str(e.refused), str(e.absent), str(e.stale),
         format_ns(e.edge.fresh_ns) if e.edge.fresh_ns else "–",
         ms(middle(e.ages)),
         ms(float(e.ages.max())) if len(e.ages) else "–")
        for e in run.edges
    ]  # fmt: skip
    head_edge = ("edge", "kind", "received", "overwritten", "refused", "absent", "stale", "fresh",
                 "age p50", "max")  # fmt: skip
    parts.append(table(head_edge, edges, left=2))
    nodes = [
        (node.name, node.lane, *(str(node.outcomes.get(o, 0)) for o in OUTCOMES),
         str(node.misses), format_ns(node.deadline_ns) if node.deadline_ns else "–")
        for node in run.nodes
    ]  # fmt: skip
    parts.append(table(("node", "lane", *OUTCOMES, "misses", "deadline"), nodes, left=2))
    if run.buses:
        buses = [
            (b.role, str(b.reads), str(b.writes), str(b.timeouts), str(b.errors),
             quantile_ms(b.trips, 0.5), quantile_ms(b.trips, 0.99),
             ms(float(b.trips.max())) if len(b.trips) else "–")
            for b in run.buses
        ]  # fmt: skip
        head_bus = ("bus", "reads", "writes", "time-outs", "errors", "round trip p50", "p99", "max")
        parts.append(table(head_bus, buses))
    events = [(f"{h.t_s:.3f}", h.lane, h.kind, h.text) for h in run.happenings[:40]]
    if events:
        parts.append(table(("event at s", "lane", "kind", "what"), events, left=4))
    return "<br>".join(parts)
