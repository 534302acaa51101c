"""Camera frames of a recording with what was detected in them, and as a strip of HTML."""

import base64
import math
from dataclasses import dataclass
from html import escape

import msgspec
import numpy as np

from haihe.bench.measure.analysis import Analysis
from haihe.runtime.plan.model import StepPlan
from haihe.runtime.record.recording import StreamRecord
from haihe.runtime.record.sink import FORM_JPEG, jpeg
from haihe.runtime.types import U8, Detections, Image, decode

SHOTS = 8  # of a strip
SMALLEST = 16  # px; the ideal world's frames are one row of data, no picture


@dataclass
class Shot:
    """One frame. detections: None when no node's output for it is in the recording."""

    t_s: float
    sequence: int
    record: StreamRecord
    picture: U8
    detections: Detections | None

    @property
    def axis(self) -> tuple[float, float]:
        """Where the optical axis meets the picture, in px."""
        camera = self.detections.camera if self.detections is not None else None
        if camera is not None:
            return camera.cx, camera.cy
        return (self.picture.shape[1] - 1) / 2, (self.picture.shape[0] - 1) / 2

    def jpeg(self) -> bytes:
        """As JPEG: as recorded where it was."""
        if self.record.form == FORM_JPEG:
            return self.record.data
        return jpeg(Image(self.picture))


def shots(run: Analysis, number: int) -> list[Shot]:
    """About so many frames, evenly over the run; empty when none were kept."""
    for source, records in run.recording.streams.items():
        kept = [record for record in records if record.data]
        if not kept or not _is_picture(kept[0]):
            continue
        found = _detections(run, source)
        seen = [record for record in kept if record.sequence in found] or kept
        places = np.unique(np.linspace(0, len(seen) - 1, number + 2).round().astype(int))
        chosen = [seen[i] for i in (places[1:-1] if len(places) > 2 else places)]
        return [
            Shot(
                (record.capture_ns - run.start_ns) * 1e-9,
                record.sequence,
                record,
                record.picture(),
                found.get(record.sequence),
            )
            for record in chosen
        ]
    return []


def _is_picture(record: StreamRecord) -> bool:
    try:
        picture = record.picture()
    except (msgspec.MsgspecError, ValueError):
        return False  # a stream of something else
    return picture is not None and min(picture.shape[:2]) >= SMALLEST


def _detections(run: Analysis, source: str) -> dict[int, Detections]:
    """By the sequence number of the frame: outputs of a recorded node that that frame triggers."""
    for lane in run.lanes:
        if lane.task.trigger != source:
            continue
        for step in lane.task.steps:
            outputs = run.recording.outputs.get(step.name)
            if not step.recorded or not outputs or not _reads(run, step, source):
                continue
            fired = lane.fired(step.name)
            frames, numbers = lane.reads[source][fired], np.cumsum(fired)[fired]
            try:
                return {
                    int(frame): decode(Detections, outputs[int(output)])
                    for frame, output in zip(frames, numbers, strict=True)
                    if int(output) in outputs
                }
            except msgspec.MsgspecError:
                continue  # its output is another message
    return {}


def _reads(run: Analysis, step: StepPlan, source: str) -> bool:
    return any(run.recording.plan.edges[edge].source == source for _, edge in step.inputs)


def camera_strip(run: Analysis) -> str:
    """Some frames with their detections."""
    found = shots(run, SHOTS)
    return f'<div class="strip">{"".join(map(_shot, found))}</div>' if found else ""


def _shot(shot: Shot) -> str:
    height, width = shot.picture.shape[:2]
    image = base64.b64encode(shot.jpeg()).decode()
    x, y = shot.axis
    arm = 0.05 * width
    drawn = [
        f'<image width="{width}" height="{height}" href="data:image/jpeg;base64,{image}"/>',
        f'<path class="axis" d="M{x - arm:.1f} {y:.1f}H{x + arm:.1f}M{x:.1f} {y - arm:.1f}'
        f'V{y + arm:.1f}"/>',
    ]
    for detection in shot.detections or ():
        x1, y1, x2, y2 = detection.box
        text = f"{detection.label} {detection.score:.2f}"
        drawn.append(
            f'<rect class="box" x="{x1:.1f}" y="{y1:.1f}" width="{x2 - x1:.1f}" '
            f'height="{y2 - y1:.1f}"/><text class="tag" x="{max(2.0, x1):.1f}" '
            f'y="{y1 - 4 if y1 > 18 else y2 + 14:.1f}">{escape(text)}</text>'
        )
    caption = f"{shot.t_s:.2f} s, #{shot.sequence}{_nearest(shot)}"
    return (
        f'<figure><svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(caption)}">'
        f"{''.join(drawn)}</svg><figcaption>{escape(caption)}</figcaption></figure>"
    )


def _nearest(shot: Shot) -> str:
    """In words: what lies nearest to the optical axis, and how far from it."""
    if shot.detections is None:
        return ""
    if not len(shot.detections):
        return ": nothing found"
    x, y = shot.axis
    near = min(shot.detections, key=lambda d: math.hypot(d.centre[0] - x, d.centre[1] - y))
    text = f": {near.label} {near.score:.2f}"
    if near.camera is not None:
        text += f", {math.degrees(math.hypot(*near.bearing)):.1f}° off axis"
    return text
