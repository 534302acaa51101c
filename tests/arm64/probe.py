"""What is compared between two machines; run.py runs it natively and under emulation.

    probe.py make OUT --vectors DIR [--frames FILE]    everything, to OUT/probe.json
    probe.py replay OUT FOLDER                         the recordings of another machine's FOLDER,
                                                       to OUT/replay.json
    probe.py make OUT --vectors DIR --replay FOLDER    both

It imports haihe from PYTHONPATH and nothing from the tests. Bytes are hex, so that a reader can
name the first one that differs; pictures and the like are digests.
"""

import argparse
import contextlib
import hashlib
import importlib
import io
import json
import math
import pkgutil
import platform
import re
import sys
import time
from collections.abc import Callable
from importlib.metadata import distribution, version
from pathlib import Path
from typing import Any

MARKER = Path("/etc/haihe-emulated")  # build_root.sh puts it there
SEED, FRAME_SEED = 20, 7
IDEAL_S, DEMO_S = "4s", "0.2s"
FRAMES = 3
TRAINING_ONLY = "torch"  # in the group `train`, not among the dependencies
ROLE = "neck"
RECORDINGS = ("ideal", "demo")

Facts = dict[str, Any]


def identity() -> Facts:
    """What this is."""
    import haihe

    packages = {"haihe": version("haihe")}
    for requirement in distribution("haihe").requires or []:
        name = re.split(r"[\s<>=!~;\[]", requirement)[0]
        if "extra ==" not in requirement:
            packages[name] = version(name)
    return {
        "machine": platform.machine(),
        "system": " ".join(platform.libc_ver()),
        "python": platform.python_version(),
        "byteorder": sys.byteorder,
        "emulated": MARKER.exists(),
        "haihe_from": str(Path(haihe.__file__).parents[1]),
        "packages": packages,
    }


def imports() -> Facts:
    """Every module of haihe, and what the dependencies are imported as."""
    import haihe

    names = [m.name for m in pkgutil.walk_packages(haihe.__path__, "haihe.")]
    names = [name for name in names if not name.endswith("__main__")]
    results: Facts = {}
    outside = ("numpy", "msgspec", "yaml", "mcap", "serial", "zmq", "onnxruntime", "cv2", "numba")
    for name in (*names, *outside):
        try:
            importlib.import_module(name)
        except ImportError as exc:
            results[name] = f"needs {exc.name}" if exc.name == TRAINING_ONLY else repr(exc)
        else:
            results[name] = "imported"
    return results


def dependencies() -> Facts:
    """Every requirement, of requirements too: its markers judged here, its version found here."""
    from packaging.requirements import Requirement

    results: Facts = {}
    waiting = ["haihe"]
    while waiting:
        for text in distribution(waiting.pop()).requires or []:
            wanted = Requirement(text)
            if wanted.marker and not wanted.marker.evaluate({"extra": ""}):
                continue
            fits = wanted.specifier.contains(version(wanted.name), prereleases=True)
            if wanted.name not in results:
                waiting.append(wanted.name)
            results[wanted.name] = fits and results.get(wanted.name, True)
    return results


def recognised() -> Facts:
    """Whether haihe says of this machine, rightly, that it is emulated or not; and its kind."""
    from haihe.boards.recognise import recognise

    found = recognise()
    return {
        "emulated or not": found.is_emulated is MARKER.exists(),
        "machine": found.machine == platform.machine(),
    }


def units() -> Facts:
    """Written quantities as exact doubles and integers."""
    from haihe.runtime.units import duration_ns, quantity

    written = [
        ("300deg/s", "rad/s"), ("-90deg", "rad"), ("1.9kPa", "Pa"), ("21.5degC", "K"),
        ("33rpm", "rad/s"), ("7.3mg/L", "kg/m^3"), ("900deg/s^2", "rad/s^2"), ("1e-3", "deg"),
    ]  # fmt: skip
    times = ["20ms", "30fps", "1.1s", "50Hz", "3us", "0.3h"]
    return {f"{text} as {like}": quantity(text, like).hex() for text, like in written} | {
        text: duration_ns(text) for text in times
    }


