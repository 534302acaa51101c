"""A graph as Mermaid (`flowchart LR`), for pages that draw it."""

from collections.abc import Iterator

from haihe.pipelines.draw.drawing import Box, Drawing, How, Input, LaneFrame, ThreadFrame

ARROWS: dict[How, str] = {
    "triggers": "==>",
    "local": "-->",
    "sampled": "-.->",
    "fifo": "==>",
    "aligned": "-.->",
    "loop": "-.->",
}
SHAPES = {"stream": ("([", "])"), "read": ("[/", "/]"), "node": ("[", "]"), "write": ("[[", "]]")}


def mermaid(drawing: Drawing) -> str:
    """The drawing as a Mermaid flowchart."""
    ids = {box.key: f"b{number}" for number, box in enumerate(drawing.boxes())}
    lines = ["flowchart LR"]
    lines += [f"  {_box(box, ids)}" for box in drawing.streams]
    processes = dict.fromkeys(thread.process for thread in drawing.threads)
    for process in processes:
        indent = "    " if process else "  "
        if process:
            lines.append(f'  subgraph p{len(lines)}["{_escape(f"process {process}")}"]')
        for number, thread in enumerate(drawing.threads):
            if thread.process == process:
                lines += _thread(thread, ids, number, len(lines), indent)
        if process:
            lines.append("  end")
    lines += [
        f"  {ids[edge.box]} {_arrow(edge)} {ids[box.key]}"
        for box in drawing.boxes()
        for edge in box.inputs
    ]
    return "\n".join(lines)


def _thread(
    thread: ThreadFrame, ids: dict[str, str], number: int, line: int, indent: str
) -> list[str]:
    """line: how many come before, which makes names."""
    if len(thread.lanes) == 1:
        return list(_lane(thread.lanes[0], ids, f"l{line}", indent))
    lines = [f'{indent}subgraph t{number}["{_escape(f"thread {thread.name}")}"]']
    for lane in thread.lanes:
        lines += _lane(lane, ids, f"l{line + len(lines)}", indent + "  ")
    return [*lines, f"{indent}end"]


def _lane(lane: LaneFrame, ids: dict[str, str], key: str, indent: str) -> Iterator[str]:
    number = f" · response {lane.number}" if lane.number else ""
    yield f'{indent}subgraph {key}["{_escape(f"lane {lane.name} · {lane.when}{number}")}"]'
    for box in lane.boxes:
        yield f"{indent}  {_box(box, ids)}"
    yield f"{indent}end"


def _box(box: Box, ids: dict[str, str]) -> str:
    left, right = SHAPES[box.kind]
    lines = [f"<b>{_escape(box.title)}</b>", *map(_escape, box.facts)]
    if box.number is not None:
        lines.append(_escape(f"response {box.number}"))
    return f'{ids[box.key]}{left}"{"<br>".join(lines)}"{right}'


def _arrow(edge: Input) -> str:
    parts = [edge.name, edge.detail]
    if edge.how in ("loop", "fifo", "aligned"):
        parts.append({"loop": "previous", "fifo": "in order", "aligned": "nearest"}[edge.how])
    if edge.number is not None:
        parts.append(str(edge.number))
    return f'{ARROWS[edge.how]}|"{_escape(" · ".join(p for p in parts if p))}"|'


def _escape(text: str) -> str:
    """Mermaid reads quotes and markup inside a quoted label as entities only."""
    for character, entity in (("#", "#35;"), ("&", "#amp;"), ('"', "#quot;"), ("<", "#lt;"),
                              (">", "#gt;"), ("`", "#96;")):  # fmt: skip
        text = text.replace(character, entity)
    return text
