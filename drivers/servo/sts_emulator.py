"""The far end of a Feetech STS bus: servos with registers, wire times and seeded faults.

Written as the servo's own receiver, not with the codec under test: it waits for FF FF, takes id
and len, collects len bytes and drops the whole frame when the sum is wrong (nothing inside a bad
frame is searched again). A frame left unfinished stays until more bytes come; after a silence of
`gap_ns` it is dropped. Assumed, not measured on a servo: that gap (5 ms), that a silent id leaves
its slot of a sync read empty and the next one answers, and a turn-round of 0 (register 7 apart).
EEPROM registers (address < 40) written while `lock` is 1 act, but are lost at the power cycle.
"""

import random
from dataclasses import dataclass, field

from haihe.drivers.servo.plant import AxisPlant, ServoPlant
from haihe.drivers.servo.sts import StsJoint, StsOptions
from haihe.drivers.servo.sts_registers import (
    ACTION,
    PING,
    RAD_PER_TICK,
    READ,
    REG_WRITE,
    REGISTERS,
    SYNC_READ,
    SYNC_WRITE,
    TICKS_PER_TURN,
    WRITE,
    sign_magnitude,
    signed,
)

_EEPROM = 40  # registers below are kept without power
_SIZE = 87
_READ_ONLY = frozenset(
    address
    for register in REGISTERS.values()
    if register.access == "r"
    for address in range(register.address, register.address + register.size)
)
_FACTORY = {
    "firmware_major": 3, "firmware_minor": 10, "model_number": 777, "return_delay": 250,
    "response_level": 1, "max_position": 4095, "max_temperature": 70, "max_voltage": 140,
    "min_voltage": 40, "max_torque": 1000, "torque_limit": 1000, "lock": 1,
    "present_voltage": 121, "present_temperature": 31,
}  # fmt: skip


@dataclass
class StsFaults:
    """Faults of the bus, switchable at run time; probabilities are per status frame.

    overload: the ids that show the overload bit. `injected` counts what was done.
    """

    seed: int = 0
    flip_bit: float = 0.0
    drop: float = 0.0
    delay: float = 0.0
    delay_ns: int = 10_000_000
    garbage: float = 0.0
    silent: set[int] = field(default_factory=set)
    overload: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.injected = dict.fromkeys(("flip_bit", "drop", "delay", "garbage"), 0)
        self._random = random.Random(self.seed)

    def hits(self, kind: str) -> bool:
        """Draw once for a kind of fault; the draws of a kind switched off cost no random number."""
        chance: float = getattr(self, kind)
        hit = chance > 0 and self._random.random() < chance
        self.injected[kind] += hit
        return hit

    def flipped(self, data: bytes) -> bytes:
        """The bytes with one bit turned over."""
        place = self._random.randrange(8 * len(data))
        spoilt = bytearray(data)
        spoilt[place >> 3] ^= 1 << (place & 7)
        return bytes(spoilt)

    def noise(self) -> bytes:
        """One to eight bytes of garbage."""
        return self._random.randbytes(self._random.randint(1, 8))


