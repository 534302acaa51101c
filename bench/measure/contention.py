"""Other work beside a measurement: a camera, a control loop, a second model.

Each is a process of its own, as the parts of a robot are:

    camera         640x480 at 30 frames/s: resize, colour, JPEG
    control        200 Hz: read, compute and write a small state, in Python
    MODEL, MODEL@FPS    a second model, one run after the other or at a rate

    python -m haihe.bench.measure.contention NAME      (until its standard input ends)
"""

import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from haihe.bench.measure.stopwatch import Stage, closed, paced
from haihe.runtime.clock import SECOND
from haihe.runtime.errors import HaiheError, ModelError

CAMERA_HZ, CONTROL_HZ = 30.0, 200.0


def parse_load(text: str) -> tuple[str, float]:
    """(name, rate in Hz; 0: as fast as it goes). Raises ModelError."""
    name, at, rate = text.rpartition("@")
    if not at:
        name, rate = text, ""
    try:
        hertz = float(rate) if at else {"camera": CAMERA_HZ, "control": CONTROL_HZ}.get(name, 0.0)
    except ValueError:
        hertz = -1.0
    if not name or not 0 <= hertz < 1e5:
        raise ModelError(f"--with {text}: write camera, control, MODEL or MODEL@FPS.")
    return name, hertz


@contextlib.contextmanager
def beside(loads: Sequence[str]) -> Iterator[dict[str, float]]:
    """Run the loads while inside; afterwards the dictionary holds what they did: `camera_runs`,
    `camera_p50_ns`, `camera_dropped` ... Raises ModelError when one cannot start."""
    done: dict[str, float] = {}
    with contextlib.ExitStack() as stack:
        children = []
        for load in loads:
            parse_load(load)
            child = subprocess.Popen(
                [sys.executable, "-m", "haihe.bench.measure.contention", load],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )  # fmt: skip
            stack.enter_context(child)
            stack.callback(child.kill)
            children.append((load, child))
        for load, child in children:
            _answer(load, child)
        try:
            yield done
        finally:
            for load, child in children:
                assert child.stdin is not None
                with contextlib.suppress(BrokenPipeError):
                    child.stdin.close()
                name = parse_load(load)[0].rsplit("/", 1)[-1]
                for key, value in json.loads(_answer(load, child)).items():
                    done[f"{name}_{key}"] = value


def _answer(load: str, child: "subprocess.Popen[str]") -> str:
    assert child.stdout is not None
    line = child.stdout.readline()
    if not line:
        said = child.stderr.read().strip().splitlines() if child.stderr else []
        raise ModelError(f"--with {load}: it ended: {said[-1] if said else 'without a word'}")
    return line


def _camera() -> Stage:
    import cv2

    cv2.setNumThreads(1)
    frame = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)

    def work() -> None:
        small = cv2.resize(frame, (320, 240))
        cv2.cvtColor(small, cv2.COLOR_BGR2RGB)
        cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, 85])

    return "camera", work


def _control() -> Stage:
    state = [0.0] * 12

    def work() -> None:
        for _ in range(20):
            for index, value in enumerate(state):
                state[index] = 0.9 * value + 0.1 * (index - value)

    return "control", work


def _second(name: str) -> Stage:
    from haihe.bench.measure.session import Opening
    from haihe.bench.measure.subject import open_subject

    subject = open_subject(name, Opening())

    def work() -> None:
        for _, call in subject.stages:
            call()

    return "model", work


KINDS: dict[str, Callable[[], Stage]] = {"camera": _camera, "control": _control}


def main(arguments: Sequence[str]) -> int:
    """Work until the standard input ends."""
    try:
        name, hertz = parse_load(arguments[0])
        stage = KINDS[name]() if name in KINDS else _second(name)
        stage[1]()
    except HaiheError as exc:
        print(exc, file=sys.stderr)
        return 1
    ended = threading.Event()

    def wait() -> None:
        sys.stdin.read()
        ended.set()

    threading.Thread(target=wait, daemon=True).start()
    print("ready", flush=True)
    if hertz:
        timed = paced([stage], round(SECOND / hertz), ended=ended)
    else:
        timed = closed([stage], ended=ended)
    total = timed.stamps[:, -1] - timed.stamps[:, 0]
    facts = {"runs": timed.runs, "dropped": timed.dropped, "p50_ns": float(np.median(total)),
             "max_ns": float(total.max())}  # fmt: skip
    print(json.dumps(facts), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
