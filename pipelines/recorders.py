"""The recorder that a run was asked for: a file, or a ring in memory; within a quota or not."""

from pathlib import Path
from typing import Any

from haihe.runtime.errors import RecordError
from haihe.runtime.plan.model import Plan
from haihe.runtime.record.quota import Quota, size_bytes
from haihe.runtime.record.recorder import Recorder
from haihe.runtime.record.ring_recorder import RingRecorder
from haihe.runtime.record.sink import Frames
from haihe.runtime.units import duration_ns


def recorder_of(
    record: str | Path | None,
    header: dict[str, Any],
    plan: Plan,
    frames: Frames,
    *,
    keep: str | None = None,
    quota: str | None = None,
    start_ns: int | None = None,
) -> Recorder | RingRecorder | None:
    """Begin it; None when nothing is to be recorded.

    keep: the time to keep in memory (such as "60s"); a file is written when something happens.
    quota: what the recordings in the folder may take ("2GB"). start_ns: the beginning in the run's
    clock, where that is virtual. Raises RecordError, ContractError.
    """
    if record is None:
        for name, value in (("keep", keep), ("quota", quota)):
            if value is not None:
                raise RecordError(
                    f"{name}={value!r}: nothing is recorded. Say where to: record=FILE (--record)."
                )
        return None
    limit = None
    if quota is not None:
        limit = Quota(Path(record).absolute().parent, size_bytes(quota, "quota"))
    if keep is None:
        return Recorder(record, header, frames, start_ns, limit)
    keep_ns = duration_ns(keep, "keep")
    return RingRecorder(
        record, header, frames, keep_ns=keep_ns, plan=plan, start_ns=start_ns, quota=limit
    )
