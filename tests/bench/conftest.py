"""Recordings of runs in which something goes wrong; see incident_app.py."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.bench.incident_app import RUNS


@pytest.fixture(scope="session")
def incident_path(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The recording of a run, by name; made once."""
    folder = tmp_path_factory.mktemp("incidents")
    made: dict[str, Path] = {}

    def path(name: str) -> Path:
        if name not in made:
            made[name] = folder / f"{name.replace(' ', '-')}.mcap"
            RUNS[name](made[name])
        return made[name]

    return path


@pytest.fixture
def clean_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wiring a graph of a file puts its folder on the path: not for other tests."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    return
