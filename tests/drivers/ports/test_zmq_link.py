"""ZeroMQ links: what may be opened, and real CURVE connections with right and wrong keys."""

import builtins
from pathlib import Path
from typing import Any

import pytest
import zmq
from zmq.auth import create_certificates, load_certificate
from zmq.utils.monitor import recv_monitor_message

from haihe.drivers.ports.zmq_link import Endpoint, Link
from haihe.runtime.errors import DeviceError, HaiheError

LIMIT_MS = 30_000  # only catches hangs
FREE = "tcp://127.0.0.1:*"
BEYOND = (
    "is beyond this machine, and there are no keys: whoever reaches it could read along, or send. "
    "Give `secret` and `peers` (CURVE keys, docs/links.md), or use tcp://127.0.0.1:PORT or "
    "ipc://PATH."
)
NO_ADDRESS = "expected tcp://HOST:PORT or ipc://PATH. Write tcp://127.0.0.1:5556."


def refused(address: str, bind: bool = False, secret: Path | None = None) -> str:
    with pytest.raises(DeviceError) as caught:
        Endpoint("x", address, bind, secret, error=DeviceError)
    return str(caught.value)


def not_opened(endpoint: Endpoint) -> str:
    with pytest.raises(HaiheError) as caught:
        endpoint.open("PUB", 8)
    return str(caught.value)


@pytest.mark.parametrize(
    "address", ["tcp://0.0.0.0:5556", "tcp://*:5556", "tcp://eth0:5556", "tcp://192.168.1.5:5556",
                "tcp://[::]:5556", "tcp://board.local:5556", "tcp://127.0.0.1.evil.org:5556"],
)  # fmt: skip
@pytest.mark.parametrize("bind", [True, False])
def test_nothing_goes_beyond_loopback_without_keys(address: str, bind: bool) -> None:
    assert refused(address, bind) == f"x: {address} {BEYOND}"


@pytest.mark.parametrize(
    "address", ["", "5556", "tcp://127.0.0.1", "tcp://127.0.0.1:0", "tcp://127.0.0.1:65536",
                "tcp://127.0.0.1:*", "tcp://127.0.0.1:5;1.2.3.4:6", "inproc://a", "ipc://",
                "udp://127.0.0.1:5556", "pgm://127.0.0.1:5556", "tcp://:5556"],
)  # fmt: skip
def test_what_is_no_address(address: str) -> None:
    assert refused(address) == f"x: {address} {NO_ADDRESS}"


def test_one_half_of_the_keys_is_none() -> None:
    assert refused(FREE, True, Path("a")) == (
        f"x: {FREE} has one of secret and peers. Give both, or neither on loopback."
    )


@pytest.mark.parametrize("address", [FREE, "tcp://localhost:*", "tcp://[::1]:*"])
def test_it_binds_on_loopback(address: str) -> None:
    if "::1" in address and not Path("/proc/net/if_inet6").exists():
        pytest.skip("no IPv6 here")
    link = Endpoint("x", address, True).open("PUB", 8)
    try:
        host, _, port = link.address.rpartition(":")
        assert host == ("tcp://[::1]" if "::1" in address else "tcp://127.0.0.1")
        again = Endpoint("x", link.address, True)
        assert int(port) > 0
        assert not_opened(again) == (
            f"x: {link.address} cannot be bound: Address already in use. Is the address right, and "
            "free?"
        )
    finally:
        link.close()


def test_ipc_is_local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a path of a socket has 107 characters at most
    link = Endpoint("x", "ipc://a.sock", True).open("PUB", 8)
    link.close()
    assert not_opened(Endpoint("x", "ipc://none/a.sock", True)).startswith("x: ipc://none/a.sock ")


def test_without_pyzmq_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *args: Any, **more: Any) -> Any:
        if name == "zmq":
            raise ModuleNotFoundError("No module named 'zmq'")
        return real(name, *args, **more)

    monkeypatch.setattr(builtins, "__import__", refuse)
    assert not_opened(Endpoint("x", FREE, True)) == (
        f"x: {FREE} needs pyzmq, which is not installed. Run: pip install 'pyzmq>=26'"
    )


# --- CURVE ----------------------------------------------------------------------------------------


