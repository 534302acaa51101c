"""`haihe run GRAPH --sim --watch`: start again when a file has changed, in simulation only.

Each run is a child process: a fresh interpreter has no stale modules. It tells which files it has
read (the graph, the modules and configuration in the user's folder, its unit); they are looked at
five times a second. The child's standard input is its lifeline: when it ends, because of a change,
Ctrl-C or the death of this process, the child gives itself a SIGINT and stops as after Ctrl-C.
"""

import argparse
import contextlib
import importlib.util
import json
import os
import pickle
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

POLL_S = 0.2
QUIET_POLLS = 2  # an editor writes a file in several steps, or one file after the other
STOP_LIMIT_S = 30.0  # safe actions, and the rewriting of a long recording
YAML = (".yaml", ".yml")  # watched wherever they are: a unit may be one of haihe's own
WATCHED = (".py", *YAML, ".toml", ".json", ".onnx", ".csv")  # in the user's folder

Stamp = tuple[int, int] | None  # time of the last change in ns and size; None: no such file


def stamp(path: str) -> Stamp:
    """What a change of a file would change."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


class Changes:
    """Tells which files have changed, once they have been quiet for a few polls."""

    def __init__(self, look: Callable[[str], Stamp] = stamp, quiet: int = QUIET_POLLS) -> None:
        self._look, self._quiet = look, quiet
        self.known: dict[str, Stamp] = {}
        self._seen: dict[str, Stamp] = {}
        self._left = 0

    def add(self, path: str, as_read: Stamp) -> None:
        """Watch a file; `as_read`: its stamp when it was read, which may be older than now."""
        self.known[path] = as_read

    def settle(self) -> None:
        """What is there now is the state to compare with."""
        self.known = {path: self._look(path) for path in self.known}
        self._seen, self._left = {}, 0

    def poll(self) -> list[str]:
        """The files that have changed, empty while there are none or some still change."""
        now = {path: self._look(path) for path in self.known}
        changed = {path: at for path, at in now.items() if at != self.known[path]}
        if changed != self._seen:
            self._seen, self._left = changed, self._quiet
        if not changed or self._left > 0:
            self._left -= 1
            return []
        return list(changed)


def reason(paths: Iterable[str], number: int) -> str:
    """The line that is printed before a run."""
    parts = [
        f"{os.path.basename(path)} {'changed' if stamp(path) else 'is gone'}"
        for path in sorted(paths)
    ]
    return f"{', '.join(parts)}: run {number}"


def watch(arguments: argparse.Namespace) -> int:
    """Run, and run again after each change, until Ctrl-C. Gives the exit code 0."""
    from haihe.runtime.errors import PlanError

    if not arguments.sim:
        raise PlanError(
            "--watch starts the graph again by itself, which must not move real devices: it is "
            "for simulation only. Add --sim, or leave --watch out."
        )
    for number in (signal.SIGINT, signal.SIGTERM):  # one started with & may ignore SIGINT
        signal.signal(number, signal.default_int_handler)
    changes = Changes()
    for path in _first_files(arguments):
        changes.add(path, stamp(path))
    run = 1
    try:
        while True:
            with _Child(arguments, changes) as child:
                changed = child.wait_for_change()
            run += 1
            _say(reason(changed, run))
            changes.settle()
    except KeyboardInterrupt:
        return 0


def _first_files(arguments: argparse.Namespace) -> list[str]:
    """Watched from the start, even if they are not there or the first run cannot read them."""
    graph = arguments.graph.partition(":")[0]
    files = []
    if graph.endswith((".py", *YAML)):
        files = [os.path.realpath(graph), str(Path(graph).resolve().parent / "unit.yaml")]
    unit = arguments.unit or os.environ.get("HAIHE_UNIT") or ""
    if unit.endswith(YAML):
        files.append(os.path.realpath(unit))
    return files


def _folder(arguments: argparse.Namespace) -> str:
    """The user's: that of the graph's file, or where a pipeline is started."""
    graph = Path(arguments.graph.partition(":")[0])
    is_file = graph.suffix in (".py", *YAML)
    return str(graph.resolve().parent if is_file else Path.cwd())


def _say(text: str) -> None:
    print(text, flush=True)


class _Child:
    """One run as a process of its own, ended when it is left."""

    def __init__(self, arguments: argparse.Namespace, changes: Changes) -> None:
        self.changes = changes
        self._reports, tell = os.pipe()
        command = [sys.executable, "-B", "-m", "haihe.cli.watch", str(tell), _folder(arguments)]
        # a session of its own: Ctrl-C at the terminal comes to us, and from us to it, once
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, pass_fds=(tell,), start_new_session=True
        )
        os.close(tell)
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(pickle.dumps(vars(arguments) | {"watch": False}))
            self.process.stdin.flush()
        self._text = b""
        self._is_open = True

    def __enter__(self) -> "_Child":
        return self

    def __exit__(self, kind: object, *rest: object) -> None:
        try:
            self._stop(is_interrupted=kind is KeyboardInterrupt)
        finally:
            os.close(self._reports)

    def wait_for_change(self) -> list[str]:
        """Until a file has changed; the run may end before. Gives the paths."""
        is_told = False
        while True:
            self._read_reports(POLL_S)
            changed = self.changes.poll()
            if changed:
                return changed
            if not is_told and self.process.poll() is not None:
                is_told = True
                how = "ended" if self.process.returncode == 0 else "failed"
                _say(f"the run {how}; waiting for a change (Ctrl-C ends)")

    def _read_reports(self, wait_s: float) -> None:
        from haihe.runtime.clock import now_ns, sleep_until

        until = now_ns() + round(wait_s * 1e9)
        while self._is_open and select.select([self._reports], [], [], 0)[0]:
            data = os.read(self._reports, 1 << 16)
            self._is_open = bool(data)
            self._text += data
        *lines, self._text = self._text.split(b"\n")
        for path, as_read in map(json.loads, lines):
            self.changes.add(path, tuple(as_read) if as_read else None)
        sleep_until(until)

    def _stop(self, is_interrupted: bool) -> None:
        """Ask for a safe stop, wait, then kill; only a second Ctrl-C does not wait."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):  # it may have ended before it read
            self.process.stdin.close()
        try:
            self._wait()
        except KeyboardInterrupt:
            if not is_interrupted:
                self._wait()
            raise
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()

    def _wait(self) -> None:
        try:
            self.process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            _say(f"the run did not stop in {STOP_LIMIT_S:.0f} s: it is killed")


