"""Feetech STS/SMS bus servos (STS3215, STS3250, SM8512BL): SO-100/101 arms, pan-tilt heads.

    FF FF | id | len | inst/error | params ... | ~sum       (haihe.drivers.framing.ff_frames)
    sync read   FF FF FE  len 82 | 38 0F | id ...            one status of 15 bytes per id:
      56 pos lo hi  58 vel lo hi  60 load lo hi  62 volt  63 temp  64 -  65 status  66 moving
      67 - -  69 current lo hi
    sync write  FF FF FE  len 83 | address n | (id, n bytes) ...            never answered

Half-duplex UART, 8N1, 1 Mbaud by default. Registers, units and their sources: `sts_registers.py`.
The SCS series is big-endian and has no sync read: refused.
Source: Feetech "SMS/STS memory table" and protocol manual (doc.feetech.cn, FT-SMS-STS-emanual).
"""

import logging
import math
import struct
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from haihe.drivers.device import DriverSpec
from haihe.drivers.framing.ff_frames import OVERHEAD, encode, scan
from haihe.drivers.servo.sts_registers import (
    ACCELERATION_AT,
    BLOCK,
    BLOCK_AT,
    GOAL_AT,
    MODELS,
    PING,
    RAD_PER_TICK,
    READ,
    REGISTERS,
    SCS_MODELS,
    TICKS_PER_TURN,
    TORQUE_AT,
    WRITE,
    signed,
    slowest,
    sync_read,
    sync_write,
    ticks_of,
    ticks_per_s,
)
from haihe.runtime.errors import BoardError, DeviceError
from haihe.runtime.guard import Action, Decision, JointRule
from haihe.runtime.io import Exchange, Reply, Transaction
from haihe.runtime.types import JointState, Message

log = logging.getLogger(__name__)

SETUP_TIMEOUT_NS = 50_000_000  # setting up has time; a loaded host must not look like a lost servo
TRIES = 3  # of each question while setting up
REPEATS = 3  # firings in a row that carry torque and the full goal: a sync write has no answer
LOST_AFTER = 5  # reads in a row without an answer, then a joint is asked only now and then
ASK_EVERY = 16
_DRIVE, _FREE = Action.DRIVE, Action.FREE  # an attribute of an enum class is slow
_FULL = struct.Struct("<BBHHH")  # of one joint: id, acceleration, goal, time, speed
_WIRE = {"return_delay": 0, "operating_mode": 0}  # EEPROM that reading and driving rely on


@dataclass(frozen=True)
class StsJoint:
    """One servo as a joint. zero: its ticks at 0 rad; direction: +1 or -1 for positive ticks."""

    name: str
    id: int
    zero: int = 2048
    direction: int = 1


@dataclass(frozen=True)
class StsOptions:
    """What a unit profile says of the bus.

    acceleration: register 41, 0..254 in 100 ticks/s2, 0 is the servo's maximum. speed: register 46
    in ticks/s, 0 is the maximum. timeout_ms: for the answers of one request after its last byte;
    the default suits 500 kbaud and more.
    """

    joints: tuple[StsJoint, ...]
    acceleration: int = 0
    speed: int = 0
    timeout_ms: float = 5.0

    def __post_init__(self) -> None:
        where = "servo.sts: joints"
        ids = [str(joint.id) for joint in self.joints]
        names = [joint.name for joint in self.joints]
        if not 1 <= len(ids) <= 30:
            raise BoardError(f"{where}: found {len(ids)}, expected 1 to 30. Split the bus.")
        for kind, found in (("id", ids), ("name", names)):
            twice = sorted({x for x in found if found.count(x) > 1})
            if twice:
                raise BoardError(f"{where}: {kind} {', '.join(twice)} twice. Give each its own.")
        for joint in self.joints:
            for key, low, high in (("id", 0, 252), ("zero", 0, 4095), ("direction", -1, 1)):
                value = getattr(joint, key)
                if not low <= value <= high or (key == "direction" and value == 0):
                    raise BoardError(
                        f"{where}: {joint.name}: {key} {value}, expected {low} to {high}"
                        f"{' without 0' if key == 'direction' else ''}. Correct the unit profile."
                    )
        if not 0 <= self.acceleration <= 254 or not 0 <= self.speed <= 32767:
            raise BoardError(
                f"servo.sts: acceleration {self.acceleration}, speed {self.speed}: expected "
                "0 to 254 (100 ticks/s2) and 0 to 32767 (ticks/s). Correct the unit profile."
            )


