"""Which devices a process of a plan opens, and where they are."""

import dataclasses
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.runtime.exec.fakes import following

from haihe.boards.unit import find_unit, load_unit, unit_from_text
from haihe.drivers.camera.file import FileOptions
from haihe.drivers.camera.v4l2 import V4l2Options
from haihe.drivers.camera.world import WorldCameraOptions
from haihe.pipelines.devices import (
    Places,
    live_buses,
    live_streams,
    place_cameras,
    wardens_of,
)
from haihe.pipelines.launch import Prepared, prepare
from haihe.runtime.errors import BoardError
from haihe.runtime.exec.wardens import WardenSpec

SIM = Places(is_sim=True, ports={"neck": "/dev/pts/9"}, cameras={"front": "/run/front"})
SPLIT = """\
processes:
  vision: {threads: [front]}
  control: {threads: [every-20ms]}
"""


def prepared(processes: str = SPLIT, **changes: str) -> Prepared:
    text = load_unit(find_unit("pan-tilt", None)).text
    for old, new in changes.items():
        old = {"port": "    port: /dev/ttyUSB0\n", "death": "on_host_death: warden"}[old]
        assert old in text
        text = text.replace(old, new)
    return prepare(following(), unit_from_text(text + processes, "unit.yaml"))


def neck_of(made: Prepared) -> str:
    text = made.binding.unit.text
    line = text[: text.index("driver: servo.sts")].count("\n") + 1
    return f"unit.yaml:{line}:5: devices.neck"


def by_process(made: Prepared, places: Places = SIM) -> dict[str | None, list[str]]:
    return {
        process: sorted(
            live_buses(made.binding, made.plan, places, process)
            | live_streams(made.binding, made.plan, process)
        )
        for process in (None, "", *made.plan.processes)
    }


def test_each_process_has_the_devices_of_its_lanes() -> None:
    assert by_process(prepared()) == {
        None: ["front", "neck"],
        "": [],
        "vision": ["front"],
        "control": ["neck"],
    }
    assert by_process(prepared("processes: {vision: {threads: [front]}}\n")) == {
        None: ["front", "neck"],
        "": ["neck"],
        "vision": ["front"],
    }


def test_a_simulated_bus_has_the_port_of_the_world_or_is_refused() -> None:
    made = prepared()
    bus = live_buses(made.binding, made.plan, SIM, "control")["neck"]
    assert bus.warden == WardenSpec(0)
    with pytest.raises(BoardError) as error:
        live_buses(made.binding, made.plan, Places(is_sim=True, ports={"arm": "/dev/pts/9"}))
    assert str(error.value) == (
        f"{neck_of(made)}: device neck: the unit's world does not simulate it (it has: arm). "
        "Choose a world that does, or leave it out."
    )
    with pytest.raises(BoardError, match=r"simulate it \(it has: none\)\. Choose"):
        live_buses(made.binding, made.plan, Places(is_sim=True))
    assert live_buses(made.binding, made.plan, Places(is_sim=True), "vision") == {}


def test_a_real_bus_needs_a_port() -> None:
    made = prepared(port="")
    with pytest.raises(BoardError) as error:
        live_buses(made.binding, made.plan, Places())
    assert str(error.value) == (
        f"{neck_of(made)}: device neck has no port. Give `port: /dev/...`, or run it simulated "
        "with --sim."
    )


def test_who_has_a_warden() -> None:
    made = prepared(death="warden: 150ms\n      on_host_death: warden")
    assert wardens_of(made.binding, made.plan) == {"neck": WardenSpec(150_000_000)}
    buses = live_buses(made.binding, made.plan, Places())
    assert buses["neck"].warden == WardenSpec(150_000_000)
    off = live_buses(made.binding, made.plan, Places(has_wardens=False))
    assert off["neck"].warden is None
    other = prepared(death="on_host_death: device")
    assert wardens_of(other.binding, other.plan) == {}
    assert live_buses(other.binding, other.plan, Places())["neck"].warden is None


def test_cameras_are_the_worlds_a_file_or_another_device(tmp_path: Path) -> None:
    made = prepared()
    before = made.binding.devices["front"].options
    assert isinstance(before, V4l2Options)

    def options(places: Places) -> Any:
        return place_cameras(made.binding, made.plan, places).devices["front"].options

    assert options(Places()) is before
    assert options(SIM) == WorldCameraOptions("/run/front", before.intrinsics)
    video = Places(True, SIM.ports, SIM.cameras, video=str(tmp_path / "a.mp4"))
    assert options(video) == FileOptions(tmp_path / "a.mp4", intrinsics=before.intrinsics)
    camera = Places(camera="/dev/video3")
    assert options(camera) == dataclasses.replace(before, device="/dev/video3")


@pytest.mark.parametrize("places", [SIM, Places(video="a.mp4", has_wardens=False)])
def test_places_reach_another_process_as_they_are(places: Places) -> None:
    sent = msgspec.msgpack.encode(msgspec.to_builtins(places))
    assert msgspec.convert(msgspec.msgpack.decode(sent), Places) == places