def guard_traces(vectors: Path) -> Facts:
    """The traces that were worked out by hand: every decision."""
    from haihe.runtime.guard import JointRule, SafeAction
    from haihe.runtime.guard.guard import Guard
    from haihe.runtime.guard.rules import reasons

    results: Facts = {}
    for trace in json.loads((vectors / "guard" / "traces.json").read_text("utf-8")):
        rules = [JointRule(**{**r, "safe": SafeAction[r["safe"]]}) for r in trace["rules"]]
        guard = Guard(
            tuple(rules), trace["command_age_ns"], trace["period_ns"], trace["latch_stale"]
        )
        is_right = True
        for step in trace["steps"]:
            for event in step["events"]:
                guard.trip("test") if event == "trip" else getattr(guard, event)()
            command, measured = (
                None if step[key] is None else tuple(step[key]) for key in ("command", "measured")
            )
            found = guard.step(step["t_ns"], command, step["command_t_ns"], measured)
            names = [action.name for action in found.actions]
            is_right &= (found.state.name, names) == (step["state"], step["actions"])
            is_right &= list(found.positions) == step["positions"]
            is_right &= list(reasons(found.flags)) == step["flags"]
        results[trace["name"]] = is_right
    return results


def servo_vectors(vectors: Path) -> Facts:
    """The servo codec on its vectors: decoded as the vector says, and encoded to the same bytes."""
    from haihe.drivers.framing.ff_frames import encode, scan

    results: Facts = {}
    for vector in json.loads((vectors / "servo" / "sts.json").read_text("utf-8")):
        data, said = bytes.fromhex(vector["hex"]), vector["decoded"]
        (frame,) = scan(data, final=True).frames
        same = (frame.id, frame.code, frame.params.hex()) == tuple(
            said[key] for key in ("id", "code", "params")
        )
        results[vector["name"]] = same and encode(*frame) == data
    return results


def messages() -> Facts:
    """Every kind of message, from fixed values, as bytes; and back to the same bytes."""
    import numpy as np

    from haihe.runtime.types import Message, decode, encode
    from haihe.types import Detections, Image, Intrinsics, JointCommand, JointState, Reading

    lens = Intrinsics(320, 240, 280.5, 280.25, 159.5, 119.5, 0.125, -0.0625)
    two = np.array([-1.5, math.pi])
    made: dict[str, Message] = {
        "Image": Image(np.arange(60, dtype=np.uint8).reshape(4, 5, 3) + 200, lens),
        "Detections": Detections(
            np.arange(8, dtype=np.float32).reshape(2, 4) / np.float32(3.0),
            np.array([0.9, 0.1], np.float32), np.array([0, -1]), ("washer", "垫圈"), lens,
        ),
        "Detections, none": Detections.none(),
        "JointCommand": JointCommand(two),
        "JointState": JointState(
            ("pan", "tilt"), two, -two, two / 7, np.array([12.1, np.nan]),
            np.array([-np.inf, 5e-324]), np.array([True, False]),
        ),
        "Reading": Reading(-0.1, "uncertain"),
    }  # fmt: skip
    results: Facts = {}
    for name, message in made.items():
        data = encode(message)
        assert encode(decode(type(message), data)) == data, name
        results[name] = data.hex()
    return results


