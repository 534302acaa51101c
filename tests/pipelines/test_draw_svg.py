"""The SVG of a graph: nothing overlaps, every text fits, no line crosses a box."""

import itertools
import xml.etree.ElementTree as ET
from collections.abc import Iterator

import pytest
from tests.pipelines.drawings import NUMBERS, drawn, narrow_drawing, random_drawing

from haihe.pipelines.draw.drawing import (
    Box,
    Drawing,
    LaneFrame,
    ThreadFrame,
)
from haihe.pipelines.draw.layout import Layout, Wire, lay_out
from haihe.pipelines.draw.metrics import shorten, text_width
from haihe.pipelines.draw.svg import svg

Rectangle = tuple[float, float, float, float]  # left, top, right, bottom


DRAWINGS = [
    drawn,
    lambda: drawn(NUMBERS),
    lambda: narrow_drawing("n"),
    lambda: narrow_drawing("long name " * 14),
    *(lambda s=s: random_drawing(s) for s in range(40)),
]


@pytest.fixture(params=range(len(DRAWINGS)), ids=lambda i: f"drawing{i}")
def drawing(request: pytest.FixtureRequest) -> Drawing:
    made: Drawing = DRAWINGS[request.param]()
    return made


def rectangles(layout: Layout) -> dict[str, Rectangle]:
    return {
        key: (p.x, p.y, p.x + p.width, p.y + p.height) for key, p in layout.boxes.items()
    }  # fmt: skip


def overlap(a: Rectangle, b: Rectangle) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def within(inner: Rectangle, outer: Rectangle) -> bool:
    return (
        inner[0] >= outer[0] and inner[1] >= outer[1]
        and inner[2] <= outer[2] and inner[3] <= outer[3]
    )  # fmt: skip


def test_boxes_and_lanes_do_not_overlap(drawing: Drawing) -> None:
    layout = lay_out(drawing)
    found = rectangles(layout)
    assert set(found) == {box.key for box in drawing.boxes()}
    for one, other in itertools.combinations(found, 2):
        assert not overlap(found[one], found[other]), (one, other)
    page = (0.0, 0.0, layout.width, layout.height)
    bands = {b.lane.name: (b.x, b.y, b.x + b.width, b.y + b.height)
             for b in layout.bands if b.lane}  # fmt: skip
    for one, other in itertools.combinations(bands, 2):
        assert not overlap(bands[one], bands[other]), (one, other)
    for box in drawing.boxes():
        if box.lane:
            assert within(found[box.key], bands[box.lane]), box.key
        else:
            assert not any(overlap(found[box.key], band) for band in bands.values())
    for rectangle in (*found.values(), *bands.values()):
        assert within(rectangle, page)
    for band in layout.bands:
        if band.thread:
            outer = (band.x, band.y, band.x + band.width, band.y + band.height)
            assert all(within(bands[lane.name], outer) for lane in band.thread.lanes)


def test_no_line_crosses_a_box(drawing: Drawing) -> None:
    layout = lay_out(drawing)
    found = rectangles(layout)
    assert len(layout.wires) == sum(len(box.inputs) for box in drawing.boxes())
    for wire in layout.wires:
        for x, y in _along(wire):
            for key, (left, top, right, bottom) in found.items():
                inside = left + 1 < x < right - 1 and top + 1 < y < bottom - 1
                assert not inside, (wire.edge.source, wire.target, key)


def test_lines_end_at_their_boxes(drawing: Drawing) -> None:
    layout = lay_out(drawing)
    found = rectangles(layout)
    for wire in layout.wires:
        left, top, _, bottom = found[wire.target]
        x, y = wire.points[-1]
        assert x == left
        assert top < y < bottom
        _, top, right, bottom = found[wire.edge.box]
        x, y = wire.points[0]
        assert x == right
        assert top < y < bottom


