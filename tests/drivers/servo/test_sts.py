import math
import pickle
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.drivers import harness

from haihe.drivers.ports.virtual import VirtualPort
from haihe.drivers.servo.plant import AxisPlant
from haihe.drivers.servo.sts import SPEC, StsGroup, StsJoint, StsOptions
from haihe.drivers.servo.sts_emulator import StsBus, StsEmulator
from haihe.drivers.servo.sts_registers import (
    RAD_PER_TICK,
    sign_magnitude,
    signed,
    sync_read,
    sync_write,
    ticks_of,
)
from haihe.runtime.errors import BoardError, DeviceError
from haihe.runtime.guard import Action, Decision, GuardState, JointRule, SafeAction
from haihe.runtime.io import BusDevice, Exchange, Reply, drive
from haihe.runtime.types import JointState

HEX = {vector["name"]: bytes.fromhex(vector["hex"]) for vector in harness.vectors("servo/sts")}
PAN, TILT = StsJoint("pan", 1), StsJoint("tilt", 2, direction=-1)
OPTIONS = StsOptions((PAN, TILT))
DRIVE, FREE, NONE = Action.DRIVE, Action.FREE, Action.NONE


def head(options: StsOptions = OPTIONS) -> tuple[StsGroup, VirtualPort, StsBus]:
    bus = StsEmulator(options)
    return StsGroup(options), VirtualPort(bus, record=True), bus


def decision(*actions: Action, positions: tuple[int, ...] = (0, 0)) -> Decision:
    return Decision(GuardState.ARMED, actions, positions, 0)


def sent(group: StsGroup, what: Decision) -> list[bytes]:
    return [exchange.tx for exchange in group.write(what)]


def read(group: StsGroup, rx: bytes, error: str = "") -> JointState:
    transaction = group.read()
    next(transaction)
    with pytest.raises(StopIteration) as stop:
        transaction.send(Reply(rx, 0, 1, error))
    state = stop.value.value
    assert isinstance(state, JointState)
    return state


def block(servo_id: int, ticks: int, error: int = 0) -> bytes:
    """A status of the sync read by hand: 12 V, 30 degC, at rest."""
    data = [ticks & 255, ticks >> 8, 0, 0, 0, 0, 120, 30, 0, 0, 0, 0, 0, 0, 0]
    body = [servo_id, 17, error, *data]
    return bytes([255, 255, *body, 255 - sum(body) % 256])


def test_requests_are_those_of_the_vectors():
    assert sync_read(56, 15, (1, 2)) == HEX["sync_read_block_1_2"]
    assert sync_read(56, 2, range(1, 7)) == HEX["sync_read_pos_1_6"]
    blocks = b"".join(bytes((i, 0, 8)) for i in range(1, 7))
    assert sync_write(42, 2, blocks) == HEX["sync_write_goal_1_6"]


@pytest.mark.parametrize(
    ("raw", "bit", "value"),
    [(0, 15, 0), (0x8064, 15, -100), (100, 15, 100), (0x8000, 15, 0), (0x4FA, 10, -250)],
)
def test_sign_magnitude(raw, bit, value):
    assert signed(raw, bit) == value
    assert signed(sign_magnitude(value, bit), bit) == value


def test_sign_magnitude_clamps():
    assert sign_magnitude(-5000, 10) == 0x7FF
    assert sign_magnitude(40000, 15) == 0x7FFF


@pytest.mark.parametrize(
    ("urad", "ticks"),
    [
        (0, 2048),
        (1_570_796, 3072),
        (-1_570_796, 1024),
        (767, 2049),  # half a tick is 766.99 urad
        (766, 2048),
        (-767, 2047),
        (-766, 2048),
        (3_141_593, 4096),
    ],
)
def test_microradians_to_ticks(urad, ticks):
    assert ticks_of(urad, 2048, 1) == ticks
    assert ticks_of(urad, 2048, -1) == 4096 - ticks


