"""One live run for the process tests, as a process of its own.

    python live_app.py --out DIR --seed N [--graph NAME] [--duration 4.5s] [--events]

It leaves DIR/run.mcap, DIR/neck.wire (every byte that the emulator received) and DIR/result.json.
"""

import argparse
import json
import os
import random
import signal
import socket
import stat
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from haihe import Graph, camera, detector, named, node, run, servos
from haihe.boards.unit import UnitFile, find_unit, load_unit, unit_from_text
from haihe.pipelines.live import Live
from haihe.pipelines.nodes.pursue import Pursue
from haihe.pipelines.worlds.ideal import ideal_detector
from haihe.pipelines.worlds.process import WorldProcess
from haihe.runtime.errors import DeviceError, HaiheError
from haihe.types import Detections, JointCommand


@node
@dataclass
class Stall:
    """Passes detections on; sleeps for `stall_s` at every `every`th call, raises at call
    `raise_at`, hangs for ever at call `hang_at`; takes memory until there is none at call
    `hog_at`; gives more than its edge has room for at every `huge_every`th."""

    every: int = 0
    stall_s: float = 0.45
    raise_at: int = 0
    hang_at: int = 0
    hog_at: int = 0
    huge_every: int = 0
    _calls: int = 0

    def __call__(self, parts: Detections) -> Detections:
        self._calls += 1
        if self.every and self._calls % self.every == 0:
            time.sleep(self.stall_s)
        if self.raise_at and self._calls >= self.raise_at:
            raise ValueError("made to raise")
        while self.hang_at and self._calls >= self.hang_at:
            time.sleep(0.1)
        if self.hog_at and self._calls >= self.hog_at:
            import resource

            used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
            resource.setrlimit(resource.RLIMIT_AS, (2 * used + (1 << 30), -1))
            hog = [bytearray(1 << 26) for _ in range(1 << 10)]
            raise AssertionError(f"{len(hog)} blocks, and no end")
        if self.huge_every and self._calls % self.huge_every == 0:
            boxes = np.zeros((40_000, 4), np.float32)
            return Detections(boxes, np.zeros(40_000, np.float32), np.zeros(40_000, np.int64))
        return parts


@node
@dataclass
class Fault:
    """Passes commands on; raises at call `raise_at`."""

    raise_at: int = 0
    _calls: int = 0

    def __call__(self, command: JointCommand) -> JointCommand:
        self._calls += 1
        if self.raise_at and self._calls >= self.raise_at:
            raise ValueError("made to raise")
        return command


def outlive() -> None:
    """In a forked process: keep all ends of edges for a while, but not the world's camera, which
    has one reader at a time."""
    for number in range(3, 256):
        try:
            if stat.S_ISSOCK(os.fstat(number).st_mode):
                end = socket.socket(fileno=os.dup(number))
                if end.type == socket.SOCK_STREAM:
                    os.close(number)
                    end.close()
        except OSError:
            continue
    time.sleep(20)
    os._exit(0)


@node(recorded=True)
@dataclass
class Holder:
    """Passes detections on. It holds something that cannot be opened while DIR/broken is there;
    at its 10th call it forks a process that outlives this one."""

    forks: bool = False
    _calls: int = 0

    def open(self) -> None:
        if (Path(os.environ["HAIHE_TEST_RUN"]) / "broken").exists():
            raise DeviceError("what it holds is broken")

    def close(self) -> None:
        pass

    def __call__(self, parts: Detections) -> Detections:
        if "HAIHE_LANE" in os.environ:
            raise ValueError("a program that this node starts would take itself for a lane")
        self._calls += 1
        if self.forks and self._calls == 10 and os.fork() == 0:
            outlive()
        return parts


def wire(name: str, stall: Stall, fault: Fault, ideal: bool = False) -> Graph:
    with Graph(name) as graph:
        front, neck = camera("front"), servos("neck")
        found = ideal_detector(front.image) if ideal else detector("part")(front.image)
        parts = named("stall", stall)(found)
        command = named("pursue", Pursue("washer"))(parts, neck.state)
        neck.command(named("fault", fault)(command))
    return graph


def holding(name: str, forks: bool) -> Graph:
    with Graph(name) as graph:
        front, neck = camera("front"), servos("neck")
        parts = named("holder", Holder(forks))(ideal_detector(front.image))
        neck.command(named("pursue", Pursue("washer"))(parts, neck.state))
    return graph


plain = wire("plain", Stall(), Fault())
stalls = wire("stalls", Stall(every=40), Fault())
vision_raises = wire("vision_raises", Stall(raise_at=60), Fault(), ideal=True)
vision_hangs = wire("vision_hangs", Stall(hang_at=60), Fault(), ideal=True)
control_raises = wire("control_raises", Stall(), Fault(raise_at=100), ideal=True)
stalls_ideal = wire("stalls_ideal", Stall(every=20), Fault(), ideal=True)
ideal = wire("ideal", Stall(), Fault(), ideal=True)
vision_hogs = wire("vision_hogs", Stall(hog_at=60), Fault(), ideal=True)
vision_holds = holding("vision_holds", forks=False)
vision_forks = holding("vision_forks", forks=True)
vision_floods = wire("vision_floods", Stall(huge_every=7), Fault(), ideal=True)

# the joints go to rest somewhere else than where they are, so that safety is seen to act
SAFE = {"hold": "safe: hold", "go": "safe: go, safe_position: 0.05rad", "free": "safe: free"}


