"""The terms of the analysis, each with the edit of its source that deletes it.

A term that can be deleted without a counterexample is redundant, or hidden by a loose neighbour.
Two are not listed, for they have no witness, and are kept, because nothing shows that they can go:
the second and third candidates of `_fifo_nominal` in busy.py. Of 23 000 random graphs, some of them
without a fifo thread, deleting the second changed a bound in 11, deleting the third in none.
"""

# ruff: noqa: E501 - a line a term

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from haihe.runtime.plan.timing import Bounds, Timing

PACKAGE = "haihe.runtime.plan"
FILES = ("busy", "ages", "bounds")  # in the order of their imports


class Mutant(NamedTuple):
    """A term: the snippet occurs once in the file, `without` is the same without the term."""

    name: str
    file: str
    snippet: str
    without: str


BUSY = [
    ("blocking", "default=0)\n    early = 1", "default=0) * 0\n    early = 1"),
    ("blocking-one-slot", "default=0)\n    running", "default=0) * 0\n    running"),
    ("urgent-lanes", "ahead + demand(higher, w + 1)", "ahead"),
    ("urgent-at-the-start", "demand(higher, w + 1)", "demand(higher, w)"),
    ("later-jobs", "for q in range(1, arrivals(own, length) + 1):", "for q in range(1, 2):"),
    ("own-earlier-jobs", "ahead = blocking + (q - 1) * own.cost", "ahead = blocking"),
    ("delay-before-the-start", "w + 1) + delay.within(w + early)", "w + 1)"),
    (
        "delay-after-the-start",
        "settle(lambda w: work + delay.within(w + early), begun + own.cost)",
        "begun + own.cost",
    ),
    ("delay-before-the-window", "early = 1 if lower else 0", "early = 0"),
    ("jitter-of-arrivals", "count = -(-(w + load.jitter) // load.period)", "count = -(-w // load.period)"),
    ("jitter-of-the-earliest", "(q - 1) * load.period - load.jitter", "(q - 1) * load.period"),
    ("running-job-one-slot", "running = own.cost - 1", "running = 0"),
    ("queued-jobs-one-slot", "queued = (own.places - 1) * own.cost", "queued = 0"),
    ("waiting-others-fifo-slot", "sum(load.places * load.cost for", "max(load.cost for"),
    ("queued-fifo-slot", "sum(load.places * load.cost for", "sum(load.cost for"),
    (
        "running-fifo-slot",
        "default=0)\n    return settle(lambda w: waiting",
        "default=0) * 0\n    return settle(lambda w: waiting",
    ),
    ("delay-before-fifo-slot", "waiting + running + delay.within(w + 1)", "waiting + running + delay.within(w)"),
    ("delay-fifo-slot", "waiting + running + delay.within(w + 1)", "waiting + running"),
    ("later-offsets-fifo", "for offset in sorted(steps):", "for offset in sorted(steps)[:1]:"),
    ("others-fifo", "work = demand(loads, offset + 1)", "work = max(load.cost for load in loads)"),
    ("equal-arrivals-fifo", "work = demand(loads, offset + 1)", "work = demand(loads, max(1, offset))"),
    ("delay-fifo", "settle(lambda w, work=work: work + delay.within(w), max(finish, work))", "work"),
    ("nominal-later-jobs", "nominal = max(nominal, finish - (q - 1) * own.period)", "nominal = finish if q == 1 else nominal"),
    ("backlog-at-the-start", "arrivals(own, start + 1) - (q - 1)", "arrivals(own, start) - (q - 1)"),
    ("backlog-at-the-start-fifo", "arrivals(load, response - load.cost + 1)", "arrivals(load, response - load.cost)"),
]  # fmt: skip
BOUNDS = [
    ("lateness-in-load", "own.period_ns, own.late_ns, distance", "own.period_ns, 0, distance"),
    ("lateness-in-distance", "max(0, own.period_ns - own.late_ns)", "own.period_ns"),
    ("lateness-before-the-release", "latest, first = own.late_ns, 0", "latest, first = 0, 0"),
    ("jitter-of-a-lane", "jitter = latest - first\n        if", "jitter = 0\n        if"),
    ("jitter-of-a-source", "jitter = latest - first\n        distance", "jitter = 0\n        distance"),
    ("jitter-in-distance", "max(0, source.period_min_ns - jitter)", "source.period_min_ns"),
    ("shortest-period-in-load", "Load(own.worst_ns, source.period_min_ns,", "Load(own.worst_ns, source.period_max_ns,"),
    ("publication-in-distance", "max(0, before.timing.best_ns - before.timing.after_ns)", "before.timing.best_ns"),
    ("shortest-job-in-distance", "max(0, before.timing.best_ns - before.timing.after_ns)", "before.timing.worst_ns"),
    ("latency-before-the-arrival", "min(UNBOUNDED, latest + lane.nominal)", "min(UNBOUNDED, lane.nominal)"),
    ("overload-carried", "before.load.jitter + before.carried * before.load.period", "before.load.jitter"),
    ("elapsed-preempted", "settle(lambda w: timing.worst_ns + delay.within(w), timing.worst_ns)", "timing.worst_ns"),
    ("elapsed-interpreter", "settle(lambda w: timing.held_ns + delay.within(w), timing.held_ns)", "timing.held_ns"),
    ("carried-jobs", "count = come + row.carried", "count = come"),
    ("running-carried", "else self.load.places + 1", "else self.load.places"),
    ("unfinished-jobs", "min(count, arrivals(load, w + row.unfinished))", "min(count, arrivals(load, w))"),
    ("unfinished-parts", "min(count, arrivals(row.load, w + row.unheld))", "min(count, arrivals(row.load, w))"),
    ("shortest-job-between-parts", "tail=max(0, timing.best_ns - timing.held_ns)", "tail=max(0, timing.worst_ns - timing.held_ns)"),
    ("messages-meanwhile", "come = jobs[row.before]\n", "come = 0\n"),
    ("published-while-it-runs", "most=int(before.timing.after_ns > 0)", "most=0"),
    ("more-urgent-threads", "one.above.append(other)", "pass"),
    ("threads-of-the-interpreter", "one.mates += [other] if other.needs_interpreter else []", "pass"),
    ("held-back", "return next((lane for lane in self.after if lane.is_refusing), None)", "return None"),
    ("held-back-takers", " and not any(thread.is_stuck for thread in self.takers)", ""),
    ("keepers-of-keepers", "one.holders.append(other)\n                    todo.append(other)", "one.holders.append(other)"),
]  # fmt: skip
AGES = [
    ("frame", "oldest = source.period_max_ns + age.latency", "oldest = age.latency"),
    ("longest-period", "oldest = source.period_max_ns + age.latency", "oldest = source.period_min_ns + age.latency"),
    ("frame-when-read", "self.sources[source].period_max_ns + before.latency", "before.latency"),
    ("delivery", "late = source.latency_max_ns", "late = source.latency_min_ns"),
    ("gap", "(before.arrival if is_behind else before.latency) + gap", "(before.arrival if is_behind else before.latency)"),
    ("skipped-releases", "skips = max(1, -(-from_grid // lane.period_ns))", "skips = 1"),
    ("lateness-in-skips", "from_grid = lane.late_ns + own.nominal", "from_grid = own.nominal"),
    ("lateness-in-gap", "return skips * lane.period_ns + lane.late_ns", "return skips * lane.period_ns"),
    ("jitter-in-triggered-gap", "return min(UNBOUNDED, root_gap + jitter)", "return min(UNBOUNDED, root_gap)"),
    ("jitter-of-a-triggering-source", "return source.period_max_ns, source.latency_max_ns - source.latency_min_ns", "return source.period_max_ns, 0"),
    ("jitter-of-a-triggering-lane", "return self._root_gap(before.lane)[0], before.latest - before.earliest", "return self._root_gap(before.lane)[0], 0"),
    ("skipped-root-releases", "skips = max(1, -(-before.latest // before.lane.period_ns))", "skips = 1"),
    ("response", "latency = min(UNBOUNDED, arrival + own.nominal)", "latency = min(UNBOUNDED, arrival)"),
    ("elapsed-when-sent", "sent = newest + own.elapsed\n", "sent = newest\n"),
    ("elapsed-when-sent-triggered", "min(answered, newest + own.elapsed)", "min(answered, newest)"),
    ("response-when-sent", "answered = before.sent + own.response", "answered = before.sent"),
    ("response-when-read", "waited = _less(before.sent + own.response, lane.best_ns)", "waited = before.sent"),
    ("queued-when-sent", "sent = answered if lane.fifo else min(answered", "sent = min(answered"),
    ("queued-when-read", "fresh = waited if lane.fifo else min(newest, waited)", "fresh = min(newest, waited)"),
    ("worst-way", "worst = max(ways, key", "worst = min(ways, key"),
    ("worst-way-when-read", "fresh = max(age.fresh for", "fresh = min(age.fresh for"),
    ("worst-way-when-sent", "sent = max(age.sent for", "sent = min(age.sent for"),
    ("overtaking-on-another-thread", "if writer not in self.place or self.place[name][0] != self.place[writer][0]:", "if writer not in self.place:"),
    ("overtaking-by-priority", "return self.place[writer][1] < self.place[name][1]", "return True"),
    ("overtaking-of-a-pending-job", "return own.response - lane.best_ns < own.distance", "return True"),
    ("publication-for-certain", "min(lane.after_best_ns, lane.best_ns - 1)", "lane.after_ns"),
]  # fmt: skip
MUTANTS = [
    Mutant(name, file, snippet, without)
    for file, terms in (("busy", BUSY), ("bounds", BOUNDS), ("ages", AGES))
    for name, snippet, without in terms
]


def source_of(file: str) -> str:
    """The text of a file of the analysis."""
    path = importlib.import_module(f"{PACKAGE}.{file}").__file__
    assert path is not None
    return Path(path).read_text(encoding="utf-8")


def without(mutant: Mutant) -> Callable[[Timing], Bounds]:
    """The analysis without the term."""
    texts = {file: source_of(file) for file in FILES}
    found = texts[mutant.file].count(mutant.snippet)
    assert found == 1, f"{mutant.name}: its snippet is {found} times in {mutant.file}.py"
    texts[mutant.file] = texts[mutant.file].replace(mutant.snippet, mutant.without)
    kept = {f"{PACKAGE}.{file}": sys.modules[f"{PACKAGE}.{file}"] for file in FILES}
    try:
        for file, text in texts.items():
            module = ModuleType(f"{PACKAGE}.{file}")
            sys.modules[module.__name__] = module
            exec(compile(text, f"<{file}.py without {mutant.name}>", "exec"), module.__dict__)
    finally:
        sys.modules.update(kept)
    analyse: Callable[[Timing], Bounds] = module.__dict__["analyse"]
    return analyse
