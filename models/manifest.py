"""What a pipeline must know about a model: its manifest, one YAML file in models/zoo.

Pre-processing is `(pixel * scale - mean) / std` per channel, after resizing, in the colour order
given. A wrong scale or order gives weaker results and no error, so it is written down here once.
`${HAIHE_REFERENCE}` in a path is the folder of third-party reference data (default `../shared`).
"""

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import yaml

from haihe.models.post.decoder import Decoder, find_decoder
from haihe.runtime import registry
from haihe.runtime.errors import ModelError
from haihe.runtime.yaml_config import NOWHERE, Where, build, compose

ZOO = Path(__file__).parent / "zoo"
_REFERENCE = "${HAIHE_REFERENCE}"


@dataclass(frozen=True)
class Letterbox:
    """Where the picture lies when its shape is kept, and the grey around it."""

    corner: Literal["top-left", "centre"] = "top-left"
    pad: int = 114

    def __post_init__(self) -> None:
        if not 0 <= self.pad <= 255:
            raise ValueError(f"pad is {self.pad}, expected 0..255.")


@dataclass(frozen=True)
class InputSpec:
    """The model's image input. size: width, height in px; mean, std: in the order of `colour`."""

    name: str
    layout: Literal["NCHW", "NHWC"]
    dtype: Literal["uint8", "float32"]
    size: tuple[int, int]
    colour: Literal["BGR", "RGB"]
    resize: Literal["stretch", "letterbox"]
    letterbox: Letterbox = Letterbox()
    scale: float = 1.0
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        if min(self.size) < 1 or max(self.size) > 8192:
            raise ValueError(f"size is {list(self.size)}, expected [width, height] of 1..8192 px.")
        if min(self.std) <= 0:
            raise ValueError(f"std is {list(self.std)}, expected values above 0.")
        if self.dtype == "uint8" and not self.is_identity:
            raise ValueError("scale, mean and std need dtype float32; this input is uint8.")

    @property
    def is_identity(self) -> bool:
        """The model takes pixel values as they are."""
        return self.scale == 1.0 and not any(self.mean) and self.std == (1.0, 1.0, 1.0)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """The tensor's shape, batch 1."""
        width, height = self.size
        return (1, 3, height, width) if self.layout == "NCHW" else (1, height, width, 3)


@dataclass(frozen=True)
class Manifest:
    """One model. options: of its decoder, an instance of that module's `Options`."""

    model: str
    about: str
    file: str
    licence: str
    source: str
    input: InputSpec
    decoder: str
    labels: tuple[str, ...] | str
    sha256: str = ""
    backend: str = "ort"
    options: Any = None
    accuracy: dict[str, Any] = field(default_factory=dict)
    where: Where = NOWHERE

    def __post_init__(self) -> None:
        if self.sha256 and not (
            len(self.sha256) == 64 and set(self.sha256) <= set("0123456789abcdef")
        ):
            raise ValueError(f"sha256 is {self.sha256!r}, expected 64 digits 0-9a-f.")

    def find_decoder(self) -> Decoder:
        """The decoder's function."""
        return find_decoder(self.decoder)[0]

    def path(self) -> Path:
        """The model file. Raises ModelError if it is absent."""
        return self._resolve(self.file, "file")

    def read_labels(self) -> tuple[str, ...]:
        """The label of each class."""
        if isinstance(self.labels, tuple):
            return self.labels
        try:
            text = self._resolve(self.labels, "labels").read_text(encoding="utf-8")
        except UnicodeDecodeError as exc:
            place = self.where.at("labels")
            raise ModelError(f"{place}: not UTF-8. Write one label a line.") from exc
        return tuple(line.strip() for line in text.splitlines() if line.strip())

    def _resolve(self, name: str, key: str) -> Path:
        reference = os.environ.get("HAIHE_REFERENCE") or str(Path.cwd().parent / "shared")
        path = Path(self.where.file).parent / name.replace(_REFERENCE, reference)
        if not path.is_file():
            cure = "Check the path."
            if _REFERENCE in name:
                cure = "Set HAIHE_REFERENCE to the folder of the reference data (with models/)."
            raise ModelError(f"{self.where.at(key)}: no file {path}. {cure}")
        return path


def load_manifest(path: str | Path) -> Manifest:
    """Read a manifest. Raises ModelError with the file, line and key."""
    root = compose(path, ModelError)
    manifest = build(Manifest, root, str(path), ModelError)
    try:
        _, options_type = find_decoder(manifest.decoder)
    except ModelError as exc:
        raise ModelError(f"{manifest.where.at('decoder')}: {exc}") from exc
    node = _options_node(root)
    if node is None:
        node = yaml.MappingNode("tag:yaml.org,2002:map", [], root.start_mark, root.end_mark)
    options = build(options_type, node, str(path), ModelError, "options")
    return replace(manifest, options=options)


def _options_node(root: yaml.Node) -> yaml.Node | None:
    return next((value for key, value in root.value if key.value == "options"), None)


def find_manifest(model: str) -> Manifest:
    """By name in the zoo, by the path of a manifest, or of a model with one beside it."""
    path = Path(model)
    if path.suffix == ".onnx":
        path = path.with_suffix(".yaml")
    elif path.suffix not in (".yaml", ".yml"):
        path = registry.find_data("model", model, ModelError)
    return load_manifest(path)