# lanes in processes of their own: what a person would write into the profile
PROCESSES = {
    "": "",
    "vision": "processes:\n  vision: {threads: [front]}\n",
    "both": (
        "processes:\n  vision: {threads: [front], restart: 3, backoff: 100ms}\n"
        "  control: {threads: [every-20ms], restart: 3, backoff: 100ms, rearm: true}\n"
    ),
    "campaign": (
        "processes:\n  vision: {threads: [front], restart: 5, backoff: 100ms, hang: 1s}\n"
        "  control: {threads: [every-20ms], restart: 5, backoff: 100ms, rearm: true}\n"
    ),
    "hang": "processes:\n  vision: {threads: [front], restart: 3, backoff: 100ms, hang: 1s}\n",
}


def unit(safe: str, processes: str = "") -> UnitFile:
    shipped = load_unit(find_unit("pan-tilt", None))
    text = shipped.text.replace("safe: hold", SAFE[safe])
    # bytes on a pty wait for a scheduler that other work keeps busy, not for a wire
    text = text.replace(
        "joints:\n        - {name: pan", "timeout_ms: 15\n      joints:\n        - {name: pan"
    )
    text = text.replace("death: warden", "death: warden\n      warden: 1s")  # a busy machine
    return unit_from_text(text + PROCESSES[processes], shipped.file)


def burn(seed: int, stop: threading.Event) -> None:
    """Random CPU load from a child process: busy and idle spells of random length."""
    code = (
        "import random,sys,time\nr=random.Random(int(sys.argv[1]))\n"
        "end=time.monotonic()+float(sys.argv[2])\n"
        "while time.monotonic()<end:\n"
        "  t=time.monotonic()+r.uniform(0.01,0.2)\n"
        "  while time.monotonic()<t: pass\n"
        "  time.sleep(r.uniform(0.0,0.2))\n"
    )
    import subprocess

    child = subprocess.Popen([sys.executable, "-c", code, str(seed), "60"])
    stop.wait()
    child.kill()
    child.wait()


def disturb(live: Live, generator: random.Random, stop: threading.Event) -> None:
    """Events at random moments: parameters, an e-stop, reset, arm."""
    while not live.executor.started_ns and not stop.wait(0.01):
        pass
    executor = live.executor
    stop.wait(generator.uniform(0.5, 1.0))
    executor.set("pursue", "lag_s", generator.uniform(0.0, 0.04))
    stop.wait(generator.uniform(0.3, 0.8))
    executor.post(("trip", "e-stop of the test"))
    stop.wait(generator.uniform(0.1, 0.4))
    executor.post(("reset",))
    executor.post(("arm",))
    while not stop.wait(generator.uniform(0.05, 0.3)):
        executor.set("pursue", "alpha", generator.uniform(0.6, 0.9))


def note_pids(live: Live, out: Path) -> None:
    """Who is who, for a test that kills."""
    others: Any = live.executor.household
    if others is not None:
        pids = {
            name: child.pid if child.supervision.state == "running" else 0
            for name, child in others.children.items()
        }
        (out / "pids.new").write_text(json.dumps(pids))
        (out / "pids.new").rename(out / "pids.json")


def post_as_told(live: Live, out: Path) -> None:
    """Events that a test has left in a file."""
    try:
        events = json.loads((out / "post.json").read_text())
    except OSError:
        return
    for event in events:
        live.executor.post(tuple(event))
    (out / "post.json").rename(out / "posted")


def main() -> None:
    # a test run that was started in the background may ignore Ctrl-C, and so would we
    signal.signal(signal.SIGINT, signal.default_int_handler)
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--graph", default="plain")
    parser.add_argument("--duration", default="4.5s")
    parser.add_argument("--safe", default="hold", choices=SAFE)
    parser.add_argument("--processes", default="", choices=PROCESSES)
    parser.add_argument("--events", action="store_true")
    parser.add_argument("--burn", action="store_true")
    parser.add_argument("--warden", action="store_true")
    parser.add_argument("--frames", default="lossless")
    arguments = parser.parse_args()
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    import live_app  # type: ignore[import-not-found]  # the nodes' importable name, not __main__

    graph = getattr(live_app, arguments.graph)
    world = {"ideal": "ideal_detector" in graph.nodes, "fps": 30.0}
    stop = threading.Event()
    helpers = []
    if arguments.burn:
        helpers.append(threading.Thread(target=burn, args=(arguments.seed, stop)))
    result: dict[str, object] = {"error": ""}
    profile = unit(arguments.safe, arguments.processes)
    place = WorldProcess(profile, arguments.seed, world, out)
    started = False

    def tick(live: Live) -> None:
        nonlocal started
        (out / "armed").touch()
        note_pids(live, out)
        post_as_told(live, out)
        if arguments.events and not started:
            started = True
            thread = threading.Thread(
                target=disturb, args=(live, random.Random(arguments.seed), stop)
            )
            helpers.append(thread)
            thread.start()

    for helper in helpers:
        helper.start()
    try:
        live = run(
            graph,
            unit=profile,
            sim=True,
            attach=place,
            duration=arguments.duration,
            record=out / "run.mcap",
            frames=arguments.frames,
            seed=arguments.seed,
            tick=tick,
            tick_s=0.05,
            warden=arguments.warden,
        )
        result["reason"] = live.executor.outcome.reason
        result["hung"] = live.executor.outcome.hung
        result["skipped"] = live.executor.skipped
        result["edges"] = [msgspec.to_builtins(edge) for edge in live.snapshot().edges]
    except HaiheError as exc:
        result["error"] = f"{type(exc).__name__}: {exc}"
    finally:
        stop.set()
        for helper in helpers:
            helper.join()
        place.end()
    (out / "result.json").write_text(json.dumps(result))
    sys.stdout.flush()
    os._exit(0)  # a lane that was made to hang must not keep the process


if __name__ == "__main__":
    main()
