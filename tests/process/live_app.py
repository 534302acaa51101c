"""One live run for the process tests, as a process of its own.

    python live_app.py --out DIR --seed N [--graph NAME] [--duration 4.5s] [--events]

It leaves DIR/run.mcap, DIR/neck.wire (every byte that the emulator received) and DIR/result.json.
"""

import argparse
import json
import os
import random
import signal
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from haihe import Graph, camera, detector, named, node, run, servos
from haihe.boards.unit import UnitFile, find_unit, load_unit, unit_from_text
from haihe.pipelines.launch import Live
from haihe.pipelines.nodes.pursue import Pursue
from haihe.pipelines.worlds.ideal import ideal_detector
from haihe.pipelines.worlds.process import WorldProcess
from haihe.runtime.errors import HaiheError
from haihe.types import Detections, JointCommand


@node
@dataclass
class Stall:
    """Passes detections on; sleeps for `stall_s` at every `every`th call, raises at call
    `raise_at`, hangs for ever at call `hang_at`."""

    every: int = 0
    stall_s: float = 0.45
    raise_at: int = 0
    hang_at: int = 0
    _calls: int = 0

    def __call__(self, parts: Detections) -> Detections:
        self._calls += 1
        if self.every and self._calls % self.every == 0:
            time.sleep(self.stall_s)
        if self.raise_at and self._calls >= self.raise_at:
            raise ValueError("made to raise")
        while self.hang_at and self._calls >= self.hang_at:
            time.sleep(0.1)
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


def wire(name: str, stall: Stall, fault: Fault, ideal: bool = False) -> Graph:
    with Graph(name) as graph:
        front, neck = camera("front"), servos("neck")
        found = ideal_detector(front.image) if ideal else detector("part")(front.image)
        parts = named("stall", stall)(found)
        command = named("pursue", Pursue("washer"))(parts, neck.state)
        neck.command(named("fault", fault)(command))
    return graph


plain = wire("plain", Stall(), Fault())
stalls = wire("stalls", Stall(every=40), Fault())
vision_raises = wire("vision_raises", Stall(raise_at=60), Fault(), ideal=True)
vision_hangs = wire("vision_hangs", Stall(hang_at=60), Fault(), ideal=True)
control_raises = wire("control_raises", Stall(), Fault(raise_at=100), ideal=True)
ideal = wire("ideal", Stall(), Fault(), ideal=True)

# the joints go to rest somewhere else than where they are, so that safety is seen to act
SAFE = {"hold": "safe: hold", "go": "safe: go, safe_position: 0.05rad", "free": "safe: free"}


def unit(safe: str) -> UnitFile:
    shipped = load_unit(find_unit("pan-tilt", None))
    text = shipped.text.replace("safe: hold", SAFE[safe])
    # bytes on a pty wait for a scheduler that other work keeps busy, not for a wire
    text = text.replace(
        "joints:\n        - {name: pan", "timeout_ms: 15\n      joints:\n        - {name: pan"
    )
    return unit_from_text(text, shipped.file)


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


def main() -> None:
    # a test run that was started in the background may ignore Ctrl-C, and so would we
    signal.signal(signal.SIGINT, signal.default_int_handler)
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--graph", default="plain")
    parser.add_argument("--duration", default="4.5s")
    parser.add_argument("--safe", default="hold", choices=SAFE)
    parser.add_argument("--events", action="store_true")
    parser.add_argument("--burn", action="store_true")
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
    place = WorldProcess(unit(arguments.safe), arguments.seed, world, out)
    started = False

    def tick(live: Live) -> None:
        nonlocal started
        (out / "armed").touch()
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
            unit=unit(arguments.safe),
            sim=True,
            attach=place,
            duration=arguments.duration,
            record=out / "run.mcap",
            frames=arguments.frames,
            seed=arguments.seed,
            tick=tick,
            tick_s=0.05,
        )
        result["reason"] = live.executor.outcome.reason
        result["hung"] = live.executor.outcome.hung
        result["skipped"] = live.executor.skipped
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
