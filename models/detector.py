"""A detector: a model of the zoo as a callable from an image to detections."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from haihe.runtime.errors import ModelError
from haihe.runtime.node import node
from haihe.runtime.types import F32, U8, Detections, Image

if TYPE_CHECKING:
    from haihe.models.backends.base import Session
    from haihe.models.manifest import Manifest
    from haihe.models.post.decoder import Decoder
    from haihe.models.pre.letterbox import Preprocessor

WARM_UP_RUNS = 2
GREY = 114


@dataclass(slots=True)
class _Opened:
    manifest: "Manifest"
    session: "Session"
    preprocess: "Preprocessor"
    decode: "Decoder"
    labels: tuple[str, ...]


@node(recorded=True)
@dataclass
class Detector:
    """Finds the objects that a model knows.

    model: a name in the zoo, or the path of a manifest, or of a model with a manifest beside it.
    threshold: of the score, 0 takes the manifest's; a tracker may want weaker detections too.
    Opened by the runtime before its lane is ready; for one thread. Boxes are in px of the image,
    clipped to it, best score first. Raises ModelError.
    """

    model: str
    threads: int = 1
    threshold: float = 0.0
    _opened: _Opened | None = field(default=None, init=False, repr=False, compare=False)
    _broken: int = field(default=0, init=False, repr=False, compare=False)

    def open(self) -> None:
        """Load the model and run it twice, so that the first frame costs as much as the next."""
        from haihe.models.backends.base import SessionOptions, load_session
        from haihe.models.manifest import find_manifest
        from haihe.models.pre.letterbox import Preprocessor

        self.close()
        manifest = find_manifest(self.model)
        if self.threshold:
            options: Any = replace(manifest.options, threshold=self.threshold)
            manifest = replace(manifest, options=options)
        spec, labels = manifest.input, manifest.read_labels()
        settings = SessionOptions(
            threads=self.threads, sha256=manifest.sha256, shapes={spec.name: spec.shape}
        )
        path, session = manifest.path(), None
        try:
            session = load_session(manifest.backend, path, settings)
            fill = Preprocessor(spec, session.buffer(spec.name))
            opened = _Opened(manifest, session, fill, manifest.find_decoder(), labels)
            width, height = spec.size
            grey = Image(np.full((height, width, 3), GREY, np.uint8))
            for _ in range(WARM_UP_RUNS):
                self._detect(opened, grey)
        except ModelError as exc:
            if session is not None:
                session.close()
            raise ModelError(f"{manifest.where}: {exc}") from exc
        self._broken = 0
        self._opened = opened

    def close(self) -> None:
        """Free the model. Harmless if it is not open."""
        opened, self._opened = self._opened, None
        if opened is not None:
            opened.session.close()

    def __call__(self, image: Image) -> Detections:
        """The objects in a BGR image of any size."""
        if self._opened is None:
            raise ModelError(
                f"detector {self.model!r}: called before open(). The runtime opens it; without "
                "one, call open() first."
            )
        return self._detect(self._opened, image)

    @property
    def node_name(self) -> str:
        """The name of the node in a graph: the model's."""
        stem = self.model.rsplit("/", 1)[-1].partition(".")[0]
        return "".join(c if c.isalnum() else "_" for c in stem)

    @property
    def provider(self) -> str:
        """What really runs the model; empty if it is not open."""
        return self._opened.session.provider if self._opened else ""

    @property
    def labels(self) -> tuple[str, ...]:
        """The label of each class; empty if it is not open."""
        return self._opened.labels if self._opened else ()

    @property
    def counters(self) -> dict[str, int]:
        """broken: boxes dropped because they were not finite, or of a class without a label."""
        return {"broken": self._broken}

    def _detect(self, opened: _Opened, image: Image) -> Detections:
        placement = opened.preprocess(image.data)
        outputs = opened.session.run()
        with np.errstate(over="ignore", invalid="ignore"):  # a broken model: counted below
            raw = opened.decode(outputs, opened.manifest.options, opened.manifest.input.size)
            boxes, scores, classes = placement.to_source(raw.boxes), raw.scores, raw.classes
        is_sound = np.isfinite(boxes).all(axis=1) & np.isfinite(scores)
        is_sound &= (classes >= 0) & (classes < len(opened.labels))
        self._broken += len(boxes) - int(np.count_nonzero(is_sound))
        _clip(boxes, image.data)
        is_sound &= (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        keep = np.flatnonzero(is_sound)
        keep = keep[np.argsort(-scores[keep], kind="stable")]
        return Detections(
            boxes[keep],
            scores[keep].astype(np.float32, copy=False),
            classes[keep].astype(np.int64, copy=False),
            opened.labels,
            image.camera,
        )


def detector(model: str, threads: int = 1, threshold: float = 0.0) -> Callable[[Image], Detections]:
    """A detector node: `detector("part")(cam.image)`. See `Detector`."""
    return Detector(model, threads, threshold)


def _clip(boxes: F32, picture: U8) -> None:
    height, width = picture.shape[:2]
    np.clip(boxes[:, 0::2], 0, width, out=boxes[:, 0::2])
    np.clip(boxes[:, 1::2], 0, height, out=boxes[:, 1::2])