def arithmetic() -> Facts:
    """Digests of what haihe leans on and does not own: the C library, numpy, OpenCV."""
    import cv2
    import numpy as np

    def digest(values: Any) -> str:
        return hashlib.sha256(np.asarray(values).tobytes()).hexdigest()[:16]

    x = np.linspace(-13.0, 13.0, 2000)
    plain: dict[str, Callable[[float], float]] = {
        "sin": math.sin,
        "cos": math.cos,
        "tan": math.tan,
        "exp": math.exp,
        "atan2": lambda v: math.atan2(v, 0.7),
        "hypot": lambda v: math.hypot(v, 0.7),
    }
    rng = np.random.default_rng(SEED)
    pixels = rng.integers(0, 256, (240, 320, 3), np.uint8)
    tilted = np.array([[1.01, 0.02, -3.3], [0.01, 0.99, 2.2], [1e-5, 2e-5, 1.0]])
    return {name: digest([function(v) for v in x.tolist()]) for name, function in plain.items()} | {
        "numpy sin": digest(np.sin(x)),
        "numpy exp, float32": digest(np.exp(x.astype(np.float32))),
        "numpy normal": digest(rng.normal(size=2000)),
        "numpy matrix product": digest(x.reshape(40, 50) @ x.reshape(50, 40)),
        "cv2 resize": digest(cv2.resize(pixels, (200, 150))),
        "cv2 resize, exact": digest(
            cv2.resize(pixels, (200, 150), interpolation=cv2.INTER_LINEAR_EXACT)
        ),
        "cv2 warp": digest(cv2.warpPerspective(pixels, tilted, (320, 240))),
        "cv2 multiply, bytes": digest(cv2.multiply(pixels, pixels[::-1], scale=1 / 255.0)),
    }


def ideal_graph() -> Any:
    """The demo's graph with the detector that reads the truth from the frame."""
    from haihe import Graph, camera, servos
    from haihe.pipelines.nodes.pursue import Pursue
    from haihe.pipelines.worlds.ideal import ideal_detector

    with Graph("ideal") as g:
        cam, neck = camera("front"), servos("neck")
        neck.command(Pursue("washer")(ideal_detector(cam.image), neck.state))
    return g


def graph_of(name: str) -> Any:
    """The graph of one of the recordings."""
    from haihe.pipelines.robot.follow import build

    return ideal_graph() if name == "ideal" else build()


def simulated(name: str, folder: Path) -> Facts:
    """A run in virtual time, recorded, and what stands in the recording."""
    from haihe.pipelines.launch import simulate
    from haihe.runtime.record.recording import Recording

    is_ideal = name == "ideal"
    path = folder / f"{name}.mcap"
    path.unlink(missing_ok=True)
    run = simulate(
        graph_of(name),
        IDEAL_S if is_ideal else DEMO_S,
        unit="pan-tilt",
        seed=SEED,
        world={"ideal": True, "latency_ms": 40.0} if is_ideal else {},
        budgets={"ideal_detector" if is_ideal else "part": "10ms"},
        record=path,
        frames="lossless",
    )
    assert not run.outcome.failures
    recording = Recording(path)
    lane, index = recording.find_bus(ROLE)
    sent = [
        exchange.tx.hex()
        for record in recording.lanes[lane]
        for bus, exchange, reply in record.exchanges
        if bus == index and not reply.error
    ]
    return {
        "actuator": recording.sent_bytes(ROLE).hex(),
        "exchanges": len(sent),
        "first": sent[0],
        "last": sent[-1],
        "firings": recording.firings,
        "plan_hash": recording.header["plan_hash"],
        **channels(path),
    }


def channels(path: Path) -> Facts:
    """Lane blocks as bytes; streams, outputs and keyframes message by message as digests."""
    from haihe.runtime.record.reader import McapReader

    blocks: dict[str, list[bytes]] = {}
    others: dict[str, list[str]] = {}
    with McapReader(path) as reader:
        for message in reader.messages():
            topic = reader.channels[message.channel].topic
            if topic.startswith("haihe/lane/"):
                blocks.setdefault(topic, []).append(message.data)
            elif topic.startswith(("haihe/stream/", "haihe/output/", "haihe/keyframe/")):
                digest = hashlib.sha256(message.data).hexdigest()[:16]
                others.setdefault(topic, []).append(digest)
    return {
        "lanes": {topic: b"".join(parts).hex() for topic, parts in blocks.items()},
        "messages": others,
    }


