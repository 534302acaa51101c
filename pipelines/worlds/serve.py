"""A simulated world as a process of its own, in real time: bytes on ptys, frames on sockets.

    python -m haihe.pipelines.worlds.serve --unit UNIT.yaml --dir DIR [--seed N]

It prints one JSON line with the ports and sockets, serves until its standard input ends (so it
never outlives the runtime that started it), and leaves in DIR what a judge needs:
`<role>.wire`, every chunk of bytes as it arrived (i64 ns, u32 length, bytes), and `truth.bin`,
the world's truth a hundred times a second (names in `truth.json`).
"""

import argparse
import contextlib
import dataclasses
import json
import logging
import os
import select
import shutil
import socket
import struct
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

from haihe.boards.unit import UnitFile, load_unit
from haihe.drivers.camera.world import pack_head
from haihe.drivers.ports.pty_bridge import PtyBridge
from haihe.pipelines.worlds.spec import WorldContext, WorldSpec
from haihe.runtime import registry
from haihe.runtime.clock import MILLISECOND, now_ns, sleep_until
from haihe.runtime.errors import BoardError
from haihe.runtime.sim import SimCamera, World
from haihe.runtime.types import Image

log = logging.getLogger(__name__)
TRUTH_NS = 10 * MILLISECOND
WIRE = struct.Struct("<qI")


def make_world(unit: UnitFile, seed: int, overrides: dict[str, Any] | None = None) -> World:
    """The world of a unit's profile. Raises BoardError when it names none, or a wrong one."""
    spec, context = check_world(unit, seed, overrides)
    return spec.make(context)


def check_world(
    unit: UnitFile, seed: int = 0, overrides: Mapping[str, Any] | None = None
) -> tuple[WorldSpec, WorldContext]:
    """What `make_world` needs, checked. Raises BoardError with the profile's file and line."""
    sim = unit.unit.sim
    if sim is None:
        raise BoardError(
            f"{unit.file}: unit {unit.unit.unit} has no `sim:`. Name a world there, one of: "
            f"{', '.join(registry.names('world'))}."
        )
    try:
        spec: WorldSpec = registry.load("world", sim.world, BoardError).SPEC
    except BoardError as exc:
        raise BoardError(f"{sim.where.at('world')}: {exc}") from exc
    options = unit.options(spec.options, "sim", "options")
    if overrides:
        options = _replaced(options, overrides, sim.world)
    drivers, bauds = {}, {}
    for role, device in unit.unit.devices.items():
        driver = registry.load("driver", device.driver, BoardError).SPEC
        drivers[role] = unit.options(driver.options, "devices", role, "options")
        bauds[role] = device.baud or driver.baud
    context = WorldContext(options, seed, drivers, bauds)
    try:
        spec.check(context)
    except BoardError as exc:
        raise BoardError(f"{sim.where}: world {sim.world}: {exc}") from exc
    return spec, context


def _replaced(options: Any, overrides: Mapping[str, Any], world: str) -> Any:
    known = {field.name for field in dataclasses.fields(options)}
    for name in overrides:
        if name not in known:
            raise BoardError(
                f"world {world}: it has no option {name!r}. Known: {', '.join(sorted(known))}."
            )
    return dataclasses.replace(options, **overrides)