def _along(wire: Wire) -> Iterator[tuple[float, float]]:
    """Points on the line as it is drawn."""
    points = wire.points
    if wire.is_back:
        for (x1, y1), (x2, y2) in itertools.pairwise(points):
            for i in range(41):
                yield x1 + (x2 - x1) * i / 40, y1 + (y2 - y1) * i / 40
        return
    for number, ((x1, y1), (x2, y2)) in enumerate(itertools.pairwise(points)):
        for i in range(41):
            t = i / 40
            if number % 2:  # level, through a column
                yield x1 + (x2 - x1) * t, y1
                continue
            bend = (x2 - x1) / 2
            a, b, c, d = (1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3
            yield (
                a * x1 + b * (x1 + bend) + c * (x2 - bend) + d * x2,
                (a + b) * y1 + (c + d) * y2,
            )


def test_every_text_fits_and_none_overlaps(drawing: Drawing) -> None:
    layout = lay_out(drawing)
    root = ET.fromstring(svg(drawing))
    width, height = (float(root.attrib[key]) for key in ("width", "height"))
    boxes = rectangles(layout)
    seen: list[tuple[str, Rectangle]] = []
    for element in root.iter("{http://www.w3.org/2000/svg}text"):
        told = element.text or ""
        size, x, y = (float(element.attrib[key]) for key in ("font-size", "x", "y"))
        length = text_width(told, size, "font-weight" in element.attrib)
        left = x - length if element.get("text-anchor") == "end" else x
        place = (left, y - 0.78 * size, left + length, y + 0.22 * size)
        assert within(place, (0.0, 0.0, width, height)), told
        for key, box in boxes.items():
            assert within(place, box) or not overlap(place, box), (told, key)
        seen.append((told, place))
    for (one, a), (other, b) in itertools.combinations(seen, 2):
        assert not overlap(a, b), (one, other)
    assert {box.title for box in drawing.boxes()} <= {one for one, _ in seen}


def test_the_same_graph_is_the_same_picture() -> None:
    assert svg(drawn()) == svg(drawn())
    assert svg(random_drawing(3)) == svg(random_drawing(3))


def test_the_picture_stands_alone() -> None:
    made = svg(drawn(NUMBERS))
    root = ET.fromstring(made)
    tags = {element.tag.rpartition("}")[2] for element in root.iter()}
    assert tags == {
        "svg", "style", "defs", "marker", "path", "rect", "text", "g", "title",
    }  # fmt: skip
    assert "http" not in made.replace("http://www.w3.org/2000/svg", "")
    assert "prefers-color-scheme:dark" in made
    paths = [e for e in root.iter("{http://www.w3.org/2000/svg}path") if e.get("class")]
    kinds = [path.attrib["class"] for path in paths]
    # three that trigger and one of each in the legend besides
    assert kinds.count("wire triggers") == 2 + 1
    assert kinds.count("wire fifo") == kinds.count("wire loop") == kinds.count("wire aligned") == 2
    colours = {e.text: e.get("class") for e in root.iter("{http://www.w3.org/2000/svg}text")}
    assert colours["86.3 ms of 120 ms"] == "holds"
    assert colours["312 ms of 250 ms"] == "fails"
    assert colours["2 of 4 places"] == "holds"
    assert colours["response 1.9 ms expected"] == "wait"
    assert colours["response 28.7 ms"] == "dim head"


# measured in em by a browser (canvas, measureText): DejaVu Sans at weight 400 and 600
DEJAVU = {
    "deadline 5 ms": (7.07, 7.89),
    "triggers": (3.90, 4.51),
    "depth": (2.91, 3.30),
    "part": (2.05, 2.36),
    "guard · write neck": (9.07, 10.30),
    "front · on front.image": (10.71, 12.27),
    "/dev/ttyUSB0 · 1,000,000 baud": (15.46, 17.25),
    "WWWMMM": (5.55, 6.29),
    "#%&@+=<>~$": (8.39, 8.60),
    "0123456789": (6.36, 6.96),
    "response 28.7 ms": (8.90, 9.96),
}


@pytest.mark.parametrize("told", DEJAVU)
def test_widths_are_estimated_from_above_but_not_far(told: str) -> None:
    regular, bold = DEJAVU[told]
    assert regular <= text_width(told, 1.0) <= 1.2 * regular
    assert bold <= text_width(told, 1.0, bold=True) <= 1.3 * bold


def test_an_ideograph_is_as_wide_as_it_is_high() -> None:
    assert text_width("照相机", 10.0) >= 30.0


def test_what_is_too_long_is_cut_and_kept_as_a_tip() -> None:
    assert shorten("short", 100.0, 10.0) == "short"
    cut = shorten("a" * 80, 100.0, 10.0)
    assert cut.endswith("…")
    assert text_width(cut, 10.0) <= 100.0
    box = Box("a", "node", "a", ("b" * 80,), lane="l")
    drawing = Drawing("d", "", (), (ThreadFrame("l", (), (LaneFrame("l", "on a", (box,)),)),))
    made = svg(drawing)
    assert made.count("b" * 80) == 1
    assert f"<title>a\n{'b' * 80}</title>" in made