def render(folder: Path) -> Any:
    """Three pictures of the table, to frames.npy."""
    import numpy as np

    from haihe.models.training.render import TableView

    view = TableView(FRAME_SEED, resting=("nut", "bolt", "bracket", "nut"), keep_free_mm=(0, 100))
    places = [(0.02 * k, -0.03 * k, 40.0 * k - 50.0, 25.0 - 30.0 * k, 0.5 * k, k) for k in range(3)]
    frames = np.stack([view.render(*place) for place in places[:FRAMES]])
    np.save(folder / "frames.npy", frames)
    return frames


def padded(frames: Any) -> Any:
    """The first picture with a border, so that the detector must resize it by 0.8."""
    import numpy as np

    return np.pad(frames[:1], ((0, 0), (30, 30), (40, 40), (0, 0)), mode="reflect")


def detected(frames: Any) -> list[Facts]:
    """What the part detector finds on each frame."""
    from haihe.models.detector import Detector
    from haihe.types import Image

    finder = Detector("part")
    finder.open()
    results = []
    for frame in frames:
        found = finder(Image(frame))
        results.append(
            {
                "labels": [found.labels[k] for k in found.classes],
                "boxes": found.boxes.astype(float).tolist(),
                "scores": found.scores.astype(float).tolist(),
            }
        )
    finder.close()
    return results


def command_line(folder: Path) -> Facts:
    """`haihe rec info`: its exit code and whether it said something."""
    from haihe.cli import main

    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        code = main(["rec", "info", str(folder / "ideal.mcap")])
    return {"rec info": code == 0 and "ideal" in said.getvalue()}


def replayed(folder: Path) -> Facts:
    """Another machine's recordings: decisions again, and the models again on its frames."""
    from haihe.testing import replay

    results: Facts = {}
    for name in RECORDINGS:
        for perception in (False, True):
            if perception and name == "ideal":
                continue  # it has no model
            report = replay(folder / f"{name}.mcap", graph=graph_of(name), perception=perception)
            results[f"{name}, {report.mode}"] = {
                "ok": report.ok and not report.skipped,
                "firings": report.firings,
                "differing": report.differing,
                "differences": [str(difference) for difference in report.differences[:5]],
                "sent": report.sent[ROLE].hex(),
            }
    return results


def main() -> None:
    """Do what is asked, one section after the other, with the time each took."""
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("make", "replay"))
    parser.add_argument("out", type=Path)
    parser.add_argument("--vectors", type=Path)
    parser.add_argument("--frames", type=Path, help="pictures for the detector; else its own")
    parser.add_argument("--replay", type=Path, help="folder with another machine's recordings")
    arguments = parser.parse_args()
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    facts: Facts = {}
    seconds: dict[str, float] = {}

    def section(name: str, function: Callable[..., Any], *args: Any) -> Any:
        begun = time.perf_counter()
        facts[name] = function(*args)
        seconds[name] = round(time.perf_counter() - begun, 2)
        return facts[name]

    if arguments.what == "make":
        import numpy as np

        vectors: Path = arguments.vectors
        section("identity", identity)
        section("imports", imports)
        section("dependencies", dependencies)
        section("recognised", recognised)
        section("units", units)
        section("guard traces", guard_traces, vectors)
        section("servo codec", servo_vectors, vectors)
        section("messages", messages)
        section("arithmetic", arithmetic)
        section("ideal", simulated, "ideal", out)
        section("command line", command_line, out)
        section("demo", simulated, "demo", out)
        frames = render(out)
        facts["frames"] = [hashlib.sha256(frame).hexdigest()[:16] for frame in frames]
        given = np.load(arguments.frames) if arguments.frames else frames
        section("detections", detected, given)
        section("detections, resized", detected, padded(given))
    if arguments.replay:
        section("replay", replayed, arguments.replay)
    facts["seconds"] = seconds
    name = "probe.json" if arguments.what == "make" else "replay.json"
    (out / name).write_text(json.dumps(facts, ensure_ascii=False), "utf-8")


if __name__ == "__main__":
    main()
