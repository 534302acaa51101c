"""The live line of a run: rates, tracking error, age at the actuator, drops."""

import math
import sys
from typing import TextIO

from haihe.pipelines.live import Live
from haihe.runtime.clock import now_ns
from haihe.runtime.telemetry.snapshot import Snapshot


class StatusLine:
    """Rewrites one line on a terminal; elsewhere it prints a line every two seconds."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._is_terminal = self._stream.isatty()
        self._last: dict[str, int] = {}
        self._last_ns = now_ns()
        self._printed_ns = 0

    def __call__(self, live: Live) -> None:
        """Show the state of a run; called a few times a second."""
        error = None
        if live.world is not None and live.is_closed_loop:
            error = live.world.newest().get("error")
        found = live.snapshot()
        self._show(self.line(found, error), found.t_ns)

    def line(self, found: Snapshot, error: float | None = None) -> str:
        """The line of a snapshot, with rates since the last one. error: of tracking, in rad."""
        seconds = max(1e-3, (found.t_ns - self._last_ns) * 1e-9)
        self._last_ns = found.t_ns
        parts = [f"{found.state:5}  {found.elapsed_s:5.1f} s"]
        for lane in found.lanes:
            fired = self._since(f"fired {lane.name}", lane.firings)
            parts.append(f"{lane.name} {fired / seconds:4.0f} Hz")
        if error is not None:
            parts.append(f"error {math.degrees(error):5.2f}°")
        for bus in found.buses:
            count = self._since(f"count {bus.role}", bus.first_bytes)
            total = self._since(f"total {bus.role}", bus.reaction_total_ns)
            if count:
                parts.append(f"{bus.role}: age at first byte {total / count * 1e-6:5.1f} ms")
        dropped = sum(edge.overwritten + edge.refused for edge in found.edges)
        stale = sum(edge.stale for edge in found.edges)
        parts.append(f"dropped {dropped}  stale {stale}")
        for process in found.processes:
            if process.restarts:
                parts.append(f"{process.name}: {process.restarts} restarts, {process.state}")
        if found.recorder is not None and found.recorder.lost:
            parts.append(f"not recorded {found.recorder.lost}")
        return "  ".join(parts)

    def _since(self, key: str, value: int) -> int:
        before, self._last[key] = self._last.get(key, value), value
        return value - before

    def _show(self, line: str, now: int) -> None:
        if self._is_terminal:
            self._stream.write(f"\r\x1b[2K{line}")
        elif now - self._printed_ns > 2_000_000_000:
            self._printed_ns = now
            self._stream.write(line + "\n")
        self._stream.flush()

    def end(self) -> None:
        """Leave the line."""
        if self._is_terminal:
            self._stream.write("\n")
            self._stream.flush()
