"""The run on one screen: at most 24 lines of 100 columns, for people."""

import numpy as np

from haihe.bench.measure.analysis import SETTLING_S, WITHIN_DEG, Analysis, Tracking, analyse
from haihe.bench.measure.figures import count, middle, ms, quantile_ms, too_few
from haihe.bench.measure.percentile import percentile
from haihe.bench.measure.route import Route
from haihe.runtime.record.recording import Recording

WIDTH, HEIGHT = 100, 24
MARGIN = 18  # of the column of names
BAR, NAME = 40, 27  # of a stage
STAGES = 8  # lines of the first route, at most
_EIGHTHS = " ▏▎▍▌▋▊▉█"
_LEVELS = "▁▂▃▄▅▆▇█"


def summary(recording: Recording) -> str:
    """What happened in a run, on one screen."""
    run = analyse(recording)
    lines = [*_head(run), *_tracking(run.tracking), *_routes(run)]
    tail = [*_counts(run), _row("recording", _file(recording))]
    if run.missing:
        tail.insert(-1, _row("not in it", "; ".join(run.missing)))
    room = HEIGHT - len(lines) - len(tail)
    lines += _lanes(run, max(1, room))
    lines += tail
    return "\n".join(_cut(line) for line in lines[:HEIGHT])


def _cut(line: str) -> str:
    return line.rstrip() if len(line) <= WIDTH else line[: WIDTH - 1] + "…"


def _row(name: str, text: str) -> str:
    return f"{name:<{MARGIN}}{text}"


def _head(run: Analysis) -> list[str]:
    header = run.recording.header
    where = "simulated world, " if run.is_simulated else ""
    left = f"{run.recording.plan.graph} on {run.unit}"
    right = (
        f"{where}{run.mode}, {run.duration_s:.1f} s, seed {header.get('seed', '?')}, "
        f"plan {str(header.get('plan_hash', ''))[:12]}"
    )
    gap = max(2, WIDTH - len(left) - len(right))
    return [left + " " * gap + right, "─" * WIDTH]


def _tracking(tracking: Tracking | None) -> list[str]:
    if tracking is None:
        return []
    judged = tracking.judged
    p95 = percentile(judged, 0.95)
    figures = (
        f"rms {tracking.rms:.2f}°   p95 {f'{p95:.2f}°' if p95 else too_few(len(judged), 0.95)}   "
        f"max {judged.max():.2f}°   within {WITHIN_DEG:g}° {100 * tracking.within:.1f} %   "
        f"n {len(judged)}"
    )
    note = f"  0 to {judged.max():.2f}°, without the first {SETTLING_S:g} s"
    curve = sparkline(judged, WIDTH - MARGIN - len(note))
    return [_row("tracking error", figures), _row("", curve + note)]


def sparkline(values: np.ndarray[tuple[int], np.dtype[np.float64]], width: int) -> str:
    """The largest value of each of `width` parts, as bars from 0 to the largest of all."""
    parts = np.array_split(values, min(width, len(values)))
    peaks = np.array([part.max() for part in parts])
    scale = peaks.max() or 1.0
    return "".join(_LEVELS[min(7, int(8 * peak / scale))] for peak in peaks)


def _routes(run: Analysis) -> list[str]:
    lines = []
    for index, route in enumerate(run.routes):
        name = "glass to servo" if _is_glass(run, route) else "state to servo"
        if not len(route.reaction):
            lines.append(_row(name, f"nothing of {route.source} reached {route.role}"))
            continue
        worst = ms(float(route.reaction.max()))
        figures = "   ".join(
            f"p{100 * q:g} {quantile_ms(route.reaction, q)}" for q in (0.5, 0.95, 0.99)
        )
        lines.append(_row(name, f"{figures}   max {worst}   n {len(route.reaction)}"))
        lines.append(_row("", route.describes))
        if index == 0:
            lines += _stages(route)
    return lines


def _is_glass(run: Analysis, route: Route) -> bool:
    return route.source.split(".")[0] in run.recording.plan.streams


def _stages(route: Route) -> list[str]:
    """A waterfall of the medians: every stage begins where the one before ended."""
    stages = list(route.stages)[:STAGES]
    medians = [middle(stage.ns) for stage in stages]
    whole = sum(medians) or 1.0
    lines, at = [], 0.0
    for stage, median in zip(stages, medians, strict=True):
        bar = _bar(at / whole, (at + median) / whole)
        note = " after first byte" if stage.is_after else ""
        lines.append(f"  {stage.name[:NAME]:<{NAME}}{ms(median):>10}  {bar}{note}")
        at += median
    return lines


def _bar(start: float, end: float) -> str:
    """A bar from start to end (shares of BAR) to an eighth of a column; never invisible."""
    first, last = round(start * BAR * 8), round(end * BAR * 8)
    lead, rest = divmod(first, 8)
    size = max(1, last - first + rest)
    full, part = divmod(size, 8)
    return " " * lead + "█" * full + (_EIGHTHS[part] if part else "")


def _lanes(run: Analysis, room: int) -> list[str]:
    lines = []
    for lane in run.lanes:
        misses = sum(node.misses for node in run.nodes if node.lane == lane.name)
        text = count(len(lane), "firing")
        if len(lane):
            text += f", late p50 {ms(middle(lane.wake))} max {ms(float(lane.wake.max()))}"
        if lane.task.every_ns:
            text += f", {lane.skipped} skipped"
        text += f", {count(misses, 'miss', 'misses')}"
        lines.append(_row(f"lane {lane.name}", f"{text}, run p50 {ms(middle(lane.run))}"))
    if len(lines) > room:
        hidden = len(lines) - room + 1
        lines = [*lines[: room - 1], _row("", f"and {count(hidden, 'lane')} more")]
    return lines


def _counts(run: Analysis) -> list[str]:
    lines = []
    for stream in run.streams[:2]:
        text = f"{stream.delivered} delivered at {stream.rate_hz:.1f} Hz, {stream.unread} unread, "
        lines.append(_row(stream.source, f"{text}{stream.missing} never came"))
    bad = [
        f"{node.name} {number} {outcome}"
        for node in run.nodes
        for outcome, number in node.outcomes.items()
        if outcome not in ("called", "not triggered")
    ]
    bad += [
        f"{e.edge.target} {e.stale} stale"
        for e in run.edges
        if e.stale and e.edge.on_stale == "call"
    ]
    bad += [f"{e.edge.target} {e.refused} refused" for e in run.edges if e.refused]
    bad += [
        f"guard of {role}: {reason} {number}"
        for role, counts in run.recording.notes.get("guard", {}).items()
        for reason, number in counts.items()
        if reason not in ("latched", "no_reference")
    ]
    lines.append(_row("not as usual", ", ".join(dict.fromkeys(bad)) or "nothing"))
    for bus in run.buses[:2]:
        text = f"{bus.reads} reads p50 {ms(middle(bus.trips))} p99 {quantile_ms(bus.trips, 0.99)}"
        text += f", {bus.writes} writes, {count(bus.timeouts, 'time-out')}"
        lines.append(_row(f"bus {bus.role}", f"{text}, {count(bus.errors, 'error')}"))
    events = [f"{h.t_s:.2f} s {h.kind} {h.text}".rstrip() for h in run.happenings]
    shown = events if len(events) <= 4 else [*events[:2], f"… {len(events) - 3} more", events[-1]]
    lines.append(_row("events", ", ".join(shown) or "none"))
    return lines


def _file(recording: Recording) -> str:
    try:
        size = recording.path.stat().st_size
    except OSError:
        return str(recording.path)
    unit = f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB"
    return f"{recording.path}  {unit}"
