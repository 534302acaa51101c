"""Strict YAML into dataclasses: values, places in errors, and hostile files."""

import re
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from haihe.runtime.errors import BoardError, ModelError
from haihe.runtime.types import Intrinsics
from haihe.runtime.yaml_config import NOWHERE, Si, Where, build, compose, load, loads


class Colour(Enum):
    BGR = "bgr"
    RGB = "rgb"


@dataclass(frozen=True)
class Joint:
    id: int
    position: Annotated[float, Si("rad")] = 0.0
    speed: Annotated[float, Si("rad/s")] | None = None


@dataclass(frozen=True)
class Serial:
    kind: Literal["serial"]
    port: Path
    baud: int = 115200


@dataclass(frozen=True)
class Tcp:
    kind: Literal["tcp"]
    host: str


@dataclass(frozen=True)
class Device:
    joints: dict[str, Joint]
    link: Serial | Tcp | None = None
    where: Where = NOWHERE


@dataclass(frozen=True)
class Unit:
    name: str
    devices: dict[str, Device] = field(default_factory=dict)
    size: tuple[int, int] = (0, 0)
    labels: tuple[str, ...] | str = ()
    colour: Colour = Colour.BGR
    mode: Literal["fast", "slow", 3] = "fast"
    gain: float = 1.0
    value: str | float = 0.0
    enabled: bool = True
    camera: Intrinsics | None = None
    notes: Any = None
    kind: str = field(default="", metadata={"key": "class"})

    def __post_init__(self) -> None:
        if self.gain < 0:
            raise ValueError(f"gain is {self.gain}, expected 0 or more.")


GOOD = """
name: 007
devices:
  neck:
    joints:
      pan: {id: 1, position: 90deg, speed: 60rpm}
      tilt: {id: 0x02, position: 0.5}
    link: {kind: serial, port: /dev/ttyUSB0}
  base: {joints: {}, link: {kind: tcp, host: 10.0.0.1}}
size: [640, 480]
labels: [no, on, 12, "null", 螺丝]
colour: rgb
mode: 3
gain: 2
value: 1e-3
camera: {width: 640, height: 480, fx: 500, fy: 500, cx: 320, cy: 240}
notes: {a: [1, 1.5, true, ~, yes, 010, 1_0, 12:30]}
class: head
"""


def test_values() -> None:
    unit = loads(GOOD, Unit)
    pan, tilt = unit.devices["neck"].joints.values()
    assert unit.name == "007"
    assert (pan.id, tilt.id, tilt.position, tilt.speed) == (1, 2, 0.5, None)
    assert pan.position == pytest.approx(1.5707963)
    assert pan.speed == pytest.approx(6.2831853)
    assert unit.devices["neck"].link == Serial("serial", Path("/dev/ttyUSB0"))
    assert unit.devices["base"].link == Tcp("tcp", "10.0.0.1")
    assert unit.size == (640, 480)
    assert unit.labels == ("no", "on", "12", "null", "螺丝")
    assert (unit.colour, unit.mode, unit.gain) == (Colour.RGB, 3, 2.0)
    assert isinstance(unit.gain, float)
    assert unit.value == 0.001
    assert unit.camera == Intrinsics(640, 480, 500.0, 500.0, 320.0, 240.0)
    assert unit.notes == {"a": [1, 1.5, True, None, "yes", "010", "1_0", "12:30"]}
    assert unit.kind == "head"
    assert loads("{name: x, value: text, labels: coco.names}", Unit).labels == "coco.names"


def test_where_gives_the_place_of_a_mapping_and_its_keys() -> None:
    where = loads(GOOD, Unit, "unit.yaml").devices["neck"].where
    assert str(where) == "unit.yaml:5:5: devices.neck"
    assert str(where.at("link")) == "unit.yaml:8:5: devices.neck.link"
    assert str(where.at("absent")) == "unit.yaml:5:5: devices.neck.absent"


