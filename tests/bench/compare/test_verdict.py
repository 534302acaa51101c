"""Verdicts on made-up samples; what is refused; taking turns with real processes."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from haihe.bench.compare.verdict import Verdict, compare, judge
from haihe.bench.measure.protocol import Machine, Result, Series
from haihe.bench.measure.stats import Shift
from haihe.runtime.errors import HaiheError

PARTS = {"pre": 1.0, "infer": 5.0, "post": 0.5}  # ms


def result(seed: int, count: int = 600, slow: str = "", times: float = 1.0) -> Result:
    rng = np.random.default_rng(seed)
    stages = {
        name: 1e6 * ms * (times if name == slow else 1.0) * (1 + 0.02 * rng.standard_normal(count))
        for name, ms in PARTS.items()
    }
    stages["total"] = np.sum(list(stages.values()), axis=0)
    series = [Series(name, values.round().astype(int).tolist()) for name, values in stages.items()]
    settings: dict[str, Any] = {
        "load": "closed",
        "fps": 0.0,
        "streams": 1,
        "with": [],
        "threads": 1,
    }
    return Result("model part", "", settings, series, Machine(model="board", cores=["A76"]))


def word(shift: tuple[float, float, float], margin: float = 0.03) -> str:
    ratio, low, high = shift
    return judge(Shift(0.5, ratio, low, high, 20), margin)


def test_words() -> None:
    assert word((0.10, 0.05, 0.15)) == "slower"
    assert word((-0.10, -0.15, -0.05)) == "faster"
    assert word((0.01, -0.01, 0.02)) == "same"
    assert word((0.03, 0.01, 0.05)) == "undecided"  # slower, but by the margin?
    assert word((0.0, -0.2, 0.2)) == "undecided"
    assert judge(None, 0.03) == "undecided"


def test_the_same_is_the_same() -> None:
    verdict = compare(result(1), result(2))
    assert verdict.word == "same"
    assert verdict.differences == ()
    assert "B is same: " in verdict.text()


@pytest.mark.parametrize("stage", ["pre", "infer", "post"])
def test_a_slow_down_is_found_and_its_stage_named(stage: str) -> None:
    verdict = compare(result(1), result(2, slow=stage, times=2.0))
    assert verdict.word == "slower"
    assert verdict.culprit.stage == stage
    last = verdict.text().splitlines()[-1]
    assert last.startswith(f"B is slower: {stage} +")
    assert "margin 3 %, n 600 and 600" in last
    back = compare(result(2, slow=stage, times=2.0), result(1))
    assert (back.word, back.culprit.stage) == ("faster", stage)


def test_the_margin_is_stated_by_who_asks() -> None:
    a, b = result(1), result(2, slow="infer", times=1.12)  # the whole is some 9 % slower
    assert compare(a, b, margin=0.03).word == "slower"
    assert compare(a, b, margin=0.20).word == "same"


def test_a_tail_alone_is_judged_when_asked() -> None:
    a, b = result(1, 3000), result(2, 3000)
    for series in b.series:
        if series.stage in ("infer", "total"):
            for index in range(0, 3000, 40):
                series.samples_ns[index] += 20_000_000
    assert compare(a, b).word == "same"
    tail = compare(a, b, q=0.99)
    assert (tail.word, tail.culprit.stage) == ("slower", "infer")


def test_few_samples_decide_nothing() -> None:
    verdict = compare(result(1, 9), result(2, 9, "infer", 3.0))
    assert verdict.word == "undecided"
    assert "too few samples" in verdict.text()
    assert "p99 too few (9 of 459)" in verdict.text()
    assert compare(result(1, 300), result(2, 300, "infer", 3.0), q=0.99).word == "undecided"


def changed(**settings: Any) -> Result:
    other = result(2)
    other.settings |= settings
    return other


def test_what_was_not_timed_alike_is_refused() -> None:
    other = result(2)
    other.protocol = "haihe-bench-2"
    with pytest.raises(HaiheError, match="protocol haihe-bench-1/1 and haihe-bench-2/1"):
        compare(result(1), other)
    for settings in ({"load": "paced"}, {"fps": 30.0}, {"streams": 2}, {"with": ["camera"]}):
        (key,) = settings
        with pytest.raises(HaiheError, match=f"{key} is .* Measure both under the same load"):
            compare(result(1), changed(**settings))
    other = result(2)
    other.machine.is_emulated = True
    with pytest.raises(HaiheError, match="measured on an emulated machine"):
        compare(result(1), other)
    other = result(2)
    other.name = "loop"
    with pytest.raises(HaiheError, match="a model and a loop do not compare"):
        compare(result(1), other)
    other = result(2)
    other.series = [Series("infer", [1, 2])]
    with pytest.raises(HaiheError, match="no stage to judge by in both"):
        compare(result(1), other)


def test_what_else_differs_is_said() -> None:
    other = changed(threads=4)
    other.machine.model = "other board"
    other.machine.packages = {"onnxruntime": "1.33.0"}
    found = compare(result(1), other).differences
    assert found == (
        "threads 1 → 4", "machine board → other board", "onnxruntime None → 1.33.0",
    )  # fmt: skip


def test_bursts_that_took_turns_are_judged_in_pairs() -> None:
    a, b = result(1, 600), result(2, 600, "infer", 1.3)
    bursts = [
        {s.stage: np.split(np.asarray(s.samples_ns), 20) for s in r.series} for r in (a, b)
    ]  # fmt: skip
    verdict = compare(a, b, bursts=(bursts[0], bursts[1]))
    assert (verdict.word, verdict.culprit.stage) == ("slower", "infer")
    assert verdict.whole.middle is not None
    assert verdict.whole.middle.blocks == 20
    few = [{stage: parts[:5] for stage, parts in side.items()} for side in bursts]
    assert compare(a, b, bursts=(few[0], few[1])).word == "undecided"
    assert dataclasses.is_dataclass(Verdict)
