"""ZeroMQ sockets to other programs and boards: on this machine, or with CURVE keys.

Without keys only loopback (`tcp://127.0.0.1:5556`) and `ipc://` addresses are opened. With keys
both ends prove who they are: `secret` is the file with one's own pair; `peers` is the file with the
public key of the end that binds or, where one binds oneself, the folder with the public keys
(`*.key`) of those that may connect. `zmq.auth.create_certificates(FOLDER, NAME)` makes such files.
Reconnecting is ZeroMQ's own; heartbeats find an end that vanished without a word.
"""

import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from haihe.runtime.errors import HaiheError, LinkError

if TYPE_CHECKING:
    import zmq

LARGEST = 128 << 20  # bytes of a part: an 8K picture has 100 MB; who sends more is disconnected
HEARTBEAT_MS, HEARTBEAT_LIMIT_MS = 2_000, 10_000
LINGER_MS = 100  # at the end, for what is on its way


@dataclass(frozen=True)
class Endpoint:
    """An address and who may be at its other end. who: asks for it, in errors; error: their class.

    Raises `error` for what must not be opened.
    """

    who: str
    address: str
    bind: bool = False
    secret: Path | None = None
    peers: Path | None = None
    error: type[HaiheError] = LinkError

    def __post_init__(self) -> None:
        has_keys = self.secret is not None and self.peers is not None
        if not has_keys and (self.secret is not None or self.peers is not None):
            raise self._wrong("has one of secret and peers. Give both, or neither on loopback.")
        scheme, _, rest = self.address.partition("://")
        if scheme == "ipc" and rest:
            return
        host, _, port = rest.rpartition(":")
        is_any = self.bind and port == "*"
        number = int(port) if port.isascii() and port.isdecimal() else 0
        if scheme != "tcp" or not host or not (is_any or 0 < number < 65536) or ";" in rest:
            raise self._wrong("expected tcp://HOST:PORT or ipc://PATH. Write tcp://127.0.0.1:5556.")
        if not has_keys and not _is_loopback(host):
            raise self._wrong(
                "is beyond this machine, and there are no keys: whoever reaches it could read "
                "along, or send. Give `secret` and `peers` (CURVE keys, docs/links.md), or use "
                "tcp://127.0.0.1:PORT or ipc://PATH."
            )

    def open(self, kind: Literal["PUB", "SUB"], queue: int) -> "Link":
        """Bind or connect a socket that keeps `queue` messages at most for each other end. Raises
        `error`."""
        try:
            import zmq
        except ImportError as exc:
            raise self._wrong(
                "needs pyzmq, which is not installed. Run: pip install 'pyzmq>=26'"
            ) from exc
        context = zmq.Context()
        link = Link(context, context.socket(getattr(zmq, kind)))
        try:
            self._set_up(link, kind, queue)
        except zmq.ZMQError as exc:
            link.close()
            verb = "bound" if self.bind else "connected to"
            raise self._wrong(
                f"cannot be {verb}: {zmq.strerror(exc.errno or 0)}. Is the address right, and free?"
            ) from exc
        except BaseException:
            link.close()
            raise
        return link

    def _set_up(self, link: "Link", kind: str, queue: int) -> None:
        import zmq

        socket = link.socket
        socket.linger = LINGER_MS if kind == "PUB" else 0
        socket.sndhwm = socket.rcvhwm = queue
        socket.setsockopt(zmq.MAXMSGSIZE, LARGEST)
        socket.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_MS)
        socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, HEARTBEAT_LIMIT_MS)
        socket.ipv6 = "[" in self.address
        address = self.address.replace("://localhost:", "://127.0.0.1:")
        if self.secret is not None and self.peers is not None:
            self._take_keys(link, self.secret, self.peers)
        (socket.bind if self.bind else socket.connect)(address)
        link.address = socket.getsockopt_string(zmq.LAST_ENDPOINT)

    def _take_keys(self, link: "Link", secret: Path, peers: Path) -> None:
        from zmq.auth import load_certificates

        socket = link.socket
        public, private = self._read_keys(secret)
        if private is None:
            raise self._wrong(f"{secret} holds no secret key. Name the file NAME.key_secret.")
        if not self.bind:
            self._apply(peers, "curve_serverkey", self._read_keys(peers)[0], socket)
        else:
            from zmq.auth.thread import ThreadAuthenticator

            if not peers.is_dir() or not load_certificates(peers):
                raise self._wrong(
                    f"peers {peers}: expected a folder with the public keys (*.key) of those that "
                    "may connect. Copy them there."
                )
            link.authenticator = ThreadAuthenticator(link.context)
            link.authenticator.start()
            link.authenticator.configure_curve(domain="*", location=str(peers))
            socket.curve_server = True
        self._apply(secret, "curve_publickey", public, socket)
        self._apply(secret, "curve_secretkey", private, socket)

    def _read_keys(self, path: Path) -> tuple[bytes, bytes | None]:
        from zmq.auth import load_certificate

        try:
            return load_certificate(path)
        except (OSError, ValueError) as exc:
            raise self._wrong(
                f"the key file {path} cannot be read ({exc}). Make a pair with "
                "zmq.auth.create_certificates(FOLDER, NAME)."
            ) from exc

    def _apply(self, path: Path, name: str, key: bytes, socket: Any) -> None:
        import zmq

        try:
            setattr(socket, name, key)
        except zmq.ZMQError as exc:
            raise self._wrong(
                f"{path} holds no CURVE key of 40 characters. Make a pair with "
                "zmq.auth.create_certificates(FOLDER, NAME)."
            ) from exc

    def _wrong(self, text: str) -> HaiheError:
        return self.error(f"{self.who}: {self.address} {text}")


class Link:
    """An open socket, with a context of its own. address: with the port that it got."""

    def __init__(self, context: "zmq.Context[Any]", socket: "zmq.Socket[bytes]") -> None:
        self.context, self.socket = context, socket
        self.address = ""
        self.authenticator: Any = None

    def close(self) -> None:
        """Close it, and wait for what is on its way, for LINGER_MS at most."""
        self.socket.close()
        if self.authenticator is not None:
            self.authenticator.stop()
        self.context.term()


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.removeprefix("[").removesuffix("]")).is_loopback
    except ValueError:
        return False
