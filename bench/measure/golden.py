"""Golden outputs: what a model must still give, so that a fast but broken path cannot win.

A golden file (.npz) holds one set of inputs and the outputs that went with them. Another build,
provider or quantisation is run on the same inputs; per output the cosine similarity is compared.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from haihe.bench.measure.session import MeasuredSession
from haihe.runtime.errors import ModelError

LEAST_COSINE = 0.999


class Likeness(NamedTuple):
    """The worst of all outputs."""

    cosine: float
    difference: float  # largest absolute


def save_golden(session: MeasuredSession, path: Path) -> None:
    """Write the inputs as they are now, and what the model gives for them. Raises OSError."""
    outputs = session.run()
    arrays = {f"in/{spec.name}": session.buffer(spec.name) for spec in session.inputs}
    arrays |= {f"out/{name}": array for name, array in outputs.items()}
    with path.open("wb") as stream:  # a stream: numpy would add .npz to a path
        np.savez_compressed(stream, allow_pickle=False, **arrays)


def check_golden(session: MeasuredSession, path: Path, least: float = LEAST_COSINE) -> Likeness:
    """Run on the golden inputs and compare. Raises ModelError when the outputs are not alike; the
    inputs are put back afterwards."""
    kept = {spec.name: session.buffer(spec.name).copy() for spec in session.inputs}
    golden = _read(path)
    _same_names(path, "in", golden, [spec.name for spec in session.inputs])
    _same_names(path, "out", golden, [spec.name for spec in session.outputs])
    for spec in session.inputs:
        wanted = golden[f"in/{spec.name}"]
        if wanted.shape != spec.shape or wanted.dtype != spec.dtype:
            raise ModelError(
                f"{path}: input {spec.name} is {list(wanted.shape)} {wanted.dtype}, the model has "
                f"{list(spec.shape)} {spec.dtype}. Make the golden file of this model again."
            )
        session.buffer(spec.name)[...] = wanted
    outputs = session.run()
    worst, difference = 1.0, 0.0
    for name, array in outputs.items():
        expected = golden[f"out/{name}"]
        found = cosine(array, expected)
        if not found >= least:
            raise ModelError(
                f"{session.path}: output {name} has cosine {found:.6f} to {path.name}, expected "
                f"{least:g} or more. The model or its provider computes something else."
            )
        worst = min(worst, found)
        if array.size:
            gap = np.abs(array.astype(np.float64) - expected.astype(np.float64)).max()
            difference = max(difference, float(gap))
    for name, array in kept.items():
        session.buffer(name)[...] = array
    return Likeness(worst, difference)


def cosine(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Cosine similarity; 1 for equal arrays, nan where shapes differ or a value is not finite."""
    if a.shape != b.shape:
        return float("nan")
    x, y = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        return float("nan")
    if np.array_equal(x, y):
        return 1.0
    size = float(np.linalg.norm(x) * np.linalg.norm(y))
    return float(x @ y / size) if size else 0.0


def _read(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError) as exc:
        raise ModelError(
            f"{path}: no golden file ({exc}). Make one with --save-golden {path}."
        ) from exc


def _same_names(path: Path, kind: str, golden: dict[str, Any], names: list[str]) -> None:
    found = sorted(n.partition("/")[2] for n in golden if n.startswith(f"{kind}/"))
    if found != sorted(names):
        raise ModelError(
            f"{path}: it has {kind}puts {', '.join(found) or 'none'}, the model "
            f"{', '.join(sorted(names))}. Make the golden file of this model again."
        )
