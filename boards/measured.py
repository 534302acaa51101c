"""What nodes cost on a board, as measured: the record and its reader; `haihe bench` writes it.

`$XDG_DATA_HOME/haihe/costs/BOARD.json` (default `~/.local/share`) is the user's, of this machine;
`boards/costs/BOARD.yaml` came with haihe. A cost without the clock, the sample count and the
settings it was measured at is no cost.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from haihe.runtime.errors import BoardError
from haihe.runtime.yaml_config import load

PROTOCOL = "haihe-bench-1"  # the method; frozen, see bench/measure/protocol.py
FOLDER = Path(__file__).with_name("costs")


class Machine(msgspec.Struct):
    """What it ran on: the fingerprint. Serial numbers, MACs and host names are never in it."""

    board: str = ""  # id of the compute profile
    model: str = ""  # as the machine names itself
    soc: str = ""
    cores: list[str] = []  # one text per cpu: class and highest frequency
    memory_bytes: int = 0
    kernel: str = ""
    python: str = ""
    packages: dict[str, str] = {}
    is_emulated: bool = False  # qemu-user, a fake root: never publish such a result
    is_virtual: bool = False  # a guest under a hypervisor


class Cost(msgspec.Struct):
    """One model on one board in one setting.

    p99_ns: None when the samples do not carry it. cpu_ns: of the whole process in one run.
    clock_khz: highest of all policies at the end, None where it is not told. gil_held: share of a
    run in which the calling thread computes outside session.run (which lets go of the GIL): the
    thread's CPU time minus the time inside session.run, over the whole. OpenCV and NumPy let go
    of it too, so it is at most that. None where it cannot be told: no stages, several threads.
    """

    sha256: str
    p50_ns: float
    p99_ns: float | None
    max_ns: float
    samples: int
    cpu_ns: float
    threads: int
    cores: list[int]
    spin: bool
    provider: str
    clock_khz: int | None
    throttled: int
    measured: float  # wall time, s since 1970
    gil_held: float | None = None


class Costs(msgspec.Struct):
    """The file. models: by name, a cost for each setting (threads, cores, spin, provider)."""

    board: str
    machine: Machine
    models: dict[str, list[Cost]] = {}
    protocol: str = PROTOCOL

    def of(self, sha256: str) -> list[Cost]:
        """Every cost of a model, by what is in its file."""
        return [cost for costs in self.models.values() for cost in costs if cost.sha256 == sha256]


def costs_path(board: str) -> Path:
    """Where the user's costs of a board are kept."""
    base = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(base) / "haihe" / "costs" / f"{board}.json"


def read_costs(path: Path) -> Costs | None:
    """The file, None if there is none yet. Raises BoardError for a damaged one."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Costs)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as exc:
        raise BoardError(f"{path}: not a cost file: {exc}. Move it away.") from exc


def read_promoted(path: Path) -> Costs:
    """Costs as a maintainer took them into the tree. Raises BoardError."""
    return load(path, Costs, BoardError)


def all_costs() -> Iterator[Costs]:
    """Every cost file there is, the user's own first. Raises BoardError for a damaged one."""
    for path in sorted(costs_path("x").parent.glob("*.json")):
        costs = read_costs(path)
        if costs is not None:
            yield costs
    for path in sorted(FOLDER.glob("*.yaml")):
        if path.stem != "reference":
            yield read_promoted(path)
