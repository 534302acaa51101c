"""What is measured: a model with or without a manifest, as stages that can be called.

With a manifest the stages are those of a detector: `pre` (picture to input), `infer`, `post`
(outputs to boxes in the picture). Without one there is `infer` alone, on random numbers or on a
picture whose scaling is a guess, and said to be one.
"""

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from haihe.bench.measure.session import SEED, MeasuredSession, Opening
from haihe.bench.measure.stopwatch import Stage
from haihe.models.manifest import Manifest, find_manifest
from haihe.runtime.errors import ModelError

PICTURE = (480, 640, 3)  # of random pixels, where there is a manifest and no image


@dataclasses.dataclass
class Subject:
    """A model, opened."""

    name: str
    path: Path
    sha256: str
    session: MeasuredSession
    stages: list[Stage]
    input: str  # what it is fed
    warnings: list[str]
    manifest: str = ""

    def close(self) -> None:
        """Free it."""
        self.session.close()


def find_model(model: str) -> tuple[Path, Manifest | None]:
    """The file of a model, and its manifest if there is one: a name in the zoo, the path of a
    manifest, or of an ONNX file (with a manifest of the same name beside it, or without)."""
    path = Path(model)
    if path.suffix == ".onnx" and not path.with_suffix(".yaml").is_file():
        return path, None
    manifest = find_manifest(model)
    return manifest.path(), manifest


def open_subject(model: str, opening: Opening, image: str = "") -> Subject:
    """Open a model for measuring. Raises ModelError."""
    path, manifest = find_model(model)
    if manifest is not None:
        spec = manifest.input
        opening = dataclasses.replace(
            opening, sha256=manifest.sha256, shapes={spec.name: spec.shape, **opening.shapes}
        )
        if manifest.backend != "ort":
            raise ModelError(
                f"{manifest.where.at('backend')}: bench measures models of onnxruntime, found "
                f"{manifest.backend!r}."
            )
    session = MeasuredSession(path, opening)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    subject = Subject(
        manifest.model if manifest else path.stem, path, digest, session,
        [("infer", session.run)], "random", list(session.assumed),
    )  # fmt: skip
    picture = _read(image) if image else None
    if manifest is not None:
        _use_manifest(subject, manifest, picture)
    elif picture is not None:
        _guess(subject, picture)
    if image:
        subject.input = Path(image).name
    return subject


def _use_manifest(subject: Subject, manifest: Manifest, picture: NDArray[Any] | None) -> None:
    from haihe.models.pre.letterbox import Preprocessor

    spec, session = manifest.input, subject.session
    preprocess = Preprocessor(spec, session.buffer(spec.name))
    if picture is None:
        picture = np.random.default_rng(SEED).integers(0, 256, PICTURE, np.uint8)
        subject.input = f"random picture {PICTURE[1]}x{PICTURE[0]}"
    fixed: NDArray[Any] = picture
    decode = manifest.find_decoder()
    state: dict[str, Any] = {"placement": preprocess(fixed), "outputs": {}}

    def pre() -> None:
        state["placement"] = preprocess(fixed)

    def infer() -> None:
        state["outputs"] = session.run()

    def post() -> None:
        raw = decode(state["outputs"], manifest.options, spec.size)
        state["placement"].to_source(raw.boxes)

    subject.stages = [("pre", pre), ("infer", infer), ("post", post)]
    subject.manifest = Path(manifest.where.file).name


def _guess(subject: Subject, picture: NDArray[Any]) -> None:
    """A picture into the first input without a manifest: RGB, floats in 0..1."""
    import cv2

    spec = subject.session.inputs[0]
    planar = len(spec.shape) == 4 and spec.shape[1] in (1, 3)
    if not planar and not (len(spec.shape) == 4 and spec.shape[3] in (1, 3)):
        raise ModelError(
            f"{subject.path}: input {spec.name} is {list(spec.shape)}, not a picture. Leave "
            "--image out, or write a manifest."
        )
    height, width = spec.shape[2:] if planar else spec.shape[1:3]
    channels = spec.shape[1] if planar else spec.shape[3]
    code = cv2.COLOR_BGR2RGB if channels == 3 else cv2.COLOR_BGR2GRAY
    resized = cv2.cvtColor(cv2.resize(picture, (width, height)), code)
    cells = resized.reshape(height, width, channels)
    values = cells.transpose(2, 0, 1) if planar else cells
    if spec.dtype.startswith("float"):
        values = values.astype(np.float32) / 255
    subject.session.buffer(spec.name)[0] = values
    subject.warnings.append(
        "no manifest: the picture went in as RGB, stretched, floats in 0..1, which may not be what "
        "the model was trained on"
    )


def _read(image: str) -> NDArray[Any]:
    import cv2

    found = cv2.imread(image, cv2.IMREAD_COLOR)
    if found is None:
        raise ModelError(f"--image {image}: no picture that OpenCV can read. Check the path.")
    return np.asarray(found)
