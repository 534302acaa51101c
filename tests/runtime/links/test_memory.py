"""Memory that is not there is an error at the start, and says which."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.runtime.links.ends import descriptors

from haihe.runtime.errors import LinkError
from haihe.runtime.links.memory import _group_limits, available, reserve

LIMITED = """
import resource, sys
import numpy
from haihe.runtime.errors import LinkError
from haihe.runtime.links.ring import Ring
limit, value = sys.argv[1], int(sys.argv[2])
resource.setrlimit(getattr(resource, limit), (value, value))
try:
    Ring.create("camera", 4, 64 * 1024 * 1024)
except LinkError as exc:
    print(exc)
"""


def test_more_than_the_machine_has_is_refused_before_anything_is_taken() -> None:
    before = descriptors()
    with pytest.raises(LinkError) as error:
        reserve("camera", 1 << 50)
    text = str(error.value)
    free = int(text.split("asked for, ")[1].split()[0])
    assert 0 < free < 1 << 50
    assert text == (
        f"shared memory of camera: {1 << 50} bytes are asked for, {free} are free on this machine "
        "(/proc/meminfo, cgroup memory.max). Use smaller arrays, fewer readers or smaller fifo() "
        "places, or end other programs."
    )
    assert descriptors() == before


SIZE = 4 * 64 * 1024 * 1024 + 4096


@pytest.mark.parametrize(
    ("limit", "value", "message"),
    [
        (
            "RLIMIT_FSIZE",
            100 * 1024 * 1024,
            f"shared memory of camera: posix_fallocate of {SIZE} bytes: File too large. Look at "
            "the limits of this process (ulimit -f, -n, -v; cgroup memory.max), or use smaller "
            "arrays, fewer readers or smaller fifo() places.",
        ),
        (
            "RLIMIT_AS",
            100 * 1024 * 1024,
            "shared memory of camera: it cannot be mapped: [Errno 12] Cannot allocate memory. Look "
            "at ulimit -v, -n and -l of this process.",
        ),
    ],
)
def test_a_limit_of_the_process_is_named(limit: str, value: int, message: str) -> None:
    result = subprocess.run(
        [sys.executable, "-c", LIMITED, limit, str(value)],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
        check=False,
    )
    assert result.stdout.strip() == message, result.stderr


def test_a_control_group_that_is_nearly_full_counts(tmp_path: Path) -> None:
    group = tmp_path / "robot" / "haihe"
    group.mkdir(parents=True)
    own = tmp_path / "cgroup"
    own.write_text("0::/robot/haihe\n")
    for path, limit, used, cache in (
        (group, "max", 10, 0),
        (group.parent, "1000000", 900_000, 50_000),
    ):
        (path / "memory.max").write_text(f"{limit}\n")
        (path / "memory.current").write_text(f"{used}\n")
        (path / "memory.stat").write_text(f"anon 1\ninactive_file {cache}\n")
    assert _group_limits(tmp_path, own) == [150_000]
    own.write_text("1:name=systemd:/x\n")
    assert _group_limits(tmp_path, own) == []
    assert available() > 0
