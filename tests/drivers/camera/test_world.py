"""Frames of a world over a Unix socket: any chunking, the end, loss."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from haihe.drivers.camera import world as module
from haihe.drivers.camera.world import HEAD, SPEC, WorldCamera, WorldCameraOptions, pack_head
from haihe.runtime.errors import DeviceError
from haihe.runtime.types import U8, Intrinsics

RNG = np.random.default_rng(5)
FRAMES: list[U8] = [RNG.integers(0, 256, (6, 8, 3), np.uint8) for _ in range(4)]
CAMERA = Intrinsics(8, 6, 10.0, 10.0, 3.5, 2.5)


class Peer:
    """The world's end of the socket."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "front.sock"
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(str(self.path))
        self.listener.listen(1)
        self.camera: WorldCamera = SPEC.make(WorldCameraOptions(str(self.path), CAMERA))
        self.camera.open()
        self.connection, _ = self.listener.accept()

    def send(self, index: int, size: int = 0) -> None:
        """A frame, whole or in pieces of `size` bytes."""
        frame = FRAMES[index % len(FRAMES)]
        data = pack_head(index, 1_000 + index, frame) + frame.tobytes()
        for at in range(0, len(data), size or len(data)):
            self.connection.sendall(data[at : at + (size or len(data))])

    def close(self) -> None:
        self.connection.close()
        self.listener.close()
        self.camera.close()


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[Peer]:
    made = Peer(tmp_path)
    yield made
    made.close()


def check(peer: Peer, index: int) -> None:
    found = peer.camera.read(5.0)
    assert found is not None
    image, stamp = found
    assert image.data.tobytes() == FRAMES[index % len(FRAMES)].tobytes()
    assert image.data.shape == (6, 8, 3)
    assert image.camera is CAMERA
    assert stamp == 1_000 + index


@pytest.mark.parametrize("size", [0, 1, 7, HEAD.size, HEAD.size + 1, 100])
def test_any_chunking_gives_the_same_frames(peer: Peer, size: int) -> None:
    def send() -> None:
        for index in range(4):
            peer.send(index, size)

    sender = threading.Thread(target=send)
    sender.start()  # a socket holds only so many small pieces
    for index in range(4):
        check(peer, index)
    sender.join()
    assert peer.camera.lost == 0


def test_what_the_world_rendered_with_goes_before_the_profile(peer: Peer) -> None:
    rendered = Intrinsics(8, 6, 5.0, 5.5, 3.25, 2.25, 0.1, -0.01)
    peer.connection.sendall(pack_head(0, 1_000, FRAMES[0], rendered) + FRAMES[0].tobytes())
    found = peer.camera.read(5.0)
    assert found is not None
    assert found[0].camera == rendered


def test_a_head_that_comes_in_two_parts_outlasts_the_time_out(peer: Peer) -> None:
    head = pack_head(0, 1_000, FRAMES[0])
    peer.connection.sendall(head[:5])
    assert peer.camera.read(0.001) is None
    assert peer.camera.read(0.0) is None
    peer.connection.sendall(head[5:] + FRAMES[0].tobytes())
    check(peer, 0)


def test_nothing_in_time_is_none(peer: Peer) -> None:
    assert peer.camera.read(0.001) is None
    peer.send(0)
    check(peer, 0)


def test_frames_that_the_world_dropped_are_counted(peer: Peer) -> None:
    for index in (2, 3, 7):
        peer.send(index)
        check(peer, index)
    assert peer.camera.lost == 2 + 3


@pytest.mark.parametrize("sent", [0, 5, HEAD.size, HEAD.size + 10])
def test_the_end_of_the_world_is_the_end_of_the_stream(peer: Peer, sent: int) -> None:
    peer.send(0)
    data = pack_head(1, 1_001, FRAMES[1]) + FRAMES[1].tobytes()
    peer.connection.sendall(data[:sent])
    peer.connection.close()
    check(peer, 0)
    for _ in range(2):
        with pytest.raises(EOFError):
            peer.camera.read(5.0)


def test_a_frame_that_stops_half_way_is_a_failure_not_another_frame(
    peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REST_S", 0.01)
    peer.connection.sendall(pack_head(0, 1_000, FRAMES[0]) + bytes(5))
    with pytest.raises(DeviceError) as caught:
        peer.camera.read(5.0)
    assert str(caught.value) == (
        f"camera.world: {peer.path}: a frame stopped half-way for 0.01 s. Is the world hanging?"
    )


def test_after_close_the_stream_has_ended(peer: Peer) -> None:
    peer.camera.close()
    peer.camera.close()
    with pytest.raises(EOFError):
        peer.camera.read(1.0)


def test_no_world_is_said(tmp_path: Path) -> None:
    path = tmp_path / "none.sock"
    with pytest.raises(DeviceError) as caught:
        SPEC.make(WorldCameraOptions(str(path))).open()
    assert str(caught.value) == (
        f"camera.world: {path}: No such file or directory. Is the world running?"
    )
