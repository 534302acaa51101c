"""Where what was acted on came from: the tree of messages behind one, as a firing reads it."""

from dataclasses import dataclass

from haihe.bench.measure.evidence import Evidence, span

DEEPEST = 20  # of the tree; lanes may feed each other


@dataclass(frozen=True)
class Origin:
    """A message in the descent of a command; `depth` is that of its place in the tree."""

    depth: int
    port: str
    source: str
    sequence: int  # 0: none
    text: str


def descend(
    evidence: Evidence,
    found: list[Origin],
    lane: str,
    row: int,
    source: str,
    port: str,
    depth: int = 0,
) -> None:
    """The tree of messages behind one that a firing reads."""
    at = evidence.at
    sequence = int(evidence.lineage.samples(lane, source).sequence[row])
    if not sequence:
        found.append(Origin(depth, port, source, 0, "none yet"))
        return
    if not evidence.lineage.home(source):
        rows = evidence.stream(source)
        rows = rows[rows[:, 0] == sequence]
        text = "its stamps are not recorded"
        if len(rows):
            _, capture, delivered = rows[0].tolist()
            later = span(delivered - capture)
            text = f"captured {at(capture)}, delivered {at(delivered)} ({later} later)"
        found.append(Origin(depth, port, source, sequence, text))
        return
    made = evidence.maker(source, sequence)
    if made is None:
        found.append(Origin(depth, port, source, sequence, "its firing is not recorded"))
        return
    home, r = evidence.lanes[made.lane], made.row
    which = f"firing {home.number[r]} of lane {made.lane}"
    owner = source.split(".")[0]
    if owner in home.buses:
        text = f"captured {at(int(home.buses[owner].state_at[r]))}, read in {which}"
        found.append(Origin(depth, port, source, sequence, text))
        return
    took = f", nodes {span(int(home.run[r]))}" if home.run[r] else ""
    text = f"made in {which} at {at(int(home.clock[r]))}{took}"
    found.append(Origin(depth, port, source, sequence, text))
    if depth > DEEPEST:
        found.append(Origin(depth + 1, "", source, 0, "its descent goes on, not followed"))
        return
    step = evidence.step(owner)
    inputs = list(evidence.inputs(step))
    if step.select:  # the first that was published
        inputs = [(n, e) for n, e in inputs if home.fired(e.source)[r]][:1]
    for name, edge in inputs:
        if edge.kind == "loop":
            text = f"remembers {edge.fed_by} of an earlier firing"
            found.append(Origin(depth + 1, name, edge.source, 0, text))
        elif edge.kind == "goal":
            found.append(Origin(depth + 1, name, edge.source, 0, "asked for from outside"))
        else:
            descend(evidence, found, made.lane, r, edge.source, name, depth + 1)