@given(st.integers(0, 4095), st.sampled_from([1, -1]))
def test_every_tick_comes_back(ticks, direction):
    urad = round((ticks - 2048) * direction * RAD_PER_TICK * 1e6)
    assert ticks_of(urad, 2048, direction) == ticks


@given(st.integers(-4_000_000, 4_000_000))
def test_rounding_is_nearest(urad):
    exact = Fraction(urad) * 4096 / Fraction(2 * math.pi * 1e6)
    assert abs(ticks_of(urad, 0, 1) - exact) <= Fraction(1, 2) + Fraction(1, 10**6)
    assert ticks_of(-urad, 0, 1) == -ticks_of(urad, 0, 1)


def test_the_group_is_a_bus_device_and_the_spec_makes_it():
    device: BusDevice = SPEC.make(OPTIONS)
    assert isinstance(device, StsGroup)
    assert (SPEC.kind, SPEC.link, SPEC.baud) == ("servos", "serial", 1_000_000)


def test_a_status_block_in_si_units():
    group = StsGroup(OPTIONS)
    state = read(group, HEX["status_block"] + block(2, 1024))
    assert state.names == ("pan", "tilt")
    assert state.position.tolist() == pytest.approx([math.pi / 2, math.pi / 2])
    assert state.velocity[0] == pytest.approx(-100 * 2 * math.pi / 4096)
    assert state.load[0] == -0.25
    assert state.voltage.tolist() == [12.1, 12.0]
    assert state.temperature_degc.tolist() == [31.0, 30.0]
    assert state.ok.tolist() == [True, True]


def test_a_silent_joint_keeps_its_last_values():
    group = StsGroup(OPTIONS)
    read(group, block(1, 2048) + block(2, 1024))
    state = read(group, block(1, 3072))
    assert state.ok.tolist() == [True, False]
    assert state.position.tolist() == pytest.approx([math.pi / 2, math.pi / 2])
    assert group.counters["missing"] == group.counters["timeouts"] == 1
    assert math.isnan(read(StsGroup(OPTIONS), b"").position[0])


def test_corrupt_foreign_and_doubled_answers_are_counted():
    group = StsGroup(OPTIONS)
    spoilt = bytearray(block(2, 1024))
    spoilt[6] ^= 4
    state = read(group, block(1, 2048) + bytes(spoilt))
    assert state.ok.tolist() == [True, False]
    assert (group.counters["checksum"], group.counters["skipped_bytes"]) == (1, 21)
    read(group, block(1, 2048) + block(9, 0) + block(1, 4095))
    assert group.counters["foreign_id"] == 2
    read(group, block(1, 2048, error=32) + block(2, 2048))
    assert group.counters["status_errors"] == 1
    assert group.status == [32, 0]
    state = read(group, b"", "unplugged")
    assert not state.ok.any()
    assert group.counters["link_errors"] == 1


def test_any_damage_to_the_answers_only_costs_joints():
    good = block(1, 2048) + block(2, 1024)
    for bit in range(8 * len(good)):
        spoilt = bytearray(good)
        spoilt[bit >> 3] ^= 1 << (bit & 7)
        state = read(StsGroup(OPTIONS), bytes(spoilt))
        assert state.ok.sum() >= 1
    for size in range(len(good)):
        assert read(StsGroup(OPTIONS), good[:size]).ok.tolist() == [size >= 21, False]


def test_a_dead_joint_is_asked_now_and_then_and_comes_back():
    group = StsGroup(OPTIONS)
    for _ in range(5):
        read(group, block(1, 2048))
    asked = []
    for _ in range(32):
        transaction = group.read()
        exchange = next(transaction)
        asked.append(exchange.rx_size)
        with pytest.raises(StopIteration):
            transaction.send(Reply(block(1, 2048), 0, 1))
    assert asked.count(42) == 2
    assert asked.count(21) == 30
    while group.counters["rejoined"] == 0:
        read(group, block(1, 2048) + block(2, 2048))
    assert group.counters["missing"] == 37


