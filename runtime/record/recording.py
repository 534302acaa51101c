"""A recording, read: header, firings by lane, stream messages, outputs, keyframes."""

import json
import struct
from pathlib import Path
from typing import Any

import msgspec

from haihe.runtime.errors import RecordError
from haihe.runtime.plan.codegen import record_layout
from haihe.runtime.plan.model import Plan
from haihe.runtime.record.format import FIRING, STAMPS, LaneRecord, parse_block
from haihe.runtime.record.packer import CUT
from haihe.runtime.record.reader import McapReader
from haihe.runtime.record.recorder import FORMAT
from haihe.runtime.record.sink import FORM_JPEG, FORM_MESSAGE
from haihe.runtime.types import Image, Message, decode

DAMAGE = (RecordError, KeyError, IndexError, struct.error, msgspec.MsgspecError, UnicodeDecodeError)


class StreamRecord(msgspec.Struct, gc=False):
    """One delivery of a stream device."""

    sequence: int
    capture_ns: int
    delivered_ns: int
    form: int
    data: bytes

    def message(self, kind: type[Message]) -> Message | None:
        """The message as captured, None when only its stamps (or a JPEG) were kept."""
        return decode(kind, self.data) if self.form == FORM_MESSAGE else None

    def picture(self) -> Any:
        """The image as BGR array, whatever form it has; None when it was not kept."""
        if self.form == FORM_MESSAGE:
            return decode(Image, self.data).data
        if self.form == FORM_JPEG:
            import cv2
            import numpy as np

            return cv2.imdecode(np.frombuffer(self.data, np.uint8), cv2.IMREAD_COLOR)
        return None


class Recording:
    """Everything of a recording in memory. Opens truncated files: `complete` and `dropped_bytes`
    say what is missing. Raises RecordError for what is no recording of haihe."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.lanes: dict[str, list[LaneRecord]] = {}
        self.streams: dict[str, list[StreamRecord]] = {}
        self.outputs: dict[str, dict[int, bytes]] = {}
        self.orphans: dict[str, dict[int, bytes]] = {}  # made by a lane that died with its record
        self.keyframes: dict[str, list[tuple[int, bytes]]] = {}
        self.notes: dict[str, dict[str, Any]] = {}  # the last one of each topic
        self.note_log: dict[str, list[dict[str, Any]]] = {}  # all of them
        self.header: dict[str, Any] = {}
        blocks: dict[str, list[bytes]] = {}
        with McapReader(path) as reader:
            for message in reader.messages():
                topic = reader.channels[message.channel].topic
                origin, _, rest = topic.partition("/")
                kind, _, name = rest.partition("/")
                if origin != "haihe":
                    continue
                if kind == "run":
                    self.header = json.loads(message.data)
                elif kind == "lane":
                    blocks.setdefault(name, []).append(message.data)
                elif kind == "stream":
                    capture, delivered = STAMPS.unpack_from(message.data)
                    form, data = message.data[STAMPS.size], message.data[STAMPS.size + 1 :]
                    record = StreamRecord(message.sequence, capture, delivered, form, data)
                    self.streams.setdefault(name, []).append(record)
                elif kind == "output":
                    self.outputs.setdefault(name, {})[message.sequence] = message.data
                elif kind == "orphan":
                    self.orphans.setdefault(name, {})[message.sequence] = message.data
                elif kind == "keyframe":
                    self.keyframes.setdefault(name, []).append((message.sequence, message.data))
                elif kind == "note":
                    self.notes[name] = json.loads(message.data)
                    self.note_log.setdefault(name, []).append(self.notes[name])
            self.complete = reader.complete and CUT not in reader.metadata()
            self.dropped_bytes = reader.dropped_bytes
        if not self.header:
            raise RecordError(
                f"{self.path}: no header of haihe in it. Is it a recording made by haihe?"
            )
        if self.header.get("format", 0) > FORMAT:
            raise RecordError(
                f"{self.path}: format {self.header['format']}, this haihe reads up to {FORMAT}. "
                "Install a newer haihe."
            )
        self.plan: Plan = msgspec.convert(self.header["plan"], Plan)
        for lane in self.plan.lanes:
            layout = record_layout(lane.task)
            records = self.lanes[lane.name] = []
            for block in blocks.get(lane.name, []):
                try:
                    records.extend(parse_block(block, layout))
                except DAMAGE:  # from here on the lane is lost, the rest is not
                    self.complete = False
                    self.dropped_bytes += len(block)
                    break

    @property
    def firings(self) -> int:
        """Firings of all lanes."""
        return sum(r.kind == FIRING for records in self.lanes.values() for r in records)

    def sent_bytes(self, role: str) -> bytes:
        """What the device of that role was sent, from open to close."""
        lane, index = self.find_bus(role)
        return b"".join(
            exchange.tx
            for record in self.lanes[lane]
            for bus, exchange, reply in record.exchanges
            if bus == index and not reply.error
        )

    def find_bus(self, role: str) -> tuple[str, int]:
        """The lane that cycles the device of that role, and its index there."""
        for lane in self.plan.lanes:
            for index, bus in enumerate(lane.task.buses):
                if bus.role == role:
                    return lane.name, index
        raise RecordError(f"{self.path}: no device {role!r} in it.")
