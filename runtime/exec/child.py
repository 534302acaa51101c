"""One process of a run, from the launcher's side: its life, its control socket, its memory."""

import contextlib
import logging
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from haihe.runtime.errors import HaiheError
from haihe.runtime.exec.arming import Arming
from haihe.runtime.exec.control import send
from haihe.runtime.exec.supervision import Supervision
from haihe.runtime.exec.table import Table
from haihe.runtime.record.format import Event
from haihe.runtime.record.relay import RelayReader, relay_memory
from haihe.runtime.record.sink import Records

log = logging.getLogger(__name__)


@dataclass
class Child:
    """One process of the run."""

    name: str
    lanes: tuple[str, ...]
    supervision: Supervision
    table_fd: int
    table: Table
    arming: dict[str, Arming]  # by lane with actuators
    relay_fd: int = -1
    relay: RelayReader | None = None
    popen: subprocess.Popen[bytes] | None = None
    control: socket.socket | None = None
    pidfd: int = -1
    lives: int = 0
    restart_at_ns: int = 0
    heard_ns: int = 0  # of it, last
    killed_for: str = ""  # why we killed it, or it could not start
    failure: HaiheError | None = None
    hung: list[str] = field(default_factory=list)
    status: bytes = b""  # the last one that it sent: a snapshot
    waiting: list[tuple[Event, tuple[str, ...]]] = field(default_factory=list)  # until it runs
    lock: threading.RLock = field(default_factory=threading.RLock)  # of its control socket

    @property
    def pid(self) -> int:
        """Of its present life, 0 for none."""
        return self.popen.pid if self.popen is not None and self.pidfd >= 0 else 0

    def tell(self, *message: Any, fds: Sequence[int] = ()) -> None:
        """Called by lanes too: one that does not listen must not make them wait."""
        with self.lock:
            if self.control is not None and not send(self.control, message, fds, wait=False):
                self.kill("it took nothing of what it was told")

    def kill(self, why: str) -> None:
        """Kill it; its death is then seen like any other."""
        if self.pidfd >= 0:
            self.killed_for = self.killed_for or why
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    def end_control(self) -> None:
        """Close our end of its control socket."""
        with self.lock:
            if self.control is not None:
                self.control.close()
                self.control = None

    def begin_relay(self, size: int) -> None:
        """Memory for the records of its next life."""
        self.relay_fd = relay_memory(size)
        self.relay = RelayReader(self.relay_fd)

    def take_records(self, recorder: Records | None) -> None:
        """Put what it recorded into the recording."""
        if self.relay is not None and recorder is not None:
            for topic, sequence, log_ns, publish_ns, data in self.relay.take():
                recorder.append(topic, sequence, log_ns, publish_ns, data)

    def end_relay(self, recorder: Records | None) -> None:
        """It is dead: take its last records, and let go of their memory."""
        if self.relay is None:
            return
        self.take_records(recorder)
        if self.relay.lost:
            log.warning("process %s: %d records were lost", self.name, self.relay.lost)
            if recorder is not None:
                recorder.note("lost", {"process": self.name, "records": self.relay.lost})
        self.relay.close()
        os.close(self.relay_fd)
        self.relay, self.relay_fd = None, -1
