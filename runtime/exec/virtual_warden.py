"""The warden of a bus in virtual time: the rules of runtime/guard/warden.py, as events.

It stands where the owner's side of a real one stands (`BusRunner.warden`). While the guard drives,
the owner's death or a heartbeat older than the limit makes it kill the owner and send the prepared
safe frames, twice, after padding that ends a frame which was cut.
"""

from typing import TYPE_CHECKING

from haihe.runtime.errors import DeviceError
from haihe.runtime.exec.bus import BusRunner
from haihe.runtime.exec.virtual_run import Run, TimedPort
from haihe.runtime.exec.wardens import WardenSpec, safe_decision
from haihe.runtime.guard import Action, Decision
from haihe.runtime.io import Exchange, Guardable
from haihe.runtime.units import format_ns

if TYPE_CHECKING:
    from haihe.runtime.exec.virtual import VirtualExecutor


class VirtualWarden:
    """One guarded bus of a lane."""

    def __init__(
        self, executor: "VirtualExecutor", run: Run, bus: BusRunner, spec: WardenSpec
    ) -> None:
        """Raises DeviceError: the device prepares no safe frames."""
        if bus.guard is None or not isinstance(bus.device, Guardable):
            raise DeviceError(
                f"{bus.role}: {type(bus.device).__name__} has no safe_frames and longest_frame: a "
                "warden cannot make it safe. Write them, or say what else happens on_host_death."
            )
        self._executor, self.run = executor, run
        self._device, self._rules = bus.device, bus.guard.rules
        self._bus, self._port = bus, bus.port
        self.limit_ns = spec.limit(run.lane.task.every_ns)
        self.is_armed = False
        self.fired: list[tuple[int, str]] = []  # when, and why
        self._frames = b""
        self._beat_ns = 0
        self._is_watching = False
        bus.warden = self

    def take(self, port: TimedPort) -> None:
        """The port is set up, and about to be used."""
        self._port = port

    def release(self) -> None:
        """The port is lost: nothing can be sent."""
        self.disarm()

    def disarm(self) -> None:
        """Nothing is driven any more."""
        self.is_armed = False

    def before(self, decision: Decision) -> None:
        """Just before a decision is carried out."""
        self._beat_ns = self._executor.now_ns
        if decision.actions[0] is Action.NONE:
            self.disarm()
        elif not self.is_armed:
            self._stage(decision)
            self.is_armed = True
            if not self._is_watching:
                self._is_watching = True
                self._executor.at(self._beat_ns + self.limit_ns + 1, self._look)

    def after(self, decision: Decision) -> None:
        """The decision is on the wire: from now on this is what must be held."""
        if self.is_armed:
            self._stage(decision)
            self._beat_ns = self._executor.now_ns

    def _stage(self, decision: Decision) -> None:
        self._frames = self._device.safe_frames(safe_decision(decision, self._rules), self._rules)

    def _look(self) -> None:
        """Whether the heartbeat is too old; else look again when it would be."""
        run = self.run
        is_stopping = self._executor.stopping and run.steps is None and run.process.hears
        if not self.is_armed or is_stopping:  # it is made safe right now
            self._is_watching = False
            return
        due = self._beat_ns + self.limit_ns + 1
        if self._executor.now_ns < due:
            self._executor.at(due, self._look)
            return
        self._is_watching = False
        why = f"its warden killed it: no heartbeat of {self._bus.role} for "
        self._executor.processes.kill(self.run.process.name, why + format_ns(self.limit_ns))

    def owner_died(self) -> None:
        """Whatever it died of: the safe frames, if the joints were driven."""
        if not self.is_armed:
            return
        self.is_armed = False
        t = self._executor.now_ns
        self.fired.append((t, "its owner died"))
        for data in (bytes(self._device.longest_frame), self._frames, self._frames):
            exchange = Exchange(data)
            self._port.exchange_at(exchange, t)
            t += self._port.tx_time_ns(exchange)