def test_setup_only_makes_the_joints_limp_and_spares_the_eeprom():
    group, port, bus = head()
    for servo in bus.servos.values():
        servo.poke("torque_enable", 1)
        servo.plant.set_torque(True)
    drive(port, group.setup())
    assert port.sent is not None
    writes = [tx for _, tx in port.sent if tx[4] in (3, 131)]
    assert [tx[5] for tx in writes[:2]] == [40, 40], "torque goes off before anything else"
    assert all(not 42 <= tx[5] <= 47 for tx in writes), "no goal is written"
    assert all(tx[4] != 131 for tx in writes)
    assert group.models == {"pan": "STS3215", "tilt": "STS3215"}
    for servo in bus.servos.values():
        assert servo.peek("torque_enable") == 0
        assert servo.peek("return_delay") == 0
        assert servo.peek("lock") == 1
        assert servo.eeprom_writes == 1
        servo.power_cycle()
        assert servo.peek("return_delay") == 0
    drive(port, group.setup())
    assert [servo.eeprom_writes for servo in bus.servos.values()] == [1, 1]


def test_setup_survives_noise_but_not_a_missing_servo():
    group, port, bus = head()
    bus.faults.flip_bit = 0.05
    drive(port, group.setup())
    bus.faults.flip_bit = 0.0
    bus.faults.silent.add(2)
    with pytest.raises(DeviceError) as caught:
        drive(port, group.setup())
    assert str(caught.value) == (
        "servo.sts: no answer from id 2 in 50 ms (ids 1 answered). Check the cable after id 1."
    )
    bus.faults.silent = {1}
    with pytest.raises(DeviceError, match=r"id 1 in 50 ms \(ids 2 answered\)\. Check the servo wi"):
        drive(port, group.setup())
    bus.faults.silent = {1, 2}
    with pytest.raises(DeviceError, match=r"id 1, 2 in 50 ms \(nobody answered\)\. Check the serv"):
        drive(port, group.setup())


def test_setup_refuses_what_it_cannot_drive():
    group, port, bus = head()
    bus.servos[2].poke("model_number", 1284)
    with pytest.raises(DeviceError, match=r"tilt \(id 2\) is a SCS0009: big-endian and without"):
        drive(port, group.setup())
    port.unplug()
    with pytest.raises(DeviceError, match="set-up stopped at id 1: virtual is lost"):
        drive(port, group.setup())


def test_setup_notices_a_value_that_does_not_stay():
    group, port, _ = head(StsOptions((PAN,)))
    original = port.emulator.receive

    def forgetful(data: bytes, t_ns: int) -> list[tuple[int, bytes]]:
        return [] if data[4:6] == b"\x03\x29" else original(data, t_ns)

    group.options = StsOptions((PAN,), acceleration=50)
    port.emulator.receive = forgetful  # type: ignore[method-assign]
    with pytest.raises(DeviceError) as caught:
        drive(port, group.setup())
    assert str(caught.value) == (
        "servo.sts: pan (id 1) does not keep acceleration (register 41): found 0, expected 50. "
        "Check its supply voltage."
    )


def test_the_goal_goes_before_the_torque_and_the_steady_form_is_short():
    group = StsGroup(StsOptions((PAN, StsJoint("tilt", 2)), acceleration=50, speed=1000))
    on = bytes.fromhex("fffffe088328010101020148")
    for _ in range(3):
        assert sent(group, decision(DRIVE, DRIVE)) == [HEX["sync_write_full_1_2"] + on]
    there = decision(DRIVE, DRIVE, positions=(1_570_796, -1_570_796))
    assert sent(group, there) == [HEX["sync_write_goal_1_3072_2_1024"]]


