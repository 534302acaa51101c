"""Control messages between the launcher and a process of a run: MessagePack lists on a SEQPACKET
socket, with descriptors where an edge gets a new end.

to the process    go [started_ns, arm] · post [event, lanes] · stop [reason]
                  inlet [source] + descriptors · outlet [source, reader] + descriptor
to the launcher   ready · failed [lane, node, class, text] · post [event, lanes] · ends [reason]
                  told [of a goal or a mode] · hangs [text] · status [bytes] · done [hung]
"""

import array
import socket
from collections.abc import Sequence
from typing import Any

import msgspec

MESSAGE_LIMIT = 1 << 18  # bytes; more than a socket takes by default
TEXT_LIMIT = 1 << 14  # characters of a text that anybody may have made, an exception's


def send(
    control: socket.socket, message: Sequence[Any], fds: Sequence[int] = (), *, wait: bool = True
) -> bool:
    """One control message; nothing when the other side is gone. Gives False when it has been told
    more than it took (never with `wait`)."""
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    flags = 0 if wait else socket.MSG_DONTWAIT
    try:
        control.sendmsg([msgspec.msgpack.encode(message)], ancillary, flags)
    except BlockingIOError:
        return False
    except OSError:
        pass  # it is dead, which is found elsewhere
    return True


def receive(control: socket.socket, *, wait: bool = True) -> tuple[list[Any], list[int]]:
    """One control message and its descriptors. Raises EOFError when the other side is gone and all
    that it said is read, BlockingIOError when nothing is there (not with `wait`)."""
    flags = 0 if wait else socket.MSG_DONTWAIT
    while True:
        try:
            data, ancillary, _, _ = control.recvmsg(
                MESSAGE_LIMIT, socket.CMSG_SPACE(64), flags | socket.MSG_CMSG_CLOEXEC
            )
            break
        except ConnectionResetError:
            continue  # said once when the other side died unheard; what it said is still there
    if not data:
        raise EOFError
    fds = array.array("i")
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(payload[: len(payload) - len(payload) % fds.itemsize])
    return msgspec.msgpack.decode(data), list(fds)
