"""The messages: `from haihe.types import Detections, JointCommand`."""

from haihe.runtime.types import (
    BoolArray,
    Detection,
    Detections,
    Image,
    Intrinsics,
    JointCommand,
    JointState,
    Message,
    Reading,
)

__all__ = [
    "BoolArray",
    "Detection",
    "Detections",
    "Image",
    "Intrinsics",
    "JointCommand",
    "JointState",
    "Message",
    "Reading",
]
