"""Units and written quantities: properties, and the text of each error."""

import contextlib
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haihe.runtime.errors import ContractError
from haihe.runtime.units import (
    _BASE,
    duration_ns,
    format_ns,
    parse_unit,
    quantity,
    same_unit,
)

NAMES = sorted(name for name in _BASE if name != "1")
POWERS = ["", "2", "^2", "²", "3", "^3", "³", "-1", "^-1", "-2"]
EXPONENT = {"": 1, "2": 2, "^2": 2, "²": 2, "3": 3, "^3": 3, "³": 3, "-1": -1, "^-1": -1, "-2": -2}
FINITE = st.floats(-1e6, 1e6, allow_nan=False)


@st.composite
def products(draw):
    """(text, factor, dimension) of a product of units, worked out independently."""
    text, factor, dimension, sign = "", 1.0, [0] * 8, 1
    for index in range(draw(st.integers(1, 4))):
        if index:
            operator = draw(st.sampled_from("*/·"))
            sign = -1 if operator == "/" else 1
            text += operator
        name, power = draw(st.sampled_from(NAMES)), draw(st.sampled_from(POWERS))
        base, exponents = _BASE[name]
        text += name + power
        exponent = sign * EXPONENT[power]
        factor *= math.pow(base, exponent)
        dimension = [d + exponent * e for d, e in zip(dimension, exponents, strict=True)]
    return text, factor, tuple(dimension)


@given(products())
def test_a_product_is_read_as_written(case):
    text, factor, dimension = case
    unit = parse_unit(text)
    assert unit.name == text
    assert unit.factor == pytest.approx(factor, rel=1e-12)
    assert unit.dimension == dimension
    assert same_unit(unit, parse_unit(text.replace("·", "*").replace("²", "^2")))


@given(products(), FINITE)
def test_a_quantity_in_its_own_unit(case, value):
    text, factor, _ = case
    wanted = pytest.approx(value * factor, rel=1e-9)
    assert quantity(f"{value!r} {text}", text) == wanted
    assert quantity(value, text) == wanted
    assert quantity(repr(value), text) == wanted


@given(products(), products(), FINITE)
def test_another_dimension_is_refused(one, other, value):
    if one[2] == other[2]:
        assert quantity(f"{value!r}{one[0]}", other[0]) == pytest.approx(value * one[1])
        return
    with pytest.raises(ContractError) as caught:
        quantity(f"{value!r}{one[0]}", other[0])
    assert str(caught.value) == (
        f"'{value!r}{one[0]}' has the wrong dimension: found {one[0]}, expected something like "
        f"{other[0]}."
    )


@given(st.text(max_size=12))
def test_any_text_is_read_or_refused_with_a_contract_error(text):
    for read in (parse_unit, lambda t: quantity(t, "m/s"), duration_ns):
        with contextlib.suppress(ContractError):
            read(text)


@given(st.integers(1, 10**18 - 10**14))
def test_a_formatted_duration_reads_back(t_ns):
    assert duration_ns(format_ns(t_ns)) == pytest.approx(t_ns, rel=1e-3)
    assert format_ns(-t_ns) == f"-{format_ns(t_ns)}"


@given(st.integers(1, 10**15))
def test_a_duration_in_ns_is_exact(t_ns):
    assert duration_ns(f"{t_ns}ns") == pytest.approx(t_ns, rel=1e-15)


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("20ms", 20_000_000),
        ("50Hz", 20_000_000),
        ("60 fps", 16_666_667),
        ("1kHz", 1_000_000),
        ("30 µs", 30_000),
        ("30 μs", 30_000),
        ("1.9 ms", 1_900_000),
        ("2min", 120_000_000_000),
        (0.5, 500_000_000),
        ("1ns", 1),
    ],
)
def test_durations(text, ns):
    assert duration_ns(text) == ns


@pytest.mark.parametrize("text", ["0s", "0Hz", "-5Hz", "-1ms", "0.4ns", "2e9s", 0, -1.0, math.nan])
def test_a_duration_is_positive(text):
    with pytest.raises(ContractError) as caught:
        duration_ns(text, "every")
    assert str(caught.value) == (
        f"every {text!r} is not a positive duration. Write it as in '20ms'."
    )


@pytest.mark.parametrize(
    ("value", "like", "si"),
    [
        ("300deg/s", "rad/s", 300 * math.pi / 180),
        (90, "deg", math.pi / 2),
        ("60rpm", "rad/s", 2 * math.pi),
        ("25 degC", "K", 298.15),
        (25, "degC", 298.15),
        ("-40", "degC", 233.15),
        ("5mg/L", "kg/m^3", 0.005),
        ("12 V·A", "W", 12.0),
        ("9.81m/s2", "m/s²", 9.81),
        ("50%", "1", 0.5),
        ("1e3Pa", "kPa", 1000.0),
    ],
)
def test_quantities(value, like, si):
    assert quantity(value, like) == pytest.approx(si)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("metres", "unit 'metres': 'metres' is not a unit. Did you mean 'ms'?"),
        ("rad/S", "unit 'rad/S': 'S' is not a unit. Did you mean 's'?"),
        ("mg/l", "unit 'mg/l': 'l' is not a unit. Did you mean 'L'?"),
        ("radd", "unit 'radd': 'radd' is not a unit. Did you mean 'rad'?"),
        ("degC/s", "unit 'degC/s': 'degC' has an offset, so it stands alone. Use K."),
        ("m/", "unit 'm/': '' is not a unit. Known: " + ", ".join([*_BASE, "degC"]) + "."),
    ],
)
def test_unknown_units(text, message):
    with pytest.raises(ContractError) as caught:
        parse_unit(text)
    assert str(caught.value) == message


def test_hertz_is_not_radians_per_second():
    with pytest.raises(ContractError, match="wrong dimension"):
        quantity("5Hz", "rad/s")
    assert not same_unit(parse_unit("Hz"), parse_unit("rad/s"))
    assert not same_unit(parse_unit("K"), parse_unit("degC"))
    assert not same_unit(parse_unit("kPa"), parse_unit("Pa"))
