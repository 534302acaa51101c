"""The wake-up case: the C loop for real, and what the report says of given samples."""

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from haihe.bench.cases import wakeup
from haihe.boards.unit import unit_from_text
from haihe.pipelines.launch import prepare
from haihe.pipelines.load import load_graph
from haihe.runtime.clock import now_ns

LIMIT_S = 60.0  # a hang, no measure of speed
compiled = pytest.mark.skipif(
    not (shutil.which(os.environ.get("CC", "cc")) or shutil.which("gcc")), reason="no C compiler"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    wakeup.prepare(tmp_path)
    return tmp_path


@compiled
def test_the_c_loop_wakes_at_every_place_and_never_early(folder: Path) -> None:
    begun = now_ns()
    done = subprocess.run(
        [folder / "wakeup", "1000000", "30", "0"], capture_output=True, timeout=LIMIT_S, check=True
    )
    late = np.frombuffer(done.stdout, np.int64)
    assert len(late) == 30
    assert late.min() >= 0
    assert now_ns() - begun >= 30 * wakeup.PERIOD_NS


@compiled
def test_the_c_loop_refuses_what_it_cannot_run(folder: Path) -> None:
    for arguments, said in (
        (["1000000"], "wakeup: expected PERIOD_NS COUNT PRIORITY\n"),
        (["0", "5", "0"], "wakeup: a period and a count of more than 0, and memory for them\n"),
    ):
        done = subprocess.run(
            [folder / "wakeup", *arguments], capture_output=True, text=True, timeout=LIMIT_S,
            check=False,
        )  # fmt: skip
        assert (done.returncode, done.stdout, done.stderr) == (2, "", said)


def test_no_compiler_is_told_with_its_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(SystemExit) as caught:
        wakeup.prepare(tmp_path)
    assert str(caught.value) == (
        "wakeup: no C compiler (CC, cc, gcc). Install one: sudo apt install gcc"
    )


@pytest.mark.parametrize(("graph", "process"), [("apart", "control"), ("together", "")])
def test_the_loop_has_the_priority_of_the_c_program(graph: str, process: str) -> None:
    wired = load_graph(f"{wakeup.GRAPHS}:{graph}")
    plan = prepare(wired, unit_from_text(wakeup.UNIT, "unit.yaml")).plan
    loop = next(thread for thread in plan.threads if thread.name == "loop")
    assert (loop.process, loop.rank, loop.lanes) == (process, wakeup.PRIORITY, ("Control",))
    lane = next(lane for lane in plan.lanes if lane.name == "Control")
    assert lane.task.every_ns == wakeup.PERIOD_NS
    assert lane.task.reads == ("part",)


def test_the_report_compares_the_p99(capsys: pytest.CaptureFixture[str]) -> None:
    c = np.arange(1, 1001, dtype=np.int64) * 100
    rounds = {"C": [c, c], "own": [c + 50_000, c + 50_000], "one": [c[:10]], "naive": [c * 20]}
    wakeup.report(rounds)
    assert capsys.readouterr().out.splitlines() == [
        "C      wakes late: p50 50 µs, p99 99 µs (by round: 99 µs, 99 µs), p99.9 too few (2000 of "
        "4603), worst 0.10 ms; 0.00% by a period or more; 2000 wake-ups",
        "own    wakes late: p50 0.10 ms, p99 0.15 ms (by round: 0.15 ms, 0.15 ms), p99.9 too few "
        "(2000 of 4603), worst 0.15 ms; 0.00% by a period or more; 2000 wake-ups",
        "one    wakes late: p50 0 µs, p99 too few (10 of 459) (by round: too few (10 of 459)), "
        "p99.9 too few (10 of 4603), worst 1 µs; 0.00% by a period or more; 10 wake-ups",
        "naive  wakes late: p50 1.00 ms, p99 1.98 ms (by round: 1.98 ms), p99.9 too few (1000 of "
        "4603), worst 2.00 ms; 50.10% by a period or more; 1000 wake-ups",
        "own process less C, p99: 50 µs (target: at most 60 µs); interval 1.00 ms, 2 interleaved "
        "rounds, their first second left out",
    ]
