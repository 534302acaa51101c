"""A graph as SVG: one file, no script, no font of its own, for light and dark pages."""

from collections.abc import Iterator
from html import escape

from haihe.pipelines.draw.drawing import LEGEND, Drawing, How
from haihe.pipelines.draw.layout import (
    FACT,
    FACT_H,
    HEAD,
    MARGIN,
    PAD,
    TITLE,
    TITLE_H,
    Band,
    Layout,
    Placed,
    Wire,
    lay_out,
    number_text,
    port_detail,
)
from haihe.pipelines.draw.metrics import text_width

STYLE = """
svg{--page:#fbfbfa;--band:#f1f2f0;--edge:#d9dbd7;--box:#ffffff;--text:#1d2420;--dim:#68716c;
--line:#7d8782;--trigger:#1f6f5c;--stream:#1f6f5c;--read:#2c6aa0;--node:#5a5f8f;--write:#b0552a;
--holds:#2d7d46;--fails:#c0362c;--wait:#9a6b00;
font-family:system-ui,-apple-system,"Segoe UI","Noto Sans","Noto Sans CJK SC",sans-serif}
@media (prefers-color-scheme:dark){svg{--page:#151917;--band:#1c211f;--edge:#343b38;--box:#242a27;
--text:#e8ece9;--dim:#9aa5a0;--line:#84908a;--trigger:#57c2a4;--stream:#57c2a4;--read:#6db0e8;
--node:#a3a8e0;--write:#eb9467;--holds:#68c986;--fails:#ff7d70;--wait:#e0b24a}}
text{fill:var(--text)}.dim{fill:var(--dim)}.band{fill:var(--band);stroke:var(--edge)}
.thread{fill:none;stroke:var(--edge);stroke-dasharray:2 4}.box{fill:var(--box);stroke:var(--edge)}
.stream{fill:var(--stream)}.read{fill:var(--read)}.node{fill:var(--node)}.write{fill:var(--write)}
.wire{fill:none;stroke:var(--line);stroke-width:1.3}
.sampled,.aligned{stroke-dasharray:5 4}.aligned{stroke-dasharray:1.5 3}
.triggers,.fifo{stroke:var(--trigger);stroke-width:2.6}.fifo{stroke-dasharray:10 3}
.head,.outer{paint-order:stroke;stroke:var(--band);stroke-width:5px}.outer{stroke:var(--page)}
.loop{stroke-dasharray:9 3 2 3;stroke:var(--node)}
.holds{fill:var(--holds)}.fails{fill:var(--fails)}.wait{fill:var(--wait)}
"""
ROUND = 7.0


def svg(drawing: Drawing) -> str:
    """The drawing as an SVG document."""
    layout = lay_out(drawing)
    width = max(layout.width, MARGIN * 2 + _legend_width(drawing), _title_width(drawing))
    size = f"{width:.0f} {layout.height:.0f}"
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" width="{width:.0f}" '
        f'height="{layout.height:.0f}" role="img" aria-label="graph {escape(drawing.title)}">'
    )
    parts = [head, f"<style>{STYLE}</style>", _markers()]
    parts.append('<rect width="100%" height="100%" style="fill:var(--page)"/>')
    parts.append(_text(MARGIN, 36.0, drawing.title, 20.0, bold=True))
    parts.append(_text(MARGIN, 56.0, drawing.subtitle, HEAD, "dim"))
    parts += [
        _rect(b.x, b.y, b.width, b.height, "thread" if b.thread else "band", 10.0)
        for b in layout.bands
    ]
    order: list[How] = ["loop", "local", "aligned", "sampled", "fifo", "triggers"]
    for wire in sorted(layout.wires, key=lambda w: order.index(w.edge.how)):
        parts.append(_wire(wire))
    for band in layout.bands:
        parts += _head(band)
    for placed in layout.boxes.values():
        parts += _box(placed)
    parts += _legend(drawing, layout)
    return "\n".join([*parts, "</svg>\n"])


def _markers() -> str:
    arrow = '<path d="M0,0.6 L7,4 L0,7.4 z" style="fill:var(--{})"/>'
    return "<defs>" + "".join(
        f'<marker id="{name}" viewBox="0 0 8 8" refX="7" refY="4" markerUnits="userSpaceOnUse" '
        f'markerWidth="{size}" markerHeight="{size}" orient="auto">{arrow.format(colour)}</marker>'
        for name, size, colour in (("to", 8, "line"), ("go", 10, "trigger"), ("back", 8, "node"))
    ) + "</defs>"  # fmt: skip


def _head(band: Band) -> Iterator[str]:
    """Over the lines that cross it."""
    kind = "head" if band.lane else "outer"
    yield _text(band.x + PAD, band.y + 20.0, band.title, HEAD, f"dim {kind}", bold=True)
    if band.lane is not None and band.lane.number is not None:
        text = number_text(band.lane)
        colour = f"{_colour(band.lane.number.verdict)} head"
        yield _text(band.x + band.width - PAD, band.y + 20.0, text, HEAD, colour, True, "end")


