from haihe.drivers.ports.virtual import VirtualPort
from haihe.runtime.io import Exchange, Port

BYTE = 10_000
MS = 1_000_000


class Far:
    """Answers each request with the bytes and delays it was told."""

    def __init__(self, *answers: tuple[int, bytes]) -> None:
        self.answers = answers
        self.heard: list[tuple[int, bytes]] = []

    def receive(self, data: bytes, t_ns: int) -> list[tuple[int, bytes]]:
        self.heard.append((t_ns, data))
        return [(t_ns + delay + len(reply) * BYTE, reply) for delay, reply in self.answers]


def test_the_times_are_those_of_the_wire():
    far = Far((50_000, b"abcd"))
    port = VirtualPort(far)
    reply = port.exchange_at(Exchange(b"12345678", 4), MS)
    assert far.heard == [(MS + 8 * BYTE, b"12345678")]
    assert (reply.rx, reply.t_sent_ns) == (b"abcd", MS)
    assert reply.t_done_ns == MS + 8 * BYTE + 50_000 + 4 * BYTE


def test_a_write_ends_with_its_last_byte():
    port: Port = VirtualPort(Far())
    assert port.exchange(Exchange(b"1234")).t_done_ns == 4 * BYTE


def test_a_short_answer_ends_with_the_time_out():
    port = VirtualPort(Far((0, b"ab")))
    reply = port.exchange_at(Exchange(b"x", 4, MS), 0)
    assert (reply.rx, reply.t_done_ns) == (b"ab", BYTE + MS)
    assert port.stats["timeouts"] == 1


def test_bytes_not_taken_are_stale_and_counted():
    port = VirtualPort(Far((0, b"abcdef")))
    first = port.exchange(Exchange(b"x", 2))
    assert (first.rx, first.t_done_ns) == (b"ab", 3 * BYTE)
    port.now_ns = MS
    second = port.exchange(Exchange(b"y", 6))
    assert second.rx == b"abcdef"
    assert port.stats["stale_bytes"] == 4


def test_a_late_answer_spoils_the_next_one_only_when_it_comes_during_it():
    port = VirtualPort(Far((2 * MS, b"late")))
    assert port.exchange_at(Exchange(b"x", 4, MS), 0).rx == b""
    port.emulator = Far((0, b"good"))
    assert port.exchange_at(Exchange(b"x", 4, MS), 5 * MS).rx == b"good"
    assert port.stats["stale_bytes"] == 4
    port.emulator = Far((2 * MS, b"late"))
    port.exchange_at(Exchange(b"x", 4, MS), 10 * MS)
    port.emulator = Far((MS, b"good"))
    assert port.exchange_at(Exchange(b"x", 4, 2 * MS), 12 * MS).rx == b"late"


def test_unplugged_and_back():
    port = VirtualPort(Far((0, b"ok")))
    port.unplug()
    reply = port.exchange_at(Exchange(b"x", 2), 7)
    assert reply.error == "virtual is lost"
    assert (reply.t_sent_ns, reply.t_done_ns) == (7, 7)
    port.plug()
    assert port.exchange_at(Exchange(b"x", 2), 8).error == "virtual is reopened"
    assert port.exchange_at(Exchange(b"x", 2), 9).rx == b"ok"
    assert (port.generation, port.stats["errors"]) == (2, 2)
    port.close()
    port.close()
    assert port.exchange(Exchange(b"x")).error == "virtual is closed"


def test_what_was_sent_is_recorded_on_request():
    port = VirtualPort(Far(), record=True)
    port.exchange_at(Exchange(b"ab"), 3)
    assert port.sent == [(3, b"ab")]
