"""Metrics for Prometheus: a snapshot in the text exposition format 0.0.4, and a small server.

The server listens on the loopback device only: there is no key on it, so nobody else may ask. On
another machine, ask through an SSH tunnel.
Source: prometheus.io/docs/instrumenting/exposition_formats.
"""

import ipaddress
import logging
import socket
import threading
from collections.abc import Callable, Iterable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from haihe.runtime.clock import SECOND
from haihe.runtime.errors import ContractError, LinkError
from haihe.runtime.guard import GuardState
from haihe.runtime.telemetry.snapshot import EdgeState, NodeState, Snapshot, to_json

log = logging.getLogger(__name__)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
DEFAULT_PORT = 9464
CLIENT_LIMIT_S = 5.0  # a client that says nothing for that long is let go
NOT_CALLED = ("stale", "absent", "unaligned", "off")

Labels = Mapping[str, str]
Sample = tuple[Labels, float]


# --- the text -------------------------------------------------------------------------------------


def exposition(found: Snapshot) -> str:
    """The metrics of a run. Counters end in `_total`, times are in seconds."""
    lines: list[str] = []
    for name, kind, about, samples in _families(found):
        rows = [f"{name}{_labels(labels)} {_number(value)}" for labels, value in samples]
        if rows:
            lines += [f"# HELP {name} {_escaped(about)}", f"# TYPE {name} {kind}", *rows]
    return "\n".join(lines) + "\n"


