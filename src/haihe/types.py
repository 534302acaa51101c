"""The messages: `from haihe.types import Detections, JointCommand`."""

from haihe.runtime.transforms import Transform
from haihe.runtime.types import (
    F32,
    F64,
    I64,
    U8,
    BoolArray,
    Condition,
    Detection,
    Detections,
    GoalStatus,
    Image,
    Intrinsics,
    JointCommand,
    JointState,
    Message,
    Reading,
)

__all__ = [
    "F32",
    "F64",
    "I64",
    "U8",
    "BoolArray",
    "Condition",
    "Detection",
    "Detections",
    "GoalStatus",
    "Image",
    "Intrinsics",
    "JointCommand",
    "JointState",
    "Message",
    "Reading",
    "Transform",
]
