"""The words of a contract."""

import pickle

import numpy as np
import pytest
from tests.typing.user_file import load

from haihe.runtime.contracts import (
    RNG,
    SILENT,
    TICK,
    Age,
    Aligned,
    Fifo,
    Fresh,
    Tick,
    age_of,
    aligned,
    fifo,
    fresh,
    silent,
    sometimes,
    unit,
)
from haihe.runtime.errors import ContractError
from haihe.runtime.node import contract_of


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


@pytest.mark.parametrize("places", [1, 8, 65536])
def test_fifo_counts_places(places):
    assert fifo(places) == Fifo(places)


@pytest.mark.parametrize("places", [0, -1, 65537])
def test_fifo_refuses(places):
    with pytest.raises(ContractError) as caught:
        fifo(places)
    said = str(caught.value)
    assert said.startswith(f"{__file__}:")
    assert said.endswith(f": fifo({places}): from 1 to 65536 places, please.")


def test_aligned_reads_a_duration():
    assert aligned("10ms") == Aligned(10_000_000, 32)
    assert aligned("1.5 s", keep=2) == Aligned(1_500_000_000, 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("0ms",), "aligned '0ms' is not a positive duration. Write it as in '20ms'."),
        (("near",), "'near' is not a quantity. Write a number and a unit, as in '5s'."),
        (("5mm",), "'5mm' has the wrong dimension: found mm, expected something like s."),
        (("5ms", 1), "aligned('5ms', keep=1): keep from 2 to 4096 messages, please."),
        (("5ms", 4097), "aligned('5ms', keep=4097): keep from 2 to 4096 messages, please."),
    ],
)
def test_aligned_refuses(arguments, message):
    with pytest.raises(ContractError) as caught:
        aligned(*arguments)
    said = str(caught.value)
    assert said.startswith(f"{__file__}:")
    assert said.endswith(f": {message}")


QUEUES = """
from haihe import aligned, fifo


@node(on="image")
def both(image: Image, other: Annotated[Image, aligned("5ms"), fifo(2)]) -> Image:
    return image


@node(on="image")
def each(image: Annotated[Image, fifo(3)], other: Annotated[Image, aligned("5ms")]) -> Image:
    return image
"""


def test_fifo_and_aligned_are_words_of_a_port(tmp_path):
    module = load(tmp_path, QUEUES)
    image, other = contract_of(module.each).inputs
    assert (image.fifo, image.aligned) == (3, None)
    assert (other.fifo, other.aligned) == (0, Aligned(5_000_000, 32))
    line = (tmp_path / "app.py").read_text().splitlines().index('@node(on="image")') + 1
    with pytest.raises(ContractError) as caught:
        contract_of(module.both)
    assert str(caught.value) == (
        f"{tmp_path / 'app.py'}:{line}: node app:both: input other: fifo() is for the input that "
        "triggers the node, aligned() for the others. Keep one of the two."
    )


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
