"""Where everything of a drawing stands: columns by depth, a band for each lane.

The steps are those of Sugiyama, Tagawa and Toda (1981), with lanes as bands: lines that run
backwards are taken out, boxes get columns by their longest path, a line that passes a column gets
a place of its own there, places are ordered by their neighbours, then moved towards them. So a
line crosses no box. What runs backwards takes a track at the foot of its band.
"""

import itertools
from collections.abc import Iterator

import msgspec

from haihe.pipelines.draw.drawing import Box, Drawing, Input, LaneFrame, ThreadFrame
from haihe.pipelines.draw.metrics import shorten, text_width

TITLE, FACT, HEAD = 13.0, 11.0, 12.0  # font sizes
PAD, TITLE_H, FACT_H, PORT_H = 12.0, 24.0, 16.0, 20.0
MOST = 250.0  # width of the text in a box, from which on it is cut
CHANNEL, PASS_H, ROW_GAP = 64.0, 14.0, 18.0
BAND_HEAD, BAND_PAD, BAND_GAP, TRACK = 30.0, 16.0, 18.0, 14.0
MARGIN, TOP, FOOT = 24.0, 72.0, 44.0


class Placed(msgspec.Struct):
    """A box with its rectangle and its texts as they are drawn."""

    box: Box
    x: float
    y: float
    width: float
    height: float
    facts: tuple[str, ...]

    def port_y(self, index: int) -> float:
        """The middle of an input's row, from the box's top."""
        return TITLE_H + PAD / 2 + FACT_H * len(self.facts) + PORT_H * (index + 0.5) + 2

    def out_y(self) -> float:
        """The middle of the title, where its outputs leave."""
        return TITLE_H / 2 + PAD / 2


class Wire(msgspec.Struct):
    """An edge as drawn: points of its way; `is_back`: at right angles through a track."""

    edge: Input
    target: str
    points: list[tuple[float, float]]
    is_back: bool = False


class Band(msgspec.Struct):
    """A frame around a lane, or around the lanes of a thread."""

    title: str
    x: float
    y: float
    width: float
    height: float
    lane: LaneFrame | None = None
    thread: ThreadFrame | None = None


class Layout(msgspec.Struct):
    """A drawing with coordinates, in px."""

    width: float
    height: float
    boxes: dict[str, Placed]
    bands: list[Band]
    wires: list[Wire]


class _Place(msgspec.Struct):
    """Something in a column of a band: a box, or a line that passes."""

    key: str
    height: float
    wanted: float = 0.0
    y: float = 0.0


def head_of(thread: ThreadFrame, lane: LaneFrame) -> str:
    """What stands at the head of a lane's band."""
    own = thread.facts if len(thread.lanes) == 1 else ()
    name = f"{lane.name}" if len(thread.lanes) > 1 or thread.name == lane.name else (
        f"{lane.name} · thread {thread.name}"
    )  # fmt: skip
    return " · ".join([name, lane.when, *own])


def number_text(lane: LaneFrame) -> str:
    """The lane's response, as its band says it."""
    if lane.number is None:
        return ""
    return f"response {lane.number}"


def lay_out(drawing: Drawing) -> Layout:
    """Place every box, band and line."""
    return _Layouter(drawing).layout()


