"""Publishing over real sockets: what another program gets, and what a slow one costs."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import zmq

from haihe import Graph, camera, node, run
from haihe.boards.unit import unit_from_text
from haihe.drivers.framing.published import boot_id
from haihe.pipelines.nodes.publish import Publish
from haihe.runtime.clock import now_ns
from haihe.runtime.contracts import Age
from haihe.runtime.errors import PlanError
from haihe.runtime.record.recording import Recording
from haihe.runtime.types import Image, Message, Reading

FREE = "tcp://127.0.0.1:*"
LIMIT_MS = 30_000  # only catches hangs


@pytest.fixture
def publish() -> Iterator[Publish]:
    made = Publish("parts", FREE, queue=4)
    made.open()
    yield made
    made.close()


class Subscriber:
    """Another program's socket, with a context of its own."""

    def __init__(self, publish: Publish, queue: int = 1000) -> None:
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.SUB)
        self.socket.linger, self.socket.rcvhwm = 0, queue
        self.socket.subscribe(b"parts")
        self.socket.connect(publish.bound_address)
        for _ in range(LIMIT_MS // 10):  # until it is connected
            publish(Reading(0.0))
            if self.socket.poll(10):
                break
        self.drain(10)

    def drain(self, patience_ms: int = 300) -> list[dict[str, Any]]:
        """The headers of what comes."""
        found = []
        while self.socket.poll(patience_ms):
            found.append(msgspec.msgpack.decode(self.socket.recv_multipart()[1]))
        return found

    def close(self) -> None:
        self.socket.close()
        self.context.term()


def test_another_program_reads_it_with_messagepack_alone(publish: Publish) -> None:
    subscriber = Subscriber(publish)
    try:
        before = now_ns()
        said: Any = publish(Reading(2.5), Age(0.25))
        after = now_ns()
        assert subscriber.socket.poll(LIMIT_MS)
        topic, head, payload = subscriber.socket.recv_multipart()
    finally:
        subscriber.close()
    header = msgspec.msgpack.decode(head)
    assert topic == b"parts"
    assert msgspec.msgpack.decode(payload) == {"value": 2.5, "quality": "good"}
    assert (header["type"], header["sequence"]) == ("Reading", said.sequence)
    assert header["age_ns"] == 250_000_000
    assert before - 250_000_000 <= header["captured_ns"] <= after - 250_000_000
    assert header["boot"] == boot_id() != ""
    assert said.stalls == 0


def test_a_subscriber_that_reads_nothing_costs_the_other_nothing(
    publish: Publish, caplog: pytest.LogCaptureFixture
) -> None:
    slow, quick = Subscriber(publish, queue=1), Subscriber(publish)
    message = Image(np.zeros((400, 500, 3), np.uint8))
    first: Any = publish(message)
    last, got = first, quick.drain(50)
    try:
        while last.sequence < first.sequence + 60 or not last.stalls:
            assert last.sequence < first.sequence + 1000, "it never stalled"
            last = publish(message)
            assert quick.socket.poll(LIMIT_MS)
            got += quick.drain(0)
        got += quick.drain(50)
        missed = slow.drain()
    finally:
        slow.close()
        quick.close()
    every = list(range(first.sequence, last.sequence + 1))
    assert [header["sequence"] for header in got] == every
    assert len(missed) < len(every)
    assert caplog.records[0].levelno == logging.WARNING
    assert caplog.records[0].getMessage() == (
        f"Publish('parts'): a subscriber of {publish.bound_address} does not keep up and misses "
        "messages (1 stalls so far)"
    )


def test_wrong_ways_to_use_it() -> None:
    with pytest.raises(PlanError) as caught:
        Publish("parts", "tcp://0.0.0.0:5556")
    assert str(caught.value).startswith(
        "Publish('parts'): tcp://0.0.0.0:5556 is beyond this machine, and there are no keys: "
    )
    with pytest.raises(PlanError) as caught:
        Publish("parts", queue=0)
    assert str(caught.value) == "Publish('parts'): queue 0: from 1 to 10000, please."
    with pytest.raises(PlanError) as caught:
        Publish("parts")(Reading(0.0))
    assert str(caught.value) == (
        "Publish('parts'): called before open(). The runtime opens it; without one, call open() "
        "first."
    )


@node(recorded=True)
def passed(image: Image) -> Image:
    """So that the recording has it."""
    return image


def test_pictures_go_from_one_graph_into_another(tmp_path: Path) -> None:
    """Both run in real time; both recordings are the judges."""
    import socket
    import threading

    import cv2

    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{one.getsockname()[1]}"
    for index in range(40):
        path = tmp_path / f"{index:03}.png"
        cv2.imwrite(str(path), np.full((24, 32, 3), index, np.uint8))
    with Graph("sends") as sends:
        Publish("front", address)(camera("front").image)
    with Graph("takes") as takes:
        passed(camera("front").image)
    file = (
        f"devices: {{front: {{driver: camera.file, options: {{path: '{tmp_path}', fps: 20}}}}}}\n"
    )
    link = f"devices: {{front: {{driver: camera.zmq, options: {{address: '{address}'}}}}}}\n"
    out, into = tmp_path / "sends.mcap", tmp_path / "takes.mcap"
    sender = threading.Thread(
        target=lambda: run(
            sends, unit=unit_from_text("unit: a\n" + file, "a.yaml"), record=out, frames="lossless"
        )
    )
    sender.start()
    run(
        takes, unit=unit_from_text("unit: b\n" + link, "b.yaml"), duration="2.5s", record=into,
        frames="lossless",
    )  # fmt: skip
    sender.join(30)
    assert not sender.is_alive()

    def pictures(path: Path) -> dict[int, int]:
        found = {}
        for record in Recording(path).streams["front.image"]:
            image = record.message(Image)
            assert isinstance(image, Image)
            found[int(image.data[0, 0, 0])] = record.capture_ns
        return found

    sent, taken = pictures(out), pictures(into)
    assert len(taken) > 5
    for value, capture in taken.items():
        # late by what passes between the lane's clock and the node's
        assert 0 <= capture - sent[value] < 500_000_000


class Odd(Message):
    value: Any


def test_what_cannot_be_packed_raises_and_the_next_goes_out(publish: Publish) -> None:
    with pytest.raises(TypeError):
        publish(Odd(object()))
    subscriber = Subscriber(publish)
    publish(Reading(1.0))
    assert subscriber.drain(50)
    subscriber.close()
