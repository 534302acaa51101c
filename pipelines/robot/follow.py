"""A pan-tilt head follows a part: camera, detector, tracker, guarded servos."""

from haihe.drivers.roles import camera, servos
from haihe.models.detector import detector
from haihe.pipelines.nodes.pursue import Pursue
from haihe.runtime.graph import Graph


def build(
    model: str = "part",
    label: str = "washer",
    predict: bool = True,
    lag_s: float = 0.030,
    threshold: float = 0.2,
) -> Graph:
    """The graph. model: detector in the zoo; label: which of its parts to follow; threshold: of
    the weakest detection that the tracker is shown."""
    with Graph("follow") as g:
        cam, neck = camera("front"), servos("neck")
        pursue = Pursue(label, predict=predict, lag_s=lag_s)
        neck.command(pursue(detector(model, threshold=threshold)(cam.image), neck.state))
    return g