class Keys:
    """Three pairs: the server's, that of a client that it knows, and a stranger's."""

    def __init__(self, folder: Path) -> None:
        for name in ("server", "friend", "stranger"):
            create_certificates(folder, name)
        self.folder, self.known = folder, folder / "known"
        self.known.mkdir()
        (self.known / "friend.key").write_bytes((folder / "friend.key").read_bytes())

    def secret(self, name: str) -> Path:
        return self.folder / f"{name}.key_secret"

    def public(self, name: str) -> Path:
        return self.folder / f"{name}.key"


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path)


@pytest.fixture
def server(keys: Keys) -> Any:
    link = Endpoint("server", FREE, True, keys.secret("server"), keys.known).open("PUB", 8)
    yield link
    link.close()


FAILED = {
    int(zmq.EVENT_HANDSHAKE_FAILED_AUTH),
    int(zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL),
    int(zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL),
}
DONE = int(zmq.EVENT_HANDSHAKE_SUCCEEDED)


def gets(server: Link, own: Path | None, expected: Path | None) -> int:
    """What becomes of the connection of another program with these keys; it gets no message. It is
    watched from the beginning: after some failures ZeroMQ does not try again."""
    context = zmq.Context()
    socket = context.socket(zmq.SUB)
    socket.linger = 0
    if own is not None and expected is not None:
        socket.curve_publickey, private = load_certificate(own)
        assert private is not None
        socket.curve_secretkey = private
        socket.curve_serverkey = load_certificate(expected)[0]
    monitor = socket.get_monitor_socket()
    try:
        socket.subscribe(b"")
        socket.connect(server.address)
        while monitor.poll(LIMIT_MS):
            event = int(recv_monitor_message(monitor)["event"])
            if event in FAILED or event == DONE:
                server.socket.send(b"secret")
                assert not socket.poll(50)
                return event
        pytest.fail("nothing happened")
    finally:
        socket.disable_monitor()
        monitor.close(0)
        socket.close()
        context.term()


def test_the_right_keys_get_what_is_published(server: Link, keys: Keys) -> None:
    client = Endpoint(
        "client", server.address, False, keys.secret("friend"), keys.public("server")
    ).open("SUB", 8)
    try:
        client.socket.subscribe(b"")
        for _ in range(LIMIT_MS // 10):
            server.socket.send(b"secret")
            if client.socket.poll(10):
                break
        assert client.socket.recv() == b"secret"
    finally:
        client.close()


@pytest.mark.parametrize(
    ("own", "expected"),
    [("stranger", "server"), ("friend", "stranger")],
    ids=["the server does not know it", "it takes another for the server"],
)
def test_wrong_keys_get_nothing(server: Link, keys: Keys, own: str, expected: str) -> None:
    assert gets(server, keys.secret(own), keys.public(expected)) in FAILED


def test_no_keys_get_nothing(server: Link) -> None:
    assert gets(server, None, None) in FAILED


def test_key_files_that_are_none(keys: Keys, tmp_path: Path) -> None:
    make = "Make a pair with zmq.auth.create_certificates(FOLDER, NAME)."
    secret, empty = keys.secret("server"), tmp_path / "empty"
    empty.mkdir()
    short = tmp_path / "short.key"
    short.write_text('public-key = "abc"\nsecret-key = "abc"\n')
    gone = tmp_path / "gone"

    def said(*args: Any) -> str:
        return not_opened(Endpoint("x", *args))

    assert said(FREE, True, gone, keys.known) == (
        f"x: {FREE} the key file {gone} cannot be read (Invalid certificate file: {gone}). {make}"
    )
    assert said(FREE, True, keys.public("server"), keys.known) == (
        f"x: {FREE} {keys.public('server')} holds no secret key. Name the file NAME.key_secret."
    )
    assert said(FREE, True, secret, empty) == (
        f"x: {FREE} peers {empty}: expected a folder with the public keys (*.key) of those that "
        "may connect. Copy them there."
    )
    assert said("tcp://192.0.2.1:5556", False, secret, short) == (
        f"x: tcp://192.0.2.1:5556 {short} holds no CURVE key of 40 characters. {make}"
    )
    assert said("tcp://192.0.2.1:5556", False, short, keys.public("friend")) == (
        f"x: tcp://192.0.2.1:5556 {short} holds no CURVE key of 40 characters. {make}"
    )


def test_with_keys_it_may_bind_beyond_loopback(keys: Keys) -> None:
    link = Endpoint("x", "tcp://0.0.0.0:*", True, keys.secret("server"), keys.known).open("SUB", 8)
    try:
        assert link.address.startswith("tcp://0.0.0.0:")
    finally:
        link.close()