def _box(placed: Placed) -> Iterator[str]:
    box, x, y = placed.box, placed.x, placed.y
    told = "\n".join([box.title, *box.facts])
    yield f"<g><title>{escape(told)}</title>"
    yield _rect(x, y, placed.width, placed.height, "box", 6.0)
    yield _rect(x, y + 6.0, 3.0, placed.height - 12.0, box.kind, 1.5)
    line = y + PAD / 2 + TITLE_H / 2
    yield _text(x + PAD, line + 4.5, box.title, TITLE, bold=True)
    facts = y + PAD / 2 + TITLE_H
    for index, fact in enumerate(placed.facts):
        colour = "dim"
        if box.number is not None and index == len(placed.facts) - 1:
            colour = _colour(box.number.verdict)
        yield _text(x + PAD, facts + FACT_H * index + 11.0, fact, FACT, colour)
    for index, edge in enumerate(box.inputs):
        middle = y + placed.port_y(index) + 4.0
        yield _text(x + PAD, middle, edge.name, FACT)
        if detail := port_detail(edge):
            colour = _colour(edge.number.verdict) if edge.number is not None else "dim"
            yield _text(x + placed.width - PAD, middle, detail, FACT, colour, anchor="end")
    yield "</g>"


def _wire(wire: Wire) -> str:
    points = wire.points
    way = f"M{points[0][0]:.1f},{points[0][1]:.1f}"
    if wire.is_back:
        way += _rounded(points)
    else:
        for (x1, y1), (x2, y2) in zip(points[::2], points[1::2], strict=True):
            if (x1, y1) != points[0]:
                way += f" L{x1:.1f},{y1:.1f}"
            bend = (x2 - x1) / 2
            way += f" C{x1 + bend:.1f},{y1:.1f} {x2 - bend:.1f},{y2:.1f} {x2:.1f},{y2:.1f}"
    how = wire.edge.how
    marker = _marker(how)
    told = f"{wire.edge.source} → {wire.target}.{wire.edge.name}: {LEGEND[how]}"
    return (
        f'<path class="wire {how}" d="{way}" marker-end="url(#{marker})">'
        f"<title>{escape(told)}</title></path>"
    )


def _marker(how: How) -> str:
    return {"triggers": "go", "fifo": "go", "loop": "back"}.get(how, "to")


def _rounded(points: list[tuple[float, float]]) -> str:
    way = ""
    for before, here, after in zip(points, points[1:], points[2:], strict=False):
        size = min(ROUND, _length(before, here) / 2, _length(here, after) / 2)
        one, two = _towards(here, before, size), _towards(here, after, size)
        way += f" L{one[0]:.1f},{one[1]:.1f} Q{here[0]:.1f},{here[1]:.1f} {two[0]:.1f},{two[1]:.1f}"
    return way + f" L{points[-1][0]:.1f},{points[-1][1]:.1f}"


def _length(a: tuple[float, float], b: tuple[float, float]) -> float:
    return abs(a[0] - b[0]) + abs(a[1] - b[1])  # along one axis


def _towards(
    start: tuple[float, float], end: tuple[float, float], size: float
) -> tuple[float, float]:
    length = _length(start, end) or 1.0
    share = size / length
    return start[0] + (end[0] - start[0]) * share, start[1] + (end[1] - start[1]) * share


def _legend(drawing: Drawing, layout: Layout) -> Iterator[str]:
    x, y = MARGIN, layout.height - 18.0
    for how in drawing.used():
        end = f'marker-end="url(#{_marker(how)})"'
        yield f'<path class="wire {how}" d="M{x:.1f},{y - 4:.1f} h30" {end}/>'
        yield _text(x + 38.0, y, LEGEND[how], FACT, "dim")
        x += 38.0 + text_width(LEGEND[how], FACT) + 22.0


def _legend_width(drawing: Drawing) -> float:
    return sum(60.0 + text_width(LEGEND[how], FACT) for how in drawing.used())


def _title_width(drawing: Drawing) -> float:
    title = text_width(drawing.title, 20.0, True)
    return 2 * MARGIN + max(title, text_width(drawing.subtitle, HEAD))


def _colour(verdict: str) -> str:
    word = verdict.partition(" ")[0]
    return {"": "dim", "holds": "holds", "fails": "fails", "unbounded": "fails"}.get(word, "wait")


def _rect(x: float, y: float, width: float, height: float, kind: str, round_: float) -> str:
    return (
        f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" '
        f'height="{height:.1f}" rx="{round_:g}"/>'
    )


def _text(
    x: float,
    y: float,
    text: str,
    size: float,
    kind: str = "",
    bold: bool = False,
    anchor: str = "start",
) -> str:
    colour = f' class="{kind}"' if kind else ""
    weight = ' font-weight="600"' if bold else ""
    side = f' text-anchor="{anchor}"' if anchor != "start" else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size:g}"{colour}{weight}{side}>'
        f"{escape(text)}</text>"
    )
