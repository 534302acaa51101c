"""The report for people: aligned, at most 100 columns, the user's names, ms with one decimal."""

import os
import re
import textwrap

from haihe.pipelines.check.finding import some
from haihe.pipelines.check.report import (
    Budget,
    ChainReport,
    Cure,
    LaneReport,
    Part,
    Promise,
    Report,
    Verdict,
)
from haihe.runtime.units import format_ns

WIDTH = 100
CELLS = 24  # of the bar
TERMS = 10  # of the bar, at most
LEAST = 2  # rows under a lane that are worth showing
LANES, ROWS, CHAINS, READS, PROMISES, FINDINGS = 24, 40, 8, 6, 16, 24  # shown at most
COLOURS = {"holds": 32, "hold": 32, "expected": 33, "warns": 33, "fails": 31, "unbounded": 31}
_WORD = re.compile(rf"\b({'|'.join(COLOURS)})\b")


def text(report: Report, *, colour: bool = False) -> str:
    """The whole report, without a newline at its end."""
    blocks = [
        _head(report),
        _lanes(report),
        *(_chain(chain, report.verdict) for chain in _weakest_first(report.chains)[:CHAINS]),
        _more(len(report.chains) - CHAINS, "chain"),
        _promises(report.promises, report.verdict),
        _cures(report),
        _todo(report),
        _findings(report),
        _assumptions(report),
    ]
    whole = "\n\n".join("\n".join(line.rstrip() for line in block) for block in blocks if block)
    whole = whole.replace(f"{os.getcwd()}/", "")
    return _WORD.sub(_coloured, whole) if colour else whole


def _coloured(match: re.Match[str]) -> str:
    return f"\x1b[{COLOURS[match[1]]}m{match[1]}\x1b[0m"


def _head(report: Report) -> list[str]:
    verdict = f"verdict  {report.verdict}"
    left = f"{report.graph} on {report.board} · unit {report.unit} · {_threads(report)}"
    if len(left) + 2 + len(verdict) <= WIDTH:
        return [left + verdict.rjust(WIDTH - len(left))]
    return [_cut(left, WIDTH), *_wrapped(verdict, "", " " * 9)]


def _threads(report: Report) -> str:
    lanes, threads = len(report.lanes), {lane.thread: lane.core for lane in report.lanes}
    said = f"{lanes} {'lane' if lanes == 1 else 'lanes'}"
    if len(threads) != lanes:
        said += f" in {len(threads)} {'thread' if len(threads) == 1 else 'threads'}"
    if all(core >= 0 for core in threads.values()):
        cores = ",".join(str(core) for core in sorted(set(threads.values())))
        said += f" on cores {cores}"
    processes = len({lane.process for lane in report.lanes})
    return said if processes == 1 else f"{said}, {processes} processes"


# --- lanes ------------------------------------------------------------------------------------


def _lanes(report: Report) -> list[str]:
    rows = [["lane", "node", "budget", "from", "response", "deadline", "load"]]
    deadlines: dict[str, int] = {}
    for promise in report.promises:
        if promise.kind == "deadline":
            deadlines[promise.subject] = promise.limit
    shown = report.lanes[:LANES]
    items = ROWS // max(1, len(shown)) - 1  # beside the row of the lane
    for lane in shown:
        rows += _lane(lane, deadlines, items)
    caps = (15, 18, 9, 26, 9, 9, 6)
    cells = [[_cut(cell, cap) for cell, cap in zip(row, caps, strict=True)] for row in rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(caps))]
    lines = []
    for row in cells:
        placed = [
            cell.ljust(width) if column in (0, 1, 3) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(placed))
    return lines + _more(len(report.lanes) - LANES, "lane") + _processes(report)


def _processes(report: Report) -> list[str]:
    """Which lanes run where, if there is more than one process."""
    lanes: dict[str, list[str]] = {}
    for lane in report.lanes:
        lanes.setdefault(lane.process, []).append(lane.name)
    said = " · ".join(f"{process}: {some(names)}" for process, names in lanes.items())
    return _wrapped(said, "processes  ", " " * 11) if len(lanes) > 1 else []


