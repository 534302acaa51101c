"""The report of a run: one HTML file that needs nothing else, now or in ten years."""

from datetime import UTC, datetime
from html import escape
from pathlib import Path

from haihe.bench.measure.analysis import SETTLING_S, WITHIN_DEG, Analysis, analyse
from haihe.bench.measure.figures import count, ms, quantile_ms, too_few
from haihe.bench.measure.percentile import percentile
from haihe.bench.report.about import environment, notes
from haihe.bench.report.frames import camera_strip
from haihe.bench.report.page import card, page, section
from haihe.bench.report.parts import (
    counters,
    lane_timing,
    latency,
    tracking_error,
)
from haihe.runtime.record.recording import Recording


def write_report(recording: Recording, path: Path) -> None:
    """Write the report of a recording: one self-contained HTML file. Raises OSError."""
    path.write_text(report(analyse(recording)), encoding="utf-8")


def report(run: Analysis) -> str:
    """The HTML text."""
    name = run.recording.plan.graph
    tracking = run.tracking
    body = [
        _header(run),
        f'<div class="cards">{"".join(_cards(run))}</div>',
        section(
            "Tracking error",
            "Angle between the camera's optical axis and the part, by the truth of the simulated "
            f"world. The first {SETTLING_S:g} s are left out of the figures.",
            tracking_error(run) if tracking is not None else "",
        ),
        section(
            "From glass to servo",
            "From the exposure of a picture to the first byte of the first command that descends "
            "from it. One sample per new picture that reached the wire.",
            latency(run),
        ),
        section(
            "What the camera saw",
            "White cross: optical axis. Yellow: what the detector found.",
            camera_strip(run),
        ),
        section(
            "Ticks",
            "How late each firing began after its release. Orange dots lie above the scale.",
            lane_timing(run),
        ),
        section("Counters", "Counted again from the recording, firing by firing.", counters(run)),
        section("Environment", "", environment(run)),
        section("How this was measured", "", notes(run)),
    ]
    return page(f"{name} on {run.unit}: haihe run report", "".join(body))


def _header(run: Analysis) -> str:
    header = run.recording.header
    started = header.get("started")
    day = datetime.fromtimestamp(started, UTC).strftime("%Y-%m-%d %H:%M UTC") if started else ""
    what = [
        "simulated world" if run.is_simulated else "real devices",
        run.mode,
        f"{run.duration_s:.1f} s",
        f"seed {header.get('seed', '?')}",
        day,
    ]
    text = " · ".join(part for part in what if part)
    return (
        f"<header><h1>{escape(run.recording.plan.graph)} <small>on {escape(run.unit)}</small></h1>"
        f"<p>{escape(text)}</p></header>"
    )


def _cards(run: Analysis) -> list[str]:
    cards = []
    if run.tracking is not None:
        judged = run.tracking.judged
        p95 = percentile(judged, 0.95)
        cards.append(
            card(
                f"{run.tracking.rms:.2f}",
                "° rms",
                "Tracking error",
                f"p95 {f'{p95:.2f}°' if p95 is not None else too_few(len(judged), 0.95)}, "
                f"max {judged.max():.2f}°, {len(judged)} samples",
            )
        )
        cards.append(
            card(
                f"{100 * run.tracking.within:.1f}",
                "%",
                f"Within {WITHIN_DEG:g}°",
                f"of {len(judged)} samples at {_rate(run):.0f} Hz",
                is_bad=run.tracking.within < 0.9,
            )
        )
    for route in run.routes[:2]:
        median = percentile(route.reaction, 0.5)
        is_glass = route.source.split(".")[0] in run.recording.plan.streams
        value, unit = ms(median).split(" ") if median is not None else ("–", "")
        worst = ms(float(route.reaction.max())) if len(route.reaction) else "–"
        cards.append(
            card(
                value,
                f"{unit} p50",
                "Glass to servo" if is_glass else "State to servo",
                f"p99 {quantile_ms(route.reaction, 0.99)}, max {worst}, {len(route.reaction)} "
                "samples",
            )
        )
    unread = sum(stream.unread for stream in run.streams)
    if run.streams:
        delivered = sum(stream.delivered for stream in run.streams)
        share = f"of {count(delivered, 'message')} delivered"
        cards.append(card(str(unread), "", "Unread frames", share, is_bad=unread > delivered // 10))
    misses = sum(node.misses for node in run.nodes)
    skipped = sum(lane.skipped for lane in run.lanes)
    firings = sum(len(lane) for lane in run.lanes)
    text = f"of {count(firings, 'firing')}; {count(skipped, 'tick')} skipped"
    cards.append(card(str(misses), "", "Deadline misses", text, is_bad=misses > firings // 100))
    return cards


def _rate(run: Analysis) -> float:
    assert run.tracking is not None
    t = run.tracking.t_s
    return (len(t) - 1) / (t[-1] - t[0]) if len(t) > 1 and t[-1] > t[0] else 0.0
