"""Small graphs and devices for the executors' tests."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import numpy as np

from haihe.drivers.roles import camera, servos
from haihe.pipelines.nodes.pursue import Pursue
from haihe.pipelines.worlds.ideal import ideal_detector
from haihe.runtime.clock import now_ns
from haihe.runtime.contracts import RNG, TICK, Rng, Tick, fresh
from haihe.runtime.errors import DeviceError
from haihe.runtime.graph import Graph, named
from haihe.runtime.guard import Decision, JointRule, SafeAction
from haihe.runtime.guard.guard import Guard
from haihe.runtime.io import Exchange, Reply, Transaction
from haihe.runtime.node import node
from haihe.runtime.plan.codegen import record_layout
from haihe.runtime.plan.model import Plan
from haihe.runtime.record.format import FIRING, LaneRecord, parse_block
from haihe.runtime.types import Detections, Image, JointCommand, JointState, Message, Reading

LIMIT_S = 30.0  # a hang of the test, no measure of speed


def until(is_reached: Callable[[], bool]) -> None:
    """Wait for something that comes, however long it takes."""
    pause = threading.Event()
    for _ in range(int(LIMIT_S / 0.005)):
        if is_reached():
            return
        pause.wait(0.005)
    raise AssertionError("it never came")


MS = 1_000_000
PERIOD = 20 * MS
TORQUE, ACCELERATION, GOAL = 40, 41, 42


@node
def number(image: Image) -> Reading:
    """The number that a frame carries."""
    return Reading(float(image.data[0, 0, 0]))


@node(every="20ms")
@dataclass
class Watch:
    """Passes a reading on; raises at call `raise_at`."""

    raise_at: int = 0
    _calls: int = 0

    def __call__(self, reading: Annotated[Reading, fresh("1s")], dt: Tick = TICK) -> Reading:
        self._calls += 1
        if self._calls == self.raise_at:
            raise ValueError("made to raise")
        return reading


@node
@dataclass
class Fault:
    """Passes commands on with a little noise; raises at call `raise_at`."""

    raise_at: int = 0
    noise: float = 0.0
    _calls: int = 0

    def __call__(self, command: JointCommand, rng: Rng = RNG) -> JointCommand:
        self._calls += 1
        if self._calls == self.raise_at:
            raise ValueError("made to raise")
        return JointCommand(command.position + rng.normal(0.0, self.noise, 2))


@node(every="20ms")
def steady(neck: Annotated[JointState, fresh("1s")], goal: float = 0.5) -> JointCommand:
    return JointCommand(np.full(len(neck.position), goal))


def watching(watch: Watch | None = None) -> Graph:
    """A vision lane and a control lane, no actuator."""
    with Graph("watching") as graph:
        watch = watch or Watch()
        named("watch", watch)(number(camera("front").image))
    return graph


def following(fault: Fault | None = None, name: str = "following") -> Graph:
    """A head that follows a part, in two lanes."""
    with Graph(name) as graph:
        front, neck = camera("front"), servos("neck")
        parts: Detections = ideal_detector(front.image)
        command = named("pursue", Pursue("washer"))(parts, neck.state)
        neck.command(named("fault", fault or Fault())(command))
    return graph


def holding(goal: float = 0.5) -> Graph:
    """One actuator, one periodic node."""
    with Graph("holding") as graph:
        neck = servos("neck")
        neck.command(steady(neck.state, goal))
    return graph


def frame(value: int) -> Image:
    return Image(np.full((1, 1, 3), value, np.uint8))


class GridCamera:
    """A camera of virtual time: frames 1, 2, 3 ... on a grid, with a latency."""

    def __init__(self, period_ns: int, latency_ns: int = 0, count: int = 10_000) -> None:
        self.period_ns, self.latency_ns, self.count = period_ns, latency_ns, count
        self.first_ns = 0

    def capture(self, index: int, t_ns: int) -> tuple[Image | None, int]:
        if index >= self.count:
            raise EOFError
        return frame((index + 1) % 256), self.latency_ns


class Kept:
    """A sink that keeps everything in memory."""

    def __init__(self) -> None:
        self.blocks: dict[str, bytearray] = {}
        self.streams: list[tuple[str, int, int, int]] = []

    def block(self, lane: str, data: bytes, firing: int, t_ns: int) -> None:
        self.blocks.setdefault(lane, bytearray()).extend(data)

    def output(self, source: str, sequence: int, t_ns: int, message: Any) -> None:
        pass

    def stream(self, source: str, sequence: int, capture: int, delivered: int, m: Any) -> None:
        self.streams.append((source, sequence, capture, delivered))

    def keyframe(self, lane: str, firing: int, t_ns: int, state: bytes) -> None:
        pass

    def orphan(self, source: str, sample: tuple[int, Any, int, int]) -> None:
        pass

    def records(self, plan: Plan, lane: str) -> list[LaneRecord]:
        task = next(one.task for one in plan.lanes if one.name == lane)
        return list(parse_block(bytes(self.blocks[lane]), record_layout(task)))

    def firings(self, plan: Plan, lane: str) -> list[tuple[Any, ...]]:
        """Per firing: number, release, clock, run time, sequence numbers and outcomes."""
        return [r.fixed for r in self.records(plan, lane) if r.kind == FIRING]


class Write(NamedTuple):
    """A register write to one servo, as the emulator received it."""

    t_ns: int
    servo: int
    address: int
    data: bytes

    @property
    def goal(self) -> int | None:
        """In ticks, if it is one."""
        if self.address == GOAL:
            return int.from_bytes(self.data[:2], "little")
        if self.address == ACCELERATION and len(self.data) == 7:
            return int.from_bytes(self.data[1:3], "little")
        return None


def writes(received: list[tuple[int, bytes]]) -> Iterator[Write]:
    """Every register write on a Feetech wire, parsed here and not by the codec."""
    for t_ns, data in received:
        at = 0
        while at < len(data):
            assert data[at : at + 2] == b"\xff\xff", data.hex()
            servo, size, code = data[at + 2 : at + 5]
            body = data[at + 5 : at + 3 + size]
            assert (~(servo + size + code + sum(body)) & 0xFF) == data[at + 3 + size]
            if code == 0x03:
                yield Write(t_ns, servo, body[0], body[1:])
            elif code == 0x83:
                address, width = body[0], body[1]
                for i in range(2, len(body), width + 1):
                    yield Write(t_ns, body[i], address, body[i + 1 : i + 1 + width])
            at += size + 4


# --- for real time --------------------------------------------------------------------------------


class Frames:
    """A stream device: so many frames, then the end."""

    def __init__(self, log: list[str], count: int = 3, problem: Exception | None = None) -> None:
        self.log, self.left, self.problem = log, count, problem
        self._pace = threading.Event()

    def open(self) -> None:
        if self.problem is not None:
            raise self.problem
        self.log.append("stream opened")

    def read(self, timeout_s: float) -> tuple[Image, int] | None:
        if self.left <= 0:
            raise EOFError
        self.left -= 1
        self._pace.wait(0.001)
        return frame(self.left % 256), now_ns()

    def close(self) -> None:
        self.log.append("stream closed")


class Joints:
    """A bus device of two joints: `S` set-up, `R` read, `W` write, answered by FakePort."""

    joints = ("pan", "tilt")

    def __init__(self, problem: str = "") -> None:
        self.problem = problem

    def setup(self) -> Transaction[None]:
        yield Exchange(b"S", 1)
        if self.problem:
            raise DeviceError(self.problem)

    def read(self) -> Transaction[Message]:
        yield Exchange(b"R", 1)
        z = np.zeros(2)
        return JointState(self.joints, z, z, z, z, z, np.ones(2, bool))

    def write(self, decision: Decision) -> Transaction[None]:
        actions = [int(action) for action in decision.actions]
        if any(actions):
            yield Exchange(b"W" + bytes(actions))

    def snapshot(self) -> tuple[Any, ...]:
        return ()

    def restore(self, state: tuple[Any, ...]) -> None:
        pass


class FakePort:
    """Logs what is sent, the first of equal ones in a row."""

    name = "fake"

    def __init__(self, log: list[str]) -> None:
        self.log = log
        log.append("port opened")

    def exchange(self, exchange: Exchange) -> Reply:
        said = f"sent {exchange.tx[:1].decode()}{list(exchange.tx[1:]) or ''}"
        if said not in self.log[-3:]:
            self.log.append(said)
        t = now_ns()
        return Reply(bytes(exchange.rx_size), t, t)

    def close(self) -> None:
        self.log.append("port closed")


def guard(safe: SafeAction = SafeAction.FREE) -> Guard:
    rules = tuple(
        JointRule(name, -1_000_000, 1_000_000, 5_000_000, 0, safe) for name in ("pan", "tilt")
    )
    return Guard(rules, 250 * MS, PERIOD)