def _lane(lane: LaneReport, deadlines: dict[str, int], most: int) -> list[list[str]]:
    limits = [deadlines[item.name] for item in lane.items if item.name in deadlines]
    deadline = format_ns(min(limits)) if limits else "—"
    load = "—" if lane.load is None else f"{round(lane.load * 100)} %"
    tail = [ms(lane.response_ns), deadline, load]
    if len(lane.items) == 1:
        item = lane.items[0]
        return [[lane.name, item.name, ms(item.ns), item.said, *tail]]
    if most < LEAST:
        longest = _heaviest(lane.items, 1)[0].name
        said = f"{longest} + {len(lane.items) - 1}"
        return [[lane.name, said, ms(lane.worst_ns), "", *tail]]
    whole = f"{len(lane.items)} together"
    rows = [[lane.name, whole, ms(lane.worst_ns), "", *tail]]
    shown = lane.items if len(lane.items) <= most else _heaviest(lane.items, most)
    rows += [["", item.name, ms(item.ns), item.said, "", "", ""] for item in shown]
    if len(shown) < len(lane.items):
        left = sum(item.ns or 0 for item in lane.items if item not in shown)
        rows.append(["", f"and {len(lane.items) - len(shown)} more", ms(left), "", "", "", ""])
    return rows


def _heaviest(items: list[Budget], most: int) -> list[Budget]:
    """Those without a budget, then the longest, in the order of the lane."""
    order = sorted(items, key=lambda item: (item.ns is not None, -(item.ns or 0)))[:most]
    return [item for item in items if item in order]


# --- chains and contracts ---------------------------------------------------------------------


def _weakest_first(chains: list[ChainReport]) -> list[ChainReport]:
    return sorted(chains, key=lambda chain: (-chain.verdict.rank, -(chain.oldest_ns or 0)))


def _chain(chain: ChainReport, whole: Verdict) -> list[str]:
    way = " → ".join(chain.path)
    lines = [f"{_cut(way, 48):<48}{'bound':>9}  {'contract':<9}"]
    weakest = sorted(chain.promises, key=lambda promise: -promise.verdict.rank)[:READS]
    limits: list[Promise | None] = [one for one in chain.promises if one in weakest]
    reading = f"age of {chain.reader}"
    for promise in limits or [None]:
        if promise is None:
            lines.append(_row(reading, chain.reading_ns, "—", ""))
        else:
            what = reading
            if promise.subject != _reader_port(chain):
                what = f"age of {promise.subject} when read"
            lines.append(
                _row(what, promise.bound, format_ns(promise.limit), _verdict(promise, whole))
            )
            lines += _place(promise)
    left = len(chain.promises) - len(weakest)
    lines += [f"  and {left} more inputs on the way"] if left else []
    if chain.promises and all(p.subject != _reader_port(chain) for p in chain.promises):
        lines.append(_row(reading, chain.reading_ns, "—", ""))
    last = chain.actuator or chain.path[-1]
    sent = "age when the first byte leaves" if chain.actuator else "age when it is published"
    lines.append(_row(sent, chain.sent_ns, "—", ""))
    oldest = (
        f"oldest data {last} still acts on" if chain.actuator else "oldest while it is the newest"
    )
    lines.append(_row(oldest, chain.oldest_ns, "—", "= slowest reaction to an event"))
    if chain.oldest_ns is None and chain.verdict != whole:
        lines.append(f"  {chain.verdict}")
    lines += _bar(chain.parts)
    if chain.headroom is not None:
        found = chain.headroom
        factor = found.most_ns / found.budget_ns
        above = " and ".join(part for part in (found.jump, found.breaks) if part)
        said = f"{found.node} may take {ms(found.most_ns)} (×{factor:.2f})"
        said += f". Above it {above}: fails." if above else ", which is as far as was looked."
        lines += _wrapped(said, "  headroom  ", " " * 12)
    return lines


def _reader_port(chain: ChainReport) -> str:
    port, _, rest = chain.reader.partition(" when ")
    return f"{rest.removesuffix(' reads')}.{port}"


def _row(what: str, bound: int | None, limit: str, verdict: str) -> str:
    return f"  {_cut(what, 46):<46}{ms(bound):>9}  {limit:<9} {verdict}"


def _place(promise: Promise) -> list[str]:
    """Where a contract stands that does not hold."""
    fails = promise.verdict.word == "fails"
    return [f"    {promise.line}"] if fails else []


def _verdict(promise: Promise, whole: Verdict) -> str:
    """The word and what is left. A reason that stands in the head is not told again."""
    spare = promise.spare
    if promise.verdict.is_well and spare is not None:
        word = promise.verdict.word.split(" ")[0]
        left = f"{spare} to spare" if promise.kind == "fifo" else f"{ms(spare)} spare"
        return f"{word:<9} {left}"
    if promise.bound is None and promise.verdict == whole:
        return promise.verdict.word
    return str(promise.verdict)


