import math
import random

import pytest
from tests.drivers import harness

from haihe.drivers.ports.virtual import VirtualPort
from haihe.drivers.servo.plant import AxisPlant
from haihe.drivers.servo.sts import StsGroup, StsJoint, StsOptions
from haihe.drivers.servo.sts_emulator import StsBus, StsEmulator, StsFaults
from haihe.runtime.io import drive
from haihe.runtime.sim import Emulator

HEX = {vector["name"]: bytes.fromhex(vector["hex"]) for vector in harness.vectors("servo/sts")}
OPTIONS = StsOptions((StsJoint("pan", 1), StsJoint("tilt", 2)))
BYTE = 10_000
MS = 1_000_000


def frame(servo_id: int, code: int, *params: int) -> bytes:
    body = [servo_id, len(params) + 2, code, *params]
    return bytes([255, 255, *body, 255 - sum(body) % 256])


@pytest.fixture
def bus() -> StsBus:
    made = StsEmulator(OPTIONS)
    for servo in made.servos.values():
        servo.poke("return_delay", 0)
    return made


def test_it_is_an_emulator(bus):
    emulator: Emulator = bus
    assert emulator.receive(HEX["ping_1"], 100_000) == [(100_000 + 6 * BYTE, frame(1, 0))]
    assert bus.received == [(100_000, HEX["ping_1"])]


def test_read_and_write(bus):
    assert bus.receive(frame(1, 2, 3, 2), 0)[0][1] == frame(1, 0, 9, 3)  # 777
    assert bus.receive(frame(1, 3, 41, 50), MS)[0][1] == frame(1, 0)
    assert bus.servos[1].peek("acceleration") == 50
    assert bus.receive(frame(1, 3, 56, 1, 1), MS)[0][1] == frame(1, 0)
    assert bus.receive(HEX["read_pos_1"], MS)[0][1] == frame(1, 0, 0, 8), "read only"
    assert bus.receive(frame(1, 2, 84, 9), MS)[0][1] == frame(1, 0, 0, 0, 0)
    assert bus.receive(frame(7, 2, 3, 2), MS) == []
    bus.servos[1].poke("response_level", 0)
    assert bus.receive(frame(1, 3, 41, 50), MS) == []
    bus.receive(frame(1, 3, 80, *range(30)), MS)
    bus.receive(frame(1, 9), MS)
    assert bus.counters["unknown"] == 2


def test_broadcast_ping_and_sync_write(bus):
    assert [data for _, data in bus.receive(frame(254, 1), 0)] == [frame(1, 0), frame(2, 0)]
    assert bus.receive(HEX["sync_write_torque_1_2"], MS) == []
    assert [servo.peek("torque_enable") for servo in bus.servos.values()] == [1, 0]
    assert bus.receive(HEX["sync_write_full_1_2"], MS) == []
    assert bus.servos[2].peek("goal_velocity") == 1000


def test_a_registered_write_waits_for_its_action(bus):
    bus.receive(HEX["reg_write_goal_1_1000"], 0)
    assert bus.servos[1].peek("goal_position") == 2048
    assert bus.receive(HEX["action"], MS) == []
    assert bus.servos[1].peek("goal_position") == 1000
    assert bus.servos[2].peek("goal_position") == 2048


def test_an_id_can_be_changed(bus):
    bus.receive(frame(2, 3, 5, 9), 0)
    assert list(bus.servos) == [1, 9]
    assert bus.receive(frame(9, 1), MS)[0][1] == frame(9, 0)


def test_eeprom_is_lost_when_it_was_locked(bus):
    servo = bus.servos[1]
    bus.receive(frame(1, 3, 33, 1), 0)
    assert (servo.peek("operating_mode"), servo.eeprom_writes) == (1, 0)
    servo.power_cycle()
    assert servo.peek("operating_mode") == 0
    bus.receive(frame(1, 3, 55, 0) + frame(1, 3, 33, 1), MS)
    servo.power_cycle()
    assert (servo.peek("operating_mode"), servo.eeprom_writes) == (1, 1)
    assert (servo.peek("lock"), servo.peek("torque_enable")) == (1, 0)


def test_the_times_of_a_sync_read_are_those_of_the_wire(bus):
    replies = bus.receive(HEX["sync_read_block_1_2"], MS)
    assert [t for t, _ in replies] == [MS + 21 * BYTE, MS + 42 * BYTE]
    for servo in bus.servos.values():
        servo.poke("return_delay", 250)
    replies = bus.receive(HEX["sync_read_block_1_2"], 2 * MS)
    assert [t - 2 * MS for t, _ in replies] == [500_000 + 210_000, 1_000_000 + 420_000]