class StsState(NamedTuple):
    """Snapshot of a group, fields as in StsGroup: per joint, and values per kind and joint."""

    actions: tuple[int, ...]
    age: tuple[int, ...]
    silent: tuple[int, ...]
    turn: int
    values: tuple[tuple[float, ...], ...]


class StsGroup:
    """The servos of one bus as a BusDevice: one sync read in, one write of all frames out.

    A goal is sent in the 2-byte form from register 42: 3 bytes a joint and firing instead of 8
    (six joints: 0.26 ms of wire instead of 0.56). What a servo must have besides (acceleration,
    time, speed, torque) goes with the first REPEATS firings after a change of a joint's action,
    goal before torque so that nothing jumps. A freed joint is freed again in every firing.
    """

    def __init__(self, options: StsOptions) -> None:
        self.options = options
        self.joints = tuple(joint.name for joint in options.joints)
        self.ids = tuple(joint.id for joint in options.joints)
        self.models: dict[str, str] = {}
        self.counters = dict.fromkeys(
            ("reads", "timeouts", "missing", "checksum", "skipped_bytes", "foreign_id",
             "status_errors", "link_errors", "rejoined", "clamped"), 0
        )  # fmt: skip
        count = len(self.ids)
        self.status = [0] * count  # last error bits per joint, see ERROR_BITS
        self._timeout_ns = int(options.timeout_ms * 1e6)
        self._patience_ns = max(self._timeout_ns, SETUP_TIMEOUT_NS)
        self._index = {servo_id: i for i, servo_id in enumerate(self.ids)}
        self._requests: dict[tuple[int, ...], Exchange] = {}
        self._tail = struct.pack("<HH", 0, options.speed)  # goal time 0: by speed
        self._actions = [Action.NONE] * count
        self._age = [0] * count  # firings since the joint's action changed, up to REPEATS
        self._silent = [0] * count  # reads in a row without an answer
        self._turn = 0
        self._limited_by: tuple[JointRule, ...] = ()  # the rules that _limits is made from
        self._limits: list[tuple[int, int, int]] = []
        unknown = [math.nan] * count
        self._values = [list(unknown) for _ in range(5)]  # as in JointState, last known

    def setup(self) -> Transaction[None]:
        """Find every servo, then torque off, EEPROM where it differs, acceleration; one state.

        Nothing moves: torque goes off before anything else is written, and no goal is written.
        Raises DeviceError: a servo is missing or does not keep a value, or the port failed.
        """
        found = []
        for servo_id in self.ids:
            if (yield from self._ask(servo_id, PING, b"", 0)) is not None:
                found.append(servo_id)
        if len(found) < len(self.ids):
            raise DeviceError(self._missing(found))
        for joint in self.options.joints:
            yield from self._write_checked(joint, "torque_enable", 0)
        for joint in self.options.joints:
            model = yield from self._read_register(joint, "model_number")
            if model in SCS_MODELS:
                raise DeviceError(
                    f"servo.sts: {joint.name} (id {joint.id}) is a {SCS_MODELS[model]}: big-endian "
                    "and without sync read, expected an STS or SMS servo. Replace it."
                )
            self.models[joint.name] = MODELS.get(model, f"model {model}")
            yield from self._settle_eeprom(joint)
            yield from self._write_checked(joint, "acceleration", self.options.acceleration)
        count = len(self.ids)
        self._actions, self._age, self._silent = [Action.NONE] * count, [0] * count, [0] * count
        yield from self.read()
        log.info("servo.sts: %d servos ready, torque off: %s", count, self.models)

    def read(self) -> Transaction[Message]:
        """One JointState from one sync read; a joint that did not answer keeps its last values.

        A joint silent for LOST_AFTER reads is asked only every ASK_EVERY-th time: a dead servo must
        not cost the time-out in every cycle.
        """
        self._turn += 1
        ids = self.ids
        if max(self._silent) >= LOST_AFTER and self._turn % ASK_EVERY:
            ids = tuple(
                i for i, quiet in zip(ids, self._silent, strict=True) if quiet < LOST_AFTER
            ) or self.ids  # fmt: skip
        exchange = self._requests.get(ids)
        if exchange is None:
            exchange = self._requests[ids] = Exchange(
                sync_read(BLOCK_AT, BLOCK.size, ids),
                len(ids) * (OVERHEAD + BLOCK.size),
                self._timeout_ns,
            )
        reply = yield exchange
        ok = self._take(reply, exchange.rx_size)
        position, velocity, load, voltage, temperature = map(np.array, self._values)
        return JointState(
            self.joints, position, velocity, load, voltage, temperature, np.array(ok)
        )  # fmt: skip

    def write(self, decision: Decision) -> Transaction[None]:
        """Carry out what the guard decided: all frames in one exchange, none for `NONE`."""
        for i, action in enumerate(decision.actions):
            if action != self._actions[i]:
                self._actions[i] = action
                self._age[i] = 0
        tx = self._frames(decision, self._age)
        self._age = [min(age + 1, REPEATS) for age in self._age]
        if tx:
            yield Exchange(tx)

    def frames_for(self, decision: Decision) -> bytes:
        """The bytes of `decision` for servos of which nothing is known: full goal, then torque."""
        return self._frames(decision, [0] * len(self.ids))

    @property
    def longest_frame(self) -> int:
        """Of the sync write of acceleration, goal, time and speed to all joints."""
        return OVERHEAD + 2 + 8 * len(self.ids)

    def safe_frames(self, decision: Decision, rules: tuple[JointRule, ...]) -> bytes:
        """As `frames_for`, but no joint is faster than its slew (and its rate, where it has one):
        the servo moves there by itself, and nobody corrects it."""
        if rules is not self._limited_by:
            self._limited_by, self._limits = rules, self._limits_of(rules)
        full = torque = b""
        for i, action in enumerate(decision.actions):
            servo_id, acceleration, speed = self._limits[i]
            if action == _DRIVE:
                ticks = min(max(self._ticks(i, decision), 0), TICKS_PER_TURN - 1)
                full += _FULL.pack(servo_id, acceleration, ticks, 0, speed)
                torque += bytes((servo_id, 1))
            elif action == _FREE:
                torque += bytes((servo_id, 0))
        tx = sync_write(ACCELERATION_AT, 7, full) if full else b""
        return tx + sync_write(TORQUE_AT, 1, torque) if torque else tx

    def snapshot(self) -> StsState:
        """All that the next bytes and states depend on, for keyframes."""
        return StsState(
            tuple(int(action) for action in self._actions),
            tuple(self._age),
            tuple(self._silent),
            self._turn,
            tuple(map(tuple, self._values)),
        )

    def restore(self, state: tuple[Any, ...]) -> None:
        """Back to a snapshot of a group with the same joints."""
        kept = StsState(*state)
        self._actions = [Action(action) for action in kept.actions]
        self._age, self._silent = list(kept.age), list(kept.silent)
        self._turn = kept.turn
        self._values = [list(value) for value in kept.values]

    def _frames(self, decision: Decision, age: list[int]) -> bytes:
        full = short = torque = b""
        for i, joint in enumerate(self.options.joints):
            action = decision.actions[i]
            if action == Action.NONE:
                continue
            if action == Action.FREE:
                torque += bytes((joint.id, 0))
                continue
            ticks = self._ticks(i, decision)
            if not 0 <= ticks < TICKS_PER_TURN:
                self.counters["clamped"] += 1
                ticks = min(max(ticks, 0), TICKS_PER_TURN - 1)
            goal = bytes((ticks & 0xFF, ticks >> 8))
            if age[i] < REPEATS:
                full += bytes((joint.id, self.options.acceleration)) + goal + self._tail
                torque += bytes((joint.id, 1))
            else:
                short += bytes((joint.id,)) + goal
        tx = sync_write(ACCELERATION_AT, 7, full) if full else b""
        if short:
            tx += sync_write(GOAL_AT, 2, short)
        if torque:
            tx += sync_write(TORQUE_AT, 1, torque)
        return tx

    def _ticks(self, index: int, decision: Decision) -> int:
        joint = self.options.joints[index]
        return ticks_of(decision.positions[index], joint.zero, joint.direction)

    def _limits_of(self, rules: tuple[JointRule, ...]) -> list[tuple[int, int, int]]:
        """Per joint: its id, and acceleration and speed as the registers hold them."""
        limits = []
        for servo_id, rule in zip(self.ids, rules, strict=True):
            acceleration = self.options.acceleration
            if rule.rate:
                acceleration = slowest(ticks_per_s(rule.rate) // 100, acceleration, 254)
            speed = slowest(ticks_per_s(rule.slew), self.options.speed, 32767)
            limits.append((servo_id, acceleration, speed))
        return limits

    def _take(self, reply: Reply, rx_size: int) -> list[bool]:
        counters = self.counters
        counters["reads"] += 1
        if reply.error:
            counters["link_errors"] += 1
        elif len(reply.rx) < rx_size:
            counters["timeouts"] += 1
        found = scan(reply.rx, True, BLOCK.size)
        counters["checksum"] += found.bad_checksum
        counters["skipped_bytes"] += found.skipped
        ok = [False] * len(self.ids)
        for servo_id, error, params in found.frames:
            index = self._index.get(servo_id, -1)
            if index < 0 or ok[index]:
                counters["foreign_id"] += 1
            else:
                ok[index] = True
                self._store(index, error, params)
        for index, answered in enumerate(ok):
            if answered:
                if self._silent[index] >= LOST_AFTER:
                    counters["rejoined"] += 1
                self._silent[index] = 0
            else:
                counters["missing"] += 1
                self._silent[index] += 1
        return ok

    def _store(self, index: int, error: int, params: bytes) -> None:
        joint = self.options.joints[index]
        ticks, speed, load, voltage, temperature, status, _, _ = BLOCK.unpack(params)
        self.status[index] = error | status
        if error | status:
            self.counters["status_errors"] += 1
        scale = joint.direction * RAD_PER_TICK
        values = self._values
        values[0][index] = (signed(ticks, 15) - joint.zero) * scale
        values[1][index] = signed(speed, 15) * scale
        values[2][index] = joint.direction * min(max(signed(load, 10) / 1000.0, -1.0), 1.0)
        values[3][index] = voltage / 10.0
        values[4][index] = float(temperature)

    def _ask(self, servo_id: int, inst: int, params: bytes, size: int) -> Transaction[bytes | None]:
        exchange = Exchange(encode(servo_id, inst, params), OVERHEAD + size, self._patience_ns)
        for _ in range(TRIES):
            reply = yield exchange
            if reply.error:
                raise DeviceError(
                    f"servo.sts: set-up stopped at id {servo_id}: {reply.error}. "
                    "Check the adapter and its cable."
                )
            for frame in scan(reply.rx, True, size).frames:
                if frame.id == servo_id:
                    return frame.params
        return None

    def _read_register(self, joint: StsJoint, name: str) -> Transaction[int]:
        register = REGISTERS[name]
        where = bytes((register.address, register.size))
        data = yield from self._ask(joint.id, READ, where, register.size)
        if data is None:
            raise DeviceError(
                f"servo.sts: {joint.name} (id {joint.id}): no answer to a read of {name} within "
                f"{self._patience_ns / 1e6:g} ms, {TRIES} times, though it answered a ping. Check "
                "its supply and cable; two servos may share the id."
            )
        return int.from_bytes(data, "little")

    def _write_checked(self, joint: StsJoint, name: str, value: int) -> Transaction[None]:
        """Write and read back: an acknowledgement may be switched off (register 8)."""
        register = REGISTERS[name]
        data = bytes((register.address,)) + value.to_bytes(register.size, "little")
        found = -1
        for _ in range(TRIES):
            yield Exchange(encode(joint.id, WRITE, data), OVERHEAD, self._patience_ns)
            found = yield from self._read_register(joint, name)
            if found == value:
                return
        raise DeviceError(
            f"servo.sts: {joint.name} (id {joint.id}) does not keep {name} (register "
            f"{register.address}): found {found}, expected {value}. Check its supply voltage."
        )

    def _settle_eeprom(self, joint: StsJoint) -> Transaction[None]:
        """Unlock and write only what differs: EEPROM wears out."""
        differing = []
        for name, wanted in _WIRE.items():
            if (yield from self._read_register(joint, name)) != wanted:
                differing.append((name, wanted))
        if differing:
            yield from self._write_checked(joint, "lock", 0)
            for name, wanted in differing:
                yield from self._write_checked(joint, name, wanted)
            yield from self._write_checked(joint, "lock", 1)

    def _missing(self, found: list[int]) -> str:
        missing = [i for i in self.ids if i not in found]
        answered = f"ids {', '.join(map(str, found))} answered" if found else "nobody answered"
        last = max((i for i, servo_id in enumerate(self.ids) if servo_id in found), default=-1)
        if not found:
            cure = "Check the servo supply, the baud rate and the port"
        elif self.ids[: last + 1] == tuple(found):
            cure = f"Check the cable after id {found[-1]}"
        else:
            cure = f"Check the servo with id {missing[0]}: its plug, or its id"
        return (
            f"servo.sts: no answer from id {', '.join(map(str, missing))} in "
            f"{self._patience_ns / 1e6:g} ms ({answered}). {cure}."
        )


SPEC = DriverSpec(
    kind="servos",
    summary="Feetech STS/SMS bus servos",
    options=StsOptions,
    make=StsGroup,
    link="serial",
    baud=1_000_000,
    emulator="haihe.drivers.servo.sts_emulator:StsEmulator",
)