class _CameraServer(threading.Thread):
    """Renders on the frame grid and sends the newest frame; a slow reader loses frames. Nothing is
    rendered before somebody has connected; one that dies may be followed by another."""

    def __init__(self, role: str, camera: SimCamera, path: Path) -> None:
        super().__init__(name=f"camera-{role}", daemon=True)
        self.camera, self.path = camera, path
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(str(path))
        self.listener.listen(1)
        self.stopping = threading.Event()
        self._newest: tuple[int, int, Image, int] | None = None
        self._arrived, self._connected = threading.Event(), threading.Event()

    def run(self) -> None:
        """Render for ever."""
        # the bus must not wait for pictures: give way to its thread
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 5)
        threading.Thread(target=self._serve, daemon=True).start()
        self._connected.wait()
        start, index = now_ns() + 20 * MILLISECOND, 0
        while not self.stopping.is_set():
            t = start + self.camera.first_ns + index * self.camera.period_ns
            sleep_until(t)
            try:
                image, latency = self.camera.capture(index, t)
            except Exception:
                log.exception("camera %s of the world failed", self.name)
                self.stopping.set()
                self._arrived.set()  # its reader learns of it
                return
            if image is not None:
                self._newest = (index, t, image, t + latency)
                self._arrived.set()
            behind = (now_ns() - t) // self.camera.period_ns
            index += 1 + max(0, behind)

    def _serve(self) -> None:
        old: socket.socket | None = None
        with contextlib.suppress(OSError):  # the listener is closed
            while not self.stopping.is_set():
                connection, _ = self.listener.accept()
                if old is not None:  # its reader may be dead while something that it began lives
                    with contextlib.suppress(OSError):
                        old.shutdown(socket.SHUT_RDWR)
                old = connection
                threading.Thread(target=self._feed, args=(connection,), daemon=True).start()
                self._connected.set()

    def _feed(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            self._send(connection)

    def _send(self, connection: socket.socket) -> None:
        while self._arrived.wait() and not self.stopping.is_set():
            self._arrived.clear()
            frame = self._newest
            if frame is not None:
                index, t, image, due = frame
                sleep_until(due)
                connection.sendall(pack_head(index, t, image.data, image.camera))
                connection.sendall(image.data.data)
        if self.stopping.is_set():
            self._arrived.set()  # for another that waits


def serve(world: World, folder: Path, inputs: IO[bytes], answer: Callable[[str], None]) -> bool:
    """Serve a world until `inputs` ends; gives whether its owner said so before, or died.
    `answer` is given the places of the world once, as JSON."""
    is_told = False
    lock: Any = getattr(world, "lock", contextlib.nullcontext())
    bridges = {role: PtyBridge(emulator) for role, emulator in world.emulators.items()}
    cameras = [
        _CameraServer(role, camera, folder / f"{role}.sock")
        for role, camera in world.cameras.items()
    ]
    places = {
        "ports": {role: bridge.path for role, bridge in bridges.items()},
        "cameras": {role: str(folder / f"{role}.sock") for role in world.cameras},
    }
    names = sorted(world.truth(now_ns()))
    (folder / "truth.json").write_text(json.dumps(["t_ns", *names]), encoding="utf-8")
    row = struct.Struct("<q" + "d" * len(names))
    answer(json.dumps(places))
    with contextlib.ExitStack() as stack:
        truth = stack.enter_context(open(folder / "truth.bin", "wb", buffering=0))
        wires = {
            role: stack.enter_context(open(folder / f"{role}.wire", "wb", buffering=0))
            for role in bridges
        }
        for camera in cameras:
            camera.start()
        due_ns: dict[str, int | None] = dict.fromkeys(bridges)
        next_truth = now_ns()
        while True:
            now = now_ns()
            if now >= next_truth:
                with lock:
                    values = world.truth(now)
                truth.write(row.pack(now, *(values[name] for name in names)))
                next_truth += TRUTH_NS * (1 + max(0, (now - next_truth) // TRUTH_NS))
            times = [t for t in due_ns.values() if t is not None]
            wait = max(0, min([next_truth, *times]) - now_ns()) * 1e-9
            waiting: list[Any] = [inputs, *bridges.values()]
            ready, _, _ = select.select(waiting, [], [], wait)
            if inputs in ready:
                said = os.read(inputs.fileno(), 4096)
                if not said:
                    break
                is_told = True
            for role, bridge in bridges.items():
                with lock:
                    due_ns[role] = bridge.serve_once(now_ns())
                for t, data in bridge.received or ():
                    wires[role].write(WIRE.pack(t, len(data)) + data)
                if bridge.received:
                    bridge.received.clear()
        for camera in cameras:
            camera.stopping.set()
            with contextlib.suppress(OSError):
                camera.listener.shutdown(socket.SHUT_RDWR)  # wakes who waits for a reader
            camera.listener.close()
        for camera in cameras:
            camera.join(2.0)  # no thread of OpenCV under way when the process ends
        for bridge in bridges.values():
            bridge.close()
    return is_told


def read_wire(path: Path) -> list[tuple[int, bytes]]:
    """The chunks of a `.wire` file: (arrival in ns, bytes)."""
    data, at, chunks = path.read_bytes(), 0, []
    while at + WIRE.size <= len(data):
        t, size = WIRE.unpack_from(data, at)
        chunks.append((t, data[at + WIRE.size : at + WIRE.size + size]))
        at += WIRE.size + size
    return chunks


def main() -> None:
    """The process."""
    parser = argparse.ArgumentParser(prog="haihe world")
    parser.add_argument("--unit", required=True)
    parser.add_argument("--dir", required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--temporary", action="store_true",
                        help="remove DIR if the owner dies without a word")  # fmt: skip
    parser.add_argument("--set", default="{}", help="options of the world, as JSON")
    arguments = parser.parse_args()
    # the owner reads one line: whatever else is printed goes to standard error
    places = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def answer(line: str) -> None:
        with places:
            places.write(line + "\n")

    sys.setswitchinterval(1e-4)  # the servo bus must not wait for the renderer
    world = make_world(load_unit(Path(arguments.unit)), arguments.seed, json.loads(arguments.set))
    if not serve(world, Path(arguments.dir), sys.stdin.buffer, answer) and arguments.temporary:
        shutil.rmtree(arguments.dir, ignore_errors=True)


if __name__ == "__main__":
    main()
