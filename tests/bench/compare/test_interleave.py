"""Two processes that take turns. Times are compared by a factor of about four, never to a clock."""

from pathlib import Path

import pytest
from tests.bench.onnx_file import chain

from haihe.bench.compare.interleave import LEAST_PAIRS, join, take_turns
from haihe.bench.measure.model import Settings
from haihe.bench.measure.stopwatch import Until, closed
from haihe.runtime.clock import MILLISECOND
from haihe.runtime.errors import ModelError


def test_bursts_join_and_stay_whole() -> None:
    parts = [closed([("a", lambda: None)], Until(1 << 60, 1 << 60, most=9000)) for _ in range(3)]
    whole = join(parts)
    assert whole.runs == sum(part.runs for part in parts)
    assert len(whole.series()[0].samples_ns) == whole.runs  # none is thinned out
    assert whole.thread_cpu_ns == sum(part.thread_cpu_ns for part in parts)


@pytest.mark.process
def test_a_slowed_model_is_slower_and_its_stage_named(tmp_path: Path) -> None:
    a, b = (
        Settings(str(chain(tmp_path / f"{name}.onnx", links)))
        for name, links in (("fast", 4), ("slowed", 16))
    )
    verdict, one, other = take_turns(a, b, limit_ns=MILLISECOND)
    assert verdict.word == "slower"
    assert verdict.culprit.stage == "infer"
    assert verdict.whole.middle is not None
    assert verdict.whole.middle.blocks == LEAST_PAIRS
    assert one.counts["runs"] == len(one.series[0].samples_ns)
    assert "model fast.onnx → slowed.onnx" in verdict.differences
    assert other.counts["load_ns"] > 0
    assert take_turns(b, a, limit_ns=MILLISECOND)[0].word == "faster"


@pytest.mark.process
def test_a_model_that_cannot_be_opened_says_so(tmp_path: Path) -> None:
    good = Settings(str(chain(tmp_path / "a.onnx", 1, 8)))
    with pytest.raises(ModelError, match=r"nope\.onnx: cannot be read"):
        take_turns(good, Settings(str(tmp_path / "nope.onnx")), limit_ns=MILLISECOND)
