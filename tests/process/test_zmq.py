"""A program that is not haihe publishes JPEGs with CURVE keys; a run takes and records them."""

import itertools
import subprocess
import sys
from pathlib import Path

import pytest
from zmq.auth import create_certificates

from haihe import Graph, camera, node, run
from haihe.boards.unit import unit_from_text
from haihe.drivers.camera.zmq import ZmqCamera, ZmqCameraOptions
from haihe.runtime.record.recording import Recording
from haihe.runtime.types import Image, Reading

pytestmark = pytest.mark.process

PROGRAM = """
import sys, time, cv2, numpy as np, zmq, zmq.auth
from zmq.auth.thread import ThreadAuthenticator
folder = sys.argv[1]
context = zmq.Context()
auth = ThreadAuthenticator(context)
auth.start()
auth.configure_curve(domain="*", location=folder + "/known")
socket = context.socket(zmq.PUB)
socket.curve_publickey, socket.curve_secretkey = zmq.auth.load_certificate(
    folder + "/board.key_secret")
socket.curve_server = True
print(socket.bind_to_random_port("tcp://127.0.0.1"), flush=True)
number = 0
while True:
    number += 1
    picture = np.full((48, 64, 3), number % 200, np.uint8)
    socket.send_multipart([b"eye", cv2.imencode(".jpg", picture)[1].tobytes()])
    time.sleep(0.02)
"""


@node(recorded=True)
def level(image: Image) -> Reading:
    """Mean of a picture."""
    return Reading(float(image.data.mean()))


def test_a_run_sees_what_another_program_publishes(tmp_path: Path) -> None:
    for name in ("board", "robot", "stranger"):
        create_certificates(tmp_path, name)
    (tmp_path / "known").mkdir()
    (tmp_path / "known" / "robot.key").write_bytes((tmp_path / "robot.key").read_bytes())
    with Graph("takes") as graph:
        level(camera("front").image)
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        address = f"tcp://127.0.0.1:{int(process.stdout.readline())}"
        text = (
            "unit: robot\ndevices:\n  front:\n    driver: camera.zmq\n    options:\n"
            f"      address: '{address}'\n      topic: eye\n"
            f"      secret: '{tmp_path}/robot.key_secret'\n      peers: '{tmp_path}/board.key'\n"
        )
        into = tmp_path / "run.mcap"
        run(
            graph, unit=unit_from_text(text, "unit.yaml"), duration="3s", record=into,
            frames="lossless",
        )  # fmt: skip
        stranger = ZmqCamera(
            ZmqCameraOptions(
                address, "eye", secret=tmp_path / "stranger.key_secret",
                peers=tmp_path / "board.key",
            )
        )  # fmt: skip
        stranger.open()
        seen = [stranger.read(0.1) for _ in range(5)]
        stranger.close()
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
    assert seen == [None] * 5
    records = Recording(into).streams["front.image"]
    levels = []
    for record in records:
        image = record.message(Image)
        assert isinstance(image, Image)
        assert image.data.shape == (48, 64, 3)
        levels.append(round(float(image.data.mean())))
    assert len(levels) > 5
    rises = [(b - a) % 200 for a, b in itertools.pairwise(levels)]
    assert all(0 < rise < 100 for rise in rises)
    stamps = [record.capture_ns for record in records]
    assert stamps == sorted(stamps)