# --- in the child ------------------------------------------------------------------------------


def _tell_files(tell: int, folder: str) -> None:
    """Report each file of interest at the moment when it is opened for reading, even in vain."""
    told: set[str] = set()

    def opened(event: str, args: tuple[Any, ...]) -> None:
        if event != "open" or not isinstance(args[0], str):
            return
        path, mode, flags = args
        if (mode and set(mode) & set("wax+")) or (flags or 0) & (os.O_WRONLY | os.O_RDWR):
            return
        found = source(path, folder)
        if found and found not in told:
            told.add(found)
            line = json.dumps([found, stamp(found)]) + "\n"
            with contextlib.suppress(BrokenPipeError):  # its reader died: the lifeline acts
                os.write(tell, line.encode())

    sys.addaudithook(opened)


def source(path: str, folder: str) -> str:
    """The file to watch for a path that was opened, "" for none."""
    if path.endswith(".pyc"):
        try:
            path = importlib.util.source_from_cache(path)
        except ValueError:
            return ""
    if not path.endswith(WATCHED):
        return ""
    real = os.path.realpath(path)
    inside = os.path.relpath(real, folder).split(os.sep)
    is_users = not any(part.startswith(".") or part == "site-packages" for part in inside)
    return real if is_users or real.endswith(YAML) else ""


def _lifeline() -> None:
    """When standard input ends, a SIGINT: the run stops as after Ctrl-C."""
    while os.read(0, 1 << 12):
        pass
    main = threading.main_thread().ident
    if main is not None:
        signal.pthread_kill(main, signal.SIGINT)


def _child(tell: int, folder: str) -> int:
    from haihe.cli import carry_out

    signal.signal(signal.SIGINT, signal.default_int_handler)
    arguments = argparse.Namespace(**pickle.load(sys.stdin.buffer))
    os.set_inheritable(tell, False)
    _tell_files(tell, folder)
    threading.Thread(target=_lifeline, name="haihe-watch", daemon=True).start()
    return carry_out(arguments)


if __name__ == "__main__":
    sys.exit(_child(int(sys.argv[1]), sys.argv[2]))
