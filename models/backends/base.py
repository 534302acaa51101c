"""The interface of an inference backend. One file per backend; the file name is its id.

A backend module has `open_session(path, options) -> Session`. A session owns its input and output
arrays for its whole life: the caller writes into `buffer(name)`, calls `run()`, and reads the
outputs before the next run.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from numpy.typing import NDArray

from haihe.runtime import registry
from haihe.runtime.errors import ModelError

Shape = tuple[int, ...]
_LFS = b"version https://git-lfs"


class TensorSpec(NamedTuple):
    """One input or output as it runs: all sizes known; dtype by its numpy name."""

    name: str
    shape: Shape
    dtype: str


@dataclass(frozen=True)
class SessionOptions:
    """How to open a session.

    providers: wanted, best first; () leaves it to the backend. With `allow_fallback` another one
    may run (`Session.provider` says which), else that is an error. shapes: sizes of inputs whose
    file leaves them open. spin: threads wait by spinning; faster alone, a loss beside other work.
    """

    threads: int = 1
    providers: tuple[str, ...] = ()
    allow_fallback: bool = False
    spin: bool = False
    sha256: str = ""
    shapes: Mapping[str, Shape] = field(default_factory=dict)


class Session(Protocol):
    """An opened model."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    provider: str

    def buffer(self, name: str) -> NDArray[Any]:
        """The array of an input: write a frame into it."""
        ...

    def run(self) -> Mapping[str, NDArray[Any]]:
        """Run on the buffers; the same output arrays every time, overwritten by the next run."""
        ...

    def close(self) -> None:
        """Free the model. Arrays that were handed out stay valid."""
        ...


def load_session(backend: str, path: Path, options: SessionOptions) -> Session:
    """Open a model file with the backend of that name (a file in models/backends)."""
    session: Session = registry.load("backend", backend, ModelError).open_session(path, options)
    return session


def check_file(path: Path, sha256: str = "") -> None:
    """Refuse a file that no backend could read. Raises ModelError that says what it is instead."""
    try:
        with path.open("rb") as stream:
            head = stream.read(len(_LFS))
            stream.seek(0)
            found = hashlib.file_digest(stream, "sha256").hexdigest() if sha256 else ""
    except OSError as exc:
        raise ModelError(f"{path}: cannot be read: {exc.strerror}. Check the path.") from exc
    if head == _LFS:
        raise ModelError(
            f"{path}: a Git LFS pointer of {path.stat().st_size} bytes, not a model. "
            "Run: git lfs pull"
        )
    if not head:
        raise ModelError(f"{path}: the file is empty. Fetch the model again.")
    if found != sha256.lower():
        raise ModelError(
            f"{path}: found sha256 {found}, expected {sha256.lower()}. Fetch the model again, or "
            "correct its manifest if the change is meant."
        )