def _families(s: Snapshot) -> Iterable[tuple[str, str, str, list[Sample]]]:
    def counter(name: str, about: str, samples: list[Sample]) -> Any:
        return f"haihe_{name}_total", "counter", about, samples

    def gauge(name: str, about: str, samples: list[Sample]) -> Any:
        return f"haihe_{name}", "gauge", about, samples

    yield gauge("info", "The graph and its state.", [({"graph": s.graph, "state": s.state}, 1)])
    yield gauge("elapsed_seconds", "Time since the first release.", [({}, s.elapsed_s)])

    processes = [({"process": one.name or "main"}, one) for one in s.processes]
    yield gauge(
        "process_state", "1 for the state that a process is in.",
        [({**labels, "state": one.state}, 1) for labels, one in processes],
    )  # fmt: skip
    yield counter(
        "process_restarts", "Restarts of a process.",
        [(labels, one.restarts) for labels, one in processes],
    )  # fmt: skip

    lanes = [({"lane": one.name, "process": one.process or "main"}, one) for one in s.lanes]
    yield counter("lane_firings", "Firings of a lane.", [(la, one.firings) for la, one in lanes])
    yield counter(
        "lane_skipped_releases", "Releases that passed while the last job still ran.",
        [(labels, one.skipped) for labels, one in lanes],
    )  # fmt: skip
    yield gauge(
        "lane_failed", "Whether a lane raised or hangs.",
        [(labels, bool(one.problem)) for labels, one in lanes],
    )  # fmt: skip

    yield counter(
        "edge_messages", "Messages of an edge, by what became of them.",
        [sample for edge in s.edges for sample in _edge_messages(edge)],
    )  # fmt: skip
    yield counter("edge_sent", "Messages that were sent on an edge.", [
        (_edge(edge), edge.sent) for edge in s.edges if edge.sent is not None
    ])  # fmt: skip
    yield gauge("edge_in_flight", "Messages sent that are not accounted for yet.", [
        (_edge(edge), edge.in_flight) for edge in s.edges if edge.in_flight is not None
    ])  # fmt: skip
    ending = [edge for edge in s.edges if edge.ends]
    yield counter(
        "edge_stale_readings", "Readings older than the reader allows.",
        [(_edge(edge), edge.stale) for edge in ending],
    )  # fmt: skip
    yield counter(
        "edge_absent_readings", "Readings before the first message.",
        [(_edge(edge), edge.absent) for edge in ending],
    )  # fmt: skip
    yield _summary("edge_age_seconds", "Age of the data at the reading.", [
        (_edge(edge), edge.count, edge.total_ns) for edge in ending
    ])  # fmt: skip
    yield gauge("edge_age_worst_seconds", "Greatest age of the data at a reading.", [
        (_edge(edge), edge.worst_ns / SECOND) for edge in ending
    ])  # fmt: skip

    yield counter(
        "node_firings", "Firings of a node, by how they ended.",
        [sample for node in s.nodes for sample in _node_firings(node)],
    )  # fmt: skip
    yield counter(
        "node_deadline_misses", "Outputs later than the deadline of the node.",
        [(_node(node), node.misses) for node in s.nodes],
    )  # fmt: skip
    yield counter(
        "node_overruns", "Calls longer than the budget of the node.",
        [(_node(node), node.overruns) for node in s.nodes],
    )  # fmt: skip
    yield _summary("node_execution_seconds", "Execution time of a node.", [
        (_node(node), node.calls, node.total_ns) for node in s.nodes
    ])  # fmt: skip
    yield gauge("node_execution_worst_seconds", "Longest execution time of a node.", [
        (_node(node), node.worst_ns / SECOND) for node in s.nodes
    ])  # fmt: skip
    yield gauge("node_budget_seconds", "Budget of a node.", [
        (_node(node), node.budget_ns / SECOND) for node in s.nodes if node.budget_ns
    ])  # fmt: skip

    buses = [({"role": bus.role, "lane": bus.lane}, bus) for bus in s.buses]
    yield gauge("bus_online", "Whether a device answers.", [(la, bus.online) for la, bus in buses])
    yield counter(
        "bus_losses", "How often a device went offline.", [(la, bus.losses) for la, bus in buses]
    )
    yield _summary("bus_reaction_seconds", "Age of the data at the first byte of a command.", [
        (labels, bus.first_bytes, bus.reaction_total_ns) for labels, bus in buses
    ])  # fmt: skip
    yield gauge("bus_reaction_worst_seconds", "Greatest age of the data at a first byte.", [
        (labels, bus.reaction_worst_ns / SECOND) for labels, bus in buses
    ])  # fmt: skip
    guarded = [(labels, bus) for labels, bus in buses if bus.guard]
    yield gauge("guard_state", "1 for the state that a guard is in, 0 for the others.", [
        ({**labels, "state": state.name.lower()}, state.name == bus.guard)
        for labels, bus in guarded
        for state in GuardState
    ])  # fmt: skip
    yield counter("guard_interventions", "Firings in which a guard changed a command, by reason.", [
        ({**labels, "reason": reason}, number)
        for labels, bus in guarded
        for reason, number in sorted(bus.guard_counts.items())
    ])  # fmt: skip

    streams: list[tuple[Labels, Any]] = [({"source": one.source}, one) for one in s.streams]
    yield counter(
        "stream_delivered", "Messages of a stream device.",
        [(labels, one.delivered) for labels, one in streams],
    )  # fmt: skip
    yield gauge("stream_ended", "Whether a stream device has ended or failed.", [
        (labels, one.ended) for labels, one in streams
    ])  # fmt: skip
    if s.recorder is not None:
        yield counter("recorder_lost", "Messages not recorded.", [({}, s.recorder.lost)])
        yield gauge("recorder_bytes", "Bytes recorded, or held in memory.", [
            ({}, s.recorder.bytes)
        ])  # fmt: skip


def _summary(name: str, about: str, rows: list[tuple[Labels, int, int]]) -> Any:
    """Count and sum, times given in ns; the rows of one family carry two names."""
    samples: list[Sample] = []
    for labels, number, total_ns in rows:
        samples += [({**labels, "": "_sum"}, total_ns / SECOND), ({**labels, "": "_count"}, number)]
    return f"haihe_{name}", "summary", about, samples


def _edge(edge: EdgeState) -> Labels:
    return {"source": edge.source, "target": edge.target, "kind": edge.kind}