class StsServo:
    """One servo: registers in front of a plant. zero, direction: how the horn is mounted."""

    def __init__(self, joint: StsJoint, plant: ServoPlant) -> None:
        self.joint, self.plant = joint, plant
        self.eeprom_writes = 0
        self.pending: bytes | None = None  # a registered write that waits for its ACTION
        self.registers = bytearray(_SIZE)
        for name, value in _FACTORY.items():
            self.poke(name, value)
        self.registers[REGISTERS["id"].address] = joint.id
        self._eeprom = bytes(self.registers[:_EEPROM])
        self.poke("goal_position", self._ticks())

    def peek(self, name: str) -> int:
        """A register as a number."""
        register = REGISTERS[name]
        end = register.address + register.size
        raw = int.from_bytes(self.registers[register.address : end], "little")
        return signed(raw, register.sign_bit) if register.sign_bit else raw

    def poke(self, name: str, value: int) -> None:
        """Set a register from inside, read-only ones included; nothing acts on it."""
        register = REGISTERS[name]
        raw = sign_magnitude(value, register.sign_bit) if register.sign_bit else value
        end = register.address + register.size
        self.registers[register.address : end] = raw.to_bytes(register.size, "little")

    def power_cycle(self) -> None:
        """Power lost and back: torque off, RAM at its defaults, EEPROM as last stored."""
        self.registers[:_EEPROM] = self._eeprom
        self.registers[_EEPROM:] = bytes(_SIZE - _EEPROM)
        for name in ("torque_limit", "lock", "present_voltage", "present_temperature"):
            self.poke(name, _FACTORY[name])
        self.poke("goal_position", self._ticks())
        self.pending = None
        self.plant.set_torque(False)

    def write(self, address: int, data: bytes) -> bool:
        """Take a write at the plant's present time; False when it leaves the register map."""
        if address + len(data) > _SIZE:
            return False
        for at, value in enumerate(data, address):
            if at not in _READ_ONLY:
                self.registers[at] = value
        if address < _EEPROM and self.peek("lock") == 0:
            self._eeprom = bytes(self.registers[:_EEPROM])
            self.eeprom_writes += 1
        touched = range(address, address + len(data))
        if REGISTERS["goal_position"].address in touched:
            self._pursue()
        if REGISTERS["torque_enable"].address in touched:
            self.plant.set_torque(self.peek("torque_enable") == 1)
        return True

    def sense(self) -> None:
        """Bring the present values of the plant into the registers."""
        plant, sign = self.plant, self.joint.direction
        speed = round(sign * plant.velocity / RAD_PER_TICK)
        load = round(1000.0 * sign * plant.load)
        self.poke("present_position", self._ticks())
        self.poke("present_velocity", speed)
        self.poke("present_load", load)
        self.poke("present_current", round(load * 2.5 / 6.5))
        self.poke("moving", int(speed != 0))

    def _ticks(self) -> int:
        turned = self.plant.position * self.joint.direction / RAD_PER_TICK
        return (self.joint.zero + round(turned)) % TICKS_PER_TURN

    def _pursue(self) -> None:
        low, high = self.peek("min_position"), self.peek("max_position")
        ticks = min(max(self.peek("goal_position"), low), high)
        self.plant.set_goal(
            (ticks - self.joint.zero) * self.joint.direction * RAD_PER_TICK,
            abs(self.peek("goal_velocity")) * RAD_PER_TICK,
            self.peek("acceleration") * 100 * RAD_PER_TICK,
        )