def _bar(parts: list[Part]) -> list[str]:
    total = sum(part.ns for part in parts) or 1
    if len(parts) > TERMS:
        parts = _gathered(parts)
    words = []
    for part in parts:
        cells = max(1, round(CELLS * part.ns / total))
        words.append(f"{part.ns / 1e6:.1f} {part.label} {'▇' * cells}")
    lines, line = [], "   "
    for word in words:
        if len(line) + 1 + len(word) > WIDTH and line.strip():
            lines.append(line)
            line = "   "
        line += f" {word} "
    return [*lines, line] if words else []


def _gathered(parts: list[Part]) -> list[Part]:
    """The terms of a long way: those of one name together, the small ones as one."""
    whole: dict[str, int] = {}
    for part in parts:
        whole[part.label] = whole.get(part.label, 0) + part.ns
    largest = sorted(whole, key=lambda name: -whole[name])[: TERMS - 1]
    found = [Part(name, ns) for name, ns in whole.items() if name in largest]
    rest = sum(ns for name, ns in whole.items() if name not in largest)
    return [*found, Part(f"{len(whole) - len(largest)} more", rest)] if rest else found


def _promises(promises: list[Promise], whole: Verdict) -> list[str]:
    if not promises:
        return []
    order = sorted(promises, key=lambda p: -p.verdict.rank)[:PROMISES]
    shown = [promise for promise in promises if promise in order]
    lines = [f"{'other contracts':<48}{'bound':>9}  {'contract':<9}"]
    for promise in shown:
        if promise.kind == "fifo":
            bound = "—" if promise.bound is None else str(promise.bound)
            what = f"messages that wait at {promise.subject}"
            lines.append(
                f"  {_cut(what, 46):<46}{bound:>9}  {promise.limit:<9} {_verdict(promise, whole)}"
            )
            lines += _place(promise)
            continue
        is_age = promise.kind == "fresh"
        subject = promise.subject
        said = f"age of {subject} when read" if is_age else f"{subject} from release to publication"
        lines.append(_row(said, promise.bound, format_ns(promise.limit), _verdict(promise, whole)))
        lines += _place(promise)
    return lines + _more(len(promises) - len(shown), "contract")


# --- what to do -------------------------------------------------------------------------------


def _cures(report: Report) -> list[str]:
    if not report.cures:
        return []
    helping = [cure for cure in report.cures if cure.helps]
    wrong = [cure for cure in report.cures if not cure.helps]
    is_failing = not report.verdict.is_well
    lines = []
    if helping:
        lead = "cures, each analysed again" if is_failing else "no cure is needed; what would help"
        lines += [lead, *_listed(helping)]
    if wrong:
        lines += ["what looks like a cure and is none", *_listed(wrong)]
    return lines


def _listed(cures: list[Cure]) -> list[str]:
    width = min(40, max(len(cure.change) for cure in cures))
    lines = []
    for cure in cures:
        lines += _wrapped(f"{cure.change:<{width}}  {cure.effect}", "  ", " " * (width + 4))
    return lines


def _todo(report: Report) -> list[str]:
    if not report.todo:
        return []
    lines = ["for a stronger verdict" if report.verdict.word != "unbounded" else "to do"]
    for entry in report.todo[:FINDINGS]:
        lines += _wrapped(entry, "  ", "    ")
    return lines + _more(len(report.todo) - FINDINGS, "line")


def _findings(report: Report) -> list[str]:
    lines = ["found besides timing"] if report.findings else []
    for finding in report.findings[:FINDINGS]:
        lines += _wrapped(f"{finding.severity:<5} {finding.where}", "  ", " " * 8)
        lines += _wrapped(f"{finding.text} {finding.cure}".strip(), " " * 8, " " * 8)
    return lines + _more(len(report.findings) - FINDINGS, "finding")


def _assumptions(report: Report) -> list[str]:
    return _wrapped(" · ".join(report.assumptions), "assumes  ", " " * 9)


def _wrapped(said: str, first: str, following: str) -> list[str]:
    return textwrap.wrap(
        said, WIDTH, initial_indent=first, subsequent_indent=following,
        break_on_hyphens=False,
    )  # fmt: skip


def _more(number: int, what: str) -> list[str]:
    return [f"  and {number} more {what}{'s' if number > 1 else ''}"] if number > 0 else []


def _cut(said: str, width: int) -> str:
    """Not longer than its place: the end of a long name tells more than its middle."""
    if len(said) <= width:
        return said
    left = width // 2 - 1
    return f"{said[:left]}…{said[len(said) - (width - left - 1) :]}"


def ms(ns: int | None) -> str:
    """A time in ms with one decimal; below 0.05 ms in µs."""
    if ns is not None and 0 < ns < 50_000:
        return f"{ns / 1e3:.0f} µs"
    return "—" if ns is None else f"{ns / 1e6:.1f} ms"