ERRORS = [
    (
        "name: x\ndevices:\n  neck:\n    joints:\n      pan:\n        id: 1\n        positon: 2",
        "unit.yaml:7:9: devices.neck.joints.pan: unknown key 'positon'. Did you mean 'position'?",
    ),
    ("name: x\nzzz: 1", "unit.yaml:2:1: unknown key 'zzz'. Known: name, devices, size"),
    ("size: [1, 2]", "unit.yaml:1:1: the key 'name' is missing (text)."),
    (
        "name: x\nsize: [1, 2, 3]",
        "unit.yaml:2:7: size: found 3 values, expected 2. Write a list of 2.",
    ),
    ("name: x\nsize: [1, a]", "unit.yaml:2:11: size[1]: found 'a', expected a whole number."),
    ("name: x\nsize: [1, 2.5]", "size[1]: found 2.5, expected a whole number."),
    ("name: x\nsize: 3", "2:7: size: found 3, expected a list of 2."),
    ("name: x\nsize: [true, 1]", "size[0]: found True, expected a whole number."),
    ("name: x\nsize: [010, 1]", "size[0]: found '010', expected a whole number."),
    ("name: x\ngain: .nan", "gain: found '.nan', expected a number."),
    ("name: x\ngain: 1e999", "gain: found inf, expected a number."),
    ("name: x\ngain: '1'", "gain: found '1', expected a number."),
    ("name: x\ngain: -1", "unit.yaml:1:1: gain is -1.0, expected 0 or more."),
    ("name: x\nenabled: yes", "enabled: found 'yes', expected true or false."),
    ("name: [x]", "1:7: name: found a list, expected text."),
    ("name: {x: 1}", "name: found a mapping, expected text."),
    ("name:", "name: found nothing, expected text."),
    ("name: x\ncolour: rbg", "colour: found 'rbg', expected 'bgr' or 'rgb'. Did you mean 'rgb'?"),
    ("name: x\nmode: slo", "found 'slo', expected 'fast' or 'slow' or 3. Did you mean 'slow'?"),
    (
        "name: x\ndevices: {a: {joints: {p: {id: 1, position: 3m}}}}",
        "devices.a.joints.p.position: '3m' has the wrong dimension: found m, expected something "
        "like rad.",
    ),
    (
        "name: x\ndevices: {a: {joints: {p: {id: 1, position: 3dg}}}}",
        "2:45: devices.a.joints.p.position: unit 'dg': 'dg' is not a unit. Did you mean 'deg'?",
    ),
    (
        "name: x\ndevices: {a: {joints: {p: {id: 1, position: [1]}}}}",
        "p.position: found a list, expected a quantity like '1 rad'.",
    ),
    (
        "name: x\ndevices: {a: {joints: {}, link: {kind: serail, port: x}}}",
        "devices.a.link.kind: found 'serail', expected 'serial' or 'tcp'. Did you mean 'serial'?",
    ),
    (
        "name: x\ndevices: {a: {joints: {}, link: {port: x}}}",
        "devices.a.link: the key 'kind' is missing. It says what this is: 'serial' or 'tcp'.",
    ),
    ("name: x\nname: y", "unit.yaml:2:1: key 'name' is already on line 1. Remove one."),
    ("name: x\n<<: {gain: 1}", "2:1: merge keys are not read. Write the keys out."),
    ("name: x\n? [a, b]\n: 1", "2:3: a key is a list or a mapping. Write a name."),
    (
        "name: !!python/object/apply:os.system [id]",
        "1:7: name: the tag 'tag:yaml.org,2002:python/object/apply:os.system' is not read.",
    ),
    ("name: !secret x", "1:7: name: the tag '!secret' is not read. Remove it."),
    ("name: x\n  bad: [", "unit.yaml:2:6: not valid YAML: mapping values are not allowed"),
    ("name: x\n---\nname: y", "not valid YAML: expected a single document"),
    ("name: \x07", "unit.yaml: not valid YAML: "),
    ("", "unit.yaml: the file is empty. Write its keys."),
    ("# only a comment", "unit.yaml: the file is empty."),
    ("- 1", "unit.yaml:1:1: found a list, expected a mapping."),
    ("name: x\nnotes: &a [*a]", "nested deeper than 40 levels. Write it flatter."),
    ("name: x\nnotes: " + "[" * 60 + "]" * 60, "nested deeper than 40 levels."),
    ("name: x\nnotes: " + "[" * 5000 + "]" * 5000, "unit.yaml"),
    ("- " * 5000, "unit.yaml"),
]


@pytest.mark.parametrize(("text", "message"), ERRORS, ids=range(len(ERRORS)))
def test_errors_name_the_place_and_the_cure(text: str, message: str) -> None:
    with pytest.raises(BoardError, match=re.escape(message)) as caught:
        loads(text, Unit, "unit.yaml")
    assert str(caught.value).startswith("unit.yaml")


def test_an_alias_bomb_is_refused_fast() -> None:
    rows = ["name: x", "notes:", "  - &l0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    for i in range(1, 12):
        rows.append(f"  - &l{i} [{', '.join([f'*l{i - 1}'] * 10)}]")
    with pytest.raises(BoardError, match=r"over 100000 values after aliases. Write fewer aliases."):
        loads("\n".join(rows), Unit)


def test_a_harmless_alias_is_read() -> None:
    text = "name: x\ndevices:\n  a: &neck {joints: {pan: {id: 1}}}\n  b: *neck"
    devices = loads(text, Unit).devices
    assert devices["a"].joints == devices["b"].joints == {"pan": Joint(1)}


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "unit.yaml"
    path.write_bytes(b"\xef\xbb\xbfname: \xe4\xb8\xad\r\n")
    assert load(path, Unit).name == "中"
    assert build(Unit, compose(path)) == Unit("中")
    path.write_bytes(b"gain: 1\nname: \xff")
    with pytest.raises(ModelError, match=r"unit.yaml:2: not UTF-8. Save the file as UTF-8."):
        load(path, Unit, ModelError)
    path.write_text("# " + "x" * (1 << 20))
    with pytest.raises(BoardError, match=r"unit.yaml: larger than 1048576 bytes."):
        load(path, Unit)
    with pytest.raises(BoardError, match=r"absent.yaml: cannot be read: No such file"):
        load(tmp_path / "absent.yaml", Unit)
    with pytest.raises(BoardError, match=r"cannot be read: Is a directory. Check the path."):
        load(tmp_path, Unit)


def test_the_cause_is_kept() -> None:
    with pytest.raises(BoardError) as caught:
        loads("name: x\ngain: -1", Unit)
    assert isinstance(caught.value.__cause__, ValueError)
