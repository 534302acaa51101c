"""ONNX Runtime.

Sequential, no spinning, no telemetry, one thread unless asked. Inputs and outputs are numpy arrays
of the session, bound by address: ONNX Runtime does not keep them alive, so they must not be
dropped before the binding (measured: heap corruption, reference/measure-runtime.md section 6).
"""

import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from haihe.models.backends.base import Session, SessionOptions, Shape, TensorSpec, check_file
from haihe.runtime.errors import ModelError

log = logging.getLogger(__name__)
CPU = "CPUExecutionProvider"
_DTYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(uint8)": "uint8",
    "tensor(int8)": "int8",
    "tensor(uint16)": "uint16",
    "tensor(int16)": "int16",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(bool)": "bool",
}


def _runtime() -> Any:
    """The onnxruntime module, imported on first use and after telemetry is switched off."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    return onnxruntime


def _errors() -> tuple[type[Exception], ...]:
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    kinds = [kind for kind in vars(state).values() if isinstance(kind, type)]
    found = tuple(kind for kind in kinds if issubclass(kind, Exception))
    return (*found, ValueError, RuntimeError)


def open_session(path: Path, options: SessionOptions) -> Session:
    """The entry of this backend."""
    return OrtSession(
        path,
        options.sha256,
        options.threads,
        options.providers or (CPU,),
        options.spin,
        allow_fallback=options.allow_fallback,
        shapes=dict(options.shapes),
    )


class OrtSession:
    """A model opened by ONNX Runtime; not for use by two threads at once."""

    def __init__(
        self,
        path: str | Path,
        sha256: str = "",
        threads: int = 1,
        providers: tuple[str, ...] = (CPU,),
        spin: bool = False,
        *,
        allow_fallback: bool = False,
        shapes: dict[str, Shape] | None = None,
    ) -> None:
        self.path = Path(path)
        check_file(self.path, sha256)
        ort = _runtime()
        wanted = self._choose(ort.get_available_providers(), providers, allow_fallback)
        config = self._config(ort, threads, spin)
        if wanted[0] != CPU and not allow_fallback:
            config.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        self._errors = _errors()
        try:
            self._session: Any = ort.InferenceSession(
                str(self.path), config, providers=wanted, enable_fallback=int(allow_fallback)
            )
        except self._errors as exc:
            raise self._explain(exc) from exc
        self.provider: str = self._session.get_providers()[0]
        if self.provider != wanted[0] and not allow_fallback:
            raise ModelError(
                f"{self.path}: ran on {self.provider}, expected {wanted[0]}. Check its driver, or "
                "allow the fallback."
            )
        loose = len(self._session.get_overridable_initializers())
        if loose:
            log.info("%s: %d weights are graph inputs, so nothing is folded", self.path, loose)
        self.inputs = tuple(self._input(arg, shapes or {}) for arg in self._session.get_inputs())
        self._buffers = {spec.name: np.zeros(spec.shape, spec.dtype) for spec in self.inputs}
        self.outputs = self._output_specs()
        self._results = {spec.name: np.empty(spec.shape, spec.dtype) for spec in self.outputs}
        self._binding: Any = self._session.io_binding()
        for name, array in self._buffers.items():
            address = array.ctypes.data
            self._binding.bind_input(name, "cpu", 0, array.dtype.type, array.shape, address)
        for name, array in self._results.items():
            address = array.ctypes.data
            self._binding.bind_output(name, "cpu", 0, array.dtype.type, array.shape, address)

    def _choose(
        self, available: list[str], providers: tuple[str, ...], allow_fallback: bool
    ) -> list[str]:
        wanted = [name for name in providers if name in available]
        if allow_fallback and CPU not in wanted:
            wanted.append(CPU)
        if not wanted or (wanted[0] != providers[0] and not allow_fallback):
            raise ModelError(
                f"{self.path}: provider {providers[0]} is not in this build of onnxruntime, found "
                f"{', '.join(available)}. Install the build that has it, or allow the fallback."
            )
        return wanted

    def _config(self, ort: Any, threads: int, spin: bool) -> Any:
        if threads < 1:
            raise ModelError(f"{self.path}: threads is {threads}, expected 1 or more.")
        config = ort.SessionOptions()
        config.log_severity_level = 3
        config.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        config.intra_op_num_threads = threads
        config.inter_op_num_threads = 1
        config.add_session_config_entry("session.intra_op.allow_spinning", str(int(spin)))
        config.add_session_config_entry("session.inter_op.allow_spinning", str(int(spin)))
        return config

    def _explain(self, exc: Exception) -> ModelError:
        said = str(exc).splitlines()[0]
        kind = type(exc).__name__
        if kind == "InvalidProtobuf" or "No graph was found" in said:
            size = self.path.stat().st_size
            return ModelError(
                f"{self.path}: not an ONNX model, or truncated ({size} bytes). Fetch it again."
            )
        if "is not a registered function/op" in said:
            operator = said.split("Fatal error:")[-1].split("is not")[0].strip().split("(")[0]
            return ModelError(
                f"{self.path}: needs the operator {operator}, which onnxruntime does not have. "
                "Export the model without custom operators, or do that step in pre- or "
                "post-processing."
            )
        return ModelError(f"{self.path}: onnxruntime cannot use it: {kind}: {said}")

    def _dtype(self, arg: Any) -> str:
        if arg.type not in _DTYPES:
            raise ModelError(
                f"{self.path}: {arg.name} is {arg.type}, expected one of {', '.join(_DTYPES)}. "
                "Export the model with tensors only."
            )
        return _DTYPES[arg.type]

    def _input(self, arg: Any, shapes: dict[str, Shape]) -> TensorSpec:
        given = shapes.get(arg.name)
        shape = [size if isinstance(size, int) else None for size in arg.shape]
        if shape and shape[0] is None and given is None:
            shape[0] = 1
        if given is not None:
            fits = len(given) == len(shape)
            if not fits or any(s is not None and s != g for s, g in zip(shape, given, strict=True)):
                raise ModelError(
                    f"{self.path}: input {arg.name} is {arg.shape}, expected {list(given)}. "
                    "Correct layout and size in the manifest."
                )
            shape = list(given)
        known = tuple(size for size in shape if size is not None)
        if len(known) != len(shape):
            raise ModelError(
                f"{self.path}: input {arg.name} has open sizes {arg.shape}. Give its shape."
            )
        return TensorSpec(arg.name, known, self._dtype(arg))

    def _output_specs(self) -> tuple[TensorSpec, ...]:
        """From the file if it says all, else from one run."""
        args = self._session.get_outputs()
        if all(isinstance(size, int) for arg in args for size in arg.shape):
            return tuple(TensorSpec(a.name, tuple(a.shape), self._dtype(a)) for a in args)
        try:
            results = self._session.run(None, self._buffers)
        except self._errors as exc:
            raise self._explain(exc) from exc
        pairs = zip(args, results, strict=True)
        return tuple(TensorSpec(a.name, r.shape, self._dtype(a)) for a, r in pairs)

    def buffer(self, name: str) -> NDArray[Any]:
        """The array of an input: write a frame into it."""
        if name not in self._buffers:
            raise ModelError(
                f"{self.path}: no input {name!r}, found {', '.join(self._buffers)}. Correct "
                "input.name in the manifest."
            )
        return self._buffers[name]

    def run(self) -> dict[str, NDArray[Any]]:
        """Run on the buffers; the same output arrays every time, overwritten by the next run."""
        if self._session is None:
            raise ModelError(f"{self.path}: run after close. Open it again.")
        try:
            self._session.run_with_iobinding(self._binding)
        except self._errors as exc:
            raise self._explain(exc) from exc
        return self._results

    def close(self) -> None:
        """Free the model. Arrays that were handed out stay valid."""
        self._binding = None
        self._session = None
