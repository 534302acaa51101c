"""The two ends of a channel as processes of their own, for test_channel_faults.py.

Each logs what it did in 16-byte records straight to a file, so that a kill loses none of it.
A picture's bytes all say its number; one in three messages is small and travels in the socket.
"""

import argparse
import json
import os
import random
import select
import socket
import struct
import sys
import threading
import time
from collections import deque

import numpy as np

from haihe.runtime.clock import now_ns
from haihe.runtime.links.channel import Outlet, Reader
from haihe.runtime.links.inlet import Inlet
from haihe.runtime.links.poller import Poller
from haihe.runtime.links.ring import Ring, lease_of
from haihe.runtime.links.slot import Queue
from haihe.runtime.types import Image

RECORD = struct.Struct("<qq")
WHOLE, TOLD, TORN = 0, 1, 2  # every byte right; not, and the lease says so; not, and it does not
SHAPE = (480, 640, 3)
SMALL = (10, 10, 3)
PERIOD_S = 0.0005
HANG_S = 60.0


def message(outlet: Outlet, number: int) -> Image:
    """In place, copied, or small, in turns."""
    fill = number % 251
    if number % 3 == 0:
        return Image(np.full(SMALL, fill, np.uint8))
    if number % 3 == 1:
        loan = outlet.allocate(SHAPE, np.uint8)
        if loan is not None:
            loan[:] = fill
            return Image(loan)
    return Image(np.full(SHAPE, fill, np.uint8))


def write(args: argparse.Namespace) -> None:
    """Put until told to stop; tell at the end how it went."""
    before = len(os.listdir("/proc/self/fd"))
    control = socket.socket(fileno=args.control)
    outlet = Outlet("camera", Ring(args.source, args.ring))
    poller, room = Poller(), threading.Event()
    outlet.watch(poller)
    outlet.freed = room.set
    readers: list[Reader] = []
    is_done = threading.Event()

    def look_after() -> None:
        while not is_done.is_set():
            poller.poll(0.1)

    thread = threading.Thread(target=look_after)
    thread.start()
    number, is_going, is_stopping = 0, False, False
    while not is_stopping:
        while select.select([control], [], [], 0)[0]:
            data, fds, _, _ = socket.recv_fds(control, 100, 1)
            word, *values = data.decode().split()
            if word == "add":
                end = socket.socket(fileno=fds[0])
                fifo = values[1] == "fifo"
                readers.append(outlet.add(end, int(values[0]), fifo=fifo, name=str(len(readers))))
            elif word == "remove":
                outlet.remove(readers[int(values[0])])
            else:
                is_going, is_stopping = word == "go", word == "stop"
        if not is_going:
            time.sleep(0.001)
            continue
        room.clear()
        if not outlet.has_room():  # as a lane is: held back, and looks up at times
            room.wait(0.1)
            continue
        number += 1
        outlet.put((number, message(outlet, number), number, now_ns()))
        os.write(
            args.log, RECORD.pack(number, sum(r.sent << 20 * i for i, r in enumerate(readers[:2])))
        )
        time.sleep(PERIOD_S)
    deadline = time.monotonic() + HANG_S
    while any(r.pending or r.backlog for r in outlet.readers) and time.monotonic() < deadline:
        time.sleep(0.001)
    is_done.set()
    poller.wake()
    thread.join()
    counts = [[r.sent, r.dropped, r.refused, int(r.is_gone)] for r in readers]
    ring = outlet.ring
    assert ring is not None
    for reader in outlet.readers:
        outlet.remove(reader)
    print(json.dumps({"puts": number, "readers": counts, "slots": ring.slots - ring.free()}))
    outlet.close()
    poller.close()
    control.close()
    del ring, outlet
    after = len(os.listdir("/proc/self/fd"))
    assert after == before - 2, (before, after)  # ring and control were given to it


def read(args: argparse.Namespace) -> None:
    """Receive until the writer is gone."""
    before = len(os.listdir("/proc/self/fd"))
    chance = random.Random(args.seed)
    inlet = Inlet("camera", Image, socket.socket(fileno=args.socket), args.ring, fifo=args.fifo)
    queue = Queue(args.quota)
    queue.freed = inlet.done
    kept: deque[Image] = deque(maxlen=1)
    while True:
        select.select([inlet], [], [])
        try:
            for number, picture, origin, _ in inlet.receive():
                assert number == origin
                if args.fifo:
                    queue.put((number, picture, origin, 0))
                    assert queue.take() is not None
                look(args.log, number, picture)
                kept.append(picture)
                del picture
        except EOFError:
            break
        if args.slow_ms:
            time.sleep(chance.uniform(0, args.slow_ms) / 1e3)
    print(json.dumps({"received": inlet.received, "torn": inlet.torn}))
    inlet.close()
    kept.clear()
    del inlet, queue
    after = len(os.listdir("/proc/self/fd"))
    assert after == before - 2, (before, after)  # socket and ring were given to it


def look(log: int, number: int, picture: Image) -> None:
    """Every byte of it."""
    is_right = bool(np.all(picture.data == number % 251))
    lease = lease_of(picture.data)
    is_told = lease is not None and not lease.is_whole()
    os.write(log, RECORD.pack(number, WHOLE if is_right else TOLD if is_told else TORN))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("role", choices=["write", "read"])
    for name in ("ring", "socket", "control", "log", "quota", "seed"):
        parser.add_argument(f"--{name}", type=int, default=0)
    parser.add_argument("--slow-ms", type=float, default=0.0)
    parser.add_argument("--source", default="camera")
    parser.add_argument("--fifo", action="store_true")
    args = parser.parse_args()
    (write if args.role == "write" else read)(args)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
