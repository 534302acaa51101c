"""What guards are told after a restart: as before it where that is allowed, never more."""

import pytest

from haihe.runtime.exec.arming import Arming
from haihe.runtime.record.format import Event

ARM, DISARM, TRIP, RESET = ("arm",), ("disarm",), ("trip", "e-stop"), ("reset",)
AGAIN = "it was tripped before the restart"


@pytest.mark.parametrize(
    ("before", "is_latched", "rearm", "after", "told"),
    [
        ([ARM], False, True, [], [ARM]),
        ([ARM], False, False, [], []),
        ([], False, True, [], []),
        ([ARM, DISARM], False, True, [], []),
        ([ARM, TRIP], True, True, [], [TRIP]),
        ([ARM, TRIP], False, True, [], [TRIP]),  # it died before it took it up
        ([ARM, TRIP], True, False, [], [TRIP]),
        ([ARM], True, True, [], [("trip", AGAIN)]),  # it had tripped by itself
        ([ARM], True, True, [ARM], [("trip", AGAIN)]),
        ([ARM, TRIP, ARM], True, True, [], [TRIP]),
        ([ARM, TRIP, DISARM], True, True, [], [TRIP]),
        ([ARM, TRIP, RESET], False, True, [], []),
        ([ARM, TRIP, RESET, ARM], False, True, [], [ARM]),
        ([ARM, RESET], False, True, [], []),  # it had tripped by itself and was reset
        ([ARM], False, True, [TRIP], [TRIP]),  # while nobody was there
        ([ARM], False, True, [DISARM], []),
        ([ARM], False, False, [ARM], [ARM]),  # somebody armed it anew
        ([ARM, TRIP], True, True, [RESET, ARM], [ARM]),
    ],
)
def test_what_the_next_life_is_told(
    before: list[Event], is_latched: bool, rearm: bool, after: list[Event], told: list[Event]
) -> None:
    arming = Arming()
    for event in before:
        arming.hear(event)
    arming.die(is_latched=is_latched, rearm=rearm)
    for event in after:
        arming.hear(event)
    assert arming.events() == told
