"""The metrics: the text by a strict parser written here, and the server by real requests."""

import http.client
import json
import re
import socket
import threading
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from tests.runtime.exec.fakes import following

from haihe.pipelines.launch import simulate
from haihe.runtime.errors import ContractError, LinkError
from haihe.runtime.telemetry.prometheus import CONTENT_TYPE, MetricsServer, exposition, loopback
from haihe.runtime.telemetry.snapshot import (
    EdgeState,
    LaneState,
    RecorderState,
    Snapshot,
    snapshot_of,
)

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
VALUE = r'(?:[^"\\\n]|\\\\|\\"|\\n)*'
SAMPLE = re.compile(rf"({NAME})(?:\{{((?:{NAME}=\"{VALUE}\",?)*)\}})? (\S+)")
LABEL = re.compile(rf'({NAME})="({VALUE})"(?:,|$)')
ESCAPES = {r"\\": "\\", r"\"": '"', r"\n": "\n"}

Metrics = dict[str, dict[tuple[tuple[str, str], ...], float]]


def parsed(text: str) -> tuple[Metrics, dict[str, str]]:
    """Samples and types, by the rules of the format 0.0.4; asserts each of them."""
    assert text.endswith("\n")
    assert not text.endswith("\n\n")
    metrics: Metrics = {}
    types: dict[str, str] = {}
    current, helped = "", set()
    for line in text[:-1].split("\n"):
        if line.startswith("# HELP "):
            current, _, about = line[7:].partition(" ")
            assert re.fullmatch(NAME, current)
            assert about
            assert current not in helped  # all lines of a metric stand together
            helped.add(current)
        elif line.startswith("# TYPE "):
            name, kind = line[7:].split(" ")
            assert name == current
            assert kind in ("counter", "gauge", "summary")
            types[name] = kind
        else:
            found = SAMPLE.fullmatch(line)
            assert found, line
            name, inside, value = found.groups()
            base = name
            if types[current] == "summary":
                base = name.removesuffix("_sum").removesuffix("_count")
                assert base != name
            assert base == current
            assert (types[current] == "counter") == name.endswith("_total")
            labels = [
                (key, re.sub(r'\\[\\"n]', lambda m: ESCAPES[m[0]], quoted))
                for key, quoted in LABEL.findall(inside or "")
            ]
            assert len({key for key, _ in labels}) == len(labels)
            samples = metrics.setdefault(name, {})
            assert tuple(sorted(labels)) not in samples
            samples[tuple(sorted(labels))] = float(value)
    assert set(types) == helped
    return metrics, types


def of(metrics: Metrics, name: str, **labels: str) -> float:
    return metrics[name][tuple(sorted(labels.items()))]


@pytest.fixture(scope="module")
def ran() -> Any:
    made = simulate(following(), "2s", unit="pan-tilt", world={"ideal": True},
                    budgets={"ideal_detector": "4ms"},
                    prepare_run=lambda ex, w: ex.after(10**9, lambda: ex.post(("trip", "stop")))
                    )  # fmt: skip
    return snapshot_of(
        made.executor.assembly, state="armed", t_ns=3 * 10**9, started_ns=10**9,
        skipped={"every-20ms": 3}, budgets={"ideal_detector": 4_000_000},
    )  # fmt: skip


def test_the_text_says_what_the_snapshot_says(ran: Snapshot) -> None:
    metrics, types = parsed(exposition(ran))
    assert of(metrics, "haihe_info", graph="following", state="armed") == 1
    assert of(metrics, "haihe_elapsed_seconds") == 2
    control = {"lane": "every-20ms", "process": "main"}
    assert of(metrics, "haihe_lane_firings_total", **control) == 100
    assert of(metrics, "haihe_lane_skipped_releases_total", **control) == 3
    for edge in ran.edges:
        labels = {"source": edge.source, "target": edge.target, "kind": edge.kind}
        fates = [
            of(metrics, "haihe_edge_messages_total", fate=fate, **labels)
            for fate in ("received", "overwritten", "refused")
        ]
        in_flight = of(metrics, "haihe_edge_in_flight", **labels)
        assert of(metrics, "haihe_edge_sent_total", **labels) == sum(fates) + in_flight
    detector = {"node": "ideal_detector", "lane": "front"}
    calls = of(metrics, "haihe_node_execution_seconds_count", **detector)
    assert calls == of(metrics, "haihe_node_firings_total", outcome="called", **detector) > 50
    assert of(metrics, "haihe_node_budget_seconds", **detector) == 0.004
    (bus,) = ran.buses
    neck = {"role": "neck", "lane": "every-20ms"}
    assert of(metrics, "haihe_bus_reaction_seconds_sum", **neck) == bus.reaction_total_ns / 1e9
    states = {s: of(metrics, "haihe_guard_state", state=s, **neck) for s in ("armed", "safe")}
    assert states == {"armed": 0, "safe": 1}
    latched = of(metrics, "haihe_guard_interventions_total", reason="latched", **neck)
    assert latched == bus.guard_counts["latched"] > 0
    assert types["haihe_edge_age_seconds"] == "summary"
    assert types["haihe_lane_firings_total"] == "counter"
    assert "haihe_recorder_lost_total" not in metrics