class StsBus:
    """Several servos on one wire: implements `haihe.runtime.sim.Emulator`."""

    def __init__(
        self,
        servos: list[StsServo],
        baud: int = 1_000_000,
        faults: StsFaults | None = None,
        gap_ns: int = 5_000_000,
        record: bool = True,
    ) -> None:
        self.servos = {servo.joint.id: servo for servo in servos}
        self.faults = faults or StsFaults()
        self.gap_ns = gap_ns
        self.received: list[tuple[int, bytes]] | None = [] if record else None
        self.counters = dict.fromkeys(("frames", "bad_checksum", "dropped_partial", "unknown"), 0)
        self._byte_ns = 10_000_000_000 // baud
        self._partial = b""
        self._last_ns = 0

    def receive(self, data: bytes, t_ns: int) -> list[tuple[int, bytes]]:
        """Take bytes whose last one arrives at `t_ns`; give (time of the last byte, status)."""
        if self.received is not None:
            self.received.append((t_ns, data))
        first_ns = t_ns - len(data) * self._byte_ns
        if self._partial and first_ns - self._last_ns > self.gap_ns:
            self.counters["dropped_partial"] += 1
            self._partial = b""
        self._last_ns = t_ns
        buffer = self._partial + data
        replies: list[tuple[int, bytes]] = []
        at = 0
        while (start := buffer.find(b"\xff\xff", at)) >= 0:
            at = start
            if len(buffer) - at < 4:
                break
            if buffer[at + 2] == 0xFF:
                at += 1
                continue
            end = at + 4 + buffer[at + 3]
            if len(buffer) < end:
                break
            body = buffer[at + 2 : end]
            at = end
            if len(body) < 4 or sum(body) % 256 != 255:
                self.counters["bad_checksum"] += 1
                continue
            self.counters["frames"] += 1
            arrived_ns = t_ns - (len(buffer) - end) * self._byte_ns
            replies += self._obey(body[0], body[2], body[3:-1], arrived_ns)
        if start < 0:
            at = len(buffer) - buffer.endswith(b"\xff")
        self._partial = buffer[max(at, 0) :]
        return replies

    def step(self, t_ns: int) -> None:
        """Advance every plant; a world that steps its plants itself need not call it."""
        for servo in self.servos.values():
            servo.plant.step(t_ns)

    def _obey(self, target: int, inst: int, params: bytes, t_ns: int) -> list[tuple[int, bytes]]:
        if inst == SYNC_READ and len(params) > 2:
            asked = [(servo_id, params[0], params[1]) for servo_id in params[2:]]
            return self._answers(asked, t_ns)
        if inst == SYNC_WRITE and len(params) > 2:
            size = params[1] + 1
            for at in range(2, len(params) - size + 1, size):
                self._write(params[at], params[0], params[at + 1 : at + size], t_ns)
            return []
        ids = list(self.servos) if target == 0xFE else [target]
        if inst == PING:
            return self._answers([(servo_id, 0, 0) for servo_id in ids], t_ns)
        if inst == READ and len(params) == 2:
            return self._answers([(target, params[0], params[1])], t_ns)
        for servo_id in ids:
            if inst == WRITE and len(params) > 1:
                self._write(servo_id, params[0], params[1:], t_ns)
            elif inst == REG_WRITE and len(params) > 1 and servo_id in self.servos:
                self.servos[servo_id].pending = params
            elif inst == ACTION:
                self._act(servo_id, t_ns)
            else:
                self.counters["unknown"] += 1
                return []
        servo = self.servos.get(target)
        return (
            self._answers([(target, 0, 0)], t_ns) if servo and servo.peek("response_level") else []
        )

    def _act(self, servo_id: int, t_ns: int) -> None:
        servo = self.servos.get(servo_id)
        if servo is not None and servo.pending:
            pending, servo.pending = servo.pending, None
            self._write(servo_id, pending[0], pending[1:], t_ns)

    def _write(self, servo_id: int, address: int, data: bytes, t_ns: int) -> None:
        servo = self.servos.get(servo_id)
        if servo is None or servo_id in self.faults.silent:
            return
        servo.plant.step(t_ns)
        if not servo.write(address, data):
            self.counters["unknown"] += 1
        new_id = servo.peek("id")
        if new_id != servo_id:
            self.servos[new_id] = self.servos.pop(servo_id)

    def _answers(self, asked: list[tuple[int, int, int]], t_ns: int) -> list[tuple[int, bytes]]:
        """The status of each (id, address, size) in turn, as the wire carries them."""
        faults, replies, now_ns = self.faults, [], t_ns
        for servo_id, address, size in asked:
            servo = self.servos.get(servo_id)
            quiet = servo is None or servo_id in faults.silent or faults.hits("drop")
            if servo is None or quiet:
                if len(asked) > 1:
                    now_ns += (6 + size) * self._byte_ns
                continue
            servo.plant.step(t_ns)
            servo.sense()
            error = 32 if servo_id in faults.overload else 0
            servo.poke("status", error)
            data = servo.registers[address : address + size]
            body = bytes((servo_id, len(data) + 2, error)) + data
            status = b"\xff\xff" + body + bytes((255 - sum(body) % 256,))
            now_ns += servo.peek("return_delay") * 2000
            if faults.hits("delay"):
                now_ns += faults.delay_ns
            if faults.hits("flip_bit"):
                status = faults.flipped(status)
            if faults.hits("garbage"):
                status = faults.noise() + status
            now_ns += len(status) * self._byte_ns
            replies.append((now_ns, status))
        return replies


def StsEmulator(
    options: StsOptions,
    plants: dict[str, ServoPlant] | None = None,
    *,
    baud: int = 1_000_000,
    faults: StsFaults | None = None,
    record: bool = True,
) -> StsBus:
    """The bus that a unit profile describes; a joint without a plant gets an AxisPlant.

    The default plant's hard stops are where the servo's 0..4095 ticks end.
    """
    given = plants or {}
    servos = [
        StsServo(joint, given.get(joint.name) or _default_plant(joint)) for joint in options.joints
    ]
    return StsBus(servos, baud, faults, record=record)


def _default_plant(joint: StsJoint) -> AxisPlant:
    ends = [(t - joint.zero) * joint.direction * RAD_PER_TICK for t in (0, TICKS_PER_TURN - 1)]
    return AxisPlant(low=min(ends), high=max(ends))