def _edge_messages(edge: EdgeState) -> list[Sample]:
    counts = {
        "received": edge.received,
        "overwritten": edge.overwritten,
        "refused": edge.refused,
    }
    return [({**_edge(edge), "fate": fate}, n) for fate, n in counts.items()] if edge.ends else []


def _node(node: NodeState) -> Labels:
    return {"node": node.name, "lane": node.lane}


def _node_firings(node: NodeState) -> list[Sample]:
    outcomes = ("called", "silent", "raised", *NOT_CALLED)
    return [({**_node(node), "outcome": name}, getattr(node, name)) for name in outcomes]


def _labels(labels: Labels) -> str:
    """`{name="value"}`, after the suffix of the metric's name (label "")."""
    pairs = [f'{name}="{_quoted(value)}"' for name, value in labels.items() if name]
    return labels.get("", "") + (f"{{{','.join(pairs)}}}" if pairs else "")


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n")


def _quoted(text: str) -> str:
    return _escaped(text).replace('"', r"\"")


def _number(value: float) -> str:
    return str(int(value)) if isinstance(value, (bool, int)) else repr(float(value))


# --- the server -----------------------------------------------------------------------------------


def loopback(text: str) -> tuple[str, int]:
    """Address and port of "9464", "127.0.0.1:9464" or "[::1]:9464"; port 0 is any free one. Raises
    ContractError for what is not on the loopback device."""
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") or "127.0.0.1"
    number = int(port) if port.isascii() and port.isdecimal() else -1
    if not 0 <= number <= 65535:
        raise ContractError(
            f"metrics {text!r}: expected a port from 0 to 65535, or ADDRESS:PORT. Write "
            f"127.0.0.1:{DEFAULT_PORT}."
        )
    host = "127.0.0.1" if host == "localhost" else host
    try:
        is_loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_loopback = False
    if not is_loopback:
        raise ContractError(
            f"metrics {text!r}: {host} is not an address of the loopback device. Whoever reaches "
            f"that port could read: use 127.0.0.1:{number}, and from another machine "
            f"ssh -L {number}:127.0.0.1:{number}."
        )
    return host, number


class MetricsServer:
    """Serves `/metrics` (Prometheus text) and `/snapshot` (JSON) on the loopback device.

    `take` makes the snapshot; it is called in the server's thread, once for each request.
    """

    def __init__(self, address: str, take: Callable[[], Snapshot]) -> None:
        """Listen. Raises ContractError for the address, LinkError when the port is taken."""
        host, port = loopback(address)

        class Server(ThreadingHTTPServer):
            address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

        class Handler(_Handler):
            make = staticmethod(take)

        try:
            self._server = Server((host, port), Handler)
        except OSError as exc:
            raise LinkError(
                f"metrics on {host}:{port}: {exc.strerror}. Choose another port, or 0 for a free "
                "one."
            ) from exc
        self.port = int(self._server.server_address[1])
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{self.port}/metrics"
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="haihe-metrics", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop listening; safe to call twice."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    timeout = CLIENT_LIMIT_S
    server_version = "haihe"
    sys_version = ""
    make: Callable[[], Snapshot]

    def do_GET(self) -> None:
        """Answer one request."""
        # a web page may make a browser ask here under a name of its own: only ours are answered
        named = self.headers.get("Host", "localhost")
        host = named.rpartition(":")[0] if not named.endswith("]") and ":" in named else named
        if host.strip("[]") not in ("localhost", "127.0.0.1", "::1"):
            self._answer(403, "text/plain", b"only by the name localhost\n")
            return
        path = self.path.partition("?")[0]
        if path == "/metrics":
            self._answer(200, CONTENT_TYPE, exposition(self.make()).encode())
        elif path == "/snapshot":
            self._answer(200, "application/json", to_json(self.make()))
        else:
            self._answer(404, "text/plain", b"/metrics and /snapshot are here\n")

    def _answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not logged to the terminal."""
        log.debug(format, *args)
