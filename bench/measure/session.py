"""A model opened for measuring: any ONNX file, with nothing said about it.

The session is the runtime's own (models/backends/ort.py: bound buffers, one thread, no spinning),
so that what is measured is what runs. On top: open sizes are filled in, the first run is kept
apart, the nodes of each provider are counted, and operators can be profiled.
"""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from haihe.models.backends.base import Shape, TensorSpec
from haihe.models.backends.ort import CPU, OrtSession
from haihe.runtime.clock import now_ns
from haihe.runtime.errors import ModelError

SIDE = 224  # px, of a picture whose file leaves its size open
SEED = 20240


@dataclasses.dataclass(frozen=True)
class Opening:
    """How a model is opened. shapes: of inputs; sizes the file leaves open are filled in."""

    threads: int = 1
    spin: bool = False
    provider: str = ""
    shapes: dict[str, Shape] = dataclasses.field(default_factory=dict)
    sha256: str = ""
    profile: Path | None = None  # where ONNX Runtime writes its profile


class MeasuredSession(OrtSession):
    """An OrtSession that was watched while it opened. Raises ModelError."""

    def __init__(self, path: Path, opening: Opening) -> None:
        self.assumed: list[str] = []  # sizes that nobody stated
        self.first_ns = 0  # the first run, 0 until it was made
        self._opening = opening
        self._inside_ns = 0
        provider = provider_name(opening.provider or CPU)  # imports onnxruntime: not the load
        begun = now_ns()
        try:
            super().__init__(
                path, opening.sha256, opening.threads, (provider,), opening.spin,
                shapes=dict(opening.shapes),
            )  # fmt: skip
        except ModelError as exc:
            if not self.assumed:
                raise
            raise ModelError(f"{exc} Sizes were assumed: {'; '.join(self.assumed)}.") from exc
        self.load_ns = now_ns() - begun - self._inside_ns
        unknown = sorted(set(opening.shapes) - {spec.name for spec in self.inputs})
        if unknown:
            names = ", ".join(spec.name for spec in self.inputs)
            raise ModelError(f"{path}: no input {unknown[0]!r}, found {names}. Correct --shape.")

    def _config(self, ort: Any, threads: int, spin: bool) -> Any:
        config = super()._config(ort, threads, spin)
        config.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        if self._opening.profile is not None:
            config.enable_profiling = True
            config.profile_file_prefix = str(self._opening.profile)
        return config

    def _input(self, arg: Any, shapes: dict[str, Shape]) -> TensorSpec:
        if arg.name not in shapes:
            filled = fill_open(arg.shape)
            if filled[1:] != tuple(arg.shape[1:]):
                self.assumed.append(
                    f"input {arg.name} is {list(arg.shape)}: took {list(filled)}. Say another "
                    f"with --shape {arg.name}={'x'.join(map(str, filled))}"
                )
            shapes = {**shapes, arg.name: filled}
        return super()._input(arg, shapes)

    def _output_specs(self) -> tuple[TensorSpec, ...]:
        """May have to run the model once, where the file leaves the sizes of outputs open: that
        run is the first."""
        begun = now_ns()
        self.fill_random()
        sizes = [size for arg in self._session.get_outputs() for size in arg.shape]
        filled = now_ns()
        specs = super()._output_specs()
        if not all(isinstance(size, int) for size in sizes):
            self.first_ns = now_ns() - filled
        self._inside_ns = now_ns() - begun
        return specs

    def fill_random(self) -> None:
        """The same numbers every time: uniform in 0..1, bytes in 0..255, indices all zero."""
        rng = np.random.default_rng(SEED)
        for array in self._buffers.values():
            array[...] = _random(rng, array)

    def time_first(self) -> None:
        """Make the first run, if it was not made while opening."""
        if not self.first_ns:
            begun = now_ns()
            self.run()
            self.first_ns = now_ns() - begun

    def count_nodes(self) -> dict[str, int]:
        """Nodes of the model by the provider that runs them; empty where the build cannot say."""
        ask = getattr(self._session, "get_provider_graph_assignment_info", None)
        counts: dict[str, int] = {}
        for part in ask() if ask is not None else ():
            counts[part.ep_name] = counts.get(part.ep_name, 0) + len(part.get_nodes())
        return counts

    def end_profile(self) -> Path:
        """Stop profiling; the file that ONNX Runtime wrote."""
        return Path(self._session.end_profiling())


def provider_name(written: str) -> str:
    """`cuda` as ONNX Runtime writes it: `CUDAExecutionProvider`. Others are left as they are."""
    import onnxruntime

    known = [*onnxruntime.get_available_providers(), *onnxruntime.get_all_providers()]
    for name in known:
        if written.casefold() in (
            name.casefold(),
            name.removesuffix("ExecutionProvider").casefold(),
        ):
            return str(name)
    return written


def fill_open(shape: list[Any]) -> Shape:
    """Open sizes become 1, the sides of a picture (three or one channels) 224."""
    sides: tuple[int, ...] = ()
    if len(shape) == 4:
        sides = (2, 3) if shape[1] in (1, 3) else (1, 2) if shape[3] in (1, 3) else ()
    return tuple(
        size if isinstance(size, int) and size > 0 else SIDE if index in sides else 1
        for index, size in enumerate(shape)
    )


def parse_shape(text: str) -> tuple[str, Shape]:
    """Read `name=1x3x224x224`. Raises ModelError."""
    name, equals, sizes = text.rpartition("=")
    parts = sizes.split("x")
    if not equals or not name or not all(p.isdecimal() and int(p) > 0 for p in parts):
        raise ModelError(f"--shape {text}: write NAME=1x3x224x224.")
    return name, tuple(int(part) for part in parts)


def _random(rng: np.random.Generator, array: NDArray[Any]) -> NDArray[Any]:
    if array.dtype == np.uint8:
        return rng.integers(0, 256, array.shape, np.uint8)
    if array.dtype.kind == "f":
        return rng.random(array.shape).astype(array.dtype)
    return np.zeros_like(array)
