"""A user's file, written to disk and imported, so that errors can be asked for its lines."""

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from haihe.runtime.errors import HaiheError

PREAMBLE = """\
import copy
import math
import pickle
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Generic, NamedTuple, TypeVar

import numpy as np

from haihe import (
    RNG, TICK, Age, Graph, Rng, Tick, age_of, camera, contract_of, detector, feedback, fifo, fresh,
    named, node, servos, silent, sometimes, unit,
)
from haihe.types import Detections, Image, JointCommand, JointState, Message, Reading

M = TypeVar("M", bound=Message)


class Precise(Reading):
    sigma: float = 0.0


class Pair(NamedTuple):
    left: Image
    right: Image


@node(every="20ms")
def aim(
    parts: Annotated[Detections, fresh("120ms")],
    neck: Annotated[JointState, fresh("25ms")],
    gain: float = 0.3,
) -> JointCommand:
    return neck.towards(parts.best(), gain)


@node
def hold(value: M) -> M:
    return value


@node
def split(image: Image) -> Pair:
    return Pair(image, image)


@node
def light(image: Image) -> Reading:
    return Reading(float(image.data.mean()))


@node
@dataclass
class Mean:
    count: int = 3
    _sum: float = 0.0

    def __call__(self, value: Reading) -> Reading:
        self._sum += value.value
        return Reading(self._sum / self.count)


"""


def load(folder: Path, source: str) -> ModuleType:
    """Write `source` after the preamble to `app.py` and import it."""
    path = folder / "app.py"
    path.write_text(PREAMBLE + source)
    spec = importlib.util.spec_from_file_location("app", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    before = sys.modules.get("app")
    sys.modules["app"] = module
    try:
        spec.loader.exec_module(module)
    finally:
        if before is None:
            del sys.modules["app"]
        else:
            sys.modules["app"] = before
    return module


def places(folder: Path) -> dict[str, str]:
    """`file:line` of each marker comment, `# here` and `# there`."""
    path = folder / "app.py"
    lines = enumerate(path.read_text().splitlines(), start=1)
    found = {}
    for number, line in lines:
        if match := re.search(r"# (here|there)$", line):
            found[match[1]] = f"{path}:{number}"
    return found


def said(folder: Path, message: str) -> str:
    """`message` with the places in it: HERE, THERE and FILE."""
    marks = places(folder)
    message = message.replace("THERE", marks.get("there", "?"))
    return message.replace("HERE", marks.get("here", "?")).replace("FILE", str(folder / "app.py"))


def refuses(folder: Path, source: str, error: type[HaiheError], message: str) -> None:
    """Importing the file raises that error with exactly that message."""
    with pytest.raises(error) as caught:
        load(folder, source)
    assert str(caught.value) == said(folder, message)


def in_graph(code: str) -> str:
    """Lines inside `with Graph("app") as g:`, a camera, servos and a model at hand."""
    lines = ['with Graph("app") as g:', '    cam, neck = camera("front"), servos("neck")']
    lines += ["    " + line for line in code.splitlines()]
    return "\n".join(lines) + "\n"
