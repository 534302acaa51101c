"""Chains of a plan: which sources reach which ends."""

import numpy as np

from haihe.drivers.roles import camera, servos
from haihe.runtime.graph import Graph
from haihe.runtime.node import node
from haihe.runtime.plan.build import DeviceTiming, make_plan
from haihe.runtime.plan.chains import chains_of
from haihe.runtime.types import Image, JointCommand


@node
def aim(image: Image) -> JointCommand:
    return JointCommand(np.zeros(2))


def test_a_command_to_a_bus_of_its_own_cycle_is_part_of_a_chain() -> None:
    with Graph("far") as g:
        servos("neck").command(aim(camera("front").image))
    (chain,) = chains_of(make_plan(g, {"neck": DeviceTiming(20_000_000)}))
    assert str(chain) == "front → neck"
    assert chain.lanes == {"front", "every-20ms"}
