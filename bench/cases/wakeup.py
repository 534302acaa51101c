"""How late a control lane of 1 kHz wakes beside a camera and inference.

    python -m haihe.bench.cases.wakeup [--duration 10s] [--rounds 3]

Four cases, one after the other, round by round, so that all meet the same machine; in each a camera
of 30 frames/s (640x480, decoded from JPEG) and a detector run beside the loop:

    C         a C program (wakeup.c): clock_nanosleep, SCHED_FIFO, beside a haihe graph that sees
    own       haihe, the control lane in a process of its own
    one       haihe, the control lane in the same process as camera and inference
    naive     plain Python: three threads and time.sleep, as one writes it first

Lateness: from the place on the grid to the first act of the loop. In haihe this is the firing's
clock reading, after waking and sampling. The first second of every run is left out.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np

from haihe.bench.measure.figures import ms, quantile_ms
from haihe.bench.measure.firings import I64, lane_columns
from haihe.bench.measure.percentile import percentile
from haihe.runtime.clock import SECOND, now_ns, sleep, sleep_until
from haihe.runtime.record.recording import Recording
from haihe.runtime.units import duration_ns

PERIOD_NS, PRIORITY = 1_000_000, 50
FPS, PICTURES = 30, 8
WARM_NS = SECOND
START_S = 3.0  # in which a haihe process is up and sees
TARGET_NS = 60_000
GRAPHS = Path(__file__).with_name("wakeup_graphs.py")
UNIT = f"""unit: bench
devices:
  front: {{driver: camera.file, options: {{path: pictures, fps: {FPS}, loop: true}}}}
threads:
  loop: {{priority: {PRIORITY}}}