class _Layouter:
    def __init__(self, drawing: Drawing) -> None:
        self.drawing = drawing
        self.boxes = {box.key: _measured(box) for box in drawing.boxes()}
        self.edges = [
            (edge, index, box) for box in drawing.boxes() for index, edge in enumerate(box.inputs)
        ]
        self.back = self._backward()
        self.columns = self._columns()
        self.threads = sorted(drawing.threads, key=self._depth)
        self.places: dict[tuple[str, int], list[_Place]] = {}  # (lane, column)
        self.passes: dict[int, list[str]] = {}  # edge -> the places on its way
        self.where: dict[str, tuple[_Place, int]] = {}

    def layout(self) -> Layout:
        self._fill()
        for _ in range(4):
            self._order()
        count = 1 + max(self.columns.values(), default=0)
        widths = [0.0] * count
        for key, placed in self.boxes.items():
            widths[self.columns[key]] = max(widths[self.columns[key]], placed.width)
        channel = CHANNEL + 8.0 * len(self.back)
        xs, x = [], MARGIN + 16.0 + 8.0 * len(self.back)
        for width in widths:
            xs.append(x)
            x += width + channel
        right = x - channel + 24.0 + 8.0 * len(self.back)
        right = max([right, *(self._head_width(*pair) for pair in self._lanes())])
        bands, height = self._bands(xs[1] if self.drawing.streams and count > 1 else xs[0], right)
        for key, placed in self.boxes.items():
            column = self.columns[key]
            placed.x, placed.y = xs[column], self.where[key][0].y
            placed.width = widths[column]
        wires = self._wires(xs, widths)
        return Layout(right + MARGIN, height + FOOT, self.boxes, bands, wires)

    def _lanes(self) -> Iterator[tuple[ThreadFrame, LaneFrame]]:
        for thread in self.threads:
            for lane in thread.lanes:
                yield thread, lane

    def _head_width(self, thread: ThreadFrame, lane: LaneFrame) -> float:
        text = f"{head_of(thread, lane)}    {number_text(lane)}"
        left = max((p.width for p in self.boxes.values() if not p.box.lane), default=0.0)
        return MARGIN + left + CHANNEL + text_width(text, HEAD, True) + 3 * PAD

    # --- columns ------------------------------------------------------------------------------

    def _backward(self) -> set[int]:
        """The edges that run backwards: feedbacks, and what closes a circle of lanes."""
        back = {i for i, (edge, _, _) in enumerate(self.edges) if edge.how == "loop"}
        out: dict[str, list[tuple[int, str]]] = {key: [] for key in self.boxes}
        for i, (edge, _, box) in enumerate(self.edges):
            out[edge.box].append((i, box.key))
        state: dict[str, int] = {}

        def visit(key: str) -> None:
            state[key] = 1
            for i, target in out[key]:
                if i in back:
                    continue
                if state.get(target) == 1:
                    back.add(i)
                elif target not in state:
                    visit(target)
            state[key] = 2

        for key in self.boxes:
            if key not in state:
                visit(key)
        return back

    def _columns(self) -> dict[str, int]:
        first = 1 if self.drawing.streams else 0
        columns = {key: first if p.box.lane else 0 for key, p in self.boxes.items()}
        forward = [(e.box, b.key) for i, (e, _, b) in enumerate(self.edges) if i not in self.back]
        for _ in columns:  # longest paths, by relaxation
            for source, target in forward:
                columns[target] = max(columns[target], columns[source] + 1)
        for key, placed in self.boxes.items():  # what is read stands near to who needs it
            users = [columns[target] for source, target in forward if source == key]
            if placed.box.kind == "read" and users:
                columns[key] = max(first, min(users) - 1)
        return columns

    def _depth(self, thread: ThreadFrame) -> float:
        """How far along its boxes stand: what comes first stands higher on the page."""
        columns = [self.columns[box.key] for lane in thread.lanes for box in lane.boxes]
        return sum(columns) / max(1, len(columns))

    # --- rows ---------------------------------------------------------------------------------

    def _fill(self) -> None:
        for key, placed in self.boxes.items():
            self._put(placed.box.lane, self.columns[key], _Place(key, placed.height))
        for i, (edge, _, box) in enumerate(self.edges):
            self.passes[i] = []
            if i in self.back:
                continue
            for column in range(self.columns[edge.box] + 1, self.columns[box.key]):
                key = f"{i}@{column}"
                self._put(box.lane, column, _Place(key, PASS_H))
                self.passes[i].append(key)

    def _put(self, lane: str, column: int, place: _Place) -> None:
        self.places.setdefault((lane, column), []).append(place)
        self.where[place.key] = (place, column)

    def _neighbours(self) -> Iterator[tuple[str, float, str, float]]:
        """Each straight piece: from a place at a height to a place at a height."""
        for i, (edge, index, box) in enumerate(self.edges):
            if i in self.back:
                continue
            stops = [edge.box, *self.passes[i], box.key]
            for start, end in itertools.pairwise(stops):
                out = self.boxes[start].out_y() if start in self.boxes else PASS_H / 2
                into = self.boxes[end].port_y(index) if end in self.boxes else PASS_H / 2
                yield start, out, end, into

    def _order(self) -> None:
        """Order the places of each column by where their lines come from and go to."""
        ranks = {p.key: r / len(ps) for ps in self.places.values() for r, p in enumerate(ps)}
        names = ["", *(lane.name for _, lane in self._lanes())]
        rows = {lane: float(r) for r, lane in enumerate(names)}
        lanes = {p.key: rows[lane] for (lane, _), ps in self.places.items() for p in ps}
        sums: dict[str, list[float]] = {}
        for start, _, end, _ in self._neighbours():
            sums.setdefault(end, []).append(lanes[start] + ranks[start])
            sums.setdefault(start, []).append(lanes[end] + ranks[end])
        for places in self.places.values():
            own = {p.key: lanes[p.key] + ranks[p.key] for p in places}
            places.sort(key=lambda p: sum(s := sums.get(p.key, [own[p.key]])) / len(s))

    def _bands(self, left: float, right: float) -> tuple[list[Band], float]:
        """Give every place its height on the page, and every lane and thread its frame."""
        y, bands = TOP, []
        tracks = self._tracks()
        inside = left - 24.0 - 8.0 * len(self.back)
        self.track_y: dict[str, float] = {}
        for thread in self.threads:
            many = len(thread.lanes) > 1
            outer_y = y
            if many:
                y += BAND_HEAD + 4.0
            for lane in thread.lanes:
                stacks = [ps for (name, _), ps in self.places.items() if name == lane.name]
                body = max((_height(ps) for ps in stacks), default=0.0)
                top = y + BAND_HEAD + BAND_PAD / 2
                for places in stacks:
                    _centre(places, top, body)
                self._settle(lane.name, top, top + body)
                count = tracks.get(lane.name, 0)
                self.track_y[lane.name] = top + body + BAND_PAD
                height = BAND_HEAD + BAND_PAD * 1.5 + body + TRACK * count
                indent = 8.0 if many else 0.0
                bands.append(
                    Band(head_of(thread, lane), inside + indent, y, right - inside - 2 * indent,
                         height, lane=lane)
                )  # fmt: skip
                y += height + (BAND_GAP / 2 if many else BAND_GAP)
            if many:
                title = " · ".join([f"thread {thread.name}", *thread.facts])
                bands.insert(
                    len(bands) - len(thread.lanes),
                    Band(title, inside, outer_y, right - inside, y - outer_y, thread=thread),
                )
                y += BAND_GAP
        streams = self.places.get(("", 0), [])
        _centre(streams, TOP, max(_height(streams), y - BAND_GAP - TOP))
        self._settle("", TOP, max(TOP + _height(streams), y - BAND_GAP))
        return bands, max(y - BAND_GAP, TOP + _height(streams))

    def _tracks(self) -> dict[str, int]:
        counts: dict[str, int] = {}
        for i in self.back:
            lane = self.boxes[self.edges[i][0].box].box.lane
            counts[lane] = counts.get(lane, 0) + 1
        return counts

    def _settle(self, lane: str, top: float, bottom: float) -> None:
        """Move the places of a band towards their neighbours, as far as there is room."""
        columns = sorted(column for name, column in self.places if name == lane)
        for column in [*columns, *reversed(columns), *columns]:
            places = self.places[lane, column]
            for place in places:
                place.wanted = self._wanted(place, lane)
            low = top
            for place in places:  # down to what is wanted, in order
                place.y = max(low, place.wanted)
                low = place.y + place.height + ROW_GAP
            high = bottom
            for place in reversed(places):  # and up again where the band ends
                place.y = min(place.y, high - place.height)
                high = place.y - ROW_GAP

    def _wanted(self, place: _Place, lane: str) -> float:
        """The height at which its lines inside the band would be level; a stream's: any line's."""
        found = []
        for start, out, end, into in self._neighbours():
            for mine, my_y, other, other_y in ((end, into, start, out), (start, out, end, into)):
                if mine != place.key:
                    continue
                near = self.boxes.get(other)
                is_near = near is None or near.box.lane == lane or not lane
                if is_near and (near is not None or self._lane_of(other) == lane or not lane):
                    found.append(self.where[other][0].y + other_y - my_y)
        return sum(found) / len(found) if found else place.y

    def _lane_of(self, key: str) -> str:
        return next(lane for (lane, _), ps in self.places.items() if any(p.key == key for p in ps))

    # --- lines --------------------------------------------------------------------------------

    def _wires(self, xs: list[float], widths: list[float]) -> list[Wire]:
        wires, used = [], dict.fromkeys(self.track_y, 0)
        for i, (edge, index, box) in enumerate(self.edges):
            source, target = self.boxes[edge.box], self.boxes[box.key]
            start = (source.x + source.width, source.y + source.out_y())
            end = (target.x, target.y + target.port_y(index))
            if i in self.back:
                lane = source.box.lane
                number = sorted(self.back).index(i)
                track = self.track_y[lane] + TRACK * used[lane]
                used[lane] += 1
                out, into = start[0] + 14.0 + 8.0 * number, end[0] - 16.0 - 8.0 * number
                points = [start, (out, start[1]), (out, track), (into, track), (into, end[1]), end]
                wires.append(Wire(edge, box.key, points, True))
                continue
            points = [start]
            for key in self.passes[i]:
                place, column = self.where[key]
                y = place.y + PASS_H / 2
                points += [(xs[column], y), (xs[column] + widths[column], y)]
            wires.append(Wire(edge, box.key, [*points, end]))
        return wires


def _measured(box: Box) -> Placed:
    facts = [shorten(fact, MOST, FACT) for fact in box.facts]
    if box.number is not None:
        facts.append(shorten(f"response {box.number}", MOST, FACT))
    wide = [text_width(box.title, TITLE, True), *(text_width(fact, FACT) for fact in facts)]
    wide += [text_width(f"{e.name}    {port_detail(e)}", FACT) + 6.0 for e in box.inputs]
    height = PAD + TITLE_H + FACT_H * len(facts) + PORT_H * len(box.inputs)
    return Placed(box, 0.0, 0.0, max(wide) + 2 * PAD, height, tuple(facts))


def port_detail(edge: Input) -> str:
    """What stands at the right of an input's row."""
    if edge.number is None:
        return edge.detail
    return f"{edge.number.text} of {edge.detail.removeprefix('fresh ')}".removesuffix(" of ")


def _height(places: list[_Place]) -> float:
    return sum(p.height for p in places) + ROW_GAP * max(0, len(places) - 1)


def _centre(places: list[_Place], top: float, height: float) -> None:
    y = top + (height - _height(places)) / 2
    for place in places:
        place.y = y
        y += place.height + ROW_GAP
