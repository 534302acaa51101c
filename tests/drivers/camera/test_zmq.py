"""Pictures over real ZeroMQ sockets: another program's, and haihe's."""

import logging
import threading
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import pytest
import zmq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from haihe.drivers.camera.zmq import SPEC, ZmqCamera, ZmqCameraOptions
from haihe.drivers.framing.published import Header, boot_id, pack
from haihe.runtime.clock import now_ns
from haihe.runtime.errors import DeviceError
from haihe.runtime.types import U8, Image, Intrinsics, Reading

LIMIT_S = 30.0  # only catches hangs


def picture(value: int) -> U8:
    return np.full((4, 6, 3), value, np.uint8)


class Sender:
    """The far end: an XPUB, so that it knows when the camera has subscribed."""

    def __init__(self, **options: Any) -> None:
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.XPUB)
        self.socket.linger = 0
        self.socket.bind("tcp://127.0.0.1:*")
        self.address = self.socket.getsockopt_string(zmq.LAST_ENDPOINT)
        settings = {"address": self.address, "topic": "front"} | options
        self.camera: ZmqCamera = SPEC.make(ZmqCameraOptions(**settings))
        self.camera.open()
        assert self.socket.poll(round(LIMIT_S * 1e3))
        assert self.socket.recv() == b"\x01" + str(settings["topic"]).encode()

    def send(self, value: int, topic: str = "front", **header: Any) -> None:
        self.socket.send_multipart(pack(topic, Header("Image", **header), Image(picture(value))))

    def until(self, value: int) -> list[tuple[Image, int]]:
        """All that is read, up to the picture of that value."""
        found: list[tuple[Image, int]] = []
        end = now_ns() + round(LIMIT_S * 1e9)
        while not found or found[-1][0].data[0, 0, 0] != value:
            assert now_ns() < end, "it never came"
            one = self.camera.read(LIMIT_S)
            if one is not None:  # None at once: what came was malformed
                found.append(one)
        return found

    def close(self) -> None:
        self.camera.close()
        self.socket.close()
        self.context.term()


@pytest.fixture
def sender() -> Iterator[Sender]:
    made = Sender()
    yield made
    made.close()


def test_the_sender_s_stamp_on_one_machine(sender: Sender) -> None:
    sender.send(1, captured_ns=1234, age_ns=9, boot=boot_id())
    [(image, stamp)] = sender.until(1)
    assert (image.data == picture(1)).all()
    assert stamp == 1234
    assert sender.camera.by_arrival == 0


