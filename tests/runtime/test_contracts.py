"""The words of a contract."""

import pickle

import numpy as np
import pytest

from haihe.runtime.contracts import (
    RNG,
    SILENT,
    TICK,
    Age,
    Fresh,
    Tick,
    age_of,
    fresh,
    silent,
    sometimes,
    unit,
)
from haihe.runtime.errors import ContractError


@pytest.mark.parametrize(
    ("limit", "ns"), [("120ms", 120_000_000), ("50Hz", 20_000_000), ("1.5 s", 1_500_000_000)]
)
def test_fresh_reads_a_duration(limit, ns):
    assert fresh(limit) == Fresh(ns, "skip")
    assert fresh(limit, on_stale="call") == Fresh(ns, "call")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("0ms",), "fresh '0ms' is not a positive duration. Write it as in '20ms'."),
        (("-5ms",), "fresh '-5ms' is not a positive duration. Write it as in '20ms'."),
        (("soon",), "'soon' is not a quantity. Write a number and a unit, as in '5s'."),
        (("5mm",), "'5mm' has the wrong dimension: found mm, expected something like s."),
        (("5mms",), "unit 'mms': 'mms' is not a unit. Did you mean 'ms'?"),
        (("5ms", "drop"), "fresh('5ms', on_stale='drop'): say \"skip\" or \"call\"."),
    ],
)
def test_fresh_refuses(arguments, message):
    with pytest.raises(ContractError) as caught:
        fresh(*arguments)
    said = str(caught.value)
    assert said.startswith(f"{__file__}:")
    assert said.endswith(f": {message}")


def test_silent_gives_the_one_sentinel():
    said: list[object] = []
    said.append(_silent())
    assert said == [SILENT]
    assert repr(SILENT) == "silent()"
    assert repr(sometimes) == "sometimes"


def _silent() -> object:
    return silent()


def test_unit_names_the_nearest():
    assert unit("mg/L").factor == pytest.approx(1e-3)
    with pytest.raises(ContractError) as caught:
        unit("mg/l")
    assert str(caught.value) == "unit 'mg/l': 'l' is not a unit. Did you mean 'L'?"


def test_time_outside_a_graph_stands_still():
    assert TICK == 0.0
    assert isinstance(TICK, Tick)
    age = age_of("parts")
    assert age == 0.0
    assert (age.of, Age(0.25, "x").of, Age(0.25)) == ("parts", "x", 0.25)


def test_age_and_tick_pickle():
    assert pickle.loads(pickle.dumps(Tick(0.02))) == 0.02
    age = pickle.loads(pickle.dumps(Age(0.5, "parts")))
    assert (float(age), age.of) == (0.5, "parts")


def test_randomness_outside_a_graph_is_a_generator():
    assert isinstance(RNG, np.random.Generator)