def test_names_of_users_are_escaped() -> None:
    name = 'a "b"\\n\n\\'
    part = Snapshot(name, "armed", 0, 0, 0.0, [], [], [], [], [], [])
    part.lanes.append(LaneState(name, "", "t", 5))
    part.edges.append(EdgeState(name, name + "x", "slot", ends=False, sent=1))
    part.recorder = RecorderState("p", 2, 3)
    text = exposition(part)
    metrics, _ = parsed(text)
    assert of(metrics, "haihe_lane_firings_total", lane=name, process="main") == 5
    edge = {"source": name, "target": name + "x", "kind": "slot"}
    assert of(metrics, "haihe_edge_sent_total", **edge) == 1
    assert "haihe_edge_messages_total" not in metrics  # its reader is not known
    assert (of(metrics, "haihe_recorder_lost_total"), of(metrics, "haihe_recorder_bytes")) == (2, 3)
    assert 'graph="a \\"b\\"\\\\n\\n\\\\"' in text


# --- the server -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("9464", ("127.0.0.1", 9464)),
        (":0", ("127.0.0.1", 0)),
        ("127.0.0.1:1", ("127.0.0.1", 1)),
        ("127.8.9.1:1", ("127.8.9.1", 1)),
        ("localhost:65535", ("127.0.0.1", 65535)),
        ("[::1]:5", ("::1", 5)),
    ],
)
def test_addresses_of_the_loopback_device(text: str, address: tuple[str, int]) -> None:
    assert loopback(text) == address


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.4", "::", "example.org", "*"])
def test_no_other_address_is_listened_on(host: str) -> None:
    text = f"[{host}]:9000" if ":" in host else f"{host}:9000"
    with pytest.raises(ContractError) as caught:
        MetricsServer(text, lambda: pytest.fail("never asked"))
    assert str(caught.value) == (
        f"metrics {text!r}: {host} is not an address of the loopback device. Whoever reaches that "
        "port could read: use 127.0.0.1:9000, and from another machine ssh -L "
        "9000:127.0.0.1:9000."
    )


@pytest.mark.parametrize("text", ["", "x", "127.0.0.1", "127.0.0.1:", ":65536", "-1", "9464/tcp"])
def test_what_is_no_port(text: str) -> None:
    with pytest.raises(ContractError) as caught:
        loopback(text)
    assert str(caught.value) == (
        f"metrics {text!r}: expected a port from 0 to 65535, or ADDRESS:PORT. Write 127.0.0.1:9464."
    )


@pytest.fixture
def server(ran: Snapshot) -> Iterator[MetricsServer]:
    made = MetricsServer("0", lambda: ran)
    yield made
    made.close()
    made.close()
    assert not any(t.name == "haihe-metrics" for t in threading.enumerate())


def get(server: MetricsServer, path: str, host: str = "") -> tuple[int, str, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    try:
        connection.request("GET", path, headers={"Host": host} if host else {})
        answer = connection.getresponse()
        return answer.status, answer.getheader("Content-Type", ""), answer.read()
    finally:
        connection.close()


def test_a_request_gives_the_text_another_the_snapshot(
    server: MetricsServer, ran: Snapshot
) -> None:
    assert server.url == f"http://127.0.0.1:{server.port}/metrics"
    status, kind, body = get(server, "/metrics")
    assert (status, kind) == (200, CONTENT_TYPE)
    assert kind == "text/plain; version=0.0.4; charset=utf-8"
    assert body.decode() == exposition(ran)
    status, kind, body = get(server, "/snapshot?x=1")
    assert (status, kind) == (200, "application/json")
    assert json.loads(body) == msgspec.to_builtins(ran)
    assert get(server, "/")[0] == 404


def test_a_web_page_that_calls_itself_otherwise_is_refused(server: MetricsServer) -> None:
    for host in ("evil.example", "evil.example:9464", "127.0.0.1.evil.example", "[::2]:5"):
        assert get(server, "/snapshot", host)[0] == 403
    for host in ("localhost", f"localhost:{server.port}", "127.0.0.1", "[::1]:5", "[::1]"):
        assert get(server, "/snapshot", host)[0] == 200


def test_it_listens_on_the_loopback_device_only(server: MetricsServer) -> None:
    with open("/proc/net/tcp", encoding="ascii") as table:
        rows = [row.split() for row in table.readlines()[1:]]
    port = f"{server.port:04X}"
    assert [r[1] for r in rows if r[3] == "0A" and r[1].endswith(":" + port)] == [
        f"0100007F:{port}"
    ]


def test_a_port_that_is_taken() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(LinkError) as caught:
            MetricsServer(str(port), lambda: pytest.fail("never asked"))
    assert str(caught.value) == (
        f"metrics on 127.0.0.1:{port}: Address already in use. Choose another port, or 0 for a "
        "free one."
    )


def test_a_client_that_says_nothing_does_not_hold_up_the_next(server: MetricsServer) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=60):
        assert get(server, "/metrics")[0] == 200