def test_nothing_is_sent_for_none_and_a_free_joint_is_freed_every_time():
    group = StsGroup(OPTIONS)
    assert sent(group, decision(NONE, NONE)) == []
    freed = bytes.fromhex("fffffe08832801010002004a")
    for _ in range(5):
        assert sent(group, decision(FREE, FREE)) == [freed]


def test_a_joint_that_changes_alone_and_one_that_comes_from_none():
    group = StsGroup(OPTIONS)
    for _ in range(4):
        sent(group, decision(DRIVE, DRIVE))
    (tx,) = sent(group, decision(DRIVE, FREE))
    goal, free = "fffffe07832a0201000842", "fffffe0683280102004d"
    assert tx == bytes.fromhex(goal + free)
    sent(group, decision(NONE, NONE))
    (tx,) = sent(group, decision(DRIVE, NONE))
    assert tx[4:7] == bytes.fromhex("832907")
    assert group.frames_for(decision(DRIVE, NONE)) == tx


RULES = (
    JointRule("pan", -2_000_000, 2_000_000, 5_235_988, 0, SafeAction.HOLD),
    JointRule("tilt", -2_000_000, 2_000_000, 1_570_796, 9_000_000, SafeAction.GO, 300_000),
)


def test_safe_frames_move_no_faster_than_the_slew_and_the_rate():
    frames = StsGroup(OPTIONS).safe_frames(decision(DRIVE, DRIVE, positions=(0, 300_000)), RULES)
    # 300 deg/s: 3413 ticks/s; 90 deg/s: 1023; 9 rad/s2: 58 (100 ticks/s2); tilt is turned round
    pan = "0100 0008 0000 550d"
    tilt = "023a 3c07 0000 ff03"
    body = bytes.fromhex(f"fe14832907{pan}{tilt}")
    goal = b"\xff\xff" + body + bytes((~sum(body) & 0xFF,))
    assert frames == goal + bytes.fromhex("fffffe088328010101020148")


def test_safe_frames_keep_the_bus_options_where_they_are_slower():
    group = StsGroup(StsOptions((PAN, TILT), acceleration=20, speed=900))
    frames = group.safe_frames(decision(DRIVE, DRIVE), RULES)
    assert frames[7:15] == bytes.fromhex("0114 0008 0000 8403")
    assert frames[15:23] == bytes.fromhex("0214 0008 0000 8403")
    slow = (RULES[0], JointRule("tilt", -1, 1, 1, 1, SafeAction.HOLD))
    assert group.safe_frames(decision(DRIVE, DRIVE), slow)[15:23] == bytes.fromhex(
        "0201 0008 0000 0100"  # 0 would be no limit at all
    )


def test_safe_frames_free_what_is_free_and_leave_the_group_as_it_was():
    group = StsGroup(OPTIONS)
    before = group.snapshot()
    assert group.safe_frames(decision(FREE, FREE), RULES) == bytes.fromhex(
        "fffffe08832801010002004a"
    )
    assert group.safe_frames(decision(NONE, NONE), RULES) == b""
    far = group.safe_frames(decision(DRIVE, FREE, positions=(9_000_000, 0)), RULES)
    assert far[9:11] == (4095).to_bytes(2, "little")
    assert group.snapshot() == before
    assert group.counters["clamped"] == 0


