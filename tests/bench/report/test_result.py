"""A result as text, Markdown and HTML."""

import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from haihe.bench.measure.protocol import Machine, MachineState, Operator, Result, Series
from haihe.bench.measure.stats import Interval
from haihe.bench.report.result import headline, interval, markdown, text
from haihe.bench.report.result_html import report, spans
from haihe.runtime.errors import HaiheError

MS = 1_000_000


def result(count: int = 600, **machine: Any) -> Result:
    rng = np.random.default_rng(0)
    infer = (5 * MS * (1 + 0.05 * rng.random(count))).astype(int).tolist()
    settings = {
        "load": "paced", "fps": 30.0, "threads": 2, "spin": False, "input": "<random>",
        "with": ["camera"], "streams": 1, "soak_s": 20.0,
    }  # fmt: skip
    counts = {
        "load_ns": 30e6, "first_ns": 9e6, "warm_runs": 12, "runs": count, "seconds": count / 30,
        "cpu_thread_ns": 5e6, "cpu_process_ns": 6e6, "rss_before_bytes": 2.0**25,
        "rss_peak_bytes": 2.0**26, "dropped": 3, "due": count + 3, "cosine": 0.9999,
        "largest_difference": 1e-4, "energy_j": 0.012,
    }  # fmt: skip
    states = [MachineState(n * 10**9, temperature_degc={"cpu": 50.0 + n}, load=0.1, power_w=3.0,
                           frequency_khz=[1_800_000]) for n in range(20)]  # fmt: skip
    marked = [n for n in (5, 6, 9) if n < count]
    at = [n * 33 * MS for n in range(count)]
    return Result(
        "model <part>", "haihe bench model part", settings,
        [Series("wait", [100_000] * count, at_ns=at), Series("infer", infer, marked, at),
         Series("total", [i + 100_000 for i in infer], at_ns=at)],
        Machine(model="RK3588 | board", cores=["A76"] * 4, python="3.12", **machine), states,
        counts, {"CPUExecutionProvider": 40}, ["a <warning>"],
        operators=[Operator("Conv", 13, 3 * MS), Operator("Add", 5, MS)],
    )  # fmt: skip


def test_text_says_what_was_timed_and_how_often() -> None:
    found = text(result())
    for part in (
        "load 30.0 ms   first run 9.00 ms   warm after 12 runs",
        "CPUExecutionProvider 40 of 40 nodes", "paced 30 fps", "beside camera",
        "CPU 6.00 ms a run (calling thread 5.00 ms), 18 % of one core; 30.0 runs/s",
        "memory 64 MiB at its peak, 32 above the start", "energy 12.0 mJ a run",
        "dropped 3 of 603 that were due", "golden outputs: cosine 0.999900", "soak: p50 5.",
        "Conv x13", "75.0 %", "haihe-bench-1", "warning: a <warning>",
    ):  # fmt: skip
        assert part in found, part
    assert re.search(r"^total +5\.\d\d ms \[5\.\d\d, 5\.\d\d\] .* 600$", found, re.MULTILINE)


def test_a_percentile_that_the_sample_cannot_carry_is_refused() -> None:
    found = text(result(100))
    assert "too few (100 of 459)" in found
    assert re.search(r"^infer +5\.\d\d ms .*5\.\d\d ms .*too few", found, re.MULTILINE)


def test_bounds_have_the_unit_of_their_value() -> None:
    assert interval(Interval(80_400, 3_400_000), 99_000.0) == "[80, 3400]"
    assert interval(Interval(4.9e6, None), 5e6) == "[4.90, …]"
    assert interval(Interval(None, None), 5e6) == ""
    assert interval(Interval(1e9, 3e9), 2e9) == "[1.00, 3.00]"


def test_markdown_is_one_row_and_refuses_emulation() -> None:
    head, rule, row, _, command, *notes = markdown(result()).splitlines()
    assert head.count("|") == rule.count("|") == row.count("|")
    assert "| total |" in row
    assert "RK3588 / board" in row
    assert command.startswith("`haihe bench model part`")
    assert notes == ["- a <warning>"]
    with pytest.raises(HaiheError, match="measured on an emulated machine"):
        markdown(result(is_emulated=True))
    assert "EMULATED" in text(result(is_emulated=True))


class Checker(HTMLParser):
    """Every element is closed in order."""

    VOID = frozenset({"meta", "path", "rect", "br"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert not [v for k, v in attrs if k in ("src", "href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("count", [1, 3, 100, 600])
def test_html_is_whole(count: int) -> None:
    html = report(result(count))
    assert not re.search(r"https?://|@import|url\(|<link|<iframe", html)
    assert "<random>" not in html
    checker = Checker()
    checker.feed(html)
    checker.close()
    assert checker.open == []
    for part in ("model <part>", "Peak memory", "hottest zone", "a <warning>", "Conv x13"):
        assert part in checker.text, part
    assert ("too few" in checker.text) == (count < 459)
    assert "Emulated machine" in report(result(count, is_emulated=True))


def test_html_of_nothing_is_whole() -> None:
    empty = Result("loop", "", {}, [Series("lateness", [])], Machine())
    assert headline(empty) is None
    Checker().feed(report(empty))
    assert "loop" in text(empty)


def test_neighbours_become_spans() -> None:
    assert spans([3, 4, 5, 9]) == [(3, 5), (9, 9)]
    assert spans([]) == []