def test_a_slower_wire_is_slower():
    bus = StsEmulator(OPTIONS, baud=115_200)
    bus.servos[1].poke("return_delay", 0)
    ((t, _),) = bus.receive(HEX["ping_1"], 0)
    assert t == 6 * (10_000_000_000 // 115_200)


def test_six_joints_cycle_takes_what_theory_says():
    options = StsOptions(tuple(StsJoint(f"j{i}", i) for i in range(1, 7)))
    group, port = StsGroup(options), VirtualPort(StsEmulator(options))
    drive(port, group.setup())
    start = port.now_ns
    drive(port, group.read())
    assert port.now_ns - start == (14 + 126) * BYTE


def test_any_chunking_gives_the_same_answers():
    stream = HEX["ping_1"] + b"\x00\xff" + HEX["sync_write_full_1_2"] + HEX["sync_read_block_1_2"]
    rng = random.Random(1)
    whole = [data for _, data in StsEmulator(OPTIONS).receive(stream, MS)]
    assert len(whole) == 3
    for _ in range(50):
        bus, t, found = StsEmulator(OPTIONS), MS, []
        for chunk in harness.random_chunks(stream, rng):
            t += len(chunk) * BYTE
            found += [data for _, data in bus.receive(chunk, t)]
        assert found == whole


def test_garbage_never_raises(bus):
    rng = random.Random(2)
    for _ in range(500):
        spoilt = bytearray(HEX["sync_write_full_1_2"] + HEX["read_pos_1"])
        spoilt[rng.randrange(len(spoilt))] = rng.randrange(256)
        bus.receive(bytes(spoilt), bus._last_ns + MS)
    assert bus.counters["bad_checksum"] > 100


def test_an_unfinished_frame_swallows_the_next_unless_padded_or_late():
    ping = HEX["ping_1"]
    bus = StsEmulator(OPTIONS)
    bus.receive(HEX["sync_write_full_1_2"][:10], MS)
    assert bus.receive(ping, 2 * MS) == []
    bus = StsEmulator(OPTIONS)
    bus.receive(HEX["sync_write_full_1_2"][:10], MS)
    assert len(bus.receive(bytes(60) + ping, 2 * MS)) == 1
    bus = StsEmulator(OPTIONS)
    bus.receive(HEX["sync_write_full_1_2"][:10], MS)
    assert len(bus.receive(ping, 20 * MS)) == 1
    assert bus.counters["dropped_partial"] == 1


def test_the_plant_follows_goal_speed_and_torque(bus):
    plant = bus.servos[1].plant
    assert isinstance(plant, AxisPlant)
    bus.receive(frame(1, 3, 41, 50, 0, 12, 0, 0, 232, 3), MS)  # acc 50, 3072, speed 1000
    bus.step(500 * MS)
    assert plant.position == 0.0, "a goal without torque moves nothing"
    bus.receive(frame(1, 3, 40, 1), 500 * MS)
    bus.step(1100 * MS)
    data = bus.receive(frame(1, 2, 56, 15), 1100 * MS)[0][1]
    assert plant.velocity == pytest.approx(1000 * 2 * math.pi / 4096, rel=0.01)
    assert data[7:9] == round(plant.velocity * 4096 / 2 / math.pi).to_bytes(2, "little")
    assert data[15] == 1, "moving"
    bus.step(5000 * MS)
    assert plant.position == pytest.approx(math.pi / 2)


def test_the_mounting_of_the_horn():
    options = StsOptions((StsJoint("tilt", 2, zero=1000, direction=-1),))
    bus = StsEmulator(options, {"tilt": AxisPlant(0.5)})
    data = bus.receive(frame(2, 2, 56, 2), MS)[0][1]
    assert int.from_bytes(data[5:7], "little") == 1000 - round(0.5 * 4096 / 2 / math.pi)


def test_faults_are_seeded_and_switchable():
    def run(seed: int) -> tuple[list[tuple[int, bytes]], dict[str, int]]:
        faults = StsFaults(seed=seed, flip_bit=0.2, drop=0.2, delay=0.1, garbage=0.2)
        bus = StsEmulator(OPTIONS, faults=faults)
        replies = []
        for i in range(100):
            replies += bus.receive(HEX["sync_read_block_1_2"], (i + 1) * 20 * MS)
        return replies, faults.injected

    first, injected = run(1)
    assert run(1) == (first, injected)
    assert run(2)[0] != first
    assert all(10 < injected[kind] < 60 for kind in ("flip_bit", "drop", "delay", "garbage"))


def test_the_driver_under_faults_counts_and_goes_on():
    group = StsGroup(OPTIONS)
    bus = StsEmulator(OPTIONS)
    port = VirtualPort(bus)
    drive(port, group.setup())
    bus.faults.flip_bit, bus.faults.drop, bus.faults.garbage = 0.1, 0.1, 0.1
    good = 0
    for i in range(200):
        port.now_ns = (i + 100) * 20 * MS
        good += int(drive(port, group.read()).ok.sum())  # type: ignore[attr-defined]
    assert good > 250
    assert group.counters["missing"] == 400 - good
    assert group.counters["checksum"] > 10
    bus.faults.flip_bit = bus.faults.drop = bus.faults.garbage = 0.0
    for i in range(20):
        port.now_ns = (i + 400) * 20 * MS
        state = drive(port, group.read())
    assert state.ok.all()  # type: ignore[attr-defined]


def test_a_silent_id_leaves_its_slot_and_overload_shows(bus):
    bus.faults.silent.add(1)
    bus.faults.overload.add(2)
    ((t, status),) = bus.receive(HEX["sync_read_block_1_2"], MS)
    assert t == MS + 42 * BYTE
    assert (status[4], status[14]) == (32, 32)
    bus.receive(HEX["sync_write_torque_1_2"], 2 * MS)
    assert bus.servos[1].peek("torque_enable") == 0