def test_the_arrival_less_the_age_from_another(
    sender: Sender, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for value in (1, 2):
        before = now_ns()
        sender.send(value, captured_ns=1234, age_ns=10**9, boot="another")
        [(_, stamp)] = sender.until(value)
        assert before - 10**9 <= stamp <= now_ns() - 10**9
    assert sender.camera.by_arrival == 2
    assert [r.message for r in caplog.records] == [
        f"camera.zmq: {sender.address}: pictures are stamped when they arrive: the sender is "
        "not on this machine, or says no capture"
    ]


def test_a_jpeg_of_any_program(sender: Sender) -> None:
    before = now_ns()
    data = cv2.imencode(".jpg", picture(90))[1].tobytes()
    sender.socket.send_multipart([b"front", data])
    found = sender.camera.read(LIMIT_S)
    assert found is not None
    assert found[0].data.shape == (4, 6, 3)
    assert np.abs(found[0].data.astype(int) - 90).max() <= 1
    assert before <= found[1] <= now_ns()


def test_the_newest_wins_and_the_others_are_counted(sender: Sender) -> None:
    pause, value, reads = threading.Event(), 0, 0
    for _ in range(100):
        for _ in range(3):
            value += 1
            sender.send(value, sender="a", sequence=value)
        pause.wait(0.02)
        reads += len(sender.until(value))
        assert reads + sender.camera.skipped == value
        if sender.camera.skipped:
            break
    assert sender.camera.skipped > 0
    assert (sender.camera.lost, sender.camera.malformed) == (0, 0)


def test_what_is_missing_by_its_number_is_lost(sender: Sender) -> None:
    for value, name, sequence in [(1, "a", 5), (2, "a", 6), (3, "a", 9), (4, "b", 1), (5, "b", 3)]:
        sender.send(value, sender=name, sequence=sequence)
        sender.until(value)
    assert sender.camera.lost == 2 + 1


def test_a_longer_topic_is_another(sender: Sender) -> None:
    sender.send(1, "frontal")
    sender.send(2)
    assert len(sender.until(2)) == 1
    assert sender.camera.skipped == 0


def test_silence_is_none_and_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    sender = Sender(timeout=0.01)
    try:
        assert [sender.camera.read(0.02) for _ in range(3)] == [None] * 3
        sender.send(1, captured_ns=1, boot=boot_id())
        sender.until(1)
    finally:
        sender.close()
    assert [r.message for r in caplog.records] == [
        f"camera.zmq: {sender.address}: no picture of topic 'front' for 0.01 s. Is the sender "
        "running, are topic and keys right?",
        f"camera.zmq: {sender.address}: pictures come again",
    ]


def test_into_a_place_of_the_runtime(sender: Sender) -> None:
    place = np.zeros((4, 6, 3), np.uint8)
    asked = []

    def allocate(shape: tuple[int, ...], dtype: Any) -> U8 | None:
        asked.append((shape, dtype))
        return place if len(asked) == 1 else None

    sender.camera.allocate = allocate
    sender.send(1)
    [(image, _)] = sender.until(1)
    assert image.data is place
    sender.send(2)
    [(image, _)] = sender.until(2)
    assert (image.data == 2).all()
    assert asked == [((4, 6, 3), np.uint8)] * 2


def test_another_message_is_refused(sender: Sender, caplog: pytest.LogCaptureFixture) -> None:
    sender.socket.send_multipart(pack("front", Header("Reading"), Reading(1.0)))
    sender.send(1, captured_ns=1, boot=boot_id())
    sender.until(1)
    assert sender.camera.malformed == 1
    assert [r.message for r in caplog.records] == [
        f"camera.zmq: {sender.address}: pictures are refused: it is of type 'Reading'; a camera "
        "takes Image"
    ]


@pytest.fixture(scope="module")
def shared() -> Iterator[Sender]:
    made = Sender()
    yield made
    made.close()


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.binary(max_size=40), max_size=4))
def test_malformed_parts_are_counted_and_never_raised(shared: Sender, parts: list[bytes]) -> None:
    camera = shared.camera
    before = camera.malformed + camera.skipped
    shared.socket.send_multipart([b"front", *parts])
    shared.send(200)
    assert len(shared.until(200)) == 1
    assert camera.malformed + camera.skipped == before + 1


def test_after_close_the_stream_has_ended(sender: Sender) -> None:
    sender.camera.close()
    sender.camera.close()
    with pytest.raises(EOFError):
        sender.camera.read(1.0)


def test_options_that_are_wrong() -> None:
    with pytest.raises(DeviceError) as caught:
        ZmqCameraOptions("tcp://127.0.0.1:5556", timeout=0.0, latency_ms=(5.0, 2.0))
    assert str(caught.value) == (
        "camera.zmq: timeout 0 s, fps 0, latency_ms [5.0, 2.0]; expected a timeout above 0, "
        "nothing below 0, the least latency first. Correct the options."
    )
    with pytest.raises(DeviceError, match=r"^camera\.zmq: tcp://10\.0\.0\.2:5 is beyond this mach"):
        ZmqCameraOptions("tcp://10.0.0.2:5")


def test_what_the_check_is_told() -> None:
    options = ZmqCameraOptions("ipc://a", fps=50, latency_ms=(1, 4))
    timing = SPEC.timing(options)
    assert timing is not None
    assert (timing.period_min_ns, timing.period_max_ns) == (19_960_000, 20_040_000)
    assert timing.latency_ns == (1_000_000, 4_000_000)
    assert SPEC.timing(ZmqCameraOptions("ipc://a")) is None


def test_the_profile_s_intrinsics_where_the_sender_has_none() -> None:
    lens = Intrinsics(6, 4, 5.0, 5.0, 2.5, 1.5)
    sender = Sender(intrinsics=lens)
    sender.send(1)
    [(image, _)] = sender.until(1)
    sender.close()
    assert image.camera == lens
