"""A graph for a terminal: lanes with their boxes in order, every input with its edge."""

from collections.abc import Iterator

from haihe.pipelines.draw.drawing import LEGEND, Drawing, How, LaneFrame, Number

LINES: dict[How, str] = {
    "triggers": "━▶",
    "local": "─▶",
    "sampled": "┄▷",
    "fifo": "═▶",
    "aligned": "≈▷",
    "loop": "↺ ",
}


def text(drawing: Drawing) -> str:
    """The drawing as lines of text, some 90 columns wide."""
    lines = [f"{drawing.title}  {drawing.subtitle}"]
    for box in drawing.streams:
        lines += ["", f"◉ {box.title}  {', '.join(box.facts)}"]
    names = max((len(box.title) for box in drawing.boxes()), default=0)
    edges = [edge for box in drawing.boxes() for edge in box.inputs]
    ports = max((len(edge.name) for edge in edges), default=0)
    sources = max((len(edge.source) for edge in edges), default=0)
    details = max((len(edge.detail) for edge in edges), default=0)
    for thread in drawing.threads:
        lines.append("")
        alone = len(thread.lanes) == 1
        if not alone or thread.name != thread.lanes[0].name:
            lines.append(_facts(f"thread {thread.name}", thread.facts))
        for lane in thread.lanes:
            facts = thread.facts if alone and thread.name == lane.name else ()
            lines.append(_facts(f"lane {lane.name}  {lane.when}", facts, lane.number))
            lines += _lane(lane, (names, ports, sources, details))
    lines += ["", "  ".join(f"{LINES[how].strip()} {LEGEND[how]}" for how in drawing.used())]
    return "\n".join(line.rstrip() for line in lines)


def _lane(lane: LaneFrame, widths: tuple[int, int, int, int]) -> Iterator[str]:
    names, ports, sources, details = widths
    for box in lane.boxes:
        last = box is lane.boxes[-1]
        facts = ", ".join([*box.facts, *_number(box.number, "response")])
        yield f"{'└' if last else '├'}─ {box.title:<{names}}  {facts}"
        for edge in box.inputs:
            what = "waiting" if edge.how == "fifo" else "age"
            detail = "  ".join([f"{edge.detail:<{details}}", *_number(edge.number, what)])
            yield (
                f"{' ' if last else '│'}    {LINES[edge.how]} {edge.name:<{ports}}  "
                f"{edge.source:<{sources}}  {detail}"
            )


def _facts(title: str, facts: tuple[str, ...], number: Number | None = None) -> str:
    return "  ".join([title, *facts, *_number(number, "response")])


def _number(number: Number | None, what: str) -> list[str]:
    if number is None:
        return []
    return [f"{what} {number}"]
