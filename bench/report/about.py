"""The end of a report: on what it ran, how it was measured, what is missing."""

from html import escape

from haihe.bench.measure.analysis import Analysis
from haihe.bench.report.plot import table


def environment(run: Analysis) -> str:
    """Machine, versions, plan, unit, files."""
    header = run.recording.header
    versions = header.get("versions", {})
    source = header.get("source", {})
    items = {
        "recording": str(run.recording.path),
        "graph": f"{run.recording.plan.graph}, {source.get('pipeline') or source.get('file', '')}",
        "unit": f"{run.unit}, {header.get('unit', {}).get('file', '')}",
        "plan": str(header.get("plan_hash", "")),
        "machine": f"{header.get('machine', '')}, Python {header.get('python', '')}",
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
        "seed": f"{header.get('seed', '')}, hash seed {header.get('hash_seed', '')}",
    }
    listed = "".join(f"<dt>{k}</dt><dd>{escape(v)}</dd>" for k, v in items.items() if v)
    lanes = [
        (
            lane.name,
            " · ".join(
                [f"read {bus.role}" for bus in lane.task.buses]
                + [step.name for step in lane.task.steps]
                + [f"guard and write {b.role}" for b in lane.task.buses if b.command_edge >= 0]
            ),
        )
        for lane in run.recording.plan.lanes
    ]
    return f"<dl>{listed}</dl><h3>Plan</h3>{table(('lane', 'order'), lanes, left=2)}"


def notes(run: Analysis) -> str:
    """What the figures mean, and what they do not."""
    items = [
        "All times are of one monotonic clock, the same for all processes of the machine. "
        "Glass to servo runs from the exposure stamp of the camera to the hand-over of the first "
        "byte of the command: its way through the driver of the port, the wire and the servo "
        "comes on top.",
        "A percentile is given only when the sample carries it (one-sided, 99 %): p95 wants 90 "
        "samples, p99 459, p99.9 4603. Samples are taken as independent; a tracking error is not "
        "at 100 Hz, its figures describe this run and no other.",
        "A time-out is an answer shorter than the longest one to the same request.",
        "Set-up and the stop are outside every figure; the tracking error also leaves out the "
        "beginning.",
    ]
    if run.mode == "virtual time":
        items.insert(
            0,
            "This run took place in virtual time: nodes take what they are budgeted, wires what "
            "their bits take. It says what the plan does, not how fast this machine is.",
        )
    elif run.is_simulated:
        items.insert(
            0,
            "Camera, part and servos are simulated, in a process of their own on the same "
            "machine, which competes for its cores. Frames are stamped at their simulated "
            "exposure; the bus is a pseudo terminal.",
        )
    items += [f"Not in the recording: {text}." for text in run.missing]
    return f"<ul>{''.join(f'<li>{escape(item)}</li>' for item in items)}</ul>"