def test_padding_of_the_longest_frame_saves_the_safe_frames_after_any_cut():
    group = StsGroup(OPTIONS)
    exchanges = [next(group.read()).tx]
    exchanges += sent(group, decision(DRIVE, DRIVE, positions=(500_000, -500_000)))
    for _ in range(3):
        exchanges += sent(group, decision(DRIVE, DRIVE, positions=(600_000, -600_000)))
    exchanges += sent(group, decision(DRIVE, FREE))
    assert max(map(len, _frames(exchanges))) == group.longest_frame == 24
    safe = group.safe_frames(decision(DRIVE, FREE, positions=(100_000, 0)), RULES)
    lost = {0: 0, group.longest_frame: 0}
    for tx in exchanges:
        for cut in range(1, len(tx)):
            for pad in lost:
                bus = StsEmulator(OPTIONS)
                bus.gap_ns = 1 << 62  # a frame that was cut waits for its rest for ever
                bus.receive(tx[:cut] + bytes(pad) + safe, 1)
                pan, tilt = bus.servos[1], bus.servos[2]
                held = (pan.peek("goal_position"), pan.peek("torque_enable"))
                lost[pad] += (*held, tilt.peek("torque_enable")) != (2113, 1, 0)
    assert lost[group.longest_frame] == 0
    assert lost[0] > 20  # without the padding they are swallowed


def _frames(exchanges: list[bytes]) -> Iterator[bytes]:
    for tx in exchanges:
        while tx:
            size = tx[3] + 4
            yield tx[:size]
            tx = tx[size:]


def test_a_goal_out_of_the_ticks_is_clamped_and_counted():
    group = StsGroup(OPTIONS)
    (tx,) = sent(group, decision(DRIVE, DRIVE, positions=(3_141_593, 9_000_000)))
    assert tx[9:11] == (4095).to_bytes(2, "little")
    assert tx[17:19] == (0).to_bytes(2, "little")
    assert group.counters["clamped"] == 2


def test_a_snapshot_gives_the_same_bytes_and_states():
    group = StsGroup(OPTIONS)
    read(group, block(1, 2048))
    sent(group, decision(DRIVE, FREE))
    twin = StsGroup(OPTIONS)
    twin.restore(pickle.loads(pickle.dumps(group.snapshot())))
    assert repr(twin.snapshot()) == repr(group.snapshot())  # NaN for the one never heard
    for _ in range(4):
        assert sent(twin, decision(DRIVE, FREE)) == sent(group, decision(DRIVE, FREE))
    one, other = read(group, block(2, 1000)), read(twin, block(2, 1000))
    assert np.array_equal(one.position, other.position)
    assert len(pickle.dumps(group.snapshot())) < 1000


def test_it_drives_the_emulated_head():
    options = StsOptions((PAN, StsJoint("tilt", 2, zero=1500, direction=-1)))
    group = StsGroup(options)
    plants = {"pan": AxisPlant(), "tilt": AxisPlant()}
    port = VirtualPort(StsEmulator(options, dict(plants)))
    drive(port, group.setup())
    for _ in range(60):
        port.now_ns += 20_000_000
        drive(port, group.write(decision(DRIVE, DRIVE, positions=(600_000, -400_000))))
        state = drive(port, group.read())
    assert isinstance(state, JointState)
    assert state.position == pytest.approx([0.6, -0.4], abs=RAD_PER_TICK)
    assert plants["tilt"].position == pytest.approx(-0.4, abs=RAD_PER_TICK)
    drive(port, group.write(decision(FREE, FREE)))
    assert not plants["pan"].torque


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"joints": ()}, "found 0, expected 1 to 30. Split the bus."),
        ({"joints": (PAN, StsJoint("tilt", 1))}, "id 1 twice. Give each its own."),
        ({"joints": (PAN, StsJoint("pan", 2))}, "name pan twice. Give each its own."),
        ({"joints": (StsJoint("a", 253),)}, "a: id 253, expected 0 to 252."),
        ({"joints": (StsJoint("a", 1, direction=0),)}, "direction 0, expected -1 to 1 without 0"),
        ({"joints": (PAN,), "acceleration": 255}, "acceleration 255, speed 0: expected 0 to 254"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(BoardError) as caught:
        StsOptions(**options)
    assert message in str(caught.value)


def test_the_read_is_one_exchange_of_known_size():
    exchange = next(StsGroup(OPTIONS).read())
    assert exchange == Exchange(HEX["sync_read_block_1_2"], 42, 5_000_000)
