"""The demo as a person starts it; a graph on a real video with somebody else's detector."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from haihe.runtime.record.recording import Recording
from haihe.testing import replay
from tests.reference import REFERENCE, reference

HAIHE = [sys.executable, "-m", "haihe"]


@pytest.mark.process
def test_the_demo_ends_with_recording_summary_report_and_nothing_else(tmp_path: Path) -> None:
    home, temporary = tmp_path / "home", tmp_path / "tmp"
    home.mkdir()
    temporary.mkdir()
    environment = os.environ | {"HOME": str(home), "TMPDIR": str(temporary)}
    environment.pop("ORT_DISABLE_TELEMETRY", None)
    done = subprocess.run(
        [*HAIHE, "demo", "--duration", "5s", "--out", str(tmp_path / "out")],
        env=environment, capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "tracking error" in done.stdout
    assert "glass to servo" in done.stdout
    (recording,) = (tmp_path / "out").glob("*.mcap")
    (report,) = (tmp_path / "out").glob("*.html")
    opened = Recording(recording)
    assert opened.complete
    assert replay(opened).ok
    HTMLParser().feed(report.read_text("utf-8"))
    # no telemetry, no leftovers: neither in the home folder nor among temporary files
    assert not list(home.rglob("*"))
    assert not list(temporary.rglob("*"))
    error = re.search(r"rms (\d+\.\d+)°", done.stdout)
    assert error is not None
    assert float(error[1]) < 5.0  # it followed; how well is a benchmark's business


@pytest.mark.process
def test_onnxruntime_starts_no_thread_of_its_own() -> None:
    code = """
import os
from haihe import detector
import cv2, numpy, onnxruntime
cv2.setNumThreads(1)
before = len(os.listdir("/proc/self/task"))
found = detector("part")
found.open()
assert len(os.listdir("/proc/self/task")) == before, os.listdir("/proc/self/task")
assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


@pytest.mark.process
def test_a_video_and_a_third_party_detector_drive_emulated_servos(tmp_path: Path) -> None:
    video = reference("data/video/solidWhiteRight.mp4")
    reference("models/detect/yolox_nano.onnx")
    recording = tmp_path / "video.mcap"
    done = subprocess.run(
        [
            *HAIHE, "run", "robot.follow", "-p", "model=yolox_nano", "-p", "label=car",
            "--unit", "pan-tilt", "--sim", "--video", str(video), "--duration", "4s",
            "--record", str(recording),
        ],
        env=os.environ | {"HAIHE_REFERENCE": str(REFERENCE)},
        capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "tracking error    rms" not in done.stdout  # a video does not move with the head
    opened = Recording(recording)
    assert opened.streams["front.image"]
    assert opened.outputs["yolox_nano"]
    assert replay(opened).ok
