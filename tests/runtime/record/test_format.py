"""Lane records: what is packed is parsed again; damage does not pass as something else."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haihe.runtime.errors import RecordError
from haihe.runtime.io import Exchange, Reply
from haihe.runtime.record.format import (
    FIRING,
    SETUP,
    SETUP_LAYOUT,
    STOP,
    STOP_LAYOUT,
    pack_tail,
    parse_block,
)

LAYOUT = struct.Struct("<BIqqIIHB")
I64 = st.integers(-(2**63), 2**63 - 1)
PLAIN = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(max_size=20)
EVENT = st.one_of(
    st.sampled_from([("arm",), ("disarm",), ("reset",)]),
    st.tuples(st.just("trip"), st.text(max_size=50)),
    st.tuples(
        st.just("param"), st.text(max_size=9), st.text(max_size=9),
        PLAIN | st.floats(allow_nan=False) | st.lists(st.integers(0, 9), max_size=4),
    ),
)  # fmt: skip
EXCHANGE = st.builds(
    lambda bus, tx, rx, sent, done, error: (
        bus, Exchange(tx, len(rx)), Reply(rx, sent, done, error)
    ),
    st.integers(0, 255), st.binary(max_size=300), st.binary(max_size=300), I64, I64,
    st.text(max_size=60),
)  # fmt: skip
U32 = st.integers(0, 2**32 - 1)
FIXED = st.one_of(
    st.tuples(
        st.just(FIRING), U32, I64, I64, U32, U32, st.integers(0, 2**16 - 1), st.integers(0, 255)
    ),
    st.tuples(st.just(SETUP), st.integers(0, 255)),
    st.tuples(st.just(STOP), U32, I64, st.integers(0, 255)),
)
LAYOUTS = {FIRING: LAYOUT, SETUP: SETUP_LAYOUT, STOP: STOP_LAYOUT}
RECORD = st.tuples(FIXED, st.lists(EVENT, max_size=5), st.lists(EXCHANGE, max_size=5))


@given(st.lists(RECORD, max_size=6))
def test_a_block_gives_its_records_again(records) -> None:
    block = b"".join(
        LAYOUTS[fixed[0]].pack(*fixed) + pack_tail(events, exchanges)
        for fixed, events, exchanges in records
    )
    parsed = list(parse_block(block, LAYOUT))
    assert [(p.kind, *p.fixed) for p in parsed] == [fixed for fixed, _, _ in records]
    for found, (_, events, exchanges) in zip(parsed, records, strict=True):
        assert found.events == events
        assert [bus for bus, _, _ in found.exchanges] == [bus for bus, _, _ in exchanges]
        for (_, x, r), (_, exchange, reply) in zip(found.exchanges, exchanges, strict=True):
            assert (x.tx, r.rx, r.t_sent_ns, r.t_done_ns) == (
                exchange.tx, reply.rx, reply.t_sent_ns, reply.t_done_ns,
            )  # fmt: skip
            assert r.error == reply.error


def test_nothing_besides_is_three_bytes() -> None:
    assert pack_tail([], []) == b"\0\0\0"


@pytest.mark.parametrize("letter", ["e", "é", "海", "🌊"])
def test_a_long_error_is_cut_between_letters(letter: str) -> None:
    error = letter * 300
    tail = pack_tail([], [(0, Exchange(b"x"), Reply(b"", 1, 2, error))])
    (record,) = parse_block(SETUP_LAYOUT.pack(SETUP, 0) + tail, LAYOUT)
    kept = record.exchanges[0][2].error
    assert error.startswith(kept)
    assert 251 <= len(kept.encode()) <= 255


@pytest.mark.parametrize("cut", range(1, 40))
def test_a_block_that_is_cut_raises_and_gives_what_was_whole(cut: int) -> None:
    whole = SETUP_LAYOUT.pack(SETUP, 0) + pack_tail([], [])
    tail = pack_tail([("trip", "e-stop")], [(0, Exchange(b"abc", 2), Reply(b"de", 1, 2, "bad"))])
    last = STOP_LAYOUT.pack(STOP, 1, 2, 0) + tail
    records = parse_block(whole + last[: len(last) - cut], LAYOUT)
    assert next(records).kind == SETUP
    with pytest.raises((struct.error, ValueError, IndexError, RecordError)):
        next(records)
