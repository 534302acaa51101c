"""What stands in a recording: the layout of the records that haihe puts into MCAP messages.

Channels:
  haihe/run                  one JSON object: versions, graph, plan, unit, seed (see recorder.py)
  haihe/lane/<name>          blocks of firing records, about ten a second
  haihe/stream/<role.port>   one message per delivery of a stream device
  haihe/output/<node[.port]> outputs of `recorded` nodes (models)
  haihe/orphan/<source>      what a lane made but died before it could record: stamps, message
  haihe/keyframe/<lane>      state of a lane between two firings

A lane record is a fixed part (a firing's is in plan/codegen.py) and a variable part:
  u8 count of events, each: u16 length, MessagePack [kind, ...]
  u16 count of exchanges, each: u8 index of the bus, i64 t_sent, i64 t_done, u16 tx length,
      u16 rx length, u8 error length, tx, rx, error (UTF-8)
All little endian.
"""

import struct
from collections.abc import Iterator
from typing import Any

import msgspec

from haihe.runtime.errors import RecordError
from haihe.runtime.io import Exchange, Reply

FIRING, SETUP, STOP, RESTART = 1, 2, 3, 4
SETUP_LAYOUT = struct.Struct("<BB")  # kind, index of the bus in its task
STOP_LAYOUT = struct.Struct("<BIqB")  # kind, number, clock reading, index of the bus
RESTART_LAYOUT = struct.Struct("<BIq")  # kind, firings before it, clock reading
STAMPS = struct.Struct("<qq")  # before a stream's or an output's message: origin, delivered/fired
_EXCHANGE = struct.Struct("<BqqHHB")
_U16 = struct.Struct("<H")
_event_encoder = msgspec.msgpack.Encoder()
_event_decoder = msgspec.msgpack.Decoder()

Logged = tuple[int, Exchange, Reply]  # index of the bus in its task
# ("arm",), ("trip", reason), ("param", node, key, value), ("restart", {source: number}) ...
Event = tuple[Any, ...]


def as_recorded(event: Event) -> Event:
    """The event as a replay will see it: applied so live too. Raises RecordError."""
    try:
        data = _event_encoder.encode(event)
    except (TypeError, OverflowError, ValueError) as exc:
        raise RecordError(
            f"{event[-1]!r} cannot be recorded ({exc}). Use numbers, text, lists and maps."
        ) from exc
    if len(data) > 0xFFFF:
        raise RecordError(f"{len(data)} bytes are too long for an event, at most 65535 fit.")
    return tuple(_event_decoder.decode(data))


class LaneRecord(msgspec.Struct, gc=False):
    """One parsed record of a lane."""

    kind: int
    fixed: tuple[Any, ...]
    events: list[Event]
    exchanges: list[Logged]


def pack_tail(events: list[Event], exchanges: list[Logged]) -> bytes:
    """The variable part of a record."""
    if not events and not exchanges:
        return b"\0\0\0"
    out = bytearray()
    out.append(len(events))
    for event in events:
        data = _event_encoder.encode(event)
        out += _U16.pack(len(data)) + data
    out += _U16.pack(len(exchanges))
    for bus, exchange, reply in exchanges:
        error = reply.error.encode()[:255].decode(errors="ignore").encode()  # no half letters
        out += _EXCHANGE.pack(
            bus, reply.t_sent_ns, reply.t_done_ns, len(exchange.tx), len(reply.rx), len(error)
        )
        out += exchange.tx + reply.rx + error
    return bytes(out)


def _unpack_tail(data: memoryview, at: int) -> tuple[list[Event], list[Logged], int]:
    events: list[Event] = []
    exchanges: list[Logged] = []
    count = data[at]
    at += 1
    for _ in range(count):
        (size,) = _U16.unpack_from(data, at)
        events.append(tuple(_event_decoder.decode(data[at + 2 : at + 2 + size])))
        at += 2 + size
    (count,) = _U16.unpack_from(data, at)
    at += 2
    for _ in range(count):
        bus, t_sent, t_done, tx_size, rx_size, error_size = _EXCHANGE.unpack_from(data, at)
        at += _EXCHANGE.size
        tx = bytes(data[at : at + tx_size])
        rx = bytes(data[at + tx_size : at + tx_size + rx_size])
        at += tx_size + rx_size
        error = bytes(data[at : at + error_size]).decode()
        at += error_size
        exchanges.append((bus, Exchange(tx, rx_size), Reply(rx, t_sent, t_done, error)))
    return events, exchanges, at


def parse_block(block: bytes, firing: struct.Struct) -> Iterator[LaneRecord]:
    """The records of one block of a lane; `firing` is the layout of its firings."""
    data, at = memoryview(block), 0
    layouts = {
        FIRING: firing, SETUP: SETUP_LAYOUT, STOP: STOP_LAYOUT, RESTART: RESTART_LAYOUT
    }  # fmt: skip
    while at < len(data):
        layout = layouts[data[at]]
        fixed = layout.unpack_from(data, at)
        events, exchanges, at = _unpack_tail(data, at + layout.size)
        if at > len(data):
            raise RecordError("a block of a lane's records ends within one: it is damaged.")
        yield LaneRecord(fixed[0], fixed[1:], events, exchanges)
