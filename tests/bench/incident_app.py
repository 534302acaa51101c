"""Graphs and runs in which something goes wrong at a known time, for the tests of `explain`."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from haihe import Graph, camera, named, node, servos
from haihe.boards.unit import find_unit, load_unit, unit_from_text
from haihe.pipelines.launch import Simulation, simulate
from haihe.pipelines.nodes.pursue import Pursue
from haihe.pipelines.worlds.ideal import ideal_detector
from haihe.runtime.contracts import TICK, Tick, fifo
from haihe.runtime.exec.lane import Overrun
from haihe.types import Detections, JointCommand, JointState

MS = 1_000_000
Prepare = Callable[[Any, Any], None]  # of the executor and the world, before the start


@node
@dataclass
class Broken:
    """Passes detections on; raises at call `raise_at`."""

    raise_at: int
    _calls: int = 0

    def __call__(self, parts: Detections) -> Detections:
        self._calls += 1
        if self._calls == self.raise_at:
            raise ValueError(f"made to raise at call {self._calls}")
        return parts


@node
def trim(command: JointCommand) -> JointCommand:
    """Changes nothing: a second node in the lane."""
    return command


@node(every="20ms")
def sway(neck: JointState, dt: Tick = TICK) -> JointCommand:
    """Slowly away, without a camera."""
    return JointCommand(neck.position + 0.1 * dt)


with Graph("swaying") as swaying:
    neck = servos("neck")
    neck.command(sway(neck.state))

with Graph("follow") as follow:
    front, neck = camera("front"), servos("neck")
    neck.command(named("aim", Pursue())(named("part", ideal_detector)(front.image), neck.state))

with Graph("raising") as raising:
    front, neck = camera("front"), servos("neck")
    found = named("broken", Broken(40))(named("part", ideal_detector)(front.image))
    neck.command(named("aim", Pursue())(found, neck.state))

# the same after its cause was found: other code than what was recorded
with Graph("mended") as mended:
    front, neck = camera("front"), servos("neck")
    found = named("broken", Broken(0))(named("part", ideal_detector)(front.image))
    neck.command(named("aim", Pursue())(found, neck.state))

with Graph("trimmed") as trimmed:
    front, neck = camera("front"), servos("neck")
    command = named("aim", Pursue())(named("part", ideal_detector)(front.image), neck.state)
    neck.command(named("trim", trim)(command))


@node(budget="4ms")
def keep(parts: Annotated[Detections, fifo(3)]) -> Detections:
    """One call for each, in a lane of its own."""
    return parts


with Graph("chained") as chained:
    front, neck = camera("front"), servos("neck")
    found = named("part", ideal_detector)(front.image)
    kept = keep(found)
    neck.command(named("aim", Pursue())(kept, neck.state))
    chained.thread("first", found)
    chained.thread("second", kept)

with Graph("shared") as shared:
    front, neck = camera("front"), servos("neck")
    found = named("part", ideal_detector)(front.image)
    command = named("aim", Pursue())(found, neck.state)
    neck.command(command)
    shared.thread("one", command, found)


def record(
    graph: Graph, path: Path, prepare: Prepare | None = None,
    *, budgets: dict[str, str] | None = None, latch: bool = False, duration: str = "4s",
    frames: Any = "lossless", **world: Any,
) -> Simulation:  # fmt: skip
    """A run of the pan-tilt unit in virtual time with a fault; a detector takes 10 ms."""
    unit = load_unit(find_unit("pan-tilt", None))
    if latch:
        unit = unit_from_text(
            unit.text.replace("command_age: 250ms", "command_age: 250ms\n      on_stale: latch"),
            unit.file,
        )
    return simulate(
        graph, duration, unit=unit, world={"ideal": True} | world, record=path, frames=frames,
        budgets={"part": "10ms"} | (budgets or {}), prepare_run=prepare,
    )  # fmt: skip


def outage(begin_ns: int, end_ns: int) -> Prepare:
    """The camera takes no frame in that time, counted from the first release."""

    def prepare(executor: Any, world: Any) -> None:
        capture = world.camera.capture

        def without(index: int, t_ns: int) -> Any:
            image, latency = capture(index, t_ns)
            is_out = begin_ns <= t_ns - executor.begin_ns < end_ns
            return (None if is_out else image), latency

        world.camera.capture = without

    return prepare


def unplugged(begin_ns: int, end_ns: int) -> Prepare:
    """The adapter of the servo bus is pulled out and plugged in again."""

    def prepare(executor: Any, world: Any) -> None:
        (bus,) = executor.assembly.lanes[0].buses
        executor.after(begin_ns, lambda: bus.port.unplug())
        executor.after(end_ns, lambda: bus.port.plug())

    return prepare


def posted(*events: tuple[int, tuple[Any, ...]]) -> Prepare:
    """Events at their times."""

    def prepare(executor: Any, world: Any) -> None:
        for t_ns, event in events:
            executor.after(t_ns, lambda event=event: executor.post(event))

    return prepare


def slow_bus(begin_ns: int, end_ns: int, delay_ns: int) -> Prepare:
    """The first servo answers late in that time."""

    def prepare(executor: Any, world: Any) -> None:
        faults = world.bus.faults
        faults.delay_ns = delay_ns
        executor.after(begin_ns, lambda: setattr(faults, "delay", 1.0))
        executor.after(end_ns, lambda: setattr(faults, "delay", 0.0))

    return prepare


def overrun(t_ns: int, lane_name: str, node_name: str, took_ns: int) -> Prepare:
    """The note that a run in real time makes when a node exceeds its budget: in virtual time no
    node does."""

    def prepare(executor: Any, world: Any) -> None:
        (lane,) = (ln for ln in executor.assembly.lanes if ln.name == lane_name)

        def note() -> None:
            found = Overrun(
                executor.now_ns, lane_name, node_name, lane.firing, took_ns, took_ns // 2
            )
            void = {"void": ["front → neck"]}
            lane.sink.note("overrun", asdict(found) | void, executor.now_ns)

        executor.after(t_ns, note)

    return prepare


def hung(t_ns: int, length_ns: int) -> Prepare:
    """From then on the detector's lane hangs: its firing ends with the run and leaves no record."""

    def prepare(executor: Any, world: Any) -> None:
        (lane,) = (ln for ln in executor.assembly.lanes if ln.name == "front")

        def hang(release: int, firing: int) -> Iterator[int]:
            yield length_ns

        executor.after(t_ns, lambda: setattr(lane, "tick", hang))

    return prepare


