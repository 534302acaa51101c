"""What is measured: nodes in virtual time on this machine's clock; what is known of streams."""

import pytest
from tests.pipelines.check.graphs import prepared

from haihe.pipelines.check.measure import measure_nodes
from haihe.pipelines.check.timing_of import sources_of
from haihe.pipelines.worlds.serve import make_world
from haihe.runtime.errors import ContractError


def test_every_call_after_the_warm_up_is_a_sample() -> None:
    found = measure_nodes(prepared(), "1s")
    assert {name: measured.samples for name, measured in found.items()} == {"face": 30, "aim": 50}
    assert all(measured.worst_ns > 0 for measured in found.values())
    assert [measured.held_share for measured in found.values()] == [1.0, 1.0]


def test_a_model_lets_go_of_the_interpreter_while_it_runs() -> None:
    from haihe.pipelines.launch import prepare
    from haihe.pipelines.load import load_graph

    made = prepare(load_graph("robot.follow"), "pan-tilt")
    found = measure_nodes(made, "200ms")
    assert found["part"].samples == 6
    assert 0.0 < found["part"].held_share < 1.0
    assert found["Pursue"].held_share == 1.0


def test_a_duration_that_is_none_is_refused() -> None:
    with pytest.raises(ContractError, match="'soon' is not a quantity"):
        measure_nodes(prepared(), "soon")


def test_a_camera_is_as_its_driver_says_else_as_its_world_else_supposed() -> None:
    made = prepared()
    world = make_world(made.binding.unit, 0, {"ideal": True})
    driver = sources_of(made.binding, made.plan, world, sim=False)["front"]
    assert driver.timing is not None
    assert (driver.timing.period_min_ns, driver.timing.period_max_ns) == (33_266_667, 33_400_000)
    assert (driver.timing.latency_min_ns, driver.timing.latency_max_ns) == (15_000_000, 15_000_000)
    assert driver.assumed == (
        "front delivers 15.0 ms after capture, as its simulated world does: measure it and write "
        "latency_ms"
    )
    alone = sources_of(made.binding, made.plan, None, sim=False)["front"]
    assert alone.timing is not None
    assert alone.timing.latency_max_ns == 33_266_667
    assert alone.assumed == (
        "front delivers within a period (33.3 ms) after capture: measure it and write latency_ms"
    )
    simulated = sources_of(made.binding, made.plan, world, sim=True)["front"]
    assert simulated.timing is not None
    assert simulated.timing.period_max_ns == 33_333_333
    assert simulated.assumed == ""
