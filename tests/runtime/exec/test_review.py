"""What a review with fresh eyes found: each once a defect, shown here to be one no more."""

import pickle
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import pytest
from tests.runtime.exec.fakes import MS, GridCamera, following, holding, number

from haihe.boards.unit import find_unit, load_unit, unit_from_text
from haihe.drivers.roles import camera, servos
from haihe.pipelines.launch import run, simulate
from haihe.runtime.contracts import fresh
from haihe.runtime.errors import BoardError, NodeError, PlanError, RecordError
from haihe.runtime.exec.virtual import VirtualExecutor
from haihe.runtime.graph import Graph
from haihe.runtime.node import contract_of, node, set_state, state_of
from haihe.runtime.plan.build import make_plan
from haihe.runtime.record.recording import Recording
from haihe.runtime.record.state import load_state
from haihe.runtime.types import JointCommand, JointState, Reading
from haihe.testing import replay

IDEAL = {"ideal": True}
PAN_TILT = load_unit(find_unit("pan-tilt", None))


def ran(graph: Graph, milliseconds: int) -> VirtualExecutor:
    executor = VirtualExecutor(graph, make_plan(graph, {}), {}, {"front": GridCamera(10 * MS)})
    executor.run(milliseconds * MS)
    return executor


def test_a_tick_that_raises_stops_the_run_before_it_is_raised() -> None:
    lives: list[Any] = []

    def tick(live: Any) -> None:
        lives.append(live)
        if len(lives) == 3:
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        run(following(), unit="pan-tilt", sim=True, world=IDEAL, duration="20s", tick=tick,
            tick_s=0.05)  # fmt: skip
    executor = lives[0].executor
    assert executor.state == "safe"
    assert executor.outcome.reason == "an error outside the lanes"
    (guard,) = executor.assembly.guards()
    assert guard.reason == "an error outside the lanes"


def test_a_device_that_the_world_does_not_simulate_is_refused() -> None:
    with Graph("two") as graph:
        neck, arm = servos("neck"), servos("arm")
        neck.command(hold(neck.state))
        arm.command(hold(arm.state))
    start, end = PAN_TILT.text.index("  neck:"), PAN_TILT.text.index("sim:")
    second = PAN_TILT.text[start:end].replace("  neck:", "  arm:", 1)
    unit = unit_from_text(PAN_TILT.text[:end] + second + PAN_TILT.text[end:], "unit.yaml")
    for start_run in (
        lambda: simulate(graph, "1s", unit=unit, world=IDEAL),
        lambda: run(graph, unit=unit, sim=True, world=IDEAL, duration="1s"),
    ):
        with pytest.raises(BoardError, match=r"unit\.yaml:\d+:\d+: devices\.arm: device arm: the "
                           r"unit's world does not simulate it \(it has: neck\)"):  # fmt: skip
            start_run()


@node(every="20ms")
def hold(state: Annotated[JointState, fresh("1s")]) -> JointCommand:
    return state.hold()


def test_a_parameter_that_cannot_be_recorded_is_refused_and_another_is_what_replay_sees(
    tmp_path: Path,
) -> None:
    def change(executor: VirtualExecutor, world: Any) -> None:
        with pytest.raises(PlanError, match=r"set\('steady', 'goal'\): .* cannot be recorded"):
            executor.set("steady", "goal", np.float32(0.5))
        with pytest.raises(PlanError, match="too long for an event"):
            executor.set("steady", "goal", "x" * 70_000)
        executor.after(100 * MS, lambda: executor.set("steady", "goal", 0.25))

    simulate(holding(), "400ms", unit="pan-tilt", world=IDEAL, record=tmp_path / "a.mcap",
             prepare_run=change)  # fmt: skip
    assert replay(tmp_path / "a.mcap", graph=holding()).ok


@node(every="20ms", budget="1s")
def slow(state: Annotated[JointState, fresh("1s")]) -> JointCommand:
    return JointCommand(np.array([0.5, 0.5]))


def test_what_a_slow_node_computed_is_as_old_as_it_is() -> None:
    with Graph("slow") as graph:
        neck = servos("neck")
        neck.command(slow(neck.state))
    made = simulate(graph, "3s", unit="pan-tilt", world=IDEAL)  # command_age is 250 ms
    assert made.truth["pan"][-1] == pytest.approx(0.0, abs=2e-3)


def test_a_device_that_is_back_at_the_stop_is_made_safe() -> None:
    text = PAN_TILT.text.replace("safe: hold", "safe: go, safe_position: -0.3rad")
    unit = unit_from_text(text, "unit.yaml")

    def unplug(executor: VirtualExecutor, world: Any) -> None:
        port: Any = executor.assembly.lanes[0].buses[0].port
        executor.after(900 * MS, port.unplug)
        executor.after(975 * MS, port.plug)

    made = simulate(holding(0.3), "980ms", unit=unit, world=IDEAL, prepare_run=unplug)
    made.world.step(made.executor.now_ns + 1_000 * MS)
    assert made.world.plants["pan"].position == pytest.approx(-0.3, abs=2e-3)


@node(every="20ms")
def launder(reading: Reading) -> Reading:
    return reading


@node(every="20ms")
def wants_fresh(reading: Annotated[Reading, fresh("100ms")]) -> Reading:
    return reading


