"""The ONNX Runtime backend: what it refuses, who owns the arrays, what it leaves behind."""

import gc
import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.reference import reference

from haihe.models.backends.base import SessionOptions, load_session
from haihe.models.backends.ort import OrtSession
from haihe.runtime.errors import ModelError


def refuses(message: str) -> pytest.RaisesExc[ModelError]:
    return pytest.RaisesExc(ModelError, match=message)


def test_it_runs_in_place() -> None:
    session = OrtSession(reference("models/tiny/dummy_addition_model_1.onnx"))
    assert session.provider == "CPUExecutionProvider"
    (given,), (made,) = session.inputs, session.outputs
    assert (given.shape, given.dtype, made.shape) == ((1, 16), "float32", (1, 16))
    buffer = session.buffer(given.name)
    for value in (1.0, 5.0):
        buffer[:] = value
        results = session.run()
        assert (results[made.name] == value + 1).all()
    assert session.run()[made.name] is results[made.name]
    session.close()
    assert (results[made.name] == 6.0).all()
    with refuses(r"run after close. Open it again\."):
        session.run()
    session.close()


def test_open_sizes_are_fixed_by_the_shape_given() -> None:
    path = reference("models/tiny/identity_dynamic_multi.onnx")
    options = SessionOptions(shapes={"input": (1, 7, 256)})
    session = load_session("ort", path, options)
    session.buffer("input")[:] = np.arange(7 * 256).reshape(1, 7, 256)
    assert session.outputs[0].shape == (1, 7, 256)
    assert (session.run()["output"] == session.buffer("input")).all()
    with refuses(r"input input has open sizes \['batch', 'height', 256\]. Give its shape\."):
        OrtSession(path)
    with refuses(r"input input is \['batch', 'height', 256\], expected \[1, 7, 255\]\. Correct"):
        OrtSession(path, shapes={"input": (1, 7, 255)})
    with refuses(r"expected \[1, 7\]"):
        OrtSession(path, shapes={"input": (1, 7)})


def test_a_batch_left_open_is_one() -> None:
    path = reference("models/licence_unclear/pfld.onnx")
    session = OrtSession(path)
    assert session.inputs[0].shape == (1, 3, 112, 112)
    assert session.outputs[-1].shape[0] == 1
    session.run()


def test_garbage_collection_does_not_touch_the_arrays() -> None:
    """Bound by address: dropping one corrupts the heap, often only some runs later."""
    path = reference("models/face/version-slim-320.onnx")
    expected: np.ndarray | None = None
    rng = np.random.default_rng(1)
    picture = rng.random((1, 3, 240, 320), np.float32)
    for _ in range(3):
        session = OrtSession(path)
        session.buffer("input")[:] = picture
        for _ in range(5):
            results = session.run()
            gc.collect()
            for size in (1 << 12, 1 << 16, results["scores"].nbytes, results["boxes"].nbytes):
                np.full(size, 255, np.uint8)  # would take the place of a freed array
            scores = results["scores"]
            del results
            if expected is None:
                expected = scores.copy()
            assert (scores == expected).all()
        del session
        gc.collect()
        assert (scores == expected).all()


def test_threads_give_the_same_numbers() -> None:
    path = reference("models/face/version-slim-320.onnx")
    found = []
    for threads in (1, 2):
        session = OrtSession(path, threads=threads)
        session.buffer("input")[:] = 0.25
        found.append(session.run()["boxes"].copy())
    np.testing.assert_allclose(found[0], found[1], atol=1e-5)
    with refuses("threads is 0, expected 1 or more"):
        OrtSession(path, threads=0)


def test_a_missing_provider_is_an_error_unless_allowed() -> None:
    path = reference("models/tiny/identity.onnx")
    with refuses(r"provider CUDAExecutionProvider is not in this build of onnxruntime, found "):
        OrtSession(path, providers=("CUDAExecutionProvider", "CPUExecutionProvider"))
    session = OrtSession(path, providers=("CUDAExecutionProvider",), allow_fallback=True)
    assert session.provider == "CPUExecutionProvider"


def test_an_unknown_input_is_named() -> None:
    session = OrtSession(reference("models/tiny/identity.onnx"))
    name = session.inputs[0].name
    with refuses(f"no input 'picture', found {name}. Correct input.name in the manifest"):
        session.buffer("picture")


def test_a_git_lfs_pointer_is_named() -> None:
    path = reference("models/negative/lfs_pointer_yunet.onnx")
    with refuses(r"a Git LFS pointer of 131 bytes, not a model. Run: git lfs pull"):
        OrtSession(path)


def test_custom_operators_are_named() -> None:
    path = reference("models/negative/pytorch_superresolution_with_pre_post_processing_op18.onnx")
    message = "needs the operator com.microsoft.extensions:DecodeImage, which onnxruntime does not"
    with refuses(message):
        OrtSession(path)


def test_files_that_are_no_model(tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    with refuses(r"x\.onnx: cannot be read: No such file or directory. Check the path\."):
        OrtSession(path)
    path.write_bytes(b"")
    with refuses(r"x\.onnx: the file is empty. Fetch the model again\."):
        OrtSession(path)
    path.write_bytes(b"garbage" * 100)
    with refuses(r"x\.onnx: not an ONNX model, or truncated \(700 bytes\)\. Fetch it again\."):
        OrtSession(path)
    path.write_bytes(reference("models/detect/yolox_nano.onnx").read_bytes()[:100_000])
    with refuses(r"not an ONNX model, or truncated \(100000 bytes\)"):
        OrtSession(path)


def test_the_hash_is_checked(tmp_path: Path) -> None:
    path = reference("models/tiny/identity.onnx")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    OrtSession(path, sha256=found.upper())
    message = f"found sha256 {found}, expected {'0' * 64}. Fetch the model again, or correct its"
    with refuses(re.escape(message)):
        OrtSession(path, sha256="0" * 64)


def test_an_unknown_backend_is_named(tmp_path: Path) -> None:
    with refuses(r"backend 'rknn9' is not known. Known: ort\."):
        load_session("rknn9", tmp_path, SessionOptions())
    with refuses("backend 'os.path' is not known"):
        load_session("os.path", tmp_path, SessionOptions())


PROBE = """
import json, os, sys, time
import numpy
threads = lambda: len(os.listdir("/proc/self/task"))
before = threads()
import haihe.models.backends.ort as backend
imported = "onnxruntime" in sys.modules
session = backend.OrtSession(sys.argv[1])
session.run()
opened = threads() - before
telemetry = os.environ["ORT_DISABLE_TELEMETRY"]
print(json.dumps([imported, opened, telemetry]))
"""


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="counts threads in /proc")
def test_it_leaves_no_file_and_no_thread(tmp_path: Path) -> None:
    """In a fresh home, with the telemetry variable not set."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("ORT_", "XDG_"))}
    environment |= {"HOME": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    model = reference("models/tiny/identity.onnx")
    done = subprocess.run(
        [sys.executable, "-c", PROBE, str(model)],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    imported, opened, telemetry = json.loads(done.stdout)
    assert not imported, "onnxruntime is imported on first use only"
    assert telemetry == "1"
    assert opened == 0
    assert done.stderr == ""
    assert list(tmp_path.rglob("*")) == []
