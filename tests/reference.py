"""Third-party reference models and data: outside the repository, in HAIHE_REFERENCE."""

import os
from pathlib import Path

import pytest

REFERENCE = Path(os.environ.get("HAIHE_REFERENCE") or Path(__file__).parents[2] / "shared")


def reference(path: str) -> Path:
    """A file of the reference data; skips the test if it is absent."""
    found = REFERENCE / path
    if not found.exists():
        pytest.skip(f"no {found}: set HAIHE_REFERENCE to the folder of the reference data")
    return found
