"""Register map, numbers and requests of Feetech STS/SMS servos: the codec of `sts.py`.

Little-endian words; negative numbers are sign-magnitude (bit 15; load bit 10, offset bit 11).
One turn is 4096 ticks, 2048 the middle; speeds are ticks/s, acceleration 100 ticks/s2, load 0.1 %
of full duty, voltage 0.1 V, current 6.5 mA (the current unit from memory, not confirmed).
Sources: Feetech "SMS/STS memory table" (doc.feetech.cn, FT-SMS-STS-emanual), the addresses as in
huggingface/lerobot 0558acc `motors/feetech/tables.py`; units from the SCServo SDK examples.
"""

import math
import struct
from collections.abc import Sequence
from typing import NamedTuple

from haihe.drivers.framing.ff_frames import BROADCAST, encode

PING, READ, WRITE, REG_WRITE, ACTION, SYNC_READ, SYNC_WRITE = 1, 2, 3, 4, 5, 0x82, 0x83
TICKS_PER_TURN = 4096
RAD_PER_TICK = 2.0 * math.pi / TICKS_PER_TURN
MODELS = {777: "STS3215", 2825: "STS3250", 11272: "SM8512BL"}
SCS_MODELS = {1284: "SCS0009"}
ERROR_BITS = {1: "voltage", 2: "encoder", 4: "overheat", 8: "overcurrent", 32: "overload"}
BLOCK = struct.Struct("<HHHBBxBBxxH")  # registers 56..70


class Register(NamedTuple):
    """access: `r` read only, `eeprom` written to flash (it wears), `ram`. sign_bit: 0 unsigned."""

    address: int
    size: int
    unit: str
    access: str
    sign_bit: int = 0


REGISTERS = {
    "firmware_major": Register(0, 1, "", "r"),
    "firmware_minor": Register(1, 1, "", "r"),
    "model_number": Register(3, 2, "", "r"),
    "id": Register(5, 1, "", "eeprom"),
    "baud_rate": Register(6, 1, "", "eeprom"),
    "return_delay": Register(7, 1, "2us", "eeprom"),
    "response_level": Register(8, 1, "", "eeprom"),
    "min_position": Register(9, 2, "tick", "eeprom"),
    "max_position": Register(11, 2, "tick", "eeprom"),
    "max_temperature": Register(13, 1, "degC", "eeprom"),
    "max_voltage": Register(14, 1, "0.1V", "eeprom"),
    "min_voltage": Register(15, 1, "0.1V", "eeprom"),
    "max_torque": Register(16, 2, "0.1%", "eeprom"),
    "phase": Register(18, 1, "", "eeprom"),
    "homing_offset": Register(31, 2, "tick", "eeprom", 11),
    "operating_mode": Register(33, 1, "", "eeprom"),
    "torque_enable": Register(40, 1, "", "ram"),
    "acceleration": Register(41, 1, "100tick/s2", "ram"),
    "goal_position": Register(42, 2, "tick", "ram", 15),
    "goal_time": Register(44, 2, "ms", "ram"),
    "goal_velocity": Register(46, 2, "tick/s", "ram", 15),
    "torque_limit": Register(48, 2, "0.1%", "ram"),
    "lock": Register(55, 1, "", "ram"),
    "present_position": Register(56, 2, "tick", "r", 15),
    "present_velocity": Register(58, 2, "tick/s", "r", 15),
    "present_load": Register(60, 2, "0.1%", "r", 10),
    "present_voltage": Register(62, 1, "0.1V", "r"),
    "present_temperature": Register(63, 1, "degC", "r"),
    "status": Register(65, 1, "", "r"),
    "moving": Register(66, 1, "", "r"),
    "present_current": Register(69, 2, "6.5mA", "r", 15),
}
TORQUE_AT = REGISTERS["torque_enable"].address
ACCELERATION_AT = REGISTERS["acceleration"].address
GOAL_AT = REGISTERS["goal_position"].address
BLOCK_AT = REGISTERS["present_position"].address


def signed(value: int, bit: int) -> int:
    """A sign-magnitude register value as a number."""
    sign = 1 << bit
    return -(value & (sign - 1)) if value & sign else value & (sign - 1)


def sign_magnitude(value: int, bit: int) -> int:
    """A number as a sign-magnitude register value, clamped to its magnitude."""
    magnitude = min(abs(value), (1 << bit) - 1)
    return magnitude | 1 << bit if value < 0 else magnitude


def ticks_of(urad: int, zero: int, direction: int) -> int:
    """Micro-radians of the joint as ticks: nearest, halves away from the joint's zero.

    Integers only (2 pi as 6283185307e-9), so a C twin in int64 computes the same.
    """
    nearest = (2 * abs(urad) * 4_096_000 + 6_283_185_307) // (2 * 6_283_185_307)
    return zero + (direction if urad >= 0 else -direction) * nearest


def ticks_per_s(urad_per_s: int) -> int:
    """Micro-radians per second as whole ticks per second, never faster."""
    return urad_per_s * 4_096_000 // 6_283_185_307


def slowest(wanted: int, set_to: int, most: int) -> int:
    """The lower of two limits of which 0 in the second is none, as a register holds it: 1..most (a
    0 there means no limit)."""
    return max(1, min(wanted, set_to or most, most))


def sync_read(address: int, size: int, ids: Sequence[int]) -> bytes:
    """The request that every id in turn answers with `size` bytes."""
    return encode(BROADCAST, SYNC_READ, bytes((address, size, *ids)))


def sync_write(address: int, size: int, blocks: bytes) -> bytes:
    """The write to many servos at once; blocks: (id, `size` bytes) one after the other."""
    return encode(BROADCAST, SYNC_WRITE, bytes((address, size)) + blocks)