RUNS: dict[str, Callable[[Path], Simulation]] = {
    "outage": lambda path: record(follow, path, outage(2000 * MS, 2700 * MS)),
    "latched": lambda path: record(follow, path, outage(1000 * MS, 1700 * MS), latch=True),
    "unplugged": lambda path: record(
        follow, path, unplugged(1500 * MS, 2200 * MS), duration="5s"
    ),
    "e-stop": lambda path: record(
        follow, path,
        posted((1000 * MS, ("trip", "e-stop button")), (1500 * MS, ("reset",)),
               (1520 * MS, ("arm",))),
    ),
    "slow bus": lambda path: record(
        trimmed, path, slow_bus(1000 * MS, 1100 * MS, 10 * MS), budgets={"trim": "3ms"}
    ),
    "slow answers": lambda path: record(
        trimmed, path, slow_bus(1000 * MS, 1100 * MS, 2 * MS), budgets={"trim": "4ms"}
    ),
    "slow node": lambda path: record(trimmed, path, budgets={"trim": "9ms"}, duration="1s"),
    "noted": lambda path: record(
        trimmed, path, overrun(45 * MS, "every-20ms", "trim", 8 * MS),
        budgets={"trim": "9ms"}, duration="1s",
    ),
    "late detector": lambda path: record(follow, path, budgets={"part": "260ms"}, duration="2s"),
    "shared thread": lambda path: record(shared, path, budgets={"part": "15ms"}, duration="2s"),
    "raising": lambda path: record(raising, path),
    "overrun": lambda path: record(
        follow, path, overrun(500 * MS, "front", "part", 30 * MS), duration="1s"
    ),
    "hung": lambda path: record(follow, path, hung(670 * MS, 1500 * MS), duration="2s"),
    "chained": lambda path: record(chained, path, outage(2000 * MS, 2700 * MS)),
    "swaying": lambda path: simulate(swaying, "1s", unit="pan-tilt", record=path),
    "well": lambda path: record(follow, path, duration="1s"),
}  # fmt: skip
