"""A simulated world as a child process: started, found, and ended with us."""

import contextlib
import json
import os
import select
import struct
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from haihe.boards.unit import UnitFile
from haihe.pipelines.worlds.serve import check_world
from haihe.runtime.errors import HaiheError

START_LIMIT_S = 60.0


class WorldProcess:
    """The world of a unit in a process of its own. `ports` and `cameras` say where it is.

    What a judge needs stays in `folder` until `close`: the bytes of every wire, the truth.
    """

    def __init__(
        self,
        unit: UnitFile,
        seed: int = 0,
        overrides: Mapping[str, Any] | None = None,
        folder: Path | None = None,
    ) -> None:
        check_world(unit, seed, overrides)  # here, where the profile has its own name and lines
        self._temporary = (
            tempfile.TemporaryDirectory(prefix="haihe-world-") if folder is None else None
        )
        self.folder = folder or Path(self._temporary.name)  # type: ignore[union-attr]
        profile = self.folder / "unit.yaml"
        profile.write_text(unit.text, encoding="utf-8")
        command = [sys.executable, "-m", "haihe.pipelines.worlds.serve", "--unit", str(profile)]
        command += ["--dir", str(self.folder), "--seed", str(seed)]
        command += ["--set", json.dumps(dict(overrides or {}))]
        if folder is None:
            command += ["--temporary"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        try:
            places = self._read_places()
            names = json.loads((self.folder / "truth.json").read_text(encoding="utf-8"))
        except BaseException:
            self.close()
            raise
        self.ports: dict[str, str] = places["ports"]
        self.cameras: dict[str, str] = places["cameras"]
        self.truth_names: list[str] = names
        self._row = struct.Struct("<q" + "d" * (len(names) - 1))

    def _read_places(self) -> Any:
        output = self._process.stdout
        assert output is not None
        ready, _, _ = select.select([output], [], [], START_LIMIT_S)
        if not ready:
            raise HaiheError(
                f"the simulated world gave no sign of life for {START_LIMIT_S:.0f} s. Check `sim:` "
                "in the unit profile."
            )
        line = output.readline()
        if not line:
            raise HaiheError(
                f"the simulated world did not start (exit code {self._process.wait(5)}); its error "
                "stands above. Check `sim:` in the unit profile."
            )
        return json.loads(line)

    def check(self) -> None:
        """Raise HaiheError when the world has died: what it drove ended with it."""
        code = self._process.poll()
        if code is not None:
            raise HaiheError(
                f"the simulated world died in mid-run (exit code {code}), and the run with it."
            )

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def truth(self) -> list[tuple[float, ...]]:
        """Every row of the world's truth so far: t_ns, then the values of `truth_names[1:]`."""
        data = (self.folder / "truth.bin").read_bytes()
        size = self._row.size
        return list(self._row.iter_unpack(data[: len(data) // size * size]))

    def newest(self) -> dict[str, float]:
        """The newest row of the truth by name; empty before the first."""
        path = self.folder / "truth.bin"
        size = path.stat().st_size // self._row.size * self._row.size
        if not size:
            return {}
        with path.open("rb") as stream:
            stream.seek(size - self._row.size)
            values = self._row.unpack(stream.read(self._row.size))
        return dict(zip(self.truth_names, values, strict=True))

    def end(self) -> None:
        """Let it end; its files stay."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            with contextlib.suppress(OSError):  # it may have died
                os.write(self._process.stdin.fileno(), b"end\n")
            self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def close(self) -> None:
        """End it and remove its files."""
        self.end()
        if self._temporary is not None:
            self._temporary.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()
