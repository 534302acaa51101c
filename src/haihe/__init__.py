"""haihe (海河): edge-AI runtime for robots and smart sensors.

Public names load on first use: `import haihe` itself imports nothing heavy.
"""

import os as _os
from typing import TYPE_CHECKING
from typing import Any as _Any

__version__ = "0.1.0"
_here = _os.path.dirname(_os.path.abspath(__file__))  # pathlib would cost 15 ms
if not _os.path.isdir(_os.path.join(_here, "runtime")):  # a checkout without symbolic links
    __path__.append(_os.path.dirname(_os.path.dirname(_here)))

# onnxruntime 1.29 and later send telemetry unless this is set before their first import
_os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from haihe.drivers.roles import camera, servos
    from haihe.models.detector import detector
    from haihe.pipelines.launch import run, simulate
    from haihe.runtime.contracts import (
        RNG,
        TICK,
        Age,
        Rng,
        Tick,
        age_of,
        aligned,
        fifo,
        frame,
        fresh,
        silent,
        sometimes,
        tunable,
        unit,
    )
    from haihe.runtime.errors import HaiheError
    from haihe.runtime.graph import Graph, feedback, named
    from haihe.runtime.history import History
    from haihe.runtime.node import contract_of, node
    from haihe.runtime.subgraph import subgraph
    from haihe.runtime.transform_tree import TransformTree
    from haihe.runtime.transforms import Transform

_PLACES = {
    "haihe.drivers.roles": ("camera", "servos"),
    "haihe.pipelines.launch": ("run", "simulate"),
    "haihe.models.detector": ("detector",),
    "haihe.runtime.contracts": (
        "RNG", "TICK", "Age", "Rng", "Tick", "age_of", "aligned", "fifo",
        "frame", "fresh", "silent", "sometimes", "tunable", "unit",
    ),
    "haihe.runtime.errors": ("HaiheError",),
    "haihe.runtime.graph": ("Graph", "feedback", "named"),
    "haihe.runtime.history": ("History",),
    "haihe.runtime.node": ("contract_of", "node"),
    "haihe.runtime.subgraph": ("subgraph",),
    "haihe.runtime.transform_tree": ("TransformTree",),
    "haihe.runtime.transforms": ("Transform",),
}  # fmt: skip
_MODULES = {name: module for module, names in _PLACES.items() for name in names}

__all__ = [
    "RNG",
    "TICK",
    "Age",
    "Graph",
    "HaiheError",
    "History",
    "Rng",
    "Tick",
    "Transform",
    "TransformTree",
    "age_of",
    "aligned",
    "camera",
    "contract_of",
    "detector",
    "feedback",
    "fifo",
    "frame",
    "fresh",
    "named",
    "node",
    "run",
    "servos",
    "silent",
    "simulate",
    "sometimes",
    "subgraph",
    "tunable",
    "unit",
]


def __getattr__(name: str) -> _Any:
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module 'haihe' has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
