"""The parts of the links bench that need no second process."""

import re

import numpy as np
import pytest

from haihe.bench.cases import links
from haihe.bench.cases.links import FULL_HD, GATES, SMALL, VGA, Gate, Rounds
from haihe.bench.cases.links_peers import pair
from haihe.bench.cases.links_peers.pair import Figures, missing
from haihe.bench.cases.links_peers.payload import SHAPES, Link, read, write


def figures(latency_us: float, cpu_us: float = 1.0) -> Figures:
    latencies = np.array([latency_us * 1000 + one for one in (-1, 0, 1)], np.int64)
    return Figures(latencies, 2 * cpu_us * 1000, cpu_us * 1000, 1e6 / cpu_us, 0)


def rounds(of: list[float], by: list[float]) -> Rounds:
    found = Rounds()
    found.figures[GATE.of] = [figures(one) for one in of]
    found.figures[GATE.by] = [figures(one) for one in by]
    return found


GATE = Gate("median_ns", ("haihe in place", VGA), ("pyzmq", VGA), 0.4)


@pytest.mark.parametrize("size", SHAPES)
def test_what_is_written_into_a_picture_is_read_from_it(size: int) -> None:
    picture = np.zeros(SHAPES[size], np.uint8)
    assert picture.nbytes == size
    write(picture, size, 300, is_last=True, sent_ns=123_456_789_012_345)
    seen = read(picture, size)
    assert (seen.sequence, seen.sent_ns, seen.is_last) == (300, 123_456_789_012_345, True)
    assert seen.received_ns > 0
    assert np.count_nonzero(picture.reshape(-1)[16:-1]) == 0
    write(picture, size, 301, is_last=False, sent_ns=1)
    assert not read(picture.tobytes(), size).is_last


def test_a_picture_with_the_end_of_another_is_torn() -> None:
    picture = bytearray(SMALL)
    write(picture, SMALL, 7, is_last=False, sent_ns=1)
    picture[-1] = 6
    with pytest.raises(ValueError, match=re.escape("message 7 of 64 bytes: it ends with 6: torn")):
        read(picture, SMALL)


def test_small_messages_may_be_under_way_in_larger_numbers() -> None:
    assert [Link(size, True, "").depth for size in (SMALL, VGA, FULL_HD)] == [64, 4, 4]


def test_a_ratio_is_taken_within_each_round() -> None:
    # the machine is ten times slower in every other round: of both
    found = rounds([30, 300, 30, 300, 30, 300, 30], [100, 1000, 100, 1000, 100, 1000, 100])
    assert found.ratio(GATE) == pytest.approx(0.3)
    assert found.is_decided(GATE)
    text = "latency: haihe in place 0.9 MB / pyzmq 0.9 MB (at most 0.40)"
    assert links.verdict(found, GATE) == f"met    0.300 (0.300 to 0.300, 7 rounds)  {text}"


def test_a_gate_is_open_until_both_bounds_lie_on_one_side() -> None:
    six = rounds([30] * 6, [100] * 6)
    assert not six.is_decided(GATE)  # too few for an upper bound
    wide = rounds([30, 30, 30, 30, 50, 50, 50], [100] * 7)
    assert not wide.is_decided(GATE)
    assert wide.ratio(GATE) == pytest.approx(0.3)
    missed = rounds([50, 51, 52, 53, 54, 55, 56], [100] * 7)
    assert missed.is_decided(GATE)
    text = "latency: haihe in place 0.9 MB / pyzmq 0.9 MB (at most 0.40)"
    assert links.verdict(missed, GATE) == f"MISSED 0.530 (0.500 to 0.560, 7 rounds)  {text}"


def test_the_table_has_a_line_for_each_cell_with_ratios_to_pyzmq() -> None:
    lines = links.table(rounds([30] * 7, [100] * 7)).splitlines()
    assert [line.split("  ")[0] for line in lines] == [
        "64 B", "0.9 MB", "haihe in place", "pyzmq", "6.2 MB",
    ]  # fmt: skip
    assert lines[2].endswith("0.30 1.000")
    assert lines[3].split()[1:] == ["100", "1.0", "2", "1000000", "0"]


def test_every_gate_names_cases_that_there_are() -> None:
    for gate in GATES:
        assert {gate.of[0], gate.by[0]} <= set(links.CASES)
        assert {gate.of[1], gate.by[1]} <= set(links.SIZES)


def test_a_peer_that_is_not_installed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(pair.PACKAGES, "pyzmq", ("pyzmq", "no-such-package"))
    assert missing("pyzmq") == "no-such-package is not installed: pip install no-such-package"
    assert missing("ring") == ""
    allowed, left_out = links.gates_here()
    assert all(gate.by[0] != "pyzmq" for gate in allowed)
    assert left_out[0] == (
        "latency: haihe in place 0.9 MB / pyzmq 0.9 MB (at most 0.40): "
        "no-such-package is not installed: pip install no-such-package"
    )


def test_a_case_that_there_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        links.main(["nanomsg"])
    assert capsys.readouterr().err.splitlines()[-1] == (
        "python -m haihe.bench.cases.links: error: unknown case 'nanomsg'; there are: haihe in "
        "place, haihe one copy, pyzmq, iceoryx2 in place, iceoryx2 one copy, zenoh shm, dora"
    )
