"""A port to an emulator in virtual time: the bytes, the wire times and the losses of a serial line
without waiting. Same behaviour as `SerialPort`: what was not taken is stale, drained and counted.
"""

from haihe.runtime.io import Exchange, Reply
from haihe.runtime.sim import Emulator


class VirtualPort:
    """Carries exchanges to an emulator; a byte takes ten bit times.

    `exchange_at` is given the time by the virtual executor; `exchange` keeps a time of its own
    (`now_ns`, moved on by every exchange) for tests and set-up.
    """

    def __init__(
        self,
        emulator: Emulator,
        baud: int = 1_000_000,
        name: str = "virtual",
        record: bool = False,
    ) -> None:
        self.name = name
        self.emulator = emulator
        self.now_ns = 0
        self.state = "open"
        self.generation = 1
        self.sent: list[tuple[int, bytes]] | None = [] if record else None
        self.stats = dict.fromkeys(
            ("exchanges", "tx_bytes", "rx_bytes", "stale_bytes", "timeouts", "errors"), 0
        )
        self._byte_ns = 10_000_000_000 // baud
        self._pending: list[tuple[int, int]] = []  # (arrival of the byte in ns, byte), by time

    def exchange(self, exchange: Exchange) -> Reply:
        """Carry out one exchange at `now_ns` and move on to its end."""
        reply = self.exchange_at(exchange, self.now_ns)
        self.now_ns = reply.t_done_ns
        return reply

    def tx_time_ns(self, exchange: Exchange) -> int:
        """From the first byte sent to the last byte arrived."""
        return len(exchange.tx) * self._byte_ns

    def exchange_at(self, exchange: Exchange, t_ns: int) -> Reply:
        """Send at `t_ns`; the reply ends with the last byte needed, or at the time-out."""
        stats = self.stats
        if self.state != "open":
            stats["errors"] += 1
            error = f"{self.name} is {self.state}"
            if self.state == "reopened":
                self.state = "open"
            return Reply(b"", t_ns, t_ns, error)
        stats["exchanges"] += 1
        stale = 0
        while stale < len(self._pending) and self._pending[stale][0] <= t_ns:
            stale += 1
        if stale:
            stats["stale_bytes"] += stale
            del self._pending[:stale]
        t_tx_ns = t_ns
        if exchange.tx:
            t_tx_ns += len(exchange.tx) * self._byte_ns
            stats["tx_bytes"] += len(exchange.tx)
            if self.sent is not None:
                self.sent.append((t_ns, exchange.tx))
            self._expect(self.emulator.receive(exchange.tx, t_tx_ns))
        if not exchange.rx_size:
            return Reply(b"", t_ns, t_tx_ns)
        deadline_ns = t_tx_ns + exchange.timeout_ns
        take = 0
        most = min(exchange.rx_size, len(self._pending))
        while take < most and self._pending[take][0] <= deadline_ns:
            take += 1
        taken = self._pending[:take]
        del self._pending[:take]
        stats["rx_bytes"] += take
        if take == exchange.rx_size:
            t_done_ns = max(taken[-1][0], t_tx_ns)
        else:
            stats["timeouts"] += 1
            t_done_ns = deadline_ns
        return Reply(bytes([byte for _, byte in taken]), t_ns, t_done_ns)

    def cut(self, exchange: Exchange, t_ns: int, end_ns: int) -> None:
        """An exchange begun at `t_ns` whose owner dies at `end_ns`: the bytes that have not left
        by then never do, and nobody waits for an answer."""
        left = min(len(exchange.tx), max(0, end_ns - t_ns) // self._byte_ns)
        if self.state == "open" and left:
            self.stats["tx_bytes"] += left
            self.emulator.receive(exchange.tx[:left], t_ns + left * self._byte_ns)
        self._pending.clear()

    def close(self) -> None:
        """Release the port; safe to call twice."""
        self.state = "closed"

    def unplug(self) -> None:
        """From now on every exchange fails at once, as a serial port does without its adapter."""
        self.state = "lost"
        self._pending.clear()

    def plug(self) -> None:
        """Back again: the next exchange still fails, so that the owner sets the device up anew."""
        self.state = "reopened"
        self.generation += 1

    def _expect(self, replies: list[tuple[int, bytes]]) -> None:
        for t_last_ns, data in replies:
            t_first_ns = t_last_ns - (len(data) - 1) * self._byte_ns
            self._pending.extend((t_first_ns + i * self._byte_ns, b) for i, b in enumerate(data))
        self._pending.sort(key=_arrival)


def _arrival(item: tuple[int, int]) -> int:
    return item[0]
