"""Ratios that the links between processes are asked for, all from one run (bench/cases/links.py).

Red is a ratio that lies above its limit with 99 % confidence; each verdict is printed. Rounds are
added until each ratio is known well enough to say, so a busy machine makes this longer and not red.
Nothing is judged against the clock.
"""

import os
import signal
import tempfile
from pathlib import Path

import pytest

from haihe.bench.cases import links
from haihe.bench.cases.links import SMALL, Gate, Rounds
from haihe.bench.cases.links_peers.pair import Pair
from haihe.runtime.errors import LinkError

pytestmark = pytest.mark.process


def left_behind() -> set[Path]:
    return {*Path("/dev/shm").iterdir(), *Path(tempfile.gettempdir()).glob("haihe-link-*")}


@pytest.fixture(scope="module")
def one_run() -> Rounds:
    gates, left_out = links.gates_here()
    print(*left_out, sep="\n")
    before = left_behind()
    found = links.measure(links.cells_of(gates), gates)
    assert left_behind() <= before
    print(links.table(found))
    return found


@pytest.mark.parametrize("gate", links.GATES, ids=str)
def test_ratio(one_run: Rounds, gate: Gate) -> None:
    if gate.by not in one_run.figures:
        reasons = [text for text in links.gates_here()[1] if text.startswith(str(gate))]
        pytest.skip(reasons[0])
    print(links.verdict(one_run, gate))
    surely = one_run.interval(gate).low or 0.0
    assert surely <= gate.fails_at, links.verdict(one_run, gate)


def test_nothing_is_lost_while_it_is_measured(one_run: Rounds) -> None:
    ours = [one for (case, _), all_ in one_run.figures.items() for one in all_ if "haihe" in case]
    assert len(ours) >= 5 * links.LEAST_ROUNDS
    assert all(one.lost == 0 and len(one.latency_ns) > 0 for one in ours)


def test_a_worker_that_dies_is_said_with_what_it_wrote() -> None:
    before = left_behind()
    with Pair("pyzmq", False, [SMALL]) as pair:
        os.kill(pair.pids["send"], signal.SIGKILL)
        with pytest.raises(LinkError) as caught:
            pair.burst(SMALL)
    assert str(caught.value) == "bench link pyzmq: its send worker ended; it said: nothing"
    assert left_behind() <= before
