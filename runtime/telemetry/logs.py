"""Logs as JSON lines, each with the lane, firing and node from which it was written.

What a firing costs does not change: where a line comes from is read off the stack of the thread
that writes it, when it is written.
"""

import contextlib
import json
import linecache
import logging
import os
import re
import sys
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from haihe.runtime.clock import now_ns
from haihe.runtime.errors import RecordError

VARIABLE = "HAIHE_LOG"  # json: to stderr; else the file to append to. Children inherit it
STEPPING_FILE = "<stepping of "  # how plan/codegen.py names the code of a task
_STEP = re.compile(r"\b(?:N|raised\(|overran\(|check\()(\d+)")


class Place(NamedTuple):
    """Where in a run something happens. node is "" between two nodes of a firing."""

    lane: str
    firing: int
    node: str


def place_of(frame: Any) -> Place | None:
    """The firing in which a frame runs, or None outside of any."""
    while frame is not None:
        if frame.f_code.co_filename.startswith(STEPPING_FILE):
            return _place(frame)
        frame = frame.f_back
    return None


def _place(frame: Any) -> Place | None:
    """Of the frame of a compiled task: see plan/codegen.py for what it holds."""
    known = frame.f_locals
    if "LOG" not in known or "firing" not in known:
        return None
    lane = known["LOG"].__self__
    found = _STEP.search(linecache.getline(frame.f_code.co_filename, frame.f_lineno))
    node = lane.task.steps[int(found[1])].name if found else ""
    return Place(lane.name, known["firing"], node)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (ISO 8601, UTC), t_ns (the run's clock), level, logger, message,
    process, pid, thread; lane, firing and node inside a firing; error with its traceback."""

    def __init__(self, process: str = "") -> None:
        """process: the name of this process in the plan, "" for the launcher's."""
        super().__init__()
        self._process = process or "main"

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        wall = datetime.fromtimestamp(record.created, UTC)
        line: dict[str, Any] = {
            "time": wall.isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "t_ns": now_ns(),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "process": self._process,
            "pid": os.getpid(),
            "thread": record.threadName,
        }
        place = place_of(sys._getframe())
        if place is not None:
            line |= {"lane": place.lane, "firing": place.firing}
            if place.node:
                line["node"] = place.node
        if record.exc_info and record.exc_info[0] is not None:
            kind, exc, trace = record.exc_info
            line["error"] = "".join(traceback.format_exception(kind, exc, trace)).rstrip("\n")
        return json.dumps(line, ensure_ascii=False)


class JsonLog:
    """Logs of the whole process as JSON lines, to a file (appended to) or a stream.

    To a file: what was shown on the terminal before, warnings, is shown there still.
    """

    def __init__(
        self, where: str | Path | TextIO, *, process: str = "", level: int = logging.INFO
    ) -> None:
        """Begin. Raises RecordError when the file cannot be opened."""
        root = logging.getLogger()
        self._added: list[logging.Handler] = []
        if isinstance(where, str | Path):
            try:
                handler: logging.Handler = logging.FileHandler(where, encoding="utf-8")
            except OSError as exc:
                raise RecordError(
                    f"log {where}: it cannot be opened: {exc.strerror}. Choose another file."
                ) from exc
            if not root.handlers:
                shown = logging.StreamHandler()
                if process:
                    shown.setFormatter(logging.Formatter(plain(process)))
                self._added.append(shown)
        else:
            handler = logging.StreamHandler(where)
        handler.setFormatter(JsonFormatter(process))
        handler.setLevel(level)
        self._added.append(handler)
        self._level = root.level
        self._lowered = [one for one in (*root.handlers, *self._added) if not one.level]
        for one in self._lowered:  # the root lets more through from here on: for the others no more
            one.setLevel(max(self._level, logging.WARNING))
        for one in self._added:
            root.addHandler(one)
        root.setLevel(min(level, self._level or level))

    def close(self) -> None:
        """End; safe to call twice."""
        root = logging.getLogger()
        for one in self._added:
            root.removeHandler(one)
            one.close()
        if self._added:
            root.setLevel(self._level)
            for one in self._lowered:
                one.setLevel(logging.NOTSET)
        self._added.clear()


def plain(process: str) -> str:
    """The format of a line for people, of a process that is not the launcher's."""
    return f"haihe {process}: %(levelname)s %(name)s: %(message)s"


def log_as_told(process: str = "") -> JsonLog | None:
    """Log as the variable HAIHE_LOG says; None when it says nothing. Raises RecordError."""
    told = os.environ.get(VARIABLE, "")
    if told in ("", "0"):
        return None
    return JsonLog(sys.stderr if told == "json" else told, process=process)


@contextlib.contextmanager
def logging_to(path: str | None) -> Iterator[None]:
    """Log there, as JSON lines, this process and the children that it starts; None: as HAIHE_LOG
    says. Raises RecordError."""
    before = os.environ.get(VARIABLE)
    if path is not None:
        os.environ[VARIABLE] = str(Path(path).absolute())
    try:
        log = log_as_told()
        try:
            yield
        finally:
            if log is not None:
                log.close()
    finally:
        if path is not None:
            if before is None:
                del os.environ[VARIABLE]
            else:
                os.environ[VARIABLE] = before