def test_age_is_not_laundered_by_a_node_without_fresh() -> None:
    with Graph("launder") as graph:
        wants_fresh(launder(number(camera("front").image)))
    plan = make_plan(graph, {})
    frames = GridCamera(10 * MS)
    dead = [frames.capture(i, 0) for i in range(10)]

    class Dying(GridCamera):
        def capture(self, index: int, t_ns: int) -> Any:
            return dead[index] if index < 10 else (None, 0)

    executor = VirtualExecutor(graph, plan, {}, {"front": Dying(10 * MS)})
    executor.run(600 * MS)
    stats = executor.assembly.nodes["wants_fresh"]
    # ten frames, the last captured at 90 ms: fresh until 190 ms
    assert (stats.absent, stats.called, stats.stale) == (1, 9, 20)


def test_keyframes_make_nothing_but_data(tmp_path: Path) -> None:
    from haihe.runtime.record.packer import McapPacker

    class Evil:
        def __reduce__(self) -> Any:
            return McapPacker, (str(tmp_path / "made.mcap"),)

    with pytest.raises(RecordError, match="not a class of the graph's modules"):
        load_state(pickle.dumps({"x": Evil()}), holding())
    assert not (tmp_path / "made.mcap").exists()


def test_a_recording_fixed_after_a_cut_stays_a_cut_one(tmp_path: Path) -> None:
    from haihe.runtime.record.fix import finish

    path = tmp_path / "a.mcap"
    simulate(holding(), "400ms", unit="pan-tilt", world=IDEAL, record=path)
    (tmp_path / "cut.mcap").write_bytes(path.read_bytes()[:-40])
    finish(tmp_path / "cut.mcap")
    assert not Recording(tmp_path / "cut.mcap").complete
    assert Recording(path).complete


@node(every="20ms")
@dataclass(frozen=True)
class Frozen:
    goal: float = 0.1

    def __call__(self, state: Annotated[JointState, fresh("1s")]) -> JointCommand:
        return JointCommand(np.full(2, self.goal))


def test_a_frozen_node_takes_parameters(tmp_path: Path) -> None:
    def wire() -> Graph:
        with Graph("frozen") as graph:
            neck = servos("neck")
            neck.command(Frozen()(neck.state))
        return graph

    def change(executor: VirtualExecutor, world: Any) -> None:
        executor.after(200 * MS, lambda: executor.set("Frozen", "goal", 0.3))

    made = simulate(wire(), "2200ms", unit="pan-tilt", world=IDEAL, record=tmp_path / "a.mcap",
                    prepare_run=change)  # fmt: skip
    assert made.truth["pan"][-1] == pytest.approx(0.3, abs=2e-3)
    assert replay(tmp_path / "a.mcap", graph=wire(), start_s=1.5).ok


def test_state_made_in_post_init_is_state() -> None:
    @dataclass
    class Counter:
        step: int = 1

        def __post_init__(self) -> None:
            self._n = 0

    counter = Counter()
    counter._n = 7
    assert state_of(counter) == {"_n": 7}
    set_state(counter, {"_n": 3})
    assert counter._n == 3


class Both(NamedTuple):
    a: Reading
    b: Reading


@node(every="20ms")
def gives_nothing() -> Both:
    return None  # type: ignore[return-value]


@node(every="20ms")
def leaves() -> Reading:
    sys.exit(3)


@pytest.mark.parametrize("broken", [gives_nothing, leaves])
def test_a_node_that_gives_no_tuple_or_exits_is_a_node_that_raised(broken: Any) -> None:
    with Graph("broken") as graph:
        broken()
    outcome = ran(graph, 100).outcome
    (failure,) = [exc for _, _, exc in outcome.failures][:1]
    assert isinstance(failure, NodeError)
    assert "test_review.py:" in str(failure)


def test_damage_inside_a_block_costs_its_lane_only(tmp_path: Path) -> None:
    from haihe.runtime.record.packer import McapPacker
    from haihe.runtime.record.reader import McapReader

    path, damaged = tmp_path / "a.mcap", tmp_path / "b.mcap"
    simulate(following(), "600ms", unit="pan-tilt", world=IDEAL, record=path)
    with McapReader(path) as reader, McapPacker(damaged) as packer:
        channels: dict[int, int] = {}
        blocks = 0
        for m in reader.messages():
            info = reader.channels[m.channel]
            if m.channel not in channels:
                channels[m.channel] = packer.add_channel(info.topic, info.encoding)
            data = m.data
            if info.topic == "haihe/lane/every-20ms":
                blocks += 1
                data = bytes(len(data)) if blocks == 3 else data
            packer.append(channels[m.channel], m.sequence, m.log_ns, m.publish_ns, data)
    recording = Recording(damaged)
    assert not recording.complete
    assert 0 < len(recording.lanes["every-20ms"]) < len(Recording(path).lanes["every-20ms"])
    assert len(recording.lanes["front"]) == len(Recording(path).lanes["front"])


def test_a_node_that_runs_in_another_thread_is_not_wired_in_here() -> None:
    import threading

    found: list[Any] = []
    with Graph("open"):
        thread = threading.Thread(target=lambda: found.append(launder(Reading(1.0))))
        thread.start()
        thread.join()
    assert found[0].value == 1.0


def test_a_field_and_a_parameter_of_one_name_are_refused() -> None:
    from haihe.runtime.errors import ContractError

    @node(every="20ms")
    @dataclass
    class Twice:
        gain: float = 1.0

        def __call__(self, gain: float = 2.0) -> Reading:
            return Reading(gain)

    with pytest.raises(ContractError, match="gain is a field and a parameter of __call__"):
        contract_of(Twice)


def test_fps_is_checked() -> None:
    from haihe.drivers.camera.file import FileOptions
    from haihe.runtime.errors import DeviceError

    for fps in (-1.0, 5e9):
        with pytest.raises(DeviceError, match="expected 0 to 10000"):
            FileOptions(Path("x"), fps=fps)