"""
Case = Callable[[Path, int], I64]


def prepare(folder: Path) -> None:
    """Pictures, unit profiles and the C program."""
    import cv2

    pictures = folder / "pictures"
    pictures.mkdir()
    rng = np.random.default_rng(0)
    for number in range(PICTURES):
        coarse = rng.integers(0, 256, (60, 80, 3), np.uint8)
        cv2.imwrite(str(pictures / f"{number}.jpg"), cv2.resize(coarse, (640, 480)))
    (folder / "unit.yaml").write_text(UNIT)
    (folder / "seeing.yaml").write_text(UNIT.partition("threads:")[0])
    compiler = shutil.which(os.environ.get("CC", "cc")) or shutil.which("gcc")
    if compiler is None:
        raise SystemExit("wakeup: no C compiler (CC, cc, gcc). Install one: sudo apt install gcc")
    source = Path(__file__).with_suffix(".c")
    subprocess.run([compiler, "-O2", "-o", folder / "wakeup", source], check=True)


def haihe(folder: Path, graph: str, unit: str, length_ns: int) -> "subprocess.Popen[bytes]":
    """`haihe run` of a graph, recorded as GRAPH.mcap."""
    recording = folder / f"{graph}.mcap"
    recording.unlink(missing_ok=True)
    options = {
        "--unit": folder / unit, "--record": recording, "--frames": "none",
        "--duration": f"{length_ns / SECOND:g}s",
    }  # fmt: skip
    given = [str(part) for pair in options.items() for part in pair]
    command = [sys.executable, "-m", "haihe", "run", f"{GRAPHS}:{graph}", *given]
    with (folder / f"{graph}.txt").open("w") as said:
        return subprocess.Popen(command, stdout=said, stderr=said)


def beside_c(folder: Path, length_ns: int) -> I64:
    """The C loop."""
    with haihe(folder, "seeing", "seeing.yaml", length_ns + round(START_S * SECOND)) as load:
        sleep(START_S)
        begun = now_ns()
        arguments = [str(number) for number in (PERIOD_NS, length_ns // PERIOD_NS, PRIORITY)]
        done = subprocess.run([folder / "wakeup", *arguments], stdout=subprocess.PIPE, check=True)
        ended = now_ns()
    _check(load.returncode, folder / "seeing.mcap", begun, ended)
    return _lateness(done.stdout)


def in_haihe(graph: str) -> Case:
    """A lane of haihe, as its recording tells."""

    def run(folder: Path, length_ns: int) -> I64:
        with haihe(folder, graph, "unit.yaml", length_ns) as process:
            pass
        lane = lane_columns(Recording(folder / f"{graph}.mcap"))["Control"]
        kept = lane.release >= lane.release[0] + WARM_NS
        first, last = int(lane.release[kept][0]), int(lane.release[-1])
        _check(process.returncode, folder / f"{graph}.mcap", first, last)
        late: I64 = lane.lateness[kept]
        return late

    return run


def naive(folder: Path, length_ns: int) -> I64:
    """Three threads in a process of their own, with the settings that Python has."""
    command = [sys.executable, "-m", __spec__.name, "--naive", str(folder), str(length_ns)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return _lateness(done.stdout)


def run_naive(folder: Path, length_ns: int) -> bytes:
    """What `naive` starts; gives the lateness of each wake-up."""
    import cv2

    from haihe.models.detector import Detector
    from haihe.runtime.types import Detections, Image

    see = Detector("part")
    see.open()
    paths = sorted((folder / "pictures").iterdir())
    pictures: list[Image] = []
    parts: list[Detections] = []
    ended, seen = threading.Event(), threading.Event()

    def camera() -> None:
        count, due = 0, now_ns()
        while not ended.is_set():
            data = cv2.imread(str(paths[count % len(paths)]))
            assert data is not None
            pictures[:] = [Image(np.asarray(data, np.uint8))]
            seen.set()
            count, due = count + 1, due + SECOND // FPS
            sleep_until(due)

    def infer() -> None:
        while not ended.is_set():
            if seen.wait(0.1):
                seen.clear()
                parts[:] = [see(pictures[0])]

    threads = [threading.Thread(target=target) for target in (camera, infer)]
    for thread in threads:
        thread.start()
    value, late = 0.0, []
    begun = due = now_ns() + PERIOD_NS
    while due < begun + length_ns:
        sleep_until(due)
        late.append(now_ns() - due)
        if parts:
            value += 0.1 * (len(parts[0]) - value)
        due += PERIOD_NS * (1 + max(0, now_ns() - due) // PERIOD_NS)
    ended.set()
    for thread in threads:
        thread.join()
    see.close()
    return np.array(late, np.int64).tobytes()


def _lateness(written: bytes) -> I64:
    late: I64 = np.frombuffer(written, np.int64)[WARM_NS // PERIOD_NS :]
    return late


def _check(code: int, recording: Path, begun: int, ended: int) -> None:
    """A loop without its load would be no case."""
    said = recording.with_suffix(".txt").read_text()
    if code:
        raise SystemExit(f"wakeup: {recording.stem} ended with {code}: {said}")
    for line in said.splitlines():
        if "refused" in line:
            print(f"  {recording.stem}: {line}")
    frames = [r.delivered_ns for r in Recording(recording).streams["front.image"]]
    rate = sum(begun <= t <= ended for t in frames) / ((ended - begun) / SECOND)
    if rate < 0.8 * FPS:
        print(f"  {recording.stem}: beside {rate:.1f} frames/s only, of {FPS}")


CASES: dict[str, Case] = {
    "C": beside_c, "own": in_haihe("apart"), "one": in_haihe("together"), "naive": naive,
}  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--duration", default="10s", help="of each run")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--naive", nargs=2, metavar=("FOLDER", "NS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.naive:
        late = run_naive(Path(arguments.naive[0]), int(arguments.naive[1]))
        sys.stdout.buffer.write(late)
        return
    length = max(duration_ns(arguments.duration), 2 * WARM_NS)
    found: dict[str, list[I64]] = {name: [] for name in CASES}
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder))
        for _ in range(arguments.rounds):
            for name, case in CASES.items():
                found[name].append(case(Path(folder), length))
    report(found)


def report(found: dict[str, list[I64]]) -> None:
    """A line for each case, and the comparison."""
    for name, rounds in found.items():
        late = np.concatenate(rounds)
        each = ", ".join(quantile_ms(one, 0.99) for one in rounds)
        print(
            f"{name:<6} wakes late: p50 {quantile_ms(late, 0.5)}, p99 {quantile_ms(late, 0.99)} "
            f"(by round: {each}), p99.9 {quantile_ms(late, 0.999)}, worst {ms(late.max())}; "
            f"{np.mean(late >= PERIOD_NS):.2%} by a period or more; {len(late)} wake-ups"
        )
    c, own = (percentile(np.concatenate(found[name]), 0.99) for name in ("C", "own"))
    if c is not None and own is not None:
        print(
            f"own process less C, p99: {ms(own - c)} (target: at most {ms(TARGET_NS)}); interval "
            f"{ms(PERIOD_NS)}, {len(found['C'])} interleaved rounds, their first second left out"
        )


if __name__ == "__main__":
    main()
