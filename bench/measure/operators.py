"""Which operators a model spends its time in: ONNX Runtime's profile, summed up by kind."""

import json
import tempfile
from pathlib import Path

from haihe.bench.measure.protocol import Operator
from haihe.bench.measure.session import MeasuredSession, Opening

RUNS = 20
SUFFIX = "_kernel_time"


def profile(path: Path, opening: Opening, session: MeasuredSession) -> list[Operator]:
    """Time per kind of operator and run, the costliest first. A session of its own, since
    profiling slows the model down: shares can be compared, sums cannot."""
    import dataclasses

    with tempfile.TemporaryDirectory() as folder:
        watched = MeasuredSession(
            path, dataclasses.replace(opening, profile=Path(folder) / "profile")
        )
        try:
            for spec in watched.inputs:
                watched.buffer(spec.name)[...] = session.buffer(spec.name)
            for _ in range(RUNS):
                watched.run()
            text = watched.end_profile().read_text(encoding="utf-8")
        finally:
            watched.close()
    return sum_up(text)


def sum_up(text: str) -> list[Operator]:
    """Operators of a profile, by kind and provider. The first run of the profile is left out."""
    totals: dict[tuple[str, str], int] = {}
    nodes: dict[tuple[str, str], set[str]] = {}
    times: dict[str, list[int]] = {}
    kinds: dict[str, tuple[str, str]] = {}
    for event in json.loads(text):
        if event.get("cat") != "Node" or not event["name"].endswith(SUFFIX):
            continue
        name, facts = event["name"].removesuffix(SUFFIX), event["args"]
        kinds[name] = (facts.get("op_name", "?"), facts.get("provider", ""))
        times.setdefault(name, []).append(int(event["dur"]) * 1000)
    for name, values in times.items():
        key, later = kinds[name], values[1:] or values
        totals[key] = totals.get(key, 0) + sum(later) // len(later)
        nodes.setdefault(key, set()).add(name)
    found = [Operator(k, len(nodes[k, p]), ns, p) for (k, p), ns in totals.items()]
    return sorted(found, key=lambda operator: -operator.ns)
